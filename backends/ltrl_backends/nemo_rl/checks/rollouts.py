"""vLLM, asynchronous training and what NeMo-Gym would take over."""

from __future__ import annotations

from collections.abc import Iterator

from ltrl.errors import Code
from ltrl_backends.nemo_rl.checks.rule import Conf, Problem, nearest, rule

VGEN = "nemo_rl/models/generation/vllm/vllm_generation.py"
BLOCK = "policy.generation.vllm_cfg"
TP, PP, EP = (f"{BLOCK}.{name}_parallel_size" for name in ("tensor", "pipeline", "expert"))
TAKEN = frozenset(
    {
        *("model", "served_model_name", "load_format", "skip_tokenizer_init", "tensor_parallel_size"),
        *("pipeline_parallel_size", "enable_expert_parallel", "gpu_memory_utilization", "enable_prefix_caching"),
        *("dtype", "seed", "enforce_eager", "max_model_len", "trust_remote_code", "worker_extension_cls"),
        *("enable_sleep_mode", "disable_log_stats", "logprobs_mode"),
    }
)
"""Arguments that NeMo-RL passes to vLLM itself."""


@rule("V1", "rollout GPUs are a multiple of tensor x pipeline of one engine", f"{VGEN}:110", code=Code.LAYOUT)
def _(c: Conf) -> Iterator[Problem]:
    size, gpus = c[TP] * c[PP], c.rollout_gpus
    if gpus and gpus % size:
        choice = nearest(
            c[TP], (n for n in range(1, gpus + 1) if gpus % (n * c[PP]) == 0 and c.card.num_heads % n == 0)
        )
        yield Problem(
            c.at(TP),
            f"an engine takes tensor {c[TP]} x pipeline {c[PP]} = {size} GPUs, {gpus} GPUs are no multiple",
            f"`rollout.parallelism.tensor: {choice}`" if choice else "`rollout.parallelism.pipeline: 1`",
        )


@rule("V2", "an engine with a pipeline is asynchronous", f"{VGEN}:117")
def _(c: Conf) -> Iterator[Problem]:
    if c[PP] > 1 and not c[f"{BLOCK}.async_engine"]:
        yield Problem(c.at(PP), f"{c.said(PP)} needs `rollout.async_engine`", "`async_engine: true`, or `pipeline: 1`")


@rule(
    "V3",
    "expert parallel size: only for a model with experts, a multiple of tensor, equal to it in an asynchronous engine, "
    "and times pipeline a divisor of the rollout GPUs",
    f"{VGEN}:123, vllm_worker.py:305, vLLM ModelConfig",
)
def _(c: Conf) -> Iterator[Problem]:
    expert, tensor, gpus = c[EP], c[TP], c.rollout_gpus
    if expert > 1 and not c.card.num_experts:
        yield Problem(
            c.at(EP), f"`{c.card.name}` has no experts, {c.said(EP)} has nothing to spread", f"leave {c.word(EP)} out"
        )
    elif expert > 1 and expert % tensor:
        yield Problem(
            c.at(EP),
            f"{c.said(EP)} is no multiple of {c.said(TP)}: in vLLM the experts take whole tensor groups",
            f"`expert: {tensor}`",
        )
    elif expert > 1 and expert != tensor and c[f"{BLOCK}.async_engine"]:
        yield Problem(
            c.at(EP),
            f"{c.said(EP)} differs from {c.said(TP)}, which the asynchronous engine does not do (NeMo-RL issue 1101)",
            f"`expert: {tensor}`, or `async_engine: false`",
        )
    elif expert > tensor and gpus % (expert * c[PP]):  # of expert = tensor V1 says the same
        choices = (n for n in range(tensor, gpus + 1, tensor) if gpus % (n * c[PP]) == 0)
        yield Problem(
            c.at(EP),
            f"the experts are spread over expert {expert} x pipeline {c[PP]} = {expert * c[PP]} GPUs, {gpus} GPUs are "
            "no multiple",
            f"`expert: {nearest(expert, choices) or tensor}`",
        )


@rule("V6", "an engine fits into one node; across nodes it is slow", f"{VGEN}:165", severity="warning")
def _(c: Conf) -> Iterator[Problem]:
    size, node = c[TP] * c[PP], c.cluster.gpus_per_node
    if node and size > node:
        yield Problem(
            c.at(TP),
            f"an engine of tensor {c[TP]} x pipeline {c[PP]} = {size} GPUs spans nodes of {node}",
            f"`tensor: {node}` and `pipeline: 1`",
        )


@rule(
    "V7",
    "attention heads and expert widths divide over the engine's tensor size",
    "vLLM 0.20 model executor",
    code=Code.LAYOUT,
)
def _(c: Conf) -> Iterator[Problem]:
    parts = {"attention heads": c.card.num_heads}
    if c.card.num_experts and c[EP] == 1:
        parts["columns of an expert"] = c.card.expert_ffn_size
    for what, number in parts.items():
        if number % c[TP]:
            choice = nearest(c[TP], (n for n in range(1, number + 1) if all(p % n == 0 for p in parts.values())))
            yield Problem(
                c.at(TP),
                f"the {number} {what} of `{c.card.name}` do not divide over {c.said(TP)}",
                f"`tensor: {choice}`",
            )


@rule(
    "V8",
    "vllm_kwargs repeats no argument that NeMo-RL passes itself",
    "nemo_rl/models/generation/vllm/vllm_worker.py:434 (TypeError)",
)
def _(c: Conf) -> Iterator[Problem]:
    homes = {
        "tensor_parallel_size": "`rollout.parallelism.tensor`",
        "pipeline_parallel_size": "`rollout.parallelism.pipeline`",
        "gpu_memory_utilization": "`rollout.gpu_memory`",
        "max_model_len": "`model.context`",
        "enable_prefix_caching": f"`{BLOCK}.enable_prefix_caching`",
        "enforce_eager": f"`{BLOCK}.enforce_eager`",
    }
    for name in sorted(TAKEN.intersection(c["policy.generation.vllm_kwargs"] or ())):
        key = f"policy.generation.vllm_kwargs.{name}"
        yield Problem(
            c.at(key),
            f"NeMo-RL passes `{name}` to vLLM itself",
            f"use {homes[name]}" if name in homes else "leave it out",
        )


@rule(
    "V9",
    "vllm_kwargs has no hf_overrides and no distributed_executor_backend: they are overwritten",
    "nemo_rl/algorithms/grpo.py:1024 and vllm_worker.py:292",
)
def _(c: Conf) -> Iterator[Problem]:
    homes = {"hf_overrides": "use `model.overrides`", "distributed_executor_backend": "leave it out"}
    for name in sorted(homes.keys() & (c["policy.generation.vllm_kwargs"] or {}).keys()):
        yield Problem(
            c.at(f"policy.generation.vllm_kwargs.{name}"), f"NeMo-RL overwrites `vllm_kwargs.{name}`", homes[name]
        )


@rule("V11", "vLLM's metrics logger has an interval > 0", "nemo_rl/models/generation/vllm/vllm_worker_async.py:339")
def _(c: Conf) -> Iterator[Problem]:
    key = f"{BLOCK}.vllm_metrics_logger_interval"
    if c[f"{BLOCK}.enable_vllm_metrics_logger"] and not (c[key] or 0) > 0:
        yield Problem(c.at(key), f"`{key}` is {c[key]}", f"`{key}: 0.5`")


@rule("A1", "asynchronous training: an asynchronous engine", "nemo_rl/algorithms/grpo.py:3364")
def _(c: Conf) -> Iterator[Problem]:
    if c.spec.algorithm.asynchronous and not c[f"{BLOCK}.async_engine"]:
        yield Problem(
            c.field("algorithm.asynchronous"),
            "`algorithm.asynchronous` needs `rollout.async_engine`",
            "`async_engine: true`",
        )


@rule("A2", "asynchronous training: importance correction", "nemo_rl/algorithms/grpo.py:3371")
def _(c: Conf) -> Iterator[Problem]:
    if c.spec.algorithm.asynchronous and not c["loss_fn.use_importance_sampling_correction"]:
        yield Problem(
            c.field("algorithm.asynchronous"),
            "`algorithm.asynchronous` trains on responses of older policies, `importance_correction.kind` is `none`",
            "`importance_correction: {kind: icepop, low: 0.5, high: 2.0}`",
        )


@rule("A3", "asynchronous training: rollouts on nodes of their own", "nemo_rl/algorithms/grpo.py:3421")
def _(c: Conf) -> Iterator[Problem]:
    if c.spec.algorithm.asynchronous and c.spec.rollout.nodes is None:
        yield Problem(
            c.field("algorithm.asynchronous"),
            "`algorithm.asynchronous` needs rollouts on nodes of their own, `rollout.nodes` is not set",
            f"`rollout.nodes: {max(1, c.cluster.nodes // 2)}`",
        )


@rule(
    "A4",
    "asynchronous training: no dynamic sampling, reward scaling or shaping, several dataloaders",
    "examples/run_grpo.py:164",
)
def _(c: Conf) -> Iterator[Problem]:
    if c.spec.algorithm.asynchronous:
        for key in (
            "grpo.use_dynamic_sampling",
            "grpo.reward_scaling.enabled",
            "grpo.reward_shaping.enabled",
            "data.use_multiple_dataloader",
        ):
            if c[key]:
                yield Problem(
                    c.at(key), f"{c.word(key)} does not go with `algorithm.asynchronous`", f"leave {c.word(key)} out"
                )


@rule("A5", "no data plane: its trainer has no place for a group's rewards", "nemo_rl/algorithms/grpo_sync.py:677")
def _(c: Conf) -> Iterator[Problem]:
    if c["data_plane.enabled"]:
        yield Problem(
            c.at("data_plane.enabled"),
            "`data_plane.enabled` true: ltrl's rewards are not computed in that trainer",
            "leave it out",
        )


@rule("A6", "no NeMo-Gym: it replaces the environments that score responses", "nemo_rl/algorithms/grpo.py:1701")
def _(c: Conf) -> Iterator[Problem]:
    if c["env.should_use_nemo_gym"]:
        yield Problem(
            c.at("env.should_use_nemo_gym"),
            "`env.should_use_nemo_gym` true: the spec's reward would not be asked",
            "leave it out",
        )


@rule(
    "A10",
    "asynchronous training: a version that makes its batch where rewards of groups can be put in (0.7.0)",
    "0.6.0: nemo_rl/algorithms/grpo.py:2737, inside `async_grpo_train`",
)
def _(c: Conf) -> Iterator[Problem]:
    if c.spec.algorithm.asynchronous and c.options.version == "0.6.0":
        yield Problem(
            c.field("algorithm.asynchronous"),
            "`algorithm.asynchronous` with `engine.version` 0.6.0: its asynchronous trainer takes rewards and loss "
            "mask as the environment left them, before a group's responses are compared",
            "`engine.version: 0.7.0`, or leave `asynchronous` out",
        )
