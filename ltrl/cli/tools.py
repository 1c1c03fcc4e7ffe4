"""Commands that look at what came out."""

from __future__ import annotations

from typing import Annotated

import typer

from ltrl.cli import complete

__all__ = ["model", "report"]


def report(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN...]", help="Names, prefixes or directories.", autocompletion=complete.runs),
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


def model(
    name: Annotated[str, typer.Argument(help="Name on the Hugging Face hub, or a directory with a `config.json`.")],
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Ask the Hugging Face hub, and keep its `config.json` in `models/`.")
    ] = False,
    revision: Annotated[str | None, typer.Option("--revision", help="Branch, tag or commit on the hub.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what is known of a model: its shape, parameters, longest context and stop tokens."""
    from dataclasses import asdict
    from pathlib import Path

    from ltrl import catalog
    from ltrl.cli import show
    from ltrl.project import root

    project = root(Path.cwd())
    card = catalog.fetch(name, project=project, revision=revision) if fetch else catalog.find(name, project=project)
    if as_json:
        counts = {"num_parameters": card.num_parameters, "num_active_parameters": card.num_active_parameters}
        show.json_({**asdict(card), **counts})
        return
    if fetch:
        show.note(f"kept in {show.relative(project / catalog.KEPT / name)}: specs may name it now")
    show.model_card(card)
