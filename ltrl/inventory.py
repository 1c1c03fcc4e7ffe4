"""The checkpoints of a run as a person asks for them: what each is worth, why it is kept, how long the disk lasts."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean

from ltrl import checkpoints
from ltrl.checkpoints import SET_ASIDE, Entry, Rules
from ltrl.errors import Code, LtrlError, fail
from ltrl.spec import Checkpoint
from ltrl.state import Run

__all__ = ["Forecast", "Inventory", "Kept", "entries", "inventory", "rules_of"]


@dataclass(frozen=True, slots=True)
class Kept:
    """One checkpoint of a run."""

    entry: Entry
    age_seconds: float
    """Since it was written; 0 when the clocks disagree."""
    attempt: int | None
    """That wrote it."""
    reasons: tuple[str, ...]
    """Why it is kept; nothing for one that may go, or that is not complete."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What the rest of the run is going to write."""

    bytes_each: int
    """Mean of the complete checkpoints."""
    num_more: int
    """Until the step target."""
    more_bytes: int
    """That they add, once what the engine itself takes away is gone."""
    free_bytes: int
    full_at_step: int | None
    """The first checkpoint that does not fit any more."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """Everything among the checkpoints of a run."""

    kept: tuple[Kept, ...]
    """By step."""
    aside: tuple[tuple[Path, int], ...]
    """What was set aside, with its bytes."""
    forecast: Forecast | None
    """None before the first complete checkpoint, and where every step target is reached."""


def entries(run: Run, *, deep: bool = False) -> tuple[Entry, ...]:
    """What lies among the checkpoints of a run; raises LtrlError where they cannot be read."""
    try:
        return checkpoints.scan(run.path / "checkpoints", fingerprint=run.fingerprint, deep=deep)
    except OSError as error:
        raise _unreadable(error, run) from None


def inventory(run: Run, *, deep: bool = False) -> Inventory:
    """The checkpoints of a run; `deep` reads all that can be checked. Safe while the run goes on."""
    found = entries(run, deep=deep)
    saving = _saving(run)
    why = checkpoints.kept(found, rules_of(run))
    now = time.time()
    kept = tuple(
        Kept(
            entry,
            age_seconds=max(0.0, now - entry.written) if entry.written else 0.0,
            attempt=_writer(run, entry) if entry.written else None,
            reasons=why[entry.step] if entry.is_complete else (),
        )
        for entry in found
    )
    try:
        aside = tuple((p, _bytes(p)) for p in sorted((run.path / "checkpoints" / SET_ASIDE).glob("*/*")))
        return Inventory(kept, aside, _forecast(run, found, saving))
    except OSError as error:
        raise _unreadable(error, run) from None


def rules_of(run: Run) -> Rules:
    """What the engine keeps by itself, as the spec says."""
    saving = _saving(run)
    return Rules.of(saving.model_dump()) if saving else Rules()


def _saving(run: Run) -> Checkpoint | None:
    """`checkpoint` of the spec that the run was launched with; None where that cannot be read."""
    try:
        written = json.loads((run.path / "bundle" / "resolved.json").read_bytes())["spec"]["checkpoint"]
        return Checkpoint.model_validate_json(json.dumps(written))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _writer(run: Run, entry: Entry) -> int | None:
    """The attempt that wrote a checkpoint: it says so itself, or it was the newest at that time."""
    said = entry.info.get("attempt")
    if isinstance(said, int):
        return said
    written = datetime.fromtimestamp(entry.written, UTC)
    begun = [attempt.number for attempt in run.attempts if datetime.fromisoformat(attempt.created) <= written]
    return max(begun, default=None)


def _forecast(run: Run, found: Sequence[Entry], saving: Checkpoint | None) -> Forecast | None:
    complete = [entry for entry in found if entry.is_complete]
    if not complete or saving is None or complete[-1].step >= run.steps:
        return None
    every = saving.every_steps
    each = round(fmean(entry.bytes for entry in complete))
    last = complete[-1].step
    more = [*range(last - last % every + every, run.steps, every), run.steps]
    free = shutil.disk_usage(run.path / "checkpoints").free
    saved, grown, full_at = [entry.step for entry in complete], 0, None
    for step in more:  # what goes is deleted after the next is whole
        grown = max(grown, saving.most_kept(saved) + 1 - len(complete))
        saved.append(step)
        if full_at is None and grown * each > free:
            full_at = step
    return Forecast(each, len(more), each * grown, free, full_at)


def _bytes(directory: Path) -> int:
    return sum(checkpoints.sizes(directory).values())


def _unreadable(error: OSError, run: Run) -> LtrlError:
    reason = (error.strerror or str(error)).lower()
    return fail(Code.UNREADABLE, f"cannot read `{error.filename or run.path / 'checkpoints'}`: {reason}")
