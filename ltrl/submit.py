"""From a bundle to a running job.

A bundle has one run directory, so submitting it again resumes: a new attempt in the same directory. The attempt is on
disk before anything is launched and its job id after, so that a crash leaves a visible attempt and never a lost job.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ltrl import bundle as bundles
from ltrl import jobs, local, render, slurm, state
from ltrl.bundle import LOCK, Bundle
from ltrl.errors import Code, fail
from ltrl.state import Attempt, Run, State

__all__ = ["Request", "request", "submit"]

FINGERPRINT = "ltrl-fingerprint"
"""File beside the checkpoints that says which run may go on from them."""


@dataclass(frozen=True, slots=True)
class Request:
    """Exactly what is going to be launched."""

    bundle: Path
    run_id: str
    run_dir: Path
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


def request(bundle: Bundle, *, project: Path, fresh: bool = False) -> Request:
    """What `submit` would launch; writes nothing. Raises LtrlError when it would refuse.

    `project` is the directory that relative data paths refer to; `fresh` asks for a new run directory.
    """
    return _request(bundle, project, _run_dir(bundle, project, fresh=fresh))


def submit(bundle: Bundle, *, project: Path, fresh: bool = False) -> Run:
    """Launches a bundle; returns its run with the new attempt, or as it is when it is complete already.

    Raises LtrlError: RUN_BUSY when the run has a job already, RESUME_REFUSED when it must not go on, SUBMIT_FAILED when
    the executor refused, UNWRITABLE when the disk did.
    """
    _check_environment(bundle)
    run_dir = _run_dir(bundle, project, fresh=fresh)
    existing = _existing(run_dir)
    if existing and existing.is_complete and existing.fingerprint == bundle.fingerprint:
        return existing
    with _held(run_dir, fresh=fresh):
        asked = _request(bundle, project, run_dir)
        run = _prepared(bundle, asked)
        state.Index().add(run.path)
        return _launched(state.add_attempt(run, _attempt(asked)), asked)


@contextmanager
def _held(run_dir: Path, *, fresh: bool) -> Iterator[None]:
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


def _request(bundle: Bundle, project: Path, run_dir: Path) -> Request:
    run = _existing(run_dir)
    if run:
        _check_resume(bundle, run)
    number = state.next_number(run_dir)
    launch: dict[str, Any] = bundle.plan["launch"]
    executor = str(launch["executor"])
    cluster: dict[str, Any] = bundle.resolved["cluster"]
    payload = launch.get("payload") is not None
    _check_path(run_dir, project, executor=executor, container=bool(cluster.get("container")), payload=payload)
    variables = {
        "LTRL_RUN_DIR": str(run_dir),
        "LTRL_RUN_ID": run_dir.name,
        "LTRL_ATTEMPT": str(number),
        "LTRL_PROJECT_DIR": str(project),
    }
    if not cluster.get("container"):  # `python` in the job is the one that runs ltrl
        variables["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    folder = run_dir / "attempts" / str(number)
    minutes = int(launch["minutes"])
    if executor == "slurm":
        script = run_dir / "bundle" / "job.sbatch"
        mark = jobs.mark(run_dir.name, number)
        log = f"attempts/{number}/job.log"
        source = bundle.path / "job.sbatch"
        argv = slurm.argv(
            script, text=source.read_text("utf-8"), directory=run_dir, log=log, mark=mark, variables=variables
        )
    else:
        script = run_dir / "bundle" / "local.sh"
        argv = local.argv(folder)
        variables |= local.environment(script, minutes=minutes, gpus=int(launch["gpus_per_node"]))
    return Request(
        bundle=bundle.path,
        run_id=run_dir.name,
        run_dir=run_dir,
        attempt=number,
        is_resume=run is not None,
        checkpoint=state.last_checkpoint(run_dir),
        executor=executor,
        cluster=str(bundle.plan["cluster"]),
        minutes=minutes,
        script=script,
        argv=argv,
        directory=run_dir,
        environment=variables,
        log=folder / "stdout.log",
    )


def _launched(run: Run, asked: Request) -> Run:
    folder = run.attempt_dir(asked.attempt)
    try:
        if asked.executor == "slurm":
            job_id = slurm.submit(asked.argv, asked.script.read_text(encoding="utf-8"), folder=folder)
            return state.change_attempt(run, asked.attempt, state=State.PENDING, job_id=job_id)
        job_id = local.launch(asked.argv, folder=folder, directory=asked.directory, variables=asked.environment)
        start = local.start_of(int(job_id))
        return state.change_attempt(run, asked.attempt, state=State.RUNNING, job_id=job_id, process_start=start)
    except Exception as error:
        # what was refused is over; what was launched and could not be written down is found by its mark
        if getattr(error, "diagnostics", None) and error.diagnostics[0].code is Code.SUBMIT_FAILED:  # type: ignore[attr-defined]
            state.change_attempt(run, asked.attempt, state=State.FAILED, reason=str(error), ended=state.now())
        raise


def _attempt(asked: Request) -> Attempt:
    return Attempt(
        number=asked.attempt,
        state=State.SUBMITTING,
        executor=asked.executor,
        cluster=asked.cluster,
        minutes=asked.minutes,
        host=local.hostname(),
        created=state.now(),
    )


def _prepared(bundle: Bundle, asked: Request) -> Run:
    """The run directory with everything that an attempt needs."""
    try:
        _copy(bundle, asked.run_dir / "bundle")
        for name in ("attempts", "logs", "checkpoints"):
            (asked.run_dir / name).mkdir(exist_ok=True)
        (asked.run_dir / "checkpoints" / FINGERPRINT).write_text(f"{bundle.fingerprint}\n", encoding="utf-8")
    except OSError as error:
        raise state.unwritable(error, asked.run_dir) from None
    if not state.is_run(asked.run_dir):
        run = Run(
            path=asked.run_dir,
            id=asked.run_id,
            name=bundle.name,
            fingerprint=bundle.fingerprint,
            engine=str(bundle.plan["engine"]),
            steps=int(bundle.plan["steps"]),
            project=asked.environment["LTRL_PROJECT_DIR"],
            created=state.now(),
        )
        state.create_run(run)
    return state.read_run(asked.run_dir)


def _copy(bundle: Bundle, target: Path) -> None:
    """Puts the bundle into the run directory, whole or not at all; an equal one is left alone."""
    if (target / LOCK).is_file() and (target / LOCK).read_bytes() == (bundle.path / LOCK).read_bytes():
        bundles.read(target)  # as it was compiled
        return
    draft = target.with_name(f".bundle.{secrets.token_hex(4)}")
    try:
        shutil.copytree(bundle.path, draft)
        if target.exists():
            target.rename(draft.with_name(f"{draft.name}.old"))
        draft.rename(target)
    except (OSError, shutil.Error):
        shutil.rmtree(draft, ignore_errors=True)
        raise
    shutil.rmtree(draft.with_name(f"{draft.name}.old"), ignore_errors=True)


def _run_dir(bundle: Bundle, project: Path, *, fresh: bool) -> Path:
    configured = bundle.resolved["cluster"].get("runs_dir")
    root = project / (configured or "runs")
    if not fresh:
        return root / bundle.name
    taken = {p.name for p in root.glob(f"{bundle.name}*")} if root.is_dir() else set()
    names = (bundle.name if i == 1 else f"{bundle.name}-{i}" for i in range(1, len(taken) + 2))
    return root / next(name for name in names if name not in taken)


def _existing(run_dir: Path) -> Run | None:
    return jobs.observe([state.read_run(run_dir)])[0] if state.is_run(run_dir) else None


def _check_resume(bundle: Bundle, run: Run) -> None:
    saved = run.path / "checkpoints" / FINGERPRINT
    prints = [run.fingerprint, *([saved.read_text(encoding="utf-8").strip()] if saved.is_file() else [])]
    if any(p != bundle.fingerprint for p in prints):
        raise fail(
            Code.RESUME_REFUSED,
            f"`{run.path}` is a run of another experiment: its fingerprint is {prints[-1][:8]}, the bundle's is "
            f"{bundle.fingerprint[:8]}",
            hint="`ltrl submit --fresh` starts a new run",
        )
    latest = run.latest
    if run.is_complete:
        message = f"`{run.id}` is complete: {run.steps} of {run.steps} steps"
        raise fail(Code.RESUME_REFUSED, message, hint="`ltrl submit --fresh` starts a new run from the beginning")
    if latest and not latest.state.is_finished:
        job = f"job {latest.job_id}, " if latest.job_id else ""
        message = f"`{run.id}` has an attempt that is not over: {job}{latest.state}" + (
            f" ({latest.reason})" if latest.reason else ""
        )
        hint = (
            f"`ltrl status {run.id}` follows it, `ltrl cancel {run.id}` ends it, `--fresh` starts another run beside it"
        )
        raise fail(Code.RUN_BUSY, message, hint=hint)


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


def _check_environment(bundle: Bundle) -> None:
    values = bundle.resolved["cluster"].get("environment", {})
    missing = [name for name in render.references(values.values()) if name not in os.environ]
    if missing:
        listed = ", ".join(f"`{name}`" for name in missing)
        message = f"the cluster profile passes on {listed}, which your environment does not have"
        raise fail(Code.INVALID_VALUE, message, hint=f"export {missing[0]}=…")
