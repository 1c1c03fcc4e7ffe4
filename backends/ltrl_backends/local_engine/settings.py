"""What the driver reads: the plan's values for this engine, with nothing left to decide."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from ltrl.backend import DataChoice, Model, RewardChoice
from ltrl.errors import Code, fail
from ltrl.spec import Mlflow, Wandb
from ltrl_backends.local_engine.options import Collapse, WarmStart

if TYPE_CHECKING:
    from ltrl.resolve import Resolved

__all__ = ["FIELDS", "CheckpointSettings", "Network", "Settings", "read_settings", "settings"]


class Network(Model):
    """Shape of a model that the engine makes."""

    num_layers: int
    hidden_size: int
    ffn_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    tied_embeddings: bool
    rope_theta: float
    max_positions: int


class GrpoSettings(Model):
    """The algorithm, in the spec's words."""

    steps: int
    prompts_per_step: int
    group_size: int
    seed: int
    clip_low: float
    clip_high: float
    clip_dual: float | None
    objective: Literal["clip", "cispo"]
    ratio: Literal["token", "sequence"]
    loss_aggregation: Literal["token", "sequence"]
    kl_coefficient: float
    divide_by_std: bool
    mask_truncated: bool
    temperature: float
    top_p: float
    top_k: int | None


class OptimizerSettings(Model):
    """AdamW and its schedule."""

    lr: float
    weight_decay: float
    beta1: float
    beta2: float
    eps: float
    max_grad_norm: float
    schedule: Literal["constant", "linear", "cosine"]
    warmup_steps: int
    min_lr: float


class ValidationSettings(Model):
    """When and how the validation sets are measured."""

    every_steps: int
    at_start: bool
    at_end: bool
    samples_per_prompt: int
    samples_to_print: int


class CheckpointSettings(Model):
    """When the training state is saved and what is kept."""

    every_steps: int
    keep: int | None
    metric: str | None
    keep_last: int | None = None
    keep_every: int | None = None
    save_optimizer: bool


class Settings(Model):
    """One training run of the embedded engine."""

    fingerprint: str
    """A checkpoint of another fingerprint is not resumed from."""
    base: str
    revision: str | None = None
    overrides: dict[str, Any] = {}
    """Keys of the model's `config.json` to replace; of an engine-made model the network holds them already."""
    network: Network | None
    """None: `base` is loaded instead of made."""
    max_prompt_tokens: int
    max_response_tokens: int
    max_total_tokens: int
    chat_format: str
    train: DataChoice
    validation_sets: dict[str, DataChoice]
    shuffle: bool
    reward: RewardChoice
    grpo: GrpoSettings
    optimizer: OptimizerSettings
    validation: ValidationSettings
    checkpoint: CheckpointSettings
    run_name: str = ""
    tensorboard: bool
    wandb: Wandb | None = None
    mlflow: Mlflow | None = None
    write_rollouts: bool
    threads: int
    device: Literal["cpu", "cuda"] = "cpu"
    precision: Literal["float32", "bfloat16"] = "float32"
    warm_start: WarmStart
    collapse: Collapse


FIELDS = {
    "base": "model.base",
    "revision": "model.revision",
    "overrides": "model.overrides",
    "network": "model.base",
    "max_prompt_tokens": "model.context.prompt",
    "max_response_tokens": "model.context.response",
    "max_total_tokens": "model.context",
    "chat_format": "model.chat_format",
    "train": "data.train",
    "validation_sets": "data.validation",
    "shuffle": "data.shuffle",
    "reward": "reward",
    "grpo": "algorithm",
    "grpo.clip_low": "algorithm.clip.low",
    "grpo.clip_high": "algorithm.clip.high",
    "grpo.clip_dual": "algorithm.clip.dual",
    "grpo.kl_coefficient": "algorithm.kl.coefficient",
    "grpo.divide_by_std": "algorithm.advantage.divide_by_std",
    "grpo.mask_truncated": "algorithm.truncated",
    "grpo.temperature": "rollout.temperature",
    "grpo.top_p": "rollout.top_p",
    "grpo.top_k": "rollout.top_k",
    "optimizer": "optimizer",
    "optimizer.beta1": "optimizer.betas",
    "optimizer.beta2": "optimizer.betas",
    "validation": "validation",
    "validation.samples_to_print": "logging.samples_to_print",
    "checkpoint": "checkpoint",
    "run_name": "name",
    "tensorboard": "logging.tensorboard",
    "wandb": "logging.wandb",
    "mlflow": "logging.mlflow",
    "write_rollouts": "logging.rollouts",
    "threads": "engine.threads",
    "device": "engine.device",
    "precision": "engine.precision",
    "warm_start": "engine.warm_start",
    "collapse": "engine.collapse",
}
"""The spec's field behind each setting; one that is missing here has the name it has in the spec's section."""


def settings(resolved: Resolved) -> Settings:
    """The spec's values for this engine; `LocalEngine.check` has refused what it cannot do."""
    spec, card = resolved.spec, resolved.card
    algorithm, optimizer = spec.algorithm, spec.optimizer
    return Settings.model_validate(
        {
            "fingerprint": resolved.fingerprint,
            "base": spec.model.base,
            "revision": spec.model.revision,
            "overrides": {} if card.engine_made else dict(spec.model.overrides),
            "network": {name: getattr(card, name) for name in Network.model_fields} if card.engine_made else None,
            "max_prompt_tokens": resolved.lengths.prompt,
            "max_response_tokens": resolved.lengths.response,
            "max_total_tokens": resolved.lengths.total,
            "chat_format": resolved.chat_format,
            "train": spec.data.train,
            "validation_sets": dict(spec.data.validation),
            "shuffle": spec.data.shuffle,
            "reward": spec.reward,
            "grpo": {
                "steps": algorithm.steps,
                "prompts_per_step": algorithm.prompts_per_step,
                "group_size": algorithm.group_size,
                "seed": algorithm.seed,
                "clip_low": algorithm.clip.low,
                "clip_high": algorithm.clip.high,
                "clip_dual": algorithm.clip.dual,
                "objective": algorithm.objective,
                "ratio": algorithm.ratio,
                "loss_aggregation": algorithm.loss_aggregation,
                "kl_coefficient": algorithm.kl.coefficient,
                "divide_by_std": algorithm.advantage.divide_by_std,
                "mask_truncated": algorithm.truncated == "mask",
                "temperature": spec.rollout.temperature,
                "top_p": spec.rollout.top_p,
                "top_k": spec.rollout.top_k,
            },
            "optimizer": {
                "lr": optimizer.lr,
                "weight_decay": optimizer.weight_decay,
                "beta1": optimizer.betas[0],
                "beta2": optimizer.betas[1],
                "eps": optimizer.eps,
                "max_grad_norm": optimizer.max_grad_norm,
                "schedule": optimizer.schedule,
                "warmup_steps": optimizer.warmup_steps,
                "min_lr": optimizer.min_lr or 0.0,
            },
            "validation": {
                "every_steps": spec.validation.every_steps,
                "at_start": spec.validation.at_start,
                "at_end": spec.validation.at_end,
                "samples_per_prompt": spec.validation.samples_per_prompt,
                "samples_to_print": spec.logging.samples_to_print,
            },
            "checkpoint": {
                "every_steps": spec.checkpoint.every_steps,
                "keep": spec.checkpoint.keep,
                "metric": spec.checkpoint.metric,
                "keep_last": spec.checkpoint.keep_last,
                "keep_every": spec.checkpoint.keep_every,
                "save_optimizer": spec.checkpoint.save_optimizer,
            },
            "run_name": spec.name,
            "tensorboard": spec.logging.tensorboard,
            "wandb": spec.logging.wandb and spec.logging.wandb.model_dump(),
            "mlflow": spec.logging.mlflow and spec.logging.mlflow.model_dump(),
            "write_rollouts": spec.logging.rollouts,
            "threads": resolved.engine.threads,  # type: ignore[attr-defined]  # the engine's section is our own Options
            "device": resolved.engine.device,  # type: ignore[attr-defined]
            "precision": resolved.engine.precision,  # type: ignore[attr-defined]
            "warm_start": resolved.engine.warm_start,  # type: ignore[attr-defined]
            "collapse": resolved.engine.collapse,  # type: ignore[attr-defined]
        }
    )


def read_settings(path: Path) -> Settings:
    """The settings in a bundle; raises LtrlError when the file is missing or is not what this version writes."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise fail(Code.UNREADABLE, f"cannot read `{path}`: {reason}") from None
    try:
        return Settings.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(step) for step in first["loc"])
        message = f"`{path}` is not a configuration of this engine: {place}: {first['msg']}"
        raise fail(Code.NOT_A_BUNDLE, message, hint="compile the spec again with the installed ltrl") from None
