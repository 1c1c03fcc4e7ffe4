"""The plots of a data card: one SVG file, light or dark as the reader's system is, which Markdown shows as an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

__all__ = ["bins", "card_svg"]

BINS = 12
"""Bars of a histogram, about."""
PAPER: Mapping[str, float] = {"random": 1.35, "search": 15.0, "traj-random": 42.16, "traj-tiered": 50.03}
"""Percent of distractors that name an entity, by strategy: LongTraceRL on Wikipedia at 128K tokens."""
PAPER_TIER_1 = 63.23

_WIDTH, _LABELS, _BARS, _ROW = 760, 230, 420, 20
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1c1e21 } .title { font-weight: 600 } .label { text-anchor: end }
.paper { fill: #fff } .faint { fill: #6a6f76 }
.gold { fill: #b98a00 } .tier-1 { fill: #c2410c } .tier-2 { fill: #2563a8 }
.all { fill: #55606e } .theirs { fill: #c9ced6 }
@media (prefers-color-scheme: dark) {
text { fill: #e4e6e9 } .paper { fill: #16181b } .faint { fill: #9aa0a8 }
.gold { fill: #e3b341 } .tier-1 { fill: #f0883e } .tier-2 { fill: #6cb0f5 }
.all { fill: #8b97a6 } .theirs { fill: #3d434b }
}"""

Bar = tuple[str, float, str]
"""Label, length, and class, which is its colour."""


def card_svg(card: Mapping[str, Any]) -> str:
    """Lengths of the prompts, documents by tier, their overlap with the rubric, and attempts that were right."""
    figures = card["figures"]
    documents, named = figures["documents"], figures["distractors_naming_an_entity_percent"]
    strategy = card["spec"]["distractors"]["backend"]
    overlap: list[Bar] = [
        (f"all, {strategy}", named["all"], "all"),
        *([("the paper's", PAPER[strategy], "theirs")] if strategy in PAPER else []),
        ("tier 1", named["tier-1"], "tier-1"),
        *([("the paper's", PAPER_TIER_1, "theirs")] if named["tier-1"] is not None else []),
        ("tier 2", named["tier-2"], "tier-2"),
    ]
    right = card["stages"]["trajectories"]["questions_by_right_attempts"]
    return _svg(
        [
            ("prompts by tokens", [(label, count, "all") for label, count in figures["prompts_by_tokens"]]),
            (
                "documents of a prompt, mean",
                [(tier.replace("-", " "), found["mean"], tier) for tier, found in documents.items()],
            ),
            ("documents that name an entity of the rubric, %", [bar for bar in overlap if bar[1] is not None]),
            ("questions by right attempts", [(str(count), number, "all") for count, number in right.items()]),
        ]
    )


def bins(values: Sequence[int]) -> list[tuple[str, int]]:
    """(bounds, how many values lie between them), about a dozen of them, with round bounds."""
    if not values:
        return []
    low, high = min(values), max(values)
    width = _round(max(1, high - low) / BINS)
    counts = [0] * (high // width - low // width + 1)
    for value in values:
        counts[value // width - low // width] += 1
    first = low // width * width
    if width == 1:
        return [(f"{first + i:,}", count) for i, count in enumerate(counts)]
    return [(f"{first + i * width:,} to {first + (i + 1) * width:,}", count) for i, count in enumerate(counts)]


def _round(value: float) -> int:
    """The next of 1, 2, 5, 10, 20, 50, …"""
    size = 1
    while True:
        for step in (1, 2, 5):
            if size * step >= value:
                return size * step
        size *= 10


def _svg(plots: Sequence[tuple[str, Sequence[Bar]]]) -> str:
    parts: list[str] = []
    y = 8
    for title, bars in plots:
        if not bars:
            continue
        y += 2 * _ROW
        parts.append(f'<text class="title" x="16" y="{y - 8}">{escape(title)}</text>')
        most = max(length for _, length, _ in bars) or 1
        for label, length, kind in bars:
            width = max(1.0, _BARS * length / most) if length else 0
            parts.append(
                f'<text class="label faint" x="{_LABELS - 10}" y="{y + 14}">{escape(label)}</text>'
                f'<rect class="{kind}" x="{_LABELS}" y="{y + 3}" width="{width:.1f}" height="{_ROW - 6}" rx="2"/>'
                f'<text x="{_LABELS + width + 8:.1f}" y="{y + 14}">{length:,}</text>'
            )
            y += _ROW
    y += 12
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y}" width="{_WIDTH}" height="{y}">'
        f"<style>{_STYLE}</style>\n"
        f'<rect class="paper" width="100%" height="100%"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )
