"""Runs as they are right now, kept up to date at the cost of what is new: what `ltrl watch` shows."""

from __future__ import annotations

import math
import re
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ltrl import jobs, logs, runs, state
from ltrl.errors import LtrlError
from ltrl.metrics import FigureName, Metrics, Reader
from ltrl.metrics.curve import Curve
from ltrl.metrics.reader import EVERYTHING
from ltrl.metrics.tail import Replaced, Tail, lines
from ltrl.runs import Status
from ltrl.state import Attempt, Event, Run, State

__all__ = ["DRAWN", "Live", "Observer", "Stall"]

DRAWN: tuple[FigureName, ...] = ("reward", "outcome", "rubric", "response_tokens", "tokens_per_second", "mixed")
"""Figures that are drawn as curves."""

WINDOW = 10
"""Steps that a figure is the mean of."""

LOG_BYTES = 32 * 1024
LOG_LINES = 200
"""Of a log's end."""

SILENT_S = 1800.0
"""How long a job may write nothing before its first step: models of a terabyte load for so long."""

SLOWEST = 5.0
"""A step may take so many times the longest of the last ones: validation and checkpoints come on top."""

_STEERING = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\].*?(?:\x07|\x1b\\)")


@dataclass(frozen=True, slots=True)
class Stall:
    """Nothing has happened for longer than there is a reason for."""

    seconds: float
    usual_seconds: float
    """Of a step; 0 before the first."""


class Live:
    """One run. What was seen of it stays when its directory vanishes."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.reader = Reader(run.path)
        self.curves: dict[FigureName, Curve] = {name: Curve() for name in DRAWN}
        self.status: Status = runs.row_of(run)
        self.events: deque[Event] = deque(maxlen=50)
        self.log: tuple[str, ...] = ()
        self.log_name = ""
        self.stages: tuple[tuple[str, State], ...] = ()
        """Other stages of the run and how they do."""
        self.is_gone = False
        self.trouble = ""
        """Why its figures cannot be read."""
        self._events = Tail(run.path / "events.jsonl")
        self._observed: tuple[Attempt, ...] | None = None
        """Attempts that the status was made from."""
        self._rates: list[float] = []
        """Tokens a second at each step."""
        self._log_seen: tuple[Path, int, int] | None = None
        self._is_caught_up = False
        self._began = _began(run)
        """When the newest attempt did."""
        self._moved = time.monotonic()
        """When the job gave a sign of life last."""
        self._stepped: float | None = None
        """When the newest attempt finished a step last; None before its first."""

    @property
    def metrics(self) -> Metrics:
        """Everything measured so far."""
        return self.reader.metrics

    def update(self, *, limit: int = EVERYTHING) -> bool:
        """Looks at the directory, at most so many bytes of each file; whether anything is new."""
        self.is_gone = not state.is_run(self.run.path)
        if self.is_gone:
            return False
        try:
            is_new, self.trouble = self.reader.update(limit=limit), ""
        except LtrlError as error:
            is_new, self.trouble = False, error.diagnostics[0].message
        has_stepped = self._draw()
        if is_new or self.run.attempts != self._observed or self.run.latest is None:
            self.status = runs.row_of(self.run)
            self._observed = self.run.attempts
        said = self._read_events() | self._read_log()
        self._note_signs(has_stepped=has_stepped, has_moved=is_new or said)
        self._is_caught_up |= not is_new
        return is_new or said

    def recent(self, name: FigureName) -> float | None:
        """Mean of a figure over the last ten steps; None where it was not measured."""
        if name == "tokens_per_second":
            tokens, seconds = self.recent("tokens"), self.recent("seconds")
            return tokens / seconds if tokens is not None and seconds else None
        known = [value for value in self.metrics.figure(name)[-WINDOW:] if not math.isnan(value)]
        return sum(known) / len(known) if known else None

    @property
    def stage(self) -> str:
        """What the job is doing: a moment of its start, then `training`."""
        latest = self.run.latest
        if latest is None or self.status.state is not State.RUNNING:
            return ""
        with suppress(OSError):
            text = (self.run.attempt_dir(latest.number) / "moments").read_text(errors="replace")
            return text.strip().rpartition("\n")[2].partition(" ")[2]
        return ""

    @property
    def checkpoint_age_seconds(self) -> float | None:
        """Of the last one."""
        step = self.status.last_checkpoint
        with suppress(OSError):
            path = self.run.path / "checkpoints" / f"step_{step}" / "training_info.json"
            return max(0.0, time.time() - path.stat().st_mtime)
        return None

    @property
    def stall(self) -> Stall | None:
        """Whether it seems to hang."""
        if self.status.state is not State.RUNNING:
            return None
        steps = [s for s in self.metrics.figure("seconds")[-2 * WINDOW :] if not math.isnan(s)]
        if self._stepped is None:  # it starts, which takes as long as the model is large
            quiet, allowed = time.monotonic() - self._moved, SILENT_S
        else:
            quiet, allowed = time.monotonic() - self._stepped, max(60.0, SLOWEST * max(steps, default=0.0))
        usual = sum(steps) / len(steps) if steps and self._stepped is not None else 0.0
        return Stall(quiet, usual) if quiet > allowed else None

    def _note_signs(self, *, has_stepped: bool, has_moved: bool) -> None:
        """Keeps when the job moved. What was written before anybody watched is as old as its file says."""
        now = time.monotonic()
        if (began := _began(self.run)) != self._began:
            self._began, self._stepped, self._moved = began, None, now
        if not self._is_caught_up:
            stepped, moved = _signs(self.run)
            self._stepped = None if stepped is None else now - stepped
            self._moved = now - moved
            return
        if has_stepped:
            self._stepped = now
        if has_moved:
            self._moved = now

    def _draw(self) -> bool:
        """Takes new steps into the curves; whether there were any."""
        table = self.metrics.train
        changed = table.changed_from
        if changed is None:
            return False
        table.changed_from = None
        for name, curve in self.curves.items():
            if name == "tokens_per_second":
                tokens, seconds = (self.metrics.figure(n)[changed:] for n in ("tokens", "seconds"))
                rates = [t / s if s > 0 else math.nan for t, s in zip(tokens, seconds, strict=True)]
                self._rates[changed:] = rates
                curve.update(self._rates, changed)
            else:
                curve.update(self.metrics.figure(name), changed)
        return True

    def _read_events(self) -> bool:
        had = self._events.offset
        try:
            found = list(lines(self._events, EVERYTHING))
        except Replaced:
            self._events = Tail(self._events.path)
            self.events.clear()
            found = list(lines(self._events, EVERYTHING))
        self.events.extend(state.events_in(found))
        return self._events.offset != had

    def _read_log(self) -> bool:
        """The end of the log that was written to last."""
        newest = None
        with suppress(LtrlError):
            for log in logs.log_files(self.run):
                with suppress(OSError):
                    found = log.path.stat()
                    if found.st_size and (newest is None or found.st_mtime_ns > newest[0]):
                        newest = found.st_mtime_ns, log.path, found.st_size, log.name
        if newest is None or self._log_seen == (newest[1], newest[2], newest[0]):
            return False
        self._log_seen, self.log_name = (newest[1], newest[2], newest[0]), newest[3]
        with suppress(OSError), newest[1].open("rb") as file:
            file.seek(max(0, newest[2] - LOG_BYTES))
            text = file.read(LOG_BYTES).decode(errors="replace")
            kept = text.split("\n")[1 if newest[2] > LOG_BYTES else 0 :]
            self.log = tuple(line for raw in kept if (line := _plain(raw)))[-LOG_LINES:]
        return True


class Observer(threading.Thread):
    """Asks the schedulers about runs, beside whoever draws: an answer may take seconds."""

    def __init__(self, watched: Sequence[Live]) -> None:
        super().__init__(daemon=True)
        self.watched = watched
        self.trouble = ""
        """Why nobody could be asked."""

    @property
    def pause_s(self) -> float:
        """Seconds between two questions."""
        return max((runs.pause(live.status) for live in self.watched if not live.status.state.is_finished), default=5.0)

    def ask(self) -> None:
        """Asks once."""
        known = []
        for live in self.watched:
            with suppress(LtrlError):
                known.append((live, state.read_run(live.run.path)))
        found = jobs.observe([run for _, run in known])
        for (live, _), run in zip(known, found, strict=True):
            live.run = run
            others = state.all_runs(run.path)[1:]
            live.stages = tuple((o.id.rpartition("/")[2], o.latest.state) for o in others if o.latest)

    def run(self) -> None:
        """Asks until the process ends."""
        while True:
            try:
                self.ask()
                self.trouble = ""
            except LtrlError as error:
                self.trouble = error.diagnostics[0].message
            time.sleep(self.pause_s)


def _began(run: Run) -> str:
    """When the newest attempt of a run began, or was made."""
    return (run.latest.started or run.latest.created) if run.latest else run.created


def _signs(run: Run) -> tuple[float | None, float]:
    """Seconds since the newest attempt finished a step, and since any sign of it; 0 when its clock is ahead of ours."""
    began = _began(run)
    steps = [time for path in run.path.glob("logs/exp_*/metrics.jsonl") if (time := state.written(path))]
    stepped = max((time for time in steps if time >= began), default=None)
    logged: list[str] = []
    with suppress(LtrlError):
        logged = [time for log in logs.log_files(run) if (time := state.written(log.path))]
    moved = max([began, *steps, *logged])
    return (
        None if stepped is None else max(0.0, state.seconds_since(stepped)),
        max(0.0, state.seconds_since(moved)),
    )


def _plain(line: str) -> str:
    """A line of a log as it would stand on a screen: the last of what overwrote each other, without colours."""
    return _STEERING.sub("", line.rstrip("\r")).rpartition("\r")[2].rstrip()
