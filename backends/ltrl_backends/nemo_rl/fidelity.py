"""How far a run on NeMo-RL is the run that LongTraceRL made with slime: flag by flag, nothing hidden.

The flags are those of the reference's training scripts (THU-KEG/LongTraceRL, scripts/train, commit f1dd5ab3); the keys
those of NeMo-RL 0.7.0. A test compiles specs/qwen30b_moe.yaml and compares every exact row with its value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["ROWS", "Row", "fidelity_markdown"]

Grade = Literal["exact", "closest", "not expressible"]


@dataclass(frozen=True, slots=True)
class Row:
    """One setting of the reference, and what becomes of it."""

    flag: str
    """As the reference's script has it."""
    field: str
    """Field of the spec; empty where none decides."""
    key: str
    """NeMo-RL key; empty where there is none."""
    value: Any = None
    """Value of the key in the compiled specs/qwen30b_moe.yaml."""
    grade: Grade = "exact"
    note: str = ""
    """Why it is not exact, and what happens instead."""


MEGATRON = "policy.megatron_cfg"
VLLM = "policy.generation.vllm_cfg"
CORRECTION = "algorithm.importance_correction"

ROWS: tuple[Row, ...] = (
    Row("--rollout-batch-size 16", "algorithm.prompts_per_step", "grpo.num_prompts_per_step", 16),
    Row("--n-samples-per-prompt 8", "algorithm.group_size", "grpo.num_generations_per_prompt", 8),
    Row("--global-batch-size 128", "algorithm.batch_size", "policy.train_global_batch_size", 128),
    Row("--num-rollout 200", "algorithm.steps", "grpo.max_num_steps", 200),
    Row("--rollout-shuffle", "data.shuffle", "data.shuffle", True),
    Row("--rollout-temperature 1.0", "rollout.temperature", "policy.generation.temperature", 1.0),
    Row(
        "--rollout-stop-token-ids 151643 151645",
        "rollout.stop_token_ids",
        "policy.generation.stop_token_ids",
        [151645, 151643],
    ),
    Row(
        "--rollout-max-context-len 160000",
        "model.context",
        "policy.max_total_sequence_length",
        163840,
        "closest",
        "the shipped specs take 128k + 32k = 163,840; `context: {prompt: 128000, response: 32000}` is the "
        "reference's, but "
        "for prompts between 128,000 and 159,999 tokens, which it keeps and gives a shorter response; ltrl leaves "
        "them out",
    ),
    Row(
        "--rollout-max-response-len 32000",
        "model.context.response",
        "policy.generation.max_new_tokens",
        32768,
        "closest",
        "`response: 32000` is exact",
    ),
    Row("--micro-batch-size 1", "", "policy.train_micro_batch_size", 1),
    Row(
        "--use-dynamic-batch-size --max-tokens-per-gpu 8192",
        "",
        "policy.sequence_packing.train_mb_tokens",
        163840,
        "closest",
        "both pack sequences; slime fills 8,192 x cp 4 tokens and lets a longer sequence stand alone, NeMo-RL "
        "refuses one "
        "that is longer than the bin, which is therefore one full sequence; the loss is the same",
    ),
    Row("--advantage-estimator grpo", "algorithm.name", "grpo.adv_estimator.name", "grpo"),
    Row(
        "(mean and unbiased standard deviation of the group)",
        "algorithm.advantage",
        "grpo.adv_estimator.normalize_rewards",
        True,
    ),
    Row("--eps-clip 0.2", "algorithm.clip.low", "loss_fn.ratio_clip_min", 0.2),
    Row("--eps-clip-high 0.28", "algorithm.clip.high", "loss_fn.ratio_clip_max", 0.28),
    Row("--calculate-per-token-loss", "algorithm.loss_aggregation", "loss_fn.token_level_loss", True),
    Row(
        "--use-kl-loss --kl-loss-coef 0.00 --kl-coef 0.00",
        "algorithm.kl.coefficient",
        "loss_fn.reference_policy_kl_penalty",
        0.0,
        note="neither loads a reference model that matters; ltrl loads none",
    ),
    Row("--kl-loss-type low_var_kl", "algorithm.kl.estimator", "loss_fn.reference_policy_kl_type", "k3"),
    Row(
        "--entropy-coef 0.00",
        "",
        "",
        None,
        "not expressible",
        "NeMo-RL has no entropy bonus; at 0 there is nothing to express, entropy is measured as train/approx_entropy",
    ),
    Row(
        "--use-tis --custom-tis-function-path …icepop_function",
        f"{CORRECTION}.kind",
        "loss_fn.truncated_importance_sampling_type",
        "icepop",
    ),
    Row("--tis-clip-low 0.5", f"{CORRECTION}.low", "loss_fn.truncated_importance_sampling_ratio_min", 0.5),
    Row("--tis-clip 2.0", f"{CORRECTION}.high", "loss_fn.truncated_importance_sampling_ratio", 2.0),
    Row("--lr 2e-6", "optimizer.lr", f"{MEGATRON}.optimizer.lr", 2e-6),
    Row("--lr-decay-style constant", "optimizer.schedule", f"{MEGATRON}.scheduler.lr_decay_style", "constant"),
    Row("--lr-warmup-iters 0", "optimizer.warmup_steps", f"{MEGATRON}.scheduler.lr_warmup_iters", 0),
    Row("--weight-decay 0.1", "optimizer.weight_decay", f"{MEGATRON}.optimizer.weight_decay", 0.1),
    Row("--adam-beta1 0.9", "optimizer.betas", f"{MEGATRON}.optimizer.adam_beta1", 0.9),
    Row("--adam-beta2 0.98", "optimizer.betas", f"{MEGATRON}.optimizer.adam_beta2", 0.98),
    Row("(Megatron's --clip-grad 1.0)", "optimizer.max_grad_norm", f"{MEGATRON}.optimizer.clip_grad", 1.0),
    Row("--tensor-model-parallel-size 4", "parallelism.tensor", f"{MEGATRON}.tensor_model_parallel_size", 4),
    Row("--pipeline-model-parallel-size 2", "parallelism.pipeline", f"{MEGATRON}.pipeline_model_parallel_size", 2),
    Row("--context-parallel-size 4", "parallelism.context", f"{MEGATRON}.context_parallel_size", 4),
    Row("--expert-model-parallel-size 16", "parallelism.expert", f"{MEGATRON}.expert_model_parallel_size", 16),
    Row("--expert-tensor-parallel-size 1", "parallelism.expert_tensor", f"{MEGATRON}.expert_tensor_parallel_size", 1),
    Row("--sequence-parallel", "parallelism.tensor", f"{MEGATRON}.sequence_parallel", True),
    Row(
        "--recompute-granularity full --recompute-method uniform --recompute-num-layers 1",
        "engine.recompute",
        f"{MEGATRON}.recompute_granularity",
        "full",
    ),
    Row(
        "(the router is trained)",
        "engine.train_router",
        f"{MEGATRON}.freeze_moe_router",
        True,
        "closest",
        "NeMo-RL freezes routers by default because a moving router makes sampling and training disagree; "
        "`engine.train_router: true` is the reference's",
    ),
    Row(
        "--moe-router-dtype fp32",
        "",
        f"{MEGATRON}.moe_router_dtype",
        "fp64",
        "closest",
        "NeMo-RL's default, one step more precise; `engine.overrides: {policy.megatron_cfg.moe_router_dtype: fp32}` "
        "is exact",
    ),
    Row("--moe-token-dispatcher-type alltoall", "", f"{MEGATRON}.moe_token_dispatcher_type", "alltoall"),
    Row("--moe-permute-fusion", "", f"{MEGATRON}.moe_permute_fusion", True),
    Row(
        "(Megatron's --accumulate-allreduce-grads-in-fp32)",
        "",
        f"{MEGATRON}.distributed_data_parallel_config.grad_reduce_in_fp32",
        False,
        "closest",
        "NeMo-RL's default keeps gradients in bfloat16, which halves their memory; `engine.overrides: "
        "{policy.megatron_cfg.distributed_data_parallel_config.grad_reduce_in_fp32: true}` is exact",
    ),
    Row(
        "--rotary-base, --position-embedding-type rope",
        "model.overrides",
        "policy.hf_config_overrides",
        {},
        note="4B and 30B: the published config. For 8B see below",
    ),
    Row(
        "8B: --rotary-base 1000000 without YaRN, and SGLang's max_position_embeddings overridden to 161000",
        "model.overrides.rope_scaling",
        "policy.hf_config_overrides",
        None,
        "closest",
        "the reference trains with plain RoPE while SGLang samples with the published YaRN (factor 4), stretched "
        "past its "
        "131,072 positions: two different models. specs/deepseek8b.yaml gives both sides YaRN with factor 5 = "
        "163,840 / "
        "32,768 and attention scale 1",
    ),
    Row("--rollout-num-gpus-per-engine 8", "rollout.parallelism.tensor", f"{VLLM}.tensor_parallel_size", 8),
    Row("--sglang-mem-fraction-static 0.7", "rollout.gpu_memory", f"{VLLM}.gpu_memory_utilization", 0.7),
    Row(
        "--sglang-ep-size 8",
        "rollout.parallelism.expert",
        f"{VLLM}.expert_parallel_size",
        1,
        "closest",
        "vLLM splits each expert over the 8 GPUs instead of spreading whole experts; `rollout.parallelism.expert: 8` "
        "spreads "
        "them. Speed, not samples",
    ),
    Row(
        "(SGLang)",
        "",
        "policy.generation.backend",
        "vllm",
        "closest",
        "another engine with the same sampling; IcePop corrects what its numerics change",
    ),
    Row("--colocate --offload", "rollout.nodes", "policy.generation.colocated.enabled", True),
    Row("--actor-num-nodes 4 --actor-num-gpus-per-node 8", "nodes in the cluster profile", "cluster.num_nodes", 4),
    Row("--save-interval 20", "checkpoint.every_steps", "checkpointing.save_period", 20),
    Row(
        "--keep-optim-recent 1",
        "checkpoint.save_optimizer",
        "checkpointing.save_optimizer",
        True,
        "closest",
        "NeMo-RL keeps the optimizer's state in every checkpoint; `checkpoint.keep` bounds how many there are",
    ),
    Row("--eval-interval 20", "validation.every_steps", "grpo.val_period", 20),
    Row("(evaluation before training)", "validation.at_start", "grpo.val_at_start", True),
    Row(
        "--n-samples-per-eval-prompt 4",
        "validation.samples_per_prompt",
        "",
        None,
        "closest",
        "NeMo-RL 0.7.0 has no such key: our data set repeats each prompt 4 times, and `validation/accuracy` is their "
        "mean",
    ),
    Row(
        "--eval-temperature 0.6 --eval-top-p 0.95 --eval-top-k 20",
        "rollout.temperature",
        "policy.generation.temperature",
        1.0,
        "not expressible",
        "one set of sampling parameters serves training and validation; the figures on the way are measured at "
        "temperature 1 "
        "and only say whether training goes well. Final figures come from `ltrl eval` on exported checkpoints",
    ),
    Row("--rubric-reward-ratio 0.3", "reward.eta", "env.ltrl_train.reward.eta", 0.3),
    Row("--normalize-rubric-reward", "reward.normalisation", "env.ltrl_train.reward.normalisation", "group-max"),
    Row("--rubric-only-positive", "reward.scope", "env.ltrl_train.reward.scope", "positive-only"),
    Row("--rubric-use-content", "reward.text", "env.ltrl_train.reward.text", "answer"),
    Row(
        "(entities are found as ASCII words)",
        "reward.matcher",
        "env.ltrl_train.reward.matcher",
        "words",
        "closest",
        "ltrl's own matcher also knows other scripts and accents; `reward.matcher: reference` is LongTraceRL's, hit "
        "for hit",
    ),
    Row(
        "(judge replies are searched for `correct: yes`)",
        "reward.judge.parse",
        "env.ltrl_train.reward.judge.parse",
        "strict",
        "closest",
        "ltrl wants one plain verdict; `judge.parse: reference` is LongTraceRL's",
    ),
    Row(
        "(truncated, aborted or ill-formed responses get 0 and stay in the loss)",
        "algorithm.truncated",
        "grpo.overlong_filtering",
        False,
    ),
    Row(
        "(a judge that fails three rounds gives 0)",
        "",
        "",
        None,
        "not expressible",
        "on purpose: a response without a verdict is masked from the loss, never scored 0",
    ),
)
"""Every setting of the reference's 30B script, and where the others differ."""


def fidelity_markdown() -> str:
    """The page `docs/fidelity.md`."""
    counts = {grade: sum(row.grade == grade for row in ROWS) for grade in ("exact", "closest", "not expressible")}
    lines = [
        "# LongTraceRL on NeMo-RL: what is the same and what is not",
        "",
        "Generated from the engine's own table by `make docs`; do not edit. The reference ran on slime (Megatron and",
        "SGLang); the first column has the flags of its training scripts, in brackets what they leave to a default. A",
        "test compiles `specs/qwen30b_moe.yaml` and compares the values.",
        "",
        "{exact} settings are exact, {closest} as close as it gets or as we chose, {not expressible} cannot be "
        "expressed.".format_map(counts),
        "",
        "| reference | field of the spec | NeMo-RL 0.7.0 key | | |",
        "|---|---|---|---|---|",
    ]
    for row in ROWS:
        lines.append(f"| {_code(row.flag)} | {_code(row.field)} | {_code(row.key)} | {row.grade} | {row.note} |")
    return "\n".join(lines) + "\n"


def _code(text: str) -> str:
    text = text.replace("|", "\\|")
    return text if not text or text.startswith("(") or " in the " in text else f"`{text}`"
