"""Which checkpoint a person means."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ltrl.lineage import Fork

__all__ = ["checkpoint"]


def checkpoint(text: str, *, project: Path) -> Fork:
    """That of `RUN@STEP`, or the newest of `RUN`; raises LtrlError when there is none."""
    from ltrl import lineage
    from ltrl.errors import Code, fail
    from ltrl.runs import find_run

    name, at, step = text.rpartition("@")
    if at and not step.isdecimal():
        raise fail(Code.UNKNOWN_CHECKPOINT, f"`{step}` is no step", hint="write `RUN@STEP` or `RUN`")
    return lineage.fork(find_run(name if at else text, project=project), int(step) if at else None)
