"""What is known of runs: run directories, which are the truth, and an index of them that can be rebuilt.

A run directory holds `run.json`, `attempts/N/attempt.json` and `events.jsonl`. JSON files are replaced whole, the list
of events only grows; every write is on the disk before the next step depends on it. The index is one SQLite file in the
user's state directory; with a rollback journal, since homes of clusters are network file systems.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeGuard, get_type_hints

import platformdirs

from ltrl import stages
from ltrl.checkpoints import rollbacks
from ltrl.disk import Writes, unwritable, write_json
from ltrl.errors import Code, LtrlError, fail

__all__ = [
    "Attempt",
    "Event",
    "Index",
    "Run",
    "State",
    "add_attempt",
    "add_event",
    "all_runs",
    "change_attempt",
    "checkpoints",
    "create_run",
    "events",
    "events_in",
    "exit_status",
    "first_cause",
    "is_gone",
    "is_run",
    "is_step",
    "job_id",
    "last_checkpoint",
    "locked",
    "next_number",
    "now",
    "read_run",
    "seconds_between",
    "seconds_since",
    "state_dir",
    "unwritable",
    "write_json",
    "written",
]


class State(StrEnum):
    """What has become of an attempt."""

    SUBMITTING = "SUBMITTING"
    """Being handed over; one that stays so was interrupted, and what was launched is searched for."""
    PENDING = "PENDING"
    """Waiting to start, the first time or again."""
    RUNNING = "RUNNING"
    """Started and not ended; also while it ends."""
    COMPLETED = "COMPLETED"
    """The step target is reached."""
    FAILED = "FAILED"
    """Ended by itself short of the step target."""
    CANCELLED = "CANCELLED"
    """Ended by a person."""
    TIMEOUT = "TIMEOUT"
    """Ended at its time limit."""
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    """Ended by the kernel for want of memory."""
    NODE_FAIL = "NODE_FAIL"
    """Ended because a node was lost."""
    PREEMPTED = "PREEMPTED"
    """Ended in favour of a job with a higher priority."""
    UNKNOWN = "UNKNOWN"
    """Whoever could tell did not answer; never taken for finished."""

    @property
    def is_finished(self) -> bool:
        """Whether nothing of the attempt runs or will run."""
        return self not in (State.SUBMITTING, State.PENDING, State.RUNNING, State.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One job of a run. Times are ISO 8601 in UTC."""

    number: int
    state: State
    executor: str
    cluster: str
    minutes: int
    """Time limit."""
    host: str
    """Machine that it was submitted from."""
    created: str
    gpus: int = 0
    """That it holds while it runs, on all nodes together."""
    clients: str | None = None
    """Directory of the scheduler's commands; None for those on the PATH."""
    job_id: str | None = None
    """Of the scheduler, or the process that leads the job's session."""
    process_start: str | None = None
    """When that process started, as the system counts; tells it from a later one with the same number."""
    is_cancelled: bool = False
    """Whether someone asked for its end."""
    expected_start: str | None = None
    """When the scheduler thinks that it will start, while it waits."""
    started: str | None = None
    """When it began to run, the last time if it was requeued."""
    ended: str | None = None
    """When it ended, or when that was noticed."""
    exit_status: int | None = None
    reason: str | None = None
    mark: str | None = None
    """Comment by which its job is found when its id was lost; by default that of `jobs.mark`."""
    after: str | None = None
    """Job that must succeed before it starts."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run directory."""

    path: Path
    id: str
    """Name of the directory; that of a stage follows the run's: `RUN/export`."""
    name: str
    """Name of the bundle."""
    fingerprint: str
    engine: str
    steps: int
    """Step target."""
    project: str
    """Directory that relative data paths refer to; where it is now, if it was moved."""
    created: str
    forked_from: str | None = None
    """`PATH@STEP`: the run and the checkpoint that it began with."""
    sweep: str | None = None
    """Id of the sweep that it is a cell of."""
    attempts: tuple[Attempt, ...] = ()
    rolled_back_to: int | None = None
    """Step that the run was rolled back to after its newest attempt."""

    @property
    def latest(self) -> Attempt | None:
        """The newest attempt."""
        return self.attempts[-1] if self.attempts else None

    @property
    def is_evaluation(self) -> bool:
        """Whether it measures a model and trains none."""
        return self.engine == stages.EVALUATION

    @property
    def is_complete(self) -> bool:
        """Whether the step target is reached."""
        is_reached = self.latest is not None and self.latest.state is State.COMPLETED
        return is_reached and self.rolled_back_to is None

    def attempt_dir(self, number: int) -> Path:
        """Directory of an attempt's logs and records."""
        return self.path / "attempts" / str(number)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a run."""

    time: str
    attempt: int
    state: State
    detail: str = ""


def now() -> str:
    """The time as it is written everywhere: ISO 8601 in UTC, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def seconds_since(time: str) -> float:
    """How long ago a written time is."""
    return seconds_between(time, now())


def seconds_between(earlier: str, later: str) -> float:
    """From one written time to another."""
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


def written(path: Path) -> str | None:
    """When a file was last written, as times are written; None when it is not there."""
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="milliseconds")
    except OSError:
        return None


def is_run(path: Path) -> bool:
    """Whether a directory is that of a run, as far as it can be looked at."""
    return os.path.isfile(f"{path}/run.json")  # noqa: PTH113 - as in `_json`


def is_step(value: object) -> TypeGuard[int]:
    """Whether a value that was read from a file can be a number of steps."""
    return type(value) is int and 0 <= value < 2**62


def is_gone(path: Path) -> bool:
    """Whether the directory of a run is not there any more, and not only out of reach."""
    try:
        (path / "run.json").stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:  # a file system that is away, or somebody else's directory
        return False
    return False


def all_runs(run_dir: Path) -> list[Run]:
    """The run in a directory and those of its other stages; none where there is no run."""
    paths = (run_dir, *sorted((run_dir / stages.FOLDER).glob("*")))
    return [read_run(path) for path in paths if is_run(path)]


def create_run(run: Run, *, writes: Writes | None = None) -> None:
    """Makes a directory the one of a run, at the end of `writes` if there are any."""
    data = {
        f.name: getattr(run, f.name) for f in fields(run) if f.name not in ("path", "id", "attempts", "rolled_back_to")
    }
    with nullcontext(writes) if writes else Writes() as made:
        made.json(run.path / "run.json", {"format": 1, **data})


def read_run(path: Path) -> Run:
    """A run from its directory; raises LtrlError when it is none."""
    try:
        data = _json(f"{path}/run.json")
        data.pop("format")
        data["project"] = _project(path, data["project"])
        attempts = tuple(_attempts(path))
        rolled_back = [r for r in rollbacks(path)[-1:] if r.attempt == (attempts[-1].number if attempts else 0)]
        return Run(
            path=path,
            id=stages.run_id(path),
            **_checked(data, RUN_TYPES),
            attempts=attempts,
            rolled_back_to=rolled_back[0].step if rolled_back else None,
        )
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise fail(Code.UNKNOWN_RUN, f"`{path}` is not a run directory: {reason}") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _damaged(path / "run.json", error) from None


def add_attempt(run: Run, attempt: Attempt, *, writes: Writes | None = None) -> Run:
    """The run with a new attempt, recorded on disk, at the end of `writes` if there are any; raises LtrlError,
    RUN_BUSY, when another took its number.
    """
    directory = run.attempt_dir(attempt.number)
    try:
        directory.parent.mkdir(exist_ok=True)
        directory.mkdir()
    except FileExistsError:
        raise fail(Code.RUN_BUSY, f"attempt {attempt.number} of `{run.id}` was just made by someone else") from None
    except OSError as error:
        raise unwritable(error, directory) from None
    with nullcontext(writes) if writes else Writes() as made:
        made.json(directory / "attempt.json", asdict(attempt))
        add_event(run, Event(attempt.created, attempt.number, attempt.state), writes=made)
    return replace(run, attempts=(*run.attempts, attempt), rolled_back_to=None)


def next_number(run: Path) -> int:
    """The number of a run's next attempt; those that were never recorded keep theirs."""
    return max((number for number, _ in _attempt_dirs(run)), default=0) + 1


def change_attempt(run: Run, number: int, *, writes: Writes | None = None, **changes: Any) -> Run:
    """The run with an attempt changed, on disk too, at the end of `writes` if there are any."""
    attempts = {a.number: a for a in run.attempts}
    old = attempts[number]
    attempts[number] = changed = replace(old, **changes)
    with nullcontext(writes) if writes else Writes() as made:
        if changed != old:
            made.json(run.attempt_dir(number) / "attempt.json", asdict(changed))
        if changed.state != old.state:
            add_event(run, Event(now(), number, changed.state, changed.reason or ""), writes=made)
    return replace(run, attempts=tuple(attempts.values()))


def events(run: Path) -> tuple[Event, ...]:
    """Everything that happened to a run, oldest first; what cannot be read is left out, a line cut short by a crash
    or the whole file.
    """
    try:
        lines = (run / "events.jsonl").read_bytes().split(b"\n")
    except OSError:
        return ()
    return tuple(events_in(lines))


def events_in(lines: Iterable[bytes]) -> Iterator[Event]:
    """The events in lines of `events.jsonl`; what is none is left out."""
    for line in lines:
        with suppress(ValueError, TypeError, KeyError, RecursionError):
            data = json.loads(line)
            yield Event(**{**data, "state": State(data["state"])})


def exit_status(attempt_dir: Path) -> int | None:
    """The exit status that the job's script left; None when it did not come to that."""
    try:
        return int((attempt_dir / "exit_status").read_text())
    except (OSError, ValueError):
        return None


def first_cause(attempt_dir: Path) -> str | None:
    """What the job's scripts call the reason of its end."""
    try:
        return (attempt_dir / "cause").read_text(errors="replace").strip() or None
    except OSError:
        return None


def job_id(attempt_dir: Path) -> str | None:
    """The job id that the job itself left when it began."""
    try:
        return (attempt_dir / "job_id").read_text().strip() or None
    except OSError:
        return None


def last_checkpoint(run: Path) -> int | None:
    """Steps done at the newest complete checkpoint; None before the first."""
    return next((steps for steps, _ in _checkpoints(run)), None)


def checkpoints(run: Path) -> dict[int, Path]:
    """The complete checkpoints of a run by the steps done."""
    return dict(_checkpoints(run))


def _checkpoints(run: Path) -> Iterator[tuple[int, Path]]:
    """Steps and directory of every complete checkpoint, newest first."""
    found = []
    with suppress(OSError):
        for entry in (run / "checkpoints").iterdir():
            kind, _, number = entry.name.partition("_")
            if kind == "step" and number.isdecimal():
                found.append((int(number), entry))
    for step, entry in sorted(found, reverse=True):
        with suppress(OSError, ValueError, RecursionError):
            info = _json(f"{entry}/training_info.json")
            if isinstance(info, dict) and is_step(steps := info.get("total_steps", step)):
                yield steps, entry


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Holds a run for one process; raises LtrlError with code RUN_BUSY when another holds it."""
    try:
        handle = os.open(run / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except PermissionError as error:
        if owner := _other_owner(run):
            message = f"`{run.name}` is a run of {owner}, who alone can change it"
            hint = "`ltrl submit --fresh` starts one of your own beside it"
            raise fail(Code.UNWRITABLE, message, hint=hint) from None
        raise unwritable(error, run) from None
    except OSError as error:
        raise unwritable(error, run) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise fail(
            Code.RUN_BUSY,
            f"another `ltrl` is submitting or cancelling `{run.name}` right now",
            hint=f"`ltrl status {run.name}` shows what came of it",
        ) from None
    finally:
        os.close(handle)


def _other_owner(path: Path) -> str | None:
    """Who a directory belongs to; None when that is us, or unknown."""
    import pwd

    with suppress(OSError):
        owner = path.stat().st_uid
        with suppress(KeyError):
            return f"`{pwd.getpwuid(owner).pw_name}`" if owner != os.geteuid() else None
        return f"the user {owner}"
    return None


def state_dir() -> Path:
    """The directory of the index; `LTRL_STATE_DIR` overrides it."""
    return Path(os.environ.get("LTRL_STATE_DIR") or platformdirs.user_state_path("ltrl"))


class Index:
    """Where runs are, and the rows of those that are over.

    It only saves time: what cannot be read or written here is looked up in the run directories, so that a full or
    read-only home never stands between a person and a run.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or state_dir() / "runs.sqlite"

    def add(self, *runs: Path) -> None:
        """Remembers where runs are."""
        self._change("INSERT OR IGNORE INTO runs (path) VALUES (?)", [(str(run),) for run in runs])

    def remember(self, rows: Iterable[tuple[Path, str, str]]) -> None:
        """Keeps the rows of finished runs, each with the stamp of what it was made from."""
        keep = [(str(path), stamp, row) for path, stamp, row in rows]
        self._change("INSERT OR REPLACE INTO runs (path, stamp, row) VALUES (?, ?, ?)", keep)

    def forget(self, runs: Iterable[Path]) -> None:
        """Drops runs whose directories are gone."""
        self._change("DELETE FROM runs WHERE path = ?", [(str(run),) for run in runs])

    def rows(self) -> dict[Path, tuple[str, str]]:
        """Stamp and row of every run, both empty for one that is not over."""
        try:
            with closing(self._open()) as connection:
                found = connection.execute("SELECT path, stamp, row FROM runs").fetchall()
        except (sqlite3.Error, OSError):
            return {}
        return {Path(path): (stamp, row) for path, stamp, row in found}

    def rebuild(self, roots: Iterable[Path]) -> int:
        """Makes the index anew from what it knew and the run directories below others; returns how many it has."""
        found = {run for run in self.rows() if not is_gone(run)} | {run for root in roots for run in _runs_below(root)}
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
        self.add(*found)
        return len(found)

    def _change(self, statement: str, rows: Sequence[tuple[str, ...]]) -> None:
        if not rows:
            return
        try:
            with closing(self._open()) as connection, connection:
                connection.executemany(statement, rows)
        except (sqlite3.OperationalError, OSError):  # read-only, full or busy for long: see the class
            return
        except sqlite3.DatabaseError:  # damaged: a new one fills up from the run directories
            with suppress(OSError):
                self.path.unlink()
                self._change(statement, rows)

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=5)
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS runs"
            " (path TEXT PRIMARY KEY, stamp TEXT NOT NULL DEFAULT '', row TEXT NOT NULL DEFAULT '')"
        )
        return connection


def _damaged(path: Path, error: Exception) -> LtrlError:
    return fail(Code.UNKNOWN_RUN, f"`{path}` is damaged: {error}")


def _json(path: str) -> Any:
    """The contents of a file. For a thousand runs a `Path` takes longer to make than its file to read: hence text."""
    with open(path, "rb") as file:  # noqa: PTH123
        return json.loads(file.read())


RUN_TYPES = get_type_hints(Run)
ATTEMPT_TYPES = get_type_hints(Attempt)
TIMES = ("created", "expected_start", "started", "ended")


def _checked(data: dict[str, Any], types: Mapping[str, Any]) -> dict[str, Any]:
    """Fields as they were read; raises TypeError or ValueError for one that cannot be what it should."""
    for name, value in data.items():
        if name in types and not isinstance(value, types[name]):
            raise TypeError(f"`{name}` cannot be {value!r}")
        if name in TIMES and value is not None and datetime.fromisoformat(value).tzinfo is None:
            raise ValueError(f"`{name}` has no time zone")
    return data


def _project(run: Path, recorded: str) -> str:
    """Where a run's project is: its `runs` are in it when it was moved since."""
    if os.path.isdir(recorded):  # noqa: PTH112 - as in `_json`
        return recorded
    home = stages.run_of(run).parent
    return str(home.parent) if home.name == "runs" and (home.parent / "specs").is_dir() else recorded


def _runs_below(root: Path) -> Iterator[Path]:
    for directory, folders, files in os.walk(root):
        if "run.json" in files:
            folders[:] = {stages.FOLDER} & {*folders}  # no run lies in another, but its stages do
            yield Path(directory).absolute()


def _attempt_dirs(run: Path) -> list[tuple[int, Path]]:
    try:
        return sorted((int(p.name), p) for p in (run / "attempts").iterdir() if p.name.isdecimal())
    except FileNotFoundError:
        return []


def _attempts(run: Path) -> Iterator[Attempt]:
    latest: Attempt | None = None
    for number, directory in _attempt_dirs(run):
        try:
            data = _json(f"{directory}/attempt.json")
            latest = Attempt(**_checked({**data, "state": State(data["state"])}, ATTEMPT_TYPES))
        except FileNotFoundError:
            latest = _continued(directory, number, latest)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise _damaged(directory / "attempt.json", error) from None
        if latest and latest.number == number:
            yield latest


def _continued(directory: Path, number: int, before: Attempt | None) -> Attempt | None:
    """The attempt that a job made to go on; nobody has recorded it yet. Without the job's mark, its submitter was
    killed before it recorded anything: nothing was launched.
    """
    mark = directory / "continues"
    try:
        begun = datetime.fromtimestamp(mark.stat().st_mtime, UTC).isoformat(timespec="milliseconds")
    except OSError:
        return before
    if before is None:
        return None
    return Attempt(
        number=number,
        state=State.PENDING,
        executor=before.executor,
        cluster=before.cluster,
        minutes=before.minutes,
        host=before.host,
        created=begun,
        gpus=before.gpus,
        clients=before.clients,
        job_id=job_id(directory),
    )


def add_event(run: Run, event: Event, *, writes: Writes | None = None) -> None:
    """Appends to what happened to a run, at the end of `writes` if there are any."""
    with nullcontext(writes) if writes else Writes() as made:
        made.line(run.path / "events.jsonl", asdict(event))
