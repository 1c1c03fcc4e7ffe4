"""Runs as a person asks for them: how they do, what they say, and how to end them."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ltrl import jobs, state
from ltrl.errors import Code, fail
from ltrl.state import Run, State

__all__ = [
    "LogLine",
    "Role",
    "Status",
    "cancel",
    "find_run",
    "follow_logs",
    "list_runs",
    "log_files",
    "read_logs",
    "status",
    "watch",
]

WINDOW = 10
"""Steps that a reward and a step time are the mean of."""

TAIL_BYTES = 256 * 1024
"""How much of a metrics file is read for them; a step's line has 1 to 4 kB."""

Role = Literal["driver", "job", "head", "worker", "all"]
"""Who writes a log: the driver, the job script, or Ray on the first or another node."""


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
    engine: str
    fingerprint: str
    created: str
    path: str

    def to_json(self) -> dict[str, Any]:
        """The row for programs."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of a log, without its end."""

    source: str
    """File name."""
    text: str


def list_runs(project: Path) -> tuple[Status, ...]:
    """All known runs and those of a project, oldest first. Asks the scheduler once, whatever their number."""
    index = state.Index()
    rows = index.rows()
    paths = {*rows, *_runs_in(project / "runs")}
    gone = [path for path in paths if not state.is_run(path)]
    index.forget(path for path in gone if path in rows)
    found: dict[Path, Status] = {}
    open_runs = []
    for path in paths - {*gone}:
        stamp, row = rows.get(path, ("", ""))
        if row and stamp == _stamp(path):
            data = json.loads(row)
            found[path] = Status(**{**data, "state": State(data["state"])})
        else:
            open_runs.append(state.read_run(path))
    over = []
    for run in jobs.observe(open_runs):
        found[run.path] = made = _status(run)
        if made.state.is_finished:
            over.append((run.path, _stamp(run.path), json.dumps(made.to_json())))
        elif run.path not in rows:
            index.add(run.path)
    index.remember(over)
    return tuple(sorted(found.values(), key=lambda s: (s.created, s.id)))


def find_run(name: str | None, *, project: Path) -> Run:
    """A run by its id, the beginning of it, or its directory; the newest when there is no name."""
    if name and ("/" in name or name in (".", "..")):
        return state.read_run(Path(name).absolute())
    paths = [path for path in {*state.Index().rows(), *_runs_in(project / "runs")} if state.is_run(path)]
    if not paths:
        raise fail(Code.UNKNOWN_RUN, "there are no runs yet", hint="start one: `ltrl submit specs/quickstart.yaml`")
    if name is None:
        return max((state.read_run(path) for path in paths), key=lambda run: run.created)
    exact = [path for path in paths if path.name == name]
    close = exact or [path for path in paths if path.name.startswith(name)]
    here = [path for path in close if path.parent == project / "runs"]
    if len(close) > 1 and len(here) == 1:  # a run of this project goes before one with the same name elsewhere
        close = here
    if len(close) == 1:
        return state.read_run(close[0])
    if close:
        listed = ", ".join(sorted(f"`{path}`" if exact else f"`{path.name}`" for path in close))
        raise fail(Code.UNKNOWN_RUN, f"`{name}` could be any of {listed}")
    listed = ", ".join(f"`{path.name}`" for path in sorted(paths, key=lambda path: path.name)[:10])
    raise fail(Code.UNKNOWN_RUN, f"no run is called `{name}`", hint=f"`ltrl status` lists them: {listed}")


def status(run: Run) -> Status:
    """How a run does now."""
    return _status(jobs.observe([run])[0])


def cancel(run: Run) -> Status:
    """Ends the job of a run, if it has one; nothing else is touched."""
    return _status(jobs.cancel(run))


def watch(run: Run, *, every_s: float = 1.0) -> Iterator[Status]:
    """The run's row again and again, the last one when it is over."""
    while True:
        run = jobs.observe([state.read_run(run.path)])[0]
        yield (row := _status(run))
        if row.state.is_finished:
            return
        time.sleep(every_s)


def log_files(run: Run, *, attempt: int | None = None, role: Role = "driver") -> tuple[Path, ...]:
    """The logs of an attempt, by default the newest; without a driver's, the job script's say why."""
    number = attempt or (run.latest.number if run.latest else 0)
    directory = run.attempt_dir(number)
    if not directory.is_dir():
        listed = ", ".join(str(a.number) for a in run.attempts) or "none"
        raise fail(Code.UNKNOWN_RUN, f"`{run.id}` has no attempt {number}: it has {listed}")
    patterns = {
        "driver": ("stdout.log", "stderr.log"),
        "job": ("job.log", "launcher.log"),
        "head": ("ray-head.log",),
        "worker": ("ray-worker-*.log",),
        "all": ("*.log",),
    }[role]
    found = tuple(path for pattern in patterns for path in sorted(directory.glob(pattern)))
    if not found and role == "driver":
        return log_files(run, attempt=number, role="job")
    return found


def read_logs(run: Run, *, attempt: int | None = None, role: Role = "driver") -> Iterator[LogLine]:
    """Every line that is there, file after file."""
    for path in log_files(run, attempt=attempt, role=role):
        with suppress(FileNotFoundError), path.open(errors="replace", newline="\n") as file:
            for line in file:
                yield LogLine(path.name, line.rstrip("\n"))


def follow_logs(
    run: Run, *, attempt: int | None = None, role: Role = "driver", every_s: float = 0.3
) -> Iterator[LogLine]:
    """Every line as it comes, until the attempt is over; files that appear later are followed too."""
    number = attempt or (run.latest.number if run.latest else 0)
    read: dict[Path, int] = {}
    rest: dict[Path, bytes] = {}
    asked = 0.0
    over = False
    while True:
        if time.monotonic() - asked > (
            2 if run.latest and run.latest.executor == "slurm" else 0
        ):  # spares the scheduler
            run = jobs.observe([state.read_run(run.path)])[0]
            over = all(a.state.is_finished for a in run.attempts if a.number == number)
            asked = time.monotonic()
        last_round = over
        for path in log_files(run, attempt=number, role=role):
            with suppress(FileNotFoundError), path.open("rb") as file:
                file.seek(read.get(path, 0))
                fresh = file.read()
                read[path] = read.get(path, 0) + len(fresh)
            *lines, rest[path] = (rest.get(path, b"") + fresh).split(b"\n")
            for line in lines:
                yield LogLine(path.name, line.decode(errors="replace"))
        if last_round:
            for path, line in rest.items():
                if line:
                    yield LogLine(path.name, line.decode(errors="replace"))
            return
        time.sleep(every_s)


def _status(run: Run) -> Status:
    latest = run.latest
    reached = state.last_checkpoint(run.path)
    recent = _recent(run.path)
    step = max([reached or 0, *(int(r["step"]) for r in recent[-1:])])
    seconds = [r["timing/train/total_step_time"] for r in recent if "timing/train/total_step_time" in r]
    rewards = [r["train/reward"] for r in recent if "train/reward" in r]
    state_now = latest.state if latest else State.FAILED
    left = max(0, run.steps - step)
    return Status(
        id=run.id,
        state=state_now,
        reason=latest.reason if latest else "never launched",
        step=step,
        steps=run.steps,
        reward=sum(rewards) / len(rewards) if rewards else None,
        eta_seconds=left * sum(seconds) / len(seconds) if seconds and state_now is State.RUNNING else None,
        last_checkpoint=reached,
        attempt=len(run.attempts),
        executor=latest.executor if latest else "",
        cluster=latest.cluster if latest else "",
        job_id=latest.job_id if latest else None,
        engine=run.engine,
        fingerprint=run.fingerprint,
        created=run.created,
        path=str(run.path),
    )


def _recent(run: Path) -> list[dict[str, float]]:
    """The last training steps measured, newest last: those of the newest driver start that has any."""
    starts = sorted((run / "logs").glob("exp_*"), key=lambda p: (len(p.name), p.name), reverse=True)
    for start in starts:
        if found := _last_steps(start / "metrics.jsonl"):
            return found
    return []


def _last_steps(path: Path) -> list[dict[str, float]]:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL_BYTES))
            lines = file.read().split(b"\n")
    except OSError:
        return []
    found: deque[dict[str, float]] = deque(maxlen=WINDOW)
    for line in lines[1:] if size > TAIL_BYTES else lines:
        with suppress(ValueError):  # being written right now
            record = json.loads(line)
            if isinstance(record, dict) and "train/reward" in record and isinstance(record.get("step"), int):
                found.append(record)
    return list(found)


def _runs_in(root: Path) -> Sequence[Path]:
    return [path.parent for path in root.glob("*/run.json")]


def _stamp(run: Path) -> str:
    """Changes whenever an attempt is added or changed."""
    directories = run / "attempts"
    with suppress(OSError):
        newest = max((int(p.name) for p in directories.iterdir() if p.name.isdecimal()), default=0)
        return f"{newest}:{(directories / str(newest) / 'attempt.json').stat().st_mtime_ns}"
    return ""
