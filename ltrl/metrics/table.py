"""Numbers by step, kept by columns: 10,000 steps of 60 tags are 5 MB."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence

__all__ = ["Table"]

NAN = math.nan


class Table(Mapping[int, Mapping[str, float]]):
    """A row for each step, ascending; reads as steps and what was measured at each.

    A row belongs to the start of the driver that measured it; a later start's replaces it.
    """

    def __init__(self) -> None:
        self.steps: array[int] = array("q")
        self.changed_from: int | None = None
        """The first row that changed since whoever follows this table set it to None."""
        self._starts: array[int] = array("q")
        self._columns: dict[str, array[float]] = {}

    def __getitem__(self, step: int) -> Mapping[str, float]:
        at = self._find(step)
        if at is None:
            raise KeyError(step)
        row = ((tag, column[at]) for tag, column in self._columns.items() if at < len(column))
        return {tag: value for tag, value in row if value == value}  # noqa: PLR0124  # not NaN

    def __iter__(self) -> Iterator[int]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def tags(self) -> tuple[str, ...]:
        """What was measured at any step, in the order of its first appearance."""
        return tuple(self._columns)

    def column(self, tag: str) -> Sequence[float]:
        """A tag's value at each of `steps`, NaN where it was not measured; not to be changed."""
        column = self._columns.get(tag)
        if column is None:
            return array("d", [NAN]) * len(self.steps)
        _pad(column, len(self.steps))
        return column

    def start_of(self, step: int) -> int | None:
        """Number of the driver's start that measured a step."""
        at = self._find(step)
        return None if at is None else self._starts[at]

    def put(self, step: int, values: Mapping[str, float], *, start: int) -> None:
        """Adds to a step what a start measured; ignored when a later one has measured the step."""
        at = len(self.steps)
        if not self.steps or step > self.steps[-1]:
            self.steps.append(step)
            self._starts.append(start)
        else:
            at = bisect_left(self.steps, step)
            if self.steps[at] != step:
                self._insert(at, step, start)
            elif self._starts[at] > start:
                return
            elif self._starts[at] < start:
                self._blank(at, start)
        self._touch(at)
        columns = self._columns
        for tag, value in values.items():
            column = columns.get(tag)
            if column is None:
                column = columns[tag] = array("d")
            if len(column) == at:
                column.append(value)
            else:
                _pad(column, at + 1)
                column[at] = value

    def drop(self, first: int, *, before: int) -> None:
        """Forgets the steps from `first` on that starts before the one numbered `before` have measured."""
        at = bisect_left(self.steps, first)
        lost = [i for i in range(at, len(self.steps)) if self._starts[i] < before]
        if not lost:
            return
        self._touch(at)
        for column in self._columns.values():
            _pad(column, len(self.steps))
        for i in reversed(lost):
            del self.steps[i], self._starts[i]
            for column in self._columns.values():
                del column[i]

    def _insert(self, at: int, step: int, start: int) -> None:
        for column in self._columns.values():
            _pad(column, len(self.steps))
            column.insert(at, NAN)
        self.steps.insert(at, step)
        self._starts.insert(at, start)

    def _blank(self, at: int, start: int) -> None:
        self._starts[at] = start
        for column in self._columns.values():
            if at < len(column):
                column[at] = NAN

    def _touch(self, at: int) -> None:
        self.changed_from = at if self.changed_from is None else min(at, self.changed_from)

    def _find(self, step: int) -> int | None:
        at = bisect_left(self.steps, step)
        return at if at < len(self.steps) and self.steps[at] == step else None


def _pad(column: array[float], length: int) -> None:
    if (missing := length - len(column)) > 0:
        column.extend([NAN] * missing)
