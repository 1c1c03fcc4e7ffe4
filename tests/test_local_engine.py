"""The embedded engine's parts: prompts, checkpoints, collapse, metrics. Trainings: test_local_training.py."""

from __future__ import annotations

import errno
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ltrl import compile as compiling
from ltrl.backend import create
from ltrl.errors import Code, LtrlError
from ltrl.samples import Sample
from ltrl.scoring import Score, parse_response
from ltrl_backends.local_engine.checkpoints import Checkpoints
from ltrl_backends.local_engine.collapse import refuse_collapse
from ltrl_backends.local_engine.driver import _require_gpu
from ltrl_backends.local_engine.metrics import Metrics, response_metrics, validation_metrics
from ltrl_backends.local_engine.options import Collapse
from ltrl_backends.local_engine.prompts import prompt_order
from ltrl_backends.local_engine.scorer import Scored
from ltrl_backends.local_engine.settings import CheckpointSettings, read_settings, settings


def checkpoints(directory: Path, **settings: Any) -> Checkpoints:
    values = {"every_steps": 1, "keep": None, "metric": None, "save_optimizer": True, **settings}
    return Checkpoints(directory, CheckpointSettings(**values))


def fill(policy: Path) -> None:
    (policy / "weights").mkdir()
    (policy / "weights" / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")


def save(store: Checkpoints, step: int, **info: object) -> None:
    store.save(step, {"total_steps": step, **info}, "config: 1\n", fill)


def steps(store: Checkpoints) -> list[int]:
    return [checkpoint.step for checkpoint in store.all()]


def scored(
    outcome: float | None, rubric: float, reward: float | None, text: str = "a\n</think>\n\nb<|im_end|>"
) -> Scored:
    sample = Sample("s", (("user", "?"),), "?", "b", ("a",))
    response = parse_response(text, chat_format="qwen3", is_truncated=not text.endswith(">"))
    return Scored(sample, (1, 2), response, Score(outcome, rubric), reward)


def test_a_checkpoint_is_complete_and_reads_back(tmp_path: Path) -> None:
    store = checkpoints(tmp_path)
    save(store, 20)
    newest = store.latest()
    assert newest is not None
    assert newest.info() == {"total_steps": 20}
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()) == [
        "step_20/config.yaml",
        "step_20/policy/weights/model.safetensors",
        "step_20/sha256sums.txt",
        "step_20/training_info.json",
    ]


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    store = checkpoints(tmp_path)
    save(store, 1, attempt=1)
    save(store, 1, attempt=2)
    assert [c.info()["attempt"] for c in store.all()] == [2]
    assert [p.name for p in tmp_path.iterdir()] == ["step_1"]


def test_what_a_killed_writer_left_is_no_checkpoint_and_is_removed(tmp_path: Path) -> None:
    store = checkpoints(tmp_path)
    save(store, 20)
    for name in ("tmp_step_40", "old_step_20", "step_x"):
        (tmp_path / name / "policy").mkdir(parents=True)
    assert steps(store) == [20]
    store.tidy()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step_20", "step_x"]


def test_the_newest_are_kept(tmp_path: Path) -> None:
    store = checkpoints(tmp_path, keep=2)
    for step in (1, 2, 3, 10):
        save(store, step)
    assert steps(store) == [3, 10]


def test_those_of_every_so_many_steps_are_kept_besides_the_newest_and_the_best(tmp_path: Path) -> None:
    store = checkpoints(tmp_path, keep=1, metric="val:accuracy", keep_last=2, keep_every=4)
    for step, accuracy in enumerate((0.1, 0.9, 0.5, 0.2, 0.3, 0.4, 0.6, 0.5, 0.3, 0.1), 1):
        save(store, step, **{"val:accuracy": accuracy})
    assert steps(store) == [2, 4, 8, 9, 10]


def test_the_best_and_the_newest_are_kept(tmp_path: Path) -> None:
    store = checkpoints(tmp_path, keep=1, metric="val:accuracy")
    save(store, 1, **{"val:accuracy": 0.5})
    save(store, 2, **{"val:accuracy": 0.9})
    save(store, 3)
    assert steps(store) == [2, 3]


@pytest.mark.parametrize(
    "refusal",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("[enforce fail at inline_container.cc:668] . unexpected pos 64 vs 0"),
        RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"),
    ],
)
def test_a_full_disk_leaves_earlier_checkpoints_intact(tmp_path: Path, refusal: Exception) -> None:
    store = checkpoints(tmp_path)
    save(store, 1)

    def fails(policy: Path) -> None:
        (policy / "half").write_text("…", encoding="utf-8")
        raise refusal

    with pytest.raises(LtrlError) as caught:
        store.save(2, {"total_steps": 2}, "", fails)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == Code.UNWRITABLE
    assert diagnostic.message == f"cannot write to `{tmp_path}`: no space left on device"
    assert [p.name for p in tmp_path.iterdir()] == ["step_1"]


def test_an_error_that_is_not_the_disk_stays_what_it_is(tmp_path: Path) -> None:
    def fails(_: Path) -> None:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        checkpoints(tmp_path).save(1, {}, "", fails)


def test_an_unreadable_training_info_names_the_way_out(tmp_path: Path) -> None:
    store = checkpoints(tmp_path)
    save(store, 1)
    (tmp_path / "step_1" / "training_info.json").write_text("{", encoding="utf-8")
    newest = store.latest()
    assert newest is not None
    with pytest.raises(LtrlError) as caught:
        newest.info()
    assert caught.value.diagnostics[0].code == Code.BAD_CHECKPOINT


def test_every_epoch_has_its_own_order_and_no_step_asks_twice() -> None:
    order = prompt_order(10, prompts_per_step=4, num_steps=5, seed=0, shuffle=True)
    assert len(order) == 20
    rows = [order[i : i + 4] for i in range(0, 20, 4)]
    assert all(len(set(row)) == 4 for row in rows)
    assert len(set(rows[0] + rows[1])) == 8
    assert rows[:2] != rows[2:4]
    assert prompt_order(10, prompts_per_step=4, num_steps=2, seed=0, shuffle=True) == order[:8]
    assert prompt_order(4, prompts_per_step=2, num_steps=3, seed=0, shuffle=False) == [0, 1, 2, 3, 0, 1]


def test_fewer_samples_than_a_step_needs_are_refused() -> None:
    with pytest.raises(LtrlError) as caught:
        prompt_order(3, prompts_per_step=4, num_steps=1, seed=0, shuffle=True)
    assert caught.value.diagnostics[0].message == "`data.train` has 3 samples, fewer than the 4 prompts of a step"


def test_a_policy_that_babbles_without_reward_is_lost() -> None:
    start = [{"step": i, "reward": 0.4, "entropy": 0.5} for i in range(1, 6)]
    silent = [{"step": i, "reward": 0.0, "entropy": 0.5} for i in range(6, 16)]
    babble = [{"step": i, "reward": 0.0, "entropy": 3.0} for i in range(6, 16)]
    refuse_collapse(start + silent, Collapse())  # a hard task: nothing is lost
    refuse_collapse(start + babble[:-1], Collapse())
    with pytest.raises(LtrlError) as caught:
        refuse_collapse(start + babble, Collapse())
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == Code.TRAINING_COLLAPSED
    assert diagnostic.message == (
        "the policy collapsed: no reward since step 6, its entropy rose from 0.50 to 3.00 nats per token"
    )


def test_response_metrics_leave_the_unjudged_out_of_means() -> None:
    group = [scored(1.0, 0.5, 0.85), scored(None, 1.0, None), scored(0.0, 0.0, 0.0, "cut"), scored(0.0, 0.0, 0.0)]
    values = response_metrics(group, group_size=2)
    assert values["reward"] == pytest.approx(0.85 / 3)
    assert values["outcome"] == pytest.approx(1 / 3)
    assert values["rubric"] == 0.375
    assert (values["group/all_one"], values["group/all_zero"], values["group/mixed"]) == (0.0, 0.5, 0.5)
    assert (values["truncation_rate"], values["ill_formed_rate"], values["unjudged_rate"]) == (0.25, 0.0, 0.25)


def test_sources_of_samples_are_told_apart() -> None:
    one, other = scored(1.0, 1.0, 1.0), scored(0.0, 0.5, 0.0)
    other = replace(other, sample=replace(other.sample, source="mrcr"))
    values = response_metrics([one, one, other, other], group_size=2)
    told = {name: value for name, value in values.items() if name.startswith("source/")}
    assert {name: told[name] for name in told if "mrcr" in name} == {
        "source/mrcr/reward": 0.0,
        "source/mrcr/outcome": 0.0,
        "source/mrcr/rubric": 0.5,
    }
    assert len(told) == 6
    assert not any(name.startswith("source/") for name in response_metrics([one, one], group_size=2))


def test_validation_figures_are_named_by_set_and_in_all() -> None:
    values = validation_metrics({"a": [scored(1.0, 1.0, 1.0)], "b": [scored(0.0, 0.5, 0.0)]})
    assert values["validation/a/accuracy"] == 1.0
    assert values["validation/b/rubric"] == 0.5
    assert (values["validation/accuracy"], values["validation/rubric"]) == (0.5, 0.75)


def test_every_start_writes_metrics_of_its_own(tmp_path: Path) -> None:
    for step in (1, 2):
        with Metrics(tmp_path) as metrics:
            metrics.write(step, {"train/reward": 0.5, "train/outcome": math.nan})
    lines = [json.loads((tmp_path / f"exp_00{n}" / "metrics.jsonl").read_text("utf-8")) for n in (1, 2)]
    assert lines == [{"step": 1, "train/reward": 0.5}, {"step": 2, "train/reward": 0.5}]


def test_logs_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file", encoding="utf-8")
    with pytest.raises(LtrlError) as caught:
        Metrics(tmp_path / "logs")
    assert caught.value.diagnostics[0].code == Code.UNWRITABLE


@pytest.mark.parametrize(
    ("text", "code"), [(None, Code.UNREADABLE), ("{}", Code.NOT_A_BUNDLE), ("no", Code.NOT_A_BUNDLE)]
)
def test_a_configuration_of_something_else_is_refused(tmp_path: Path, text: str | None, code: Code) -> None:
    path = tmp_path / "local_engine.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(LtrlError) as caught:
        read_settings(path)
    assert caught.value.diagnostics[0].code == code


SPEC = """\
kind: experiment
name: tiny
model:
  base: tiny-qwen3
  context: {prompt: 128, response: 16}
data:
  train: {backend: entity-chain, samples: 64}
reward: {backend: rubric, judge: {backend: exact, answer_pattern: "answer (.+)$"}}
algorithm: {steps: 2, prompts_per_step: 8}
optimizer: {lr: 7e-4}
engine: {name: local}
"""


def refusals(directory: Path, *sets: str) -> list[str]:
    (directory / "spec.yaml").write_text(SPEC, encoding="utf-8")
    with pytest.raises(LtrlError) as caught:
        compiling.prepare(directory / "spec.yaml", sets=sets)
    assert {d.code for d in caught.value.diagnostics} == {Code.ENGINE_LIMIT}
    return [d.message for d in caught.value.diagnostics]


def test_a_plan_becomes_the_drivers_configuration(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC, encoding="utf-8")
    plan = compiling.prepare(tmp_path / "spec.yaml", sets=["algorithm.truncated=mask", "engine.threads=1"])
    (artifact,) = create(plan.resolved.engine).artifacts(plan)
    assert plan.launch.command == ("python", "-m", "ltrl_backends.local_engine", "bundle/local_engine.json")
    (tmp_path / "config.json").write_text(artifact.text, encoding="utf-8")
    settings = read_settings(tmp_path / "config.json")
    assert artifact.path == "local_engine.json"
    assert settings.fingerprint == plan.resolved.fingerprint
    assert (settings.max_prompt_tokens, settings.max_response_tokens, settings.max_total_tokens) == (128, 16, 144)
    assert (settings.grpo.steps, settings.grpo.mask_truncated, settings.threads) == (2, True, 1)
    assert settings.reward == plan.resolved.spec.reward


def test_everything_the_engine_cannot_do_is_refused_at_once(tmp_path: Path) -> None:
    sets = [
        "algorithm.batch_size=8",
        "algorithm.objective=reinforce",
        "algorithm.kl={coefficient: 0.1, estimator: k1}",
        "algorithm.advantage={leave_one_out: true, clip_low: -1.0}",
        "algorithm.dynamic_sampling={}",
        "algorithm.asynchronous={}",
        "optimizer.min_lr=1e-5",
        "rollout.stop_token_ids=[1]",
        "parallelism={tensor: 2}",
        "data.train={backend: longtrace, path: data.jsonl}",
    ]
    assert sorted(refusals(tmp_path, *sets)) == [
        "`algorithm.advantage.clip_low`: not available in the embedded engine",
        "`algorithm.advantage.leave_one_out`: not available in the embedded engine",
        "`algorithm.asynchronous`: the embedded engine trains in one process on one machine",
        "`algorithm.batch_size`: 8, but a step of the embedded engine is one update of all 64 responses",
        "`algorithm.dynamic_sampling`: not available in the embedded engine",
        "`algorithm.kl`: only the `k3` estimator in the loss is available in the embedded engine",
        "`algorithm.objective`: `reinforce` is not available in the embedded engine",
        "`data.train`: `longtrace` has no demonstrations to teach `tiny-qwen3`, which the engine makes itself",
        "`optimizer.min_lr`: needs `schedule: cosine` in the embedded engine, not `constant`",
        "`parallelism.tensor`: 2, but the embedded engine trains in one process on one machine",
        "`rollout.stop_token_ids`: the embedded engine ends a response at the tokenizer's own end token",
    ]


def test_what_has_no_effect_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC, encoding="utf-8")
    sets = ["algorithm.importance_correction={kind: tis, high: 2.0}"]
    (warning,) = compiling.prepare(tmp_path / "spec.yaml", sets=sets).warnings
    assert warning.severity == "warning"
    assert warning.message == (
        "`algorithm.importance_correction`: the embedded engine samples with the very model it trains, "
        "so that there is nothing to correct"
    )


def test_one_gpu_is_what_the_profile_must_ask_for(tmp_path: Path) -> None:
    for gpus in (0, 8):
        assert refusals(tmp_path, "engine.device=cuda", f"cluster.gpus_per_node={gpus}") == [
            f"`engine.device`: `cuda` is one GPU, the cluster profile `local` asks for {gpus} on a node"
        ]
    spec = tmp_path / "spec.yaml"
    spec.write_text(SPEC, encoding="utf-8")
    planned = compiling.prepare(
        spec, sets=["engine.device=cuda", "engine.precision=bfloat16", "cluster.gpus_per_node=1"]
    )
    assert planned.memory is None  # the planner knows Megatron and vLLM, which are not here
    [file] = create(planned.resolved.engine).artifacts(planned)
    made = json.loads(file.text)
    assert (made["device"], made["precision"]) == ("cuda", "bfloat16")


class Gpus:
    """What the driver asks of PyTorch: a machine with GPUs, of the old kind."""

    def __init__(self, *, has_bfloat16: bool) -> None:
        self.cuda = self
        self.is_available = lambda: True
        self.is_bf16_supported = lambda: has_bfloat16
        self.get_device_name = "GPU {}".format


def test_the_gpu_must_know_what_the_spec_computes_with(tmp_path: Path) -> None:
    sets = ["engine.device=cuda", "cluster.gpus_per_node=1"]
    (tmp_path / "spec.yaml").write_text(SPEC, encoding="utf-8")
    wants = {
        precision: settings(
            compiling.prepare(tmp_path / "spec.yaml", sets=[*sets, f"engine.precision={precision}"]).resolved
        )
        for precision in ("float32", "bfloat16")
    }
    _require_gpu(wants["bfloat16"], Gpus(has_bfloat16=True))
    _require_gpu(wants["float32"], Gpus(has_bfloat16=False))
    with pytest.raises(LtrlError, match="but `GPU 0` has none"):
        _require_gpu(wants["bfloat16"], Gpus(has_bfloat16=False))
