"""Comparisons as a person reads them in a terminal, and as programs do."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ltrl.cli.show import diagnostics, diagnostics_json, json_, printable
from ltrl.cli.show.diff_text import (
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
    title,
    unchanged,
    verdicts,
)

if TYPE_CHECKING:
    from rich.text import Text

    from ltrl.diff import Change, Diff, Figure
    from ltrl.diff.pairs import Comparison
    from ltrl.errors import Diagnostic

__all__ = ["FORMAT", "json", "lines", "mistakes", "raw", "terminal"]

FORMAT = 1
"""Of the JSON; the schema is docs/diff.schema.json."""

WIDTH = 120
"""Of what is not printed to a terminal."""

_COLOURS = {"new-run": "bold red", "relaunch": "yellow", "note": "dim", "no": "bold red", "with care": "yellow",
            "yes": "green", "does not apply": "dim"}  # fmt: skip


def raw(text: str) -> None:
    """Prints a result as it is."""
    sys.stdout.write(text)


def mistakes(found: Sequence[Diagnostic]) -> None:
    """Prints what is wrong with a side."""
    diagnostics(found)


def json(found: Comparison) -> None:
    """Prints comparisons for programs."""
    json_(
        {
            "format": FORMAT,
            "comparisons": [_plain(one) for one in found.diffs],
            "mistakes": diagnostics_json(found.mistakes),
        }
    )


def _plain(one: Diff) -> dict[str, Any]:
    data = asdict(one)
    for change in (*data["spec"], *data["compiled"]):
        change["grade"] = change["grade"].value
    for layer, unused in (("spec", ("section", "cause")), ("compiled", ("old_position", "new_position", "meaning"))):
        data[layer] = [{key: item for key, item in change.items() if key not in unused} for change in data[layer]]
    grade = one.grade.value if one.grade else None
    return {"kind": data.pop("kind"), "is_same": one.is_same, "grade": grade, **data}


def lines(old: str, new: str, old_path: str, new_path: str) -> None:
    """Prints what differs between two texts, line by line."""
    texts = old.splitlines(keepends=True), new.splitlines(keepends=True)
    for line in difflib.unified_diff(*texts, f"a/{old_path}", f"b/{new_path}"):
        raw(printable(line.rstrip("\r\n")) + "\n")


def terminal(found: Comparison, *, layers: Sequence[str] = (), every: bool = False) -> None:
    """Prints comparisons; compiled changes are counted unless they are asked for."""
    from rich.console import Console
    from rich.padding import Padding

    console = Console(highlight=False, soft_wrap=False, width=None if sys.stdout.isatty() else WIDTH, emoji=False)
    if len(found.diffs) > 1 or not (found.diffs or found.mistakes):
        console.print(_text(summary(found), "bold"))
    for one in found.diffs:
        if len(found.diffs) > 1:
            console.print()
        for indent, text in _lines(one, layers, every=every):
            console.print(Padding(text, (0, 0, 0, indent), expand=False) if indent else text)
    if found.mistakes:
        diagnostics(found.mistakes)


def _lines(one: Diff, layers: Sequence[str], *, every: bool) -> Iterator[tuple[int, Any]]:
    """(indent, text or table) of everything that is printed of one comparison."""
    yield 0, _text(title(one), "bold")
    if one.is_same:
        yield 0, _text("no change")
        return
    if None in (one.old, one.new):
        yield 0, _text(one.resume.words)
    if not layers:
        for question, verdict in verdicts(one):
            yield 0, _text(f"{question} ") + _text(verdict.answer, _COLOURS[verdict.answer]) + f": {verdict.words}"
    if not layers or "spec" in layers:
        yield from _spec(one, every=every)
    if not layers or "consequences" in layers:
        yield from _figures(one.figures, every=every)
    if one.compiled and (not layers or "compiled" in layers):
        yield from _compiled(one.compiled, folded=not layers and not every)


def _spec(one: Diff, *, every: bool) -> Iterator[tuple[int, Any]]:
    yield 0, ""
    if None in (one.old, one.new):
        yield 0, _text("SPEC", "bold") + f"  {count(len(one.spec), 'field', 'fields')}"
        for change in one.spec if one.new or every else ():
            place = change.new_position or change.old_position or ""
            yield (
                2,
                _text(change.path, "bold") + f"  {both(change)[0 if one.new is None else 1]}  " + _text(place, "dim"),
            )
        return
    yield 0, _text("SPEC", "bold") + f"  {counted(one.spec)}"
    found = fold(one.spec, every=every)
    for change in found.shown:
        grade = _text(f"{change.grade.value:9}", _COLOURS[change.grade.value])
        yield 2, grade + " " + _text(change.path, "bold") + "  " + _step(change)
        if change.old_position or change.new_position:
            yield 12, _text(_positions(change), "dim")
        if said := change.consequence or change.meaning:
            yield 12, _text(said)
    if found.hidden:
        yield 2, _text(hidden(found), "dim")


def _figures(figures: Sequence[Figure], *, every: bool) -> Iterator[tuple[int, Any]]:
    from rich.table import Table

    changed = [figure for figure in figures if figure.is_changed]
    if not figures:
        return
    yield 0, ""
    yield 0, _text("CONSEQUENCES", "bold") + f"  {figures_counted(figures)}"
    table = Table.grid(padding=(0, 2))
    for figure in figures if every else changed:
        style = "" if figure.is_changed else "dim"
        old, new = (number(figure, item) for item in (figure.old, figure.new))
        cells = [figure.name, old, "→", new, ratio(figure), figure.meaning]
        table.add_row(*(_text(cell, "dim" if i == len(cells) - 1 else style) for i, cell in enumerate(cells)))
    yield 2, table
    if (same := unchanged(figures)) and not every:
        yield 2, _text(same, "dim")


def _compiled(changes: Sequence[Change], *, folded: bool) -> Iterator[tuple[int, Any]]:
    by_section = sections(changes)
    counted = ", ".join(f"{len(found)} in {name}" for name, found in by_section.items())
    yield 0, ""
    yield 0, _text("COMPILED", "bold") + f"  {counted}" + ("; `--all` shows them" if folded else "")
    for name, found in () if folded else by_section.items():
        yield 2, _text(name, "bold")
        for change in found:
            lines_ = script(change)
            cause = _text(f"  from {change.cause}" if change.cause else "", "dim")
            yield 4, _text(change.path) if lines_ else _text(change.path) + "  " + _step(change) + cause
            for line in lines_ or ():
                yield 6, _text(line, "red" if line[0] == "-" else "green")


def _step(change: Change) -> Text:
    old, new = both(change)
    return _text("order: " if change.kind == "order" else "") + _text(old, "red") + " → " + _text(new, "green")


def _positions(change: Change) -> str:
    names = [change.old_position or "default", change.new_position or "default"]
    if change.kind == "added":
        return f"at {change.new_position}"
    if change.kind == "removed":
        return f"at {change.old_position}"
    return " → ".join(names)


def _text(text: str, style: str = "") -> Text:
    from rich.text import Text

    return Text(printable(text), style=style, overflow="fold")
