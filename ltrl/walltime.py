"""How much of a job's time is kept for its end: a step, a checkpoint and a rest, from declared or measured times.

The job is told to save and stop that long before its time limit; see docs/cluster-jobs.md.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # whoever looks at runs needs the exit statuses and no specs
    from ltrl.spec import Restarts

__all__ = ["OUT_OF_MEMORY", "SERVICE_OPTION", "TIMED_OUT", "Reserve", "declared", "measured", "set_up_seconds"]

TIMED_OUT = 124
"""Exit status of a job that stopped for its time limit, as timeout(1) has it."""

OUT_OF_MEMORY = 125
"""Exit status of a job whose driver the kernel killed, as Slurm has it."""

REST_SECONDS = 60
"""For what is neither a step nor a checkpoint: Slurm's own inaccuracy, ending Ray, asking for the next start."""

SERVICE_OPTION = "--signal=B:USR2@60"
"""Tells the job of a service to ask for its next start."""

MARGIN = 1.25
"""Measured times are taken so many times: the next step may be longer than all before."""


@dataclass(frozen=True, slots=True)
class Reserve:
    """What is kept of a job's time, in seconds, and where each part is from."""

    minutes: int
    """Time limit of the job."""
    step_seconds: float
    step_from: str
    save_seconds: float
    save_from: str

    @property
    def stop_seconds(self) -> int:
        """What a driver that is told to stop may still take: at most half of the job."""
        return min(math.ceil(self.step_seconds + self.save_seconds), self.minutes * 30)

    @property
    def signal_seconds(self) -> int:
        """How long before the time limit Slurm tells the job; Slurm takes 65535 at most."""
        return min(self.stop_seconds + REST_SECONDS, self.minutes * 30 + REST_SECONDS // 2, 65535)

    @property
    def last_seconds(self) -> int:
        """How long before the time limit the last checkpoint must be begun."""
        return min(math.ceil(self.save_seconds), self.minutes * 30) + REST_SECONDS

    @property
    def option(self) -> str:
        """sbatch's option for it; `B:` spares Ray, which the signal would end."""
        return f"--signal=B:USR2@{self.signal_seconds}"


def declared(minutes: int, restarts: Restarts) -> Reserve:
    """What the profile says."""
    return Reserve(
        minutes,
        restarts.step_minutes * 60,
        "restarts.step_minutes",
        restarts.save_minutes * 60,
        "restarts.save_minutes",
    )


def measured(run: Path, minutes: int, restarts: Restarts) -> Reserve:
    """What the attempts of a run took so far, and what the profile says of the rest."""
    found = declared(minutes, restarts)
    steps, saves = [], []
    for record in _records(run):
        steps += [float(s)] if isinstance(s := record.get("timing/train/total_step_time"), int | float) else []
        saves += [float(s)] if isinstance(s := record.get("timing/train/checkpointing"), int | float) else []
    return Reserve(
        minutes,
        max(steps) * MARGIN if steps else found.step_seconds,
        f"longest of {len(steps)} measured, times {MARGIN}" if steps else found.step_from,
        max(saves) * MARGIN if saves else found.save_seconds,
        f"longest of {len(saves)} measured, times {MARGIN}" if saves else found.save_from,
    )


def set_up_seconds(run: Path) -> float | None:
    """From the start of the job to the first step, in the newest attempt that came so far."""
    attempts = (p for p in run.glob("attempts/*/moments") if p.parent.name.isdecimal())
    for path in sorted(attempts, key=lambda p: int(p.parent.name), reverse=True):
        reached = {}
        with suppress(OSError, ValueError):
            for line in path.read_text(errors="replace").splitlines():
                when, _, what = line.partition(" ")
                reached[what] = float(when)
        if "job" in reached and "training" in reached:
            return reached["training"] - reached["job"]
    return None


def _records(run: Path) -> Iterator[dict[str, object]]:
    for path in run.glob("logs/exp_*/metrics.jsonl"):
        with suppress(OSError):
            for line in path.read_bytes().split(b"\n"):
                with suppress(ValueError):
                    if isinstance(record := json.loads(line), dict):
                        yield record
