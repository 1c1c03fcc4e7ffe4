"""The end of a job's time inside NeMo-RL: when the last checkpoint is due, and a job that is told to stop.

Imported in the job only. See docs/cluster-jobs.md for the other half, the job script.
"""

from __future__ import annotations

import os
import time
from collections.abc import MutableMapping
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["install"]


def install(grpo: ModuleType, checkpointing: MutableMapping[str, Any]) -> None:
    """Binds the job's time into `nemo_rl.algorithms.grpo`, to be called when the training loop is about to begin.

    NeMo-RL counts `checkpoint_must_save_by` from there, so what setting up took is known by now and not estimated.
    """
    attempt = Path("attempts", os.environ.get("LTRL_ATTEMPT", "1"))
    _note(attempt, "training")
    ends, reserve = os.environ.get("LTRL_JOB_ENDS"), os.environ.get("LTRL_SAVE_SECONDS")
    if ends and reserve:
        checkpointing["checkpoint_must_save_by"] = _as_text(int(ends) - time.time() - int(reserve))
    grpo.TimeoutChecker = _checker(grpo.TimeoutChecker, attempt / "stop")  # type: ignore[attr-defined]


def _checker(original: type[Any], told: Path) -> type[Any]:
    class StopChecker(original):  # type: ignore[misc]
        """Asks for the last checkpoint when the job is told to stop, too."""

        def check_save(self) -> bool:
            """Whether to save now and end the training; NeMo-RL asks after every step."""
            is_due = bool(super().check_save())
            if is_due or getattr(self, "last_saved", False) or not told.exists():
                return is_due
            self.last_saved = True
            return True

    return StopChecker


def _as_text(seconds: float) -> str:
    """NeMo-RL's DD:HH:MM:SS; a time that has passed is due after the first step."""
    left = max(1, int(seconds))
    return f"{left // 86400:02}:{left // 3600 % 24:02}:{left // 60 % 60:02}:{left % 60:02}"


def _note(attempt: Path, what: str) -> None:
    if attempt.is_dir():
        with (attempt / "moments").open("a", encoding="utf-8") as file:
            file.write(f"{time.time()} {what}\n")
