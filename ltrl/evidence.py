"""What is left of an attempt, for `ltrl.why`, and the lines of the spec that would change its end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ltrl import bundle as bundles
from ltrl import logs, state, why
from ltrl.bundle import Bundle
from ltrl.errors import Code, LtrlError, fail
from ltrl.stages import run_of
from ltrl.state import Attempt, Run, State
from ltrl.why import Cause, Log, Signature

__all__ = ["Diagnosis", "SpecLine", "explain"]

READ_BYTES = 16 * 2**20
"""Of each log, from its end: what ends a run stands there."""


@dataclass(frozen=True, slots=True)
class SpecLine:
    """A field of the spec as it was for a run."""

    field: str
    value: Any
    place: str
    """`file:line` as in the run's bundle, or `default`."""
    text: str
    """That line; empty for a default."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Why an attempt ended, or waits."""

    run: str
    attempt: int
    state: State
    reason: str | None
    step: int | None
    """Of the last checkpoint."""
    causes: tuple[Cause, ...]
    """The first cause, and what else was seen; empty for a run that is well."""
    waits: Signature | None
    """What the scheduler's reason means while the job is pending."""
    change: tuple[SpecLine, ...]
    """What to change, the likeliest first."""
    before: str | None = None
    """The stage whose job it waited for, when that one failed."""


def explain(run: Run, *, attempt: int | None = None) -> Diagnosis:
    """Why an attempt of a run, by default the newest, is in its state; the run is as it was observed."""
    found = [a for a in run.attempts if attempt in (None, a.number)]
    if not found:
        listed = ", ".join(str(a.number) for a in run.attempts) or "none"
        raise fail(Code.UNKNOWN_RUN, f"`{run.id}` has no attempt {attempt}: it has {listed}")
    chosen = found[-1]
    causes: tuple[Cause, ...] = ()
    waits = why.pending(chosen.reason or "") if chosen.state is State.PENDING else None
    if chosen.state not in (State.COMPLETED, State.PENDING, State.SUBMITTING):
        causes = why.causes(
            _logs(run, chosen),
            state=chosen.state,
            reason=chosen.reason or "",
            ended=datetime.fromisoformat(chosen.ended or state.now()),
            progress=_progress(run, chosen),
            said=next(_read(run, [run.attempt_dir(chosen.number) / "cause"]), None),
        )
    signature = waits or (causes[0].signature if causes else None)
    return Diagnosis(
        run=run.id,
        attempt=chosen.number,
        state=chosen.state,
        reason=chosen.reason,
        step=state.last_checkpoint(run.path),
        causes=causes,
        waits=waits,
        change=tuple(_lines(run, signature.fields)) if signature else (),
        before=_before(run, chosen) if signature and signature.id == "dependency-failed" else None,
    )


def _before(run: Run, attempt: Attempt) -> str | None:
    """The id of the stage whose job an attempt waited for."""
    stages = state.all_runs(run_of(run.path))
    return next((one.id for one in stages if any(a.job_id == attempt.after for a in one.attempts)), None)


def _logs(run: Run, attempt: Attempt) -> Iterator[Log]:
    found = [log.path for log in logs.log_files(run, attempt=attempt.number, role="all")]
    if attempt.job_id is None:  # what the scheduler said to the submission
        found.append(run.attempt_dir(attempt.number) / "attempt.json")
    yield from _read(run, found)


def _read(run: Run, paths: Iterable[Path]) -> Iterator[Log]:
    """The ends of files, those that can be read."""
    for path in paths:
        with suppress(OSError), path.open("rb") as file:
            modified = datetime.fromtimestamp(path.stat().st_mtime, UTC)
            size = path.stat().st_size
            skipped = 0
            if size > READ_BYTES:
                while file.tell() < size - READ_BYTES:
                    skipped += file.read(min(2**20, size - READ_BYTES - file.tell())).count(b"\n")
                skipped += file.readline().count(b"\n")
            yield Log(str(path.relative_to(run.path)), file.read().decode(errors="replace"), modified, skipped)


def _progress(run: Run, attempt: Attempt) -> datetime | None:
    """When a step was last finished in an attempt."""
    times = []
    for path in run.path.glob("logs/exp_*/metrics.jsonl"):
        with suppress(OSError):
            times.append(datetime.fromtimestamp(path.stat().st_mtime, UTC))
    began = datetime.fromisoformat(attempt.started or attempt.created)
    until = datetime.fromisoformat(attempt.ended or state.now())
    return max((time for time in times if began <= time <= until), default=None)


def _lines(run: Run, fields: Iterable[str]) -> Iterator[SpecLine]:
    try:
        bundle = bundles.read(run.path / "bundle")
    except LtrlError:  # gone, or edited: there is no line to show then
        return
    origins: dict[str, str] = bundle.resolved["origins"]
    values = {**bundle.resolved["spec"], "cluster": bundle.resolved["cluster"]}
    texts = _texts(bundle)
    for field in fields:
        value: Any = values
        for step in field.split("."):
            value = value.get(step) if isinstance(value, dict) else None
        known = [path for path in origins if path == field or path.startswith(f"{field}.")]
        written = [origins[path] for path in known if origins[path] not in ("default", "model card")]
        place = written[0] if written else "default"
        source, _, number = place.rpartition(":")
        lines = texts.get((field.startswith("cluster."), source), "").splitlines()
        shown = lines[int(number) - 1].strip() if number.isdecimal() and int(number) <= len(lines) else ""
        yield SpecLine(field, value, place, shown)


def _texts(bundle: Bundle) -> dict[tuple[bool, str], str]:
    """The copies in a bundle of what was written, by whether it is the cluster profile, and its name."""
    files = {digest: name for name, digest in bundle.lock["files"].items()}
    return {
        (name.startswith("cluster:"), name.removeprefix("cluster:")): bundle.read(files[digest])
        for name, digest in bundle.lock["sources"].items()
        if digest in files
    }
