"""What has become of attempts: asks the executors, and writes down what is over."""

from __future__ import annotations

import os
import time
import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from ltrl import local, slurm, state
from ltrl.errors import Code, Diagnostic, LtrlError
from ltrl.stages import run_id
from ltrl.state import Attempt, Run, State
from ltrl.walltime import OUT_OF_MEMORY, TIMED_OUT

__all__ = ["LOCKED_AT_ONCE", "cancel", "mark", "mark_of", "observe"]

ENDING_S = 15.0
"""How long a cancelled job is watched; Slurm kills what did not end by itself after its KillWait, 30 s by default."""

LOCKED_AT_ONCE = 200
"""Each lock is an open file, of which a process may have 1024."""

INTERRUPTED_S = 30.0
"""A submission that has left no trace for so long, and that nobody is working on, will not come to anything."""


def mark(run: Path, attempt: int) -> str:
    """The comment by which a job of ours is found in Slurm when its id was lost."""
    return f"{mark_of(run)}:{attempt}"


def mark_of(run: Path) -> str:
    """What the marks of all attempts begin with; runs elsewhere have the same names, hence a sum of the path."""
    return f"ltrl:{run_id(run)}:{zlib.crc32(os.fsencode(os.path.realpath(run))):08x}"


def observe(runs: Iterable[Run]) -> list[Run]:
    """The runs, their newest attempts as they are now; asks each scheduler once for all of them.

    What changed is written down, unless the run directory is read-only or someone is working on it.
    """
    found = [_settled(run) for run in runs]
    by_scheduler: dict[str | None, list[tuple[Run, Attempt]]] = defaultdict(list)
    for run in found:
        if run.latest and not run.latest.state.is_finished and run.latest.executor == "slurm":
            by_scheduler[run.latest.clients].append((run, run.latest))
    answers = {clients: _ask(clients, asked) for clients, asked in by_scheduler.items()}
    return [_observe(run, answers.get(run.latest.clients) if run.latest else None) for run in found]


def cancel(runs: Sequence[Run]) -> tuple[list[Run], list[Diagnostic]]:
    """Ends the newest attempts of runs, and only those; what became of each, and what went wrong.

    Every job is told before any is waited for; one that has ended is left as it is.
    """
    told: list[Run] = []
    trouble: list[Diagnostic] = []
    for first in range(0, len(runs), LOCKED_AT_ONCE):
        with ExitStack() as held:
            found = []
            for run in runs[first : first + LOCKED_AT_ONCE]:
                try:
                    held.enter_context(state.locked(run.path))
                    found.append(state.read_run(run.path))
                except LtrlError as error:
                    trouble += error.diagnostics
            told += _tell(observe(found), trouble)
    return _ended(told), trouble


def _tell(runs: list[Run], trouble: list[Diagnostic]) -> list[Run]:
    """Tells the jobs of runs to end, those of one scheduler in one call."""
    here: list[Run] = []
    there: dict[str | None, list[Run]] = defaultdict(list)
    for run in runs:
        attempt = run.latest
        if attempt is None or attempt.state.is_finished or attempt.job_id is None:
            continue
        if attempt.executor != "slurm" and attempt.host != local.hostname():
            message = f"`{run.id}` runs on `{attempt.host}` and can only be cancelled there"
            trouble.append(Diagnostic(Code.CANCEL_FAILED, message))
            continue
        marked = state.change_attempt(run, attempt.number, is_cancelled=True)
        (there[attempt.clients] if attempt.executor == "slurm" else here).append(marked)
    for clients, asked in there.items():
        ids = [run.latest.job_id for run in asked if run.latest and run.latest.job_id]
        try:
            slurm.cancel(ids, clients=_path(clients))
        except slurm.Unreachable as error:
            listed = ", ".join(f"`{run.id}` (job {number})" for run, number in zip(asked, ids, strict=True))
            trouble.append(Diagnostic(Code.CANCEL_FAILED, f"cannot cancel {listed}: {error}"))
            for run in asked:
                state.change_attempt(run, run.attempts[-1].number, is_cancelled=False)
    for run in here:
        attempt = run.attempts[-1]
        local.end(int(attempt.job_id or 0), attempt.process_start, run.path, attempt.number)
    return [state.read_run(run.path) for run in runs]


def _ended(runs: list[Run]) -> list[Run]:
    """The runs when what was cancelled has ended, or after a while."""
    deadline = time.monotonic() + ENDING_S
    pause = 0.1
    while True:
        runs = observe(runs)
        if time.monotonic() > deadline or not any(
            run.latest and run.latest.is_cancelled and run.latest.state in (State.PENDING, State.RUNNING)
            for run in runs
        ):
            return runs
        time.sleep(pause)
        pause = min(2.0, 1.5 * pause)  # spares the scheduler


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a scheduler said."""

    jobs: dict[str, slurm.Job]
    trouble: str = ""
    """Why it said nothing."""


def _ask(clients: str | None, asked: list[tuple[Run, Attempt]]) -> _Answer:
    try:
        return _Answer(
            slurm.jobs(
                [number for run, a in asked if (number := _job_id(run, a))],
                [_mark(run, a) for run, a in asked if not _job_id(run, a)],
                clients=_path(clients),
            )
        )
    except slurm.Unreachable as error:
        return _Answer({}, str(error))


def _settled(run: Run) -> Run:
    """The run with the ends of attempts that a later one follows: their job went on, and left how they ended."""
    for attempt, following in pairwise(run.attempts):
        if attempt.state.is_finished:
            continue
        directory = run.attempt_dir(attempt.number)
        status = state.exit_status(directory)
        said, lost = state.first_cause(directory), _lost_nodes(directory)
        if status not in (None, TOLD):
            ended, reason = ENDS.get(status, State.FAILED), said or f"ended with status {status}"
        elif lost or status is None:  # what its processes said of their end follows from Slurm's
            ended, reason = State.NODE_FAIL, lost or "a node was lost; Slurm started the job again"
        else:
            ended, reason = State.PREEMPTED, "preempted, or a node was taken away; Slurm started the job again"
        seen = replace(
            attempt,
            state=ended,
            reason=reason,
            expected_start=None,
            started=state.written(directory / "job_id") or attempt.started,
            ended=state.written(directory / "exit_status") or following.created,
            exit_status=status,
        )
        run = _recorded(run, seen)
    return run


def _observe(run: Run, answer: _Answer | None) -> Run:
    attempt = run.latest
    if attempt is None or attempt.state.is_finished:
        return run
    seen = _on_slurm(run, attempt, answer or _Answer({})) if attempt.executor == "slurm" else _here(run, attempt)
    if seen.state.is_finished:
        seen = _concluded(run, seen)
    if seen == attempt:
        return run
    recorded = _recorded(run, seen)
    if seen.state.is_finished and attempt.executor == "slurm":
        now = state.read_run(run.path)  # its job may have begun the next attempt since the run was read
        return now if len(now.attempts) > len(run.attempts) else recorded
    return recorded


def _recorded(run: Run, seen: Attempt) -> Run:
    """The run with an attempt as it was seen, on disk too unless nobody could tell."""
    (known,) = (attempt for attempt in run.attempts if attempt.number == seen.number)
    # why it waits and until when changes all the time and is asked for anyway: a thousand runs are a thousand writes
    if seen.state is not State.UNKNOWN and seen != replace(
        known, reason=seen.reason, expected_start=seen.expected_start
    ):
        try:
            changes = {name: getattr(seen, name) for name in Attempt.__dataclass_fields__ if name != "number"}
            return state.change_attempt(run, seen.number, **changes)
        except LtrlError:  # somebody else's run, or a full disk: it can be looked at all the same
            pass
    return replace(run, attempts=tuple(seen if a.number == seen.number else a for a in run.attempts))


def _on_slurm(run: Run, attempt: Attempt, answer: _Answer) -> Attempt:
    number = _job_id(run, attempt)
    directory = run.attempt_dir(attempt.number)
    if job := answer.jobs.get(number or "") or answer.jobs.get(_mark(run, attempt)):
        waits = job.state is State.PENDING
        return replace(
            attempt,
            job_id=job.id,
            state=job.state,
            reason=job.reason or None,
            expected_start=job.start if waits else None,
            started=None if waits else job.start,
            ended=job.end if job.state.is_finished else None,
        )
    status = state.exit_status(directory)
    may_return = answer.trouble and status == TOLD  # Slurm ended it, perhaps to start it again
    if status is not None and not may_return:  # Slurm has forgotten it; its script wrote down how it ended
        ended = State.FAILED if status else State.COMPLETED
        if status == TOLD and not attempt.is_cancelled and _used_its_time(attempt, directory):
            ended = State.TIMEOUT
        return replace(attempt, job_id=number, state=ended)
    if answer.trouble:
        return replace(attempt, state=State.UNKNOWN, reason=answer.trouble)
    if number is None:
        return _unlaunched(attempt)
    if attempt.is_cancelled:
        return replace(attempt, job_id=number, state=State.CANCELLED)
    hint = f"`ltrl cancel {run.id}` gives it up"
    return replace(attempt, state=State.UNKNOWN, reason=f"Slurm does not know job {number}; {hint}")


def _used_its_time(attempt: Attempt, directory: Path) -> bool:
    """Whether a job lasted until its time limit, by the files that its script wrote first and last."""
    started, ended = state.written(directory / "job_id"), state.written(directory / "exit_status")
    return bool(started and ended and state.seconds_between(started, ended) >= 60 * attempt.minutes - PROLOG_S)


def _here(run: Run, attempt: Attempt) -> Attempt:
    directory = run.attempt_dir(attempt.number)
    number = _job_id(run, attempt)
    status = state.exit_status(directory)
    if status is not None:
        ended = State.TIMEOUT if status == TIMED_OUT else State.FAILED if status else State.COMPLETED
        return replace(attempt, job_id=number, state=ended)
    if attempt.host != local.hostname():
        return replace(attempt, state=State.UNKNOWN, reason=f"it runs on `{attempt.host}`")
    if number is None:
        return _unlaunched(attempt)
    if local.is_alive(int(number), attempt.process_start, run.path, attempt.number):
        # an id that the job left is that of our session's leader, whose start nobody wrote down
        start = attempt.process_start or local.start_of(int(number))
        began = attempt.started or state.written(directory / "job_id")
        return replace(attempt, job_id=number, process_start=start, started=began, state=State.RUNNING)
    if state.exit_status(directory) is not None:  # it ended between the two questions
        return _here(run, attempt)
    return replace(attempt, job_id=number, state=State.FAILED, reason="killed, or the machine was restarted")


def _unlaunched(attempt: Attempt) -> Attempt:
    """An attempt without any trace of a job: being submitted now, or given up."""
    if state.seconds_since(attempt.created) < INTERRUPTED_S:
        return attempt
    return replace(attempt, state=State.FAILED, reason="interrupted while it was submitted; nothing was launched")


def _concluded(run: Run, attempt: Attempt) -> Attempt:
    """An attempt that is over, with its end explained: a run succeeds when its step target is reached."""
    directory = run.attempt_dir(attempt.number)
    status = state.exit_status(directory)
    ended = replace(
        attempt,
        started=attempt.started or state.written(directory / "job_id"),
        ended=attempt.ended or state.written(directory / "exit_status") or state.now(),
        expected_start=None,
        exit_status=status,
    )
    steps = state.last_checkpoint(run.path)
    if steps is not None and steps >= run.steps:
        return replace(ended, state=State.COMPLETED, reason=None)
    if attempt.is_cancelled and attempt.state is not State.COMPLETED:
        return replace(ended, state=State.CANCELLED, reason="cancelled")
    if attempt.state is State.CANCELLED and attempt.after and not state.job_id(directory):
        return replace(ended, reason=f"job {attempt.after} did not succeed, which it waited for")
    if attempt.state is State.COMPLETED and run.steps:
        return replace(ended, state=State.FAILED, reason=f"ended at step {steps or 0} of {run.steps}")
    if attempt.state is State.COMPLETED:  # a stage that takes no steps
        return replace(ended, reason=None)
    if attempt.executor == "slurm" and attempt.state is State.FAILED and status in ENDS:  # docker ends with 125, too
        return replace(ended, state=ENDS[status], reason=state.first_cause(directory) or REASONS[ENDS[status]])
    told = _lost_nodes(directory) if attempt.state is State.NODE_FAIL else None
    return replace(ended, reason=told or REASONS.get(attempt.state) or state.first_cause(directory) or attempt.reason)


def _lost_nodes(directory: Path) -> str | None:
    """What an attempt's scripts say of nodes that were lost, by name; None when they know of none."""
    said = state.first_cause(directory)
    return said if said and said.startswith("lost while the driver ran: ") else None


PROLOG_S = 30.0
"""What may pass between the start of a job, from which its time counts, and its script's first line."""

TOLD = 143
"""Exit status of a job's script that was told to stop, as a shell has it for SIGTERM."""

ENDS = {TIMED_OUT: State.TIMEOUT, OUT_OF_MEMORY: State.OUT_OF_MEMORY}
"""What a job's script says by its exit status, which for Slurm is a failure like any other."""

REASONS = {
    State.TIMEOUT: "the time limit was reached",
    State.OUT_OF_MEMORY: "out of memory",
    State.NODE_FAIL: "a node failed",
    State.PREEMPTED: "preempted",
}
"""Ends of which the job itself knows no more than that it was told to stop."""


def _mark(run: Run, attempt: Attempt) -> str:
    return attempt.mark or mark(run.path, attempt.number)


def _job_id(run: Run, attempt: Attempt) -> str | None:
    return attempt.job_id or state.job_id(run.attempt_dir(attempt.number))


def _path(clients: str | None) -> Path | None:
    return Path(clients) if clients else None
