"""The reference's cases through the hooks inside NeMo-RL's real `grpo` module and its real advantage estimator."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from test_parity import CASES, FORMATS, create_judge, scope

from ltrl.backend import create, load
from ltrl.scoring import parse_response

torch = pytest.importorskip("torch")


def cases(kind: str) -> pytest.MarkDecorator:
    """Those that a judge can bring about: -1 is no judge's outcome, and stands for none inside NeMo-RL."""
    possible = [c for c in CASES if c["kind"] == kind and min(c["input"].get("outcome", [0])) >= 0]
    return pytest.mark.parametrize("case", [pytest.param(c, id=c["id"]) for c in possible])


@pytest.fixture
def grpo() -> Iterator[ModuleType]:
    """NeMo-RL's module, as it was when the test is over."""
    from nemo_rl.algorithms import grpo

    kept = dict(vars(grpo))
    yield grpo
    vars(grpo).update(kept)


def section_of(given: dict[str, Any], **more: Any) -> dict[str, Any]:
    is_longrlvr = given["dataset_name"] == "longrlvr"
    section: dict[str, Any] = {
        "backend": "longrlvr" if is_longrlvr else "rubric",
        "eta": given["eta"],
        "normalisation": "group-max" if given["normalize"] else "none",
        "judge": create_judge().model_dump(mode="json"),
        **more,
    }
    if not is_longrlvr:
        section |= {"matcher": "reference", "scope": scope(given["only_positive"], given["only_negative"])}
    return section


def hooked(grpo: ModuleType, section: dict[str, Any], size: int, *, divide_by_std: bool) -> Any:
    """NeMo-RL's advantage estimator with our hooks around it, as the driver installs them."""
    from ltrl_backends.nemo_rl.hooks import Groups, install

    reward = create(load("reward", section["backend"]).Options.model_validate(section, strict=False))
    install(grpo, Groups(reward, group_size=size, divide_by_std=divide_by_std, leave_one_out=False))
    estimator = {"name": "grpo", "normalize_rewards": divide_by_std, "use_leave_one_out_baseline": False}
    config: Any = SimpleNamespace(grpo={"adv_estimator": estimator}, loss_fn=None)
    if isinstance(grpo.MasterConfig, type) and issubclass(grpo.MasterConfig, dict):  # until 0.6.0
        config = vars(config)
    return grpo._create_advantage_estimator(config)


def batch(columns: Any, infos: list[dict[str, Any]]) -> Any:
    from nemo_rl.distributed.batched_data_dict import BatchedDataDict

    rows = len(infos)
    return BatchedDataDict(
        {
            "message_log": [[{"role": "assistant"}, {"role": "environment"}]] * rows,
            "extra_env_info": infos,
            "reward1": columns[:, 0],
            "reward2": columns[:, 1],
            "total_reward": columns.sum(1),
            "loss_multiplier": torch.ones(rows),
        }
    )


def rewards_of(grpo: ModuleType, one: Any, trainer: str) -> list[float]:
    """The rewards that a trainer goes on with."""
    if trainer == "synchronous":
        one = grpo.scale_rewards(one, {"enabled": False})
    else:
        names = ("token_ids", "generation_logprobs", "token_loss_mask")
        flat = dict.fromkeys(names, torch.zeros(len(one["total_reward"]), 3))
        grpo._build_async_grpo_train_data(flat, torch.full((len(one["total_reward"]),), 3), one, {})
    return [float(reward) for reward in one["total_reward"]]


def advantages_of(estimator: Any, one: Any) -> list[float]:
    rows = len(one["total_reward"])
    prompts, mask = torch.zeros((rows, 1), dtype=torch.long), torch.ones(rows, 3)
    found = estimator.compute_advantage(
        prompt_ids=prompts, rewards=one["total_reward"], mask=mask, repeated_batch=one, logprobs_policy=mask
    )
    assert bool((found == found[:, :1]).all())
    return [float(value) for value in found[:, 0]]


@pytest.mark.parametrize("trainer", ["synchronous", "asynchronous"])
@cases("group")
def test_a_group_is_rewarded_as_by_the_reference(case: dict[str, Any], trainer: str, grpo: ModuleType) -> None:
    given, expected = case["input"], case["expected"]
    columns = torch.tensor([given["outcome"], given["rubric"]], dtype=torch.float32).T
    kept = dict(vars(grpo))
    for divide_by_std, name in ((True, "advantage_std"), (False, "advantage_nostd")):
        vars(grpo).update(kept)
        estimator = hooked(grpo, section_of(given), len(columns), divide_by_std=divide_by_std)
        one = batch(columns.clone(), [{"uid": "one"} for _ in columns])
        assert rewards_of(grpo, one, trainer) == pytest.approx(expected["reward"], abs=1e-6)
        # Of equal rewards the reference divides a rounding error by 1e-6, up to 0.06; NeMo-RL's deviation is 0 there.
        wanted = expected[name] if len(set(expected["reward"])) > 1 else [0.0] * len(columns)
        assert advantages_of(estimator, one) == pytest.approx(wanted, rel=1e-5, abs=1e-5)


@cases("group_e2e")
def test_a_group_goes_from_text_to_advantage_as_by_the_reference(case: dict[str, Any], grpo: ModuleType) -> None:
    from ltrl_backends.nemo_rl.scorer import Scorer

    given, expected = case["input"], case["expected"]
    texts = {(False, False): "answer", (False, True): "answer", (True, False): "reasoning", (True, True): "both"}
    section = section_of(given, text=texts[given["use_reasoning"], given["use_content"]])
    chat_format = FORMATS[given["processor"]]
    rubrics = given["rubrics"] if given["use_reasoning"] or given["use_content"] else ()
    logs, infos = [], []
    for text, is_right in zip(given["responses"], given["judge_yes"], strict=True):
        answer = parse_response(text, chat_format=chat_format).content
        infos.append(
            {
                "uid": "one",
                "question": "?",
                "label": str(answer) if is_right else "another answer",  # the verdict is given
                "rubrics": list(map(str, rubrics)),
                "dataset_name": given["dataset_name"],
            }
        )
        logs.append([{"role": "user", "content": "?"}, {"role": "assistant", "content": text}])
    step = Scorer({"role": "train", "chat_format": chat_format, "reward": section}).step(logs, infos)
    estimator = hooked(grpo, section, len(logs), divide_by_std=True)
    one = batch(step.rewards, list(step.metadata))
    assert rewards_of(grpo, one, "synchronous") == pytest.approx(expected["reward"], abs=1e-6)
    assert advantages_of(estimator, one) == pytest.approx(expected["advantage_std"], rel=1e-5, abs=1e-5)


def test_a_job_that_is_told_to_stop_saves_after_its_step(grpo: ModuleType, tmp_path, monkeypatch) -> None:
    from ltrl_backends.nemo_rl import walltime

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LTRL_ATTEMPT", "1")
    (tmp_path / "attempts" / "1").mkdir(parents=True)
    monkeypatch.setenv("LTRL_JOB_ENDS", "0")
    monkeypatch.setenv("LTRL_SAVE_SECONDS", "1")
    checkpointing = {"checkpoint_must_save_by": None}
    walltime.install(grpo, checkpointing)
    assert checkpointing == {"checkpoint_must_save_by": "00:00:00:01"}
    timeout = grpo.TimeoutChecker(timeout="00:03:45:00", fit_last_save_time=True)
    timeout.start_iterations()
    timeout.mark_iteration()
    assert timeout.check_save() is False
    (tmp_path / "attempts" / "1" / "stop").touch()
    assert [timeout.check_save(), timeout.check_save()] == [True, False]
