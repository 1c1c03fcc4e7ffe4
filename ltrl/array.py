"""All cells of a sweep in one go: an array job of Slurm, or one after another on this machine.

A cell is an ordinary run, with a directory and a bundle of its own; what belongs to the sweep is beside them, in a
directory with the sweep's id. A cell runs once: its fingerprint finds the run that it has already, whatever its name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ltrl import jobs, render, runs, slurm, state, turns
from ltrl import submit as launcher
from ltrl.bundle import SWEEP, Bundle, SweepBundle
from ltrl.disk import Writes
from ltrl.errors import Code, Diagnostic, LtrlError, fail, raise_if_any
from ltrl.runs import Status
from ltrl.stages import TRAIN, run_of, stage_dir, stage_of
from ltrl.state import Run, State
from ltrl.submit import Request

__all__ = [
    "Array",
    "CellRun",
    "CellStatus",
    "Submission",
    "Sweep",
    "cancel",
    "find",
    "is_sweep",
    "read",
    "requests",
    "statuses",
    "submit",
]


@dataclass(frozen=True, slots=True)
class CellRun:
    """A cell and what has become of it."""

    name: str
    values: Mapping[str, Any]
    path: Path
    """Its run directory, whether it is there or not."""
    run: Run | None
    stages: tuple[str, ...] = (TRAIN,)
    """Those of the spec, in order."""
    is_in_spec: bool = True
    """Whether the newest submission had it, too."""


@dataclass(frozen=True, slots=True)
class CellStatus:
    """How a cell does."""

    stages: Mapping[str, Status | None]
    """Of each stage, in order; None for one that was not launched."""

    @property
    def stage(self) -> str:
        """The first that has not succeeded; the last when all have."""
        open_ = (name for name, row in self.stages.items() if row is None or row.state is not State.COMPLETED)
        return next(open_, list(self.stages)[-1])

    @property
    def row(self) -> Status | None:
        """Of that stage."""
        return self.stages[self.stage]

    @property
    def is_complete(self) -> bool:
        """Whether every stage has succeeded."""
        return self.row is not None and self.row.state is State.COMPLETED


@dataclass(frozen=True, slots=True)
class _Cell:
    """A cell that may be launched."""

    bundle: Bundle
    values: Mapping[str, Any]
    path: Path
    group: Literal["new", "running", "complete", "failed"]
    stages: tuple[str, ...]
    """Those that a submission launches."""

    @property
    def name(self) -> str:
        return self.bundle.path.name


@dataclass(frozen=True, slots=True)
class Sweep:
    """A sweep that was submitted."""

    id: str
    path: Path
    cells: tuple[CellRun, ...]
    is_led: bool
    """Whether somebody on this machine still launches cells of it."""


@dataclass(frozen=True, slots=True)
class Array:
    """Exactly the array job that is going to be submitted."""

    script: Path
    text: str
    """Of the script."""
    mark: str
    argv: tuple[str, ...]
    requests: tuple[Request, ...]
    """Of the runs, in the order of the array's tasks."""


@dataclass(frozen=True, slots=True)
class Submission:
    """What a submission of a sweep did, by the names of the cells."""

    sweep: Sweep
    launched: tuple[str, ...]
    waiting: tuple[str, ...]
    """To be launched on this machine when those before them are over."""
    running: tuple[str, ...]
    complete: tuple[str, ...]
    failed: tuple[str, ...]
    """Left alone: `resume_failed` launches them again."""


def submit(
    bundles: SweepBundle, *, project: Path, resume_failed: bool = False, at_once: int | None = None
) -> Submission:
    """Launches the cells that have no run yet, or with `resume_failed` those whose runs ended short of their targets.

    Raises LtrlError like `submit.submit`.
    """
    launcher.check_environment(bundles.cells[0])
    home = _home(bundles, project)
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise state.unwritable(error, home) from None
    with state.locked(home):
        launcher.check_turns(home)
        found = _find(bundles, project)
        state.write_json(home / SWEEP, _record(bundles.id, found, _dropped(home, found)))
        chosen = [cell for cell in found if cell.group == ("failed" if resume_failed else "new")]
        at_once = at_once or bundles.at_once
        is_local = bundles.cells[0].plan["launch"]["executor"] == "local"
        if chosen and is_local:
            chains = [[turns.Turn(str(c.bundle.path), str(c.path), s) for s in c.stages] for c in chosen]
            turns.start(home, project=project, chains=chains, at_once=at_once or 1)
        elif chosen:
            _launch(home, bundles.id, chosen, project=project, at_once=at_once)
    names = {group: tuple(c.name for c in found if c.group == group) for group in ("running", "complete", "failed")}
    launched = tuple(cell.name for cell in chosen)
    return Submission(
        sweep=read(home),
        launched=() if is_local else launched,
        waiting=launched if is_local else (),
        running=names["running"],
        complete=names["complete"],
        failed=() if resume_failed else names["failed"],
    )


def requests(
    bundles: SweepBundle, *, project: Path, resume_failed: bool = False, at_once: int | None = None
) -> tuple[Array, ...] | tuple[Request, ...]:
    """What `submit` would launch: array jobs, or on this machine the jobs in turn; writes nothing.

    Raises LtrlError when there is nothing to launch.
    """
    group = "failed" if resume_failed else "new"
    chosen = [cell for cell in _find(bundles, project) if cell.group == group]
    if not chosen:
        what = "failed" if resume_failed else "is new"
        raise fail(Code.SWEEP, f"no cell of `{bundles.id}` {what}", hint=f"`ltrl status {bundles.id}` shows them")
    if bundles.cells[0].plan["launch"]["executor"] == "local":
        return tuple(_request(cell, project, stage) for cell in chosen for stage in cell.stages)
    home, limit = _home(bundles, project), at_once or bundles.at_once
    asked = []
    for cells in _groups(chosen):
        after = None
        for stage in cells[0].stages:
            own = [_request(cell, project, stage, after=after) for cell in cells]
            asked.append(_array(home, bundles.id, own, cells[0], at_once=limit, after=after))
            after = f"<job of `{stage}`>"
    return tuple(asked)


def find(name: str, *, project: Path) -> Sweep | None:
    """A sweep by its id, the beginning of it as far as `-sweep`, or its directory; None when there is none."""
    if "/" in name:
        return read(Path(name).absolute()) if is_sweep(Path(name)) else None
    roots = {project / "runs", *(path.parent for path in state.Index().rows())}
    homes = [path.parent for root in roots for path in root.glob(f"*/{SWEEP}")]
    exact = [path for path in homes if path.name == name]
    close = exact or [path for path in homes if "-sweep" in name and path.name.startswith(name)]
    return read(close[0]) if len(close) == 1 else None


def is_sweep(path: Path) -> bool:
    """Whether a directory is that of a submitted sweep."""
    return (path / SWEEP).is_file() and not state.is_run(path)


def read(home: Path) -> Sweep:
    """A sweep from its directory; its runs as they were when somebody looked last."""
    try:
        data = json.loads((home / SWEEP).read_bytes())
        cells = []
        for cell in data["cells"]:
            path = home.parent / cell["run"]
            run, stages = None, cell.get("stages") or [TRAIN]
            with suppress(LtrlError):  # one that is damaged hides no other
                run = state.read_run(path) if state.is_run(path) else None
                stages = cell.get("stages") or [stage_of(one.path) for one in state.all_runs(path)] or [TRAIN]
            cells.append(
                CellRun(cell["name"], cell["values"], path, run, tuple(stages), cell.get("is_in_spec", True)),
            )
        return Sweep(data["id"], home, tuple(cells), turns.is_alive(home))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise fail(Code.UNKNOWN_RUN, f"`{home}` is not the directory of a sweep: {error}") from None


def statuses(sweep: Sweep) -> dict[str, CellStatus]:
    """How the cells do now, by the names of their run directories; asks the scheduler once for all of them."""
    launched: list[Run] = []
    found: dict[str, CellStatus] = {}
    for cell in sweep.cells:
        try:
            launched += [run for run in launcher.stage_runs(cell.path, cell.stages) if run.latest]
        except LtrlError as error:
            found[cell.path.name] = CellStatus({TRAIN: runs.unreadable(cell.path, error)})
    rows = {row.path: row for row in runs.statuses(launched)}
    for cell in sweep.cells:
        stages = {stage: rows.get(str(stage_dir(cell.path, stage))) for stage in cell.stages}
        found.setdefault(cell.path.name, CellStatus(stages))
    return found


def cancel(sweep: Sweep) -> tuple[Run, ...]:
    """Ends the jobs of all cells, in the spec still or not, and launches no more; returns the runs that had one.

    Raises LtrlError, when the others have ended, for those that cannot be told to.
    """
    turns.stop(sweep.path)
    found: list[Run] = []
    damaged: list[Diagnostic] = []
    for cell in sweep.cells:
        try:
            found += state.all_runs(cell.path)
        except LtrlError as error:
            damaged += error.diagnostics
    ended, trouble = jobs.cancel([r for r in jobs.observe(found) if r.latest and not r.latest.state.is_finished])
    raise_if_any([*damaged, *trouble])
    return tuple(ended)


def _home(bundles: SweepBundle, project: Path) -> Path:
    return launcher.run_dir_of(bundles.cells[0], project).parent / bundles.id


def _find(bundles: SweepBundle, project: Path) -> list[_Cell]:
    """Every cell and how it does; asks the scheduler once. A run with the same fingerprint is the cell's, whatever its
    name.
    """
    first = bundles.cells[0]
    if services := [stage for stage in launcher.stages_of(first) if launcher.is_service(first, stage)]:
        message = f"a sweep has no services, `stages` names `{services[0]}`: its cells begin at different times"
        raise fail(Code.SWEEP, message, hint="without the stage every cell has a server of its own beside its driver")
    root = launcher.run_dir_of(first, project).parent
    wanted = {bundle.fingerprint[:8] for bundle in bundles.cells}
    known: dict[str, Path] = {}
    for path in sorted(root.iterdir()) if root.is_dir() else ():
        if any(part in wanted for part in path.name.split("-")) and state.is_run(path):
            known.setdefault(state.read_run(path).fingerprint, path)
    observed: dict[Path, list[Run]] = {}
    for run in jobs.observe(run for path in known.values() for run in state.all_runs(path)):
        observed.setdefault(run_of(run.path), []).append(run)
    found = []
    for bundle, values in zip(bundles.cells, bundles.values, strict=True):
        path = known.get(bundle.fingerprint, root / bundle.name)
        found.append(_cell(bundle, values, path, observed.get(path, [])))
    return found


def _cell(bundle: Bundle, values: Mapping[str, Any], path: Path, observed: list[Run]) -> _Cell:
    try:
        stages = launcher.remaining(bundle, observed)
    except LtrlError as error:
        if error.diagnostics[0].code is not Code.RUN_BUSY:
            raise
        return _Cell(bundle, values, path, "running", ())
    was_tried = any(run.latest is not None and stage_of(run.path) in stages for run in observed)
    return _Cell(bundle, values, path, "complete" if not stages else "failed" if was_tried else "new", stages)


def _dropped(home: Path, found: Iterable[_Cell]) -> list[CellRun]:
    """The cells that earlier submissions launched and that the spec does not have any more."""
    named = {cell.path for cell in found}
    try:
        before = read(home).cells if is_sweep(home) else ()
    except LtrlError:  # a damaged record is written anew
        return []
    return [cell for cell in before if cell.path not in named and state.is_run(cell.path)]


def _record(sweep_id: str, found: Iterable[_Cell], dropped: Iterable[CellRun]) -> dict[str, Any]:
    cells = [(c.name, c.values, c.path, launcher.stages_of(c.bundle), True) for c in found]
    cells += [(c.name, c.values, c.path, c.stages, False) for c in dropped]
    listed = [
        {"name": name, "values": dict(values), "run": path.name, "stages": list(stages), "is_in_spec": is_in_spec}
        for name, values, path, stages, is_in_spec in cells
    ]
    return {"format": 1, "id": sweep_id, "cells": listed}


def _request(cell: _Cell, project: Path, stage: str, *, after: str | None = None) -> Request:
    return launcher.make_request(cell.bundle, project, cell.path, stage, after=after)


def _launch(home: Path, sweep_id: str, cells: Iterable[_Cell], *, project: Path, at_once: int | None) -> None:
    """One array job for each stage; the second job of a cell waits for its first alone (`aftercorr`)."""
    for members in _groups(cells):
        after = None
        for stage in members[0].stages:
            after = _launch_array(home, sweep_id, members, stage, project=project, at_once=at_once, after=after)


def _groups(cells: Iterable[_Cell]) -> list[list[_Cell]]:
    """The cells that are in one array: those whose scripts ask for the same machines, and that begin with one stage."""
    groups: dict[tuple[Any, ...], list[_Cell]] = {}
    for cell in cells:
        asked = (render.options_of(_text(cell.bundle, stage)) for stage in cell.stages)
        shape = [tuple(line for line in options if "--job-name=" not in line) for options in asked]
        groups.setdefault((cell.stages, *shape), []).append(cell)
    return list(groups.values())


def _launch_array(
    home: Path,
    sweep_id: str,
    cells: list[_Cell],
    stage: str,
    *,
    project: Path,
    at_once: int | None,
    after: str | None,
) -> str:
    """Submits one array job; returns its id."""
    asked = [_request(cell, project, stage, after=after and f"{after}_{i}") for i, cell in enumerate(cells)]
    array = _array(home, sweep_id, asked, cells[0], at_once=at_once, after=after)

    made: list[Run] = []
    for first in range(0, len(cells), jobs.LOCKED_AT_ONCE):
        some = range(first, min(len(cells), first + jobs.LOCKED_AT_ONCE))
        with ExitStack() as held, Writes() as writes:
            for task in some:
                held.enter_context(launcher.held(cells[task].path, fresh=False))
                run = launcher.prepare_run(cells[task].bundle, asked[task], sweep=sweep_id, writes=writes)
                attempt = launcher.attempt_of(asked[task], mark=f"{array.mark}_{task}")
                made.append(state.add_attempt(run, attempt, writes=writes))
    state.Index().add(*(run.path for run in made))
    try:
        array.script.parent.mkdir(parents=True)
        array.script.write_text(array.text, encoding="utf-8")
    except OSError as error:
        raise state.unwritable(error, array.script) from None
    try:
        job_id = slurm.submit(array.argv, array.text, folder=array.script.parent, clients=asked[0].clients)
    except LtrlError as error:
        refused = {"state": State.FAILED, "reason": str(error), "ended": state.now()}
        _change(made, asked, [refused] * len(made))
        raise
    _change(made, asked, [{"state": State.PENDING, "job_id": f"{job_id}_{task}"} for task in range(len(made))])
    return job_id


def _change(runs: Iterable[Run], asked: Iterable[Request], changes: Iterable[Mapping[str, Any]]) -> None:
    """Changes the attempts that runs were asked for."""
    with Writes() as writes:
        for run, one, changed in zip(runs, asked, changes, strict=True):
            state.change_attempt(run, one.attempt, writes=writes, **changed)


def _array(
    home: Path, sweep_id: str, asked: list[Request], first: _Cell, *, at_once: int | None, after: str | None = None
) -> Array:
    folder = home / "submissions"
    number = max((int(p.name) for p in folder.glob("[0-9]*")), default=0) + 1
    text = render.array_script(
        _text(first.bundle, asked[0].stage),
        name=sweep_id,
        runs=[(str(one.run_dir), one.run_id, one.attempt, one.environment["LTRL_MARK"]) for one in asked],
        at_once=at_once,
    )
    script, mark = folder / str(number) / "array.sbatch", jobs.mark(home, number)
    kept = ("LTRL_PROJECT_DIR", "PATH")
    words = slurm.argv(
        script,
        text=text,
        directory=home,
        log=f"submissions/{number}/%a.log",
        mark=mark,
        variables={name: value for name, value in asked[0].environment.items() if name in kept},
        after=after and f"aftercorr:{after}",
        clients=asked[0].clients,
    )
    return Array(script, text, mark, words, tuple(asked))


def _text(bundle: Bundle, stage: str) -> str:
    return bundle.read(f"{launcher.script_folder(stage)}job.sbatch")
