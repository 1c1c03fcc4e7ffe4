"""The data card: what a data set is made of and what came of it, for people and for programs.

Nothing in it knows the time or the machine: the same data set has the same card.
"""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ltrl.dataset.plots import bins

__all__ = ["PLOTS", "Figures", "card_markdown", "overlap"]

PLOTS = "card.svg"
"""The file beside the card that has its plots."""

TIERS = ("gold", "tier-1", "tier-2")


@dataclass
class Figures:
    """What is counted of each record while the file is written."""

    lengths: list[int] = field(default_factory=list)
    documents: list[Mapping[str, int]] = field(default_factory=list)
    named: list[Mapping[str, int]] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)

    def add(self, record: Mapping[str, Any]) -> None:
        """Counts a record by what its stage wrote down."""
        self.lengths.append(record["num_tokens"])
        self.documents.append(record["documents"])
        self.named.append(record["named"])
        self.dropped.update(record["dropped"])

    def to_json(self) -> dict[str, Any]:
        """Counts, lengths and shares."""
        return {
            "records": len(self.lengths),
            "tokens": _spread(self.lengths),
            "prompts_by_tokens": bins(self.lengths),
            "documents": {tier: _spread([one.get(tier, 0) for one in self.documents]) for tier in TIERS},
            "distractors_naming_an_entity_percent": {
                "all": overlap(self.documents, self.named, TIERS[1:]),
                **{tier: overlap(self.documents, self.named, [tier]) for tier in TIERS[1:]},
            },
            "documents_left_out": dict(sorted(self.dropped.items())),
        }


def overlap(
    documents: Iterable[Mapping[str, int]], named: Iterable[Mapping[str, int]], tiers: Sequence[str]
) -> float | None:
    """Share of documents of these tiers that name an entity of the rubric, in percent: the mean over records that have
    such documents, as in the paper; None where no record has.
    """
    shares = [
        sum(n.get(tier, 0) for tier in tiers) / count
        for d, n in zip(documents, named, strict=True)
        if (count := sum(d.get(tier, 0) for tier in tiers))
    ]
    return round(100 * statistics.fmean(shares), 2) if shares else None


def card_markdown(card: Mapping[str, Any]) -> str:
    """The card as a page."""
    figures, corpus = card["figures"], card["corpus"]
    tokens = figures["tokens"]
    lines = [
        f"# {card['name']}",
        "",
        *([card["description"], ""] if card["description"] else []),
        (
            f"{figures['records']} records of at most {card['tokens']} tokens, built by ltrl {card['ltrl']}. Corpus: "
            f"{corpus['num_pages']} pages, {corpus['num_links']} links, {corpus['num_links_to_nowhere']} to nowhere, "
            f"{corpus['num_skipped']} pages skipped; licence of the texts: {card['licence']}."
        ),
        "",
        f"![lengths, tiers, overlap]({PLOTS})",
        "",
        "| | fewest | median | mean | most |",
        "|---|---|---|---|---|",
        _row("tokens of a prompt", tokens),
        *(_row(f"{tier} documents", figures["documents"][tier]) for tier in TIERS),
        "",
        "| documents that name an entity of the rubric | % |",
        "|---|---|",
        *(f"| {name} | {'-' if share is None else share} |" for name, share in _shares(figures)),
        "",
        f"Documents left out of prompts: {_counts(figures['documents_left_out']) or 'none'}.",
        "",
        "| stage | tried | good | lost, by reason |",
        "|---|---|---|---|",
        *(f"| {name} | {_tally(stage)} |" for name, stage in card["stages"].items()),
        "",
        "```json",
        json.dumps({key: card[key] for key in ("seed", "tokenizer", "spec", "files")}, indent=2),
        "```",
    ]
    return "\n".join(lines) + "\n"


def _tally(stage: Mapping[str, Any]) -> str:
    if stage.get("model", "") is None:
        return "nobody was asked (`question.closed_book`) | - | -"
    lost = _counts(stage["lost"])
    more = {key: stage[key] for key in ("walks", "mad_walks", "mad_steps", "dead_ends") if key in stage}
    told = f" ({', '.join(f'{count} {key}'.replace('_', ' ') for key, count in more.items())})" if more else ""
    return f"{stage['tried']} | {stage['good']}{told} | {lost or '-'}"


def _counts(by_reason: Mapping[str, int]) -> str:
    return "; ".join(f"{reason}: {count}" for reason, count in by_reason.items())


def _shares(figures: Mapping[str, Any]) -> Iterable[tuple[str, float | None]]:
    shares = figures["distractors_naming_an_entity_percent"]
    return (("all distractors", shares["all"]), ("tier 1", shares["tier-1"]), ("tier 2", shares["tier-2"]))


def _row(name: str, spread: Mapping[str, float]) -> str:
    return f"| {name} | {' | '.join(f'{spread[key]:g}' for key in ('min', 'median', 'mean', 'max'))} |"


def _spread(values: Sequence[int]) -> dict[str, float]:
    return {
        "min": min(values),
        "median": statistics.median(values),
        "mean": round(statistics.fmean(values), 1),
        "max": max(values),
    }
