"""What an engine does when its judge fails: ask again, and stop before it trains on what is left."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from ltrl.backend import Outage, RewardBackend
from ltrl.errors import Code, fail
from ltrl.scoring import Score, ScoreRequest

__all__ = ["Clock", "refuse_outage", "score"]


class Clock(Protocol):
    """The part of the module `time` that waiting needs."""

    def monotonic(self) -> float:
        """Seconds since some moment."""
        ...

    def sleep(self, seconds: float, /) -> None:
        """Waits."""
        ...


def score(
    reward: RewardBackend, requests: Sequence[ScoreRequest], outage: Outage, *, clock: Clock = time
) -> list[Score]:
    """One score for each request, in their order; with `retry`, what is unjudged is asked for again until it is judged
    or the time is up. A response that has a verdict is never scored again."""
    scores = list(reward.score(requests))
    deadline = clock.monotonic() + 60 * outage.retry_minutes
    while outage.policy == "retry":
        left = [place for place, found in enumerate(scores) if not found.is_judged]
        wait = min(outage.retry_seconds, deadline - clock.monotonic())
        if not left or wait <= 0:
            break
        clock.sleep(wait)
        again = reward.score([requests[place] for place in left])
        for place, found in zip(left, again, strict=True):
            scores[place] = found
    return scores


def refuse_outage(scores: Sequence[Score], outage: Outage) -> None:
    """Raises LtrlError when more of a step's scores are unjudged than may be left out of the loss."""
    reasons = [found.verdict.reason if found.verdict else "" for found in scores if not found.is_judged]
    allowed = int(outage.max_unjudged * len(scores) + 1e-9)
    if len(reasons) <= allowed:
        return
    (reason, count), *_ = Counter(reasons).most_common(1)
    said = f"; {count} of them: {reason}" if reason else ""
    raise fail(
        Code.JUDGE_OUTAGE,
        f"{len(reasons)} of {len(scores)} responses of this step are unjudged, `reward.outage.max_unjudged` "
        f"{outage.max_unjudged:g} allows {allowed}{said}",
        hint="when the judge answers again, submit again: the run resumes at its last checkpoint; "
        "`reward.outage.policy: retry` waits for a judge",
    )
