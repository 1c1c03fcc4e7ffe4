"""Jobs on this machine that take turns: a process of its own launches each when those before it have made room.

Its orders are in a directory of its own: `turns.json`, and `leader.json` with the process that carries them out.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ltrl import local, state

__all__ = ["Orders", "Turn", "is_alive", "read", "start", "stop"]

PATIENCE_S = 10.0
"""A launch takes a fraction of a second."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One job."""

    bundle: str
    run_dir: str
    stage: str


@dataclass(frozen=True, slots=True)
class Orders:
    """Chains of jobs: one chain after another, or some at the same time; in a chain, each needs the one before it."""

    project: str
    at_once: int
    chains: tuple[tuple[Turn, ...], ...]


def start(home: Path, *, project: Path, chains: Iterable[Sequence[Turn]], at_once: int = 1) -> None:
    """Starts the process that launches the jobs; it outlives the shell."""
    folder = home / "turns"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise state.unwritable(error, folder) from None
    orders = Orders(str(project), at_once, tuple(map(tuple, chains)))
    state.write_json(folder / "turns.json", asdict(orders))
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "ltrl.leader", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    process.returncode = 0  # it is meant to outlive us: no warning at our end
    leader = {"pid": process.pid, "start": local.start_of(process.pid), "host": local.hostname()}
    state.write_json(folder / "leader.json", leader)


def read(folder: Path) -> Orders:
    """The orders in a directory."""
    data = json.loads((folder / "turns.json").read_bytes())
    chains = tuple(tuple(Turn(**turn) for turn in chain) for chain in data["chains"])
    return Orders(data["project"], data["at_once"], chains)


def is_alive(home: Path) -> bool:
    """Whether somebody still launches jobs for a directory."""
    leader = _leader(home)
    return leader is not None and local.start_of(leader[0]) == leader[1]


def stop(home: Path) -> None:
    """Launches no more jobs; those that run go on. Waits for a launch that is under way."""
    leader = _leader(home)
    if leader and local.start_of(leader[0]) == leader[1]:
        local.terminate(leader[0])
    deadline = time.monotonic() + PATIENCE_S
    while is_alive(home) and time.monotonic() < deadline:
        time.sleep(0.05)


def _leader(home: Path) -> tuple[int, str] | None:
    try:
        data = json.loads((home / "turns" / "leader.json").read_bytes())
    except (OSError, ValueError):
        return None
    return (data["pid"], data["start"]) if data["host"] == local.hostname() and data["start"] else None
