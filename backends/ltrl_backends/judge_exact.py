"""Judge `exact`: a rule that compares the answer with the label; no network."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation, Overflow
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from ltrl.backend import JudgeSection
from ltrl.scoring import JudgeRequest, Verdict, WordsMatcher, tokens
from ltrl.scoring.fold import fold

__all__ = ["ExactJudge"]

_ARTICLES = ("the", "a", "an")
# Before a number: a minus that joins nothing, or a comparison; no hyphen, range, arrow or bracket.
_SIGN = re.compile(
    r"(?<![^\s(\[{|*_`'\"$€£¥=:,;~≈<>])-(?=[^\w\s-]?\d)"
    r"|(?<![-=<>])(?:[<>]=?|[≤≥])(?![^<>\s]*>)(?=\s?[^\w\s]{0,2}\d)"
)
_BEFORE = re.compile(r"(\w+|[%°])\s+\Z")
_BEFORE_SIGNS = frozenset("about and are at be by equals from is of or than to was were with".split())  # noqa: SIM905
_AMBIGUOUS = re.compile(r"\s*([-\u2212>])\s+(?=[^\w\s]?\d)")
_SIGNS = {
    "-": " minus ",
    "<": " less than ",
    ">": " more than ",
    "<=": " at most ",
    "≤": " at most ",
    ">=": " at least ",
    "≥": " at least ",
}
_NUMBER = re.compile(r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:e[+-]?\d+)?")


def _is_pattern(pattern: str) -> str:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"is not a regular expression: {error}") from None
    if compiled.groups != 1:
        raise ValueError(f"needs exactly one group, which is the answer; it has {compiled.groups}")
    return pattern


class ExactJudge:
    """Right is what says the same as the label: case, accents, punctuation and a leading article do not matter,
    signs and currencies of numbers do."""

    api: ClassVar[int] = 1

    class Options(JudgeSection):
        """Options of the `exact` judge."""

        backend: Literal["exact"]
        """This backend."""
        answer_pattern: Annotated[str, AfterValidator(_is_pattern)] | None = None
        """Regular expression whose one group is the answer; the last match counts and none means wrong. By default the
        whole visible answer is compared."""
        whole: bool = False
        """The pattern must match the whole visible answer, not a part of it; white space around it does not count."""
        compare: Literal["equal", "contains"] = "equal"
        """`equal`: the answer is the label; `contains`: it names the label somewhere, as whole words."""
        tolerance: Annotated[float, Field(ge=0)] = 1e-6
        """How far two numbers may differ, relative to the label."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._pattern = re.compile(options.answer_pattern) if options.answer_pattern else None
        self._contains = WordsMatcher()

    def judge(self, requests: Sequence[JudgeRequest]) -> list[Verdict]:
        """One verdict for each request; there is always one."""
        return [self._verdict(request) for request in requests]

    def _verdict(self, request: JudgeRequest) -> Verdict:
        answer = self._answer(request.response)
        if answer is None:
            return Verdict(False, "no answer of the expected form")
        if self._is_same(answer, request.label):
            return Verdict(True)
        if self._options.compare == "contains" and tokens(request.label):
            (hit,) = self._contains.hits(answer, (request.label,))
            return Verdict(bool(hit.spans), "" if hit.spans else f"`{_short(answer)}` does not name the label")
        return Verdict(False, f"`{_short(answer)}` is not the label")

    def _answer(self, response: str) -> str | None:
        if self._pattern is None:
            return response.strip()
        if self._options.whole:
            match = self._pattern.fullmatch(response.strip())
        else:
            match = None
            for match in self._pattern.finditer(response):  # noqa: B007
                pass
        return match[1].strip() if match and match[1] is not None else None

    def _is_same(self, answer: str, label: str) -> bool:
        return any(self._are_equal(one, other) for one in _readings(answer) for other in _readings(label))

    def _are_equal(self, answer: str, label: str) -> bool:
        found, expected = _number(answer), _number(label)
        if found is None or expected is None:
            return _plain(answer) == _plain(label) and _currencies_agree(answer, label)
        try:
            return found == expected or abs(found - expected) <= abs(expected) * Decimal(self._options.tolerance)
        except Overflow:
            return False


def _plain(text: str) -> tuple[str, ...]:
    """What is compared: the words without a leading article; a text without words is compared as it stands."""
    words = tokens(_SIGN.sub(_sign, fold(text).text))
    if len(words) > 1 and words[0] in _ARTICLES:
        words = words[1:]
    return words or (fold(text).text.strip(),)


def _readings(text: str) -> tuple[str, ...]:
    """What a text may mean: before a number `- ` and `> ` begin an item or a quotation, or they are its sign."""
    found = _AMBIGUOUS.match(text)
    return (text[found.end() :], found[1] + text[found.end() :]) if found else (text,)


def _sign(match: re.Match[str]) -> str:
    """The words of a sign; a dash after a word or a unit joins two things, however it is spaced."""
    before = _BEFORE.search(match.string, max(0, match.start() - 40), match.start())
    joins = match[0] == "-" and before and before[1] not in _BEFORE_SIGNS
    return "-" if joins else _SIGNS[match[0]]


def _currencies_agree(one: str, other: str) -> bool:
    """Whether two texts have a currency sign in common, or one of them has none; `$` may be a formula's."""
    signs, others = ({c for c in fold(text).text if unicodedata.category(c) == "Sc"} for text in (one, other))
    return not (signs and others) or bool(signs & others)


def _number(text: str) -> Decimal | None:
    """The number that the whole text is, or None."""
    written = fold(text).text.strip().rstrip(".").removeprefix("$").strip()
    if not _NUMBER.fullmatch(written):
        return None
    try:
        return Decimal(written.replace(",", ""))
    except InvalidOperation:
        return None


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
