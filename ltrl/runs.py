"""Runs as a person asks for them: which there are, how they do, and how to end them."""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ltrl import jobs, state, turns
from ltrl.checkpoints import RECORD
from ltrl.errors import Code, Diagnostic, LtrlError, fail, raise_if_any
from ltrl.stages import FOLDER, TRAIN, run_id, run_of, stage_dir, stage_of
from ltrl.state import Attempt, Run, State

__all__ = [
    "Status",
    "attempt_gpu_hours",
    "cancel",
    "cancel_all",
    "find_run",
    "is_over",
    "list_runs",
    "pause",
    "row_of",
    "stages_after",
    "status",
    "statuses",
    "unreadable",
    "watch",
    "watch_all",
]

WINDOW = 10
"""Steps that a reward and a step time are the mean of."""

TAIL_BYTES = 256 * 1024
"""How much of a metrics file is read for them; a step's line has 1 to 4 kB."""

LARGEST = 2.0**1000
"""Of a figure; so many of these still have a mean."""


@dataclass(frozen=True, slots=True)
class Status:
    """A run in one row."""

    id: str
    state: State
    reason: str | None
    step: int
    steps: int
    reward: float | None
    """Mean of the last ten steps."""
    eta_seconds: float | None
    """Until the step target, at the speed of the last ten steps; None unless it runs."""
    last_checkpoint: int | None
    attempt: int
    """Number of attempts made."""
    executor: str
    cluster: str
    job_id: str | None
    expected_start: str | None
    """When the scheduler thinks that it will start, while it waits."""
    gpus: int
    """Of the newest attempt."""
    gpu_hours: float
    """Of all attempts, until now."""
    engine: str
    fingerprint: str
    created: str
    project: str
    path: str

    @property
    def is_open(self) -> bool:
        """Whether its job may still run or wait; nobody can tell of a directory that cannot be read."""
        return bool(self.fingerprint) and not self.state.is_finished

    def to_json(self) -> dict[str, Any]:
        """The row for programs."""
        return asdict(self)


def list_runs(project: Path, *, everywhere: bool = True) -> tuple[Status, ...]:
    """All known runs, or those of a project, oldest first; asks a scheduler once, whatever their number.

    What lies in a project's `runs` is its own, wherever the project was when the run was made. A run whose records are
    damaged has a row that says so.
    """
    index = state.Index()
    rows = index.rows()
    here = {*_runs_in(project / "runs")}
    away = {path for path in rows.keys() - here if not state.is_run(path)}
    index.forget(path for path in away if state.is_gone(path))
    found: dict[Path, Status] = {}
    open_runs = []
    for path in {*rows, *here} - away:
        stamp, row = rows.get(path, ("", ""))
        if row and stamp == _stamp(path):
            data = json.loads(row)
            found[path] = Status(**{**data, "state": State(data["state"])})
        else:
            try:
                open_runs.append(state.read_run(path))
            except LtrlError as error:
                found[path] = unreadable(path, error)
    over = []
    for run in jobs.observe(open_runs):
        found[run.path] = made = row_of(run)
        if made.state.is_finished:
            over.append((run.path, _stamp(run.path), json.dumps(made.to_json())))
    index.add(*(run.path for run in open_runs if run.path not in rows))
    index.remember(over)
    wanted = (row for path, row in found.items() if everywhere or path in here or row.project == str(project))
    return tuple(sorted(wanted, key=lambda row: (row.created, row.id)))


def find_run(name: str | None, *, project: Path) -> Run:
    """A run by its id, the beginning of it, or its directory; the newest when there is no name."""
    paths = [path for path in {*state.Index().rows(), *_runs_in(project / "runs")} if state.is_run(path)]
    is_stage = name is not None and any(_matches(name, path) for path in paths if stage_of(path) != TRAIN)
    if name and not is_stage and ("/" in name or name in (".", "..")):
        return state.read_run(Path(name).absolute())
    if not paths:
        raise fail(Code.UNKNOWN_RUN, "there are no runs yet", hint="start one: `ltrl submit specs/quickstart.yaml`")
    if name is None:
        whole = [path for path in paths if stage_of(path) == TRAIN]
        here = [path for path in whole if path.parent == project / "runs"]
        return _newest(here or whole)
    exact = [path for path in paths if run_id(path) == name]
    close = exact or [path for path in paths if _matches(name, path)]
    here = [path for path in close if project / "runs" in (path.parent, path.parents[2])]
    if len(close) > 1 and len(here) == 1:  # a run of this project goes before one with the same name elsewhere
        close = here
    if len(close) == 1:
        return state.read_run(close[0])
    if close:
        listed = ", ".join(sorted(f"`{path}`" if exact else f"`{run_id(path)}`" for path in close))
        raise fail(Code.UNKNOWN_RUN, f"`{name}` could be any of {listed}")
    listed = ", ".join(f"`{known}`" for known in sorted(map(run_id, paths))[:10])
    raise fail(Code.UNKNOWN_RUN, f"no run is called `{name}`", hint=f"`ltrl status` lists them: {listed}")


def _newest(paths: Iterable[Path]) -> Run:
    """The run that was made last; raises LtrlError when none can be read."""
    found: list[Run] = []
    trouble: list[Diagnostic] = []
    for path in paths:
        try:
            found.append(state.read_run(path))
        except LtrlError as error:
            trouble += error.diagnostics
    if not found:
        raise_if_any(trouble)
    return max(found, key=lambda run: run.created)


def status(run: Run) -> Status:
    """How a run does now."""
    return row_of(jobs.observe([run])[0])


def statuses(found: Iterable[Run]) -> tuple[Status, ...]:
    """How runs do now, in their order; asks the scheduler once for all of them."""
    return tuple(row_of(run) for run in jobs.observe(found))


def cancel(run: Run) -> Status:
    """Ends the job of a run, and those of its other stages; raises LtrlError when one cannot be told to."""
    rows, trouble = cancel_all([run])
    raise_if_any(trouble)
    return rows[0]


def is_over(run: Run) -> bool:
    """Whether nothing of a run or its other stages ran or waited when somebody looked last."""
    found = state.all_runs(run.path)
    return not turns.is_alive(run.path) and all(r.latest is None or r.latest.state.is_finished for r in found)


def cancel_all(runs: Sequence[Run]) -> tuple[tuple[Status, ...], list[Diagnostic]]:
    """Ends the jobs of runs and of their other stages, and nothing else; what became of the runs, what went wrong."""
    for run in runs:
        turns.stop(run.path)
    asked = {run.path for run in runs}
    every = {one.path: one for run in runs for one in (run, *state.all_runs(run.path))}
    ended, trouble = jobs.cancel(list(every.values()))
    return tuple(row_of(run) for run in ended if run.path in asked), trouble


def watch(run: Run, *, every_s: float | None = None) -> Iterator[Status]:
    """The run's row again and again, the last one when it is over."""
    while True:
        run = jobs.observe([state.read_run(run.path)])[0]
        yield (row := row_of(run))
        if row.state.is_finished:
            return
        time.sleep(every_s or pause(row))


def stages_after(run: Run, *, every_s: float = 0.2) -> Iterator[Run]:
    """The stages that follow the training, each as soon as it is there; none that is not going to be."""
    try:
        names = json.loads((run.path / "bundle" / "plan.json").read_bytes())["stages"]
    except (OSError, ValueError, KeyError):
        return
    for name in names[names.index(TRAIN) + 1 :] if TRAIN in names else ():
        path = stage_dir(run.path, name)
        while turns.is_alive(run.path) and not (state.is_run(path) and state.read_run(path).attempts):
            time.sleep(every_s)
        if state.is_run(path):
            yield state.read_run(path)


def watch_all(project: Path, *, everywhere: bool = False, every_s: float | None = None) -> Iterator[tuple[Status, ...]]:
    """The rows of all runs, of this project or everywhere, again and again, until all are over."""
    while True:
        rows = list_runs(project, everywhere=everywhere)
        yield rows
        if not any(row.is_open for row in rows):
            return
        time.sleep(every_s or max(pause(row) for row in rows if row.is_open))


def attempt_gpu_hours(attempt: Attempt) -> float:
    """GPUs times hours that an attempt held them, until now."""
    if attempt.started is None or attempt.state is State.PENDING:
        return 0.0
    until = attempt.ended or state.now()
    return attempt.gpus * max(0.0, state.seconds_between(attempt.started, until)) / 3600


def pause(row: Status) -> float:
    """Seconds between two questions; a scheduler serves others too."""
    return 5.0 if row.executor == "slurm" and row.cluster != "mock" else 1.0


def row_of(run: Run) -> Status:
    """The row of a run as it was observed; asks nobody."""
    latest = run.latest
    reached = state.last_checkpoint(run.path)
    recent = _recent(run.path)
    step = reached or 0
    if run.rolled_back_to is None:
        step = max([step, *(r["step"] for r in recent[-1:])])
    else:
        recent = [r for r in recent if r["step"] <= step]
    seconds = _measured(recent, "timing/train/total_step_time")
    rewards = _measured(recent, "train/reward")
    waits = latest is None and turns.is_alive(run_of(run.path))
    state_now = latest.state if latest else State.PENDING if waits else State.FAILED
    reason = latest.reason if latest else "it waits for its turn" if waits else "never launched"
    if run.rolled_back_to is not None and state_now.is_finished:
        state_now, reason = State.CANCELLED, f"rolled back to step {run.rolled_back_to}"
    left = max(0, run.steps - step)
    return Status(
        id=run.id,
        state=state_now,
        reason=reason,
        step=step,
        steps=run.steps,
        reward=sum(rewards) / len(rewards) if rewards else None,
        eta_seconds=left * sum(seconds) / len(seconds) if seconds and state_now is State.RUNNING else None,
        last_checkpoint=reached,
        attempt=len(run.attempts),
        executor=latest.executor if latest else "",
        cluster=latest.cluster if latest else "",
        job_id=latest.job_id if latest else None,
        expected_start=latest.expected_start if latest else None,
        gpus=latest.gpus if latest else 0,
        gpu_hours=sum(map(attempt_gpu_hours, run.attempts)),
        engine=run.engine,
        fingerprint=run.fingerprint,
        created=run.created,
        project=run.project,
        path=str(run.path),
    )


def unreadable(path: Path, error: LtrlError) -> Status:
    """The row of a run whose records are damaged."""
    return Status(
        id=run_id(path),
        state=State.UNKNOWN,
        reason=error.diagnostics[0].message,
        step=0,
        steps=0,
        reward=None,
        eta_seconds=None,
        last_checkpoint=None,
        attempt=0,
        executor="",
        cluster="",
        job_id=None,
        expected_start=None,
        gpus=0,
        gpu_hours=0.0,
        engine="",
        fingerprint="",
        created=state.written(path / "run.json") or state.now(),
        project=str(run_of(path).parents[1]),
        path=str(path),
    )


def _measured(records: Iterable[Mapping[str, Any]], tag: str) -> list[float]:
    """A figure where it was measured; what is no finite number is left out."""
    values: Iterator[Any] = (record.get(tag) for record in records)
    return [value for value in values if type(value) in (int, float) and abs(value) < LARGEST]


def _recent(run: Path) -> list[dict[str, Any]]:
    """The last training steps measured, newest last: those of the newest driver start that has any."""
    logs = f"{run}/logs"  # text, as in `_stamp`
    try:
        starts = [name for name in os.listdir(logs) if name.startswith("exp_")]  # noqa: PTH208
    except OSError:
        return []
    for start in sorted(starts, key=lambda name: (len(name), name), reverse=True):
        if found := _last_steps(f"{logs}/{start}/metrics.jsonl"):
            return found
    return []


def _last_steps(path: str) -> list[dict[str, Any]]:
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL_BYTES))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return []
    found: list[dict[str, Any]] = []
    for line in reversed(lines[1:] if size > TAIL_BYTES else lines):
        with suppress(ValueError, RecursionError):  # being written right now, or damaged
            record = json.loads(line)
            if isinstance(record, dict) and "train/reward" in record and state.is_step(record.get("step")):
                found.append(record)
        if len(found) == WINDOW:
            break
    return found[::-1]


def _matches(name: str, path: Path) -> bool:
    """Whether a name is the beginning of a run's id, with the whole of its stage's: `trial/export`."""
    run, _, stage = name.partition("/")
    own, _, own_stage = run_id(path).partition("/")
    return own.startswith(run) and own_stage == stage


def _runs_in(root: Path) -> Sequence[Path]:
    return [path.parent for pattern in ("*/run.json", f"*/{FOLDER}/*/run.json") for path in root.glob(pattern)]


def _stamp(run: Path) -> str:
    """Changes whenever an attempt is added or changed, and with what a row is."""
    attempts = f"{run}/attempts"
    with suppress(OSError):  # text, for a thousand runs: a `Path` takes longer to make than its file to look at
        newest = max((int(name) for name in os.listdir(attempts) if name.isdecimal()), default=0)  # noqa: PTH208
        changed = os.stat(f"{attempts}/{newest}/attempt.json").st_mtime_ns  # noqa: PTH116
        return f"{SHAPE}:{newest}:{changed}:{_rolled_back(run)}"
    return ""


def _rolled_back(run: Path) -> int:
    """When somebody rolled the run back last, or undid that; 0 for never."""
    try:
        return os.stat(f"{run}/{RECORD}").st_mtime_ns  # noqa: PTH116
    except FileNotFoundError:
        return 0


SHAPE = zlib.crc32(",".join(field.name for field in fields(Status)).encode())
"""Rows that an older ltrl kept are made anew."""
