"""What lies in a directory of checkpoints, while others may be writing into it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from ltrl.checkpoints.files import INFO, Layout, layout, problems, sizes

__all__ = ["Condition", "Entry", "look", "newest_usable", "scan"]

SECOND_LOOK_S = 0.2
"""What looks damaged may be on its way out: a deletion takes its files one by one."""

_OURS = re.compile(r"(?P<prefix>|tmp_|old_)step_(?P<step>\d+)")
_FOREIGN = re.compile(r"(checkpoint-|global_step_?|iter_|epoch_)(\d+)")


class Condition(StrEnum):
    """What a directory of checkpoints is good for."""

    COMPLETE = "complete"
    UNFINISHED = "unfinished"
    """Being written, being deleted, or left by a writer that was killed; never resumed from."""
    DAMAGED = "damaged"
    """Has its final name, but files are missing, cut short or unreadable; never resumed from."""
    FOREIGN = "foreign"
    """Of another run or another program; never resumed from."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One directory."""

    directory: Path
    step: int
    condition: Condition
    problems: tuple[str, ...] = ()
    """Why it is not complete."""
    info: Mapping[str, Any] = field(default_factory=dict)
    """`training_info.json`."""
    layout: Layout = "unknown"
    bytes: int = 0
    num_files: int = 0
    written: float = 0.0
    """When its last word was written, in seconds since 1970."""

    @property
    def is_complete(self) -> bool:
        """Whether a run may go on from it."""
        return self.condition is Condition.COMPLETE

    @property
    def validation(self) -> dict[str, float]:
        """Figures of the validation at its step, without their `val:`."""
        values = ((name, value) for name, value in self.info.items() if name.startswith("val:"))
        return {name[4:]: float(value) for name, value in values if isinstance(value, int | float)}


def scan(checkpoints: Path, *, fingerprint: str | None = None, deep: bool = False) -> tuple[Entry, ...]:
    """Everything in a directory of checkpoints, by step; nothing where there is no such directory.

    `fingerprint` is the run's: a checkpoint with another one is foreign. Raises OSError where reading is refused.
    """
    found = []
    try:
        paths = list(checkpoints.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return ()
    for path in paths:
        if (_OURS.fullmatch(path.name) or _FOREIGN.fullmatch(path.name)) and (
            entry := look(path, fingerprint=fingerprint, deep=deep)
        ):
            found.append(entry)
    return tuple(sorted(found, key=lambda entry: (entry.step, entry.directory.name)))


def look(directory: Path, *, fingerprint: str | None = None, deep: bool = False) -> Entry | None:
    """What a directory is; None when it is gone meanwhile."""
    first = _look(directory, fingerprint, deep=deep)
    if first is None or first.condition is not Condition.DAMAGED:
        return first
    time.sleep(SECOND_LOOK_S)
    second = _look(directory, fingerprint, deep=deep)
    if second is None or second.condition is not Condition.DAMAGED:
        return second
    if (first.num_files, first.bytes) != (second.num_files, second.bytes):
        return Entry(directory, first.step, Condition.UNFINISHED, ("it is changing right now",))
    return second


def newest_usable(checkpoints: Path, *, fingerprint: str | None = None) -> Entry | None:
    """The newest complete checkpoint; looks at no older one."""
    try:
        names = [path.name for path in checkpoints.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return None
    steps = sorted((int(m["step"]) for m in map(_OURS.fullmatch, names) if m and not m["prefix"]), reverse=True)
    for step in steps:
        entry = look(checkpoints / f"step_{step}", fingerprint=fingerprint)
        if entry and entry.is_complete:
            return entry
    return None


def _look(directory: Path, fingerprint: str | None, *, deep: bool) -> Entry | None:
    if foreign := _FOREIGN.fullmatch(directory.name):
        return Entry(directory, int(foreign[2]), Condition.FOREIGN, ("not named as this engine names its checkpoints",))
    named = _OURS.fullmatch(directory.name)
    assert named is not None
    step = int(named["step"])
    files = sizes(directory)
    wrong: list[str] = []
    info: Mapping[str, Any] = {}
    written = 0.0
    try:
        written = (directory / INFO).stat().st_mtime
        info = json.loads((directory / INFO).read_bytes())
        if not isinstance(info, dict):
            raise ValueError("no JSON object")
    except FileNotFoundError:
        wrong.append(f"`{INFO}` is missing")
    except IsADirectoryError:
        wrong.append(f"`{INFO}` is a directory")
    except (ValueError, RecursionError) as error:
        info = {}
        wrong.append(f"`{INFO}` is damaged: {error}")
    condition = Condition.COMPLETE
    if named["prefix"]:
        what = {"tmp_": "never finished", "old_": "about to be replaced by a newer one"}
        condition, wrong = Condition.UNFINISHED, [what[named["prefix"]]]
    else:
        try:
            wrong += problems(directory, files, deep=deep)
        except FileNotFoundError as error:  # it went while we looked
            wrong.append(f"`{error.filename}` vanished")
        theirs = info.get("fingerprint")
        if wrong:
            condition = Condition.DAMAGED
        elif fingerprint and isinstance(theirs, str) and theirs != fingerprint:
            condition, wrong = Condition.FOREIGN, [f"its fingerprint is {theirs[:8]}, the run's {fingerprint[:8]}"]
    if not directory.is_dir():
        return None
    return Entry(
        directory, step, condition, tuple(wrong), info, layout(files), sum(files.values()), len(files), written
    )
