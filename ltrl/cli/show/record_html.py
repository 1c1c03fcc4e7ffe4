"""One record as a page: the context drawn to scale, what the agent did, every document."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING

from ltrl.cli.show.marks import hue, marked_html
from ltrl.cli.show.page import page, rows
from ltrl.cli.show.record import facts, steps

if TYPE_CHECKING:
    from ltrl.data.view import Row, Shown, View

__all__ = ["index_page", "record_page"]

_STYLE = """<style>
:root { --gold: #b98a00; --tier-1: #c2410c; --tier-2: #2563a8 }
@media (prefers-color-scheme: dark) { :root { --gold: #e3b341; --tier-1: #f0883e; --tier-2: #6cb0f5 } }
.gold { --tier: var(--gold) } .tier-1 { --tier: var(--tier-1) } .tier-2 { --tier: var(--tier-2) }
.outside { --tier: var(--faint) }
.context { display: flex; height: 2.2rem; border-radius: 6px; overflow: hidden; background: var(--panel) }
.context a { background: var(--tier); min-width: 0 }
.context.few a { border-right: 1px solid var(--paper) }
.context a:hover, .context a:focus { filter: brightness(1.3) }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.5rem; margin: .5rem 0; color: var(--faint) }
.legend span::before { content: ""; display: inline-block; width: .8em; height: .8em; margin-right: .4em;
  border-radius: 2px; background: var(--tier) }
.question { font-size: 1.1rem; max-width: 60rem; white-space: pre-line }
details.more { border: 0; padding: 0; margin: 0; display: inline }
ol.timeline { list-style: none; margin: 1rem 0; padding: 0 0 0 1.25rem; border-left: 2px solid var(--line) }
.timeline li { position: relative; margin: 0 0 .9rem }
.timeline li::before { content: ""; position: absolute; left: -1.65rem; top: .4rem; width: .65rem; height: .65rem;
  border-radius: 50%; background: var(--paper); border: 2px solid var(--ink) }
.timeline li.open::before, .timeline li.answer::before { background: var(--ink) }
.timeline b { margin-right: .5rem }
.timeline .documents { display: flex; flex-wrap: wrap; gap: .3rem; margin-top: .3rem }
.chip { border: 1px solid var(--tier); color: var(--tier); border-radius: 1rem; padding: 0 .6rem; font-size: .85rem;
  text-decoration: none; overflow-wrap: anywhere }
details { border-left: 4px solid var(--tier); margin: .35rem 0; padding: .1rem 0 .1rem .75rem; overflow-wrap: anywhere;
  content-visibility: auto; contain-intrinsic-size: auto 2rem }
summary { cursor: pointer } summary .tier { color: var(--tier); font-weight: 600; margin: 0 .5rem }
pre:target { outline: 2px solid var(--tier) }
table td { overflow-wrap: break-word }
@media (max-width: 40rem) { body { margin: 1rem auto; padding: 0 .75rem } pre { font-size: 12px; max-height: 28rem } }
@media print { details > pre { display: block } }
</style>"""

FEW = 24
"""Chips in a row before the others are folded away."""

MANY = 150
"""Documents from which on no line is drawn between them: a phone is 360 pixels wide."""

_TIERS = {
    "gold": "gold: on the path to the answer",
    "tier-1": "tier 1: opened by the agent, not cited",
    "tier-2": "tier 2: found, never opened",
}


def record_page(found: View) -> str:
    """The page of a record; it needs nothing but itself, and no script."""
    sample = found.sample
    return page(
        f"{sample.id}",
        _STYLE,
        f'<p class="question">{_marked(found.question)}</p>',
        rows(("", ""), [(f'<span class="faint">{escape(n)}</span>', escape(v)) for n, v in facts(found).items()][1:]),
        f'<p class="faint">{escape(found.file)}:{found.line}</p>',
        "<h2>Rubric</h2>",
        rows(("", "entity", "also", "documents"), list(_entities(found))),
        *_context(found),
        *_timeline(found),
        *_documents(found),
        "<h2>The rest of the prompt</h2>" if found.passages else "<h2>The prompt</h2>",
        *(f"<h3>{escape(role)}</h3><pre>{_marked(text)}</pre>" for role, text in found.frame),
    )


def index_page(name: str, found: Iterable[Row]) -> str:
    """The page of a file's records."""
    cells = [
        (
            str(row.line),
            escape(row.id),
            escape(row.question) if row.id else f'<span class="down">{escape(row.problem)}</span>',
            escape(row.label),
            f"{row.num_characters:,}" if row.id else "-",
            " ".join(map(str, row.tiers)) if any(row.tiers) else "-",
            str(row.num_entities),
        )
        for row in found
    ]
    headers = ("line", "id", "question", "answer", "characters", "gold, tiers", "entities")
    return page(name, _STYLE, rows(headers, cells, numbers=frozenset({0, 4, 6})))


def _entities(found: View) -> Iterator[tuple[str, ...]]:
    for number, entity in enumerate(found.sample.rubrics, 1):
        places = [
            f'<a class="{p.tier} chip" href="#d{i}">{i}</a>'
            for i, (p, text) in enumerate(found.passages, 1)
            if number in text.entities
        ]
        also = ", ".join(found.sample.aliases.get(entity, ()))
        yield _number(number), escape(entity), escape(also), _folded(places) or "-"


def _context(found: View) -> Iterator[str]:
    """The prompt to scale: a piece for each document, in its place."""
    if not found.passages:
        return
    yield "<h2>Context</h2>"
    pieces = (
        f'<a class="{p.tier}" style="flex: {max(1, len(text.text))} 1 0" href="#d{i}" '
        f'title="{i}: {escape(p.title or p.id)}, {p.tier}" aria-label="document {i}"></a>'
        for i, (p, text) in enumerate(found.passages, 1)
    )
    few = " few" if len(found.passages) < MANY else ""
    yield f'<div class="context{few}">{"".join(pieces)}</div>'
    counts = {
        tier: (
            sum(p.tier == tier for p, _ in found.passages),
            sum(len(text.text) for p, text in found.passages if p.tier == tier),
        )
        for tier in _TIERS
    }
    whole = sum(size for _, size in counts.values()) or 1
    legend = (
        f'<span class="{tier}">{_TIERS[tier]}: {count} documents, {size / whole:.0%}</span>'
        for tier, (count, size) in counts.items()
    )
    yield f'<div class="legend">{"".join(legend)}</div>'


def _timeline(found: View) -> Iterator[str]:
    listed = steps(found)
    if not listed:
        return
    trajectory = found.sample.trajectory
    assert trajectory is not None, "it has steps"
    verdict = {True: "right", False: "wrong", None: "not judged"}[trajectory.is_correct]
    yield "<h2>What the agent did</h2>"
    yield f'<p class="faint">{escape(trajectory.agent or "agent")}, attempt {trajectory.attempt + 1}: {verdict}</p>'
    places = {p.title or p.id: i for i, (p, _) in reversed(list(enumerate(found.passages, 1)))}
    yield '<ol class="timeline">'
    for kind, said, related in listed:
        chips = [
            f'<a class="{tier} chip" href="#d{places[name]}">{escape(name)}</a>'
            if tier
            else f'<span class="outside chip" title="not in the prompt">{escape(name)}</span>'
            for name, tier in related
        ]
        documents = f'<div class="documents">{_folded(chips)}</div>' if chips else ""
        yield f'<li class="{kind}"><b>{kind}</b>{escape(said)}{documents}</li>'
    yield "</ol>"


def _documents(found: View) -> Iterator[str]:
    if not found.passages:
        return
    yield "<h2>Documents</h2>"
    for place, (p, text) in enumerate(found.passages, 1):
        names = " ".join(map(_number, text.entities))
        head = (
            f'{place} <span class="tier">{p.tier}</span>{escape(p.title or p.id)} '
            f'<span class="faint">{len(text.text):,} characters</span> {names}'
        )
        is_open = " open" if p.tier == "gold" else ""
        shown = f'<pre id="d{place}">{_marked(text)}</pre>'
        yield f'<details class="{p.tier}"{is_open}><summary>{head}</summary>{shown}</details>'


def _folded(chips: Sequence[str]) -> str:
    """The first chips, the others behind a word to click."""
    few, more = chips[:FEW], chips[FEW:]
    rest = f' <details class="more"><summary>{len(more)} more</summary>{" ".join(more)}</details>' if more else ""
    return " ".join(few) + rest


def _marked(text: Shown) -> str:
    return marked_html(text.text, text.marks)


def _number(number: int) -> str:
    return f'<mark style="--hue:{hue(number)}">{number}</mark>'
