"""Commands about runs that are there: status, logs, cancel, reindex."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ltrl.cli import complete

if TYPE_CHECKING:
    from ltrl.runs import Status
    from ltrl.state import Run

__all__ = ["Json", "RunName", "cancel", "exit_with", "logs", "reindex", "status", "watch_run"]

RunName = Annotated[
    str | None,
    typer.Argument(
        metavar="[RUN]",
        help="Id of a run, the beginning of it, or its directory; by default the newest.",
        autocompletion=complete.runs,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def status(
    name: RunName = None,
    every: Annotated[bool, typer.Option("--all", help="Every known run, not only those of this project.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on until nothing runs or waits any more; Ctrl-C ends it at any time.")
    ] = False,
    last: Annotated[
        int,
        typer.Option("-n", "--last", metavar="RUNS", min=0, help="Of those that are over, only the newest; 0: all."),
    ] = 50,
    as_json: Json = False,
) -> None:
    """Show how runs do: state, step, reward, time left, last checkpoint, GPU-hours; of a sweep, its cells."""
    from ltrl import jobs, runs
    from ltrl.cli import show, sweeps
    from ltrl.cli.show import status as view
    from ltrl.cli.show.preflight import show_preflight
    from ltrl.project import root

    project = root(Path.cwd())
    if sweep := sweeps.find_sweep(name):
        sweeps.watch_sweep(sweep.path, as_json=as_json) if watch else sweeps.show_sweep(sweep, as_json=as_json)
        return
    if name is not None:
        run = runs.find_run(name, project=project)
        if watch:
            row = watch_run(run)
            if as_json:
                show.json_(row.to_json())
            exit_with(row)
            return
        (run,) = jobs.observe([run])
        row = runs.row_of(run)
        if as_json:
            show.json_(view.run_json(row, run))
        else:
            view.run(row, run)
            show_preflight(run.path, row.attempt)
        return
    if watch:
        try:
            rows = view.follow_all(runs.watch_all(project, everywhere=every))
            if as_json:
                show.json_([r.to_json() for r in rows])
        except KeyboardInterrupt:
            raise typer.Exit(0) from None
        return
    rows = runs.list_runs(project, everywhere=every) or runs.list_runs(project)
    if as_json:
        show.json_([r.to_json() for r in rows])
    elif rows:
        view.runs(rows, last=last or len(rows))
    else:
        show.note("no runs yet; start one: `ltrl submit specs/quickstart.yaml`")


def logs(
    name: RunName = None,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on until the run is over, through later attempts.")
    ] = False,
    role: Annotated[
        Literal["driver", "job", "head", "worker", "ray", "all"], typer.Option("--role", help="Whose logs.")
    ] = "driver",
    rank: Annotated[
        int | None, typer.Option("--rank", metavar="N", help="Only those of one node; 0 has the driver and Ray's head.")
    ] = None,
    attempt: Annotated[
        int | None, typer.Option("--attempt", metavar="N", help="Attempt; by default the newest.")
    ] = None,
    last: Annotated[
        int | None, typer.Option("-n", "--last", metavar="LINES", min=0, help="Only the last lines of each log.")
    ] = None,
    list_: Annotated[
        bool, typer.Option("--list", help="List the logs instead; of every role unless one is named.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --list, print JSON.")] = False,
) -> None:
    """Print the logs of a run."""
    from ltrl import logs
    from ltrl.cli import show
    from ltrl.cli.show import status as view
    from ltrl.project import root
    from ltrl.runs import find_run

    run = find_run(name, project=root(Path.cwd()))
    if list_ or as_json:
        found = logs.log_files(run, attempt=attempt, role="all" if role == "driver" else role, rank=rank)
        show.json_(view.log_files_json(found)) if as_json else view.log_files(found)
        return
    found = logs.log_files(run, attempt=attempt, role=role, rank=None if follow else rank)
    many = role in ("worker", "ray", "all") and len(found) > 1
    read = logs.follow if follow else logs.read
    shown = found[0].attempt if found else attempt
    try:
        for line in read(run, attempt=attempt, role=role, rank=rank, last=last):
            if shown is not None and line.file.attempt != shown:
                show.note(f"attempt {line.file.attempt}:")
            shown = line.file.attempt
            show.out(f"{line.file.name}: {line.text}" if many else line.text, flush=follow)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    if shown is None:
        show.note(f"`{run.id}` has written nothing yet")


def cancel(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN...]",
            help="Ids of runs or a sweep, their beginnings, or directories; by default the newest.",
            autocompletion=complete.runs,
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All runs of this project that are not over.")] = False,
    as_json: Json = False,
) -> None:
    """End the jobs of runs, or all of a sweep; checkpoints and logs stay, and submitting again resumes them."""
    from ltrl import array, runs, state, turns
    from ltrl.cli import show, sweeps
    from ltrl.errors import LtrlError
    from ltrl.project import root

    project = root(Path.cwd())
    if every and names:
        raise typer.BadParameter("`--all` cancels every run of this project: name runs or give `--all`")
    if of_sweeps := [sweep for name in names or () if (sweep := sweeps.find_sweep(name))]:
        if len(names or ()) > 1:
            raise typer.BadParameter(f"`{of_sweeps[0].id}` is a sweep, which is cancelled by itself: name it alone")
        sweeps.cancel_sweep(of_sweeps[0], as_json=as_json)
        return
    if every:
        for home in filter(array.is_sweep, sorted((project / "runs").glob("*"))):
            turns.stop(home)  # of a sweep on this machine nothing more is launched
        rows = runs.list_runs(project, everywhere=False)
        found = [state.read_run(Path(row.path)) for row in rows if row.is_open]
    else:
        wanted: list[str | None] = [*names] if names else [None]
        found = list({run.path: run for run in (runs.find_run(name, project=project) for name in wanted)}.values())
    over = {run.path for run in found if runs.is_over(run)}
    ended, trouble = runs.cancel_all(found)
    for row in ended:
        if Path(row.path) in over:
            show.note(f"`{row.id}` was over already")
        elif row.state is state.State.SUBMITTING:
            show.note(f"`{row.id}` is being submitted: nothing is there to cancel yet")
        elif not row.state.is_finished and not trouble:
            show.note(f"`{row.id}` was told to end and has not yet; `ltrl status {row.id}` shows when it has")
    if as_json:
        show.json_([row.to_json() for row in ended])
    else:
        for row in ended:
            show.out(f"{row.id} {row.state}")
    if not found:
        show.note("nothing runs or waits here")
    if trouble:
        raise LtrlError(*trouble)


def reindex(
    directories: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[DIRECTORY...]", help="Where to look for runs; by default in this project."),
    ] = None,
) -> None:
    """Make the index of runs anew from run directories; `ltrl status --all` shows what it knows."""
    from ltrl import state
    from ltrl.cli import show
    from ltrl.project import root

    roots = directories or [root(Path.cwd())]
    show.out(f"{state.Index().rebuild(roots)} runs")


def watch_run(run: Run) -> Status:
    """Follows a run and the stages after it to their end; the last row. Ctrl-C leaves it running."""
    from ltrl import runs
    from ltrl.cli import show
    from ltrl.cli.show import status as view

    try:
        row = view.follow(runs.watch(run))
        for stage in runs.stages_after(run):
            row = view.follow(runs.watch(stage))
        return row
    except KeyboardInterrupt:
        show.note(f"\n`{run.id}` goes on; `ltrl status {run.id}` follows it, `ltrl cancel {run.id}` ends it")
        raise typer.Exit(0) from None


def exit_with(row: Status) -> None:
    """Ends with status 3 unless a run has succeeded."""
    from ltrl.cli import show
    from ltrl.state import State

    if row.state is State.FAILED:
        show.note(f"`ltrl why {row.id}` tells the first cause")
    if row.state is not State.COMPLETED:
        raise typer.Exit(3)
