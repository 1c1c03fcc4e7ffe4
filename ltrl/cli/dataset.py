"""Commands that make data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ltrl.cli.specs import Json, Overlays, Sets

__all__ = ["build"]


def build(
    spec: Annotated[Path, typer.Argument(metavar="SPEC", help="A file of `kind: dataset`.")],
    overlay: Overlays = None,
    set_: Sets = None,
    jobs: Annotated[
        int | None, typer.Option("-j", "--jobs", metavar="N", min=1, help="Threads; by default one for each CPU.")
    ] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Tell no progress.")] = False,
    as_json: Json = False,
) -> None:
    """Build a data set from a corpus. One that was stopped goes on where it was; the result is the same."""
    import os

    from ltrl import project, source
    from ltrl.cli import show
    from ltrl.compile import as_in_a_job
    from ltrl.dataset.build import build as make
    from ltrl.dataset.model import Dataset
    from ltrl.dataset.progress import Progress
    from ltrl.parse import parse

    dataset = parse(source.load(spec, overlays=overlay or (), sets=set_ or ()), Dataset)
    home = project.root(spec.parent)
    workers = jobs or len(os.sched_getaffinity(0))
    with as_in_a_job(home):
        built = make(dataset, project=home, workers=workers, progress=Progress(is_quiet=quiet))
    records = built.path / "data.jsonl"
    if as_json:
        show.json_({"path": str(records), "is_new": built.is_new, "card": built.card})
        return
    tokens = built.card["figures"]["tokens"]
    state = "built" if built.is_new else "unchanged"
    show.note(
        f"{state}: {dataset.records} records of {tokens['min']} to {tokens['max']} tokens; "
        f"their card: {show.relative(built.path / 'card.md')}"
    )
    show.out(show.relative(records))
