"""Each condition of NeMo-RL that a spec can break, with one spec that breaks it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from ltrl.compile import prepare
from ltrl.errors import Code, Diagnostic, LtrlError
from ltrl_backends.nemo_rl.checks import CHECKS, ELSEWHERE, checks_markdown

ROOT = Path(__file__).resolve().parent.parent
MOE = ROOT / "specs" / "qwen30b_moe.yaml"
DENSE = ROOT / "specs" / "qwen4b.yaml"

ASYNC = (
    "algorithm.asynchronous={max_age_steps: 1}",
    "rollout.async_engine=true",
    "rollout.nodes=2",
    "parallelism.pipeline=1",
    "parallelism.expert=8",
)
"""Asynchronous training that passes."""


def over(**keys: object) -> str:
    """An `engine` with overrides; `__` stands for a dot."""
    written = ", ".join(f"{key.replace('__', '.')}: {value}" for key, value in keys.items())
    return f"engine={{name: nemo-rl, overrides: {{{written}}}}}"


def megatron(**keys: object) -> str:
    return over(**{f"policy__megatron_cfg__{key}": value for key, value in keys.items()})


DYNAMIC = "{{enabled: true, train_mb_tokens: {}, logprob_mb_tokens: 163840, sequence_length_round: 64}}"
SCALING = "{enabled: true, source_min: 1.0, source_max: 0.0, target_min: 0.0, target_max: 1.0}"
LORA = (
    "{enabled: true, target_modules: [], exclude_modules: [], dim: 0, alpha: 32, dropout: 0.0, dropout_position: post, "
    "lora_A_init_method: xavier, lora_B_init_method: zero, a2a_experimental: false, lora_dtype: null}"
)
DATA_PLANE = (
    "{enabled: true, impl: transfer_queue, backend: simple, storage_capacity: 1000000, num_storage_units: 2, "
    "claim_meta_poll_interval_s: 0.5, global_segment_size: 1, local_buffer_size: 1}"
)

BROKEN: dict[str, tuple[Path, tuple[str, ...]]] = {
    "B2": (MOE, (over(data__use_multiple_dataloader="true", data__num_prompts_per_dataloader=5),)),
    "B4": (DENSE, ("parallelism={tensor: 4, pipeline: 2}", "algorithm.batch_size=2")),
    "B5": (DENSE, ("parallelism={tensor: 2}", "algorithm.prompts_per_step=3", "algorithm.group_size=5")),
    "B6": (
        DENSE,
        (
            over(
                policy__sequence_packing__enabled="false",
                policy__train_micro_batch_size=3,
                policy__logprob_batch_size=3,
            ),
            "parallelism={tensor: 4}",
        ),
    ),
    "B10": (MOE, (over(grpo__max_val_samples=100),)),
    "B11": (MOE, (over(grpo__val_batch_size="null"),)),
    "B14": (MOE, ("algorithm.on_policy=true", "algorithm.batch_size=64")),
    "P1": (MOE, (megatron(enabled="false"),)),
    "P2": (MOE, (over(policy__draft__enabled="true"),)),
    "P3": (MOE, ("cluster.container=null",)),
    "P4": (MOE, ("parallelism.context=3",)),
    "P5": (MOE, (over(policy__train_micro_batch_size=2),)),
    "P6": (
        MOE,
        (over(policy__dynamic_batching=DYNAMIC.format(163840)),),
    ),
    "P7": (MOE, (over(policy__sequence_packing__enabled="false"),)),
    "P8": (MOE, ("parallelism.expert=32",)),
    "P9": (DENSE, ("parallelism.expert=2",)),
    "P10": (MOE, (megatron(sequence_parallel="false"),)),
    "P11": (MOE, ("parallelism={tensor: 8, pipeline: 1, context: 4, expert: 32}",)),
    "P12": (
        MOE,
        (over(policy__router_replay__enabled="true", policy__megatron_cfg__virtual_pipeline_model_parallel_size=2),),
    ),
    "P13": (DENSE, (over(policy__router_replay__enabled="true"),)),
    "P14": (MOE, (megatron(optimizer__optimizer_cpu_offload="true", optimizer__optimizer_offload_fraction=0.5),)),
    "P15": (MOE, (megatron(defer_fp32_logits="false"),)),
    "P16": (MOE, (megatron(attention_backend="flashiest"),)),
    "P17": (MOE, (megatron(recompute_modules="[attention]"),)),
    "P18": (MOE, (over(policy__precision="float16"),)),
    "P19": (MOE, (megatron(pipeline_dtype="bf16"),)),
    "P20": (MOE, ("optimizer.warmup_steps=300",)),
    "P29": (MOE, ("optimizer={lr: 1.0e-6, schedule: cosine, min_lr: 1.0e-5}",)),
    "P30": (MOE, ("optimizer.min_lr=1.0e-7",)),
    "P21": (MOE, (over(policy__reward_model_cfg="{enabled: true, reward_model_type: bradley_terry}"),)),
    "P22": (MOE, (over(checkpointing__pretrained_checkpoint__path="/shared/iter_0000000"),)),
    "P24": (DENSE, ("model.overrides={rope_scaling: {rope_type: yarn, factor: 2.0, truncate: true}}",)),
    "P31": (MOE, (megatron(fp8_cfg__enabled="true"),)),
    "P26": (
        MOE,
        (megatron(peft=LORA),),
    ),
    "N2372": (MOE, (megatron(optimizer__optimizer_cpu_offload="true", optimizer__optimizer_offload_fraction=1.0),)),
    "N3182": (MOE, (over(policy__sequence_packing__fuse_loss="true"),)),
    "N3419": (MOE, (megatron(moe_router_load_balancing_type="aux_loss"),)),
    "L1": (MOE, (over(policy__make_sequence_length_divisible_by=4),)),
    "L3": (MOE, (over(policy__sequence_packing__train_mb_tokens=131072),)),
    "L4": (MOE, (over(policy__sequence_packing__algorithm="modified_ffd"),)),
    "L7": (
        DENSE,
        (
            over(
                policy__sequence_packing__enabled="false",
                policy__dynamic_batching=DYNAMIC.format(65536),
            ),
            "parallelism={tensor: 4}",
        ),
    ),
    "L8": (MOE, (over(policy__generation__vllm_cfg__max_model_len=200000),)),
    "L11": (MOE, (over(policy__generation__vllm_cfg__max_model_len=131072),)),
    "L12": (MOE, (over(policy__generation__vllm_cfg__max_model_len=300000),)),
    "L14": (MOE, ("rollout.top_p=0.95",)),
    "L15": (MOE, ("rollout.top_k=20", "engine={name: nemo-rl, logprob_chunk_size: 2049}")),
    "I3": (MOE, ("algorithm.importance_correction={kind: tis}",)),
    "I4": (MOE, ("algorithm.importance_correction={kind: tis, low: 3.0, high: 2.0}",)),
    "I5": (MOE, ("algorithm.importance_correction={kind: icepop, high: 2.0}",)),
    "I6": (
        MOE,
        (
            "algorithm.importance_correction={kind: seq-mask-tis, low: 0.999, high: 1.002}",
            "algorithm.ratio=sequence",
            "algorithm.loss_aggregation=sequence",
        ),
    ),
    "I7": (MOE, ("algorithm.importance_correction={kind: full, high: 2.0}",)),
    "I8": (MOE, ("algorithm.ratio=sequence",)),
    "I9": (MOE, ("algorithm.objective=cispo", "algorithm.clip.dual=3.0")),
    "I12": (MOE, (over(policy__generation__vllm_cfg__precision="fp8"), "algorithm.importance_correction={kind: none}")),
    "I13": (
        MOE,
        (over(policy__generation__vllm_cfg__kv_cache_dtype="fp8", policy__generation__vllm_cfg__precision="fp8"),),
    ),
    "R3": (MOE, (over(grpo__reward_shaping__enabled="true", grpo__reward_shaping__stop_properly_penalty_coef=1.5),)),
    "R4": (
        MOE,
        (over(grpo__reward_scaling=SCALING),),
    ),
    "R5": (MOE, (over(grpo__invalid_tool_call_advantage=-5.0),)),
    "R6": (MOE, ("checkpoint.metric=accuracy",)),
    "R7": (MOE, ("checkpoint.metric=val:acuracy",)),
    "R8": (MOE, ("checkpoint={metric: 'val:accuracy', keep: 3, every_steps: 15}",)),
    "R9": (MOE, ("cluster.minutes=30",)),
    "V1": (MOE, ("rollout.parallelism.tensor=5",)),
    "V2": (MOE, ("rollout.parallelism={tensor: 4, pipeline: 2}",)),
    "V3": (MOE, ("rollout.parallelism={tensor: 8, expert: 12}",)),
    "V6": (MOE, ("rollout.parallelism={tensor: 16}",)),
    "V7": (DENSE, ("rollout.parallelism={tensor: 3}",)),
    "V8": (MOE, (over(policy__generation__vllm_kwargs__max_model_len=163840),)),
    "V9": (MOE, (over(policy__generation__vllm_kwargs="{hf_overrides: {}}"),)),
    "V11": (MOE, ("rollout.async_engine=true", over(policy__generation__vllm_cfg__vllm_metrics_logger_interval=0.0))),
    "A1": (MOE, (*ASYNC, "rollout.async_engine=false")),
    "A2": (MOE, (*ASYNC, "algorithm.importance_correction={kind: none}")),
    "A3": (MOE, ("algorithm.asynchronous={max_age_steps: 1}", "rollout.async_engine=true")),
    "A4": (MOE, (*ASYNC, "algorithm.dynamic_sampling={max_batches: 3}")),
    "A5": (
        MOE,
        (over(data_plane=DATA_PLANE),),
    ),
    "A6": (MOE, (over(env__should_use_nemo_gym="true"),)),
    "A10": (MOE, (*ASYNC, "engine={name: nemo-rl, version: 0.6.0}")),
    "C0": (MOE, ("cluster.gpus_per_node=0",)),
    "C6": (MOE, (over(cluster__segment_size=3),)),
    "C7": (MOE, (over(cluster__master_port_range_low=30000),)),
    "K1": (MOE, (megatron(moe_router_dtpye="fp32"),)),
    "K2": (MOE, ("engine={name: nemo-rl, version: 0.6.0}", "algorithm.objective=cispo")),
    "K3": (MOE, (over(grpo__num_prompts_per_step=32),)),
    "K4": (MOE, (over(policy__generation__vllm_cfg__load_format="auto"),)),
    "K5": (MOE, (megatron(empty_unused_memory_level="much"),)),
    "K6": (MOE, (over(policy__megatron_cfg__peft__enabled="true"),)),
    "M1": (ROOT / "specs" / "deepseek8b.yaml", ("model.overrides={max_position_embeddings: 163840}",)),
    "M2": (MOE, ("model.revision=main",)),
    "M3": (
        MOE,
        ("model.base=tiny-qwen3", "model.context={prompt: 128, response: 64}", "parallelism={tensor: 4, context: 4}"),
    ),
}
"""One spec for each check: a shipped one with changes, as `--set` makes them."""


def found_in(spec: Path, sets: Sequence[str]) -> tuple[Diagnostic, ...]:
    """Everything that is said about a spec: its mistakes, or the warnings of its plan."""
    try:
        return prepare(spec, sets=sets).warnings
    except LtrlError as error:
        return error.diagnostics


def named(found: Sequence[Diagnostic]) -> dict[str, Diagnostic]:
    """Diagnostics by the check that found them."""
    pairs = ((re.search(r"\(nemo-rl:(\w+), ", d.hint or ""), d) for d in found)
    return {match[1]: d for match, d in pairs if match}


def test_each_check_has_a_spec_that_breaks_it() -> None:
    assert {check.id for check in CHECKS} == BROKEN.keys()


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.id)
def test_check_finds_its_mistake(check) -> None:
    spec, sets = BROKEN[check.id]
    found = found_in(spec, sets)
    assert check.id in named(found), found
    one = named(found)[check.id]
    assert (one.code, one.severity) == (check.code, check.severity)
    assert one.position is not None
    assert one.hint is not None
    assert one.hint.endswith(f" (nemo-rl:{check.id}, {check.source})")
    assert one.message[0] == one.message[0].lower() or one.message.startswith(("NeMo-RL", "vLLM"))
    assert not one.message.endswith(".")
    assert "None" not in one.message + one.hint


@pytest.mark.parametrize("name", ["qwen4b", "deepseek8b", "qwen30b_moe"])
def test_shipped_specs_break_no_condition(name: str) -> None:
    assert found_in(ROOT / "specs" / f"{name}.yaml", ()) == ()


def test_asynchronous_training_on_nodes_of_its_own_passes() -> None:
    assert found_in(MOE, ASYNC) == ()


def test_a_layout_left_to_the_planner_is_checked_for_the_rest() -> None:
    assert set(named(found_in(MOE, ("parallelism=auto", "checkpoint.metric=accuracy")))) == {"R6"}


def test_every_condition_of_the_fact_report_is_checked_or_explained() -> None:
    conditions = [
        *(f"B{n}" for n in range(1, 16)),
        *(f"P{n}" for n in range(1, 29)),
        *(f"L{n}" for n in range(1, 16)),
        *(f"I{n}" for n in range(1, 15)),
        *(f"R{n}" for n in range(1, 10)),
        *(f"V{n}" for n in range(1, 14)),
        *(f"C{n}" for n in range(1, 9)),
        *(f"A{n}" for n in range(1, 10)),
        *(f"E{n}" for n in range(1, 10)),
    ]
    checked = {check.id for check in CHECKS}
    assert [c for c in conditions if c not in checked and c not in ELSEWHERE] == []
    assert checked.isdisjoint(ELSEWHERE)


def test_arithmetic_and_the_nearest_change_are_told() -> None:
    one = named(found_in(MOE, ("parallelism.context=3",)))["P4"]
    assert one.code is Code.LAYOUT
    assert one.message == (
        "tp 4 x pp 2 x cp 3 = 24 GPUs hold one copy of the model; 32 GPUs (4 nodes x 8) are 1.33 times that, not a "
        "whole number"
    )
    assert one.hint == (
        "3 training nodes or `parallelism.context` 4 (nemo-rl:P4, nemo_rl/models/policy/lm_policy.py:197)"
    )


def test_a_misspelt_override_is_told_what_nemo_rl_would_do() -> None:
    one = named(found_in(MOE, (megatron(moe_router_dtpye="fp32"),)))["K1"]
    assert one.message == "NeMo-RL 0.7.0 has no key `policy.megatron_cfg.moe_router_dtpye`"
    assert one.hint is not None
    assert one.hint.startswith(
        "did you mean `policy.megatron_cfg.moe_router_dtype`? NeMo-RL itself would accept it silently and never read it"
    )


@pytest.mark.parametrize(
    ("check", "spec", "sets", "message", "hint"),
    [
        (
            "B10",
            MOE,
            (over(grpo__val_batch_size=0),),
            "`grpo.val_batch_size` is 0, and validation divides by it",
            "leave it out: ltrl measures whole sets",
        ),
        (
            "P11",
            MOE,
            (megatron(num_layers_in_first_pipeline_stage=100),),
            (
                "the 48 layers of `Qwen/Qwen3-30B-A3B-Thinking-2507`, 100 of them in stages of their own, do not "
                "divide over `parallelism.pipeline` 2"
            ),
            "leave `policy.megatron_cfg.num_layers_in_first_pipeline_stage` out",
        ),
        (
            "P11",
            MOE,
            (megatron(num_layers_in_last_pipeline_stage=10), "parallelism.pipeline=1"),
            (
                "the 48 layers of `Qwen/Qwen3-30B-A3B-Thinking-2507`, 10 of them in stages of their own, do not divide "
                "over `parallelism.pipeline` 1"
            ),
            "leave `policy.megatron_cfg.num_layers_in_last_pipeline_stage` out",
        ),
        (
            "P29",
            MOE,
            (megatron(scheduler__lr_warmup_init=1.0),),
            "`policy.megatron_cfg.scheduler.lr_warmup_init` 1 is above `optimizer.lr` 2e-06",
            "leave `policy.megatron_cfg.scheduler.lr_warmup_init` out",
        ),
        (
            "V3",
            DENSE,
            ("rollout.parallelism.expert=8",),
            "`Qwen/Qwen3-4B-Thinking-2507` has no experts, `rollout.parallelism.expert` 8 has nothing to spread",
            "leave `rollout.parallelism.expert` out",
        ),
        (
            "V3",
            MOE,
            ("rollout.parallelism.expert=24",),
            "the experts are spread over expert 24 x pipeline 1 = 24 GPUs, 32 GPUs are no multiple",
            "`expert: 32`",
        ),
        (
            "R8",
            MOE,
            ("checkpoint={metric: 'val:accuracy', keep: 3}", "validation.every_steps=0"),
            (
                "`validation.every_steps` is 0, so that no checkpoint before the last has a value of `val:accuracy` "
                "and `checkpoint.keep` 3 keeps the newest"
            ),
            "`validation.every_steps: 20`, or leave `checkpoint.metric` out",
        ),
    ],
)
def test_other_ways_to_break_a_condition(check: str, spec: Path, sets: Sequence[str], message: str, hint: str) -> None:
    one = named(found_in(spec, sets))[check]
    source = next(c.source for c in CHECKS if c.id == check)
    assert (one.message, one.hint) == (message, f"{hint} (nemo-rl:{check}, {source})")


@pytest.mark.parametrize(
    ("check", "sets"),
    [
        ("V3", ("rollout.parallelism={tensor: 4, expert: 16}",)),
        ("P11", (megatron(num_layers_in_first_pipeline_stage=20),)),
        ("R8", ("checkpoint={metric: 'val:accuracy', keep: 3, every_steps: 500}", "validation.every_steps=0")),
        ("R8", ("checkpoint={metric: 'val:accuracy', keep: 5, every_steps: 40}", "validation.every_steps=0")),
        ("P30", ("optimizer={lr: 1.0e-6, schedule: cosine, min_lr: 1.0e-7}",)),
    ],
)
def test_what_looks_like_a_mistake_and_is_none(check: str, sets: Sequence[str]) -> None:
    assert check not in named(found_in(MOE, sets))


@pytest.mark.parametrize(
    "override",
    [
        megatron(num_layers_in_first_pipeline_stage="abc"), megatron(fp8_cfg=True),
        megatron(scheduler={"lr_warmup_init": "abc"}), "engine.overrides={grpo: {val_batch_size: abc}}",
    ],
)  # fmt: skip
def test_a_value_of_the_wrong_type_is_told_as_that_whatever_the_other_checks_do_with_it(override: str) -> None:
    assert {"K5", "K6"} & named(found_in(DENSE, (override,))).keys()


def test_absurd_sizes_are_refused_in_no_time() -> None:
    found = named(found_in(DENSE, ("parallelism={tensor: 1000000000}",)))
    assert {"P4", "P11"} <= found.keys()


def test_a_key_of_another_version_names_both() -> None:
    old = "engine={name: nemo-rl, version: 0.6.0, overrides: {policy.router_replay.enabled: true}}"
    one = named(found_in(MOE, (old,)))["K2"]
    assert one.message == "`policy.router_replay.enabled` is a key of NeMo-RL 0.7.0, not of 0.6.0"
    field = named(found_in(*BROKEN["K2"]))["K2"]
    assert field.message == (
        "`algorithm.objective` cispo is `loss_fn.use_cispo` true, which NeMo-RL 0.6.0 does not have; 0.7.0 has it"
    )


def test_the_page_lists_every_check() -> None:
    page = checks_markdown()
    assert all(f"\n| {check.id} | " in page for check in CHECKS)
    assert all(f"\n| {name} | " in page for name in ELSEWHERE)


def test_a_plain_value_in_the_place_of_a_section_is_refused(tmp_path: Path) -> None:
    for key, value in (("policy.megatron_cfg", "null"), ("policy", "3"), ("grpo.async_grpo", "true")):
        with pytest.raises(LtrlError) as caught:
            prepare(ROOT / "specs" / "qwen4b.yaml", sets=[f"engine.overrides={{{key}: {value}}}"])
        assert [d.message for d in caught.value.diagnostics if d.severity == "error"] == [
            f"`{key}` is {value}, NeMo-RL has a section there"
        ]


def test_asynchronous_training_is_refused_in_0_6_0_and_not_in_0_7_0() -> None:
    old, new = (found_in(MOE, (*ASYNC, f"engine={{name: nemo-rl, version: {v}}}")) for v in ("0.6.0", "0.7.0"))
    one = named(old)["A10"]
    assert one.severity == "error"
    assert one.message == (
        "`algorithm.asynchronous` with `engine.version` 0.6.0: its asynchronous trainer takes rewards and loss mask as "
        "the environment left them, before a group's responses are compared"
    )
    assert "A10" not in named(new)
