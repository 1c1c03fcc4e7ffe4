"""Jobs on Slurm: submitit hands our own batch script over; what became of a job is asked of Slurm, never of submitit.

Without accounting submitit takes killed jobs for running, and a requeued one for finished (submitit 1.5.4).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ltrl.errors import Code, fail
from ltrl.state import State

__all__ = ["Job", "Unreachable", "argv", "cancel", "jobs", "submit"]

PATIENCE_S = 30
"""A client of Slurm that cannot read its configuration tries for minutes."""


@dataclass(frozen=True, slots=True)
class Job:
    """What Slurm says of a job."""

    id: str
    state: State
    reason: str = ""
    """Why it waits, when it does."""
    start: str = ""
    """When it started or is expected to."""


class Unreachable(Exception):
    """Slurm did not answer."""


def argv(
    script: Path, *, text: str, directory: Path, log: str, mark: str, variables: Mapping[str, str]
) -> tuple[str, ...]:
    """The exact command that submits a batch script with the given text.

    Variables of a surrounding job would steer sbatch or the job's own srun, and `SBATCH_X` would override the script's
    `#SBATCH --x`: both are left out.
    """
    stated = {m.replace("-", "_").upper() for m in re.findall(r'^#SBATCH "?--([a-z-]+)', text, re.MULTILINE)}
    unset = [
        name
        for name in sorted(os.environ)
        if (name.startswith("SLURM_") and name != "SLURM_CONF")
        or (name.startswith("SBATCH_") and name.removeprefix("SBATCH_") in {*stated, "EXPORT", "CHDIR", "WAIT"})
    ]
    return (
        "env",
        *(word for name in unset for word in ("-u", name)),
        *(f"{name}={value}" for name, value in variables.items()),
        "sbatch",
        "--export=ALL",
        f"--chdir={directory}",
        f"--output={log}",
        f"--comment={mark}",
        str(script),
    )


def submit(words: tuple[str, ...], text: str, *, folder: Path) -> str:
    """Submits with submitit; returns the job id. submitit keeps a copy of the text in `folder`."""
    if not (shutil.which("sbatch") and shutil.which("srun")):
        hint = "submit from a login node of the cluster, or choose `--cluster local`"
        raise fail(Code.SUBMIT_FAILED, "there is no Slurm on this machine: `sbatch` is not on the PATH", hint=hint)
    from submitit.core.utils import FailedJobError, FailedSubmissionError
    from submitit.slurm.slurm import SlurmExecutor

    class BatchExecutor(SlurmExecutor):  # type: ignore[misc]  # submitit is not checked
        """submitit's, with our batch script instead of one that starts Python."""

        def _make_submission_file_text(self, command: str, uid: str) -> str:  # noqa: ARG002
            return text

        def _make_submission_command(self, submission_file_path: Path) -> list[str]:  # noqa: ARG002
            return list(words)

        @staticmethod
        def _get_job_id_from_submission_command(string: bytes | str) -> str:
            output = string.decode() if isinstance(string, bytes) else string
            if found := re.search(r"Submitted batch job (\d+)", output):
                return found.group(1)
            raise FailedSubmissionError(f"sbatch printed no job id: {output.strip()}")

    executor: Any = BatchExecutor(folder)
    executor._throttling = 0
    try:
        return str(executor._submit_command("").job_id)
    except (FailedJobError, FailedSubmissionError) as error:
        said = [line.strip() for line in str(error).splitlines() if line.strip()]
        reasons = [line for line in said if line.startswith("sbatch:")] or said[-1:]
        raise fail(
            Code.SUBMIT_FAILED, "; ".join(r.removeprefix("sbatch: ").removeprefix("error: ") for r in reasons)
        ) from None


def jobs(ids: Iterable[str], marks: Iterable[str] = ()) -> dict[str, Job]:
    """What Slurm knows of jobs, by id, and of those with a mark, by mark; raises Unreachable.

    At most one squeue and one sacct, whatever their number.
    """
    wanted, sought = set(ids), set(marks)
    found: dict[str, Job] = {}
    for line in _ask("squeue", "--noheader", "--states=all", f"--user={os.getuid()}", "--format=%i|%T|%S|%k|%r"):
        number, state, start, mark, reason = line.split("|", 4)
        job = Job(number, _state(state), "" if reason == "None" else reason, "" if start == "N/A" else start)
        if number in wanted:
            found[number] = job
        if mark in sought:
            found[mark] = job
    if missing := sorted(wanted - set(found)):
        found |= _finished(missing)
    return found


def cancel(job_id: str) -> None:
    """Tells Slurm to end a job; one that has ended is fine."""
    try:
        _ask("scancel", job_id)
    except Unreachable as error:
        if "Invalid job id" not in str(error):
            raise fail(Code.SUBMIT_FAILED, f"cannot cancel job {job_id}: {error}") from None


def _finished(ids: list[str]) -> dict[str, Job]:
    try:
        lines = _ask(
            "sacct", "--noheader", "--parsable2", "--allocations", "--format=JobIDRaw,State", f"--jobs={','.join(ids)}"
        )
    except Unreachable:  # no accounting here; the controller remembers for a while, other users' jobs too
        return {number: job for number in ids for job in _shown(number)}
    rows = (line.split("|") for line in lines)
    return {number: Job(number, _state(state)) for number, state in rows}


def _shown(number: str) -> Iterable[Job]:
    try:
        text = " ".join(_ask("scontrol", "show", "job", "--oneliner", number))
    except Unreachable:
        return
    if found := re.search(r"\bJobState=(\S+)", text):
        yield Job(number, _state(found.group(1)))


def _ask(*command: str) -> list[str]:
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=PATIENCE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unreachable(f"{command[0]}: {error}") from None
    if answer.returncode:
        raise Unreachable(answer.stderr.strip() or f"{command[0]} ended with status {answer.returncode}")
    return [line for line in answer.stdout.splitlines() if line.strip()]


STATES = {
    "BOOT_FAIL": State.NODE_FAIL,
    "CANCELLED": State.CANCELLED,
    "COMPLETED": State.COMPLETED,
    "COMPLETING": State.RUNNING,
    "CONFIGURING": State.PENDING,
    "DEADLINE": State.TIMEOUT,
    "FAILED": State.FAILED,
    "NODE_FAIL": State.NODE_FAIL,
    "OUT_OF_MEMORY": State.OUT_OF_MEMORY,
    "PENDING": State.PENDING,
    "PREEMPTED": State.PREEMPTED,
    "REQUEUED": State.PENDING,
    "REQUEUE_FED": State.PENDING,
    "REQUEUE_HOLD": State.PENDING,
    "RESIZING": State.RUNNING,
    "REVOKED": State.CANCELLED,
    "RUNNING": State.RUNNING,
    "SIGNALING": State.RUNNING,
    "SPECIAL_EXIT": State.PENDING,
    "STAGE_OUT": State.RUNNING,
    "STOPPED": State.RUNNING,
    "SUSPENDED": State.RUNNING,
    "TIMEOUT": State.TIMEOUT,
}
"""Slurm's words (`man squeue`, JOB STATE CODES)."""


def _state(word: str) -> State:
    return STATES.get(word.split(maxsplit=1)[0].rstrip("+"), State.UNKNOWN)  # `CANCELLED by 1000`
