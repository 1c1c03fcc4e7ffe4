"""Jobs on this machine: started through submitit's local executor, watched and ended by process number.

A job is a session of its own, led by submitit's controller, so it survives the shell and its Ctrl-C. A process belongs
to a job only if its environment says so; numbers alone are used again by the system.
"""

from __future__ import annotations

import os
import platform
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ltrl.errors import Code, fail

__all__ = ["argv", "end", "hostname", "is_alive", "launch", "start_of", "terminate"]


def hostname() -> str:
    """Name of this machine."""
    return platform.node()


def argv(folder: Path) -> tuple[str, ...]:
    """The command that controls a job whose submitit folder is given; `-P`: a run directory is no place for modules."""
    return (sys.executable, "-P", "-m", "submitit.local._local", str(folder))


def environment(script: Path, *, minutes: int, gpus: int) -> dict[str, str]:
    """What submitit's controller and the job find in their environment."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(str(i) for i in range(gpus))
    visible = ",".join(chosen.split(",")[:gpus])
    return {
        "SUBMITIT_EXECUTOR": "local",
        "SUBMITIT_LOCAL_COMMAND": shlex.join(["bash", str(script)]),
        "SUBMITIT_LOCAL_JOB_NUM_NODES": "1",
        "SUBMITIT_LOCAL_NODEID": "0",
        "SUBMITIT_LOCAL_NTASKS": "1",
        "SUBMITIT_LOCAL_SIGNAL_DELAY_S": "30",
        "SUBMITIT_LOCAL_TIMEOUT_S": str(60 * minutes),
        "SUBMITIT_LOCAL_WITH_SHELL": "",
        "SUBMITIT_STDERR_TO_STDOUT": "1",
        "CUDA_VISIBLE_DEVICES": visible,
    }


def launch(words: tuple[str, ...], *, folder: Path, directory: Path, variables: Mapping[str, str]) -> str:
    """Starts a job; its id is the process number of the session's leader."""
    from submitit.local.local import LocalExecutor, LocalJob

    class SessionExecutor(LocalExecutor):  # type: ignore[misc]  # submitit is not checked
        """submitit's, but for its controller, which leads a session of its own here."""

        def _submit_command(self, command: str) -> Any:  # noqa: ARG002
            with (folder / "launcher.log").open("ab") as log:
                process = subprocess.Popen(
                    words,
                    cwd=directory,
                    env={**os.environ, **variables},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            process.returncode = 0  # it is meant to outlive us: no warning at our end
            return LocalJob(folder=self.folder, job_id=str(process.pid), process=process)

    try:
        return str(SessionExecutor(folder)._submit_command("").job_id)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise fail(Code.SUBMIT_FAILED, f"cannot start the job: {reason}") from None


def start_of(pid: int) -> str | None:
    """When a process started, as the system counts; None when it is gone."""
    fields = _stat(pid)
    if fields:
        return None if fields[0] == "Z" else fields[19]
    if Path("/proc/self/stat").exists():
        return None
    # `LC_ALL` fixes the format of the date
    shown = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )
    return shown.stdout.strip() or None


def is_alive(pid: int, process_start: str | None, run: Path, attempt: int) -> bool:
    """Whether anything of a job is left."""
    if process_start is not None and start_of(pid) == process_start:
        return True
    return next(_members(pid, run, attempt), None) is not None


def end(pid: int, process_start: str | None, run: Path, attempt: int, *, patience_s: float = 25.0) -> None:
    """Ends a job: asks its leader, which asks the driver; what is left after a while is killed."""
    if process_start is not None and start_of(pid) == process_start:
        _send(pid, signal.SIGTERM)
    else:
        for member in _members(pid, run, attempt):
            _send(member, signal.SIGTERM)
    deadline = time.monotonic() + patience_s
    while is_alive(pid, process_start, run, attempt) and time.monotonic() < deadline:
        time.sleep(0.05)
    for member in _members(pid, run, attempt):
        _send(member, signal.SIGKILL)


def terminate(pid: int) -> None:
    """Asks a process to end; one that is gone is fine."""
    _send(pid, signal.SIGTERM)


def _members(session: int, run: Path, attempt: int) -> Iterator[int]:
    """Processes of a job: in its session, and with its run and attempt in their environment."""
    marks = {f"LTRL_RUN_DIR={run}".encode(), f"LTRL_ATTEMPT={attempt}".encode()}
    for entry in Path("/proc").glob("[0-9]*"):
        fields = _stat(int(entry.name))
        if fields and fields[0] != "Z" and fields[3] == str(session):
            with suppress(OSError):
                if marks <= set((entry / "environ").read_bytes().split(b"\0")):
                    yield int(entry.name)


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name, which may hold blanks: state, parent, group, session, …"""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _send(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
