"""Figures of data, as tables and bars, in the terminal and as a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING

from ltrl.cli import show
from ltrl.cli.show.data import histogram, said
from ltrl.cli.show.page import page, rows
from ltrl.dataset.plots import bins

if TYPE_CHECKING:
    from ltrl.data.stats import Stats
    from ltrl.data.tokens import Counter

__all__ = ["stats", "stats_page"]

_STYLE = """<style>
.bars { display: grid; grid-template-columns: max-content 1fr max-content; gap: .2rem .75rem; margin: .75rem 0;
  font-variant-numeric: tabular-nums; align-items: center }
.bars span { text-align: right; color: var(--faint) } .bars i { background: #2563a8; height: .9rem; border-radius: 2px }
@media (prefers-color-scheme: dark) { .bars i { background: #6cb0f5 } }
</style>"""


def stats(found: Sequence[Stats], counter: Counter, *, as_json: bool) -> None:
    """Prints the figures of files side by side, and the lengths of each."""
    if as_json:
        show.json_([one.to_json() for one in found])
        return
    show.table(*_table(found))
    show.out(f"tokens {said(counter)}")
    for one in found:
        if one.tokens:
            show.out(f"\n{show.printable(one.name)}: prompts by tokens")
            show.out(histogram(one.tokens))


def stats_page(found: Sequence[Stats], counter: Counter) -> str:
    """The same as a page."""
    headers, cells = _table(found)
    return page(
        "Training data",
        _STYLE,
        rows(tuple(headers), [tuple(map(escape, row)) for row in cells]),
        f'<p class="faint">tokens {escape(said(counter))}</p>',
        *(part for one in found for part in _plots(one)),
    )


def _table(found: Sequence[Stats]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    columns = [dict(one.rows()) for one in found]
    figures = [(name, *(column[name] for column in columns)) for name in (columns[0] if columns else {})]
    return ("", *(one.name for one in found)), figures


def _plots(one: Stats) -> Iterator[str]:
    yield f"<h2>{escape(one.name)}</h2>"
    if one.tokens:
        yield f"<h3>prompts by tokens</h3>{_bars(bins(one.tokens))}"
    if any(one.shares.values()):
        shares = [(name, round(1000 * sum(s) / len(s)) / 10) for name, s in one.shares.items() if s]
        yield f"<h3>documents naming an entity, % of a record's</h3>{_bars(shares)}"
    for name, counted in (("hops", one.hops), ("strategies", one.strategies)):
        if counted:
            yield f"<h3>{name}</h3>{_bars([(str(value), count) for value, count in sorted(counted.items())])}"
    if one.entities:
        yield f"<h3>records by entities of their rubric</h3>{_bars(bins(one.entities))}"


def _bars(counted: Sequence[tuple[str, float]]) -> str:
    most = max((count for _, count in counted), default=0) or 1
    lines = (
        f'<span>{escape(name)}</span><i style="width: {100 * count / most:.1f}%"></i><b>{count:,}</b>'
        for name, count in counted
    )
    return f'<div class="bars">{"".join(lines)}</div>'
