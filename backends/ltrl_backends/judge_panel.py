"""Judge `panel`: the majority of several judges."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ltrl.backend import JudgeBackend, JudgeChoice, JudgeSection, create
from ltrl.scoring import JudgeRequest, Usage, Verdict

__all__ = ["PanelJudge"]


class PanelJudge:
    """Right or wrong is what more than half of the judges say; anything else is unjudged."""

    api: ClassVar[int] = 1

    class Options(JudgeSection):
        """Options of the `panel` judge."""

        backend: Literal["panel"]
        """This backend."""
        judges: Annotated[tuple[JudgeChoice, ...], Field(min_length=2)]
        """The members, each with its own options."""

    def __init__(self, options: Options) -> None:
        self._judges: list[JudgeBackend] = [create(judge) for judge in options.judges]
        self._names = [f"{judge.backend} {place}" for place, judge in enumerate(options.judges, 1)]

    def judge(self, requests: Sequence[JudgeRequest]) -> list[Verdict]:
        """One verdict for each request; every member is asked about all of them, at the same time."""
        with ThreadPoolExecutor(len(self._judges)) as pool:
            opinions = list(pool.map(lambda judge: judge.judge(requests), self._judges))
        return [self._majority(votes) for votes in zip(*opinions, strict=True)]

    def _majority(self, votes: Sequence[Verdict]) -> Verdict:
        yes = sum(vote.is_correct is True for vote in votes)
        no = sum(vote.is_correct is False for vote in votes)
        words = "\n".join(f"{name}: {_said(vote)}" for name, vote in zip(self._names, votes, strict=True))
        count = f"{yes} yes, {no} no, {len(votes) - yes - no} unjudged"
        used = Usage.sum_of(vote.usage for vote in votes)
        if 2 * max(yes, no) <= len(votes):
            return Verdict(None, f"no majority: {count}", words, used)
        return Verdict(yes > no, count, words, used)


def _said(vote: Verdict) -> str:
    opinion = {True: "yes", False: "no", None: "unjudged"}[vote.is_correct]
    return f"{opinion} ({vote.reason or vote.words})" if vote.reason or vote.words else opinion
