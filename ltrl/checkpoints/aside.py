"""Checkpoints out of the way, and back: moved within their directory, never deleted."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ltrl.checkpoints.entries import Condition, Entry, look

__all__ = ["SET_ASIDE", "next_place", "put_unusable_aside", "set_aside"]

SET_ASIDE = "set-aside"
"""Beside the checkpoints, since their directory may be on a disk of its own."""


def next_place(checkpoints: Path) -> str:
    """A directory for what is set aside now, relative to that of the checkpoints; not there yet."""
    taken = [int(path.name) for path in (checkpoints / SET_ASIDE).glob("*") if path.name.isdecimal()]
    return f"{SET_ASIDE}/{max(taken, default=0) + 1:04d}"


def set_aside(checkpoints: Path, names: Iterable[str], place: str) -> None:
    """Moves checkpoints to a place; those that are there already stay. Raises OSError."""
    (checkpoints / place).mkdir(parents=True, exist_ok=True)
    for name in names:
        if (checkpoints / name).is_dir() and not (checkpoints / place / name).exists():
            (checkpoints / name).rename(checkpoints / place / name)


def put_unusable_aside(checkpoints: Path) -> tuple[Entry, ...]:
    """Takes damaged checkpoints away from a driver that would resume from the newest, whatever is in it.

    For the one driver of a run, before it looks for its checkpoint; returns what it moved. Raises OSError where a file
    cannot be read, which does not make a checkpoint damaged.
    """
    moved: list[Entry] = []
    for path in checkpoints.glob("old_step_*"):  # a writer was killed between its two renamings
        if not (checkpoints / path.name.removeprefix("old_")).exists():
            path.rename(checkpoints / path.name.removeprefix("old_"))
    steps = [path.name.removeprefix("step_") for path in checkpoints.glob("step_*")]
    for step in sorted((int(step) for step in steps if step.isdecimal()), reverse=True):
        entry = look(checkpoints / f"step_{step}")
        if entry and entry.is_complete:
            break
        if entry and entry.condition is Condition.DAMAGED:
            moved.append(entry)
    if moved:
        set_aside(checkpoints, (entry.directory.name for entry in moved), next_place(checkpoints))
    return tuple(moved)
