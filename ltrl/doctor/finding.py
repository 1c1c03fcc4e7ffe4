"""One thing that was looked for."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding", "Mark", "found_or", "said"]

Mark = Literal["ok", "missing", "unsure", "absent"]
"""`missing`: needed and not there; `unsure`: cannot be told from here; `absent`: not there, and not needed for this."""

PATIENCE_S = 10
"""A driver or a client that hangs must not hang the doctor."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one thing, and what to do about it."""

    area: str
    name: str
    mark: Mark
    found: str
    wanted_for: str = ""
    """What needs it."""
    fix: str = ""
    """The command that mends it."""


def found_or(is_there: bool, wanted_for: str) -> Mark:
    """The mark of something that is there or not, and needed or not."""
    return "ok" if is_there else "missing" if wanted_for else "absent"


def said(*command: str) -> str | None:
    """What a program prints; None when it is not there, fails or does not answer."""
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=PATIENCE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None
