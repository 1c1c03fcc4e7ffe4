"""How runs do, on the screen."""

from __future__ import annotations

import itertools
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ltrl.cli.show import cells, duration, note, relative, table
from ltrl.stages import exported_models, run_of

if TYPE_CHECKING:
    from ltrl.logs import LogFile
    from ltrl.runs import Status
    from ltrl.state import Run

__all__ = ["clock", "follow", "follow_all", "log_files", "log_files_json", "run", "run_json", "runs"]

HEADERS = ("run", "state", "step", "reward", "time left", "checkpoint", "attempts", "GPU-hours", "job", "")


def runs(rows: Sequence[Status], *, last: int) -> None:
    """Prints a line for each run; of those that are over, only for the last ones."""
    shown = _without_older(rows, last)
    table(HEADERS, map(_row, shown))
    if len(shown) < len(rows):
        note(f"older runs that are over and left out: {len(rows) - len(shown):,}; `-n 0` shows all")


def run(row: Status, found: Run) -> None:
    """Prints all that is known of a run, and its attempts."""
    training = [
        ("step", f"{row.step} of {row.steps}"),
        ("reward", "-" if row.reward is None else f"{row.reward:.3f}, mean of the last steps"),
        ("time left", "-" if row.eta_seconds is None else duration(row.eta_seconds)),
        ("last checkpoint", "none" if row.last_checkpoint is None else f"step {row.last_checkpoint}"),
    ]
    models = exported_models(run_of(found.path))
    table(
        ("", row.id),
        [
            ("state", f"{row.state}" + (f": {_why(row)}" if _why(row) else "")),
            *(training if row.steps else ()),
            *(("exported" if i == 0 else "", relative(path)) for i, path in enumerate(models)),
            ("GPU-hours", f"{row.gpu_hours:.2f}, with {row.gpus} GPUs" if row.gpus else "none"),
            ("engine", row.engine),
            ("fingerprint", row.fingerprint[:16]),
            ("directory", row.path),
        ],
    )
    attempts = [
        (
            made["number"],
            made["state"],
            clock(made["started"]),
            "-" if made["seconds"] is None else duration(made["seconds"]),
            f"{made['gpu_hours']:.2f}",
            f"{made['job_id'] or '-'} on `{made['cluster']}`",
            made["reason"] or "",
        )
        for made in run_json(row, found)["attempts"]
    ]
    if attempts:
        table(("attempt", "state", "started", "for", "GPU-hours", "job", ""), attempts)


def run_json(row: Status, found: Run) -> dict[str, Any]:
    """All that is known of a run, for programs."""
    from ltrl import state
    from ltrl.runs import attempt_gpu_hours

    attempts = []
    for attempt in found.attempts:
        until = attempt.ended or state.now()
        attempts.append(
            {
                **asdict(attempt),
                "seconds": state.seconds_between(attempt.started, until) if attempt.started else None,
                "gpu_hours": attempt_gpu_hours(attempt),
            }
        )
    exported = [str(path) for path in exported_models(run_of(found.path))]
    return {**row.to_json(), "attempts": attempts, "exported": exported}


def follow(rows: Iterator[Status]) -> Status:
    """Shows a run's row as it changes, a progress bar in a terminal and a line now and then elsewhere; the last row."""
    first = next(rows)
    shown = _with_bar(first, rows) if sys.stderr.isatty() else _with_lines(first, rows)
    return deque(shown, maxlen=1).pop()


def follow_all(tables: Iterable[Sequence[Status]]) -> Sequence[Status]:
    """Shows the rows of all runs as they change, in place in a terminal, elsewhere a line for each change; the last."""
    rows: Sequence[Status] = ()
    if not sys.stdout.isatty():
        shown: dict[str, str] = {}
        for rows in tables:
            for row in rows:
                if shown.get(row.path) != row.state:
                    note(_line(row))
                    shown[row.path] = row.state
        return rows
    from rich.live import Live

    with Live(auto_refresh=False) as live:
        for rows in tables:
            room = live.console.height - 5 - sum(not row.state.is_finished for row in rows)
            live.update(cells(HEADERS, map(_row, _without_older(rows, max(0, room)))), refresh=True)
    return rows


def log_files(found: Sequence[LogFile]) -> None:
    """Prints which logs there are."""
    table(
        ("attempt", "role", "rank", "log", "bytes", "last line"),
        [
            (f["attempt"], f["role"], f["rank"], f["name"], f"{f['bytes']:,}", clock(f["written"]))
            for f in log_files_json(found)
        ],
    )


def log_files_json(found: Sequence[LogFile]) -> list[dict[str, Any]]:
    """Which logs there are, for programs."""
    from ltrl import state

    return [
        {**asdict(log), "path": str(log.path), "bytes": log.path.stat().st_size, "written": state.written(log.path)}
        for log in found
    ]


def _without_older(rows: Sequence[Status], last: int) -> list[Status]:
    over = [row.path for row in rows if row.state.is_finished]
    left_out = set(over[: max(0, len(over) - last)])
    return [row for row in rows if row.path not in left_out]


def _row(row: Status) -> tuple[str, ...]:
    return (
        row.id,
        row.state,
        f"{row.step}/{row.steps}" if row.steps else "-",
        "-" if row.reward is None else f"{row.reward:.3f}",
        "-" if row.eta_seconds is None else duration(row.eta_seconds),
        "-" if row.last_checkpoint is None else str(row.last_checkpoint),
        str(row.attempt),
        f"{row.gpu_hours:.2f}" if row.gpus else "-",
        row.job_id or "-",
        _why(row),
    )


def _why(row: Status) -> str:
    """Why it is in its state, and until when it waits."""
    expected = f"expected to start {clock(row.expected_start)}" if row.expected_start else ""
    return ", ".join(part for part in (row.reason or "", expected) if part)


def clock(time: str | None) -> str:
    """A written time as one reads it here."""
    return datetime.fromisoformat(time).astimezone().strftime("%Y-%m-%d %H:%M") if time else "-"


def _with_lines(first: Status, rows: Iterator[Status]) -> Iterator[Status]:
    shown = None
    for row in itertools.chain([first], rows):
        if shown is None or row.state is not shown.state or (row.step % 10 == 0 and row.step != shown.step):
            note(_line(row))
            shown = row
        yield row


def _with_bar(first: Status, rows: Iterator[Status]) -> Iterator[Status]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[about]}"))
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(first.id, total=first.steps, completed=first.step, about=_following(first))
        yield first
        for row in rows:
            progress.update(task, completed=row.step, about=_following(row))
            yield row


def _line(row: Status) -> str:
    step = f"step {row.step}/{row.steps}, " if row.steps else ""
    return f"{row.id}: {step}{_following(row)}"


def _following(row: Status) -> str:
    parts = [str(row.state)]
    if row.reward is not None:
        parts.append(f"reward {row.reward:.3f}")
    if row.eta_seconds is not None:
        parts.append(f"{duration(row.eta_seconds)} left")
    if why := _why(row):
        parts.append(why)
    return ", ".join(parts)
