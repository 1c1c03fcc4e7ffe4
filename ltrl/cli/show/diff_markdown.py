"""Comparisons as Markdown for a pull request: GitHub's and GitLab's dialect, folded, within the size of a comment."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ltrl.cli.show import printable
from ltrl.cli.show.diff_text import (
    LEGEND,
    both,
    count,
    counted,
    figures_counted,
    fold,
    hidden,
    number,
    ratio,
    script,
    sections,
    summary,
    unchanged,
    verdicts,
)

if TYPE_CHECKING:
    from ltrl.diff import Change, Diff, Figure
    from ltrl.diff.pairs import Comparison
    from ltrl.errors import Diagnostic

__all__ = ["markdown"]

LONGEST = 60_000
"""Characters; a comment on GitHub may have 65,536."""

MOST_ROWS = 200
"""Of a table, where all of them would make the comment too long."""

_SPECIAL = re.compile(r"[\\`*_\[\]<>#|~@&$!]|:(?=//)|(?<=www)\.", re.IGNORECASE)


def markdown(found: Comparison, *, layers: Sequence[str] = (), every: bool = False) -> str:
    """The text of a comment; without the compiled layer, and then with fewer rows, if it were too long."""
    kept = tuple(layers) or ("spec", "consequences", "compiled")
    text = _text(found, kept, every=every, most=None)
    for fewer, most in ((kept, MOST_ROWS), (kept, 20), (("spec",), 20), ((), 0)):
        if len(text) <= LONGEST:
            break
        text = _text(found, tuple(layer for layer in kept if layer in fewer), every=False, most=most)
    return text if len(text) <= LONGEST else f"{text[:LONGEST].rpartition(chr(10))[0]}\n\n…\n"


def _text(found: Comparison, layers: Sequence[str], *, every: bool, most: int | None) -> str:
    lines = [f"**ltrl diff:** {_escaped(summary(found))}", ""]
    for one in found.diffs:
        lines += [f"### {_title(one)}", "", *_verdicts(one)]
        if one.is_same:
            continue
        if "spec" in layers:
            shown = fold(one.spec, every=every)
            notes = [_escaped(hidden(shown))] if shown.hidden else []
            rows = [_change(change) for change in shown.shown]
            header = ("field", "before", "after", "grade", "what it means")
            lines += _folded(
                "Spec",
                counted(one.spec),
                [*_table(header, rows, most), *_paragraphs([*notes, f"<sub>{LEGEND}</sub>"])],
                is_open=one.new is not None,
            )
        if one.figures and "consequences" in layers:
            lines += _folded("Consequences", figures_counted(one.figures), [*_figures(one.figures)], is_open=True)
        if one.compiled and "compiled" in layers:
            tables: list[str] = []
            for name, changes in sections(one.compiled).items():
                keys = ("key", "before", "after", "comes from")
                cells = [(_code(c.path), *map(_code, both(c)), _code(c.cause)) for c in changes if not script(c)]
                hunks = [line for c in changes for line in (f"@@ {c.path} @@", *(script(c) or ())) if script(c)]
                tables += [
                    f"**{_code(name)}**",
                    "",
                    *(_table(keys, cells, most) if cells else ()),
                    *_block(hunks, most),
                ]
            lines += _folded("Compiled", count(len(one.compiled), "change", "changes"), tables, is_open=False)
    lines += [line for mistake in found.mistakes for line in _mistake(mistake)]
    return "\n".join(lines).rstrip("\n") + "\n"


def _title(one: Diff) -> str:
    if one.old is None or one.new is None:
        return f"{_code(one.new or one.old or '')} {'(new)' if one.old is None else '(deleted)'}"
    return f"{_code(one.old)} → {_code(one.new)}"


def _verdicts(one: Diff) -> Iterator[str]:
    if one.is_same or one.old is None or one.new is None:
        yield "no change" if one.is_same else _prose(one.resume.words)
    for question, verdict in verdicts(one):
        yield f"- {question} **{verdict.answer}**: {_prose(verdict.words)}"
    yield ""


def _folded(name: str, about: str, lines: Sequence[str], *, is_open: bool) -> list[str]:
    opened = " open" if is_open else ""
    summary_ = f"<summary><b>{name}</b>: {html.escape(about)}</summary>"
    return [f"<details{opened}>{summary_}", "", *lines, "</details>", ""]


def _change(change: Change) -> tuple[str, ...]:
    places = [
        f"<br><sub>{_code(place)}</sub>" if place else "<br><sub>default</sub>" if change.kind == "changed" else ""
        for place in (change.old_position, change.new_position)
    ]
    cells = [f"{_code(text)}{place}" for text, place in zip(both(change), places, strict=True)]
    said = "order<br>" if change.kind == "order" else ""
    return _code(change.path), *cells, change.grade.value, said + _prose(change.consequence or change.meaning)


def _figures(figures: Sequence[Figure]) -> Iterator[str]:
    rows = [
        (_escaped(f.name), *(_escaped(number(f, item)) for item in (f.old, f.new)), ratio(f), _prose(f.meaning))
        for f in figures
        if f.is_changed
    ]
    if rows:
        yield from _table(("figure", "before", "after", "", "which is"), rows, None)
    yield from _paragraphs([_escaped(unchanged(figures))] if unchanged(figures) else [])


def _mistake(mistake: Diagnostic) -> Iterator[str]:
    where = f"{_code(str(mistake.position))}: " if mistake.position else ""
    yield f"- **{mistake.severity} {mistake.code}**: {where}{_prose(mistake.message)}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], most: int | None) -> list[str]:
    shown = rows if most is None else rows[:most]
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header), *(f"| {' | '.join(row)} |" for row in shown), ""]
    return [*lines, f"and {len(rows) - len(shown)} more", ""] if len(rows) > len(shown) else lines


def _block(hunks: Sequence[str], most: int | None) -> list[str]:
    """Lines of scripts, in a fence that none of them can close."""
    if not hunks:
        return []
    shown = [printable(line) for line in (hunks if most is None else hunks[:most])]
    runs = re.findall("`+", "\n".join(shown))
    fence = "`" * max(3, max(map(len, runs), default=0) + 1)
    more = [f"and {count(len(hunks) - len(shown), 'more line', 'more lines')}", ""] if len(hunks) > len(shown) else []
    return [f"{fence}diff", *shown, fence, "", *more]


def _paragraphs(texts: Sequence[str]) -> list[str]:
    return [line for text in texts for line in (text, "")]


def _prose(text: str) -> str:
    """A sentence in which code stands between backticks; none of it is trusted."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return _escaped(text)
    return "".join(_code(part) if i % 2 else _escaped(part) for i, part in enumerate(parts))


def _escaped(text: str) -> str:
    """Text that means itself in a paragraph, a heading or a table, and neither links nor calls for anybody."""
    return _SPECIAL.sub(_entity, printable(text))


def _entity(found: re.Match[str]) -> str:
    apart = (
        "&#8203;" if found[0] in "@#" else ""
    )  # a space of no width: names and numbers are looked for after rendering
    return f"&#{ord(found[0])};{apart}"


def _code(text: str) -> str:
    """Text as code; in a code span, or where that cannot hold it in a table, as entities."""
    text = printable(text)
    if not text:
        return ""
    if "|" in text or "\\" in text:
        return f"<code>{_escaped(text)}</code>"
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    pad = " " if text[0] in " `" or text[-1] in " `" else ""
    return f"{fence}{pad}{text}{pad}{fence}"
