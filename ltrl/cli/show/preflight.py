"""What the nodes of an attempt were found to have."""

from __future__ import annotations

from pathlib import Path

from ltrl.cli import show
from ltrl.preflight import Report, reports

__all__ = ["show_preflight"]

MAX_ROWS = 16
"""Nodes that are listed, those with a failure first."""


def show_preflight(run: Path, attempt: int) -> None:
    """Prints a row for each node; nothing where no node was checked."""
    found = sorted(reports(run / "attempts" / str(attempt)), key=lambda r: (r.first_failure is None, r.node))
    if not found:
        return
    names = list(dict.fromkeys(check.name for report in found for check in report.checks))
    rows = [_row(report, names) for report in found[:MAX_ROWS]]
    show.table((f"node of attempt {attempt}", *names), rows)
    if len(found) > MAX_ROWS:
        show.note(f"{len(found) - MAX_ROWS} more nodes")


def _row(report: Report, names: list[str]) -> tuple[str, ...]:
    cells = {
        name: "; ".join(
            c.found if c.is_ok else f"NO: {c.found}, not {c.wanted}" for c in report.checks if c.name == name
        )
        for name in names
    }
    return (report.node, *(cells[name] for name in names))
