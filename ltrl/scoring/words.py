"""The strict matcher: whole words in every script, numbers by value, units and acronyms in any usual spelling."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from itertools import islice

from ltrl.scoring.fold import Folded, bones, fold

__all__ = ["WordsEntity", "tokens"]

# Combining marks that are parts of words: accents, vowel signs, points.
_MARKS = (
    "\u0300-\u036f\u0483-\u0487\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed\u0711\u0730-\u074a"
    "\u0900-\u0903\u093a-\u094f\u0951-\u0957\u0962\u0963\u0980-\u0983\u09bc-\u09cd\u09d7\u09e2\u09e3"
    "\u0a00-\u0a03\u0a3c-\u0a51\u0a70-\u0a75\u0a81-\u0a83\u0abc-\u0acd\u0b01-\u0b03\u0b3c-\u0b57\u0b82"
    "\u0bbe-\u0bcd\u0c00-\u0c04\u0c3c-\u0c56\u0c81-\u0c83\u0cbc-\u0cd6\u0d00-\u0d03\u0d3b-\u0d4d\u0d81-\u0d83"
    "\u0dca-\u0ddf\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ece\u0f18-\u0f87\u102b-\u103e"
    "\u1056-\u1059\u17b4-\u17d3\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\u302a-\u302f\u3099\u309a\ufe20-\ufe2f"
)
# Scripts written without spaces between words: Thai, Lao, Tibetan, Myanmar, Khmer, kana, ideographs.
_UNSPACED = (
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_HANGUL = "\uac00-\ud7af"  # words are spaced, but particles are written onto their end

_LETTER = f"(?:[^\\W_]|[{_MARKS}])"
_SOFT = r"(?:[ \t'\"*_`~()\[\]/-]{%d,4}|[ \t]?\r?\n[ \t]{0,4})"
_LEFT = rf"(?:(?<![^\W_])(?<![{_MARKS}])|(?<=[{_UNSPACED}]))"
_RIGHT = rf"(?:(?![^\W_])(?![{_MARKS}])|(?=[{_UNSPACED}{_HANGUL}]))"

_SCALES = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_UNITS = [
    ("m", "metre", "metres", "meter", "meters"),
    ("km", "kilometre", "kilometres", "kilometer", "kilometers"),
    ("cm", "centimetre", "centimetres", "centimeter", "centimeters"),
    ("mm", "millimetre", "millimetres", "millimeter", "millimeters"),
    ("ft", "foot", "feet"),
    ("in", "inch", "inches"),
    ("mi", "mile", "miles"),
    ("kg", "kilogram", "kilograms", "kilogramme", "kilogrammes"),
    ("g", "gram", "grams", "gramme", "grammes"),
    ("lb", "lbs", "pound", "pounds"),
    ("l", "litre", "litres", "liter", "liters"),
    ("ha", "hectare", "hectares"),
    ("km2", "sq km", "square kilometres", "square kilometers"),
    ("m2", "sq m", "square metres", "square meters"),
    ("mph", "miles per hour"),
    ("km/h", "kmh", "kph", "kilometres per hour", "kilometers per hour"),
    ("s", "second", "seconds", "sec"),
    ("min", "minute", "minutes"),
    ("h", "hour", "hours", "hr"),
    ("%", "percent", "per cent"),
    ("°c", "degrees celsius", "celsius"),
    ("°f", "degrees fahrenheit", "fahrenheit"),
]
_UNIT = {name: names for names in _UNITS for name in names}
_UNIT_AFTER = re.compile(
    r"[ -]?(" + "|".join(re.escape(n) for n in sorted(_UNIT, key=len, reverse=True)) + r")(?![^\W_])"
)
_SCALE_AFTER = re.compile(rf"[ -]?({'|'.join(_SCALES)})(?![^\W_])")


_TOKEN = re.compile(
    r"(?P<number>(?<![^\W_])(?<!\d[.,])(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?![\d_])(?![.,]\d)"
    rf"(?:(?![^\W_])|(?={_UNIT_AFTER.pattern})|(?=[{_UNSPACED}])))"
    rf"|(?P<acronym>(?<![^\W_])(?:[^\W\d_]\. ?)+[^\W\d_]\.?(?![^\W_]))"
    rf"|(?P<unspaced>[{_UNSPACED}]+)"
    rf"|(?P<word>(?:(?![{_UNSPACED}]){_LETTER})+)"
    r"|(?P<symbol>[+#%&]+)"
)


@dataclass(frozen=True, slots=True)
class _Part:
    """A stretch of an entity: what it looks like in a text."""

    pattern: str
    literals: tuple[str, ...] = ()
    """One of these occurs in whatever the pattern matches."""
    reach: int = 8
    """The most characters that it can match."""
    letters: str = "\n"
    """What it matches is these letters and digits and no others, whatever is between them; a line break
    stands for what varies."""


_MOST_WINDOWS = 64  # looking through more of them takes longer than looking through the text


def tokens(text: str, *, ignore_accents: bool = True) -> tuple[str, ...]:
    """The words, numbers and telling symbols of a text, folded; numbers plainly written."""
    found = []
    for match in _TOKEN.finditer(fold(text, ignore_accents=ignore_accents).text):
        token = match[0]
        if match.lastgroup == "number":
            token = token.replace(",", "")
        elif match.lastgroup == "acronym":
            token = re.sub(r"[\s.]", "", token)
        found.append(token)
    return tuple(found)


class WordsEntity:
    """A rubric entity that finds itself in folded texts."""

    def __init__(self, entity: str, ignore_accents: bool = True) -> None:
        parts = _parts(entity, fold(entity, ignore_accents=ignore_accents).text)
        telling = [part for part in parts if part.literals]
        self.is_empty = not telling
        if self.is_empty:
            return
        self._pattern = re.compile("".join(part.pattern for part in parts))
        anchor = max(telling, key=_rarity)
        place = parts.index(anchor)
        self._anchors = tuple(literal.encode("utf-8", "surrogatepass") for literal in anchor.literals)
        # In bytes: no character takes more than four. One more on each side for what may not stand there.
        self._reach_left = 4 * sum(part.reach for part in parts[:place]) + 16
        self._reach_right = 4 * sum(part.reach for part in parts[place:]) + 16
        fixed = "".join(part.letters for part in parts)
        stretches = (bones(stretch.encode("utf-8", "surrogatepass")) for stretch in fixed.split("\n"))
        self._bones = max(stretches, key=len)

    def find(self, text: Folded) -> tuple[int, int] | None:
        """The first place in the original text, or None."""
        if len(self._bones) > 1:
            windows = text.windows(self._bones, margin=self._reach_left + self._reach_right)
            for place, window in islice(windows, _MOST_WINDOWS):
                if found := next(self._places(window, is_cut=place > 0), None):
                    return text.span(place + found[0], place + found[1])
            if next(windows, None) is None:
                return None
        return next(self.find_all(text), None)

    def find_all(self, text: Folded) -> Iterator[tuple[int, int]]:
        """Every place in the original text, from left to right, none overlapping."""
        for start, end in self._places(text.data):
            yield text.span(start, end)

    def _places(self, data: bytes, *, is_cut: bool = False) -> Iterator[tuple[int, int]]:
        """Places in a folded text; of one that is cut out of another the first letter is only looked back at."""
        start = done = 0
        while (anchor := self._next_anchor(data, start)) >= 0:
            first = _letter_start(data, max(done, anchor - self._reach_left) - 1)
            last = _letter_start(data, anchor + self._reach_right)
            window = data[first:last].decode("utf-8", "surrogatepass")
            start = anchor + 1
            for match in self._pattern.finditer(window, 1 if first or is_cut else 0):
                begin, end = match.span()
                if not window.isascii():
                    begin, end = (len(window[:i].encode("utf-8", "surrogatepass")) for i in (begin, end))
                if first + begin >= done and first + end > anchor:
                    yield first + begin, first + end
                    start = done = first + end
                    break

    def _next_anchor(self, data: bytes, start: int) -> int:
        if len(self._anchors) == 1:
            return data.find(self._anchors[0], start)
        places = (data.find(literal, start) for literal in self._anchors)
        return min((place for place in places if place >= 0), default=-1)


def _rarity(part: _Part) -> tuple[int, int]:
    """How rare the commonest of a part's literals is, by its uncommon letters, then by its length."""
    return min((len(bones(literal.encode("utf-8", "surrogatepass"))), len(literal)) for literal in part.literals)


def _letter_start(data: bytes, place: int) -> int:
    """The place, moved back to the first byte of its letter and not before the first."""
    while 0 < place < len(data) and data[place] & 0xC0 == 0x80:
        place -= 1
    return max(place, 0)


def _parts(entity: str, text: str) -> list[_Part]:
    """The parts of a folded entity, boundaries and gaps included."""
    capitals = {word.lower() for word in re.findall(r"\b[A-Z]{2,5}\b", entity)}
    matches = list(_TOKEN.finditer(text))
    parts: list[_Part] = []
    end, before, was_and = 0, None, False
    for index, match in enumerate(matches):
        if match.start() < end:  # the unit of the number before
            continue
        kind = match.lastgroup
        is_and = match[0] == "&" or (match[0] == "and" and 0 < index < len(matches) - 1)
        parts.append(
            _Part(_LEFT, letters="")
            if before is None
            else _gap(before, text[end : match.start()], match, is_and or was_and)
        )
        end = match.end()
        if kind == "number":
            part, end = _number(match, text)
        elif kind == "acronym" or match[0] in capitals:
            part = _acronym(re.sub(r"[\s.]", "", match[0]))
        elif is_and:
            part = _Part(r"(?: ?&(?:amp;)? ?| and )")
        elif kind == "symbol":
            part = _Part(re.escape(match[0]), reach=4, letters="")
        else:
            part = _Part(re.escape(match[0]), (match[0],), len(match[0]), match[0])
        parts.append(part)
        before, was_and = match, is_and
    if before is not None and before.lastgroup != "symbol":
        alone = r"(?![+#])" if len(before[0]) == 1 else ""
        hangul = "\uac00" <= before[0][-1] <= "\ud7af"
        parts.append(_Part(alone if hangul else _RIGHT + alone, letters=""))
    return parts


def _gap(before: re.Match[str], between: str, after: re.Match[str], is_at_and: bool) -> _Part:
    """What may stand between two neighbouring tokens of an entity in a text; an `and` brings its own spaces."""
    written = re.escape(between)
    if is_at_and or "symbol" in (before.lastgroup, after.lastgroup):
        pattern = f"(?:{written}|)" if is_at_and else f"(?:{written}| ?)"
        return _Part(pattern, reach=len(between) + 8, letters="" if between.isascii() else "\n")
    signs = {sign for sign in between if not sign.isspace() and sign not in "'\"*_`~()[]/-"}
    if (before.lastgroup == "word" and len(before[0]) <= 3) or before.lastgroup == "acronym":
        signs.add(".")
    is_loose = (
        "unspaced" in (before.lastgroup, after.lastgroup)
        or before.lastgroup == "acronym"
        or (len(before[0]) == 1 and before.lastgroup == "word")
        or between in ("'", "-", "/")
    )
    pattern = _SOFT % (0 if is_loose else 1)
    if signs:
        pattern = f"[{''.join(map(re.escape, sorted(signs)))}]{{1,3}}{_SOFT % 0}|{pattern}"
    return _Part(f"(?:{written}|{pattern})", reach=len(between) + 8, letters="" if between.isascii() else "\n")


def _acronym(letters: str) -> _Part:
    spellings = (letters, ".".join(letters), ". ".join(letters), " ".join(letters))
    return _Part(r"\.? ?".join(letters) + r"\.?", spellings, 3 * len(letters), letters)


def _number(match: re.Match[str], text: str) -> tuple[_Part, int]:
    """The number with the scale or unit after it, and where that ends."""
    whole, _, fraction = match[0].replace(",", "").partition(".")
    fraction = fraction.rstrip("0")
    plain = _digits(whole) + (rf"\.{fraction}0*" if fraction else r"(?:\.0+)?")
    guard = r"(?<!\d[.,])%s(?!\d)(?![.,]\d)"
    digits = f"{whole}{fraction}\n"
    literal = whole[-3:] + (f".{fraction}" if fraction else "")
    value = Decimal(f"{whole}.{fraction or 0}")
    if scale := _SCALE_AFTER.match(text, match.end()):
        full = value.scaleb(_SCALES[scale[1]])
        return _scaled(guard, plain, scale[1], full), scale.end()
    for name in ("trillion", "billion", "million"):
        mantissa = value.scaleb(-_SCALES[name]).normalize()
        if mantissa >= 1 and -mantissa.as_tuple().exponent <= 1:  # type: ignore[operator]
            short = re.escape(f"{mantissa:f}")
            return _scaled(guard, short, name, value), match.end()
    if unit := _UNIT_AFTER.match(text, match.end()):
        names = "|".join(re.escape(n) for n in sorted(_UNIT[unit[1]], key=len, reverse=True))
        pattern = guard % plain + rf"[ -]?(?:{names})"
        return _Part(pattern, (literal,), 2 * len(match[0]) + 40, digits), unit.end()
    return _Part(guard % plain, (literal,), 2 * len(match[0]) + 8, digits), match.end()


def _scaled(guard: str, short: str, name: str, full: Decimal) -> _Part:
    whole = f"{full:f}".partition(".")[0]
    pattern = f"(?:{guard % short}[ -]?{name}|{guard % _digits(whole)})"
    return _Part(pattern, (name, whole[-3:]), 2 * len(whole) + 16)


def _digits(whole: str) -> str:
    """A whole number with or without separators between thousands."""
    head = len(whole) % 3 or 3
    groups = [whole[:head], *(whole[i : i + 3] for i in range(head, len(whole), 3))]
    return "[, ]?".join(groups)


entity = lru_cache(maxsize=8192)(WordsEntity)
