"""What a sample of questions says of a model: means with confidence intervals, pass@k, paired differences.

Questions, not answers, are what varies: answers to one question are averaged first, and questions of one cluster are
drawn together. Every figure is the same each time: the resampling has a fixed seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from types import ModuleType
from typing import Any

from ltrl.errors import Code, fail

__all__ = ["Difference", "Estimate", "Scores", "difference", "holm", "mean", "pass_at"]

RESAMPLES = 10_000
LEVEL = 0.95
_EXACT = 14
"""Clusters up to which every flip of signs is tried: 2^14."""
_CHUNK = 4_000_000
"""Draws in memory at once: 32 MB."""
_Z = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of one question, one for each graded answer."""

    cluster: str
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean of its answers: what avg@k averages."""
        return math.fsum(self.values) / len(self.values)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its 95 % confidence interval."""

    value: float
    low: float
    high: float
    num_questions: int
    num_clusters: int

    @property
    def half_width(self) -> float:
        """Half of the interval's width."""
        return (self.high - self.low) / 2

    def to_json(self) -> dict[str, float | int]:
        """The same for programs."""
        return {
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "questions": self.num_questions,
            "clusters": self.num_clusters,
        }


@dataclass(frozen=True, slots=True)
class Difference:
    """How far two models are apart on the same questions."""

    estimate: Estimate
    """Of the second model minus the first."""
    p_value: float
    """Of a permutation test of no difference: each cluster's difference keeps or changes its sign at random."""
    num_better: int
    """Questions on which the second is better."""
    num_worse: int


def mean(questions: Sequence[Scores]) -> Estimate | None:
    """The mean over questions, with a bootstrap interval over clusters; None without a question.

    Where every question has the same score resampling has no width; `_alike` takes its place.
    """
    if not questions:
        return None
    return _estimate([(q.cluster, q.mean) for q in questions])


def pass_at(k: int, questions: Sequence[Scores]) -> Estimate | None:
    """The chance that at least one of k answers is right, over questions with k answers or more.

    Each question's is the unbiased 1 - C(n - c, k) / C(n, k) (Chen et al. 2021, arXiv 2107.03374); None where no
    question has so many answers.
    """
    chances = [(q.cluster, _chance(k, q.values)) for q in questions if len(q.values) >= k]
    return _estimate(chances) if chances else None


def difference(first: Sequence[Scores], second: Sequence[Scores]) -> Difference | None:
    """The second model minus the first on the same questions, in the same order; None without a question."""
    if not first:
        return None
    deltas = [(a.cluster, b.mean - a.mean) for a, b in zip(first, second, strict=True)]
    estimate = _estimate(deltas, least=-1.0)
    clusters: dict[str, float] = {}
    for cluster, delta in deltas:
        clusters[cluster] = clusters.get(cluster, 0.0) + delta
    return Difference(
        estimate,
        _flipped(list(clusters.values())),
        sum(delta > 0 for _, delta in deltas),
        sum(delta < 0 for _, delta in deltas),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values corrected for their number (Holm 1979), in their order."""
    found = [1.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        found[place] = highest
    return found


def _chance(k: int, values: Sequence[float]) -> float:
    n, c = len(values), sum(value >= 1.0 for value in values)
    return 1.0 - math.comb(n - c, k) / math.comb(n, k)


def _estimate(values: Sequence[tuple[str, float]], *, least: float = 0.0) -> Estimate:
    """`values` are (cluster, value of a question), from `least` to 1."""
    sums: dict[str, list[float]] = {}
    for cluster, value in values:
        sums.setdefault(cluster, []).append(value)
    value = math.fsum(v for _, v in values) / len(values)
    means = [math.fsum(vs) / len(vs) for vs in sums.values()]
    if max(means) - min(means) < 1e-12:
        low, high = _alike(value, len(means), least=least)
    else:
        low, high = _resampled([(math.fsum(vs), len(vs)) for vs in sums.values()])
    return Estimate(value, low, high, len(values), len(sums))


def _alike(value: float, n: int, *, least: float) -> tuple[float, float]:
    """The interval of a mean when all n clusters have the same value, from `least` to 1.

    None of n has another value, so at most the upper limit of Wilson's score interval (1927) for 0 of n may have one,
    which is `least` or 1 at worst. For values of 0 or 1 this is Wilson's interval itself.
    """
    others = _Z**2 / (n + _Z**2)
    return value - others * (value - least), value + others * (1 - value)


def _resampled(clusters: Sequence[tuple[float, int]]) -> tuple[float, float]:
    """Percentile bootstrap of the ratio of sums over clusters, given as (sum, number of questions)."""
    numpy = _numpy()
    random = numpy.random.default_rng(0)
    sums = numpy.array([s for s, _ in clusters])
    counts = numpy.array([n for _, n in clusters], dtype=float)
    num = len(clusters)
    means: list[Any] = []
    for start in range(0, RESAMPLES, step := max(1, _CHUNK // num)):
        drawn = random.integers(0, num, (min(step, RESAMPLES - start), num))
        means.append(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    low, high = numpy.quantile(numpy.concatenate(means), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _flipped(deltas: Sequence[float]) -> float:
    """p-value of the sum of differences when each may have either sign; two-sided."""
    seen = abs(math.fsum(deltas)) - 1e-12
    if len(deltas) <= _EXACT:
        sums = [abs(math.fsum(s * d for s, d in zip(signs, deltas, strict=True)))
                for signs in product((1, -1), repeat=len(deltas))]  # fmt: skip
        return sum(one >= seen for one in sums) / len(sums)
    numpy = _numpy()
    random = numpy.random.default_rng(0)
    values, hits = numpy.array(deltas), 0
    for start in range(0, RESAMPLES, step := max(1, _CHUNK // len(deltas))):
        signs = random.integers(0, 2, (min(step, RESAMPLES - start), len(deltas))) * 2 - 1
        hits += int((abs((signs * values).sum(axis=1)) >= seen).sum())
    return (hits + 1) / (RESAMPLES + 1)


def _numpy() -> ModuleType:
    try:
        import numpy
    except ModuleNotFoundError as error:
        hint = "pip install 'ltrl[eval]'"
        raise fail(Code.MISSING_EXTRA, "confidence intervals need `numpy`", hint=hint) from error
    return numpy
