"""LongTraceRL's matcher, hit for hit: ASCII words and CJK ideographs, a substring of what they join to.

The text is not normalised. It is put in lower case; the token of the entity that is likely to be rarest is looked for
with `str.find`, which settles nearly every miss; where it stands, the tokens before and after are asked for. Searching
costs about half a nanosecond a character, normalising thirty. A short text of rare letters alone to search in was tried
too: making it costs what it saves.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise

from ltrl.scoring.fold import rarity

__all__ = ["Prepared", "ReferenceEntity", "normalize"]

_TOKEN = re.compile("[a-z0-9_]+|[\u4e00-\u9fff]")
_IDEOGRAPH = re.compile("[\u4e00-\u9fff]")
_BREAK = "[^a-z0-9_\u4e00-\u9fff]"
_KELVIN, _DOTTED_I = (
    "\u212a",
    "\u0130",
)  # Python's `lower` turns these two, and no others, into ASCII letters: `k`, `i\u0307`


def normalize(text: str) -> str:
    """The tokens of a text joined by spaces: runs of ASCII letters, digits and `_`, and single CJK ideographs."""
    return " ".join(_TOKEN.findall(text.lower()))


class Prepared:
    """A text in lower case.

    Where no entity has ideographs, every character that is not ASCII becomes a `?`, which costs a quarter of lower case
    in Unicode; a place found must then hold no ideograph.
    """

    def __init__(self, original: str, *, keeps_ideographs: bool) -> None:
        self.original = original
        self._added: list[int] = []  # places of the dots that lower case sets beside an `i`
        if _DOTTED_I in original:
            dotted = (match.start() for match in re.finditer(_DOTTED_I, original))
            self._added = [place + number for number, place in enumerate(dotted, 1)]
        elif not (original.isascii() or keeps_ideographs):
            original = original.replace(_KELVIN, "k").encode("ascii", "replace").decode("ascii")
        self.text = original.lower()

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where characters [start, end) of `text` stand in the original."""
        return start - bisect_left(self._added, start), end - bisect_left(self._added, end)


class ReferenceEntity:
    """A rubric entity that finds itself in prepared texts.

    `normalize(entity) in normalize(text)` says: its tokens in their order with only separators between them, the first
    and the last possibly parts of words.
    """

    def __init__(self, entity: str) -> None:
        tokens = _TOKEN.findall(entity.lower())
        self.is_empty = not tokens
        self.has_ideographs = any(token >= "\u4e00" for token in tokens)
        if self.is_empty:
            return
        place = max(range(len(tokens)), key=lambda i: (rarity(tokens[i]), -i))
        breaks = [_BREAK + ("*" if max(pair) >= "\u4e00" else "+") for pair in pairwise(tokens)]
        self._anchor = tokens[place]
        self._before = re.compile("".join(map(str.__add__, tokens[:place], breaks)) + r"\Z") if place else None
        self._num_before = sum(map(len, tokens[:place]))
        rest = "".join(map(str.__add__, breaks[place:], tokens[place + 1 :]))
        self._after = re.compile(self._anchor + rest)

    def find_all(self, text: Prepared) -> Iterator[tuple[int, int]]:
        """Every place in the original text, from left to right, none overlapping.

        An entity without tokens is at the start of any text.
        """
        if self.is_empty:
            yield 0, 0
            return
        data, done = text.text, 0
        anchor = data.find(self._anchor)
        while anchor >= 0:
            match = self._after.match(data, anchor)
            start = self._start(data, done, anchor) if match else -1
            if match and start >= 0:
                span = text.span(start, match.end())
                if self.has_ideographs or not _IDEOGRAPH.search(text.original, *span):
                    yield span
                    done = match.end()
            anchor = data.find(self._anchor, max(anchor + 1, done))

    def _start(self, data: str, done: int, anchor: int) -> int:
        """Where the entity begins whose anchor stands there, not before `done`; -1 where other tokens precede."""
        if self._before is None:
            return anchor
        reach = 2 * self._num_before + 16
        while True:
            first = max(done, anchor - reach)
            if match := self._before.search(data, first, anchor):
                return match.start()
            if first == done or sum(map(len, _TOKEN.findall(data, first, anchor))) >= self._num_before:
                return -1
            reach *= 8  # separators only, or nearly


entity = lru_cache(maxsize=8192)(ReferenceEntity)
