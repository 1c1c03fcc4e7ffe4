"""Commands about many runs: compare, and what submit, status and cancel do with a sweep."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ltrl.array import Sweep
    from ltrl.bundle import SweepBundle
    from ltrl.state import Run

__all__ = ["cancel_sweep", "compare", "find_sweep", "runs_named", "show_sweep", "submit_sweep", "watch_sweep"]

PAUSE_S = 1.0


def compare(
    names: Annotated[list[str], typer.Argument(metavar="RUN|SWEEP...", help="Ids, beginnings of them, directories.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show in which fields runs differ and what came of them, the best reward first."""
    from ltrl import compare as comparer
    from ltrl import runs
    from ltrl.cli import show
    from ltrl.cli.show import sweep as views

    made = comparer.compare(runs.statuses(runs_named(names)))
    show.json_(views.comparison_json(made)) if as_json else views.comparison(made)


def runs_named(names: Sequence[str | None] | None) -> list[Run]:
    """The runs that names mean, all cells of a sweep for its name; the newest run where there are no names."""
    from ltrl import runs
    from ltrl.lineage import of_training
    from ltrl.project import root

    found: dict[Path, Run] = {}
    for name in names or [None]:
        sweep = find_sweep(name)
        several = [c.run for c in sweep.cells if c.run] if sweep else [runs.find_run(name, project=root(Path.cwd()))]
        found |= {run.path: of_training(run, "it has no steps and no reward") for run in several}
    return list(found.values())


def find_sweep(name: str | None) -> Sweep | None:
    """The submitted sweep that a name means; None when it means none."""
    if not name or ("-sweep" not in name and "/" not in name):
        return None  # without loading what makes sweeps
    from ltrl import array
    from ltrl.project import root

    return array.find(name, project=root(Path.cwd()))


def submit_sweep(
    bundles: SweepBundle,
    project: Path,
    *,
    resume_failed: bool,
    at_once: int | None,
    dry_run: bool,
    test_only: bool,
    watch: bool,
    as_json: bool,
) -> None:
    """Launches the cells of a compiled sweep, or shows what would be."""
    from dataclasses import asdict

    from ltrl import array
    from ltrl.cli import launch, show
    from ltrl.cli.show import sweep as views

    if dry_run or test_only:
        asked = array.requests(bundles, project=project, resume_failed=resume_failed, at_once=at_once)
        arrays = [one for one in asked if isinstance(one, array.Array)]
        if test_only:
            launch.ask_start([(one.requests[0], one.argv) for one in arrays], bundles.cells[0], as_json)
        elif as_json:
            listed = [asdict(one) for one in asked]
            show.json_(listed[0] if len(arrays) == 1 else listed)
        else:
            for one in asked:
                views.array(one) if isinstance(one, array.Array) else launch.show_request(one, bundles.cells[0])
        return
    done = array.submit(bundles, project=project, resume_failed=resume_failed, at_once=at_once)
    if not as_json:
        views.submission(done)
    if watch:
        watch_sweep(done.sweep.path, as_json=as_json)
    elif as_json:
        names = {what: list(getattr(done, what)) for what in ("launched", "waiting", "running", "complete", "failed")}
        show.json_({"sweep": done.sweep.id, "path": str(done.sweep.path), **names})
    else:
        show.out(done.sweep.id)


def show_sweep(sweep: Sweep, *, as_json: bool) -> None:
    """Shows the cells of a sweep."""
    from ltrl import array
    from ltrl.cli import show
    from ltrl.cli.show import sweep as views

    found = array.statuses(sweep)
    show.json_(views.cells_json(sweep, found)) if as_json else views.cells(sweep, found)


def watch_sweep(home: Path, *, as_json: bool) -> None:
    """Follows a sweep until nothing of it runs or waits; exit status 3 when a cell of its spec did not succeed in every
    stage.
    """
    from ltrl import array
    from ltrl.cli import show
    from ltrl.cli.show import sweep as views

    said = ""
    try:
        while True:
            sweep = array.read(home)
            found = array.statuses(sweep)
            if (now := views.counts(sweep, found)) != said:
                show.note(f"{sweep.id}: {now}")
                said = now
            rows = [row for cell in found.values() for row in cell.stages.values() if row]
            if not sweep.is_led and not any(row.is_open for row in rows):
                break
            time.sleep(PAUSE_S)
    except KeyboardInterrupt:
        show.note(f"\n`{home.name}` goes on; `ltrl status {home.name}` shows it, `ltrl cancel {home.name}` ends it")
        raise typer.Exit(0) from None
    show_sweep(sweep, as_json=as_json)
    if not all(found[cell.path.name].is_complete for cell in sweep.cells if cell.is_in_spec):
        raise typer.Exit(3)


def cancel_sweep(sweep: Sweep, *, as_json: bool) -> None:
    """Ends all jobs of a sweep and launches no more."""
    from ltrl import array
    from ltrl.cli import show

    ended = array.cancel(sweep)
    if not as_json:
        show.note(f"told {len(ended)} jobs to end" if ended else "nothing of it runs")
    show_sweep(array.read(sweep.path), as_json=as_json)
