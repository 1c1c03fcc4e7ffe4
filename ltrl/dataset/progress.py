"""How far a build is, on stderr: a line that moves in a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO, TypeVar

__all__ = ["Progress"]

T = TypeVar("T")


class Progress:
    """Tells of one thing at a time."""

    def __init__(self, stream: TextIO | None = None, *, is_quiet: bool = False) -> None:
        self._stream = stream or sys.stderr
        self._is_quiet = is_quiet
        self._moves = self._stream.isatty()
        self._pause_s = 0.2 if self._moves else 10.0

    def over(self, items: Sequence[T], what: str) -> Iterator[T]:
        """The items, told of as they are taken."""
        with self.counting(what, len(items)) as step:
            for item in items:
                yield item
                step(1)

    @contextmanager
    def counting(self, what: str, total: int | None = None, *, done: int = 0) -> Iterator[Callable[[int], None]]:
        """A function to say how many more are done; `done` of them were so before."""
        start = said = time.monotonic()
        count = done
        has_told = False

        def step(more: int) -> None:
            nonlocal count, said, has_told
            count += more
            now = time.monotonic()
            if now - said >= self._pause_s:
                said, has_told = now, True
                self._tell(self._line(what, count, total, done, now - start), is_last=False)

        yield step
        if has_told or time.monotonic() - start > 1:
            self._tell(f"{what}: {f'{count} in ' if count else ''}{_span(time.monotonic() - start)}", is_last=True)

    def say(self, text: str) -> None:
        """One line that stays."""
        self._tell(text, is_last=True)

    @staticmethod
    def _line(what: str, count: int, total: int | None, before: int, seconds: float) -> str:
        if total is None or count == before:
            return f"{what}: {count}" + (f" of {total}" if total else "")
        left = seconds / (count - before) * (total - count)
        return f"{what}: {count} of {total}, {_span(left)} left"

    def _tell(self, line: str, *, is_last: bool) -> None:
        if self._is_quiet:
            return
        if self._moves:
            self._stream.write(f"\r\x1b[2K{line}" + ("\n" if is_last else ""))
        else:
            self._stream.write(f"{line}\n")
        self._stream.flush()


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
