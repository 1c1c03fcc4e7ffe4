"""From the files of a run to its table; a second reading costs what was written in between."""

from __future__ import annotations

import json
import math
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ltrl.checkpoints import rollbacks
from ltrl.metrics import events
from ltrl.metrics.figures import FIGURES, FigureName
from ltrl.metrics.table import Table
from ltrl.metrics.tail import Replaced, Tail, lines

__all__ = ["Gpu", "Metrics", "Reader", "Start", "read"]

EVERYTHING = 2**62
"""Bytes at a time, without a limit."""

LAST_STEP = 2**62

STEP_TIME = "timing/train/total_step_time"
"""What the engines say last of a step."""

_ENDS_STEP = STEP_TIME.encode()
_GPU = re.compile(r"ray/node\.(\d+)\.gpu\.(\d+)\.(util|mem_gb)")


@dataclass(slots=True)
class Start:
    """One start of the driver."""

    number: int
    path: Path
    """Its `exp_NNN`."""
    first_step: int | None = None
    last_step: int | None = None
    """Training steps that it has measured; None before the first."""
    times: dict[int, float] = field(default_factory=dict)
    """When steps ended whose figures are not there yet."""


@dataclass(slots=True)
class Gpu:
    """What was seen last of a GPU."""

    memory_gb: float = math.nan
    peak_memory_gb: float = math.nan
    utilisation: float = math.nan
    """0 to 100."""


@dataclass(frozen=True)
class Metrics:
    """Numbers by step, steps ascending."""

    train: Table
    """Training steps count from 1; tags without their `train/` prefix, timings with `timing/`, `time` in seconds since
    1970 where event files tell it."""
    validation: Table
    """Tags without their `validation/` prefix; step 0 is the start model."""
    starts: Mapping[int, Start] = field(default_factory=dict)
    """Starts of the driver by number."""
    gpus: Mapping[tuple[int, int], Gpu] = field(default_factory=dict)
    """By node and number on the node."""

    @property
    def last_step(self) -> int:
        """The last training step measured; 0 before the first."""
        return self.train.steps[-1] if self.train.steps else 0

    def figure(self, name: FigureName) -> Sequence[float]:
        """A figure at each of `train.steps`, NaN where it was not measured."""
        if name == "tokens_per_second":
            pairs = zip(self.figure("tokens"), self.figure("seconds"), strict=True)
            return array("d", (tokens / seconds if seconds > 0 else math.nan for tokens, seconds in pairs))
        known = self.train.tags
        tags = FIGURES[name].tags
        return self.train.column(next((tag for tag in tags if tag in known), tags[0]))

    def mean(self, tag: str, *, first: int = 0, last: int = 0) -> float | None:
        """Mean of a training tag over the first or the last so many steps; None where it was never measured."""
        column = self.train.column(tag)
        chosen = column[:first] if first else column[-last:] if last else column
        values = [value for value in chosen if not math.isnan(value)]
        return sum(values) / len(values) if values else None

    def sources(self) -> dict[str, dict[str, Sequence[float]]]:
        """Figures of each source of training samples at each of `train.steps`, where engines tell them apart."""
        found: dict[str, dict[str, Sequence[float]]] = {}
        for tag in self.train.tags:
            if tag.startswith("source/"):
                source, _, name = tag.removeprefix("source/").rpartition("/")
                found.setdefault(source, {})[name] = self.train.column(tag)
        return found


class Reader:
    """Reads a run's metrics again and again. What was read stays when files vanish; replaced ones are read anew."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self._forget()

    def _forget(self) -> None:
        self._rollbacks = rollbacks(self.run)
        self._starts: dict[int, Start] = {}
        self._gpus: dict[tuple[int, int], Gpu] = {}
        self._tails: dict[Path, Tail] = {}
        self._names: dict[str, tuple[bool, str]] = {}
        self.metrics = Metrics(Table(), Table(), self._starts, self._gpus)

    def update(self, *, limit: int = EVERYTHING) -> bool:
        """Takes in what is new, of each file at most about `limit` bytes; whether there was anything."""
        before = sum(tail.offset for tail in self._tails.values())
        try:
            self._read(limit)
        except Replaced:
            self._forget()
            self._read(limit)
            return True
        return sum(tail.offset for tail in self._tails.values()) != before

    def _read(self, limit: int) -> None:
        if rollbacks(self.run) != self._rollbacks:
            raise Replaced
        for number, path in _experiments(self.run / "logs"):
            start = self._starts.setdefault(number, Start(number, path))
            tail = self._tail(path / "metrics.jsonl")
            for line in lines(tail, limit):
                if record := _record(line):
                    step = int(record.pop("step"))
                    self._take(start, step, record)
            for file in sorted(_listed(path / "tensorboard", "events.out.tfevents")):
                self._take_events(start, file, limit, has_lines=tail.offset > 0)
        if not self._starts:
            self._take_checkpoints()

    def _tail(self, path: Path) -> Tail:
        return self._tails.setdefault(path, Tail(path))

    def _take(self, start: Start, step: int, record: Mapping[str, float]) -> None:
        """One line of a metrics file."""
        trained: dict[str, float] = {}
        measured: dict[str, float] = {}
        names = self._names
        for tag, value in record.items():
            known = names.get(tag)
            if known is None:
                is_validation = tag.startswith("validation/")
                known = names[tag] = is_validation, tag.removeprefix("validation/" if is_validation else "train/")
            (measured if known[0] else trained)[known[1]] = value
        if trained:
            self._take_trained(start, step, trained)
        if measured and not self.is_lost(start, step):
            self.metrics.validation.put(step, measured, start=start.number)

    def _take_trained(self, start: Start, step: int, values: Mapping[str, float]) -> None:
        if start.first_step is None or step < start.first_step:
            start.first_step = step
            self.metrics.train.drop(step, before=start.number)
            self.metrics.validation.drop(step, before=start.number)
        start.last_step = max(step, start.last_step or 0)
        if start.times and (time := start.times.pop(step, None)) is not None:
            values = {**values, "time": time}
        if not self.is_lost(start, step):
            self.metrics.train.put(step, values, start=start.number)

    def is_lost(self, start: Start, step: int) -> bool:
        """Whether a later start began before this step was done, or a rollback went behind it."""
        if any(start.number <= back.start and step > back.step for back in self._rollbacks):
            return True
        later = (s.first_step for s in self._starts.values() if s.number > start.number)
        return any(first is not None and step >= first for first in later)

    def _take_events(self, start: Start, file: Path, limit: int, *, has_lines: bool) -> None:
        """Event files tell the time and the GPUs; where there are no metrics files, everything."""
        for message in events.records(self._tail(file), limit):
            if has_lines and b"ray/" not in message and _ENDS_STEP not in message:
                continue
            for time, step, tag, value in events.scalars(message):
                if tag.startswith("ray/"):
                    self._take_gpu(tag, value)
                elif math.isfinite(value) and 0 <= step < LAST_STEP:
                    if not has_lines:
                        self._take(start, step, {tag: value})
                    if tag == STEP_TIME:
                        self._take_time(start, step, time)

    def _take_time(self, start: Start, step: int, time: float) -> None:
        if step in self.metrics.train and not self.is_lost(start, step):
            self.metrics.train.put(step, {"time": time}, start=start.number)
        else:  # the step's line is still being written
            start.times[step] = time

    def _take_gpu(self, tag: str, value: float) -> None:
        if named := _GPU.fullmatch(tag):
            gpu = self._gpus.setdefault((int(named[1]), int(named[2])), Gpu())
            if named[3] == "util":
                gpu.utilisation = value
            else:
                gpu.memory_gb = value
                gpu.peak_memory_gb = value if math.isnan(gpu.peak_memory_gb) else max(value, gpu.peak_memory_gb)

    def _take_checkpoints(self) -> None:
        for path in _listed(self.run / "checkpoints", "step_"):
            number = path.name.removeprefix("step_")
            with suppress(OSError, ValueError):
                info = json.loads((path / "training_info.json").read_bytes()) if number.isdecimal() else None
                if isinstance(info, dict):
                    values = {tag[4:]: value for tag, value in _numbers(info) if tag.startswith("val:")}
                    if values:
                        self.metrics.validation.put(int(number), values, start=0)


def read(run: Path) -> Metrics:
    """The metrics in a run directory; lines that are damaged or still being written are left out."""
    reader = Reader(run)
    reader.update()
    return reader.metrics


def _record(line: bytes) -> dict[str, float] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    step = record.get("step")
    if type(step) is not int or not 0 <= step < LAST_STEP:
        return None
    return {"step": step, **{tag: value for tag, value in _numbers(record) if tag != "step"}}


def _numbers(record: Mapping[str, object]) -> Iterator[tuple[str, float]]:
    for tag, value in record.items():
        kind = type(value)
        if kind is float or (kind is int and -(2**1000) < value < 2**1000):  # type: ignore[operator]
            number = float(value)  # type: ignore[arg-type]
            if math.isfinite(number):
                yield tag, number


def _experiments(logs: Path) -> list[tuple[int, Path]]:
    found = ((path.name.removeprefix("exp_"), path) for path in _listed(logs, "exp_"))
    return sorted((int(number), path) for number, path in found if number.isdecimal())


def _listed(directory: Path, prefix: str) -> list[Path]:
    try:
        return [path for path in directory.iterdir() if path.name.startswith(prefix)]
    except OSError:
        return []
