"""LongTraceRL's matcher, hit for hit: ASCII words and CJK ideographs, a substring of what they join to.

The text is not normalised. It is put in lower case; the token of the entity that is likely to be rarest is looked for,
which settles nearly every miss; where it stands, the tokens before and after are asked for. Lower case costs a third of
a nanosecond a character and a search a thirtieth, normalising thirty.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from functools import cached_property, lru_cache
from itertools import pairwise

from ltrl.scoring.finder import finder
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


class Form:
    """A text in lower case and how to search it: the place of a token at or after another place, or -1."""

    def __init__(self, text: str | bytes) -> None:
        self.text = text if isinstance(text, str) else text.decode("ascii")
        self._find = None if isinstance(text, str) else finder(text)

    def find(self, token: str, start: int) -> int:
        return self._find(token.encode("ascii"), start) if self._find else self.text.find(token, start)


class Prepared:
    """A text in lower case, in a form for entities with ideographs and one for those without."""

    def __init__(self, original: str) -> None:
        self.original = original
        self._added: list[int] = []  # places of the dots that lower case sets beside an `i`
        if _DOTTED_I in original:
            dotted = (match.start() for match in re.finditer(_DOTTED_I, original))
            self._added = [place + number for number, place in enumerate(dotted, 1)]

    @cached_property
    def whole(self) -> Form:
        """Every character."""
        return Form(self.original.lower())

    @cached_property
    def plain(self) -> Form:
        """With a `?` for all that is not ASCII: a quarter of the time, but a place may hold an ideograph."""
        if self._added:
            return self.whole
        text = self.original if self.original.isascii() else self.original.replace(_KELVIN, "k")
        return Form(text.encode("ascii", "replace").lower())

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where characters [start, end) of either form stand in the original."""
        return start - bisect_left(self._added, start), end - bisect_left(self._added, end)


class ReferenceEntity:
    """A rubric entity that finds itself in prepared texts.

    `normalize(entity) in normalize(text)` says: its tokens in their order with only separators between them, the first
    and the last possibly parts of words.
    """

    def __init__(self, entity: str) -> None:
        tokens = _TOKEN.findall(entity.lower())
        self.is_empty = not tokens
        self._ideographs = [token for token in tokens if token >= "\u4e00"]
        if self.is_empty:
            return
        place = max(range(len(tokens)), key=lambda i: (rarity(tokens[i]), -i))
        breaks = [_BREAK + ("*" if max(pair) >= "\u4e00" else "+") for pair in pairwise(tokens)]
        self._anchor = tokens[place]
        self._before = re.compile("".join(map(str.__add__, tokens[:place], breaks)) + r"\Z") if place else None
        self._num_before = sum(map(len, tokens[:place]))
        rest = "".join(map(str.__add__, breaks[place:], tokens[place + 1 :]))
        self._after = re.compile(self._anchor + rest)

    def find_all(self, text: Prepared, *, patience: int = 16) -> Iterator[tuple[int, int]]:
        """Every place in the original text, from left to right, none overlapping.

        An entity without tokens is at the start of any text. An anchor that stands at more than `patience` places is
        frequent, and looked for with what follows it: a slower search, but Python sees fewer places.
        """
        if self.is_empty:
            yield 0, 0
            return
        if not all(ideograph in text.original for ideograph in self._ideographs):
            return  # they have no lower case
        form, done = text.whole if self._ideographs else text.plain, 0
        data, find = form.text, form.find
        anchor, num_places = find(self._anchor, 0), 0
        while anchor >= 0:
            match = self._after.match(data, anchor)
            start = self._start(data, done, anchor) if match else -1
            if match and start >= 0:
                span = text.span(start, match.end())
                if self._ideographs or not _IDEOGRAPH.search(text.original, *span):
                    yield span
                    done = match.end()
            num_places += 1
            if num_places < patience:
                anchor = find(self._anchor, max(anchor + 1, done))
            else:
                following = self._after.search(data, max(anchor + 1, done))
                anchor = following.start() if following else -1

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
