"""What runs inside NeMo-RL, without NeMo-RL: scores, groups, hooks, metrics. The real loop is the contract test's."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from loopback_judge import Answer, loopback_judge
from reward_server import reward_server

torch = pytest.importorskip("torch")

from ltrl import excerpts  # noqa: E402
from ltrl.backend import create, load  # noqa: E402
from ltrl.errors import Code, LtrlError  # noqa: E402
from ltrl.scoring import Score, advantages  # noqa: E402
from ltrl_backends.nemo_rl.hooks import Groups, MetricsLog, install, keep_special_tokens  # noqa: E402
from ltrl_backends.nemo_rl.scorer import UNJUDGED, Scorer  # noqa: E402

REWARD = {"backend": "rubric", "judge": {"backend": "exact", "answer_pattern": r"answer (\S+)$"}}
INFO = {"uid": "1", "question": "Who?", "label": "Poro", "rubrics": ["Mali", "Napi"], "dataset_name": "longqa"}


def reward() -> Any:
    return create(load("reward", "rubric").Options.model_validate_json(json.dumps(REWARD)))


def groups(size: int = 4) -> Groups:
    return Groups(reward(), group_size=size, divide_by_std=True, leave_one_out=False)


def log(text: str | None = "x") -> list[dict[str, str]]:
    """A message log as NeMo-RL leaves it; without a text, one whose generation failed."""
    answered = [{"role": "assistant", "content": text}, {"role": "environment", "content": "ok"}] if text else []
    return [{"role": "user", "content": "…"}, *answered]


def batch(*scores: tuple[float, float] | None, uids: str = "") -> dict[str, Any]:
    """A batch of (outcome, rubric); None is a response that was never generated, for which NeMo-RL fills in zeros."""
    rows = [s or (0.0, 0.0) for s in scores]
    return {
        "message_log": [log("x" if s else None) for s in scores],
        "extra_env_info": [{"uid": uids[i] if uids else str(i // 4)} for i in range(len(rows))],
        "reward1": torch.tensor([o for o, _ in rows]),
        "reward2": torch.tensor([r for _, r in rows]),
        "total_reward": torch.tensor([o + r for o, r in rows]),
        "loss_multiplier": torch.ones(len(rows)),
        "truncated": torch.zeros(len(rows), dtype=torch.bool),
    }


def step(role: str, *texts: str, section: dict[str, Any] = REWARD) -> Any:
    config = {"role": role, "chat_format": "qwen3", "reward": section}
    logs = [[{"role": "user", "content": "…"}, {"role": "assistant", "content": t}] for t in texts]
    return Scorer(config).step(logs, [dict(INFO) for _ in texts])


RIGHT = "Mali Napi\n</think>\n\nevidence Mali answer Poro<|im_end|>"
WRONG = "Mali\n</think>\n\nevidence Mali Napi answer Kugo<|im_end|>"
CUT = "Mali\n</think>\n\nevidence Mali answer Poro"


def test_training_rewards_have_two_columns() -> None:
    found = step("train", RIGHT, WRONG, CUT)
    assert found.rewards.tolist() == [[1.0, 0.5], [0.0, 1.0], [0.0, 0.0]]
    assert found.metadata[2]["score"]["zeroed"] == "truncated"
    assert all(o["content"] for o in found.observations)  # an empty one becomes a float tensor in async rollouts


def test_validation_rewards_are_the_outcomes() -> None:
    assert step("validation", RIGHT, WRONG).rewards.tolist() == [1.0, 0.0]


def test_groups_are_normalised_by_their_largest_rubric() -> None:
    changed = groups().transform(batch((1.0, 0.5), (1.0, 0.25), (0.0, 0.5), (1.0, 0.0)))
    assert changed["total_reward"].tolist() == pytest.approx([1.0, 0.85, 0.0, 0.7])
    assert changed["loss_multiplier"].tolist() == [1, 1, 1, 1]


def test_a_batch_is_changed_once() -> None:
    made, one = groups(), batch((1.0, 0.5), (1.0, 0.25), (0.0, 0.5), (1.0, 0.0))
    first = made.transform(one)["total_reward"].clone()
    assert torch.equal(made.transform(one)["total_reward"], first)


@pytest.mark.parametrize("lost", [(UNJUDGED, 0.0), None], ids=["unjudged", "never generated"])
def test_a_failure_is_masked_and_moves_no_baseline(lost: tuple[float, float] | None) -> None:
    made = groups()
    changed = made.transform(batch((1.0, 0.5), lost, (0.0, 0.5), (1.0, 0.0)))
    assert changed["loss_multiplier"].tolist() == [1, 0, 1, 1]
    judged = [1.0, 0.0, 0.7]
    assert changed["total_reward"][1].item() == pytest.approx(sum(judged) / 3)
    assert made.metrics["unjudged_rate"] == 0.25
    assert made.metrics["outcome"] == pytest.approx(2 / 3)  # not 2 / 4: a failure is no wrong answer
    # NeMo-RL's estimator would divide by a standard deviation over four responses.
    found = made.advantages(changed, torch.zeros(4, 5))
    wanted = advantages([1.0, None, 0.0, 0.7])
    assert found[:, 0].tolist() == pytest.approx([0.0 if a is None else a for a in wanted])


def test_a_step_with_too_few_verdicts_stops_the_training_and_says_what_the_judge_said() -> None:
    one = batch((1.0, 0.5), (UNJUDGED, 0.5), (UNJUDGED, 0.5), None)
    for row in (1, 2):
        one["extra_env_info"][row]["score"] = {"unjudged": "HTTP 429: quota (7 tries)"}
    with pytest.raises(LtrlError) as caught:
        groups().transform(one)
    assert caught.value.diagnostics[0].code == Code.JUDGE_OUTAGE
    assert str(caught.value) == (
        "3 of 4 responses of this step are unjudged, `reward.outage.max_unjudged` 0.25 allows 1; "
        "2 of them: HTTP 429: quota (7 tries)"
    )


def test_the_reason_of_a_lost_verdict_travels_with_its_response() -> None:
    judge = {"backend": "openai", "model": "judge", "retries": 0, "replies": 1}
    with loopback_judge(Answer(None, 429, body="quota")) as server:
        section = {**REWARD, "judge": {**judge, "base_url": server.base_url}}
        found = step("train", RIGHT, WRONG, section=section)
    assert found.rewards.tolist() == [[UNJUDGED, 0.5], [UNJUDGED, 1.0]]
    assert [info["score"]["unjudged"] for info in found.metadata] == 2 * ["HTTP 429: quota (1 try)"]


def test_a_step_is_asked_for_again_until_the_judge_is_back() -> None:
    judge = {"backend": "openai", "model": "judge", "retries": 0, "replies": 1, "concurrency": 1}
    outage = {"policy": "retry", "retry_seconds": 0.01}
    with loopback_judge(*3 * [Answer(None, 503, body="later")], Answer()) as server:
        section = {**REWARD, "judge": {**judge, "base_url": server.base_url}, "outage": outage}
        found = step("train", RIGHT, WRONG, section=section)
    assert found.rewards.tolist() == [[1.0, 0.5], [1.0, 1.0]]
    assert len(server.requests) == 5  # both, both again, then the one that is left


def test_an_environment_scores_in_the_server_that_its_section_names(tmp_path: Path) -> None:
    with reward_server(tmp_path, REWARD) as server:
        section = {**REWARD, "server": {"url": server.url}}
        found = step("train", RIGHT, WRONG, CUT, section=section)
    here = step("train", RIGHT, WRONG, CUT)
    assert torch.equal(found.rewards, here.rewards)
    assert found.metadata == here.metadata
    lost = step("train", RIGHT, section={**REWARD, "server": {"url": server.url, "patience_seconds": 0}})
    assert lost.rewards.tolist() == [[UNJUDGED, 0.5]]  # the rubric is read from the text alone
    assert lost.metadata[0]["score"]["unjudged"].startswith("reward server: no connection: ")


def test_a_step_without_any_response_stops_the_training() -> None:
    with pytest.raises(RuntimeError, match="no response of this step was generated"):
        groups().transform(batch(None, None, None, None))


def test_responses_of_different_prompts_are_never_one_group() -> None:
    with pytest.raises(AssertionError, match="answer different prompts"):
        groups().transform(batch((1.0, 0.5), (1.0, 0.5), (0.0, 0.5), (1.0, 0.0), uids="aabb"))


def test_parts_that_a_backend_gave_come_back_to_it() -> None:
    class Seen:
        scores: list[Score] = []

        def rewards(self, group: Any) -> list[float]:
            Seen.scores = list(group)
            return [0.0] * len(group)

    one = batch((1.0, 0.5), (0.0, 0.0))
    one["extra_env_info"][0]["score"] = {"zeroed": "", "parts": {"length": 3.0}}
    Groups(Seen(), group_size=2, divide_by_std=True, leave_one_out=False).transform(one)
    assert Seen.scores[0] == Score(1.0, 0.5, parts={"length": 3.0})


class Tokenizer:
    def batch_decode(self, sequences: list[str], skip_special_tokens: bool = False) -> list[str]:
        return [s.replace("<|im_end|>", "") if skip_special_tokens else s for s in sequences]


def test_responses_are_decoded_with_their_special_tokens() -> None:
    assert keep_special_tokens(Tokenizer()).batch_decode([RIGHT], skip_special_tokens=True) == [RIGHT]


def fake_grpo(validation: dict[str, Any]) -> ModuleType:
    """A module with the names that are bound anew; what they do is NeMo-RL's order of calls and nothing else."""
    module = ModuleType("grpo")
    module.scale_rewards = lambda found, _: found  # type: ignore[attr-defined]
    module._build_async_grpo_train_data = lambda _flat, _lengths, found, _: found  # type: ignore[attr-defined]
    inner = SimpleNamespace(
        last_metrics={}, compute_advantage=lambda rewards, mask, **_: rewards[:, None].expand(mask.shape)
    )
    module._create_advantage_estimator = lambda _: inner  # type: ignore[attr-defined]
    module.run_multi_turn_rollout = lambda *_: (validation, {})  # type: ignore[attr-defined]
    module.run_async_multi_turn_rollout = lambda *_: (validation, {})  # type: ignore[attr-defined]

    def validate() -> tuple[dict[str, float], dict[str, float]]:
        found, _ = module.run_multi_turn_rollout()
        return {"accuracy": found["total_reward"].mean().item(), "avg_length": 7.0}, {}

    module.validate = validate  # type: ignore[attr-defined]
    return module


def test_hooks_change_rewards_in_the_synchronous_and_the_asynchronous_trainer() -> None:
    for name in ("scale_rewards", "_build_async_grpo_train_data"):
        grpo, one = fake_grpo({}), batch((1.0, 0.5), (1.0, 0.25), (0.0, 0.5), (1.0, 0.0))
        install(grpo, groups())
        rewards = one["total_reward"]  # NeMo-RL holds on to this very tensor
        _ = grpo.scale_rewards(one, {}) if name == "scale_rewards" else grpo._build_async_grpo_train_data(0, 0, one, {})
        assert rewards.tolist() == pytest.approx([1.0, 0.85, 0.0, 0.7])


def test_validation_is_told_set_by_set_and_failures_are_left_out() -> None:
    validation = {
        "task_name": ["ltrl_validation_a", "ltrl_validation_a", "ltrl_validation_b.c", "ltrl_validation_b.c"],
        "total_reward": torch.tensor([1.0, 0.0, UNJUDGED, 0.0]),
        "message_log": [log(), log(), log(), log(None)],
    }
    validation["extra_env_info"] = [{**INFO, "score": {"rubric": 0.5, "said": "CORRECT"}}, *[dict(INFO)] * 3]
    grpo, made = fake_grpo(validation), groups()
    install(grpo, made)
    assert grpo.validate()[0] == {"accuracy": 0.5, "avg_length": 7.0, "a/accuracy": 0.5, "unjudged_rate": 0.5}
    told = [(one.set, one.question, one.response, one.outcome, one.rubric, one.judge) for one in made.validated]
    assert told[0] == ("a", "Who?", "x", 1.0, 0.5, "CORRECT")
    assert told[2:] == [("b.c", "Who?", "x", None, 0.0, ""), ("b.c", "Who?", "", None, 0.0, "")]


def test_accuracy_of_nothing_is_not_a_number() -> None:
    grpo = fake_grpo({"task_name": ["ltrl_validation_a"], "total_reward": torch.zeros(1), "message_log": [log(None)]})
    install(grpo, groups())
    found = grpo.validate()[0]
    assert math.isnan(found["accuracy"])
    assert found["unjudged_rate"] == 1.0


def test_sources_of_samples_are_told_apart() -> None:
    made, one = groups(2), batch((1.0, 0.5), (0.0, 0.5), (1.0, 0.0), (UNJUDGED, 0.0), uids="aabb")
    for row, info in enumerate(one["extra_env_info"]):
        info["source"] = "longqa" if row < 2 else "mrcr"
    made.transform(one)
    told = {name: value for name, value in made.metrics.items() if name.startswith("source/")}
    assert told == {
        "source/longqa/rubric": 0.5,
        "source/longqa/reward": pytest.approx(0.5),
        "source/longqa/outcome": 0.5,
        "source/mrcr/rubric": 0.0,
        "source/mrcr/reward": pytest.approx(0.7),
        "source/mrcr/outcome": 1.0,
    }


def test_one_line_a_step_and_one_a_validation(tmp_path: Path) -> None:
    passed: list[tuple[str, int]] = []
    inner = SimpleNamespace(log_metrics=lambda _, step, prefix, **__: passed.append((prefix, step)), closed="yes")
    made = groups()
    made.transform(batch((1.0, 0.5), (1.0, 0.25), (0.0, 0.5), (1.0, 0.0)))
    logger = MetricsLog(inner, tmp_path, made)
    logger.log_metrics({"truncation_rate": 0.0}, 1, "train")
    logger.log_metrics({"accuracy": 0.5, "a/accuracy": math.nan}, 1, "validation")
    logger.log_metrics({"loss": torch.tensor(0.25), "reward": 0.6, "moe": {"x": 1}, "text": "no"}, 1, "train")
    logger.log_metrics({"total_step_time": 2.0}, 1, "timing/train", step_finished=True)
    first, second = (json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert first == {"step": 1, "validation/accuracy": 0.5}
    assert second["train/loss"] == 0.25
    assert second["train/moe/x"] == 1.0
    assert second["train/group/mixed"] == 1.0
    assert second["timing/train/total_step_time"] == 2.0
    assert "train/text" not in second
    assert passed == [("train", 1), ("validation", 1), ("train", 1), ("timing/train", 1)]
    assert logger.closed == "yes"
    kept = list(excerpts.read(tmp_path / excerpts.NAME))
    assert [(one.step, one.split, one.outcome, one.rubric, one.reward) for one in kept] == [
        (1, "train", 1.0, 0.5, 1.0),
        (1, "train", 0.0, 0.5, 0.0),
    ]
