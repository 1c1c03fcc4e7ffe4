"""What is done while a judge is away, with a real judge behind HTTP and hours that pass in no time."""

from __future__ import annotations

from typing import Any

import pytest
from loopback_judge import Answer, LoopbackJudge, loopback_judge

from ltrl import outage
from ltrl.backend import Outage, create, load
from ltrl.errors import Code, LtrlError
from ltrl.scoring import Response, Score, ScoreRequest, Verdict

YES = Answer("correct: yes")
DOWN = Answer(None, 503, body="down")


class Hours:
    """A clock that moves when somebody sleeps."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float, /) -> None:
        self.seconds += seconds


def reward(server: LoopbackJudge) -> Any:
    judge = {"backend": "openai", "model": "j", "base_url": server.base_url, "retries": 0, "replies": 1}
    options = load("reward", "outcome").Options.model_validate({"backend": "outcome", "judge": judge}, strict=False)
    return create(options)


def requests(count: int) -> list[ScoreRequest]:
    response = Response(None, "an answer", is_ill_formed=False, status="completed")
    return [ScoreRequest(str(number), f"question {number}?", "label", (), response) for number in range(count)]


def test_ten_minutes_without_a_judge_cost_ten_minutes_and_no_verdict() -> None:
    clock = Hours()
    with loopback_judge(script=lambda *_: YES if clock.seconds >= 600 else DOWN) as server:
        scores = outage.score(reward(server), requests(8), Outage(policy="retry", retry_minutes=30), clock=clock)
    assert [score.outcome for score in scores] == [1.0] * 8
    assert clock.seconds == 600
    assert len(server.requests) == 8 * 21  # at once and after each 30 s; none after its verdict


def test_an_outage_that_outlasts_the_patience_leaves_responses_unjudged_with_the_reason() -> None:
    clock = Hours()
    with loopback_judge(DOWN) as server:
        scores = outage.score(reward(server), requests(2), Outage(policy="retry", retry_minutes=0.75), clock=clock)
    assert scores == 2 * [Score(None, 0.0, Verdict(None, "HTTP 503: down (1 try)"))]
    assert clock.seconds == 45
    assert len(server.requests) == 6


def test_what_has_a_verdict_is_not_asked_for_again() -> None:
    clock = Hours()

    def script(number: int, request: dict[str, Any]) -> Answer:
        return DOWN if "question 3?" in request["messages"][0]["content"] and clock.seconds < 60 else YES

    with loopback_judge(script=script) as server:
        scores = outage.score(reward(server), requests(5), Outage(policy="retry"), clock=clock)
    assert [score.outcome for score in scores] == [1.0] * 5
    assert ["question 3?" in prompt for prompt in server.prompts()].count(False) == 4


def test_masking_asks_once() -> None:
    clock = Hours()
    with loopback_judge(DOWN) as server:
        scores = outage.score(reward(server), requests(3), Outage(), clock=clock)
    assert [score.is_judged for score in scores] == [False] * 3
    assert (clock.seconds, len(server.requests)) == (0, 3)


@pytest.mark.parametrize(("lost", "share", "allowed"), [(0, 0, 0), (1, 0, 0), (29, 0.29, 29), (30, 0.29, 29)])
def test_a_step_stops_the_run_when_its_budget_is_spent(lost: int, share: float, allowed: int) -> None:
    scores = [Score(None, 0.0, Verdict(None, "quota"))] * lost + [Score(1.0, 0.0)] * (100 - lost)
    if lost <= allowed:
        outage.refuse_outage(scores, Outage(max_unjudged=share))
        return
    with pytest.raises(LtrlError) as caught:
        outage.refuse_outage(scores, Outage(max_unjudged=share))
    [found] = caught.value.diagnostics
    assert found.code is Code.JUDGE_OUTAGE
    assert found.message == (
        f"{lost} of 100 responses of this step are unjudged, `reward.outage.max_unjudged` {share:g} allows "
        f"{allowed}; {lost} of them: quota"
    )
