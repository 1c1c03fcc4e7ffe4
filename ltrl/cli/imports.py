"""Command `import`: from another launcher's file to a spec."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ltrl.cli.specs import Json, Sets

__all__ = ["import_"]


def import_(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A launch script of slime, or a NeMo-RL GRPO configuration (.yaml).")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", metavar="SPEC", help="Write the spec there, and its cluster profile to clusters/ beside it."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the spec; by default the file's.")] = None,
    set_: Sets = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")] = False,
    every: Annotated[bool, typer.Option("--all", help="List settings that are exact too.")] = False,
    as_json: Json = False,
) -> None:
    """Turn a launch script or a NeMo-RL configuration into a spec, and say what is exact and what is not.

    Nothing of the file is run. Without `--out` the spec goes to the output and the table to the error output.
    """
    from ltrl import project
    from ltrl.cli import show
    from ltrl.cli.show import imports as view
    from ltrl.importing import import_file
    from ltrl.writing import refuse_existing, write

    root = project.root(out.parent if out else Path())
    draft = import_file(file, name=name, project=root, out=out, sets=set_ or ())
    if out:
        cluster = out.parent / "clusters" / f"{draft.name}.yaml"
        refuse_existing([out, cluster], force=force)
        write(out, draft.spec)
        write(cluster, draft.cluster)
    if as_json:
        show.json_(view.draft_json(draft))
    else:
        view.draft(draft, every=every, written=out)
    if not draft.is_complete:
        raise typer.Exit(1)
