"""Commands that launch: submit, resume, rehearse."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ltrl.cli import complete
from ltrl.cli.runs import Json, exit_with, watch_run
from ltrl.cli.specs import Cluster, Overlays, Sets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ltrl.bundle import Bundle, SweepBundle
    from ltrl.lineage import Fork
    from ltrl.state import Run
    from ltrl.submit import Request

__all__ = ["ask_start", "launch", "rehearse", "resume", "show_request", "submit", "would_start"]

Target = Annotated[
    Path | None,
    typer.Argument(
        metavar="[SPEC|BUNDLE]",
        help="What to run; by default the bundle compiled last here.",
        autocompletion=complete.specs,
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the exact request and launch nothing.")]
Watch = Annotated[bool, typer.Option("--watch", help="Follow the run to its end; Ctrl-C leaves it running.")]


def submit(
    target: Target = None,
    cluster: Cluster = None,
    overlay: Overlays = None,
    set_: Sets = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start a new run even if this one exists.")] = False,
    fork: Annotated[
        str | None,
        typer.Option("--fork", metavar="RUN[@STEP]", help="Start a new run from a checkpoint of another."),
    ] = None,
    resume_failed: Annotated[
        bool, typer.Option("--resume-failed", help="Of a sweep, launch only the cells that failed.")
    ] = False,
    at_once: Annotated[
        int | None, typer.Option("--jobs", metavar="N", min=1, help="Of a sweep, run at most N cells at a time.")
    ] = None,
    dry_run: DryRun = False,
    test_only: Annotated[
        bool, typer.Option("--test-only", help="Ask Slurm when its jobs would start; launch nothing.")
    ] = False,
    watch: Watch = False,
    as_json: Json = False,
) -> None:
    """Launch a spec or a bundle; submitting one again resumes its run at the last checkpoint.

    Of a spec with a `sweep`, every cell that has no run yet is launched.
    """
    from ltrl.bundle import SweepBundle
    from ltrl.cli import sweeps
    from ltrl.cli.which import checkpoint

    bundle, project = _bundle(target, cluster, overlay or (), set_ or ())
    if isinstance(bundle, SweepBundle):
        if fresh or fork:
            raise typer.BadParameter("--fresh and --fork start one run; the cells of a sweep have one run each")
        _check_modules(bundle.cells[0], dry_run=dry_run or test_only)
        sweeps.submit_sweep(
            bundle,
            project,
            resume_failed=resume_failed,
            at_once=at_once,
            dry_run=dry_run,
            test_only=test_only,
            watch=watch,
            as_json=as_json,
        )
        return
    if resume_failed or at_once:
        raise typer.BadParameter("--resume-failed and --jobs go with a sweep, which this is not")
    chosen = checkpoint(fork, project=project) if fork else None
    if test_only:
        would_start(bundle, project, fresh=fresh, fork=chosen, as_json=as_json)
        return
    launch(bundle, project, fresh=fresh, fork=chosen, dry_run=dry_run, watch=watch, as_json=as_json)


def resume(
    name: Annotated[
        str,
        typer.Argument(
            metavar="RUN", help="Id of a run, its beginning, or its directory.", autocompletion=complete.runs
        ),
    ],
    target: Annotated[
        Path | None,
        typer.Argument(metavar="[SPEC|BUNDLE]", help="Go on with this; by default with what the run was made of."),
    ] = None,
    cluster: Cluster = None,
    overlay: Overlays = None,
    set_: Sets = None,
    dry_run: DryRun = False,
    watch: Watch = False,
    as_json: Json = False,
) -> None:
    """Start a further attempt of a run; what it learns must not change, how it is launched may."""
    from ltrl import bundle as bundles
    from ltrl.errors import Code, fail
    from ltrl.project import root
    from ltrl.runs import find_run

    run = find_run(name, project=root(Path.cwd()))
    if target is not None:
        given, _ = _bundle(target, cluster, overlay or (), set_ or ())
        if isinstance(given, bundles.SweepBundle):
            raise typer.BadParameter("of a sweep, `ltrl submit --resume-failed` goes on with what failed")
        bundle = given
    elif cluster or overlay or set_:
        raise fail(
            Code.BAD_SET, "the run's bundle is compiled already", hint=f"name the spec: `ltrl resume {name} SPEC …`"
        )
    else:
        bundle = bundles.read(run.path / "bundle")
    launch(bundle, Path(run.project), run=run, dry_run=dry_run, watch=watch, as_json=as_json)


def would_start(bundle: Bundle, project: Path, *, fresh: bool = False, fork: Fork | None = None, as_json: bool) -> None:
    """Asks Slurm when the jobs of a bundle would start; launches nothing."""
    from ltrl import submit as launcher

    _check_modules(bundle, dry_run=True)
    every = launcher.requests(bundle, project=project, fresh=fresh, fork=fork)
    ask_start([(asked, asked.argv) for asked in every if asked.executor == "slurm"], bundle, as_json)


def launch(
    bundle: Bundle,
    project: Path,
    *,
    fresh: bool = False,
    fork: Fork | None = None,
    run: Run | None = None,
    dry_run: bool,
    watch: bool,
    as_json: bool,
) -> None:
    """Launches a bundle, or shows what would be launched."""
    from dataclasses import asdict

    from ltrl import runs
    from ltrl import submit as launcher
    from ltrl.cli import show

    _check_modules(bundle, dry_run=dry_run)
    if dry_run:
        every = launcher.requests(bundle, project=project, fresh=fresh, fork=fork, run=run)
        if as_json:
            show.json_([asdict(one) for one in every] if len(every) > 1 else asdict(every[0]))
            return
        for one in every:
            show_request(one, bundle)
        return
    anew = "--fresh" if run is None else f"ltrl {'eval' if run.is_evaluation else 'submit'} SPEC --fresh"
    run = launcher.submit(bundle, project=project, fresh=fresh, fork=fork, run=run)
    row = runs.status(run)
    if run.is_complete:
        show.note(f"`{run.id}` is complete: nothing to do; `{anew}` starts it anew in a directory of its own")
    if run.is_evaluation and not watch:
        show.note(f"`ltrl eval show {run.id}` shows its results{'' if run.is_complete else ' when it is complete'}")
    if not watch:
        if as_json:
            show.json_(row.to_json())
        elif run.is_complete:
            show.out(row.id)
        elif row.job_id is None:
            show.note(f"started: its stages take turns here; `ltrl status {row.id}` follows them")
            show.out(row.id)
        else:
            again = f"attempt {row.attempt}, " if row.attempt > 1 else ""
            begun = f"from step {fork.step} of `{fork.run.id}`, " if fork else ""
            show.note(f"submitted: {again}{begun}job {row.job_id} on `{row.cluster}`; `ltrl logs -f` follows it")
            show.out(row.id)
        return
    row = watch_run(run)
    if run.is_evaluation:
        show.note(f"`ltrl eval show {run.id}` shows its results")
    if as_json:
        show.json_(row.to_json())
    exit_with(row)


def rehearse(
    spec: Annotated[
        Path, typer.Argument(metavar="SPEC", help="The experiment's YAML file.", autocompletion=complete.specs)
    ],
    cluster: Cluster = None,
    overlay: Overlays = None,
    set_: Sets = None,
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
    row = watch_run(run)
    if as_json:
        show.json_(row.to_json())
    else:
        show.out(row.path)
    exit_with(row)


def _check_modules(bundle: Bundle, *, dry_run: bool) -> None:
    from ltrl.backend import create
    from ltrl.cli import show
    from ltrl.errors import LtrlError

    if bundle.is_evaluation:
        return
    if bundle.plan["launch"]["executor"] == "local" and (missing := create(bundle.engine).missing()):
        if not dry_run:
            raise LtrlError(missing)
        show.diagnostics([replace(missing, severity="warning")])


def _bundle(
    target: Path | None, cluster: str | None, overlays: list[Path] | tuple[()], sets: list[str] | tuple[()]
) -> tuple[Bundle | SweepBundle, Path]:
    """What to launch, compiled if need be, and the project that it belongs to."""
    from ltrl import bundle as bundles
    from ltrl.cli import show
    from ltrl.errors import Code, fail
    from ltrl.project import last_bundle, root

    if target is not None and not target.is_dir():
        from ltrl.compile import compile_bundle, compile_sweep, is_sweep

        project = root(target.parent)
        if is_sweep(target, overlays=overlays, sets=sets):
            swept, _ = compile_sweep(target, cluster=cluster, overlays=overlays, sets=sets)
            show.note(f"compiled: {len(swept.cells)} bundles in {show.relative(swept.path)}")
            return swept, project
        # a run has a copy of its bundle: one that was compiled before, for another time limit say, is not in the way
        made, _, is_new = compile_bundle(target, cluster=cluster, overlays=overlays, sets=sets, replace=True)
        show.note(f"{'compiled' if is_new else 'unchanged'}: {show.relative(made.path)}")
        return made, project
    if overlays or sets:
        raise fail(Code.BAD_SET, "a bundle is compiled already: `--set` and `--overlay` go with a spec")
    path = target if target is not None else last_bundle()
    if target is None:
        show.note(f"bundle compiled last here: {show.relative(path)}")
    found = bundles.read_sweep(path) if bundles.is_sweep(path) else bundles.read(path)
    first = found if isinstance(found, bundles.Bundle) else found.cells[0]
    if cluster is not None and Path(cluster).stem != first.plan["cluster"]:
        raise fail(
            Code.UNKNOWN_CLUSTER,
            f"`{show.relative(found.path)}` was compiled for `{first.plan['cluster']}`, not for `{cluster}`",
            hint=f"compile its spec for it: `ltrl submit SPEC --cluster {cluster}`",
        )
    return found, root(found.path.parent)


def ask_start(jobs: Sequence[tuple[Request, tuple[str, ...]]], bundle: Bundle, as_json: bool) -> None:
    """Shows what Slurm says of the jobs of one submission, that nobody submits: each with the command that would submit
    it; none are for Slurm when the bundle is not.
    """
    from ltrl import slurm
    from ltrl.cli import show
    from ltrl.errors import Code, Diagnostic, LtrlError, fail

    if not jobs:
        message = f"`--test-only` asks Slurm, and `{bundle.plan['cluster']}` runs on this machine"
        raise fail(Code.SUBMIT_FAILED, message, hint="choose a Slurm cluster: `--cluster NAME`")
    answers = []
    for job, argv in jobs:
        # the jobs that it waits for are not there yet
        words = [word for word in argv[:-1] if not word.startswith(("--dependency=", "--kill-on-invalid-dep="))]
        try:
            asked = slurm.ask_start((*words, str(_script(job))), clients=job.clients)
        except slurm.Unreachable as error:
            raise fail(Code.NO_SLURM, f"Slurm does not answer: {error}") from None
        answers.append((job.stage, *asked))
    texts = [said if len(jobs) == 1 else f"{stage}: {said}" for stage, _, said in answers]
    is_taken = [would_start for _, would_start, _ in answers]
    if as_json:
        stages = [{"stage": stage, "would_start": taken, "said": said} for stage, taken, said in answers]
        show.json_({"would_start": all(is_taken), "said": "; ".join(texts), "stages": stages})
        if not all(is_taken):
            raise typer.Exit(1)
        return
    for text, taken in zip(texts, is_taken, strict=True):
        if taken:
            show.out(text)
    refused = [text for text, taken in zip(texts, is_taken, strict=True) if not taken]
    if refused:
        raise LtrlError(*(Diagnostic(Code.SUBMIT_FAILED, text) for text in refused))


def show_request(asked: Request, bundle: Bundle) -> None:
    """Prints a job that would be launched."""
    import json
    import shlex

    from ltrl.cli import show
    from ltrl.cli.show.container import container_rows
    from ltrl.cli.show.walltime import show_reserve
    from ltrl.container import of_stage
    from ltrl.spec import Container

    goes_on = f", from the checkpoint of step {asked.checkpoint}" if asked.checkpoint is not None else ""
    kind = f"attempt {asked.attempt} of an existing run{goes_on}" if asked.is_resume else f"a new run{goes_on}"
    stage = "" if asked.stage == "train" else f"stage `{asked.stage}`, "
    most = f"{asked.minutes} minutes at most on `{asked.cluster}`"
    show.note(f"nothing is launched: this would be {stage}{kind}, {most}")
    if asked.reserve:
        show_reserve(asked.reserve, asked.set_up_seconds)
    if written := bundle.resolved["cluster"].get("container"):
        image = bundle.plan["stage_launches"].get(asked.stage, {}).get("image")
        container = of_stage(Container.model_validate_json(json.dumps(written)), image)
        for what, text in container_rows(container, bundle.resolved["origins"]):
            show.note(f"{what or '      '} {text}")
    show.out(f"# {asked.script}")
    show.out(f"cd {shlex.quote(str(asked.directory))}")
    if asked.executor == "local":  # sbatch gets them as words of the command
        for variable, value in asked.environment.items():
            show.out(f"export {variable}={shlex.quote(value)}")
    show.out(shlex.join(asked.argv))
    if asked.executor == "slurm":
        show.out("".join(f"#| {line}\n" for line in _script(asked).read_text(encoding="utf-8").splitlines()).rstrip())


def _script(asked: Request) -> Path:
    """The script of a job in the bundle; the run directory is not there yet."""
    return asked.bundle / ("" if asked.stage == "train" else f"stages/{asked.stage}") / asked.script.name
