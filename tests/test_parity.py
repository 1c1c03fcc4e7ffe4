"""What the reference implementation returned, case by case; the kind `evaluate` belongs to the server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from loopback_judge import Answer, loopback_judge

from ltrl.backend import create, load
from ltrl.scoring import (
    JudgedReward,
    JudgeRequest,
    ReferenceMatcher,
    Response,
    Score,
    ScoreRequest,
    advantages,
    group_kind,
    group_rewards,
    normalize,
    parse_response,
    recall,
    zeroed,
)
from ltrl_backends.judge_openai.prompts import TEMPLATES
from ltrl_backends.longrlvr import chunk_f_beta, named_chunks

_FILE = Path(__file__).parent / "data" / "scoring_cases.jsonl"
CASES = [json.loads(line) for line in _FILE.read_text("utf-8").split("\n") if line]
FORMATS = {"qwen3": "qwen3", "deepseek_r1_distill": "deepseek-r1"}


def cases(kind: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", [pytest.param(c, id=c["id"]) for c in CASES if c["kind"] == kind])


def scope(only_positive: bool, only_negative: bool) -> Any:
    if only_negative:  # asked first by the reference
        return "negative-only"
    return "positive-only" if only_positive else "all"


@cases("normalize")
def test_a_text_is_normalised_as_by_the_reference(case: dict[str, Any]) -> None:
    assert normalize(case["input"]["text"]) == case["expected"]["normalized"]


@cases("entity_match")
def test_an_entity_is_found_as_by_the_reference(case: dict[str, Any]) -> None:
    text, entity = case["input"]["text"], case["input"]["entity"]
    (hit,) = ReferenceMatcher().hits(text, (entity,))
    (every,) = ReferenceMatcher().hits(text, (entity,), every=True)
    assert bool(hit.spans) == case["expected"]["hit"]
    assert every.spans[:1] == hit.spans
    for start, end in every.spans:
        assert normalize(entity) in normalize(text[start:end])


def assistant_text(history: list[dict[str, Any]], use_reasoning: bool, use_content: bool) -> str:
    text = ""
    for turn in history:
        if turn["role"] == "assistant":
            if use_reasoning and "reasoning_content" in turn:
                text += "\n\n" + turn["reasoning_content"].strip()
            if use_content and "content" in turn:
                text += "\n\n" + turn["content"].strip()
    return text


@cases("rubric")
def test_a_rubric_is_scored_as_by_the_reference(case: dict[str, Any]) -> None:
    given, expected = case["input"], case["expected"]

    def score() -> float:
        text = assistant_text(given["history"], given["use_reasoning"], given["use_content"])
        if given["dataset_name"] == "longrlvr":
            return chunk_f_beta(named_chunks(text), given["rubrics"])
        return recall(ReferenceMatcher().hits(text, given["rubrics"]))

    if "error" in expected:
        with pytest.raises(Exception) as caught:  # noqa: PT011
            score()
        assert type(caught.value).__name__ == expected["error"]
    else:
        assert score() == expected["rubric_reward"]


@cases("judge")
def test_a_judge_is_asked_and_read_as_by_the_reference(case: dict[str, Any]) -> None:
    given, expected = case["input"], case["expected"]
    with loopback_judge(*(Answer(text) for text in given["judge_replies"])) as server:
        options = load("judge", "openai").Options(
            backend="openai", base_url=server.base_url, model="judge", parse="reference", retries=0, concurrency=1
        )
        judge = create(options)
        (verdict,) = judge.judge([JudgeRequest(given["question"], given["answer"], given["response"])])
        judge.close()
    # Where the reference scores a judge that gave no verdict as a wrong answer, ours leaves it unjudged.
    assert float(verdict.is_correct or 0) == expected["outcome_reward"]
    assert len(server.requests) == expected["judge_calls"]
    shown = expected["response_shown_to_judge"]
    if shown is not None:
        prompt = TEMPLATES["hle-style"](JudgeRequest(given["question"], given["answer"], shown))
        assert set(server.prompts()) == {prompt}


def messages(response: Response) -> list[dict[str, Any]]:
    """The response in the reference's words."""
    message: dict[str, Any] = {"role": "assistant"}
    if response.status != "completed":
        return [message | {f"{response.status}_content": response.raw}]
    if response.reasoning:
        message["reasoning_content"] = response.reasoning
    if response.content:
        message["content"] = response.content
    if response.is_ill_formed:
        message |= {
            "ill_formed_content": response.raw,
            "ill_formed_reasons": list(response.ill_formed_reasons),
        }
    return [message]


@cases("parse_response")
def test_a_response_is_parsed_as_by_the_reference(case: dict[str, Any]) -> None:
    given = case["input"]
    response = parse_response(
        given["response"],
        chat_format=FORMATS[given["processor"]],
        is_truncated=given["truncated"],
        is_aborted=given["aborted"],
    )
    assert {
        "messages": messages(response),
        "stop_token": response.stop_token,
        "ill_formed": response.is_ill_formed,
        "finish_turn": response.status == "completed",
    } == case["expected"]


@cases("prescreen")
def test_a_response_is_zeroed_unjudged_as_by_the_reference(case: dict[str, Any]) -> None:
    given = case["input"]
    status = given["status"]
    if given["task_unfinished"] and status == "completed":  # its text has no stop token
        status = "aborted"
    handling = "score" if given["is_evaluation"] or given["no_punish_for_illform"] else "zero"
    options = JudgedReward(backend="any", ill_formed=handling, truncated=handling, aborted=handling)
    reason = zeroed(Response("think", "Answer", given["ill_formed"], status), options)
    assert (not reason) == case["expected"]["scored_remotely"]


@cases("group")
def test_a_group_is_rewarded_as_by_the_reference(case: dict[str, Any]) -> None:
    given, expected = case["input"], case["expected"]
    rewards = group_rewards(
        [Score(outcome, rubric) for outcome, rubric in zip(given["outcome"], given["rubric"], strict=True)],
        eta=given["eta"],
        scope=scope(given["only_positive"], given["only_negative"]),
        normalisation="group-max" if given["normalize"] else "none",
        formula="longrlvr" if given["dataset_name"] == "longrlvr" else "mix",
    )
    assert rewards == expected["reward"]
    assert group_kind(rewards).replace("-", "_") == expected["group_type"]
    assert advantages(rewards) == pytest.approx(expected["advantage_std"], rel=1e-5, abs=1e-6)
    assert advantages(rewards, divide_by_std=False) == pytest.approx(expected["advantage_nostd"], rel=1e-5, abs=1e-6)


@cases("group_e2e")
def test_a_group_is_scored_from_text_to_advantage_as_by_the_reference(case: dict[str, Any]) -> None:
    given, expected = case["input"], case["expected"]
    is_longrlvr = given["dataset_name"] == "longrlvr"
    # Looking nowhere is the reference's way to a rubric of 0; ours is a sample without a rubric.
    text = {(False, False): "answer", (False, True): "answer", (True, False): "reasoning", (True, True): "both"}
    rubrics = given["rubrics"] if given["use_reasoning"] or given["use_content"] else ()
    section: dict[str, Any] = {
        "backend": "longrlvr" if is_longrlvr else "rubric",
        "eta": given["eta"],
        "normalisation": "group-max" if given["normalize"] else "none",
        "text": text[given["use_reasoning"], given["use_content"]],
        "judge": create_judge(),
    }
    if not is_longrlvr:
        section |= {"matcher": "reference", "scope": scope(given["only_positive"], given["only_negative"])}
    reward = create(load("reward", section["backend"]).Options(**section))
    requests = []
    for raw, status, is_right in zip(given["responses"], given["status"], given["judge_yes"], strict=True):
        response = parse_response(
            raw,
            chat_format=FORMATS[given["processor"]],
            is_truncated=status == "truncated",
            is_aborted=status == "aborted",
        )
        # The verdict is given: an answer that is its own label is right.
        label = str(response.content) if is_right else "another answer"
        requests.append(ScoreRequest("group", "?", label, tuple(map(str, rubrics)), response))
    scores = reward.score(requests)
    for request, score, sample in zip(requests, scores, expected["per_sample"], strict=True):
        assert request.response.is_ill_formed == sample["ill_formed"]
        assert (request.response.status != "completed") == sample["task_unfinished"]
        assert (score.outcome, score.rubric) == (sample["outcome_reward"], sample["rubric_reward"])
        assert (score.verdict is not None) == (sample["judge_calls"] > 0)
    rewards = reward.rewards(scores)
    assert rewards == expected["reward"]
    assert advantages(rewards) == pytest.approx(expected["advantage_std"], rel=1e-5, abs=1e-6)


def create_judge() -> Any:
    return load("judge", "exact").Options(backend="exact")
