"""A model served for one evaluation: started, waited for, and ended by its process group whatever happens."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ltrl.errors import Code, fail
from ltrl.evaluation.spec import Serve

__all__ = ["command", "served"]

_POLL_SECONDS = 0.5
_GRACE_SECONDS = 30.0
_SHOWN_LINES = 8
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy leads to this machine


def command(model: str, serve: Serve, *, name: str, revision: str | None, total: int, port: int) -> list[str]:
    """The words that serve a model on a port of this machine."""
    if serve.engine == "local":
        start = "import sys; sys.argv[0] = 'ltrl'; from ltrl.cli import main; main()"
        return [sys.executable, "-c", start, "serve", "model", model, "--name", name, "--port", str(port)]
    words = [*serve.program, "serve", model, "--served-model-name", name, "--host", "127.0.0.1", "--port", str(port)]
    words += ["--tensor-parallel-size", str(serve.tensor), "--max-model-len", str(total)]
    words += ["--gpu-memory-utilization", f"{serve.gpu_memory:g}"]
    if revision is not None:
        words += ["--revision", revision]
    return [*words, *serve.options]


@contextmanager
def served(model: str, serve: Serve, *, name: str, revision: str | None, total: int, log: Path) -> Iterator[str]:
    """The base URL of a server that answers; its process group is gone afterwards.

    Raises NOT_SERVED when it cannot be started, ends, or does not answer in time; what it printed is in the log.
    """
    port = _free_port()
    words = command(model, serve, name=name, revision=revision, total=total, port=port)
    if shutil.which(words[0]) is None:
        hint = "run where it is installed: `--cluster NAME` with a container; or serve elsewhere and set `endpoint`"
        raise fail(Code.NOT_SERVED, f"`{words[0]}` is not installed here", hint=hint)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        url = f"http://127.0.0.1:{port}/v1"
        _wait(process, url, name, serve.startup_minutes, log)
        yield url
    finally:
        _end(process)


def _wait(process: subprocess.Popen[bytes], url: str, name: str, minutes: float, log: Path) -> None:
    deadline = time.monotonic() + 60 * minutes
    while not _answers(url, name):
        if (status := process.poll()) is not None:
            message = f"the server ended with status {status} before it answered"
            raise fail(Code.NOT_SERVED, f"{message}{_tail(log)}", hint=f"all that it printed: `{log}`")
        if time.monotonic() > deadline:
            message = f"the server did not answer within {minutes:g} minutes"
            raise fail(Code.NOT_SERVED, f"{message}{_tail(log)}", hint="raise `serve.startup_minutes`")
        time.sleep(_POLL_SECONDS)


def _answers(url: str, name: str) -> bool:
    """Whether it is our server, with our model: another may have taken the port meanwhile."""
    try:
        with _DIRECT.open(f"{url}/models", timeout=10) as reply:
            return any(model["id"] == name for model in json.load(reply)["data"])
    except (urllib.error.URLError, OSError, ValueError, KeyError, TypeError):
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the process and all that it started: its group has its id. A second Ctrl-C makes short work of it."""
    try:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_SECONDS)
    finally:
        with suppress(ProcessLookupError):  # what does not listen, or outlived its parent
            os.killpg(process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_SECONDS)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _tail(log: Path) -> str:
    with suppress(OSError):
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        if lines:
            return "; its last lines: " + " | ".join(lines[-_SHOWN_LINES:])
    return ""
