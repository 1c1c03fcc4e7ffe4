"""The rollbacks of a run, as it keeps them: what was set aside, and what its metrics count no more."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ltrl.errors import Code, fail

__all__ = ["RECORD", "Rollback", "rollbacks"]

RECORD = "rollbacks.json"
"""In the run directory; newest last."""


@dataclass(frozen=True, slots=True)
class Rollback:
    """One return to an earlier checkpoint."""

    step: int
    """Where the run goes on from."""
    attempt: int
    """The newest attempt at that time."""
    start: int
    """The newest start of the driver (`logs/exp_NNN`) at that time: what it and those before it measured after `step`
    is no part of the run any more."""
    time: str
    place: str
    """Where the later checkpoints are, relative to the directory of checkpoints."""
    moved: tuple[str, ...]
    """Their names."""


def rollbacks(run: Path) -> tuple[Rollback, ...]:
    """The rollbacks that count, oldest first; raises LtrlError when their record is damaged."""
    try:
        found = json.loads((run / RECORD).read_bytes())
        return tuple(Rollback(**{**one, "moved": tuple(one["moved"])}) for one in found)
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except (ValueError, TypeError, KeyError) as error:
        hint = f"move it away: its checkpoints stay in `{run / 'checkpoints' / 'set-aside'}`"
        raise fail(Code.BAD_CHECKPOINT, f"`{run / RECORD}` is damaged: {error}", hint=hint) from None
