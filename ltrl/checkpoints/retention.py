"""Which checkpoints are worth their place."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ltrl.checkpoints.entries import Entry, scan

__all__ = ["Rules", "delete_superfluous", "kept", "lower_is_better"]

_LOWER = ("loss", "error", "kl", "grad_norm", "truncation_rate")


@dataclass(frozen=True, slots=True)
class Rules:
    """What is kept: each rule keeps its own, what none keeps may go. The newest stays always."""

    last: int = 0
    """So many of the newest."""
    best: int = 0
    """So many of the best by `metric`."""
    metric: str = "accuracy"
    """A figure of the validation; one of the training has `train:` before it."""
    lower_is_better: bool = False
    every: int = 0
    """Every so many steps."""

    @property
    def are_set(self) -> bool:
        """Whether any rule says what may go."""
        return bool(self.last or self.best or self.every)

    @classmethod
    def of(cls, checkpoint: Mapping[str, object]) -> Rules:
        """What a spec's `checkpoint` says that the engine keeps."""
        keep, last, every = (_count(checkpoint, name) for name in ("keep", "keep_last", "keep_every"))
        if metric := checkpoint.get("metric"):
            name = str(metric)
            return cls(last, keep, name.removeprefix("val:"), lower_is_better=lower_is_better(name), every=every)
        return cls(last=max(keep, last), every=every)


def lower_is_better(metric: str) -> bool:
    """Whether the lowest figure is the best: of losses, errors, divergences, gradient norms and shares of the cut."""
    name = metric.rpartition(":")[2].rpartition("/")[2]
    return any(f"_{word}_" in f"_{name}_" for word in _LOWER)


def delete_superfluous(checkpoints: Path, rules: Rules) -> tuple[Entry, ...]:
    """Deletes the complete checkpoints that no rule keeps; for the driver of a run alone. Raises OSError."""
    if not rules.are_set:
        return ()
    found = scan(checkpoints)
    staying = kept(found, rules)
    going = tuple(entry for entry in found if entry.is_complete and not staying[entry.step])
    for entry in going:
        shutil.rmtree(entry.directory)
    return going


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
        is_measured = _figure(entry, rules) is not None
        reasons[entry.step].append(f"best {place} by {rules.metric}" if is_measured else f"no {place} are better")
    for entry in complete:
        if rules.every and entry.step % rules.every == 0:
            reasons[entry.step].append(f"every {rules.every}")
    return {step: tuple(why) for step, why in reasons.items()}


def _rank(entry: Entry, rules: Rules) -> float:
    """Higher is better; a checkpoint that was not measured is worst of all."""
    value = _figure(entry, rules)
    return -math.inf if value is None else -value if rules.lower_is_better else value


def _figure(entry: Entry, rules: Rules) -> float | None:
    name = rules.metric if rules.metric.startswith("train:") else f"val:{rules.metric}"
    value = entry.info.get(name)
    return float(value) if isinstance(value, int | float) and not math.isnan(value) else None


def _count(checkpoint: Mapping[str, object], name: str) -> int:
    value = checkpoint.get(name)
    return value if isinstance(value, int) else 0
