"""Two models on the same questions: how far they are apart, how sure that is, and whose answers changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
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
    """Questions that only one of them has an answer to, and those of `num_different`."""
    num_different: int
    """Ids under which the two have different questions: another text, or another right answer."""
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
            "different": self.num_different,
            "parts": parts,
        }


def compare(a: Path, b: Path) -> list[Compared]:
    """The benchmarks that both results have, in the order of the first; raises NOT_COMPARABLE when there is none."""
    first, second = _by_benchmark(read(a)), _by_benchmark(read(b))
    different = {name: _different(first[name], second[name]) for name in first if name in second}
    found = [
        made
        for name, others in different.items()
        if (made := _compared(name, first[name].samples, second[name].samples, different=others, with_parts=True))
    ]
    if not found:
        listed = [", ".join(f"`{name}`" for name in names) or "none" for names in (first, second)]
        message = f"no benchmark has a question that both have answers to: `{a}` has {listed[0]}, `{b}` {listed[1]}"
        hint = "compare results of the same benchmarks, by the same names"
        if any(different.values()):
            hint = "questions of the same id are different ones there: compare results of the same data and options"
        raise fail(Code.NOT_COMPARABLE, message, hint=hint)
    corrected = holm([one.difference.p_value for one in found])
    return [replace(one, p_holm=p) for one, p in zip(found, corrected, strict=True)]


def pairs(a: Iterable[Sample], b: Iterable[Sample]) -> Iterator[tuple[Sample, Sample]]:
    """The samples of the same answer to the same question, in the order of the second."""
    known = {(s.benchmark, s.question, s.number): s for s in a}
    for sample in b:
        other = known.get((sample.benchmark, sample.question, sample.number))
        if other is not None and _asked(other) == _asked(sample):
            yield other, sample


def _compared(name: str, a: list[Sample], b: list[Sample], *, different: Set[str], with_parts: bool) -> Compared | None:
    first, second = scores(a), scores(b)
    both = first.keys() & second.keys()
    shared = [question for question in first if question in both and question not in different]
    pair = [[side[question] for question in shared] for side in (first, second)]
    num_different = len(both & different)
    num_unpaired = len(first.keys() ^ second.keys()) + num_different
    made = _difference(name, *pair, num_unpaired=num_unpaired, num_different=num_different)
    if made is None or not with_parts:
        return made
    for split, values in splits(a).items():
        inside = {
            value: part
            for value in values
            if (
                part := _compared(
                    value, _only(a, split, value), _only(b, split, value), different=different, with_parts=False
                )
            )
        }
        if len(inside) > 1:
            made.parts[split] = inside
    return made


def _difference(
    name: str, a: list[Scores], b: list[Scores], *, num_unpaired: int, num_different: int
) -> Compared | None:
    found, one, other = difference(a, b), mean(a), mean(b)
    if found is None or one is None or other is None:
        return None
    return Compared(name, one, other, found, num_unpaired, num_different, found.p_value)


@dataclass(frozen=True)
class _Known:
    """One benchmark of one side."""

    samples: list[Sample] = field(default_factory=list)
    """Without their texts."""
    asked: dict[str, int] = field(default_factory=dict)
    """What each id asks, as a hash."""


def _by_benchmark(samples: Iterable[Sample]) -> dict[str, _Known]:
    found: dict[str, _Known] = {}
    for sample in samples:
        known = found.setdefault(sample.benchmark, _Known())
        known.samples.append(sample.without_texts)
        known.asked[sample.question] = hash(_asked(sample))
    return found


def _different(a: _Known, b: _Known) -> set[str]:
    """Ids that ask one thing on one side and another on the other."""
    return {question for question, asked in a.asked.items() if b.asked.get(question, asked) != asked}


def _asked(sample: Sample) -> tuple[str, str]:
    return sample.text, sample.label


def _only(samples: list[Sample], split: str, value: str) -> list[Sample]:
    return [sample for sample in samples if sample.splits.get(split) == value]
