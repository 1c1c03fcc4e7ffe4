"""A column as a few means, for drawing: kept up to date at the cost of what is new, whatever its length."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["Curve"]

MOST = 512
"""Means that are kept at most; twice the dots that a wide terminal has in a line."""


class Curve:
    """Means of as many neighbouring values each, a power of two that grows with the column."""

    def __init__(self) -> None:
        self.means: list[float] = []
        """NaN where nothing was measured."""
        self._size = 1

    def update(self, values: Sequence[float], changed_from: int) -> None:
        """Takes in a column whose values have changed from an index on."""
        while len(values) > MOST * self._size:
            self._size *= 2
            self.means = []  # made anew each time the column has doubled
        size = self._size
        first = min(changed_from // size, len(self.means))
        del self.means[first:]
        for start in range(first * size, len(values), size):
            self.means.append(_mean(values[start : start + size]))

    def __bool__(self) -> bool:
        return any(not math.isnan(mean) for mean in self.means)

    def resampled(self, count: int) -> list[float]:
        """At most so many means of neighbours."""
        length = len(self.means)
        count = min(count, length)
        return [_mean(self.means[i * length // count : (i + 1) * length // count]) for i in range(count)]


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
