"""Which checkpoints a run may go on from: its own, while it learns what they learned; another run's, as a fork.

Beside the checkpoints lies what they learned from: the fingerprint and every field that it stands for.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ltrl import bundle as bundles
from ltrl import checkpoints, state
from ltrl.backend import Grade
from ltrl.backend.models import graded
from ltrl.bundle import Bundle
from ltrl.data import digest
from ltrl.errors import Code, LtrlError, fail
from ltrl.spec import Experiment
from ltrl.state import Run

__all__ = ["Fork", "begin_from", "changes", "check", "check_fork", "fork", "of_training", "other_data", "record"]

RECORD = "ltrl-experiment.json"
"""In the directory of checkpoints."""

TRAIN = "data.train"

SMALL_BYTES = 1 << 20
"""Files below are copied, larger ones linked: weights are never changed in place, notes beside them may be."""


@dataclass(frozen=True, slots=True)
class Fork:
    """A checkpoint that a new run begins with."""

    run: Run
    step: int
    directory: Path

    def __str__(self) -> str:
        return f"{self.run.path}@{self.step}"


def record(run: Path, bundle: Bundle) -> None:
    """Writes down what the checkpoints of a run learn from; equal contents are left alone."""
    path = run / "checkpoints" / RECORD
    data = {**_recorded_data(run), **bundle.data.get(TRAIN, {})}  # what is not known now may have been known before
    learned = {"fingerprint": bundle.fingerprint, "fields": _learned(bundle), "data": data}
    text = json.dumps(learned, indent=1, sort_keys=True) + "\n"
    with suppress(FileNotFoundError):
        if path.read_text(encoding="utf-8") == text:
            return
    draft = path.with_name(f".{RECORD}.{secrets.token_hex(4)}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def check(run: Run, bundle: Bundle) -> None:
    """Raises LtrlError, RESUME_REFUSED, when a bundle learns something else than the checkpoints of a run."""
    known, fields = _recorded(run)
    data = other_data(run, bundle)
    if known == run.fingerprint == bundle.fingerprint and not data:
        return
    found = (*(changes(fields, _learned(bundle)) if fields else ()), *data)
    listed = "; ".join(f"`{path}` {old} → {new}" for path, old, new in found)
    reason = listed or f"its fingerprint is {known[:8]}, the bundle's is {bundle.fingerprint[:8]}"
    if run.is_evaluation:
        hint = "`ltrl eval SPEC --cluster NAME` measures that in a run of its own"
        raise fail(Code.RESUME_REFUSED, f"`{run.id}` measures something else: {reason}", hint=hint)
    step = state.last_checkpoint(run.path)
    fork_it = (
        f"`ltrl submit SPEC --fork {run.id}{'' if step is None else f'@{step}'}` begins a new run with its weights"
    )
    hint = (
        f"{fork_it}, `--fresh` one from the beginning" if step is not None else "`ltrl submit --fresh` starts a new run"
    )
    raise fail(Code.RESUME_REFUSED, f"`{run.id}` learned from something else: {reason}", hint=hint)


def changes(old: dict[str, Any], new: dict[str, Any]) -> tuple[tuple[str, str, str], ...]:
    """(field, old, new) of every field that differs, as JSON; a field that is not there is `unset`."""
    return tuple(
        (path, _shown(old, path), _shown(new, path))
        for path in sorted({*old, *new})
        if old.get(path, _MISSING) != new.get(path, _MISSING)
    )


def other_data(run: Run, bundle: Bundle) -> tuple[tuple[str, str, str], ...]:
    """(file, hash that the run learned from, hash now) of every training file whose contents changed.

    What the manifest says counts, and what is written beside the file now; one of which nothing is known changed not.
    """
    recorded = _recorded_data(run.path)
    found = []
    for path, old in recorded.items():
        noted = digest.known(Path(run.project) / path)
        new = noted.sha256 if noted else bundle.data.get(TRAIN, {}).get(path, old)
        if new != old:
            found.append((path, old[:12], new[:12]))
    return tuple(found)


def fork(run: Run, step: int | None) -> Fork:
    """The checkpoint of a run, by default its newest; raises LtrlError when there is none that is whole."""
    folder = run.path / "checkpoints"
    of_training(run, "it has no checkpoints")
    if step is None:
        newest = checkpoints.newest_usable(folder)
        if newest is None:
            raise fail(Code.UNKNOWN_CHECKPOINT, f"`{run.id}` has no complete checkpoint")
        return Fork(run, newest.step, newest.directory)
    entry = checkpoints.look(folder / f"step_{step}")
    if entry is None:
        listed = ", ".join(str(known) for known in sorted(state.checkpoints(run.path)))
        message = f"`{run.id}` has no checkpoint of step {step}"
        raise fail(Code.UNKNOWN_CHECKPOINT, message, hint=f"it has {listed}" if listed else None)
    if not entry.is_complete:
        message = f"the checkpoint of step {step} of `{run.id}` is {entry.condition}: {'; '.join(entry.problems)}"
        raise fail(Code.BAD_CHECKPOINT, message)
    return Fork(run, step, entry.directory)


def of_training(run: Run, otherwise: str) -> Run:
    """The run, which trains; raises LtrlError for an evaluation, which lacks something, in words."""
    if run.is_evaluation:
        hint = f"`ltrl eval show {run.id}` shows its results, `ltrl eval compare` holds them against others"
        raise fail(Code.WRONG_KIND, f"`{run.id}` is an evaluation: {otherwise}", hint=hint)
    return run


def check_fork(chosen: Fork, bundle: Bundle) -> None:
    """Raises LtrlError, FORK_REFUSED, when a bundle cannot go on from a checkpoint of another run."""
    source = chosen.run
    model = _recorded(source)[1].get("model.base")
    wanted = bundle.resolved["spec"]["model"]["base"]
    engine = str(bundle.plan["engine"])
    if source.engine != engine:
        raise fail(Code.FORK_REFUSED, f"a checkpoint of `{source.engine}` cannot be read by `{engine}`")
    if model is not None and model != wanted:
        raise fail(Code.FORK_REFUSED, f"the checkpoint is one of `{model}`, the spec trains `{wanted}`")
    if chosen.step >= int(bundle.plan["steps"]):
        message = f"the checkpoint is of step {chosen.step}, the target is step {bundle.plan['steps']}: nothing is left"
        raise fail(Code.FORK_REFUSED, message, hint="a larger `algorithm.steps`")


def begin_from(chosen: Fork, run: Path, bundle: Bundle) -> None:
    """Puts a checkpoint of another run into a new one: linked where the disk can, copied otherwise, never moved.

    Raises LtrlError, FORK_REFUSED, when the bundle cannot go on from it.
    """
    check_fork(chosen, bundle)
    target = run / "checkpoints" / chosen.directory.name
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    shutil.copytree(chosen.directory, draft, copy_function=_link, symlinks=True)
    info_file = draft / "training_info.json"
    info = json.loads(info_file.read_bytes())
    if "fingerprint" in info:  # an engine that checks it by itself
        info_file.write_text(json.dumps({**info, "fingerprint": bundle.fingerprint}) + "\n", encoding="utf-8")
    draft.rename(target)


_MISSING = object()


def _shown(fields: dict[str, Any], path: str) -> str:
    return json.dumps(fields[path], ensure_ascii=False) if path in fields else "unset"


def _learned(bundle: Bundle) -> dict[str, Any]:
    """Every field that changes what is learned, or measured, as the fingerprint sees them."""
    if bundle.is_evaluation:
        return dict(bundle.resolved["measured"])
    spec = Experiment.model_validate_json(json.dumps(bundle.resolved["spec"]))
    found = {path: value for path, grade, value in graded(spec) if grade is Grade.NEW_RUN}
    return dict(json.loads(json.dumps(found)))


def _recorded(run: Run) -> tuple[str, dict[str, Any]]:
    """Fingerprint and fields of a run's checkpoints; from its bundle where an older ltrl wrote neither."""
    try:
        data = json.loads((run.path / "checkpoints" / RECORD).read_bytes())
        return str(data["fingerprint"]), dict(data["fields"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    try:
        return run.fingerprint, _learned(bundles.read(run.path / "bundle"))
    except (LtrlError, ValueError, KeyError):
        return run.fingerprint, {}


def _recorded_data(run: Path) -> dict[str, str]:
    """SHA-256 of the training files that the checkpoints of a run learned from, by path, where it was known."""
    try:
        return dict(json.loads((run / "checkpoints" / RECORD).read_bytes())["data"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _link(source: str, target: str) -> None:
    if Path(source).stat().st_size > SMALL_BYTES:
        with suppress(OSError):  # another disk, or one without links
            os.link(source, target)
            return
    shutil.copy2(source, target)
