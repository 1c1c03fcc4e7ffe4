"""What has become of attempts: asks the executors, and writes down what is over."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ltrl import local, slurm, state
from ltrl.errors import LtrlError
from ltrl.state import Attempt, Run, State

__all__ = ["cancel", "mark", "observe"]

INTERRUPTED_S = 30.0
"""A submission that has left no trace for so long, and that nobody is working on, will not come to anything."""

TIMED_OUT = 124
"""Exit status of `local.sh` at the time limit, as timeout(1) has it."""


def mark(run_id: str, attempt: int) -> str:
    """The comment by which a job of ours is found in Slurm when its id was lost."""
    return f"ltrl:{run_id}:{attempt}"


def observe(runs: Iterable[Run]) -> list[Run]:
    """The runs, their newest attempts as they are now; asks the scheduler once for all of them.

    An end is written down, unless the run directory is read-only or someone is working on it.
    """
    found = list(runs)
    open_on_slurm = [
        (run, run.latest)
        for run in found
        if run.latest and not run.latest.state.is_finished and run.latest.executor == "slurm"
    ]
    known: dict[str, slurm.Job] = {}
    trouble = ""
    if open_on_slurm:
        try:
            known = slurm.jobs(
                [number for run, a in open_on_slurm if (number := _job_id(run, a))],
                [mark(run.id, a.number) for run, a in open_on_slurm if not a.job_id],
            )
        except slurm.Unreachable as error:
            trouble = str(error)
    return [_observe(run, known, trouble) for run in found]


def cancel(run: Run) -> Run:
    """Ends the newest attempt of a run, and only that; does nothing when it has ended."""
    with state.locked(run.path):
        (run,) = observe([state.read_run(run.path)])
        attempt = run.latest
        if attempt is None or attempt.state.is_finished or attempt.job_id is None:
            return run
        run = state.change_attempt(run, attempt.number, is_cancelled=True)
        if attempt.executor == "slurm":
            slurm.cancel(attempt.job_id)
        elif attempt.host == local.hostname():
            local.end(int(attempt.job_id), attempt.process_start, run.path, attempt.number)
    return observe([run])[0]


def _observe(run: Run, known: dict[str, slurm.Job], trouble: str) -> Run:
    attempt = run.latest
    if attempt is None or attempt.state.is_finished:
        return run
    seen = _on_slurm(run, attempt, known, trouble) if attempt.executor == "slurm" else _here(run, attempt)
    if seen.state.is_finished:
        seen = _concluded(run, seen)
    if seen == attempt:
        return run
    if seen.state is not State.UNKNOWN:
        try:
            changes = {name: getattr(seen, name) for name in Attempt.__dataclass_fields__ if name != "number"}
            return state.change_attempt(run, attempt.number, **changes)
        except LtrlError:  # somebody else's run, or a full disk: it can be looked at all the same
            pass
    return replace(run, attempts=(*run.attempts[:-1], seen))


def _on_slurm(run: Run, attempt: Attempt, known: dict[str, slurm.Job], trouble: str) -> Attempt:
    job = known.get(_job_id(run, attempt) or "") or known.get(mark(run.id, attempt.number))
    if job:
        return replace(attempt, job_id=job.id, state=job.state, reason=job.reason or None)
    status = state.exit_status(run.attempt_dir(attempt.number))
    if status is not None:  # Slurm has forgotten it; its script wrote down how it ended
        return replace(attempt, job_id=_job_id(run, attempt), state=State.FAILED if status else State.COMPLETED)
    if trouble:
        return replace(attempt, state=State.UNKNOWN, reason=trouble)
    if _job_id(run, attempt) is None:
        return _unlaunched(attempt)
    return replace(attempt, state=State.UNKNOWN, reason=f"Slurm does not know job {attempt.job_id}")


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
        return replace(attempt, job_id=number, process_start=start, state=State.RUNNING)
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
    ended = replace(attempt, ended=attempt.ended or state.now(), exit_status=status)
    steps = state.last_checkpoint(run.path)
    if steps is not None and steps >= run.steps:
        return replace(ended, state=State.COMPLETED, reason=None)
    if attempt.is_cancelled and attempt.state is not State.COMPLETED:
        return replace(ended, state=State.CANCELLED, reason="cancelled")
    if attempt.state is State.COMPLETED and steps is not None:
        return replace(ended, state=State.FAILED, reason=f"ended at step {steps} of {run.steps}")
    if attempt.state is State.COMPLETED:
        return replace(ended, reason=None)
    return replace(ended, reason=REASONS.get(attempt.state) or state.first_cause(directory) or attempt.reason)


REASONS = {
    State.TIMEOUT: "the time limit was reached",
    State.OUT_OF_MEMORY: "out of memory",
    State.NODE_FAIL: "a node failed",
    State.PREEMPTED: "preempted",
}
"""Ends of which the job itself knows no more than that it was told to stop."""


def _job_id(run: Run, attempt: Attempt) -> str | None:
    return attempt.job_id or state.job_id(run.attempt_dir(attempt.number))
