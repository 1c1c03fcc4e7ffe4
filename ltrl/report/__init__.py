"""What came of runs, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ltrl import metrics
from ltrl.metrics import Metrics

__all__ = ["CURVES", "RunReport", "report"]

CURVES = (
    ("reward", "reward"),
    ("accuracy", "outcome"),
    ("evidence recall", "rubric"),
)
"""(what a person calls it, training tag) of each curve. The rubric is measured whatever the reward pays for."""

WINDOW = 10
"""Steps that a first and a last figure are the mean of."""


@dataclass(frozen=True)
class RunReport:
    """One run's figures."""

    name: str
    metrics: Metrics
    reward_backend: str
    num_steps: int
    """The step target."""

    def change(self, tag: str) -> tuple[float | None, float | None]:
        """Means of a training tag over the first and the last ten steps."""
        return self.metrics.mean(tag, first=WINDOW), self.metrics.mean(tag, last=WINDOW)

    def validation_change(self, tag: str = "accuracy") -> tuple[float | None, float | None]:
        """A validation figure at the first and the last measurement."""
        measured = [values[tag] for values in self.metrics.validation.values() if tag in values]
        return (measured[0], measured[-1]) if measured else (None, None)

    @property
    def seconds(self) -> float:
        """Time spent in training steps."""
        return sum(step.get("timing/train/total_step_time", 0.0) for step in self.metrics.train.values())

    def curve(self, tag: str, width: int = 24) -> str:
        """A training tag over time as a line of blocks, from 0 to 1."""
        values = [step[tag] for step in self.metrics.train.values() if tag in step]
        if not values:
            return ""
        width = min(width, len(values))
        bins = [values[i * len(values) // width : (i + 1) * len(values) // width] for i in range(width)]
        return "".join("▁▂▃▄▅▆▇█"[min(7, max(0, int(sum(b) / len(b) * 8)))] for b in bins)


def report(name: str, run: Path, *, reward_backend: str, num_steps: int) -> RunReport:
    """The report of a run directory."""
    return RunReport(name, metrics.read(run), reward_backend, num_steps)


def verdict(reports: Sequence[RunReport]) -> str | None:
    """What two runs that differ in their reward say about it, in one sentence; None for any other runs."""
    by_reward = {r.reward_backend: r for r in reports}
    if len(reports) != 2 or set(by_reward) != {"rubric", "outcome"}:
        return None
    figures = [(*by_reward[b].change("rubric"), by_reward[b].change("outcome")[1]) for b in ("rubric", "outcome")]
    if any(value is None for row in figures for value in row):
        return None
    (first, last, right), (first_o, last_o, right_o) = figures
    return (
        f"evidence recall goes {first:.2f} -> {last:.2f} when the rubric is paid for and {first_o:.2f} -> {last_o:.2f} "
        f"when only the answer is; accuracy ends at {right:.2f} and {right_o:.2f}"
    )
