"""What becomes of the scores of one prompt: rewards, then advantages. Pure functions over a group."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from typing import Literal, assert_never

from ltrl.scoring.score import Normalisation, Scope, Score

__all__ = ["GroupKind", "Payments", "advantages", "group_kind", "group_rewards", "payments"]

GroupKind = Literal["all-one", "all-zero", "mixed"]
Payments = dict[Literal["right", "wrong"], tuple[float, float]]
"""Least and most reward of a right and of a wrong answer."""


def group_rewards(
    scores: Sequence[Score],
    *,
    eta: float,
    scope: Scope = "positive-only",
    normalisation: Normalisation = "group-max",
    formula: Literal["mix", "longrlvr"] = "mix",
) -> list[float | None]:
    """The rewards of one prompt's scores, in their order; None for one that is unjudged.

    With o the outcome and r the rubric, divided by the largest of the group for `group-max`:

    - `mix`: (1 - eta) o + eta r; `positive-only` gives 0 instead where o is 0, `negative-only` gives o where o > 0
      and eta r elsewhere;
    - `longrlvr`: o + eta r + (1 - eta) o r, whatever the scope.

    An unjudged response has no reward but its rubric counts towards the largest: it was read from the text without a
    judge, and so an outage changes the reward of no other response.
    """
    largest = max((score.rubric for score in scores), default=0.0)
    rewards: list[float | None] = []
    for score in scores:
        outcome, rubric = score.outcome, score.rubric
        if normalisation == "group-max" and largest > 0:
            rubric /= largest
        if outcome is None:
            rewards.append(None)
        elif formula == "longrlvr":
            rewards.append(outcome + (eta * rubric + (1 - eta) * outcome * rubric))
        else:
            rewards.append(_mix(outcome, rubric, eta, scope))
    return rewards


def payments(rewards: Callable[[Sequence[Score]], Sequence[float | None]], *, is_judged: bool = True) -> Payments:
    """What a rule pays an answer without any evidence and with all of it; unjudged, every answer counts as wrong."""

    def ends(outcome: float) -> tuple[float, float]:
        found = [reward for rubric in (0.0, 1.0) for reward in rewards([Score(outcome, rubric)]) if reward is not None]
        return min(found), max(found)

    return {"right": ends(1.0 if is_judged else 0.0), "wrong": ends(0.0)}


def _mix(outcome: float, rubric: float, eta: float, scope: Scope) -> float:
    match scope:
        case "positive-only":
            return (1 - eta) * outcome + eta * rubric if outcome else 0.0
        case "negative-only":
            return outcome if outcome > 0 else eta * rubric
        case "all":
            return (1 - eta) * outcome + eta * rubric
        case _:
            assert_never(scope)


def advantages(
    rewards: Sequence[float | None], *, divide_by_std: bool = True, leave_one_out: bool = False
) -> list[float | None]:
    """The advantages of one prompt's rewards: reward - mean, divided by the unbiased standard deviation + 1e-6.

    In 32-bit arithmetic summed from left to right, as the trainers compute it. None (unjudged) takes no part and stays
    None; a response that is alone has advantage 0.
    """
    known = [_float32(r) for r in rewards if r is not None]
    if len(known) < 2:
        return [None if r is None else 0.0 for r in rewards]
    total = 0.0
    for reward in known:
        total = _float32(total + reward)
    mean = _float32(total / len(known))
    exact_mean = math.fsum(known) / len(known)
    std = _float32(math.sqrt(math.fsum((r - exact_mean) ** 2 for r in known) / (len(known) - 1)))
    scale = _float32(std + _float32(1e-6))
    found: list[float | None] = []
    for reward_ in rewards:
        if reward_ is None:
            found.append(None)
            continue
        reward = _float32(reward_)
        baseline = _float32(_float32(total - reward) / (len(known) - 1)) if leave_one_out else mean
        difference = _float32(reward - baseline)
        found.append(_float32(difference / scale) if divide_by_std else difference)
    return found


def group_kind(rewards: Sequence[float | None]) -> GroupKind:
    """Whether a group's rewards are all 1, all 0, or anything else; unjudged responses take no part."""
    known = {r for r in rewards if r is not None}
    if known == {1.0}:
        return "all-one"
    return "all-zero" if known == {0.0} else "mixed"


def _float32(value: float) -> float:
    return float(struct.unpack("f", struct.pack("f", value))[0])
