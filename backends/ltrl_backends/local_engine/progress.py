"""What a person sees while the training runs: a bar on a terminal, lines elsewhere; all of it on stderr."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["Bar", "Lines", "Reporter", "reporter"]

SHOWN = {"train/reward": "reward", "train/outcome": "outcome", "train/rubric": "rubric"}


class Reporter(Protocol):
    """Shows how far the training is."""

    def __enter__(self) -> Reporter: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def say(self, line: str) -> None:
        """Shows a line that stays."""
        ...

    def step(self, step: int, values: Mapping[str, float]) -> None:
        """Shows that a step is done, with its metrics."""
        ...


class Lines:
    """One plain line for each event, for logs."""

    def __init__(self, num_steps: int) -> None:
        self.num_steps = num_steps

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        return None

    def say(self, line: str) -> None:
        """Writes the line."""
        sys.stderr.write(line + "\n")
        sys.stderr.flush()

    def step(self, step: int, values: Mapping[str, float]) -> None:
        """Writes a line such as `step 12/100  reward 0.61  outcome 0.70  rubric 0.42  0.6 s`."""
        seconds = values.get("timing/train/total_step_time", 0.0)
        self.say(f"step {step}/{self.num_steps}  {_shown(values)}  {seconds:.1f} s")


class Bar:
    """A progress bar with the newest reward and the time left."""

    def __init__(self, num_steps: int) -> None:
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self.task = self.progress.add_task("training", total=num_steps, figures="")

    def __enter__(self) -> Bar:
        self.progress.start()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.progress.stop()

    def say(self, line: str) -> None:
        """Shows the line above the bar."""
        self.progress.console.print(line, markup=False, highlight=False)

    def step(self, step: int, values: Mapping[str, float]) -> None:
        """Moves the bar."""
        self.progress.update(self.task, completed=step, figures=_shown(values))


def reporter(num_steps: int) -> Reporter:
    """A bar when a person watches stderr, lines otherwise."""
    return Bar(num_steps) if sys.stderr.isatty() else Lines(num_steps)


def _shown(values: Mapping[str, float]) -> str:
    return "  ".join(f"{label} {values[name]:.2f}" for name, label in SHOWN.items() if name in values)
