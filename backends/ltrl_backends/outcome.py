"""Reward backend `outcome`: 1 for a right answer, 0 for a wrong one, as in plain GRPO."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from ltrl.backend import create
from ltrl.scoring import EntityReward, Payments, Score, ScoreRequest, entity_recall, score_responses

__all__ = ["OutcomeReward"]


class OutcomeReward:
    """Pays for the right answer alone; how much evidence a response names is measured but not paid for."""

    api: ClassVar[int] = 1

    class Options(EntityReward):
        """Options of the `outcome` reward; those about entities change the metrics only."""

        backend: Literal["outcome"]
        """This backend."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._judge = create(options.judge)
        self._recall = entity_recall(options)

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        """One score for each request: the judge's verdict, and the share of entities named as a metric."""
        return score_responses(requests, self._options, judge=self._judge, rubric=self._recall)

    def rewards(self, group: Sequence[Score]) -> list[float | None]:
        """The outcome of each; None for one that is unjudged."""
        return [score.outcome for score in group]

    @staticmethod
    def payments(options: Options) -> Payments:  # noqa: ARG004  # the same for all
        """Least and most that an answer gets."""
        return {"right": (1.0, 1.0), "wrong": (0.0, 0.0)}
