"""The strict matcher: whole words in every script, numbers by value, units and acronyms in any usual spelling."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from heapq import merge

from ltrl.scoring.fold import Folded, fold, rarity

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
# Markdown: emphasis ends and begins again; a line ends, hard ones with two spaces or a backslash.
_EMPHASISED = r"[*_`~]{1,3}[ \t][*_`~]{1,3}"
_BREAK = r"[*_`~]{0,3}[ \t]{0,4}\\?\r?\n[ \t]{0,4}[*_`~]{0,3}"
_SOFT = rf"(?:[ \t'\"*_`~()\[\]/-]{{%d,4}}|{_EMPHASISED}|{_BREAK})"
_SOFT_REACH = 3 + 4 + 3 + 4 + 3  # of the longest, `_BREAK`
_LEFT = rf"(?:(?<![^\W_])(?<![{_MARKS}])|(?<=[{_UNSPACED}]))"
_RIGHT = rf"(?:(?![^\W_])(?![{_MARKS}])|(?=[{_UNSPACED}{_HANGUL}]))"

_SCALES = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_SHORT_SCALES = {"mn": "million", "bn": "billion", "tn": "trillion"}
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
_SCALE_AFTER = re.compile(rf"[ -]?({'|'.join([*_SCALES, *_SHORT_SCALES])})(?![^\W_])")


_TOKEN = re.compile(
    # `10 000` is one number; of `747 400` nobody knows.
    r"(?P<number>(?<![^\W_])(?<!\d[.,])(?:\d{1,3}(?:,\d{3})+|[1-9]\d{0,2}(?: \d{3}){0,3} 000|\d+)(?:\.\d+)?"
    r"(?![\d_])(?![.,]\d)"
    rf"(?:(?![^\W_])|(?={_UNIT_AFTER.pattern})|(?={_SCALE_AFTER.pattern})|(?=[{_UNSPACED}])))"
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
    reach: int = 0
    """The most bytes of UTF-8 that it can match."""
    begins: bool = False
    """What it matches begins with a literal."""
    ends: bool = False
    """What it matches ends with a literal."""
    separates: bool = False
    """No ASCII letter or digit can stand where it meets its neighbours."""


def tokens(text: str, *, ignore_accents: bool = True) -> tuple[str, ...]:
    """The words, numbers and telling symbols of a text, folded; numbers plainly written."""
    found = []
    for match in _TOKEN.finditer(fold(text, ignore_accents=ignore_accents).text):
        token = match[0]
        if match.lastgroup == "number":
            token = re.sub("[, ]", "", token)
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
        self._stands_free_left = anchor.begins and parts[place - 1].separates
        self._stands_free_right = anchor.ends and place + 1 < len(parts) and parts[place + 1].separates
        self._begins = anchor.begins and place == 1
        self._rough = _rough(parts[place:], self._stands_free_left) if anchor.begins else None
        # And the two characters on each side that may not stand there, of four bytes at most.
        self._reach_left = sum(part.reach for part in parts[: place if anchor.begins else place + 1]) + 8
        self._reach_right = sum(part.reach for part in parts[place:]) + 8

    def find_all(self, text: Folded, *, patience: int = 16) -> Iterator[tuple[int, int]]:
        """Every place in the original text, from left to right, none overlapping.

        An anchor that stands at more than `patience` places is frequent, and looked for with what follows it.
        """
        data, done = text.data, 0
        for anchor in self._candidates(text, patience):
            if anchor < done:
                continue
            left = anchor if self._begins else max(done, anchor - self._reach_left)
            first = _letter_start(data, left - 1)
            window = data[first : _letter_start(data, anchor + self._reach_right)].decode("utf-8", "surrogatepass")
            start = 1 if first < left else 0
            find = self._match_at if self._begins else self._pattern.finditer
            for match in find(window, start):
                begin, end = match.span()
                if not window.isascii():
                    begin, end = (len(window[:i].encode("utf-8", "surrogatepass")) for i in (begin, end))
                # The window may cut in two what lies beside the anchor.
                if done <= first + begin <= anchor < first + end:
                    yield text.span(first + begin, first + end)
                    done = first + end
                    break

    def _match_at(self, window: str, start: int) -> Iterator[re.Match[str]]:
        if match := self._pattern.match(window, start):
            yield match

    def _candidates(self, text: Folded, patience: int) -> Iterator[int]:
        """Where an anchor stands that is no part of a word if it must not be one, from left to right."""
        data = text.data
        found = [_occurrences(text, literal) for literal in self._anchors]
        for number, (place, end) in enumerate(merge(*found) if len(found) > 1 else found[0]):
            if number >= patience and self._rough:
                yield from _starts(self._rough, data, place)
                return
            is_inside = (self._stands_free_left and place and data[place - 1] in _ALNUM) or (
                self._stands_free_right and end < len(data) and data[end] in _ALNUM
            )
            if not is_inside:
                yield place


def _occurrences(text: Folded, literal: bytes) -> Iterator[tuple[int, int]]:
    find, size = text.find, len(literal)
    place = find(literal, 0)
    while place >= 0:
        yield place, place + size
        place = find(literal, place + 1)


def _starts(pattern: re.Pattern[bytes], data: bytes, place: int) -> Iterator[int]:
    while match := pattern.search(data, place):
        yield match.start()
        place = match.start() + 1


def _rough(parts: list[_Part], stands_free_left: bool) -> re.Pattern[bytes]:
    """Matches the parts in UTF-8 wherever they stand, as far as bytes can tell, and more: what to look at closely."""
    anchor = parts[0]
    first = re.escape(anchor.literals[0] if len(anchor.literals) == 1 else anchor.literals[0][0])
    # Behind the letters, not before them: `re` looks for a pattern fast that begins with letters.
    free = f"(?<![a-z0-9]{first})" if stands_free_left else ""
    patterns = [first + free + anchor.pattern.removeprefix(first)]
    for part in parts[1:]:
        if not (part.literals or part.pattern.isascii()):  # a class of characters, not of bytes
            break
        patterns.append(part.pattern)
    return re.compile("".join(patterns).encode("utf-8", "surrogatepass"))


_ALNUM = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789")


def _rarity(part: _Part) -> int:
    """How rare the commonest of a part's literals is."""
    return min(map(rarity, part.literals))


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
            _Part(_LEFT, separates=True)
            if before is None
            else _gap(before, text[end : match.start()], match, is_and or was_and)
        )
        end = match.end()
        if kind == "number":
            part, end = _number(match, text)
        elif kind == "acronym" or match[0] in capitals:
            part = _acronym(re.sub(r"[\s.]", "", match[0]))
        elif is_and:
            part = _Part(r"(?: ?&(?:amp;)? ?| and )", reach=7)
        elif kind == "symbol":
            part = _Part(re.escape(match[0]), reach=_size(match[0]))
        else:
            part = _Part(re.escape(match[0]), (match[0],), _size(match[0]), begins=True, ends=True)
        parts.append(part)
        before, was_and = match, is_and
    if before is not None and before.lastgroup != "symbol":
        alone = r"(?![+#])" if len(before[0]) == 1 else ""
        hangul = "\uac00" <= before[0][-1] <= "\ud7af"
        parts.append(_Part(alone) if hangul else _Part(_RIGHT + alone, separates=True))
    return parts


def _gap(before: re.Match[str], between: str, after: re.Match[str], is_at_and: bool) -> _Part:
    """What may stand between two neighbouring tokens of an entity in a text; an `and` brings its own spaces."""
    written = re.escape(between)
    if is_at_and or "symbol" in (before.lastgroup, after.lastgroup):
        pattern = f"(?:{written}|)" if is_at_and else f"(?:{written}| ?)"
        return _Part(pattern, reach=max(_size(between), 1), separates=is_at_and)
    signs = {sign for sign in between if not sign.isspace() and sign not in "'\"*_`~()[]/-"}
    if (before.lastgroup == "word" and len(before[0]) <= 3) or before.lastgroup == "acronym":
        signs.add(".")
    is_loose = (
        "unspaced" in (before.lastgroup, after.lastgroup)
        or before.lastgroup == "acronym"
        or (len(before[0]) == 1 and before.lastgroup == "word")
        or between in ("'", "-", "/")
    )
    pattern, reach = _SOFT % (0 if is_loose else 1), _SOFT_REACH
    if signs:
        reach += 3 * max(map(_size, signs))
        pattern = f"[{''.join(map(re.escape, sorted(signs)))}]{{1,3}}{_SOFT % 0}|{pattern}"
    reach = max(reach, _size(between))
    return _Part(f"(?:{written}|{pattern})", reach=reach, separates=bool(between) and not is_loose)


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _acronym(letters: str) -> _Part:
    first, second = letters[0], letters[1]
    spellings = tuple(f"{first}{between}{second}" for between in ("", ".", ". ", " "))
    return _Part(r"\.? ?".join(letters) + r"\.?", spellings, _size(letters) + 2 * len(letters), begins=True)


def _number(match: re.Match[str], text: str) -> tuple[_Part, int]:
    """The number with the scale or unit after it, and where that ends."""
    whole, _, fraction = re.sub("[, ]", "", match[0]).partition(".")
    fraction = fraction.rstrip("0")
    # Bounded: a window that ends among the zeros would hide the digit behind them.
    plain = _digits(whole) + (rf"\.{fraction}0{{0,12}}" if fraction else r"(?:\.0{1,12})?")
    guard = r"(?<!\d[.,])%s(?!\d)(?![.,]\d)"
    literal = whole[-3:] + (f".{fraction}" if fraction else "")
    value = Decimal(f"{whole}.{fraction or 0}")
    if scale := _SCALE_AFTER.match(text, match.end()):
        name = _SHORT_SCALES.get(scale[1], scale[1])
        return _scaled(guard, plain, name, value.scaleb(_SCALES[name])), scale.end()
    for name in ("trillion", "billion", "million"):
        mantissa = value.scaleb(-_SCALES[name]).normalize()
        if mantissa >= 1 and -mantissa.as_tuple().exponent <= 1:  # type: ignore[operator]
            short = re.escape(f"{mantissa:f}")
            return _scaled(guard, short, name, value), match.end()
    if unit := _UNIT_AFTER.match(text, match.end()):
        names = "|".join(re.escape(n) for n in sorted(_UNIT[unit[1]], key=len, reverse=True))
        pattern = guard % plain + rf"[ -]?(?:{names})"
        return _Part(pattern, (literal,), 2 * _size(match[0]) + 40), unit.end()
    return _Part(guard % plain, (literal,), 2 * _size(match[0]) + 16), match.end()


def _scaled(guard: str, short: str, name: str, full: Decimal) -> _Part:
    whole = f"{full:f}".partition(".")[0]
    names = (name, *(short_name for short_name, long in _SHORT_SCALES.items() if long == name))
    pattern = f"(?:{guard % short}[ -]?(?:{'|'.join(names)})|{guard % _digits(whole)})"
    return _Part(pattern, (*names, whole[-3:]), 2 * len(whole) + 16)


def _digits(whole: str) -> str:
    """A whole number with or without separators between thousands."""
    head = len(whole) % 3 or 3
    groups = [whole[:head], *(whole[i : i + 3] for i in range(head, len(whole), 3))]
    return "[, ]?".join(groups)


entity = lru_cache(maxsize=8192)(WordsEntity)
