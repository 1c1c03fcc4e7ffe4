"""A run made small enough for one process without a GPU: its model, lengths, steps and machines, and nothing else.

Pure: what is compiled from the small run is compiled as the large one is.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ltrl.catalog import ModelCard
    from ltrl.resolve import Resolved
    from ltrl_backends.nemo_rl.config import Setting
    from ltrl_backends.nemo_rl.options import Rehearsal

__all__ = ["CUTTING_PROCESSOR", "MODEL", "UNSPLIT", "is_shrunk", "model_json", "one_gpu_a_node", "resized", "small"]

MODEL = "model"
"""Directory of the small model, in the run directory."""
CUTTING_PROCESSOR = "ltrl_cut"
"""Shortens a prompt that is too long, where the job leaves it out."""
SMALL_ENOUGH = 50_000_000
"""Parameters of a model that is taken as it is."""
SIZES = {
    "first_k_dense_replace": 1,
    "head_dim": 16,
    "hidden_size": 64,
    "intermediate_size": 128,
    "kv_lora_rank": 16,
    "max_position_embeddings": 1 << 20,
    "moe_intermediate_size": 32,
    "n_group": 1,
    "n_routed_experts": 8,
    "n_shared_experts": 1,
    "num_attention_heads": 4,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 2,
    "num_key_value_heads": 4,
    "num_local_experts": 8,
    "q_lora_rank": 16,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 16,
    "shared_expert_intermediate_size": 32,
    "topk_group": 1,
    "v_head_dim": 16,
}
"""Of the small model, in the words of `config.json`; each architecture takes those that it knows."""


@dataclass(frozen=True, slots=True)
class Unsplit:
    """Parallel sizes of a model on one GPU."""

    tp: int = 1
    pp: int = 1
    cp: int = 1
    ep: int = 1
    etp: int = 1


UNSPLIT = Unsplit()


def small(resolved: Resolved, limits: Rehearsal) -> Resolved:
    """The run with few steps, short texts and a small model that is not split."""
    spec, card = resolved.spec, resolved.card
    context, validation, rollout = spec.model.context, spec.validation, spec.rollout
    steps = min(spec.algorithm.steps, limits.steps)
    # a checkpoint and a validation at half-way and at the end, as far as the spec has them as often in its own steps
    often = max(1, steps // 2) if steps < spec.algorithm.steps else steps
    prompt, response = min(context.prompt, limits.prompt), min(context.response, limits.response)
    nodes = None if rollout.nodes is None else 1
    once = {"samples_per_prompt": 1} if is_shrunk(card) else {}
    changed = spec.model_copy(
        update={
            "model": spec.model.model_copy(
                update={
                    "base": MODEL if is_shrunk(card) else spec.model.base,
                    "context": context.model_copy(update={"prompt": prompt, "response": response, "total": None}),
                }
            ),
            "algorithm": spec.algorithm.model_copy(update={"steps": steps}),
            "rollout": rollout.model_copy(update={"nodes": nodes, "parallelism": type(rollout.parallelism)()}),
            "validation": validation.model_copy(update={"every_steps": min(validation.every_steps, often), **once}),
            "checkpoint": spec.checkpoint.model_copy(update={"every_steps": min(spec.checkpoint.every_steps, often)}),
            "parallelism": None,
            "logging": spec.logging.model_copy(update={"wandb": None, "mlflow": None}),  # a rehearsal is no run to keep
        }
    )
    lengths = dataclasses.replace(resolved.lengths, prompt=prompt, response=response, total=prompt + response)
    return dataclasses.replace(resolved, spec=changed, lengths=lengths)


def one_gpu_a_node(resolved: Resolved) -> Resolved:
    """The run on the machines that NeMo-RL is told of: one for training, one for rollouts if they have their own."""
    nodes = 1 + (resolved.spec.rollout.nodes or 0)
    cluster = resolved.cluster.model_copy(update={"nodes": nodes, "gpus_per_node": 1})
    return dataclasses.replace(resolved, cluster=cluster)


def resized(settings: Sequence[Setting], card: ModelCard) -> Iterator[Setting]:
    """The settings of a small run with those keys changed that no field of a spec stands for."""
    changed: dict[str, Any] = {"policy.generation.vllm_cfg.enable_vllm_metrics_logger": False}
    by_key = {s.key: s.value for s in settings}
    if is_shrunk(card):
        train, validation = by_key["data.train"], by_key["data.validation"]
        changed["grpo.max_val_samples"] = by_key["grpo.val_batch_size"]
        changed["data.train"] = _cut(train)
        changed["data.validation"] = [_cut(s) for s in validation] if isinstance(validation, list) else _cut(validation)
    for setting in settings:
        yield dataclasses.replace(setting, value=changed.get(setting.key, setting.value))


def is_shrunk(card: ModelCard) -> bool:
    """Whether another model takes the place of this one."""
    return card.num_parameters > SMALL_ENOUGH


def model_json(card: ModelCard) -> str | None:
    """What `small_model` makes the model of: the architecture, and whose tokenizer it uses if that is at hand.

    None when the base model is small enough itself.
    """
    if not is_shrunk(card):
        return None
    described = {"architecture": card.architecture, "tokenizer": card.name, "sizes": SIZES}
    return json.dumps(described, indent=2) + "\n"


def _cut(dataset: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if dataset is None:
        return None
    whole = {"max_prompt_tokens": None} if "max_prompt_tokens" in dataset else {}
    return {**dataset, **whole, "processor": CUTTING_PROCESSOR}
