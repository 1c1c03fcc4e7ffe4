"""Text with the entities of a rubric marked where it names them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING

from ltrl.cli import show

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["hue", "marked", "marked_html"]

Mark = tuple[int, int, int]
"""First character, last + 1, and the number of the entity, from 1."""

_AROUND = 100
"""Characters shown on both sides of a hit."""

_COLOURS = ("yellow", "cyan", "magenta", "green", "blue", "red")


def marked_html(text: str, marks: Sequence[Mark]) -> str:
    """The text as HTML; what names an entity is a `mark` with its number."""
    return "".join(
        f'<mark style="--hue:{hue(numbers[0])}">{escape(piece)}<sup>{",".join(map(str, numbers))}</sup></mark>'
        if numbers
        else escape(piece)
        for piece, numbers in _pieces(text, marks)
    )


def marked(text: str, marks: Sequence[Mark], *, full: bool) -> Text:
    """The text for a terminal; unless full, what is far from a hit is left out."""
    from rich.text import Text

    made = Text()
    for piece, numbers in _pieces(text, marks):
        if numbers:
            names = ",".join(map(str, numbers))
            style = f"bold reverse {_COLOURS[numbers[0] % len(_COLOURS)]}"
            made.append(f"[{names}:{show.printable(piece.replace(chr(10), ' '))}]", style)
            continue
        if full or len(piece) < 3 * _AROUND:
            made.append(_lines(piece))
            continue
        made.append(_lines(piece[:_AROUND]))
        made.append(f" … {len(piece) - 2 * _AROUND:,} characters … ", "dim")
        made.append(_lines(piece[-_AROUND:]))
    return made


def hue(number: int) -> int:
    """The colour of an entity, as an angle on the colour circle."""
    return number * 137 % 360  # neighbours far apart on the circle


def _pieces(text: str, marks: Sequence[Mark]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The text in stretches, each with the numbers of the entities that it belongs to."""
    edges = sorted({0, len(text), *(edge for start, end, _ in marks for edge in (start, end))})
    for start, end in pairwise(edges):
        yield text[start:end], tuple(sorted({n for a, b, n in marks if a < end and start < b}))


def _lines(text: str) -> str:
    return "\n".join(map(show.printable, text.split("\n")))
