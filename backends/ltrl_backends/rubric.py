"""Reward backend `rubric`: LongTraceRL's, a judged outcome with a share for naming the evidence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ltrl.backend import create
from ltrl.scoring import (
    EntityReward,
    Normalisation,
    Payments,
    Scope,
    Score,
    ScoreRequest,
    entity_recall,
    group_rewards,
    payments,
    score_responses,
)

__all__ = ["RubricReward"]


class RubricReward:
    """Mixes whether the answer is right with how many entities of the evidence the response names."""

    api: ClassVar[int] = 1

    class Options(EntityReward):
        """Options of the `rubric` reward."""

        backend: Literal["rubric"]
        """This backend."""
        eta: Annotated[float, Field(ge=0, le=1)] = 0.3
        """Weight of the rubric; the outcome has the rest. At 1 no judge is asked and every outcome counts as wrong."""
        scope: Scope = "positive-only"
        """Whom the rubric pays: only right answers, only wrong ones (right ones get 1), or all."""
        normalisation: Normalisation = "group-max"
        """`group-max` divides the rubric by the largest of the prompt's responses; `none` takes it as it is."""

        def doubts(self) -> Iterable[tuple[str, str, str]]:
            """Weights that pay nothing, or nothing for the rubric."""
            if self.eta == 1 and self.scope == "positive-only":
                message = "with `eta: 1` no judge is asked and `scope: positive-only` pays nobody: every reward is 0"
                yield "eta", message, "write `scope: all` to pay for the rubric alone, or an `eta` below 1"
            if self.eta == 0:
                yield "eta", "with `eta: 0` the rubric pays nothing", "`backend: outcome` says so"

    def __init__(self, options: Options) -> None:
        self._options = options
        self._judge = create(options.judge) if options.eta < 1 else None
        self._recall = entity_recall(options)

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        """One score for each request: the judge's verdict and the share of entities named."""
        return score_responses(requests, self._options, judge=self._judge, rubric=self._recall)

    def rewards(self, group: Sequence[Score]) -> list[float | None]:
        """The rewards of one prompt's scores; None for one that is unjudged."""
        return _rewards(group, self._options)

    @staticmethod
    def payments(options: Options) -> Payments:
        """Least and most that an answer gets."""
        return payments(lambda group: _rewards(group, options), is_judged=options.eta < 1)


def _rewards(group: Sequence[Score], options: RubricReward.Options) -> list[float | None]:
    return group_rewards(group, eta=options.eta, scope=options.scope, normalisation=options.normalisation)
