"""Commands that look at what came out."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["report"]


def report(
    runs: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN...]", help="Names, prefixes or directories.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what came of runs, side by side; by default of the last one."""
    from pathlib import Path

    from ltrl import bundle
    from ltrl.cli import show
    from ltrl.project import root
    from ltrl.report import CURVES, verdict
    from ltrl.report import report as make
    from ltrl.runs import find_run

    reports = []
    names: list[str | None] = [*runs] if runs else [None]
    for name in names:
        run = find_run(name, project=root(Path.cwd()))
        reward = bundle.read(run.path / "bundle").resolved["spec"]["reward"]["backend"]
        reports.append(make(run.id, run.path, reward_backend=reward, num_steps=run.steps))
    if as_json:
        show.json_([show.report_json(r) for r in reports])
        return
    show.reports(reports, CURVES)
    if said := verdict(reports):
        show.out(said)
