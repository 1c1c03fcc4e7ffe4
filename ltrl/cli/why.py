"""Why a run, or a run of a sweep, ended or waits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ltrl.cli.runs import Json, RunName

if TYPE_CHECKING:
    from ltrl.array import Sweep
    from ltrl.state import Run

__all__ = ["why"]


def why(
    name: RunName = None,
    attempt: Annotated[
        int | None, typer.Option("--attempt", metavar="N", help="Attempt; by default the newest.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show why a run, or the first failed cell of a sweep, ended or waits: the cause, its place, what to change."""
    from ltrl import evidence, jobs, runs
    from ltrl.cli import show, sweeps
    from ltrl.cli.show import why as view
    from ltrl.project import root

    sweep = sweeps.find_sweep(name)
    (run,) = jobs.observe([_first_failed(sweep) if sweep else runs.find_run(name, project=root(Path.cwd()))])
    found = evidence.explain(run, attempt=attempt)
    show.json_(view.why_json(found, run.path)) if as_json else view.why(found, run.path)


def _first_failed(sweep: Sweep) -> Run:
    """The run, or stage of one, of the first cell that ended without success, or else of one that is not over; tells
    which others there are.
    """
    from ltrl import array, state
    from ltrl.cli import show
    from ltrl.errors import Code, fail

    cells = [cell for cell in array.statuses(sweep).values() if cell.row and not cell.is_complete]
    rows = [cell.row for cell in cells if cell.row]
    failed = [row for row in rows if row.state.is_finished]
    if not rows:
        hint = f"`ltrl status {sweep.id}` shows its cells"
        raise fail(Code.SWEEP, f"no cell of `{sweep.id}` has failed, runs or waits", hint=hint)
    what = "ended without success" if failed else "runs or waits"
    first, *others = failed or rows
    show.note(f"{len(others) + 1} of {len(sweep.cells)} cells {what}; this is the first of them")
    for row in others[:SHOWN]:
        show.note(f"  `ltrl why {row.id}`")
    if len(others) > SHOWN:
        show.note(f"  and {len(others) - SHOWN} more: `ltrl status {sweep.id}`")
    return state.read_run(Path(first.path))


SHOWN = 10
"""Other cells that are named."""
