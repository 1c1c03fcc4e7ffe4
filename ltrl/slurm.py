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
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ltrl import mock
from ltrl.errors import Code, fail
from ltrl.state import State, state_dir

__all__ = ["Job", "Unreachable", "argv", "ask", "ask_start", "cancel", "clients", "jobs", "submit"]

PATIENCE_S = 30
"""A client of Slurm that cannot read its configuration tries for minutes."""


@dataclass(frozen=True, slots=True)
class Job:
    """What Slurm says of a job."""

    id: str
    state: State
    reason: str = ""
    """Why it waits, when it does."""
    start: str | None = None
    """When it started or is expected to; ISO 8601 in UTC, like its end."""
    end: str | None = None
    """When it ended; the end of its time limit while it runs."""


class Unreachable(Exception):
    """Slurm did not answer."""


def clients(named: str | None) -> Path | None:
    """The directory of Slurm's commands that a profile names; None for those on the PATH."""
    if named == "mock":
        return mock.install(state_dir() / "mock")
    return Path(named) if named else None


def argv(
    script: Path,
    *,
    text: str,
    directory: Path,
    log: str,
    mark: str,
    variables: Mapping[str, str],
    options: Iterable[str] = (),
    after: str | None = None,
    clients: Path | None = None,
) -> tuple[str, ...]:
    """The exact command that submits a batch script with the given text, to start `after` (`afterok:17`); `options` go
    before the script's own.

    Variables of a surrounding job would steer sbatch or the job's own srun, and `SBATCH_X` would override the script's
    `#SBATCH --x`: both are left out.
    """
    stated = {m.replace("-", "_").upper() for m in re.findall(r'^#SBATCH "?--([a-z-]+)', text, re.MULTILINE)}
    unset = [
        name
        for name in sorted(os.environ)
        if (name.startswith("SLURM_") and name != "SLURM_CONF")
        or (
            name.startswith("SBATCH_")
            and name.removeprefix("SBATCH_") in {*stated, "ARRAY_INX", "EXPORT", "CHDIR", "WAIT"}
        )
    ]
    return (
        "env",
        *(word for name in unset for word in ("-u", name)),
        *(f"{name}={value}" for name, value in variables.items()),
        _client("sbatch", clients),
        "--export=ALL",
        f"--chdir={directory}",
        f"--output={log}",
        f"--comment={mark}",
        *options,
        *((f"--dependency={after}", "--kill-on-invalid-dep=yes") if after else ()),
        str(script),
    )


def submit(words: tuple[str, ...], text: str, *, folder: Path, clients: Path | None = None) -> str:
    """Submits with submitit; returns the job id. submitit keeps a copy of the text in `folder`."""
    _check_present(clients)
    from submitit.core.utils import FailedJobError, FailedSubmissionError
    from submitit.slurm.slurm import SlurmExecutor

    class BatchExecutor(SlurmExecutor):  # type: ignore[misc]  # submitit is not checked
        """submitit's, with our batch script instead of one that starts Python."""

        @classmethod
        def affinity(cls) -> int:
            """That it can be used: submitit looks for `srun` on the PATH."""
            return 2

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
        message = "; ".join(r.removeprefix("sbatch: ").removeprefix("error: ") for r in reasons)
        if re.search("timed out|Zero Bytes", message):
            hint = "Slurm may have taken the job all the same: `ltrl status` looks for it"
            raise fail(Code.SUBMIT_UNCERTAIN, message, hint=hint) from None
        raise fail(Code.SUBMIT_FAILED, message) from None


def ask_start(words: tuple[str, ...], *, clients: Path | None = None) -> tuple[bool, str]:
    """Whether Slurm would take a job, and what it says of its start or against it; nothing is submitted.

    `words` are those of `argv`. Raises Unreachable when there is no Slurm or no answer.
    """
    _check_present(clients)
    *command, script = words
    asked = _run(*command, "--test-only", script)
    said = [line.removeprefix("sbatch: ").removeprefix("error: ").strip() for line in asked.stderr.splitlines()]
    return asked.returncode == 0, "; ".join(filter(None, said)) or f"sbatch ended with status {asked.returncode}"


def jobs(ids: Iterable[str], marks: Iterable[str] = (), *, clients: Path | None = None) -> dict[str, Job]:
    """What Slurm knows of jobs, by id, and of those with a mark, by mark; raises Unreachable.

    A task of an array has two ids, `7_3` and its own number, and the array's mark with its index, `MARK_3`. At most one
    squeue and one sacct, whatever their number.
    """
    wanted = set(ids)
    sought = {*wanted, *marks}
    # a mark may be on anybody's job; squeue keeps silent about ids that it does not know, but for a single one
    chosen = [f"--jobs={','.join(sorted({_array(number) for number in wanted}))}"] if sought == wanted else []
    form = "--format=%i|%A|%K|%T|%S|%e|%k|%r"
    known: dict[str, Job] = {}
    try:
        lines = ask("squeue", "--noheader", "--array", "--states=all", *chosen, form, clients=clients)
    except Unreachable as error:
        if "Invalid job id" not in str(error):
            raise
        lines = []
    for line in lines:
        number, raw, task, word, start, end, mark, reason = line.split("|", 7)
        job = Job(number, _state(word), "" if reason == "None" else reason, _time(start), _time(end))
        known |= dict.fromkeys((number, raw, mark if task == "N/A" else f"{mark}_{task}"), job)
    found = {name: known[name] for name in sought & set(known)}
    # tasks that were cancelled before they started are one line, that of their array
    found |= {n: rest for n in sought - set(found) if (rest := known.get(_array(n))) and rest.state.is_finished}
    if missing := sorted(wanted - set(found)):
        found |= _finished(missing, clients)
    return found


def cancel(job_ids: Iterable[str], *, clients: Path | None = None) -> None:
    """Tells Slurm to end jobs, in one call; those that have ended are fine. Raises Unreachable."""
    try:
        ask("scancel", *job_ids, clients=clients)
    except Unreachable as error:
        if "Invalid job id" not in str(error):
            raise


def ask(name: str, *words: str, clients: Path | None = None) -> list[str]:
    """The lines that a client of Slurm prints; raises Unreachable when it fails or does not answer."""
    answer = _run(_client(name, clients), *words)
    if answer.returncode:
        raise Unreachable(answer.stderr.strip() or f"{name} ended with status {answer.returncode}")
    return [line for line in answer.stdout.splitlines() if line.strip()]


def _check_present(clients: Path | None) -> None:
    if not shutil.which(_client("sbatch", clients)):
        where = f"in `{clients}`" if clients else "on the PATH"
        hint = "submit from a login node of the cluster, or choose `--cluster local` or `--cluster mock`"
        raise fail(Code.SUBMIT_FAILED, f"there is no Slurm on this machine: `sbatch` is not {where}", hint=hint)


def _finished(ids: list[str], clients: Path | None) -> dict[str, Job]:
    """What the accounting knows; nothing where there is none."""
    which = ("--format=JobID,JobIDRaw,State,Start,End", f"--jobs={','.join(ids)}")
    try:
        lines = ask("sacct", "--noheader", "--parsable2", "--allocations", *which, clients=clients)
    except Unreachable:
        return {}
    found: dict[str, Job] = {}
    for number, raw, word, start, end in (line.split("|") for line in lines):
        array, _, task = number.partition("_")
        job = Job(number, _state(word), "", _time(start), _time(end))
        is_rest = task.startswith("[")  # tasks that never started
        found |= {n: job for n in ids if (n not in found and _array(n) == array if is_rest else n in (number, raw))}
    return found


def _array(name: str) -> str:
    """The array of a task, by id or by mark; any other job is its own."""
    return name.rpartition("_")[0] or name


def _client(name: str, clients: Path | None) -> str:
    return str(clients / name) if clients else name


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    # the asker's habits, `SQUEUE_FORMAT` for example, would change the answer
    environment = {n: v for n, v in os.environ.items() if not n.startswith(("SQUEUE_", "SACCT_", "SCANCEL_"))}
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE_S,
            check=False,
            env={**environment, "SLURM_TIME_FORMAT": "standard"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unreachable(f"{Path(command[0]).name}: {error}") from None


def _time(text: str) -> str | None:
    """Slurm's local time in UTC; None for `N/A` and `Unknown`."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC).isoformat(timespec="milliseconds")
    except ValueError:
        return None


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
