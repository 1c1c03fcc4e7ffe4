"""Responses, groups and what a group's transform must keep."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltrl.bundle import backends_used
from ltrl.compile import prepare
from ltrl.errors import LtrlError
from ltrl.scoring import (
    CHAT_FORMATS,
    Hit,
    Response,
    Score,
    Verdict,
    advantages,
    chat_format,
    chat_format_owner,
    chat_formats,
    group_kind,
    group_rewards,
    parse_response,
)


def test_a_qwen3_response_is_split_at_its_only_close_tag() -> None:
    raw = "first this\n</think>\n\nthe answer<|im_end|>"
    assert parse_response(raw, chat_format="qwen3") == Response(
        "first this", "the answer", is_ill_formed=False, status="completed", stop_token="<|im_end|>", raw=raw
    )


def test_a_qwen3_response_that_ends_the_text_instead_of_its_turn_is_ill_formed() -> None:
    response = parse_response("t\n</think>\n\nanswer<|endoftext|>", chat_format="qwen3")
    assert (response.is_ill_formed, response.content) == (True, "answer")
    assert response.ill_formed_reasons == ("Error stop token: <|endoftext|>",)


def test_a_plain_response_is_all_answer() -> None:
    assert parse_response("just this", chat_format="plain") == Response(
        None, "just this", is_ill_formed=False, status="completed", raw="just this"
    )


def test_an_empty_plain_response_is_ill_formed() -> None:
    assert parse_response("", chat_format="plain").ill_formed_reasons == ("Missing response content.",)


def test_a_truncated_response_keeps_the_part_of_the_answer_that_was_written() -> None:
    response = parse_response("t\n</think>\n\nhalf an ans", chat_format="qwen3", is_truncated=True)
    assert (response.status, response.is_ill_formed, response.content) == ("truncated", False, "half an ans")
    assert parse_response("still thinking", chat_format="qwen3", is_truncated=True).content is None


def test_an_unknown_chat_format_is_told_with_those_known() -> None:
    with pytest.raises(LtrlError, match="unknown chat format `qwen9`") as caught:
        parse_response("", chat_format="qwen9")
    assert caught.value.diagnostics[0].hint == "installed chat formats: `deepseek-r1`, `plain`, `qwen3`"


def plugin(directory: Path, name: str, code: str) -> None:
    """An installed distribution that publishes `chat_format.made` as the chat format `chatml`."""
    (directory / f"{name}.py").write_text(f"from ltrl.scoring import ChatFormat\n{code}\n")
    info = directory / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{CHAT_FORMATS}]\nchatml = {name}:made\n")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path))
    chat_format.cache_clear()
    yield tmp_path
    chat_format.cache_clear()


def test_a_plugin_brings_a_chat_format(installed: Path) -> None:
    plugin(installed, "chatml_good", 'made = ChatFormat("chatml", stop_tokens=("<end>",), has_reasoning=False)')
    assert chat_formats() == ("chatml", "deepseek-r1", "plain", "qwen3")
    assert parse_response("hi<end>", chat_format="chatml").content == "hi"
    assert chat_format_owner("chatml") == ("chatml_good", "1.0")
    assert chat_format_owner("qwen3") is None


def test_a_bundle_names_and_carries_whoever_brings_the_chat_format(installed: Path) -> None:
    plugin(installed, "chatml_used", 'made = ChatFormat("chatml")')
    quickstart = Path(__file__).resolve().parent.parent / "specs" / "quickstart.yaml"
    planned = prepare(quickstart, sets=["model.chat_format=chatml"])
    assert planned.resolved.chat_format == "chatml"
    used = backends_used(planned.resolved.spec)
    assert used["chat-format.chatml"] == {"distribution": "chatml_used", "version": "1.0"}


def test_a_chat_format_that_two_plugins_claim_is_refused(installed: Path) -> None:
    plugin(installed, "chatml_one", 'made = ChatFormat("chatml")')
    plugin(installed, "chatml_two", 'made = ChatFormat("chatml")')
    with pytest.raises(LtrlError, match=r"`chatml` is claimed by `chatml_\w+:made` and `chatml_\w+:made`"):
        chat_format("chatml")


@pytest.mark.parametrize("code", ["made = 3", 'made = ChatFormat("other")', "import nothing_of_this_name"])
def test_a_chat_format_that_is_none_is_refused(installed: Path, code: str) -> None:
    name = f"chatml_bad_{len(code)}"
    plugin(installed, name, code)
    with pytest.raises(LtrlError, match=rf"`{name}:made` is not the `ChatFormat` named|`chatml` does not load"):
        chat_format("chatml")


def test_a_deepseek_answer_that_begins_to_think_again_is_ill_formed() -> None:
    response = parse_response("t\n</think>\n\nso <think> more<｜end▁of▁sentence｜>", chat_format="deepseek-r1")
    assert response.ill_formed_reasons == ("Content contains special token: <think>",)


def test_a_response_without_a_stop_token_is_what_its_reader_takes_it_for() -> None:
    assert parse_response("t", chat_format="qwen3").status == "aborted"
    assert parse_response("t", chat_format="qwen3", unstopped="truncated").status == "truncated"


TEXT = st.text(max_size=8)
VERDICTS = st.none() | st.builds(Verdict, st.none() | st.booleans(), TEXT, TEXT)
HITS = st.builds(Hit, TEXT, st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=2).map(tuple))


@given(
    st.builds(
        Score,
        st.sampled_from([0.0, 1.0, None]),
        st.floats(0, 1),
        VERDICTS,
        st.lists(HITS, max_size=3).map(tuple),
        st.sampled_from(["", "truncated"]),
        st.dictionaries(TEXT, st.floats(0, 1), max_size=2),
    )
)
def test_a_score_comes_back_from_its_json(score: Score) -> None:
    assert Score.from_json(json.loads(json.dumps(score.to_json()))) == score
    assert score.to_json()["why"]


@given(st.text(st.characters(), max_size=60), st.sampled_from(["qwen3", "deepseek-r1", "plain"]))
def test_any_text_is_parsed_without_losing_its_raw_form(text: str, chat_format: str) -> None:
    response = parse_response(text, chat_format=chat_format)
    assert response.raw == text
    assert response.is_ill_formed == bool(response.ill_formed_reasons)


def test_a_right_answer_gains_by_the_rubric_and_a_wrong_one_gets_nothing() -> None:
    scores = [Score(1.0, 0.8), Score(1.0, 0.4), Score(0.0, 1.0)]
    assert group_rewards(scores, eta=0.3, normalisation="none") == pytest.approx([0.94, 0.82, 0.0])


def test_the_group_maximum_may_come_from_a_wrong_answer() -> None:
    scores = [Score(1.0, 0.5), Score(0.0, 1.0)]
    assert group_rewards(scores, eta=0.3) == pytest.approx([0.85, 0.0])


def test_an_unjudged_response_has_no_reward_but_its_rubric_counts_in_the_maximum() -> None:
    scores = [Score(1.0, 0.5), Score(None, 1.0), Score(0.0, 0.0)]
    assert group_rewards(scores, eta=0.3) == [pytest.approx(0.85), None, 0.0]


SCORES = st.lists(
    st.builds(Score, st.sampled_from([0.0, 1.0, None]), st.sampled_from([0.0, 0.2, 0.25, 0.5, 2 / 3, 1.0])), max_size=9
)
SETTINGS = st.fixed_dictionaries(
    {
        "eta": st.floats(0, 1),
        "scope": st.sampled_from(["positive-only", "negative-only", "all"]),
        "normalisation": st.sampled_from(["group-max", "none"]),
        "formula": st.sampled_from(["mix", "longrlvr"]),
    }
)


@given(SCORES, SETTINGS, st.randoms(use_true_random=False))
def test_the_order_of_a_group_does_not_change_anyones_reward(scores: list[Score], settings: Any, rng: Any) -> None:
    order = list(range(len(scores)))
    rng.shuffle(order)
    rewards = group_rewards(scores, **settings)
    assert group_rewards([scores[i] for i in order], **settings) == [rewards[i] for i in order]


@given(SCORES, SETTINGS)
def test_an_outage_changes_no_other_reward(scores: list[Score], settings: Any) -> None:
    rewards = group_rewards(scores, **settings)
    for lost in range(len(scores)):
        without = list(scores)
        without[lost] = Score(None, scores[lost].rubric)
        rewards_without = group_rewards(without, **settings)
        assert rewards_without[lost] is None
        assert [r for i, r in enumerate(rewards_without) if i != lost] == [
            r for i, r in enumerate(rewards) if i != lost
        ]


@given(SCORES, SETTINGS)
def test_rewards_stay_within_their_bounds(scores: list[Score], settings: Any) -> None:
    top = 2.0 if settings["formula"] == "longrlvr" else 1.0
    assert all(r is None or -1e-9 <= r <= top + 1e-9 for r in group_rewards(scores, **settings))


@given(st.lists(st.none() | st.floats(0, 2, width=32), max_size=12))
def test_advantages_sum_to_nothing_and_keep_the_order_of_rewards(rewards: list[float | None]) -> None:
    found = advantages(rewards)
    known = [(r, a) for r, a in zip(rewards, found, strict=True) if r is not None and a is not None]
    assert [a is None for a in found] == [r is None for r in rewards]
    assert all(math.isfinite(a) for _, a in known)
    if len(known) > 1:
        ranked = sorted(known)
        assert all(one[1] <= two[1] for one, two in pairwise(ranked))


def test_advantages_are_the_distance_from_the_mean_in_standard_deviations() -> None:
    assert advantages([1.0, 0.0, 0.0, 0.0]) == pytest.approx([1.5, -0.5, -0.5, -0.5], abs=1e-5)
    assert advantages([1.0, 0.0, 0.0, 0.0], divide_by_std=False) == [0.75, -0.25, -0.25, -0.25]
    assert advantages([1.0, 0.0], divide_by_std=False, leave_one_out=True) == [1.0, -1.0]


def test_a_response_that_is_alone_has_no_advantage() -> None:
    assert advantages([0.7, None]) == [0.0, None]


def test_a_group_of_all_right_answers_below_one_is_mixed() -> None:
    assert group_kind([0.7, 0.7]) == "mixed"
    assert group_kind([1.0, None, 1.0]) == "all-one"
    assert group_kind([0.0, 0.0]) == "all-zero"
    assert group_kind([None]) == "mixed"
