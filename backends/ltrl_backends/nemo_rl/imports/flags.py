"""What each flag of slime and Megatron is here. What `fidelity` says of a flag is taken from there."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ltrl.backend import Fidelity
from ltrl_backends.nemo_rl.config import OVERRIDES
from ltrl_backends.nemo_rl.fidelity import MEGATRON, ROWS

__all__ = ["FLAGS", "IGNORED", "MODEL_FLAGS", "Flag", "number"]


@dataclass(frozen=True, slots=True)
class Flag:
    """How one flag is read when it stands for a field of its own."""

    field: str = ""
    key: str = ""
    grade: Fidelity = "exact"
    note: str = ""
    takes: Callable[[str], Any] | None = None
    """The field's value from the flag's word; none for a flag that sets no field."""
    only: str | None = None
    """The one value that has a counterpart here."""


def number(text: str) -> Any:
    """A number as YAML has it, or the text."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def _override(key: str, grade: Fidelity = "exact", note: str = "", takes: Callable[[str], Any] = number) -> Flag:
    return Flag(f"{OVERRIDES}.{key}", key, grade, note, takes)


def _text(text: str) -> str:
    return text


def _limit(text: str) -> Any:
    """-1 is no limit."""
    return None if text == "-1" else number(text)


def _kl(text: str) -> str:
    return "k3" if text == "low_var_kl" else text


RUN_DIRECTORY = "a run directory of its own holds checkpoints; a run that is submitted again resumes from its newest"
ENGINE = "a detail of SGLang; vLLM samples here"
MEMORY = "a detail of memory or speed in slime; NeMo-RL decides it itself"

_TAKES: dict[str, Callable[[str], Any]] = {
    "--rollout-batch-size": number,
    "--n-samples-per-prompt": number,
    "--num-rollout": number,
    "--rollout-temperature": number,
    "--rollout-max-response-len": number,
    "--eps-clip": number,
    "--eps-clip-high": number,
    "--kl-loss-type": _kl,
    "--lr": number,
    "--lr-decay-style": _text,
    "--lr-warmup-iters": number,
    "--weight-decay": number,
    "--tensor-model-parallel-size": number,
    "--pipeline-model-parallel-size": number,
    "--context-parallel-size": number,
    "--expert-model-parallel-size": number,
    "--expert-tensor-parallel-size": number,
    "--rollout-num-gpus-per-engine": number,
    "--sglang-mem-fraction-static": number,
    "--save-interval": number,
    "--eval-interval": number,
    "--n-samples-per-eval-prompt": number,
    "--rubric-reward-ratio": number,
    "--tis-clip": number,
    "--tis-clip-low": number,
}
"""How the flags of `fidelity` that set a field are read; the others are read in `script`, or set none."""


def _of_fidelity() -> dict[str, Flag]:
    found = {}
    for row in ROWS:
        for name in re.findall(r"--[a-z0-9-]+", "" if row.flag.startswith("(") else row.flag):
            found[name] = Flag(row.field, row.key, row.grade, row.note, _TAKES.get(name))
    # The row speaks of the length that the shipped specs choose; an import takes the script's own.
    return found | {"--rollout-max-response-len": replace(found["--rollout-max-response-len"], grade="exact", note="")}


FLAGS: dict[str, Flag] = {
    **_of_fidelity(),
    "--seed": Flag("algorithm.seed", "grpo.seed", takes=number),
    "--rollout-seed": Flag("algorithm.seed", "grpo.seed", "closest", "one seed for everything random", takes=number),
    "--eps-clip-c": Flag("algorithm.clip.dual", "loss_fn.ratio_clip_c", takes=number),
    "--rollout-top-p": Flag("rollout.top_p", "policy.generation.top_p", takes=number),
    "--rollout-top-k": Flag("rollout.top_k", "policy.generation.top_k", takes=_limit),
    "--clip-grad": Flag("optimizer.max_grad_norm", f"{MEGATRON}.optimizer.clip_grad", takes=number),
    "--min-lr": Flag("optimizer.min_lr", f"{MEGATRON}.optimizer.min_lr", takes=number),
    "--adam-eps": Flag("optimizer.eps", f"{MEGATRON}.optimizer.adam_eps", takes=number),
    "--log-probs-chunk-size": Flag(
        "engine.logprob_chunk_size", "policy.logprob_chunk_size", takes=_limit
    ),
    "--accumulate-allreduce-grads-in-fp32": _override(
        f"{MEGATRON}.distributed_data_parallel_config.grad_reduce_in_fp32", takes=lambda _: True
    ),
    "--moe-router-dtype": _override(f"{MEGATRON}.moe_router_dtype"),
    "--attention-backend": _override(f"{MEGATRON}.attention_backend"),
    "--decoder-last-pipeline-num-layers": _override(f"{MEGATRON}.num_layers_in_last_pipeline_stage"),
    "--decoder-first-pipeline-num-layers": _override(f"{MEGATRON}.num_layers_in_first_pipeline_stage"),
    "--no-save-optim": Flag(
        "checkpoint.save_optimizer", "checkpointing.save_optimizer", takes=lambda _: False
    ),
    "--skip-eval-before-train": Flag("validation.at_start", "grpo.val_at_start", takes=lambda _: False),
    "--disable-grpo-std-normalization": Flag(
        "algorithm.advantage.divide_by_std", "grpo.adv_estimator.normalize_rewards", takes=lambda _: False
    ),
    "--use-tensorboard": Flag("logging.tensorboard", "logger.tensorboard_enabled", takes=lambda _: True),
    "--optimizer": Flag("optimizer.name", f"{MEGATRON}.optimizer.optimizer", only="adam"),
    "--micro-batch-size": Flag(
        "", "policy.train_micro_batch_size", only="1", note="packing fills a microbatch with tokens, not with samples"
    ),
    "--recompute-granularity": Flag("engine.recompute", f"{MEGATRON}.recompute_granularity", takes=_text),
    "--recompute-method": Flag("engine.recompute", f"{MEGATRON}.recompute_granularity", only="uniform"),
    "--recompute-num-layers": Flag("engine.recompute", f"{MEGATRON}.recompute_granularity", only="1"),
    "--moe-token-dispatcher-type": Flag("", f"{MEGATRON}.moe_token_dispatcher_type", only="alltoall"),
    "--moe-router-load-balancing-type": Flag("", f"{MEGATRON}.moe_router_load_balancing_type", only="none"),
    "--moe-aux-loss-coeff": Flag("", f"{MEGATRON}.moe_router_load_balancing_type", only="0"),
    "--attention-dropout": Flag(only="0.0", note="no dropout: the model's own configuration has none"),
    "--hidden-dropout": Flag(only="0.0", note="no dropout: the model's own configuration has none"),
    "--attention-softmax-in-fp32": Flag("", "", "closest", "Transformer Engine's fused attention does so"),
    "--moe-grouped-gemm": Flag("", "", "closest", MEMORY),
    "--balance-data": Flag("", "", "closest", "packing balances replicas"),
    "--load": Flag("", "checkpointing.checkpoint_dir", "closest", RUN_DIRECTORY),
    "--save": Flag("", "checkpointing.checkpoint_dir", "closest", RUN_DIRECTORY),
    "--ref-load": Flag("", "", "closest", "the reference model is the start model; without a penalty none is loaded"),
    "--no-load-optim": Flag("checkpoint.save_optimizer", "", "not expressible", "a resumed run keeps its Adam state"),
    "--no-load-rng": Flag("", "", "not expressible", "a resumed run goes on with its random state"),
    "--num-epoch": Flag("algorithm.steps", "grpo.max_num_epochs", "not expressible", "a spec counts steps"),
    "--apply-chat-template": Flag("", "policy.tokenizer.chat_template_kwargs", "exact", "prompts are always chats"),
    "--disable-bias-linear": Flag("", "", "exact", "the model's own configuration says so"),
    "--advantage-estimator": replace(_of_fidelity()["--advantage-estimator"], only="grpo"),
}  # fmt: skip
"""Flags that are read one by one."""

IGNORED: dict[str, str] = {
    "--input-key": "the data backend knows its own schema",
    "--label-key": "the data backend knows its own schema",
    "--metadata-key": "the data backend knows its own schema",
    "--tool-key": "a response is one turn",
    "--source-key": "one reward backend scores every sample",
    "--source-config-path": "the reward is a backend inside the run, not a server with a routing file",
    "--custom-rm-path": "the reward is a backend, see `reward`",
    "--reward-key": "the reward is a backend, see `reward`",
    "--rollout-function-path": "NeMo-RL's own rollouts sample one turn",
    "--custom-generate-function-path": "NeMo-RL's own rollouts sample one turn",
    "--message-processor": "`model.chat_format`, which the model card knows",
    "--rollout-health-check-interval": ENGINE,
    "--update-weight-buffer-size": MEMORY,
    "--overlap-cpu-optimizer-d2h-h2d": MEMORY,
    "--use-precision-aware-optimizer": "always on",
    "--use-distributed-optimizer": "always on",
    "--transformer-impl": "always Transformer Engine",
    "--bf16": "always on",
    "--use-mcore-models": "always on",
    "--ckpt-format": "NeMo-RL's own format",
    "--train-backend": "Megatron trains",
    "--megatron-to-hf-mode": "NeMo-RL converts between the formats itself",
    "--tensorboard-dir": "in the run directory",
    "--no-check-for-nan-in-loss-and-grad": "NeMo-RL has no such switch",
}
"""Flags that nothing here stands for, each with what happens instead."""

MODEL_FLAGS: dict[str, str] = {
    "--num-layers": "num_layers",
    "--hidden-size": "hidden_size",
    "--ffn-hidden-size": "ffn_size",
    "--num-attention-heads": "num_heads",
    "--num-query-groups": "num_kv_heads",
    "--kv-channels": "head_dim",
    "--vocab-size": "vocab_size",
    "--rotary-base": "rope_theta",
    "--num-experts": "num_experts",
    "--moe-router-topk": "experts_per_token",
    "--moe-ffn-hidden-size": "expert_ffn_size",
    "--qk-layernorm": "qk_norm",
    "--add-qkv-bias": "attention_bias",
    "--untie-embeddings-and-output-weights": "untied",
    "--swiglu": "", "--group-query-attention": "", "--use-rotary-position-embeddings": "", "--normalization": "",
    "--norm-epsilon": "", "--position-embedding-type": "", "--rotary-percent": "", "--moe-layer-freq": "",
    "--moe-router-score-function": "", "--moe-router-pre-softmax": "", "--moe-shared-expert-intermediate-size": "",
    "--make-vocab-size-divisible-by": "", "--max-position-embeddings": "", "--rope-scaling": "",
    "--rope-scaling-factor": "", "--use-rope-scaling": "", "--apply-layernorm-1p": "",
    "--moe-router-enable-expert-bias": "", "--no-rope-fusion": "", "--seq-length": "", "--tokenizer-type": "",
}  # fmt: skip
"""The model's shape, which its own `config.json` says here: flag and attribute of the model card to compare."""
