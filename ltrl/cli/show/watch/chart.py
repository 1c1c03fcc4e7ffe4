"""Curves of dots: a character cell of braille has two by four of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["bounds", "chart", "number", "spark"]

BLANK = 0x2800
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
"""Bits of the dots of a cell: left and right column, from the top."""

BLOCKS = "▁▂▃▄▅▆▇█"
ASCII = "_.-~=+*#"


def chart(values: Sequence[float], *, width: int, height: int, low: float, high: float, ascii_: bool) -> list[str]:
    """`height` lines of `width` characters with a curve through the values; NaN leaves a gap.

    There are at most as many values as dots in a line: two a character, one in ASCII.
    """
    columns, levels = (1, 1) if ascii_ else (2, 4)
    across, down = width * columns, height * levels
    cells = [[0] * width for _ in range(height)]
    before: int | None = None
    last_x, level = -1, 0
    for index, value in enumerate(values):
        x = round(index * (across - 1) / (len(values) - 1)) if len(values) > 1 else 0
        if math.isnan(value):
            before = None
            continue
        share = (value - low) / (high - low) if high > low else 0.5
        y = round((1 - min(1.0, max(0.0, share))) * (down - 1))
        for column in range(last_x + 1 if before is not None else x, x + 1):
            at = y if before is None else round(before + (y - before) * (column - last_x) / (x - last_x))
            came = at if before is None else level
            for dot in range(min(at, came), max(at, came) + 1):
                cells[dot // levels][column // columns] |= _DOTS[column % columns][dot % levels]
            level = at
        before, last_x = y, x
    if ascii_:
        return ["".join("*" if cell else " " for cell in row) for row in cells]
    return ["".join(chr(BLANK + cell) if cell else " " for cell in row) for row in cells]


def spark(values: Sequence[float], *, low: float, high: float, ascii_: bool) -> str:
    """A line with a block for each value."""
    marks = ASCII if ascii_ else BLOCKS
    return "".join(
        " " if math.isnan(v) else marks[min(7, max(0, int((v - low) / (high - low) * 8)))] if high > low else marks[3]
        for v in values
    )


def bounds(values: Sequence[float]) -> tuple[float, float]:
    """Where an axis begins and ends: from 0 to 1 for what lies between, else with 0 for what is never negative."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    if low >= 0:
        return 0.0, 1.0 if high <= 1 else high
    return low, max(high, low + 1e-9)


def number(value: float | None) -> str:
    """A figure in at most six characters or so."""
    if value is None or math.isnan(value):
        return "-"
    size = abs(value)
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= factor:
            return f"{value / (1e3 if letter == 'k' else factor):.1f}{letter}"
    if size >= 100 or value == 0:
        return f"{value:.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.3f}" if size >= 0.001 else f"{value:.1e}"
