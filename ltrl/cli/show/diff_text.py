"""The words of a comparison that all formats share."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ltrl.backend import Grade
    from ltrl.diff import Change, Diff, Figure, Verdict
    from ltrl.diff.pairs import Comparison

__all__ = [
    "LEGEND",
    "Fold",
    "both",
    "count",
    "counted",
    "figures_counted",
    "fold",
    "hidden",
    "number",
    "ratio",
    "script",
    "sections",
    "summary",
    "title",
    "unchanged",
    "verdicts",
]

LEGEND = "new-run: changes what is learned; relaunch: changes how the job runs; note: changes a description"

LONGEST = 120
"""Characters of a value that are shown."""

NOTHING = "—"
"""Stands where one side has nothing."""

_GRADES = ("new-run", "relaunch", "note")
_SIMPLE = re.compile(r"[^\s,:#{}\[\]'\"`]([^\n{}\[\]]*[^\s,:#{}\[\]'\"`])?")


@dataclass(frozen=True)
class Fold:
    """Changes of fields: those that somebody wrote, and defaults that came or went with them."""

    shown: tuple[Change, ...]
    hidden: tuple[Change, ...]


def title(one: Diff) -> str:
    """What is compared, in one line."""
    if one.old is None:
        return f"{one.new} (new)"
    if one.new is None:
        return f"{one.old} (deleted)"
    return f"{one.old} → {one.new}"


def verdicts(one: Diff) -> Iterator[tuple[str, Verdict]]:
    """The two questions of a reviewer with their answers; a cluster profile has no rewards."""
    if one.is_same or None in (one.old, one.new):
        return
    yield "May an existing run resume with it?", one.resume
    if one.kind == "experiment":
        yield "Are the rewards of the two runs comparable?", one.rewards


def summary(found: Comparison) -> str:
    """One line over several comparisons."""
    kinds = ["new" if d.old is None else "deleted" if d.new is None else d.grade.value for d in found.diffs if d.grade]
    said = ", ".join(f"{kinds.count(kind)} {kind}" for kind in (*_GRADES, "new", "deleted") if kind in kinds)
    return f"{count(len(kinds), 'spec differs', 'specs differ')}: {said}" if kinds else "no change"


def count(number: int, one: str, many: str) -> str:
    """`1 spec`, `2 specs`."""
    return f"{number:,} {one if number == 1 else many}"


def counted(changes: Sequence[Change]) -> str:
    """How many changes of which grade."""
    grades = [change.grade for change in changes]
    each = ", ".join(f"{grades.count(grade)} {grade.value}" for grade in sorted(set(grades), key=_gravity))
    return f"{count(len(changes), 'change', 'changes')}: {each}" if changes else "no change"


def fold(changes: Sequence[Change], *, every: bool) -> Fold:
    """Sorted by grade, those that matter most first; what nobody wrote and only comes with others is hidden."""
    ordered = sorted(changes, key=lambda change: _gravity(change.grade))
    come_with = [c for c in ordered if c.follows and not every and not c.old_position and not c.new_position]
    return Fold(tuple(c for c in ordered if c not in come_with), tuple(come_with))


def hidden(found: Fold) -> str:
    """What is said of the changes that are not shown."""
    names = ", ".join(change.path for change in found.hidden)
    return f"and {count(len(found.hidden), 'change', 'changes')} that come with these: {names}"


def sections(changes: Iterable[Change]) -> dict[str, list[Change]]:
    """Compiled changes by file or table."""
    found: dict[str, list[Change]] = {}
    for change in changes:
        found.setdefault(change.section, []).append(change)
    return found


def value(item: Any) -> str:
    """A value in one line, as YAML has it."""
    match item:
        case None:
            return "null"
        case bool():
            return str(item).lower()
        case str():
            return item if _SIMPLE.fullmatch(item) else json.dumps(item, ensure_ascii=False)
        case dict():
            return "{" + ", ".join(f"{key}: {value(inner)}" for key, inner in item.items()) + "}"
        case list():
            return "[" + ", ".join(value(inner) for inner in item) + "]"
        case _:
            return str(item)


def both(change: Change) -> tuple[str, str]:
    """The old and the new value, each in one line; of long ones, the part where they differ."""
    old = NOTHING if change.kind == "added" else value(change.old)
    new = NOTHING if change.kind == "removed" else value(change.new)
    start = 0
    if max(len(old), len(new)) > LONGEST:
        same = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
        start = max(0, same - LONGEST // 4)
    return _cut(old, start), _cut(new, start)


def _cut(text: str, start: int) -> str:
    end = start + LONGEST
    return ("…" if start else "") + text[start:end] + ("…" if len(text) > end else "")


def script(change: Change) -> list[str] | None:
    """A change of lines of a script, each with `-` or `+` before it; None for any other change."""
    if not change.path.startswith("line "):
        return None
    texts = (("-", change.old), ("+", change.new))
    return [f"{sign} {line}" for sign, text in texts if text is not None for line in text.splitlines()]


def number(figure: Figure, item: float | str | None) -> str:
    """A figure's value with its unit."""
    match figure.unit, item:
        case _, None:
            return NOTHING
        case _, str():
            return item
        case "bytes", _:
            return f"{item / 2**40:,.2f} TiB" if abs(item) >= 2**40 else f"{item / 2**30:,.1f} GiB"
        case "weights", _:
            return f"{item / 1e9:,.2f} billion" if item >= 1e9 else f"{item / 1e6:,.2f} million"
        case "share", _:
            return f"{item:.1%}"
        case "minutes", _:
            return f"{item:,} min"
        case _:
            return f"{item:,}" if isinstance(item, int) or not item.is_integer() else f"{int(item):,}"


def ratio(figure: Figure) -> str:
    """How many times the old figure the new one is; empty where that says nothing."""
    old, new = figure.old, figure.new
    if isinstance(old, str) or isinstance(new, str) or not old or not new or old < 0 or new < 0 or old == new:
        return ""
    if max(old, new) >= 2 * min(old, new):
        return f"× {new / old:,.3g}" if new > old else f"÷ {old / new:,.3g}"
    return "" if figure.unit == "share" else f"{new / old - 1:+.1%}"


def unchanged(figures: Sequence[Figure]) -> str:
    """The figures that stay, in one line."""
    same = [f"{f.name} {number(f, f.new) if f.new is not None else 'unknown'}" for f in figures if not f.is_changed]
    return f"the same: {'; '.join(same)}" if same else ""


def figures_counted(figures: Sequence[Figure]) -> str:
    """How many of the figures change."""
    changed = sum(figure.is_changed for figure in figures)
    return f"{changed or 'none'} of {count(len(figures), 'figure', 'figures')} {'changes' if changed < 2 else 'change'}"


def _gravity(grade: Grade) -> int:
    return _GRADES.index(grade.value)
