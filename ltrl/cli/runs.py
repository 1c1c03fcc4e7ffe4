"""Commands about runs: submit, status, logs, cancel."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from ltrl.bundle import Bundle
    from ltrl.runs import Status
    from ltrl.state import Run
    from ltrl.submit import Request

__all__ = ["cancel", "logs", "rehearse", "status", "submit"]

RunName = Annotated[
    str | None,
    typer.Argument(metavar="[RUN]", help="Id of a run, the beginning of it, or its directory; by default the newest."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def submit(
    target: Annotated[
        Path | None,
        typer.Argument(metavar="[SPEC|BUNDLE]", help="What to run; by default the bundle compiled last here."),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option("--cluster", metavar="NAME|PATH", help="Cluster profile; by default the engine's usual one."),
    ] = None,
    overlay: Annotated[
        list[Path] | None, typer.Option("-f", "--overlay", metavar="FILE", help="Put a file's values on top.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Set one field: `--set algorithm.steps=100`."),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start a new run even if this one exists.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the exact request and launch nothing.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Follow the run to its end; Ctrl-C leaves it running.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Launch a spec or a bundle; submitting one again resumes its run at the last checkpoint."""
    from ltrl import runs
    from ltrl import submit as launcher
    from ltrl.backend import create
    from ltrl.cli import show
    from ltrl.errors import LtrlError

    bundle, project = _bundle(target, cluster, overlay or (), set_ or ())
    if bundle.plan["launch"]["executor"] == "local" and (missing := create(bundle.engine).missing()):
        if not dry_run:
            raise LtrlError(missing)
        show.diagnostics([replace(missing, severity="warning")])
    if dry_run:
        asked = launcher.request(bundle, project=project, fresh=fresh)
        show.json_(_request_json(asked)) if as_json else _show_request(asked)
        return
    run = launcher.submit(bundle, project=project, fresh=fresh)
    row = runs.status(run)
    if run.is_complete:
        show.note(f"`{run.id}` is complete: nothing to do; `--fresh` starts it anew in a directory of its own")
    if not watch:
        if as_json:
            show.json_(row.to_json())
        elif run.is_complete:
            show.out(row.id)
        else:
            again = f"attempt {row.attempt}, " if row.attempt > 1 else ""
            show.note(f"submitted: {again}job {row.job_id} on `{row.cluster}`; `ltrl logs -f` follows it")
            show.out(row.id)
        return
    row = _watch(run)
    if as_json:
        show.json_(row.to_json())
    _exit_with(row)


def rehearse(
    spec: Annotated[Path, typer.Argument(help="The spec.")],
    cluster: Annotated[
        str | None,
        typer.Option("--cluster", metavar="NAME|PATH", help="Where it is to run afterwards; by default the engine's."),
    ] = None,
    overlay: Annotated[
        list[Path] | None, typer.Option("-f", "--overlay", metavar="FILE", help="Put a file's values on top.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Set one field: `--set engine.rehearsal.steps=10`."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Try a run's plumbing on this machine before GPUs are booked: its engine's own code, made small."""
    from ltrl import submit as launcher
    from ltrl.backend import create
    from ltrl.cli import show
    from ltrl.compile import compile_bundle, prepare
    from ltrl.errors import Code, LtrlError, fail
    from ltrl.project import root

    overlays, sets = overlay or [], set_ or []
    planned = prepare(spec, cluster=cluster, overlays=overlays, sets=sets)
    show.diagnostics(planned.warnings)
    changes = create(planned.resolved.engine).rehearsal
    if not changes:
        name = planned.resolved.engine.name
        raise fail(Code.ENGINE_LIMIT, f"the engine `{name}` needs no rehearsal: it runs on this machine as it is")
    kept = [s for s in sets if not s.startswith("cluster.")]
    bundle, small, _ = compile_bundle(spec, cluster="local", overlays=overlays, sets=[*kept, *changes], replace=True)
    if missing := create(small.resolved.engine).missing():
        raise LtrlError(missing)
    show.note(f"as compiled for `{planned.resolved.cluster_name}`, but on this machine and small: {', '.join(changes)}")
    run = launcher.submit(bundle, project=root(spec.parent), fresh=True)
    row = _watch(run)
    if as_json:
        show.json_(row.to_json())
    else:
        show.out(row.path)
    _exit_with(row)


def status(
    name: RunName = None,
    every: Annotated[bool, typer.Option("--all", help="Every known run, not only those of this project.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Follow one run to its end.")] = False,
    as_json: Json = False,
) -> None:
    """Show how runs do: state, step, reward, time left, last checkpoint."""
    from ltrl import runs
    from ltrl.cli import show
    from ltrl.project import root

    project = root(Path.cwd())
    if watch:
        _exit_with(_watch(runs.find_run(name, project=project)))
        return
    if name is not None:
        row = runs.status(runs.find_run(name, project=project))
        show.json_(row.to_json()) if as_json else _show_status(row)
        return
    rows = runs.list_runs(project)
    if not every:
        rows = tuple(r for r in rows if Path(r.path).is_relative_to(project)) or rows
    if as_json:
        show.json_([r.to_json() for r in rows])
    elif rows:
        headers = ("run", "state", "step", "reward", "time left", "checkpoint", "attempts", "job", "")
        show.table(headers, [_row(r) for r in rows])
    else:
        show.note("no runs yet; start one: `ltrl submit specs/quickstart.yaml`")


def logs(
    name: RunName = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the attempt is over.")] = False,
    role: Annotated[
        Literal["driver", "job", "head", "worker", "all"], typer.Option("--role", help="Whose logs.")
    ] = "driver",
    attempt: Annotated[
        int | None, typer.Option("--attempt", metavar="N", help="Attempt; by default the newest.")
    ] = None,
) -> None:
    """Print the logs of a run."""
    from ltrl import runs
    from ltrl.cli import show
    from ltrl.project import root

    run = runs.find_run(name, project=root(Path.cwd()))
    many = len(runs.log_files(run, attempt=attempt, role=role)) > 1 and role in ("worker", "all")
    read = runs.follow_logs if follow else runs.read_logs
    try:
        for line in read(run, attempt=attempt, role=role):
            show.out(f"{line.source}: {line.text}" if many else line.text)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def cancel(name: RunName = None, as_json: Json = False) -> None:
    """End the job of a run; its checkpoints and logs stay, and submitting again resumes it."""
    from ltrl import runs
    from ltrl.cli import show
    from ltrl.project import root

    project = root(Path.cwd())
    found = runs.find_run(name, project=project)
    before = runs.status(found)
    if before.state.is_finished:
        show.note(f"`{found.id}` is over already: {before.state}")
        row = before
    else:
        row = runs.cancel(found)
    show.json_(row.to_json()) if as_json else show.out(f"{row.id} {row.state}")


def _bundle(
    target: Path | None, cluster: str | None, overlays: list[Path] | tuple[()], sets: list[str] | tuple[()]
) -> tuple[Bundle, Path]:
    """The bundle to launch, compiled if need be, and the project that it belongs to."""
    from ltrl import bundle as bundles
    from ltrl.cli import show
    from ltrl.errors import Code, fail
    from ltrl.project import last_bundle, root

    if target is not None and not target.is_dir():
        from ltrl.compile import compile_bundle

        made, _, is_new = compile_bundle(target, cluster=cluster, overlays=overlays, sets=sets)
        show.note(f"{'compiled' if is_new else 'unchanged'}: {show.relative(made.path)}")
        return made, root(target.parent)
    if overlays or sets:
        raise fail(Code.BAD_SET, "a bundle is compiled already: `--set` and `--overlay` go with a spec")
    found = bundles.read(target if target is not None else last_bundle())
    if target is None:
        show.note(f"bundle compiled last here: {show.relative(found.path)}")
    if cluster is not None and Path(cluster).stem != found.plan["cluster"]:
        raise fail(
            Code.UNKNOWN_CLUSTER,
            f"`{show.relative(found.path)}` was compiled for `{found.plan['cluster']}`, not for `{cluster}`",
            hint=f"compile its spec for it: `ltrl submit SPEC --cluster {cluster}`",
        )
    return found, root(found.path.parent)


def _watch(run: Run) -> Status:
    from ltrl import runs
    from ltrl.cli import show

    try:
        return show.follow(runs.watch(run))
    except KeyboardInterrupt:
        show.note(f"\n`{run.id}` goes on; `ltrl status {run.id}` follows it, `ltrl cancel {run.id}` ends it")
        raise typer.Exit(0) from None


def _exit_with(row: Status) -> None:
    from ltrl.state import State

    if row.state is not State.COMPLETED:
        raise typer.Exit(3)


def _row(row: Status) -> tuple[str, ...]:
    from ltrl.cli import show

    return (
        row.id,
        row.state,
        f"{row.step}/{row.steps}",
        "-" if row.reward is None else f"{row.reward:.3f}",
        "-" if row.eta_seconds is None else show.duration(row.eta_seconds),
        "-" if row.last_checkpoint is None else str(row.last_checkpoint),
        str(row.attempt),
        row.job_id or "-",
        row.reason or "",
    )


def _show_status(row: Status) -> None:
    from ltrl.cli import show

    show.table(
        ("", row.id),
        [
            ("state", f"{row.state}" + (f": {row.reason}" if row.reason else "")),
            ("step", f"{row.step} of {row.steps}"),
            ("reward", "-" if row.reward is None else f"{row.reward:.3f}, mean of the last steps"),
            ("time left", "-" if row.eta_seconds is None else show.duration(row.eta_seconds)),
            ("last checkpoint", "none" if row.last_checkpoint is None else f"step {row.last_checkpoint}"),
            ("attempts", str(row.attempt)),
            ("job", f"{row.job_id or '-'} on `{row.cluster}` ({row.executor})"),
            ("engine", row.engine),
            ("fingerprint", row.fingerprint[:16]),
            ("directory", row.path),
        ],
    )


def _show_request(asked: Request) -> None:
    import shlex

    from ltrl.cli import show

    goes_on = f", from the checkpoint of step {asked.checkpoint}" if asked.checkpoint is not None else ""
    kind = f"attempt {asked.attempt} of an existing run{goes_on}" if asked.is_resume else "a new run"
    show.note(f"nothing is launched: this would be {kind}, {asked.minutes} minutes at most on `{asked.cluster}`")
    show.out(f"# {asked.script}, a copy of {asked.bundle / asked.script.name}")
    show.out(f"cd {shlex.quote(str(asked.directory))}")
    if asked.executor == "local":  # sbatch gets them as words of the command
        for variable, value in asked.environment.items():
            show.out(f"export {variable}={shlex.quote(value)}")
    show.out(shlex.join(asked.argv))


def _request_json(asked: Request) -> dict[str, object]:
    from dataclasses import asdict

    return {key: str(value) if isinstance(value, Path) else value for key, value in asdict(asked).items()}
