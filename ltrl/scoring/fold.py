"""Texts compared by what they say: case, width, accents and typography folded away, with the way back to the original.

A folded text is bytes, UTF-8 in lower case. ASCII costs a copy and `bytes.lower`; Python code sees only the runs of
other characters, which the codec hands out one by one. A response of 150 kB takes about a tenth of a millisecond.
"""

from __future__ import annotations

import codecs
import re
import threading
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from itertools import accumulate

__all__ = ["Folded", "fold", "rarity"]

# Marks that readers leave out: Latin, Greek and Cyrillic accents, Hebrew points, Arabic vowel signs. The vowel signs of
# Indic scripts, Thai, and the kana voicing marks are letters and stay.
_ACCENTS = re.compile(
    "[\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u064b-\u065f\u0670"
    "\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]+"
)
_LATIN = re.compile("[\u00c0-\u024f\u1e00-\u1eff]")
_TYPOGRAPHY = (
    dict.fromkeys("\u2018\u2019\u201a\u201b\u02bc\u02b9\u2032\u00b4", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb\u2033", '"')
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-")
    | dict.fromkeys("\u00ad\u200c\u200d\u200e\u200f\u2060\ufeff\u202a\u202b\u202c\u202d\u202e\ufe0e\ufe0f", "")
    | {"\u200b": " ", "\u2044": "/"}
)
# Letters that Unicode does not take apart although readers do.
_LETTERS = {"ł": "l", "ø": "o", "đ": "d", "ħ": "h", "ı": "i", "æ": "ae", "œ": "oe", "ð": "d", "þ": "th", "ŧ": "t"}
_SIGNS = {True: _TYPOGRAPHY | _LETTERS, False: _TYPOGRAPHY}
_SIGN = {ignores: re.compile("[" + "".join(map(re.escape, signs)) + "]") for ignores, signs in _SIGNS.items()}


def fold(text: str, *, ignore_accents: bool = True) -> Folded:
    """The text in NFKC, case folded in every script, with plain quotes and dashes; without accents unless told."""
    runs, places = _RUNS[ignore_accents], list[tuple[int, int, int]]()
    if text.isascii():
        return Folded(text, text.encode("ascii").lower(), places, runs)
    _state.current = runs, places
    # `bytes.lower` touches ASCII alone.
    return Folded(text, text.encode("ascii", _HANDLER).lower(), places, runs)


def rarity(word: str) -> int:
    """How rare a word is likely to be and how fast to look for: its letters, uncommon ones count more."""
    return sum(1 if letter in _COMMON else 2 if letter in _LESS_COMMON else 4 for letter in word)


_COMMON, _LESS_COMMON = frozenset("etaoinsrh"), frozenset("dlcumwfgypbvk_")


class Runs(dict[str, bytes]):
    """Folds runs of non-ASCII characters to UTF-8, each short one once."""

    def __init__(self, fold_run: Callable[[str], bytes]) -> None:
        super().__init__()
        self._fold_run = fold_run

    def __missing__(self, run: str) -> bytes:
        folded = self._fold_run(run)
        if len(run) <= _LONGEST_KEPT and len(self) < _MOST_KEPT:
            self[run] = folded
        return folded


_LONGEST_KEPT, _MOST_KEPT = 32, 65536
_SEAM = re.compile("[\u0e01-\u0e2e\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fff\uac00-\ud7a3]")
"""Letters of unspaced scripts that never join the one before: what stands before them folds by itself."""


class Folded:
    """A folded text with its original."""

    def __init__(self, original: str, data: bytes, places: Sequence[tuple[int, int, int]], runs: Runs) -> None:
        self.original = original
        self.data = data
        """The folded text in UTF-8."""
        self._places = places  # of runs: first character, last + 1, bytes when folded
        self._runs = runs

    @property
    def text(self) -> str:
        """The folded text."""
        return self.data.decode("utf-8", "surrogatepass")

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where bytes [start, end) of `data` stand in the original: characters, with the marks on the last of them."""
        if not self._places:
            return start, end
        begin, finish = self._origin(start)[0], self._origin(end - 1)[1]
        while finish < len(self.original) and unicodedata.combining(self.original[finish]):
            finish += 1
        return begin, finish

    def _origin(self, place: int) -> tuple[int, int]:
        """Where in the original the character stands that byte `place` of `data` comes from."""
        number = bisect_right(self._folded_starts, place) - 1
        if number < 0:
            return place, place + 1
        start, end, size = self._places[number]
        offset = place - self._folded_starts[number]
        if offset >= size:
            return end + offset - size, end + offset - size + 1
        run = self.original[start:end]
        clusters = _clusters(run)
        ends = list(accumulate(len(self._runs[cluster]) for cluster in clusters))
        if ends[-1] != size:  # folding the parts is folding the whole, but for the few letters that join neighbours
            return start, end
        cluster = bisect_right(ends, offset)
        start += sum(map(len, clusters[:cluster]))
        return start, start + len(clusters[cluster])

    @cached_property
    def _folded_starts(self) -> list[int]:
        """Where the runs begin in `data`."""
        grown = accumulate((size - (end - start) for start, end, size in self._places), initial=0)
        return [place[0] + growth for place, growth in zip(self._places, grown, strict=False)]


_HANDLER = "ltrl.scoring.fold"
_state = threading.local()


def _fold_unencodable(error: UnicodeError) -> tuple[bytes, int]:
    assert isinstance(error, UnicodeEncodeError)
    runs, places = _state.current
    start, end = error.start, error.end
    if end - start > _LONGEST_KEPT and (seam := _SEAM.search(error.object, start + _LONGEST_KEPT, end)):
        end = seam.start()  # the codec comes back with the rest
    folded = runs[error.object[start:end]]
    places.append((start, end, len(folded)))
    return folded, end


codecs.register_error(_HANDLER, _fold_unencodable)


def _clusters(run: str) -> list[str]:
    """The letters of a run, each with the marks on it."""
    clusters: list[str] = []
    for character in run:
        if clusters and unicodedata.combining(character):
            clusters[-1] += character
        else:
            clusters.append(character)
    return clusters


def _fold(run: str, ignore_accents: bool) -> bytes:
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", run).casefold())
    if ignore_accents:
        apart = unicodedata.normalize("NFD", folded)
        bare = _ACCENTS.sub("", apart)
        folded = unicodedata.normalize("NFC", bare) if bare != apart else folded
    else:  # a mark may stand alone in a run, on an ASCII letter before it: so must those on letters of the run
        folded = _LATIN.sub(lambda match: unicodedata.normalize("NFD", match[0]), folded)
    signs = _SIGNS[ignore_accents]
    return _SIGN[ignore_accents].sub(lambda match: signs[match[0]], folded).encode("utf-8", "surrogatepass")


_RUNS = {ignores: Runs(partial(_fold, ignore_accents=ignores)) for ignores in (True, False)}
