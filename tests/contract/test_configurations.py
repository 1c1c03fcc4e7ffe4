"""NeMo-RL takes what the compiler writes, and of what it refuses the compiler has refused all."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import nemo
import pytest
from test_nemo_rl_checks import ASYNC, BROKEN, DENSE, MOE, found_in, named

from ltrl.backend import create
from ltrl.compile import prepare
from ltrl.errors import LtrlError
from ltrl_backends.nemo_rl import config as compiled
from ltrl_backends.nemo_rl import driver

SPECS = (DENSE, MOE, MOE.with_name("deepseek8b.yaml"))
CHOICES: tuple[tuple[tuple[str, ...], ...], ...] = (
    (
        (),
        ("algorithm.objective=cispo",),
        ("algorithm.objective=reinforce",),
        ("algorithm.clip={low: 0.2, high: 0.2, dual: 3.0}",),
        ("algorithm.ratio=sequence", "algorithm.loss_aggregation=sequence", "algorithm.clip={low: 3e-4, high: 4e-4}"),
        ("algorithm.on_policy=true",),
    ),
    (
        (),
        ("algorithm.importance_correction={kind: none}",),
        ("algorithm.importance_correction={kind: full}",),
        ("algorithm.importance_correction={kind: tis, high: 2.0}",),
        ("algorithm.importance_correction={kind: icepop, low: 0.2, high: 5.0}",),
        ("algorithm.importance_correction={kind: seq-mask-tis, low: 0.999, high: 1.002}",),
    ),
    (
        (),
        ("algorithm.advantage={divide_by_std: false}",),
        ("algorithm.advantage={leave_one_out: true}",),
        ("algorithm.advantage={clip_low: -5.0, clip_high: 5.0}",),
        ("algorithm.dynamic_sampling={max_batches: 3}",),
        ("algorithm.dynamic_sampling={max_batches: 4, batch_multiplier: 1.5}",),
        ("algorithm.truncated=mask",),
    ),
    (
        (),
        ("algorithm.kl={coefficient: 0.01}",),
        ("algorithm.kl={coefficient: 1e-3, estimator: k2, in_reward: true}",),
        ("algorithm.prompts_per_step=64",),
        ("algorithm.prompts_per_step=32", "algorithm.group_size=16", "algorithm.batch_size=128"),
        ("algorithm.steps=7", "algorithm.seed=0"),
    ),
    (
        (),
        ("optimizer={lr: 1e-6, schedule: cosine, warmup_steps: 10, min_lr: 1e-7}",),
        ("optimizer={lr: 5e-7, schedule: linear, weight_decay: 0, betas: [0.9, 0.95], eps: 1e-15}",),
        ("optimizer={lr: 1e-5, max_grad_norm: 0.5}",),
    ),
    (
        (),
        ("rollout={temperature: 0.7, parallelism: {tensor: 8}}",),
        ("rollout={top_p: 0.999, parallelism: {tensor: 4}}", "engine={name: nemo-rl, logprob_chunk_size: null}"),
        ("rollout={async_engine: true, parallelism: {tensor: 8}}",),
        ("rollout={nodes: 2, parallelism: {tensor: 8}}", "parallelism={tensor: 4, context: 4}"),
        ("rollout={stop_token_ids: [1, 2], gpu_memory: 0.6, parallelism: {tensor: 8}}",),
        ASYNC,
    ),
    (
        (),
        ("parallelism={tensor: 8, context: 4}",),
        ("parallelism={tensor: 4, pipeline: 4, context: 2}",),
        ("parallelism={tensor: 2, pipeline: 2, context: 8}",),
        ("parallelism=auto",),
        ("cluster.nodes=8",),
        ("model.context={prompt: 32k, response: 8k}", "parallelism={tensor: 4, context: 2}"),
    ),
    (
        (),
        ("reward.backend=outcome",),
        ("validation={every_steps: 5, samples_per_prompt: 1, at_start: false}",),
        ("data.validation={}",),
        ("checkpoint={every_steps: 20, keep: 3, metric: 'val:accuracy'}", "validation.every_steps=20"),
        ("logging={tensorboard: false, rollouts: true}",),
        ("logging={wandb: {project: 'yes', entity: '1e3'}}",),
        ("engine={name: nemo-rl, overrides: {policy.refit_buffer_size_gb: 2}}",),
    ),
)
"""What a spec may vary in: each choice alone, and some of each drawn together."""


def variants() -> list[tuple[Path, tuple[str, ...]]]:
    """Every choice on a spec of its turn, then a hundred combinations."""
    alone = [choice for choices in CHOICES for choice in choices if choice]
    found = [(SPECS[i % len(SPECS)], choice) for i, choice in enumerate(alone)]
    drawn = random.Random(0)
    for _ in range(100):
        picked = [drawn.choice(choices) for choices in drawn.sample(CHOICES, 4)]
        found.append((drawn.choice(SPECS), tuple(s for choice in picked for s in choice)))
    return found


def file_of(spec: Path, sets: tuple[str, ...]) -> str:
    plan = prepare(spec, sets=sets)
    [artifact] = create(plan.resolved.engine).artifacts(plan)
    return artifact.text


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.stem)
def test_shipped_specs_are_taken_unchanged(spec: Path, tmp_path: Path) -> None:
    assert nemo.refusal(file_of(spec, ()), tmp_path) is None
    taken = driver.prepare(tmp_path / "nemo_rl.yaml").model_dump()
    written = compiled.config(prepare(spec))
    assert {name: taken[name] for name in written} == written
    assert {name for name in taken if taken[name] is not None} == set(written)


def test_whatever_compiles_is_taken(tmp_path: Path, tell: Callable[[str], None]) -> None:
    num_taken, num_refused, wrong = 0, 0, []
    for spec, sets in variants():
        try:
            text = file_of(spec, sets)
        except LtrlError:
            num_refused += 1  # a combination that the compiler does not let pass
            continue
        why = nemo.refusal(text, tmp_path)
        num_taken += 1
        if why:
            wrong.append((spec.stem, sets, why))
    tell(f"{num_taken} variants compiled, {len(wrong)} of them refused by NeMo-RL; {num_refused} did not compile")
    assert wrong == []
    assert num_taken >= 60


def test_every_choice_compiles_for_some_spec() -> None:
    for choice in (choice for choices in CHOICES for choice in choices):
        assert any(compiles(spec, choice) for spec in SPECS), choice


def compiles(spec: Path, sets: tuple[str, ...]) -> bool:
    try:
        file_of(spec, sets)
    except LtrlError:
        return False
    return True


REFUSED = {
    "B2": "Expected num_prompts_per_step to be a multiple of num_prompts_per_dataloader, but got 16 and 5",
    "B4": "Batch size (2) is not a multiple of shards (4)",
    "B5": "Batch size (15) is not a multiple of shards (16)",
    "B14": "force_on_policy_ratio requires train_global_batch_size == num_prompts_per_step * num_generations_per",
    "P1": "Please either set policy.megatron_cfg.enabled=true",
    "P2": "policy.draft.enabled=true does not support sequence packing yet",
    "P4": "World size (32) must be divisible by PP * CP * TP (24)",
    "P5": "There is a known batch-variant accuracy issue with TP>=4",
    "P6": "Dynamic batching is only supported for single pipeline parallel stage",
    "P22": "checkpointing.pretrained_checkpoint.format Field required",
    "L4": "Unknown packing algorithm: modified_ffd",
    "I3": "truncated_importance_sampling_ratio should be positive",
    "I4": "truncated_importance_sampling_ratio_min must be <= truncated_importance_sampling_ratio",
    "I5": "truncated_importance_sampling_ratio_min should be set when truncated_importance_sampling_type is 'icepop'",
    "I6": "seq-mask-tis uses token-level IS correction",
    "I8": "sequence-level importance sampling (e.g. GSPO) is mutually exclusive with token-level loss",
    "I9": "use_cispo is incompatible with dual clipping",
    "I12": "Importance sampling must be enabled for vLLM FP8 generation",
    "I13": "when using FP8 KV cache in generation, then in megatron we only support pipeline_model_parallel_size=1",
    "V1": "World size must be a multiple of model parallel size. Got world size 32 and model parallel size (TP * PP) 5",
    "V2": "When pipeline_parallel_size > 1, async_engine must be set to True",
    "V3": "When EP > 1, EP must be a multiple of TP",
    "V7": "World size must be a multiple of model parallel size. Got world size 32 and model parallel size (TP * PP) 3",
    "A1": "Async GRPO requires an async vLLM or Megatron generation engine",
    "A2": "Importance sampling correction must be enabled for async GRPO",
    "A3": "Colocated inference is not supported for async GRPO",
    "A6": "In order to use NeMo-Gym, you must use a generation backend with `async_engine: true`",
    "C0": "num_gpus_per_node must be greater than 0 if using GPUs",
    "K5": "policy.megatron_cfg.MegatronConfig.empty_unused_memory_level Input should be a valid integer",
    "K6": "policy.megatron_cfg.MegatronConfig.peft.MegatronPeftConfig.target_modules Field required",
}
"""Broken specs that NeMo-RL refuses before it needs a GPU, and in which words: what it says is what the check says."""

NEEDS_A_CLUSTER = {"C6"}
"""Refused for the same reason, but only where Ray can tell the nodes."""


@pytest.mark.parametrize("check", BROKEN)
def test_what_nemo_rl_refuses_the_compiler_refused(check: str, tmp_path: Path, tell: Callable[[str], None]) -> None:
    if check in NEEDS_A_CLUSTER:
        pytest.skip("asks Ray for the nodes of the cluster")
    spec, sets = BROKEN[check]
    ours = named(found_in(spec, sets))
    theirs = nemo.refusal(nemo.unchecked(spec, sets), tmp_path)
    assert check in ours
    if check not in REFUSED:  # found in a worker, at the first checkpoint, or never: docs/checks.md says where
        assert theirs is None
        return
    assert ours[check].severity == "error"
    assert theirs is not None
    assert REFUSED[check] in theirs
    tell(f"| {check} | {ours[check].message} | {theirs[:160]} |")


def test_registries_find_the_data_set_the_processor_and_the_environments() -> None:
    from nemo_rl.data.datasets.response_datasets import load_response_dataset
    from nemo_rl.data.processors import PROCESSOR_REGISTRY
    from nemo_rl.distributed.ray_actor_environment_registry import get_actor_python_env
    from nemo_rl.environments.utils import ENV_REGISTRY

    from ltrl_backends.nemo_rl.dataset import LtrlDataset
    from ltrl_backends.nemo_rl.processor import process

    section = {"backend": "entity-chain", "samples": 8, "seed": 0, "hops": 3}
    names = [compiled.TRAIN, compiled.validation_name("chains")]
    driver.register({name: {"role": "any"} for name in names})
    entry = {
        "dataset_name": compiled.DATASET,
        "processor": compiled.PROCESSOR,
        "task_name": names[0],
        "section": section,
    }
    found = load_response_dataset(entry)
    assert isinstance(found, LtrlDataset)
    assert len(found.dataset) == 8
    assert found.processor is PROCESSOR_REGISTRY[compiled.PROCESSOR] is process
    assert {ENV_REGISTRY[name]["actor_class_fqn"] for name in names} == {driver.ENVIRONMENT}
    assert Path(get_actor_python_env(driver.ENVIRONMENT)).name.startswith("python")
