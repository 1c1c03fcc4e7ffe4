"""What became of another launcher's file."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltrl.cli.show import diagnostics, diagnostics_json, note, out, table

if TYPE_CHECKING:
    from ltrl.backend import Fidelity
    from ltrl.errors import Position
    from ltrl.importing import Draft

__all__ = ["draft", "draft_json"]


def draft(made: Draft, *, every: bool, written: Path | None) -> None:
    """Prints the spec, or where it was written, and the table of fidelity."""
    from ltrl.dump import scalar

    if written is None:
        out(made.spec.rstrip("\n"))
    main = made.source.name
    rows = [r for r in made.imported.rows if every or r.grade != "exact"]
    cells = [
        (
            _where(r.position, main),
            r.setting,
            r.field if r.value is None else f"{r.field}: {scalar(r.value)}",
            r.key,
            r.grade,
            r.note,
        )
        for r in rows
    ]
    if cells:
        headers = ("line", "setting", "field of the spec", "engine key", "", "why")
        table(headers, cells, to=sys.stdout if written else sys.stderr)
    counts = Counter(r.grade for r in made.imported.rows)
    grades: tuple[Fidelity, ...] = ("exact", "closest", "not expressible")
    if counts["not compared"]:
        grades = (*grades, "not compared")
    said = ", ".join(f"{counts[grade]} {grade}" for grade in grades)
    note(f"{len(made.imported.rows)} settings: {said}" + ("" if every else " (--all lists the exact ones too)"))
    if written:
        out(str(written))
    if made.diagnostics:
        diagnostics(made.diagnostics)


def _where(position: Position | None, main: str) -> str:
    if position is None:
        return ""
    return str(position.line) if position.source.name == main else f"{Path(position.source.name).name}:{position.line}"


def draft_json(made: Draft) -> dict[str, Any]:
    """The same for programs."""
    return {
        "engine": made.engine,
        "spec": made.spec,
        "cluster": made.cluster,
        "is_complete": made.is_complete,
        "rows": [
            {
                "setting": r.setting,
                "grade": r.grade,
                "field": r.field,
                "value": r.value,
                "key": r.key,
                "note": r.note,
                "file": r.position.source.name if r.position else None,
                "line": r.position.line if r.position else None,
            }
            for r in made.imported.rows
        ],
        "diagnostics": diagnostics_json(made.diagnostics),
    }
