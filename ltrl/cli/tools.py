"""Commands that look at what came out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ltrl.cli import complete

if TYPE_CHECKING:
    from ltrl.state import Run

__all__ = ["model", "report"]

MOST_COMPARED = 10
"""Runs whose differences from the first one a page tells."""


def report(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN...]",
            help="Ids of runs or a sweep, their beginnings, or directories; by default the newest.",
            autocompletion=complete.runs,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="FILE", help="Also write one HTML file that needs nothing else."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what came of runs, side by side; with `-o` also as a page with curves, responses, spec and differences."""
    from ltrl import bundle
    from ltrl.cli import show, sweeps
    from ltrl.errors import LtrlError
    from ltrl.report import CURVES, verdict
    from ltrl.report import report as make

    found = sweeps.runs_named(names)
    reports = []
    for run in found:
        try:
            reward = bundle.read(run.path / "bundle").resolved["spec"]["reward"]["backend"]
        except LtrlError as error:  # what was measured is there all the same
            show.note(f"`{run.id}`: {error.diagnostics[0].message}")
            reward = "unknown"
        reports.append(make(run.id, run.path, reward_backend=reward, num_steps=run.steps))
    said = verdict(reports)
    if out is not None:
        _write_page(found, out, said)
    if as_json:
        show.json_([show.report_json(r) for r in reports])
        return
    show.reports(reports, CURVES)
    if said:
        show.out(said)


def _write_page(found: Sequence[Run], out: Path, said: str | None) -> None:
    from ltrl.cli import show
    from ltrl.cli.show.report import page
    from ltrl.diff import Diff
    from ltrl.diff.pairs import compare
    from ltrl.diff.sides import Choices
    from ltrl.errors import LtrlError
    from ltrl.report.story import story
    from ltrl.writing import write

    first, *others = found
    diffs: list[Diff] = []
    if len(others) > MOST_COMPARED:
        show.note(f"only the first {MOST_COMPARED} are compared with `{first.id}`; `ltrl compare` has all of them")
    for other in others[:MOST_COMPARED]:
        try:
            diffs.append(compare(str(first.path), str(other.path), Choices()))
        except LtrlError as error:
            show.note(f"`{first.id}` and `{other.id}` are not compared: {error.diagnostics[0].message}")
    text = page([story(run) for run in found], diffs=diffs, verdict=said)
    write(out, text)
    show.note(f"page: {show.relative(out)}")


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
