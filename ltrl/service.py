"""Services of a run: jobs beside its training, how they are found, and the wait until they are ready.

A service says in `service.json`, in its own directory of the run, where it listens. `python3 -m ltrl.service --run=DIR
NAME...` waits in the training's job until each answers. There ltrl may be nothing but the payload of the bundle: only
the standard library is imported.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import time
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from ltrl.stages import stage_dir

__all__ = ["FILE", "Address", "address", "find", "main", "publish", "reachable_host"]

FILE = "service.json"
"""In the directory of a service's stage."""

DEADLINE_S = 600.0
"""How long a service may take to be ready; LTRL_SERVICE_DEADLINE_SECONDS says otherwise."""

PAUSE_S = 0.5
"""Between two questions to a service."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a service listens."""

    url: str
    token: str | None
    """Where its token is found: `${file:PATH}`."""
    attempt: str
    """The attempt of the service that listens there."""


def publish(directory: Path, url: str, *, token: str | None) -> None:
    """Tells the training that the service with this directory listens; the file appears whole."""
    draft = directory / f".{FILE}.{os.getpid()}"
    found = Address(url, token, os.environ.get("LTRL_ATTEMPT", "1"))
    draft.write_text(json.dumps(asdict(found)), encoding="utf-8")
    draft.replace(directory / FILE)


def find(path: Path) -> Address | None:
    """What a service wrote about itself; None while it has written nothing."""
    with suppress(OSError, ValueError, TypeError):
        return Address(**json.loads(path.read_bytes()))
    return None


def address(name: str) -> Path | None:
    """The address file of a service of the run whose job this is; None when the run has no such service."""
    if name not in os.environ.get("LTRL_SERVICES", "").split():
        return None
    return stage_dir(Path(os.environ["LTRL_RUN_DIR"]), name) / FILE


def reachable_host() -> str:
    """An address of this machine that other nodes reach; the loopback address outside a job of Slurm."""
    if "SLURM_JOB_ID" not in os.environ:
        return "127.0.0.1"
    with suppress(OSError):
        own = socket.gethostbyname(socket.gethostname())  # Debian gives a machine's own name a loopback address
        if not own.startswith("127."):
            return own
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing: asks which interface leads out (RFC 5737)
        return str(probe.getsockname()[0])
    return socket.gethostname()


def main(arguments: Sequence[str] | None = None) -> int:
    """Waits until services are ready; 1 with a line that says why one is not."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("names", nargs="+")
    asked = parser.parse_args(arguments)
    deadline = time.monotonic() + float(os.environ.get("LTRL_SERVICE_DEADLINE_SECONDS", DEADLINE_S))
    for name in asked.names:
        if wrong := _wait(name, stage_dir(asked.run, name), deadline):
            sys.stdout.write(f"{wrong}\n")
            return 1
    return 0


def _wait(name: str, directory: Path, deadline: float) -> str | None:
    """Why a service is not ready; None when it is."""
    while True:
        attempt = _newest(directory)
        found = find(directory / FILE)
        if attempt and (attempt / "exit_status").exists():
            return f"the service `{name}` has ended: {_cause(attempt)}"
        said = "it has not started"
        if found and attempt and found.attempt == attempt.name:
            said = _ask(found)
            if not said:
                return None
        if time.monotonic() > deadline:
            return f"the service `{name}` is not ready: {said}"
        time.sleep(PAUSE_S)


def _newest(directory: Path) -> Path | None:
    numbers = [int(path.name) for path in directory.glob("attempts/*") if path.name.isdecimal()]
    return directory / "attempts" / str(max(numbers)) if numbers else None


def _cause(attempt: Path) -> str:
    for name in ("cause", "exit_status"):
        with suppress(OSError):
            text = (attempt / name).read_text(encoding="utf-8", errors="replace").strip()
            return text if name == "cause" else f"its status is {text}"
    return "nothing is known"


def _ask(found: Address) -> str:
    """Why a service does not answer as one that is ready; empty when it does."""
    headers = {}
    if found.token and found.token.startswith("${file:"):
        with suppress(OSError):
            secret = Path(found.token[len("${file:") : -1]).read_text(encoding="utf-8").strip()
            headers["authorization"] = f"Bearer {secret}"
    request = urllib.request.Request(f"{found.url}/readyz", headers=headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # nodes are asked directly
    try:
        with opener.open(request, timeout=10) as reply:
            return "" if reply.status == 200 else f"`{found.url}` answers with HTTP {reply.status}"
    except (OSError, ValueError) as error:
        return f"`{found.url}`: {getattr(error, 'reason', None) or error}"


if __name__ == "__main__":
    sys.exit(main())
