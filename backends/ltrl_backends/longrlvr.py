"""Reward backend `longrlvr`: LongRLVR's, an outcome that naming the right chunks of the context multiplies."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from decimal import Decimal
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ltrl.backend import create
from ltrl.errors import Code, fail
from ltrl.scoring import (
    Hit,
    JudgedReward,
    Normalisation,
    Payments,
    Score,
    ScoreRequest,
    group_rewards,
    payments,
    score_responses,
    scored_text,
)

__all__ = ["LongRLVRReward", "chunk_f_beta", "named_chunks"]

_BLOCK = re.compile(r"<useful_chunks>(.*?)</useful_chunks>", re.IGNORECASE | re.DOTALL)
_BLOCK_END = re.compile("</useful_chunks>", re.IGNORECASE)
_CHUNK = re.compile(r"<CHUNK[_ ]?(\d+)>", re.IGNORECASE)


class LongRLVRReward:
    """Pays o + eta F + (1 - eta) o F with F the F-beta score of the chunks named against the gold chunks."""

    api: ClassVar[int] = 1

    class Options(JudgedReward):
        """Options of the `longrlvr` reward."""

        backend: Literal["longrlvr"]
        """This backend."""
        eta: Annotated[float, Field(ge=0, le=1)] = 0.1
        """Weight of the chunks for a wrong answer; at 1 no judge is asked and every outcome counts as wrong."""
        beta: Annotated[float, Field(gt=0)] = 2.0
        """How much more the share of gold chunks named counts than the share of named chunks that are gold."""
        normalisation: Normalisation = "none"
        """`group-max` divides F by the largest of the prompt's responses; `none` takes it as it is."""
        text: Literal["answer", "reasoning", "both"] = "answer"
        """Where the last `<useful_chunks>` block is looked for."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._judge = create(options.judge) if options.eta < 1 else None

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        """One score for each request: the judge's verdict and the F-beta score of the chunks it names."""
        return score_responses(requests, self._options, judge=self._judge, rubric=self._chunks)

    def rewards(self, group: Sequence[Score]) -> list[float | None]:
        """The rewards of one prompt's scores, in [0, 2]; None for one that is unjudged."""
        return _rewards(group, self._options)

    @staticmethod
    def payments(options: Options) -> Payments:
        """Least and most that an answer gets."""
        return payments(lambda group: _rewards(group, options), is_judged=options.eta < 1)

    def _chunks(self, request: ScoreRequest) -> tuple[float, tuple[Hit, ...]]:
        named = named_chunks(scored_text(request.response, self._options.text))
        gold = {chunk: _chunk_id(chunk, request.group) for chunk in request.rubrics}
        hits = tuple(Hit(chunk, named.get(gold[chunk], ())) for chunk in request.rubrics)
        return chunk_f_beta(named, set(gold.values()), beta=self._options.beta), hits


def _rewards(group: Sequence[Score], options: LongRLVRReward.Options) -> list[float | None]:
    return group_rewards(group, eta=options.eta, normalisation=options.normalisation, formula="longrlvr")


def named_chunks(text: str) -> dict[Decimal, tuple[tuple[int, int], ...]]:
    """The chunks named in the last `<useful_chunks>` block of a text, each with the places where."""
    # Only as far as blocks end: each that does not is looked through to the end of the text.
    end = max((match.end() for match in _BLOCK_END.finditer(text)), default=0)
    block = None
    for block in _BLOCK.finditer(text, 0, end):  # noqa: B007
        pass
    places: dict[Decimal, tuple[tuple[int, int], ...]] = {}
    if block is not None:
        for match in _CHUNK.finditer(text, block.start(1), block.end(1)):
            chunk = Decimal(match[1])  # `int` refuses more than 4300 digits
            places[chunk] = (*places.get(chunk, ()), match.span())
    return places


def chunk_f_beta(named: Collection[object], gold: Collection[object], *, beta: float = 2.0) -> float:
    """The F-beta score of two sets; 0.0 when they share nothing."""
    shared = len(set(named) & set(gold))
    if not shared:
        return 0.0
    precision, share = shared / len(set(named)), shared / len(set(gold))
    return (1 + beta**2) * precision * share / (beta**2 * precision + share)


def _chunk_id(chunk: str, sample: str) -> Decimal:
    if not (chunk.isascii() and chunk.isdecimal()):
        hint = "for `longrlvr` the rubrics are numbers of chunks, `3` for `<CHUNK_3>`"
        raise fail(Code.BAD_DATA, f"the rubric `{chunk}` of sample `{sample}` is not the number of a chunk", hint=hint)
    return Decimal(chunk)
