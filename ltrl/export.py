"""A checkpoint as a Hugging Face model: made here where the engine can, by a job of its own where it cannot."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ltrl import bundle as bundles
from ltrl import exported, jobs, state
from ltrl import submit as launcher
from ltrl.backend import Exports, create
from ltrl.bundle import Bundle
from ltrl.checkpoints import look
from ltrl.compile import compile_bundle
from ltrl.errors import Code, fail
from ltrl.lineage import Fork
from ltrl.stages import EXPORT, TRAIN
from ltrl.state import Run
from ltrl.submit import Request

__all__ = ["is_made_here", "make_here", "request", "submit"]


def is_made_here(chosen: Fork) -> bool:
    """Whether the engine that wrote a checkpoint exports it without a job."""
    return isinstance(create(bundles.read(chosen.run.path / "bundle").engine), Exports)


def make_here(chosen: Fork, out: Path) -> None:
    """Exports a checkpoint into a directory, in the place of an export that was there; raises LtrlError."""
    entry = look(chosen.directory)
    if entry is None:
        raise fail(Code.UNKNOWN_CHECKPOINT, f"`{chosen.directory}` is gone")
    engine = create(bundles.read(chosen.run.path / "bundle").engine)
    assert isinstance(engine, Exports)
    engine.export(entry, out, exported.origin(chosen.run.path, entry, project=Path(chosen.run.project)))


@contextmanager
def request(chosen: Fork, out: Path) -> Iterator[tuple[Request, Bundle]]:
    """The job that `submit` would launch, and its bundle, which goes away at the end; launches nothing."""
    with tempfile.TemporaryDirectory() as scratch:
        bundle = _bundle(chosen.run, Path(scratch))
        _check_place(bundle, chosen.run, out)
        yield launcher.make_request(bundle, Path(chosen.run.project), chosen.run.path, EXPORT), bundle


def submit(chosen: Fork, out: Path) -> Run:
    """Launches the job that exports a checkpoint; returns the run of the stage.

    Raises LtrlError: STAGE when the engine has no such stage, RUN_BUSY while one runs.
    """
    run = chosen.run
    with tempfile.TemporaryDirectory() as scratch:
        bundle = _bundle(run, Path(scratch))
        _check_place(bundle, run, out)
        if EXPORT not in bundles.read(run.path / "bundle").plan["stages"]:
            (seen,) = jobs.observe([state.read_run(run.path)])
            if seen.latest and not seen.latest.state.is_finished:  # its job reads the bundle that would be replaced
                message = f"`{run.id}` runs, and its bundle has no stage `{EXPORT}`"
                raise fail(Code.RUN_BUSY, message, hint=f"when it is over; `ltrl cancel {run.id}` ends it")
        asked = {"request.json": {"step": chosen.step, "to": str(out)}}
        return launcher.launch_again(bundle, project=Path(run.project), run_dir=run.path, stage=EXPORT, files=asked)


def _bundle(run: Run, scratch: Path) -> Bundle:
    """The run's bundle, with the stage; one without it is compiled again, from what it was compiled from."""
    known = bundles.read(run.path / "bundle")
    if EXPORT in known.plan["stages"]:
        return known
    spec, cluster = scratch / "spec.yaml", scratch / f"{known.plan['cluster']}.yaml"
    profile = {key: value for key, value in known.resolved["cluster"].items() if key != "name"}
    sections = {key: value for key, value in known.resolved["spec"].items() if value is not None}
    at = known.plan["stages"].index(TRAIN) + 1
    sections["stages"] = [*known.plan["stages"][:at], EXPORT, *known.plan["stages"][at:]]
    spec.write_text(json.dumps(sections), encoding="utf-8")  # JSON is YAML, too
    cluster.write_text(json.dumps(profile), encoding="utf-8")
    made, _, _ = compile_bundle(spec, cluster=str(cluster), out=scratch / known.name, remember=False)
    if made.fingerprint != known.fingerprint:
        message = f"the installed ltrl compiles `{run.id}` to something else: {made.fingerprint[:8]}"
        raise fail(Code.STAGE, message, hint="list `stages: [train, export]` in its spec and submit that")
    return made


def _check_place(bundle: Bundle, run: Run, out: Path) -> None:
    """A container sees the run and the project, not every directory."""
    if not bundle.resolved["cluster"].get("container"):
        return
    seen = (run.path, Path(run.project), *(Path(path) for path in bundle.resolved["cluster"].get("shared_paths", ())))
    if not any(out.is_relative_to(path) for path in seen):
        listed = ", ".join(f"`{path}`" for path in seen)
        raise fail(Code.INVALID_VALUE, f"the container of the job does not see `{out}`", hint=f"it sees {listed}")
