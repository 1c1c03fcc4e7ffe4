"""The cells of a sweep: documents of ordinary runs, made from one that describes many."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from ltrl import source
from ltrl.backend import Model
from ltrl.errors import Code, Diagnostic, LtrlError, raise_if_any
from ltrl.parse import parse
from ltrl.source import Document, Keys
from ltrl.spec import Sweep

__all__ = ["Cell", "cells", "each", "sweep_id"]

MAX_CELLS = 1000
"""Slurm's own limit of an array, unless a site changed it (`MaxArraySize`)."""

MAX_NAME = 63
"""Of a spec's `name`."""

Placed = tuple[str, Keys]
"""A field and where in the sweep its value is written."""

T = TypeVar("T")


@dataclass(frozen=True)
class Cell:
    """One run of a sweep."""

    name: str
    """The spec's name and what makes this cell different."""
    values: Mapping[str, Any]
    """The swept fields, by dotted path."""
    document: Document
    """Without `sweep`; the swept values have the positions they have in the sweep."""


class _Swept(Model):
    """The part of a spec that this module reads."""

    sweep: Sweep
    """As in an experiment."""


def cells(document: Document) -> tuple[Cell, ...]:
    """Every cell, in the order of the sweep; raises LtrlError with everything that is wrong with the sweep itself."""
    written = Document({"sweep": document.data["sweep"]}, document.sources, document.keys, document.values)
    sweep = parse(written, _Swept).sweep
    raise_if_any(_mistakes(sweep, document))
    grid: list[list[Placed]] = [
        [(path, ("sweep", "grid", path, i)) for i in range(len(sweep.grid[path]))] for path in sweep.grid
    ]
    longest = max(map(len, sweep.zip.values()), default=0)
    zipped: list[list[Placed]] = [[(path, ("sweep", "zip", path, i)) for path in sweep.zip] for i in range(longest)]
    cases: list[list[Placed]] = [
        [(path, ("sweep", "cases", i, path)) for path in case] for i, case in enumerate(sweep.cases)
    ]
    rows = [
        dict([*point, *row, *case])
        for point in itertools.product(*grid)
        for row in zipped or [[]]
        for case in cases or [[]]
    ]
    kept, unused = [], set(range(len(sweep.exclude)))
    for row in rows:
        values = {path: _at(document, origin) for path, origin in row.items()}
        out = {
            i
            for i, without in enumerate(sweep.exclude)
            if all(path in values and values[path] == value for path, value in without.items())
        }
        unused -= out
        if not out:
            kept.append((row, values))
    raise_if_any(_left_out(document, unused, kept, rows))
    names = _names(document, kept)
    return tuple(_cell(document, row, values, name) for (row, values), name in zip(kept, names, strict=True))


def sweep_id(document: Document) -> str:
    """A name for the whole: the same as long as what all its runs share is the same."""
    shared = {key: value for key, value in document.data.items() if key not in ("sweep", "name", "description")}
    digest = hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).hexdigest()
    return f"{document.data.get('name', 'unnamed')}-sweep-{digest[:8]}"


def each(found: Iterable[Cell], act: Callable[[Cell], T]) -> list[T]:
    """What an action gives for every cell; raises LtrlError with the mistakes of all of them at once.

    A mistake that several cells share is told once, with the cells that have it; one of all cells is the spec's own.
    """
    results: list[T] = []
    wrong: dict[Diagnostic, list[str]] = {}
    every = list(found)
    for cell in every:
        try:
            results.append(act(cell))
        except LtrlError as error:
            for diagnostic in error.diagnostics:
                wrong.setdefault(diagnostic, []).append(cell.name)
    raise_if_any(
        d if len(names) == len(every) > 1 else replace(d, message=f"{_listed(names)}: {d.message}")
        for d, names in wrong.items()
    )
    return results


def _cell(document: Document, row: Mapping[str, Keys], values: Mapping[str, Any], name: str) -> Cell:
    made = document
    for path, origin in row.items():
        if path != "name":
            made = source.place(made, path, origin)
    data = {key: value for key, value in made.data.items() if key != "sweep"}
    places = {keys: position for keys, position in made.values.items() if keys[:1] != ("sweep",)}
    if isinstance(data.get("name"), str):
        data["name"] = name
    return Cell(
        name, {path: value for path, value in values.items() if path != "name"}, replace(made, data=data, values=places)
    )


def _mistakes(sweep: Sweep, document: Document) -> Iterator[Diagnostic]:
    def wrong(message: str, *path: str | int, key: bool = False, hint: str | None = None) -> Diagnostic:
        return Diagnostic(Code.SWEEP, message, document.at(("sweep", *path), key=key), hint)

    lengths = {path: len(items) for path, items in sweep.zip.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"`{path}` has {length}" for path, length in lengths.items())
        yield wrong(f"fields that go together need as many values each: {listed}", "zip", key=True)
    if not (sweep.grid or sweep.zip or sweep.cases):
        yield wrong("a sweep without fields", key=True, hint="write `grid`, `zip` or `cases` with dotted field paths")
    places: list[tuple[str, Keys]] = [
        *((path, ("grid", path)) for path in sweep.grid),
        *((path, ("zip", path)) for path in sweep.zip),
    ]
    for i, case in enumerate(sweep.cases):
        places += [(path, ("cases", i, path)) for path in case]
        if not case:
            yield wrong("an empty case", "cases", i)
    swept = {path: where[0] for path, where in places}
    for path, where in places:
        first = path.partition(".")[0]
        if first in ("kind", "sweep", "extends") or (path == "name" and where[0] != "cases"):
            yield wrong(f"`{path}` cannot be swept", *where, key=True)
        elif first == "cluster":
            hint = "all cells are one array job; submit the spec once for each profile"
            yield wrong(f"`{path}` belongs to the cluster profile, and a sweep has one", *where, key=True, hint=hint)
        for other, home in swept.items():
            if (other == path and home != where[0]) or other.startswith(f"{path}."):
                yield wrong(f"`{path}` sets what `sweep.{home}` sets with `{other}`", *where, key=True)
    for i, without in enumerate(sweep.exclude):
        for path in without:
            if path not in swept:
                yield wrong(f"`{path}` is excluded but not swept", "exclude", i, path, key=True)
    size = max(lengths.values(), default=1) * max(len(sweep.cases), 1)
    for items in sweep.grid.values():
        size *= len(items)
    if size > MAX_CELLS:
        yield wrong(f"{size} runs, more than {MAX_CELLS}", key=True, hint="an array job of Slurm has no more")


def _left_out(document: Document, unused: Iterable[int], kept: list[Any], rows: list[Any]) -> Iterator[Diagnostic]:
    for i in sorted(unused):
        yield Diagnostic(Code.SWEEP, "this excludes nothing", document.at(("sweep", "exclude", i)))
    if rows and not kept:
        yield Diagnostic(Code.SWEEP, "`exclude` leaves no run", document.at(("sweep", "exclude"), key=True))


def _names(document: Document, found: Sequence[tuple[Mapping[str, Keys], Mapping[str, Any]]]) -> list[str]:
    """Short, unique, and good for directories: what differs, as `<spec>_<field>-<value>_<field>-<value>`.

    A case with a `name` has that in the place of its fields.
    """
    varying = [
        path
        for path in dict.fromkeys(path for _, values in found for path in values)
        if len({json.dumps(values.get(path), sort_keys=True) for _, values in found}) > 1
    ]
    tied = _tied(document)
    short = _short(path for path in varying if path != "name" and path not in tied)
    names = []
    for row, values in found:
        in_case = {path for path in row if row[path][1] == "cases" and "name" in row}
        parts = [
            _slug(values[path]) if path == "name" else f"{short[path]}-{_slug(values[path])}"
            for path in varying
            if path in row and path not in tied and (path == "name" or path not in in_case)
        ]
        names.append("_".join([str(document.data.get("name", "")), *parts]))
    count = Counter(names)
    return [
        name if len(name) <= MAX_NAME and count[name] == 1 else f"{name[:56].rstrip('._-')}-{_digest(values)}"
        for name, (_, values) in zip(names, found, strict=True)
    ]


def _tied(document: Document) -> set[str]:
    """Fields of a `zip` whose values follow from those of its first."""
    zipped: Mapping[str, list[Any]] = document.data["sweep"].get("zip", {})
    first, *others = zipped or [""]
    distinct = {json.dumps(value, sort_keys=True) for value in zipped.get(first, ())}
    return set(others) if len(distinct) == len(zipped.get(first, ())) else set()


def _short(paths: Iterable[str]) -> dict[str, str]:
    """As few of the last steps of each path as tell them apart."""
    every = list(paths)
    found = {}
    for path in every:
        steps = path.split(".")
        ends = (steps[-length:] for length in range(1, len(steps) + 1))
        end = next(e for e in ends if sum(other.split(".")[-len(e) :] == e for other in every) == 1)
        found[path] = _slug(".".join(end))
    return found


def _slug(value: Any) -> str:
    """A value in lower-case letters, digits, `.` and `-`."""
    match value:
        case None | bool():
            text = json.dumps(value)
        case float():
            text = min(f"{value:g}", re.sub(r"\.?0*e([+-]?)0*", r"e\1", f"{value:e}").replace("e+", "e"), key=len)
        case dict():
            text = str(value.get("backend") or value.get("name") or _digest(value))
        case list():
            text = "-".join(_slug(item) for item in value)
        case _:
            text = str(value).rstrip("/").rpartition("/")[2]  # a path is told by its end
    return re.sub(r"[^a-z0-9.]+", "-", text.lower())[:24].strip(".-") or "x"


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:6]


def _at(document: Document, path: Keys) -> Any:
    value: Any = document.data
    for step in path:
        value = value[step]
    return value


def _listed(names: list[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
