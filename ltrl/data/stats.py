"""Figures of a file of records: how many, how long, of which tiers, how confusable, what is asked for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Any

from ltrl.data.facts import Facts

__all__ = ["Stats"]

_TIERS = ("gold", "tier-1", "tier-2")
_NUMBER = re.compile(r"\d+")
_QUOTED = re.compile(r"[\"'“‘«].*?[\"'”’»]")


@dataclass
class Stats:
    """The figures of one file; `add` takes every record."""

    name: str
    is_exact: bool
    """Whether tokens were counted; otherwise they are estimates."""
    num_records: int = 0
    num_unusable: int = 0
    num_bytes: int = 0
    characters: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    entities: list[int] = field(default_factory=list)
    hops: Counter[int] = field(default_factory=Counter)
    strategies: Counter[str] = field(default_factory=Counter)
    documents: dict[str, list[int]] = field(default_factory=lambda: {tier: [] for tier in _TIERS})
    """Documents of each tier in each record that lists them."""
    tier_characters: Counter[str] = field(default_factory=Counter)
    shares: dict[str, list[float]] = field(default_factory=lambda: {tier: [] for tier in (*_TIERS, "distractors")})
    """Of each record, the share of a tier's documents that name an entity of the rubric."""
    labels: Counter[str] = field(default_factory=Counter)
    label_characters: list[int] = field(default_factory=list)

    def add(self, found: Facts) -> None:
        """Counts one record."""
        self.num_records += 1
        self.num_bytes += found.num_bytes
        if found.problems:
            self.num_unusable += 1
            return
        self.characters.append(found.num_characters)
        self.tokens.append(found.num_tokens)
        self.entities.append(found.num_entities)
        self.label_characters.append(len(found.label))
        self.labels[" ".join(found.label.casefold().split())] += 1
        if found.num_hops is not None:
            self.hops[found.num_hops] += 1
        if found.strategy:
            self.strategies[found.strategy] += 1
        if found.tiers:
            self._add_documents(found)

    def _add_documents(self, found: Facts) -> None:
        num_distractors = num_naming = 0
        for tier in _TIERS:
            facts = found.tiers.get(tier)
            self.documents[tier].append(facts.num_documents if facts else 0)
            if facts is None:
                continue
            self.tier_characters[tier] += facts.num_characters
            self.shares[tier].append(facts.num_naming / facts.num_documents)
            if tier != "gold":
                num_distractors += facts.num_documents
                num_naming += facts.num_naming
        if num_distractors:
            self.shares["distractors"].append(num_naming / num_distractors)

    @property
    def num_usable(self) -> int:
        """Records that can be trained on."""
        return self.num_records - self.num_unusable

    def rows(self) -> Iterator[tuple[str, str]]:
        """(figure, value) for a person; the same figures for every file."""
        yield "records", f"{self.num_records:,}"
        yield "unusable", f"{self.num_unusable:,}"
        yield "size", f"{self.num_bytes / 1e6:,.1f} MB"
        yield "tokens in all", f"{sum(self.tokens):,}{'' if self.is_exact else ', estimated'}"
        yield "tokens of a prompt", _spread(self.tokens)
        yield "characters of a prompt", _spread(self.characters)
        for tier in _TIERS:
            yield f"{tier} documents", _spread(self.documents[tier])
        whole = sum(self.tier_characters.values())
        for tier in _TIERS:
            yield f"{tier} share of the text", f"{self.tier_characters[tier] / whole:.1%}" if whole else "-"
        for name, found in self.shares.items():
            yield f"{name} naming an entity", f"{fmean(found):.1%}" if found else "-"
        yield "entities of a rubric", _spread(self.entities)
        yield "hops", _counts(self.hops) or "-"
        yield "strategies", _counts(self.strategies) or "-"
        yield "answers, characters", _spread(self.label_characters)
        yield "answers, distinct", f"{len(self.labels) / self.num_usable:.1%}" if self.num_usable else "-"
        shapes = self.shapes
        yield "answer shapes, distinct", f"{len(shapes) / self.num_usable:.1%}" if self.num_usable else "-"
        top = ", ".join(f"{shape[:24]} {count:,}" for shape, count in shapes.most_common(3))
        yield "answer shapes, most common", top or "-"

    @property
    def shapes(self) -> Counter[str]:
        """Answers with numbers and quotations masked, by how often they come."""
        shapes: Counter[str] = Counter()
        for label, count in self.labels.items():
            shapes[_NUMBER.sub("0", _QUOTED.sub("“…”", label))] += count
        return shapes

    def to_json(self) -> dict[str, Any]:
        """The figures for programs."""
        return {
            "file": self.name,
            "records": self.num_records,
            "unusable": self.num_unusable,
            "bytes": self.num_bytes,
            "tokens": {"are_exact": self.is_exact, "total": sum(self.tokens), **_spread_json(self.tokens)},
            "characters": _spread_json(self.characters),
            "documents": {tier: _spread_json(found) for tier, found in self.documents.items()},
            "tier_characters": dict(self.tier_characters),
            "naming_an_entity": {name: fmean(found) if found else None for name, found in self.shares.items()},
            "entities": _spread_json(self.entities),
            "hops": {str(hops): count for hops, count in sorted(self.hops.items())},
            "strategies": dict(self.strategies),
            "answers": {
                "distinct": len(self.labels),
                "characters": _spread_json(self.label_characters),
                "shapes": len(self.shapes),
                "most_common_shapes": self.shapes.most_common(3),
            },
        }


def _spread(values: list[int]) -> str:
    if not values:
        return "-"
    low, high = min(values), max(values)
    return (
        f"{low:,}" if low == high else f"{low:,} to {high:,}, mean {fmean(values):,.1f}, median {median(values):,.0f}"
    )


def _spread_json(values: list[int]) -> dict[str, float]:
    if not values:
        return {}
    return {"min": min(values), "max": max(values), "mean": fmean(values), "median": median(values)}


def _counts(found: Counter[Any]) -> str:
    return ", ".join(f"{value}: {count:,}" for value, count in sorted(found.items()))
