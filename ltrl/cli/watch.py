"""The command that shows runs while they go on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ltrl.cli import complete

__all__ = ["watch"]


def watch(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN...]",
            help="Ids of runs or a sweep, their beginnings, or directories; by default the newest.",
            autocompletion=complete.runs,
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All runs of this project that are not over.")] = False,
    every_s: Annotated[
        float, typer.Option("--every", metavar="SECONDS", min=0.1, help="How often to look at the files.")
    ] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print one picture and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures once, as JSON.")] = False,
) -> None:
    """Show runs as they go on: curves, groups, lengths, speed, checkpoints, events and the log.

    On a terminal until `q` or Ctrl-C, which leave the runs alone; elsewhere a line for each change, until all are over.
    """
    import os
    import shutil
    import sys

    from ltrl import runs, state
    from ltrl.cli import show, sweeps
    from ltrl.cli.show.watch import frame, screen
    from ltrl.live import Live, Observer
    from ltrl.project import root

    if every and names:
        raise typer.BadParameter("`--all` watches every run of this project: name runs or give `--all`")
    if every:
        rows = runs.list_runs(root(Path.cwd()), everywhere=False)
        found = [state.read_run(Path(row.path)) for row in rows if row.is_open]
        if not found:
            show.note("nothing runs or waits here")
            return
    else:
        found = sweeps.runs_named(names)
    watched = [Live(run) for run in found]
    observer = Observer(watched)
    if as_json or once:
        observer.ask()
        for live in watched:
            while live.update():
                pass
        size = shutil.get_terminal_size((100, 40))
        if as_json:
            show.json_([frame.snapshot(live) for live in watched])
        else:
            screen.once(watched, width=size.columns, height=size.lines)
    elif sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown"):
        screen.on_screen(watched, observer, every_s=every_s)
        for live in watched:
            show.note(frame.headline(live))
    else:
        try:
            screen.on_lines(watched, observer, every_s=every_s)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
