"""Commands that give a trained model away: `ltrl export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ltrl.cli import complete

__all__ = ["export"]


def export(
    name: Annotated[
        str,
        typer.Argument(
            metavar="RUN", help="Its id, the beginning of it, or its directory.", autocompletion=complete.runs
        ),
    ],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where the model goes.")],
    to: Annotated[Literal["hf"], typer.Option("--to", help="Form: a Hugging Face model directory.")] = "hf",  # noqa: ARG001
    step: Annotated[
        int | None, typer.Option("--step", min=0, metavar="N", help="Step of the checkpoint; by default the newest.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be done and do nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make a Hugging Face model of a checkpoint, with a model card; where that needs the cluster, by a job there."""
    from ltrl import export as exporting
    from ltrl import exported
    from ltrl.cli import show
    from ltrl.cli.which import checkpoint
    from ltrl.errors import Code, fail
    from ltrl.project import root

    chosen = checkpoint(name if step is None else f"{name}@{step}", project=root(Path.cwd()))
    out = directory.absolute()
    exported.check_place(directory, run=chosen.run.path, project=Path(chosen.run.project))
    if not force and out.exists() and any(out.iterdir()):
        raise fail(Code.FILE_EXISTS, f"`{directory}` is there already", hint="another directory, or `--force`")
    told = {"run": chosen.run.id, "step": chosen.step, "directory": str(out)}
    if exporting.is_made_here(chosen):
        if not dry_run:
            exporting.make_here(chosen, out)
        if as_json:
            show.json_({**told, "job": None})
        else:
            show.note(f"step {chosen.step} of `{chosen.run.id}`" + (" would be exported here" if dry_run else ""))
            show.out(str(directory))
        return
    if dry_run:
        from ltrl.cli.launch import show_request

        with exporting.request(chosen, out) as (asked, bundle):
            show.json_({**told, "job": list(asked.argv)}) if as_json else show_request(asked, bundle)
        return
    run = exporting.submit(chosen, out)
    job = run.latest.job_id if run.latest else None
    if as_json:
        show.json_({**told, "job": job})
    else:
        show.note(f"submitted: step {chosen.step} goes to {directory}, job {job}; `ltrl logs {run.id} -f` follows it")
        show.out(run.id)
