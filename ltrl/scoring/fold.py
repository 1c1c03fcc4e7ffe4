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
from collections.abc import Callable
from functools import cached_property, partial
from itertools import accumulate
from operator import add, sub
from typing import NamedTuple

from ltrl.scoring.finder import Find, finder

__all__ = ["Folded", "fold", "rarity"]

# Marks that readers leave out: Latin, Greek and Cyrillic accents, Hebrew points, Arabic vowel signs. The vowel signs of
# Indic scripts, Thai, and the kana voicing marks are letters and stay.
_ACCENTS = re.compile(
    "[\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u064b-\u065f\u0670"
    "\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]+"
)
_LATIN = re.compile("[\u00c0-\u024f\u1e00-\u1eff]")
_TYPOGRAPHY = (
    dict.fromkeys("\u2018\u2019\u201a\u201b\u02b9\u02bb\u02bc\u02bd\u02be\u02bf\u2032\u00b4", "'")
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
    places = Places([], [], [])
    _state.add = places.starts.append, places.ends.append, places.folded.append
    # `bytes.lower` touches ASCII alone.
    data = text.encode("ascii", _HANDLERS[ignore_accents]).lower()
    return Folded(text, data, places, _RUNS[ignore_accents])


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


_LONGEST_KEPT, _MOST_KEPT, _LONGEST = 32, 65536, 4096  # characters, runs, characters
_WIDE = dict(zip("，：；！？（）　“”‘’—", ",:;!?() \"\"''-", strict=True))
_EAST_ASIAN = re.compile(
    "[\u00b7\u3001\u3002\u3008-\u3011\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fff\uac00-\ud7a3" + "".join(_WIDE) + "]+"
)
"""Most of a Chinese, Japanese or Korean text: what joins nothing before it and folds to itself or as `_WIDE` says."""
_SEAM = re.compile("[\u0e01-\u0e2e\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fff\uac00-\ud7a3]")
"""Letters of unspaced scripts that never join the one before: what stands before them folds by itself."""


class Places(NamedTuple):
    """The runs of a text that are not ASCII; as three lists, a tuple for each would keep the garbage collector busy."""

    starts: list[int]
    ends: list[int]
    folded: list[bytes]


class Folded:
    """A folded text with its original."""

    def __init__(self, original: str, data: bytes, places: Places, runs: Runs) -> None:
        self.original = original
        self.data = data
        """The folded text in UTF-8."""
        self._places = places
        self._runs = runs

    @property
    def text(self) -> str:
        """The folded text."""
        return self.data.decode("utf-8", "surrogatepass")

    @cached_property
    def find(self) -> Find:
        """Where bytes without a zero stand in `data`, at or after a place; -1 where they do not."""
        return finder(self.data)

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where bytes [start, end) of `data` stand in the original: characters, with the marks on the last of them."""
        if not self._places.starts:
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
        start, end, folded = self._places.starts[number], self._places.ends[number], self._places.folded[number]
        offset, size = place - self._folded_starts[number], len(folded)
        if offset >= size:
            return end + offset - size, end + offset - size + 1
        run = self.original[start:end]
        if _EAST_ASIAN.fullmatch(run):
            start += len(folded[:offset].decode("utf-8", "ignore"))  # as many characters
            return start, start + 1
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
        starts, ends, folded = self._places
        grown = accumulate(map(sub, map(len, folded), map(sub, ends, starts)), initial=0)
        return list(map(add, starts, grown))


_state = threading.local()


def _handler(runs: Runs) -> Callable[[UnicodeError], tuple[bytes, int]]:
    def fold_unencodable(error: UnicodeError) -> tuple[bytes, int]:
        start, end = error.start, error.end  # type: ignore[attr-defined]
        text: str = error.object  # type: ignore[attr-defined]
        if end - start > _LONGEST_KEPT:
            end = _cut(text, start, end)  # the codec comes back with the rest
        folded = runs[text[start:end]]
        add_start, add_end, add_folded = _state.add
        add_start(start)
        add_end(end)
        add_folded(folded)
        return folded, end

    return fold_unencodable


def _cut(text: str, start: int, end: int) -> int:
    """Where to end a long run: before a character that joins none before it."""
    if known := _EAST_ASIAN.match(text, start, min(end, start + _LONGEST)):
        stop = known.end() if known.end() == end else known.end() - 1  # what follows may be a mark on the last
        if stop - start > _LONGEST_KEPT:
            return stop
    seam = _SEAM.search(text, start + _LONGEST_KEPT, end)
    return seam.start() if seam else end


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
    if _EAST_ASIAN.fullmatch(run):
        for wide, plain in _WIDE.items():
            run = run.replace(wide, plain)
        return run.encode()
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
_HANDLERS = {ignores: f"ltrl.scoring.fold.{'bare' if ignores else 'accented'}" for ignores in _RUNS}
for _ignores, _name in _HANDLERS.items():
    codecs.register_error(_name, _handler(_RUNS[_ignores]))
