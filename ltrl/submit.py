"""From a bundle to a running job, or to several that follow each other: the stages of one run.

A bundle has one run directory, so submitting it again resumes: a new attempt in the same directory. The attempt is on
disk before anything is launched and its job id after, so that a crash leaves a visible attempt and never a lost job.
A stage beside the training has a directory of its own in it, `stages/NAME`, that is like the one of a run.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ltrl import bundle as bundles
from ltrl import jobs, lineage, local, render, slurm, state, turns, walltime
from ltrl.bundle import LOCK, Bundle
from ltrl.checkpoints import newest_usable
from ltrl.disk import Writes
from ltrl.errors import Code, LtrlError, fail, raise_if_any
from ltrl.lineage import Fork
from ltrl.spec import Restarts
from ltrl.stages import FOLDER, TRAIN, run_id, run_of, stage_dir, stage_of
from ltrl.state import Attempt, Run, State
from ltrl.walltime import Reserve

__all__ = [
    "Request",
    "attempt_of",
    "check_environment",
    "check_turns",
    "held",
    "is_service",
    "launch_again",
    "launch_stage",
    "make_request",
    "prepare_run",
    "remaining",
    "request",
    "requests",
    "run_dir_of",
    "script_folder",
    "stage_runs",
    "stages_of",
    "submit",
    "unfinished",
]


@dataclass(frozen=True, slots=True)
class Request:
    """Exactly what is going to be launched."""

    bundle: Path
    stage: str
    run_id: str
    """Of the run, whatever the stage."""
    run_dir: Path
    """Of the stage: the run directory itself for the training."""
    attempt: int
    is_resume: bool
    """Whether the run directory exists already."""
    checkpoint: int | None
    """Step that it goes on from."""
    executor: str
    cluster: str
    minutes: int
    script: Path
    argv: tuple[str, ...]
    directory: Path
    """Where the command is started: the job's working directory."""
    environment: dict[str, str]
    """Variables that the job gets beside those of the submitter."""
    log: Path
    """The driver's output."""
    after: str | None = None
    """Job that must succeed first."""
    beside: tuple[str, ...] = ()
    """Jobs of services that must have begun."""
    forked_from: str | None = None
    """`PATH@STEP` of the checkpoint that a new run begins with."""
    reserve: Reserve | None = None
    """What is kept of a Slurm job's time for its end."""
    set_up_seconds: float | None = None
    """From the start of the job to its first step, where an attempt has measured it."""
    gpus: int = 0
    """On all nodes together."""
    clients: Path | None = None
    """Directory of Slurm's commands; None for those on the PATH."""


def request(
    bundle: Bundle, *, project: Path, fresh: bool = False, fork: Fork | None = None, run: Run | None = None
) -> Request:
    """The first job that `submit` would launch; writes nothing. Raises LtrlError when it would refuse."""
    return requests(bundle, project=project, fresh=fresh, fork=fork, run=run)[0]


def requests(
    bundle: Bundle, *, project: Path, fresh: bool = False, fork: Fork | None = None, run: Run | None = None
) -> tuple[Request, ...]:
    """Every job that `submit` would launch, in order; writes nothing. Raises LtrlError when it would refuse.

    `project` is the directory that relative data paths refer to; `fresh` asks for a new run directory, `fork` for one
    that begins with another run's checkpoint, `run` for a further attempt of a run whatever its name.
    """
    if fork:
        lineage.check_fork(fork, bundle)
    run_dir = run.path if run else run_dir_of(bundle, project, fresh=fresh or fork is not None)
    stages = unfinished(bundle, run_dir)
    if not stages:
        raise _is_complete(state.read_run(run_dir))
    asked: list[Request] = []
    after, beside = None, list[str]()
    for stage in stages:
        begins = None if asked else fork
        needed = tuple(beside) if stage == TRAIN else ()
        asked.append(make_request(bundle, project, run_dir, stage, after=after, beside=needed, fork=begins))
        if is_service(bundle, stage):
            beside.append(f"<job of `{stage}`>")
        else:
            after = f"<job of `{stage}`>"
    return tuple(asked)


def submit(
    bundle: Bundle, *, project: Path, fresh: bool = False, fork: Fork | None = None, run: Run | None = None
) -> Run:
    """Launches a bundle; returns its run with the new attempt, or as it is when all its stages are complete already.

    Raises LtrlError: RUN_BUSY when the run has a job already, RESUME_REFUSED when it must not go on, FORK_REFUSED when
    it cannot begin with the checkpoint, SUBMIT_FAILED when the executor refused, UNWRITABLE when the disk did.
    """
    check_environment(bundle)
    fresh = fresh or fork is not None
    run_dir = run.path if run else run_dir_of(bundle, project, fresh=fresh)
    check_turns(run_dir)
    if not (stages := unfinished(bundle, run_dir)):
        return state.read_run(run_dir)
    take_turns = len(stages) > 1 and bundle.plan["launch"]["executor"] == "local"
    with held(run_dir, fresh=fresh):
        stages = unfinished(bundle, run_dir)
        if take_turns:
            prepare_run(bundle, make_request(bundle, project, run_dir, stages[0], fork=fork), fork=fork)
        _end_services(bundle, run_dir)
        after, beside = None, list[str]()
        for stage in () if take_turns else stages:
            begins = fork if stage == stages[0] else None
            needed = tuple(beside) if stage == TRAIN else ()
            asked = make_request(bundle, project, run_dir, stage, after=after, beside=needed, fork=begins)
            prepared = prepare_run(bundle, asked, fork=begins)
            state.Index().add(prepared.path)
            launched = _launched(state.add_attempt(prepared, attempt_of(asked)), asked)
            assert launched.latest is not None
            assert launched.latest.job_id is not None
            if is_service(bundle, stage):
                beside.append(launched.latest.job_id)
            else:
                after = launched.latest.job_id
    if take_turns:
        chain = [turns.Turn(str(bundle.path), str(run_dir), stage) for stage in stages]
        turns.start(run_dir, project=project, chains=[chain])
    return state.read_run(run_dir)


def launch_stage(bundle: Bundle, *, project: Path, run_dir: Path, stage: str) -> Run:
    """Launches one stage of a run whose turn it is, unless it has succeeded by now; returns its run."""
    with held(run_dir, fresh=False):
        if stage not in unfinished(bundle, run_dir):
            return state.read_run(stage_dir(run_dir, stage))
        if is_service(bundle, stage):
            _end_services(bundle, run_dir)
        asked = make_request(bundle, project, run_dir, stage)
        run = prepare_run(bundle, asked)
        state.Index().add(run.path)
        return _launched(state.add_attempt(run, attempt_of(asked)), asked)


def launch_again(
    bundle: Bundle, *, project: Path, run_dir: Path, stage: str, files: Mapping[str, Mapping[str, object]]
) -> Run:
    """Launches a stage whatever became of the training and of the stage before; `files` go into the attempt's
    directory, as JSON. Returns the stage's run; raises LtrlError while the stage has a job.
    """
    with held(run_dir, fresh=False):
        for run in jobs.observe(stage_runs(run_dir, [stage])):
            _check_resume(bundle, run)
        asked = make_request(bundle, project, run_dir, stage)
        run = prepare_run(bundle, asked)
        state.Index().add(run.path)
        run = state.add_attempt(run, attempt_of(asked))
        for name, content in files.items():
            state.write_json(run.attempt_dir(asked.attempt) / name, content)
        return _launched(run, asked)


def stages_of(bundle: Bundle) -> tuple[str, ...]:
    """Names of a bundle's stages, in order."""
    return tuple(bundle.plan["stages"])


def is_service(bundle: Bundle, stage: str) -> bool:
    """Whether a stage runs beside the training."""
    return bool(bundle.plan["stage_launches"].get(stage, {}).get("is_service"))


def unfinished(bundle: Bundle, run_dir: Path) -> tuple[str, ...]:
    """The stages that a submission launches: the first one that did not succeed, and all after it; services with the
    training alone.

    Raises LtrlError when one of them must not be.
    """
    return remaining(bundle, jobs.observe(stage_runs(run_dir, stages_of(bundle))))


def remaining(bundle: Bundle, observed: Iterable[Run]) -> tuple[str, ...]:
    """As `unfinished`, when the runs of the stages have been looked at already."""
    found = {stage_of(run.path): run for run in observed}
    stages = stages_of(bundle)
    services = {stage for stage in stages if is_service(bundle, stage)}
    parts = [stage for stage in stages if stage not in services]
    first = next((i for i, s in enumerate(parts) if not _has_succeeded(found.get(s), bundle)), len(parts))
    chosen = {*parts[first:], *(services if TRAIN in parts[first:] else ())}
    for stage in parts[first:]:
        if stage in found:
            _check_resume(bundle, found[stage])
    return tuple(stage for stage in stages if stage in chosen)


def stage_runs(run_dir: Path, stages: Iterable[str]) -> list[Run]:
    """The runs of stages that are there."""
    paths = (stage_dir(run_dir, stage) for stage in stages)
    return [state.read_run(path) for path in paths if state.is_run(path)]


def _has_succeeded(run: Run | None, bundle: Bundle) -> bool:
    return run is not None and run.is_complete and run.fingerprint == bundle.fingerprint


def _end_services(bundle: Bundle, run_dir: Path) -> None:
    """Ends the services that a training before this one has left behind; they would end by themselves, but later."""
    left = [run for run in stage_runs(run_dir, stages_of(bundle)) if is_service(bundle, stage_of(run.path))]
    _, trouble = jobs.cancel([run for run in left if run.latest and not run.latest.state.is_finished])
    raise_if_any(trouble)


@contextmanager
def held(run_dir: Path, *, fresh: bool) -> Iterator[None]:
    """The run directory, made if need be and locked; one that did not become a run is taken away again."""
    try:
        is_new = not run_dir.exists()
        run_dir.mkdir(parents=True, exist_ok=not fresh)
    except FileExistsError:
        raise fail(Code.RUN_BUSY, f"`{run_dir.name}` was just made by someone else", hint="submit again") from None
    except OSError as error:
        raise state.unwritable(error, run_dir) from None
    with state.locked(run_dir):
        try:
            yield
        except Exception:
            if is_new and not state.is_run(run_dir):
                shutil.rmtree(run_dir, ignore_errors=True)
            raise


def make_request(
    bundle: Bundle,
    project: Path,
    run_dir: Path,
    stage: str = TRAIN,
    *,
    after: str | None = None,
    beside: tuple[str, ...] = (),
    fork: Fork | None = None,
) -> Request:
    """One job of a run; raises LtrlError when its paths cannot be those of a job."""
    own_dir = stage_dir(run_dir, stage)
    known = state.read_run(own_dir) if state.is_run(own_dir) else None
    number = state.next_number(own_dir)
    launch: dict[str, Any] = {**bundle.plan["launch"], **bundle.plan["stage_launches"].get(stage, {})}
    executor = str(launch["executor"])
    cluster: dict[str, Any] = bundle.resolved["cluster"]
    payload = launch.get("payload") is not None
    _check_path(own_dir, project, executor=executor, container=bool(cluster.get("container")), payload=payload)
    variables = {
        "LTRL_RUN_DIR": str(own_dir),
        "LTRL_RUN_ID": run_dir.name,
        "LTRL_ATTEMPT": str(number),
        "LTRL_PROJECT_DIR": str(project),
    }
    if not cluster.get("container"):  # `python` in the job is the one that runs ltrl
        variables["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    if is_service(bundle, stage):
        variables["LTRL_SERVES"] = str(state.next_number(run_dir))  # or an attempt after it
    folder = own_dir / "attempts" / str(number)
    minutes = int(launch["minutes"])
    clients = slurm.clients((cluster.get("slurm") or {}).get("clients")) if executor == "slurm" else None
    reserve: Reserve | None = None
    if executor == "slurm":
        variables["LTRL_MARK"] = jobs.mark_of(own_dir)  # of the jobs that this one submits
        script = own_dir / "bundle" / "job.sbatch"
        text = bundle.read(f"{script_folder(stage)}job.sbatch")
        options: list[str] = []
        if stage == TRAIN and not bundle.is_evaluation:
            reserve = walltime.measured(run_dir, minutes, Restarts.model_validate(cluster.get("restarts", {})))
            variables |= {
                "LTRL_FIRST_ATTEMPT": str(number),  # attempts that follow it by themselves are counted from here
                "LTRL_STOP_SECONDS": str(reserve.stop_seconds),
                "LTRL_SAVE_SECONDS": str(reserve.last_seconds),
            }
            options = [] if reserve.option in text else [reserve.option]  # measured, not as declared
        argv = slurm.argv(
            script,
            text=text,
            directory=own_dir,
            log=f"attempts/{number}/job.log",
            mark=jobs.mark(own_dir, number),
            variables=variables,
            options=options,
            after=",".join([*([f"afterok:{after}"] if after else ()), *(f"after:{job}" for job in beside)]),
            clients=clients,
        )
    else:
        script = own_dir / "bundle" / "local.sh"
        argv = local.argv(folder)
        variables |= local.environment(script, minutes=minutes, gpus=int(launch["gpus_per_node"]))
    return Request(
        bundle=bundle.path,
        stage=stage,
        run_id=run_dir.name,
        run_dir=own_dir,
        attempt=number,
        is_resume=known is not None,
        checkpoint=fork.step if fork else _goes_on_from(own_dir),
        executor=executor,
        cluster=str(bundle.plan["cluster"]),
        minutes=minutes,
        script=script,
        argv=argv,
        directory=own_dir,
        environment=variables,
        log=folder / "stdout.log",
        after=after,
        beside=beside,
        forked_from=str(fork) if fork else known.forked_from if known else None,
        reserve=reserve,
        set_up_seconds=walltime.set_up_seconds(run_dir) if stage == TRAIN and not bundle.is_evaluation else None,
        gpus=int(launch["nodes"]) * int(launch["gpus_per_node"]),
        clients=clients,
    )


def _goes_on_from(run_dir: Path) -> int | None:
    """The step of the checkpoint that the driver is going to choose: damaged ones are set aside before."""
    newest = newest_usable(run_dir / "checkpoints")
    return newest.step if newest else None


def script_folder(stage: str) -> str:
    """Where in a bundle the scripts of a stage are, with a slash."""
    return "" if stage == TRAIN else f"{FOLDER}/{stage}/"


def _launched(run: Run, asked: Request) -> Run:
    folder = run.attempt_dir(asked.attempt)
    try:
        if asked.executor == "slurm":
            job_id = slurm.submit(
                asked.argv, asked.script.read_text(encoding="utf-8"), folder=folder, clients=asked.clients
            )
            return state.change_attempt(run, asked.attempt, state=State.PENDING, job_id=job_id)
        job_id = local.launch(asked.argv, folder=folder, directory=asked.directory, variables=asked.environment)
        start = local.start_of(int(job_id))
        return state.change_attempt(run, asked.attempt, state=State.RUNNING, job_id=job_id, process_start=start)
    except Exception as error:
        # what was refused is over; what was launched and could not be written down is found by its mark
        if getattr(error, "diagnostics", None) and error.diagnostics[0].code is Code.SUBMIT_FAILED:  # type: ignore[attr-defined]
            state.change_attempt(run, asked.attempt, state=State.FAILED, reason=str(error), ended=state.now())
        raise


def attempt_of(asked: Request, *, mark: str | None = None) -> Attempt:
    """The attempt of a request, before it is launched."""
    return Attempt(
        number=asked.attempt,
        state=State.SUBMITTING,
        executor=asked.executor,
        cluster=asked.cluster,
        minutes=asked.minutes,
        host=local.hostname(),
        created=state.now(),
        mark=mark,
        after=asked.after,
        gpus=asked.gpus,
        clients=str(asked.clients) if asked.clients else None,
    )


def prepare_run(
    bundle: Bundle,
    asked: Request,
    *,
    sweep: str | None = None,
    fork: Fork | None = None,
    writes: Writes | None = None,
) -> Run:
    """The run directory, and that of a stage in it, with everything that an attempt needs; returns the stage's.

    A new directory is the one of a run from the end of `writes` on, if there are any.
    """
    run_dir = run_of(asked.run_dir)
    try:
        _copy(bundle, run_dir / "bundle")
        for name in ("attempts", "logs", "checkpoints"):
            (run_dir / name).mkdir(exist_ok=True)
        lineage.record(run_dir, bundle)
        if fork:
            lineage.begin_from(fork, run_dir, bundle)
        if asked.stage != TRAIN:
            (asked.run_dir / "attempts").mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                (asked.run_dir / "bundle").symlink_to(Path("..", "..", "bundle", FOLDER, asked.stage))
    except OSError as error:
        raise state.unwritable(error, asked.run_dir) from None
    made: dict[Path, Run] = {}
    for path, steps in {asked.run_dir: 0, run_dir: int(bundle.plan["steps"])}.items():
        if not state.is_run(path):
            made[path] = Run(
                path=path,
                id=run_id(path),
                name=bundle.name,
                fingerprint=bundle.fingerprint,
                engine=str(bundle.plan["engine"]),
                steps=steps,
                project=asked.environment["LTRL_PROJECT_DIR"],
                created=state.now(),
                forked_from=asked.forked_from,
                sweep=sweep,
            )
            state.create_run(made[path], writes=writes)
    return made.get(asked.run_dir) or state.read_run(asked.run_dir)


def _copy(bundle: Bundle, target: Path) -> None:
    """Puts the bundle into the run directory, whole or not at all; an equal one is left alone."""
    for left in target.parent.glob(".bundle.*"):  # by a submission that was killed
        shutil.rmtree(left, ignore_errors=True)
    if (target / LOCK).is_file() and (target / LOCK).read_bytes() == bundle.files[LOCK].data:
        bundles.read(target)  # as it was compiled
        return
    bundles.put(bundle.files.values(), target)


def run_dir_of(bundle: Bundle, project: Path, *, fresh: bool = False) -> Path:
    """Where a bundle runs; with `fresh`, a directory that there is not yet."""
    configured = bundle.resolved["cluster"].get("runs_dir")
    root = project / (configured or "runs")
    if not fresh:
        return root / bundle.name
    taken = {p.name for p in root.glob(f"{bundle.name}*")} if root.is_dir() else set()
    names = (bundle.name if i == 1 else f"{bundle.name}-{i}" for i in range(1, len(taken) + 2))
    return root / next(name for name in names if name not in taken)


def _check_resume(bundle: Bundle, run: Run) -> None:
    lineage.check(run, bundle)
    latest = run.latest
    if latest and not latest.state.is_finished:
        job = f"job {latest.job_id}, " if latest.job_id else ""
        message = f"`{run.id}` has an attempt that is not over: {job}{latest.state}" + (
            f" ({latest.reason})" if latest.reason else ""
        )
        anew = f"`ltrl {'eval' if run.is_evaluation else 'submit'} SPEC --fresh` starts another run beside it"
        hint = f"`ltrl status {run.id}` follows it, `ltrl cancel {run.id}` ends it, {anew}"
        raise fail(Code.RUN_BUSY, message, hint=hint)


def check_turns(home: Path) -> None:
    """Raises LtrlError when jobs of a directory are being launched in turn."""
    if turns.is_alive(home):
        hint = f"`ltrl status {home.name}` follows them, `ltrl cancel {home.name}` ends them"
        raise fail(Code.RUN_BUSY, f"jobs of `{home.name}` take turns on this machine right now", hint=hint)


def _is_complete(run: Run) -> LtrlError:
    message = f"`{run.id}` is complete" + (f": {run.steps} of {run.steps} steps" if run.steps else "")
    if run.is_evaluation:
        return fail(Code.RESUME_REFUSED, message, hint=f"`ltrl eval show {run.id}` shows its results")
    return fail(Code.RESUME_REFUSED, message, hint="`ltrl submit --fresh` starts a new run from the beginning")


def _check_path(run_dir: Path, project: Path, *, executor: str, container: bool, payload: bool) -> None:
    """submitit puts job numbers for `%j` and its like in paths, Slurm takes `%` and a backslash in a log's path as
    its own, containers take `:` and `,` for separators, PYTHONPATH takes `:`.
    """
    special = ("%", "\\", "\n") if executor == "slurm" else ("%j", "%t", "%A", "%a", "\n")
    bad = [text for text in special if text in str(run_dir)]
    if container:
        bad += [c for c in ":," if c in str(run_dir) or c in str(project)]
    elif payload and ":" in str(run_dir):
        bad.append(":")
    if bad:
        listed = ", ".join(f"`{ascii(b)[1:-1]}`" for b in bad)
        hint = "set `runs_dir` in the cluster profile"
        raise fail(
            Code.INVALID_VALUE,
            f"the path of this run must not have {listed} in it: `{str(run_dir)!a}`",
            hint=hint,
        )


def check_environment(bundle: Bundle) -> None:
    """Raises LtrlError when the environment lacks what the cluster profile passes on."""
    values = bundle.resolved["cluster"].get("environment", {})
    missing = [name for name in render.references(values.values()) if name not in os.environ]
    if missing:
        listed = ", ".join(f"`{name}`" for name in missing)
        message = f"the cluster profile passes on {listed}, which your environment does not have"
        raise fail(Code.UNSET_REFERENCE, message, hint=f"export {missing[0]}=…")
