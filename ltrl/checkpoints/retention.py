"""Which checkpoints are worth their place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ltrl.checkpoints.entries import Entry

__all__ = ["Rules", "kept"]


@dataclass(frozen=True, slots=True)
class Rules:
    """What is kept: each rule keeps its own, what none keeps may go. The newest stays always."""

    last: int = 0
    """So many of the newest."""
    best: int = 0
    """So many of the best by `metric`."""
    metric: str = "accuracy"
    """A figure of the validation, without `val:`."""
    lower_is_better: bool = False
    every: int = 0
    """Every so many steps."""

    @property
    def are_set(self) -> bool:
        """Whether any rule says what may go."""
        return bool(self.last or self.best or self.every)


def kept(entries: Sequence[Entry], rules: Rules) -> dict[int, tuple[str, ...]]:
    """Why each complete checkpoint is kept, by its step; without a reason it may go. Without rules all are kept."""
    complete = sorted((entry for entry in entries if entry.is_complete), key=lambda entry: entry.step)
    reasons: dict[int, list[str]] = {entry.step: [] for entry in complete}
    if not complete:
        return {}
    reasons[complete[-1].step].append("newest")
    if not rules.are_set:
        return {step: tuple(why or ["all are kept"]) for step, why in reasons.items()}
    for entry in complete[-rules.last :] if rules.last else ():
        if rules.last > 1:
            reasons[entry.step].append(f"last {rules.last}")
    ranked = sorted(complete, key=lambda entry: (_rank(entry, rules), entry.step), reverse=True)
    for place, entry in enumerate(ranked[: rules.best], 1):
        if rules.metric in entry.validation:
            reasons[entry.step].append(f"best {place} by {rules.metric}")
    for entry in complete:
        if rules.every and entry.step % rules.every == 0:
            reasons[entry.step].append(f"every {rules.every}")
    return {step: tuple(why) for step, why in reasons.items()}


def _rank(entry: Entry, rules: Rules) -> float:
    """Higher is better; a checkpoint that was not validated is worst of all."""
    value = entry.validation.get(rules.metric, math.nan)
    return -math.inf if math.isnan(value) else -value if rules.lower_is_better else value
