"""Two models on the same questions: how far they are apart, how sure that is, and whose answers changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ltrl.errors import Code, fail
from ltrl.evaluation.results import Sample, read, scores, splits
from ltrl.evaluation.statistics import Difference, Estimate, Scores, difference, holm, mean

__all__ = ["Compared", "compare", "pairs"]


@dataclass(frozen=True)
class Compared:
    """One benchmark, or one part of a split, under two models."""

    name: str
    a: Estimate
    b: Estimate
    """Both on the questions that both have answers to."""
    difference: Difference
    """b minus a."""
    num_unpaired: int
    """Questions that only one of them has an answer to."""
    p_holm: float = 1.0
    """The p-value corrected for the number of benchmarks."""
    parts: dict[str, dict[str, Compared]] = field(default_factory=dict)

    @property
    def is_significant(self) -> bool:
        """Whether the difference is one at a level of 5 %, corrected."""
        return self.p_holm < 0.05

    def to_json(self) -> dict[str, Any]:
        """The same for programs."""
        parts = {split: {n: part.to_json() for n, part in inside.items()} for split, inside in self.parts.items()}
        return {
            "name": self.name,
            "a": self.a.to_json(),
            "b": self.b.to_json(),
            "difference": self.difference.estimate.to_json(),
            "p": self.difference.p_value,
            "p_holm": self.p_holm,
            "better": self.difference.num_better,
            "worse": self.difference.num_worse,
            "unpaired": self.num_unpaired,
            "parts": parts,
        }


def compare(a: Path, b: Path) -> list[Compared]:
    """The benchmarks that both results have, in the order of the first; raises NOT_COMPARABLE when there is none."""
    first, second = _by_benchmark(read(a)), _by_benchmark(read(b))
    found = [
        made
        for name in first
        if name in second and (made := _compared(name, first[name], second[name], with_parts=True))
    ]
    if not found:
        listed = [", ".join(f"`{name}`" for name in names) or "none" for names in (first, second)]
        message = f"no benchmark has a question that both have answers to: `{a}` has {listed[0]}, `{b}` {listed[1]}"
        raise fail(Code.NOT_COMPARABLE, message, hint="compare results of the same benchmarks, by the same names")
    corrected = holm([one.difference.p_value for one in found])
    return [replace(one, p_holm=p) for one, p in zip(found, corrected, strict=True)]


def pairs(a: Iterable[Sample], b: Iterable[Sample]) -> Iterator[tuple[Sample, Sample]]:
    """The samples of the same answer to the same question, in the order of the second."""
    known = {(s.benchmark, s.question, s.number): s for s in a}
    for sample in b:
        if (other := known.get((sample.benchmark, sample.question, sample.number))) is not None:
            yield other, sample


def _compared(name: str, a: list[Sample], b: list[Sample], *, with_parts: bool) -> Compared | None:
    first, second = scores(a), scores(b)
    shared = [question for question in first if question in second]
    pair = [[side[question] for question in shared] for side in (first, second)]
    made = _difference(name, *pair, num_unpaired=len(first.keys() ^ second.keys()))
    if made is None or not with_parts:
        return made
    for split, values in splits(a).items():
        inside = {
            value: part
            for value in values
            if (part := _compared(value, _only(a, split, value), _only(b, split, value), with_parts=False))
        }
        if len(inside) > 1:
            made.parts[split] = inside
    return made


def _difference(name: str, a: list[Scores], b: list[Scores], *, num_unpaired: int) -> Compared | None:
    found, one, other = difference(a, b), mean(a), mean(b)
    if found is None or one is None or other is None:
        return None
    return Compared(name, one, other, found, num_unpaired, found.p_value)


def _by_benchmark(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = {}
    for sample in samples:
        found.setdefault(sample.benchmark, []).append(sample.without_texts)
    return found


def _only(samples: list[Sample], split: str, value: str) -> list[Sample]:
    return [sample for sample in samples if sample.splits.get(split) == value]
