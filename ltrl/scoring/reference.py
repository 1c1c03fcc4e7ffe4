"""LongTraceRL's matcher, hit for hit: ASCII words and CJK ideographs, a substring of what they join to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice, pairwise

from ltrl.scoring.fold import Folded, Runs, bones, fold_runs

__all__ = ["ReferenceEntity", "normalize", "prepare"]

_TOKEN = re.compile("[a-z0-9_]+|[\u4e00-\u9fff]")
_BREAK = rb"[^a-z0-9_\x80-\xff]"
_MOST_WINDOWS = 64  # looking through more of them takes longer than looking through the text
_BYTES = {"\u212a": b"k", "\u0130": b"i "}  # the two characters that Python's `lower` turns into ASCII letters


def normalize(text: str) -> str:
    """The tokens of a text joined by spaces: runs of ASCII letters, digits and `_`, and single CJK ideographs."""
    return " ".join(_TOKEN.findall(text.lower()))


def prepare(text: str) -> Folded:
    """The text with ideographs in UTF-8 and every other non-ASCII character a separator."""
    return fold_runs(text, _runs)


class ReferenceEntity:
    """A rubric entity that finds itself in prepared texts.

    `normalize(entity) in normalize(text)` without normalising the text: its tokens in their order with only separators
    between them, the first and the last possibly parts of words. The bones of the text settle nearly every miss.
    """

    def __init__(self, entity: str) -> None:
        tokens = _TOKEN.findall(entity.lower())
        self.is_empty = not tokens
        pattern = "".join(tokens[:1]).encode()
        for before, token in pairwise(tokens):
            needs_break = before < "\u4e00" and token < "\u4e00"
            pattern += _BREAK + (b"+" if needs_break else b"*") + token.encode()
        self._pattern = re.compile(pattern)
        self._bones = bones("".join(tokens).encode())
        self._anchor = max(tokens, key=len, default="").encode()

    def find(self, text: Folded) -> tuple[int, int] | None:
        """The first place in the original text, or None; an entity without tokens is at the start of any text."""
        if self.is_empty:
            return 0, 0
        if len(self._bones) > 1:
            windows = text.windows(self._bones)
            for place, window in islice(windows, _MOST_WINDOWS):
                if match := self._pattern.search(window):
                    return text.span(place + match.start(), place + match.end())
            if next(windows, None) is None:
                return None
        if text.data.find(self._anchor) < 0:
            return None
        match = self._pattern.search(text.data)
        return text.span(*match.span()) if match else None

    def find_all(self, text: Folded) -> Iterator[tuple[int, int]]:
        """Every place in the original text, from left to right, none overlapping."""
        if self.is_empty:
            yield 0, 0
            return
        for match in self._pattern.finditer(text.data):
            yield text.span(*match.span())


def _fold_run(run: str) -> bytes:
    return b"".join(c.encode() if "\u4e00" <= c <= "\u9fff" else _BYTES.get(c, b" ") for c in run)


_runs = Runs(_fold_run)
entity = lru_cache(maxsize=8192)(ReferenceEntity)
