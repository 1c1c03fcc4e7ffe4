"""What runs say: the logs of their attempts, and following them while they grow."""

from __future__ import annotations

import os
import re
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from ltrl import jobs, state
from ltrl.errors import Code, fail
from ltrl.state import Run

__all__ = ["LogFile", "LogLine", "Role", "follow", "log_files", "read"]

Role = Literal["driver", "job", "head", "worker", "ray", "all"]
"""Who writes a log: the driver, the job script, Ray on the first or another node, or Ray's own processes."""

PATTERNS: dict[Role, tuple[str, ...]] = {
    "driver": ("stdout.log", "stderr.log"),
    "job": ("job.log", "launcher.log"),
    "head": ("ray-head.log",),
    "worker": ("ray-worker-*.log",),
    "ray": ("ray-logs/**/*.out", "ray-logs/**/*.err", "ray-logs/**/*.log"),
}
"""Where each role writes, below the directory of an attempt."""

ASK_EVERY_S = 2.0
"""How often a scheduler is asked whether an attempt that is followed is over."""


@dataclass(frozen=True, slots=True)
class LogFile:
    """A log of an attempt."""

    path: Path
    attempt: int
    role: Role
    rank: int
    """Of the node: 0 has the driver and Ray's head."""
    name: str
    """Its path below the attempt's directory."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of a log, without its end; bytes that are no UTF-8 are marked."""

    file: LogFile
    text: str


def log_files(
    run: Run, *, attempt: int | None = None, role: Role = "driver", rank: int | None = None
) -> tuple[LogFile, ...]:
    """The logs of an attempt, by default the newest; without a driver's, the job script's say why.

    Raises LtrlError for an attempt that does not exist, and for a rank that wrote nothing while others did.
    """
    number = _number(run, attempt)
    chosen = _chosen(run, number, role, rank)
    if rank is not None and not chosen and (others := _chosen(run, number, role, None)):
        listed = ", ".join(sorted({str(log.rank) for log in others}))
        message = f"attempt {number} of `{run.id}` has no such log of rank {rank}, only of {listed}"
        raise fail(Code.NO_LOGS, message, hint=f"`ltrl logs {run.id} --list` lists them all")
    return chosen


def read(
    run: Run, *, attempt: int | None = None, role: Role = "driver", rank: int | None = None, last: int | None = None
) -> Iterator[LogLine]:
    """Every line that is there, file after file; `last` leaves so many of each."""
    for log in log_files(run, attempt=attempt, role=role, rank=rank):
        with suppress(FileNotFoundError), log.path.open("rb") as file:
            for line in file if last is None else deque(file, maxlen=last):
                yield LogLine(log, _text(line.removesuffix(b"\n")))


def follow(
    run: Run,
    *,
    attempt: int | None = None,
    role: Role = "driver",
    rank: int | None = None,
    last: int | None = None,
    every_s: float = 0.3,
) -> Iterator[LogLine]:
    """Every line as it comes, until the attempt is over and, when none was named, no later one has begun.

    Files that appear later, that are cut short or that are replaced are followed too.
    """
    number = _number(run, attempt)
    tails: dict[Path, _Tail] = {}
    asked = 0.0
    is_over = False
    while True:
        if time.monotonic() - asked >= (ASK_EVERY_S if run.latest and run.latest.executor == "slurm" else 0.0):
            run = jobs.observe([state.read_run(run.path)])[0]
            is_over = all(a.state.is_finished for a in run.attempts if a.number == number)
            asked = time.monotonic()
        for log in _chosen(run, number, role, rank):
            for line in tails.setdefault(log.path, _Tail(log.path, last)).read(to_end=is_over):
                yield LogLine(log, line)
        if not is_over:
            time.sleep(every_s)
            continue
        later = [a.number for a in run.attempts if a.number > number]
        if attempt is not None or not later:
            return
        number, is_over, last = later[0], False, None


@dataclass(slots=True)
class _Tail:
    """How far a file has been read."""

    path: Path
    last: int | None
    """Lines to begin with; None for all."""
    file: BinaryIO | None = None
    rest: bytes = b""
    """A line whose end is not there yet."""

    def read(self, *, to_end: bool) -> Iterator[str]:
        """What is new; with `to_end` also a last line without an end."""
        fresh = self._fresh()
        *lines, self.rest = (self.rest + fresh).split(b"\n")
        yield from map(_text, lines)
        if to_end and self.rest:
            yield _text(self.rest)
            self.rest = b""

    def _fresh(self) -> bytes:
        try:
            if self.file is None:
                self.file = self.path.open("rb")
                return b"".join(self.file if self.last is None else deque(self.file, maxlen=self.last))
            fresh = self.file.read()  # of a file that was replaced, the rest
            now, then = self.path.stat(), os.fstat(self.file.fileno())
            if (now.st_dev, now.st_ino) != (then.st_dev, then.st_ino):
                self.file.close()
                self.file = self.path.open("rb")
                fresh += self.file.read()
            elif now.st_size < self.file.tell():
                self.file.seek(0)
                fresh += self.file.read()
            return fresh
        except OSError:  # not there yet, or being replaced right now
            return b""

    def __del__(self) -> None:
        if self.file:
            self.file.close()


def _number(run: Run, attempt: int | None) -> int:
    known = [a.number for a in run.attempts]
    number = max(known, default=0) if attempt is None else attempt
    if number not in known:
        listed = ", ".join(map(str, known)) or "none"
        raise fail(Code.UNKNOWN_RUN, f"`{run.id}` has no attempt {number}: it has {listed}")
    return number


def _chosen(run: Run, number: int, role: Role, rank: int | None) -> tuple[LogFile, ...]:
    every = tuple(_files(run.attempt_dir(number), number))
    found = tuple(log for log in every if role in (log.role, "all"))
    if not found and role == "driver":
        found = tuple(log for log in every if log.role == "job")
    return tuple(log for log in found if rank in (log.rank, None))


def _files(directory: Path, attempt: int) -> Iterator[LogFile]:
    """All logs of an attempt, role after role, ranks in their order."""
    hosts = sorted((path.name[11:-4] for path in directory.glob("ray-worker-*.log")), key=_natural)
    for role, patterns in PATTERNS.items():
        paths = [p for pattern in patterns for p in sorted(directory.glob(pattern), key=lambda p: _natural(str(p)))]
        for path in filter(Path.is_file, paths):
            name = path.relative_to(directory)
            host = path.name[11:-4] if role == "worker" else name.parts[1] if role == "ray" else ""
            rank = hosts.index(host) + 1 if host in hosts else 0
            yield LogFile(path, attempt, role, rank, str(name))


def _natural(text: str) -> list[tuple[int, str]]:
    """An order in which `node10` comes after `node9`, as in Slurm's lists of nodes."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", text)]


def _text(line: bytes) -> str:
    return line.decode(errors="replace")
