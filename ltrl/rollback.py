"""Going back to an earlier checkpoint of a run, and forward again; making room. Nothing is deleted unless asked for."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict
from pathlib import Path

from ltrl import checkpoints, jobs, state, turns
from ltrl.checkpoints import RECORD, Entry, Rollback
from ltrl.checkpoints.aside import next_place
from ltrl.errors import Code, LtrlError, fail
from ltrl.inventory import entries
from ltrl.state import Event, Run

__all__ = ["prune", "roll_back", "undo"]


def roll_back(run: Run, *, step: int, dry_run: bool = False) -> Rollback:
    """Sets every later checkpoint aside, so that the next submission goes on from a step; returns what was moved.

    What was measured after the step counts no more. Raises LtrlError when there is no complete checkpoint of the step,
    when nothing is later, or while the run has a job. One that was interrupted is finished by calling it again.
    """
    with _at_rest(run, changes=not dry_run) as (run_now, folder):
        found = entries(run_now)
        wanted = next((entry for entry in found if entry.step == step and entry.is_complete), None)
        if wanted is None:
            raise _no_such(run_now, step, found)
        later = tuple(e.directory.name for e in found if e.step > step and e.directory.name.startswith("step_"))
        known = checkpoints.rollbacks(run.path)
        attempt = run_now.latest.number if run_now.latest else 0
        last_start = _last_start(run.path)
        interrupted = next((r for r in known[-1:] if (r.step, r.attempt, r.start) == (step, attempt, last_start)), None)
        if not later and not interrupted:
            raise fail(Code.UNKNOWN_CHECKPOINT, f"step {step} is the newest checkpoint of `{run.id}` already")
        place = interrupted.place if interrupted else next_place(folder)
        made = Rollback(step, attempt, last_start, state.now(), place, later or (interrupted or known[-1]).moved)
        if dry_run:
            return made
        if not interrupted:  # first what is meant, then what is done: a crash in between is finished by doing it again
            state.write_json(run.path / RECORD, [asdict(one) for one in (*known, made)])
        try:
            _move(folder, made.moved, place)
        except LtrlError:
            with suppress(OSError):  # it stays an interrupted one where even that is refused
                _put_back(folder, made.moved, place)
                state.write_json(run.path / RECORD, [asdict(one) for one in known])
            raise
        _tell(run_now, f"rolled back to step {step}")
        return made


def undo(run: Run, *, dry_run: bool = False) -> Rollback:
    """Puts back what the newest rollback set aside; returns it.

    Raises LtrlError when there is none, or when the run has gone on since.
    """
    with _at_rest(run, changes=not dry_run) as (run_now, folder):
        known = checkpoints.rollbacks(run.path)
        if not known:
            raise fail(Code.UNKNOWN_CHECKPOINT, f"`{run.id}` was not rolled back: there is nothing to undo")
        newest = known[-1]
        if run_now.latest and run_now.latest.number > newest.attempt:
            message = f"`{run.id}` has gone on since it was rolled back to step {newest.step}"
            raise fail(Code.RESUME_REFUSED, message, hint=f"what was set aside is in `{folder / newest.place}`")
        if dry_run:
            return newest
        try:
            _put_back(folder, newest.moved, newest.place)
        except OSError as error:
            raise state.unwritable(error, folder) from None
        state.write_json(run.path / RECORD, [asdict(one) for one in known[:-1]])
        _tell(run_now, f"rollback to step {newest.step} undone")
        return newest


def prune(run: Run, chosen: Sequence[Entry], *, delete: bool) -> None:
    """Takes checkpoints away: sets them aside, or deletes them. Safe while the run goes on: the newest is none of them.

    Raises LtrlError where the disk refuses; what was not taken away by then is whole.
    """
    folder = run.path / "checkpoints"
    place = next_place(folder)
    _move(folder, (entry.directory.name for entry in chosen), place)
    if delete:  # out of the way first: nobody takes half of one for a whole
        try:
            shutil.rmtree(folder / place)
        except OSError as error:
            raise state.unwritable(error, folder / place) from None


@contextmanager
def _at_rest(run: Run, *, changes: bool) -> Iterator[tuple[Run, Path]]:
    """The run without a job, held for changes; and the directory of its checkpoints."""
    with state.locked(run.path) if changes else nullcontext():
        (seen,) = jobs.observe([state.read_run(run.path)])
        if seen.latest and not seen.latest.state.is_finished:
            message = f"`{run.id}` has an attempt that is not over: {seen.latest.state}"
            raise fail(Code.RUN_BUSY, message, hint=f"`ltrl cancel {run.id}` ends it")
        if turns.is_alive(run.path):
            message = f"jobs of `{run.id}` take turns on this machine right now"
            raise fail(Code.RUN_BUSY, message, hint=f"`ltrl cancel {run.id}` ends them")
        yield seen, run.path / "checkpoints"


def _move(folder: Path, names: Iterable[str], place: str) -> None:
    try:
        checkpoints.set_aside(folder, names, place)
    except OSError as error:
        raise state.unwritable(error, folder / place) from None


def _put_back(folder: Path, names: Iterable[str], place: str) -> None:
    where = folder / place
    for name in names:
        if (where / name).is_dir():
            (where / name).rename(folder / name)
    if where.is_dir() and not any(where.iterdir()):
        where.rmdir()


def _tell(run: Run, detail: str) -> None:
    if run.latest:
        state.add_event(run, Event(state.now(), run.latest.number, run.latest.state, detail))


def _last_start(run: Path) -> int:
    names = (path.name.removeprefix("exp_") for path in (run / "logs").glob("exp_*"))
    return max((int(name) for name in names if name.isdecimal()), default=0)


def _no_such(run: Run, step: int, found: Sequence[Entry]) -> LtrlError:
    there = next((entry for entry in found if entry.step == step), None)
    if there:
        problem = f"the checkpoint of step {step} is {there.condition}: {'; '.join(there.problems)}"
        return fail(Code.BAD_CHECKPOINT, problem)
    listed = ", ".join(str(entry.step) for entry in found if entry.is_complete)
    hint = f"it has {listed}" if listed else None
    return fail(Code.UNKNOWN_CHECKPOINT, f"`{run.id}` has no checkpoint of step {step}", hint=hint)
