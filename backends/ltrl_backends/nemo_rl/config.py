"""From a plan to NeMo-RL's configuration: fully expanded, each key with the field of the spec that it comes from.

Nothing is inherited from NeMo-RL's exemplar configurations: their defaults leak (another dataset's prompt file, a KL
penalty of 0.01, no checkpoints), and they change from release to release.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ltrl.tracking import MLFLOW_STORE
from ltrl_backends.nemo_rl.database import Database, database
from ltrl_backends.nemo_rl.options import NemoRLOptions
from ltrl_backends.nemo_rl.rehearsal.shrink import resized
from ltrl_backends.nemo_rl.yaml import dump_settings

if TYPE_CHECKING:
    from ltrl.plan import Plan
    from ltrl.resolve import Resolved

__all__ = [
    "DATASET",
    "OVERRIDES",
    "PROCESSOR",
    "TRAIN",
    "Setting",
    "Sizes",
    "compiled",
    "config",
    "dump",
    "flat_overrides",
    "nested",
    "settings",
    "validation_name",
]

DATASET = "ltrl_backends.nemo_rl.dataset.LtrlDataset"
PROCESSOR = "ltrl"
TRAIN = "ltrl_train"
"""Name of the training set's task and of its environment."""
OVERRIDES = "engine.overrides"
ALL = 1_000_000
"""Stands for no limit where NeMo-RL wants a number."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One key with its value, and where the value comes from."""

    key: str
    value: Any
    field: str = ""
    """Dotted path of the spec's field; empty for what no field decides."""
    why: str = ""
    """What the field's name does not say."""
    path: tuple[str, ...] = ()
    """The key in steps, where a step may contain a dot."""
    optional: bool = False
    """May be left out for a version that does not have it."""
    derived: bool = False
    """Worked out from the field rather than equal to it; such a key may be overridden."""

    @property
    def steps(self) -> tuple[str, ...]:
        """The key as a path into nested mappings."""
        return self.path or tuple(self.key.split("."))


class Sizes(Protocol):
    """Parallel sizes of the trained model; a plan's `Layout` is one."""

    @property
    def tp(self) -> int: ...  # noqa: D102
    @property
    def pp(self) -> int: ...  # noqa: D102
    @property
    def cp(self) -> int: ...  # noqa: D102
    @property
    def ep(self) -> int: ...  # noqa: D102
    @property
    def etp(self) -> int: ...  # noqa: D102


def config(plan: Plan) -> dict[str, Any]:
    """The complete configuration as nested mappings."""
    return nested(settings(plan.resolved, plan.layout))


def dump(resolved: Resolved, sizes: Sizes) -> str:
    """The configuration as YAML that PyYAML and OmegaConf read alike, each line with the field it comes from."""
    options = _options(resolved)
    head = [
        f"NeMo-RL {options.version} configuration of `{resolved.spec.name}`, complete: it inherits nothing.",
        "Compiled by ltrl; the comment behind a line names the field of the spec that it comes from. Change the spec,",
        "not this file. Paths are relative to the run directory.",
    ]
    if options.device == "cpu":
        head.append("A rehearsal without a GPU: model, lengths, steps and machines are small, the rest is as it was.")
    return dump_settings(head, settings(resolved, sizes))


def nested(found: Iterable[Setting]) -> dict[str, Any]:
    """Settings as nested mappings, in their order."""
    tree: dict[str, Any] = {}
    for setting in found:
        *around, name = setting.steps
        place = tree
        for step in around:
            place = place.setdefault(step, {})
        place[name] = setting.value
    return tree


def settings(resolved: Resolved, sizes: Sizes | None) -> list[Setting]:
    """Every key of the configuration in the file's order, overrides included; without sizes, none of the layout."""
    options = _options(resolved)
    found = _with_overrides(compiled(resolved, sizes), options, database(options.version))
    return found if options.device == "gpu" else list(resized(found, resolved.card))


def compiled(resolved: Resolved, sizes: Sizes | None) -> list[Setting]:
    """The settings that the spec's fields give.

    A key that `engine.version` does not have is left out where its value is what that version does anyway; the checks
    report the others.
    """
    options = _options(resolved)
    keys = database(options.version)
    found = [
        *_grpo(resolved),
        *_loss(resolved),
        *_checkpointing(resolved, options),
        *_policy(resolved, options, sizes),
        *_data(resolved),
        *_environments(resolved),
        *_logger(resolved),
        *_cluster(resolved),
    ]
    return [setting for setting in found if not _is_left_out(setting, keys)]


def validation_name(name: str) -> str:
    """Name of a validation set's task and of its environment."""
    return f"ltrl_validation_{name}"


def _options(resolved: Resolved) -> NemoRLOptions:
    options = resolved.engine
    assert isinstance(options, NemoRLOptions)
    return options


def _grpo(resolved: Resolved) -> Iterator[Setting]:
    spec = resolved.spec
    algorithm, validation = spec.algorithm, spec.validation
    samples = algorithm.prompts_per_step * algorithm.group_size
    measures = bool(spec.data.validation)
    no_sets = "" if measures else "no validation set"
    advantage, dynamic, overlap = algorithm.advantage, algorithm.dynamic_sampling, algorithm.asynchronous
    yield Setting("grpo.num_prompts_per_step", algorithm.prompts_per_step, "algorithm.prompts_per_step")
    yield Setting("grpo.num_generations_per_prompt", algorithm.group_size, "algorithm.group_size")
    yield Setting("grpo.max_rollout_turns", 1, why="a response is one turn")
    yield Setting("grpo.max_num_steps", algorithm.steps, "algorithm.steps")
    yield Setting("grpo.max_num_epochs", algorithm.steps, "algorithm.steps", "an epoch has at least one step")
    yield Setting("grpo.seed", algorithm.seed, "algorithm.seed")
    yield Setting("grpo.normalize_rewards", advantage.divide_by_std, "algorithm.advantage.divide_by_std")
    yield Setting("grpo.use_leave_one_out_baseline", advantage.leave_one_out, "algorithm.advantage.leave_one_out")
    yield Setting("grpo.adv_estimator.name", "grpo", "algorithm.name")
    yield Setting("grpo.adv_estimator.normalize_rewards", advantage.divide_by_std, "algorithm.advantage.divide_by_std")
    yield Setting(
        "grpo.adv_estimator.use_leave_one_out_baseline", advantage.leave_one_out, "algorithm.advantage.leave_one_out"
    )
    yield Setting("grpo.advantage_clip_low", advantage.clip_low, "algorithm.advantage.clip_low")
    yield Setting("grpo.advantage_clip_high", advantage.clip_high, "algorithm.advantage.clip_high")
    yield Setting("grpo.overlong_filtering", algorithm.truncated == "mask", "algorithm.truncated")
    yield Setting("grpo.use_dynamic_sampling", dynamic is not None, "algorithm.dynamic_sampling")
    yield Setting(
        "grpo.dynamic_sampling_max_gen_batches",
        dynamic.max_batches if dynamic else 10,
        "algorithm.dynamic_sampling.max_batches",
    )
    yield Setting(
        "grpo.batch_multiplier",
        dynamic.batch_multiplier if dynamic else 1.0,
        "algorithm.dynamic_sampling.batch_multiplier",
    )
    yield Setting("grpo.reward_shaping.enabled", False, why="the reward backend has the last word")
    yield Setting("grpo.reward_scaling.enabled", False, why="the reward backend has the last word")
    yield Setting("grpo.seq_logprob_error_threshold", None, why="off")
    yield Setting(
        "grpo.skip_reference_policy_logprobs_calculation",
        algorithm.kl.coefficient == 0,
        "algorithm.kl.coefficient",
        "no reference model without a penalty",
    )
    yield Setting("grpo.async_grpo.enabled", overlap is not None, "algorithm.asynchronous")
    yield Setting(
        "grpo.async_grpo.max_trajectory_age_steps",
        overlap.max_age_steps if overlap else 1,
        "algorithm.asynchronous.max_age_steps",
    )
    yield Setting(
        "grpo.async_grpo.in_flight_weight_updates",
        overlap.in_flight_updates if overlap else False,
        "algorithm.asynchronous.in_flight_updates",
    )
    yield Setting("grpo.async_grpo.recompute_kv_cache_after_weight_updates", False, why="off")
    yield Setting("grpo.val_period", validation.every_steps if measures else 0, "validation.every_steps", no_sets)
    yield Setting("grpo.val_at_start", validation.at_start and measures, "validation.at_start", no_sets)
    yield Setting("grpo.val_at_end", validation.at_end and measures, "validation.at_end", no_sets)
    yield Setting("grpo.val_batch_size", samples, why="as many responses at once as a training step has")
    yield Setting("grpo.max_val_samples", samples * ALL, why="all: only whole multiples of val_batch_size are measured")


def _loss(resolved: Resolved) -> Iterator[Setting]:
    algorithm = resolved.spec.algorithm
    correction, kl, clip = algorithm.importance_correction, algorithm.kl, algorithm.clip
    kind = correction.kind if correction.kind not in ("none", "full") else None
    yield Setting("loss_fn.reference_policy_kl_penalty", kl.coefficient, "algorithm.kl.coefficient")
    yield Setting("loss_fn.reference_policy_kl_type", kl.estimator, "algorithm.kl.estimator")
    yield Setting("loss_fn.use_kl_in_reward", kl.in_reward, "algorithm.kl.in_reward")
    yield Setting("loss_fn.kl_input_clamp_value", 20.0, why="NeMo-RL's guard against overflow")
    yield Setting("loss_fn.kl_output_clamp_value", 10.0, why="NeMo-RL's guard against overflow")
    yield Setting("loss_fn.use_on_policy_kl_approximation", False, why="off")
    yield Setting("loss_fn.ratio_clip_min", clip.low, "algorithm.clip.low")
    yield Setting("loss_fn.ratio_clip_max", clip.high, "algorithm.clip.high")
    yield Setting("loss_fn.ratio_clip_c", clip.dual, "algorithm.clip.dual")
    yield Setting("loss_fn.use_cispo", algorithm.objective == "cispo", "algorithm.objective")
    yield Setting("loss_fn.disable_ppo_ratio", algorithm.objective == "reinforce", "algorithm.objective")
    yield Setting("loss_fn.force_on_policy_ratio", algorithm.on_policy, "algorithm.on_policy")
    yield Setting("loss_fn.token_level_loss", algorithm.loss_aggregation == "token", "algorithm.loss_aggregation")
    yield Setting("loss_fn.sequence_level_importance_ratios", algorithm.ratio == "sequence", "algorithm.ratio")
    field = "algorithm.importance_correction"
    yield Setting("loss_fn.use_importance_sampling_correction", correction.kind != "none", f"{field}.kind")
    yield Setting("loss_fn.truncated_importance_sampling_type", kind, f"{field}.kind")
    yield Setting("loss_fn.truncated_importance_sampling_ratio", correction.high, f"{field}.high")
    yield Setting("loss_fn.truncated_importance_sampling_ratio_min", correction.low, f"{field}.low")
    yield Setting("loss_fn.positive_example_nll_weight", 0.0, why="off")


def _higher_is_better(metric: str | None) -> bool:
    if metric is None:
        return True
    from ltrl.checkpoints import lower_is_better

    return not lower_is_better(metric)


def _checkpointing(resolved: Resolved, options: NemoRLOptions) -> Iterator[Setting]:
    checkpoint = resolved.spec.checkpoint
    minutes = resolved.cluster.minutes - options.reserve_minutes
    last = f"{minutes // 1440:02}:{minutes // 60 % 24:02}:{minutes % 60:02}:00" if minutes > 0 else None
    yield Setting("checkpointing.enabled", True, why="a run without checkpoints cannot resume")
    yield Setting("checkpointing.checkpoint_dir", "checkpoints", why="in the run directory")
    yield Setting("checkpointing.save_period", checkpoint.every_steps, "checkpoint.every_steps")
    if checkpoint.keep_last is None and checkpoint.keep_every is None:
        yield Setting("checkpointing.keep_top_k", checkpoint.keep or ALL, "checkpoint.keep")
    else:
        why = "NeMo-RL has one rule; ltrl's driver keeps what those under `ltrl` say"
        yield Setting("checkpointing.keep_top_k", ALL, "checkpoint.keep", why, derived=True)
        for name in ("keep", "metric", "keep_last", "keep_every"):
            yield Setting(f"checkpointing.ltrl.{name}", getattr(checkpoint, name), f"checkpoint.{name}")
    yield Setting("checkpointing.metric_name", checkpoint.metric, "checkpoint.metric")
    higher = _higher_is_better(checkpoint.metric)
    yield Setting("checkpointing.higher_is_better", higher, "checkpoint.metric", derived=True)
    yield Setting("checkpointing.save_optimizer", checkpoint.save_optimizer, "checkpoint.save_optimizer")
    yield Setting(
        "checkpointing.checkpoint_must_save_by",
        last,
        "cluster.minutes",
        "less engine.reserve_minutes, counted from the start of the training loop",
        derived=True,
    )


def _policy(resolved: Resolved, options: NemoRLOptions, sizes: Sizes | None) -> Iterator[Setting]:
    spec, total = resolved.spec, resolved.lengths.total
    algorithm = spec.algorithm
    samples = algorithm.prompts_per_step * algorithm.group_size
    context = "model.context.total" if spec.model.context.total else "model.context"
    shares_gpus = spec.rollout.nodes is None
    yield Setting("policy.model_name", spec.model.base, "model.base")
    yield Setting("policy.tokenizer.name", spec.model.base, "model.base")
    yield Setting("policy.tokenizer.chat_template_kwargs", None, why="the model's own template, without arguments")
    yield Setting("policy.hf_config_overrides", dict(spec.model.overrides), "model.overrides")
    yield Setting("policy.max_total_sequence_length", total, context)
    yield Setting("policy.train_global_batch_size", algorithm.batch_size or samples, "algorithm.batch_size")
    yield Setting("policy.train_micro_batch_size", 1, why="packing fills a microbatch with tokens, not with samples")
    yield Setting("policy.logprob_batch_size", 1, why="equal to train_micro_batch_size: tp >= 4 needs it")
    yield Setting("policy.precision", "bfloat16", why="weights and activations; the optimizer keeps float32")
    yield Setting("policy.logprob_chunk_size", options.logprob_chunk_size, "engine.logprob_chunk_size")
    yield Setting(
        "policy.offload_optimizer_for_logprob",
        not shares_gpus,
        "rollout.nodes",
        "sharing GPUs moves it off anyway",
        derived=True,
    )
    yield Setting("policy.max_grad_norm", spec.optimizer.max_grad_norm, "optimizer.max_grad_norm")
    yield Setting("policy.optimizer", None, why="Megatron has its own, below")
    yield Setting("policy.scheduler", None, why="Megatron has its own, below")
    yield Setting("policy.dtensor_cfg.enabled", False, why="Megatron trains: DTensor cannot split 160K tokens")
    yield Setting("policy.dynamic_batching.enabled", False, why="packing instead")
    yield from _packing(resolved, sizes)
    yield from _megatron(resolved, options, sizes)
    yield Setting("policy.draft.enabled", False, why="no draft model")
    yield from _generation(resolved)


def _packing(resolved: Resolved, sizes: Sizes | None) -> Iterator[Setting]:
    yield Setting("policy.sequence_packing.enabled", True, why="context parallelism needs it")
    if sizes is not None:
        align = (2 * sizes.cp if sizes.cp > 1 else 1) * sizes.tp
        tokens = -(-resolved.lengths.total // align) * align
        longest = "one sequence of full length, aligned"
        yield Setting("policy.sequence_packing.train_mb_tokens", tokens, "model.context", longest, derived=True)
        yield Setting("policy.sequence_packing.logprob_mb_tokens", tokens, "model.context", longest, derived=True)
    yield Setting("policy.sequence_packing.algorithm", "modified_first_fit_decreasing", why="fullest bins")
    if sizes is not None:
        yield Setting(
            "policy.make_sequence_length_divisible_by", align, "parallelism", "2 x cp if cp > 1, x tp", derived=True
        )


def _megatron(resolved: Resolved, options: NemoRLOptions, sizes: Sizes | None) -> Iterator[Setting]:
    spec = resolved.spec
    block = "policy.megatron_cfg"
    yield Setting(f"{block}.enabled", True, why="trains the policy")
    if sizes is not None:
        yield Setting(f"{block}.tensor_model_parallel_size", sizes.tp, "parallelism.tensor")
        yield Setting(f"{block}.pipeline_model_parallel_size", sizes.pp, "parallelism.pipeline")
        yield Setting(f"{block}.context_parallel_size", sizes.cp, "parallelism.context")
        yield Setting(f"{block}.expert_model_parallel_size", sizes.ep, "parallelism.expert")
        yield Setting(f"{block}.expert_tensor_parallel_size", sizes.etp, "parallelism.expert_tensor")
        yield Setting(
            f"{block}.sequence_parallel", sizes.tp > 1, "parallelism.tensor", "activations too are split", derived=True
        )
    yield Setting(f"{block}.num_layers_in_first_pipeline_stage", None, why="equal stages")
    yield Setting(f"{block}.num_layers_in_last_pipeline_stage", None, why="equal stages")
    yield Setting(f"{block}.pipeline_dtype", "bfloat16", why="as policy.precision")
    recompute = "engine.recompute"
    yield Setting(f"{block}.activation_checkpointing", options.recompute != "none", recompute)
    granularity = "selective" if options.recompute == "selective" else "full"
    yield Setting(f"{block}.recompute_granularity", granularity, recompute)
    yield Setting(f"{block}.recompute_modules", None, recompute, "attention, when selective", derived=True)
    chunks = options.logprob_chunk_size is not None
    yield Setting(f"{block}.defer_fp32_logits", chunks, "engine.logprob_chunk_size", "chunking needs it", derived=True)
    yield Setting(f"{block}.empty_unused_memory_level", 2, why="long contexts fragment memory")
    yield Setting(f"{block}.clear_memory_caches_before_refit", True, why="frees rope and routing caches", optional=True)
    yield Setting(f"{block}.apply_rope_fusion", options.fused_kernels, "engine.fused_kernels")
    yield Setting(f"{block}.bias_activation_fusion", options.fused_kernels, "engine.fused_kernels")
    yield Setting(f"{block}.gradient_accumulation_fusion", False, why="NeMo-RL's default")
    yield Setting(f"{block}.use_fused_weighted_squared_relu", False, why="another activation function")
    yield Setting(f"{block}.freeze_moe_router", not options.train_router, "engine.train_router")
    yield Setting(f"{block}.moe_router_dtype", "fp64", why="close to the rollout engine's routing")
    yield Setting(
        f"{block}.moe_router_load_balancing_type", "none", why="an auxiliary loss drives log-probabilities apart"
    )
    yield Setting(f"{block}.moe_router_bias_update_rate", 0.0, why="off")
    yield Setting(f"{block}.moe_permute_fusion", True, why="NeMo-RL's default")
    yield Setting(f"{block}.moe_enable_deepep", False, why="NeMo-RL's default")
    yield Setting(f"{block}.moe_token_dispatcher_type", "alltoall", why="NeMo-RL's default")
    yield Setting(f"{block}.moe_shared_expert_overlap", False, why="NeMo-RL's default")
    yield Setting(f"{block}.moe_per_layer_logging", False, why="NeMo-RL's default")
    yield from _optimizer(resolved)
    ddp = f"{block}.distributed_data_parallel_config"
    yield Setting(f"{ddp}.grad_reduce_in_fp32", False, why="NeMo-RL's default")
    yield Setting(f"{ddp}.overlap_grad_reduce", False, why="off in every long-context recipe")
    yield Setting(f"{ddp}.overlap_param_gather", False, why="off in every long-context recipe")
    yield Setting(f"{ddp}.use_custom_fsdp", False, why="off")
    yield Setting(f"{ddp}.data_parallel_sharding_strategy", "optim_grads_params", why="only for custom FSDP")
    yield Setting(f"{block}.env_vars", None, why="none")
    assert spec.optimizer.name == "adam"


def _optimizer(resolved: Resolved) -> Iterator[Setting]:
    optimizer, steps = resolved.spec.optimizer, resolved.spec.algorithm.steps
    block = "policy.megatron_cfg.optimizer"
    low = optimizer.lr if optimizer.schedule == "constant" else optimizer.min_lr or 0.0
    yield Setting(f"{block}.optimizer", optimizer.name, "optimizer.name")
    yield Setting(f"{block}.lr", optimizer.lr, "optimizer.lr")
    yield Setting(f"{block}.min_lr", low, "optimizer.min_lr", "lr itself when constant")
    yield Setting(f"{block}.weight_decay", optimizer.weight_decay, "optimizer.weight_decay")
    yield Setting(f"{block}.adam_beta1", optimizer.betas[0], "optimizer.betas")
    yield Setting(f"{block}.adam_beta2", optimizer.betas[1], "optimizer.betas")
    yield Setting(f"{block}.adam_eps", optimizer.eps, "optimizer.eps")
    yield Setting(f"{block}.clip_grad", optimizer.max_grad_norm, "optimizer.max_grad_norm")
    yield Setting(f"{block}.sgd_momentum", 0.9, why="unused by Adam")
    yield Setting(f"{block}.bf16", True, why="as policy.precision")
    yield Setting(f"{block}.fp16", False, why="as policy.precision")
    yield Setting(f"{block}.params_dtype", "float32", why="main weights")
    yield Setting(f"{block}.use_distributed_optimizer", True, why="its state is spread over tp x cp x dp")
    yield Setting(f"{block}.use_precision_aware_optimizer", True, why="NeMo-RL's default")
    yield Setting(f"{block}.optimizer_cpu_offload", False, why="starts from random weights in 0.7.0 (NeMo-RL #2372)")
    yield Setting(f"{block}.optimizer_offload_fraction", 0.0, why="off")
    block = "policy.megatron_cfg.scheduler"
    decay = max(steps, optimizer.warmup_steps + 1)
    yield Setting(f"{block}.lr_decay_style", optimizer.schedule, "optimizer.schedule")
    yield Setting(f"{block}.lr_decay_iters", decay, "algorithm.steps", "one tick for each training step", derived=True)
    yield Setting(f"{block}.lr_warmup_iters", optimizer.warmup_steps, "optimizer.warmup_steps")
    yield Setting(f"{block}.lr_warmup_init", 0.0, "optimizer.warmup_steps", derived=True)
    yield Setting(f"{block}.start_weight_decay", optimizer.weight_decay, "optimizer.weight_decay")
    yield Setting(f"{block}.end_weight_decay", optimizer.weight_decay, "optimizer.weight_decay")
    yield Setting(f"{block}.weight_decay_incr_style", "constant", why="the same decay throughout")


def _generation(resolved: Resolved) -> Iterator[Setting]:
    rollout, lengths = resolved.spec.rollout, resolved.lengths
    block = "policy.generation"
    stop = rollout.stop_token_ids if rollout.stop_token_ids is not None else resolved.card.stop_token_ids
    shares_gpus = rollout.nodes is None
    source = "by the model card" if rollout.stop_token_ids is None else ""
    yield Setting(f"{block}.backend", "vllm", why="samples the responses")
    yield Setting(f"{block}.max_new_tokens", lengths.response, "model.context.response")
    yield Setting(f"{block}.temperature", rollout.temperature, "rollout.temperature", "validation too")
    yield Setting(f"{block}.top_p", rollout.top_p, "rollout.top_p", "validation too")
    yield Setting(f"{block}.top_k", rollout.top_k, "rollout.top_k", "validation too")
    yield Setting(f"{block}.stop_token_ids", list(stop) or None, "rollout.stop_token_ids", source)
    yield Setting(f"{block}.stop_strings", None, why="tokens end a response")
    vllm = f"{block}.vllm_cfg"
    sizes = rollout.parallelism
    yield Setting(f"{vllm}.async_engine", rollout.async_engine, "rollout.async_engine")
    yield Setting(f"{vllm}.precision", "bfloat16", why="as policy.precision")
    yield Setting(f"{vllm}.kv_cache_dtype", "auto", why="as policy.precision")
    yield Setting(f"{vllm}.tensor_parallel_size", sizes.tensor, "rollout.parallelism.tensor")
    yield Setting(f"{vllm}.pipeline_parallel_size", sizes.pipeline, "rollout.parallelism.pipeline")
    yield Setting(f"{vllm}.expert_parallel_size", sizes.expert, "rollout.parallelism.expert")
    yield Setting(f"{vllm}.gpu_memory_utilization", rollout.gpu_memory, "rollout.gpu_memory")
    yield Setting(f"{vllm}.max_model_len", lengths.total, "model.context", derived=True)
    yield Setting(f"{vllm}.enforce_eager", False, why="CUDA graphs")
    yield Setting(f"{vllm}.enable_vllm_metrics_logger", rollout.async_engine, "rollout.async_engine", derived=True)
    yield Setting(f"{vllm}.vllm_metrics_logger_interval", 0.5, why="seconds")
    kernels = {"moe_backend": "triton"} if resolved.card.num_experts else {}
    yield Setting(
        f"{block}.vllm_kwargs",
        kernels,
        why="vLLM 0.20's own choice of MoE kernel cannot take new weights" if kernels else "none",
    )
    yield Setting(f"{block}.colocated.enabled", shares_gpus, "rollout.nodes", "training and sampling take turns")
    own = None if shares_gpus else resolved.cluster.gpus_per_node
    yield Setting(f"{block}.colocated.resources.num_nodes", rollout.nodes, "rollout.nodes")
    yield Setting(f"{block}.colocated.resources.gpus_per_node", own, "cluster.gpus_per_node")


def _data(resolved: Resolved) -> Iterator[Setting]:
    spec, lengths = resolved.spec, resolved.lengths
    yield Setting("data.max_input_seq_length", lengths.prompt, "model.context.prompt")
    yield Setting("data.shuffle", spec.data.shuffle, "data.shuffle")
    yield Setting("data.num_workers", 1, why="tokenises the next batch while this one trains")
    yield Setting("data.use_multiple_dataloader", False, why="one training set")
    common = {
        "dataset_name": DATASET,
        "processor": PROCESSOR,
        "tokenizer": spec.model.base,
        "max_prompt_tokens": lengths.prompt,
    }
    train = {
        **common,
        "task_name": TRAIN,
        "env_name": TRAIN,
        "section": spec.data.train.model_dump(mode="json"),
    }
    yield Setting("data.train", train, "data.train")
    sets = [
        {
            **common,
            "task_name": validation_name(name),
            "env_name": validation_name(name),
            "repeat": spec.validation.samples_per_prompt,
            "section": section.model_dump(mode="json"),
        }
        for name, section in spec.data.validation.items()
    ]
    yield Setting("data.validation", sets[0] if len(sets) == 1 else sets or None, "data.validation")
    yield Setting("data.default", None, why="nothing is filled in")


def _environments(resolved: Resolved) -> Iterator[Setting]:
    spec = resolved.spec
    yield Setting(
        "env.should_log_nemo_gym_responses",
        not spec.logging.rollouts,
        "logging.rollouts",
        "despite its name: true writes no train_data_step{N}.jsonl",
    )

    def block(role: str) -> dict[str, Any]:
        return {"role": role, "chat_format": resolved.chat_format, "reward": spec.reward.model_dump(mode="json")}

    yield Setting(f"env.{TRAIN}", block("train"), "reward")
    for name in spec.data.validation:
        path = ("env", validation_name(name))
        yield Setting(".".join(path), block("validation"), "reward", path=path)


def _logger(resolved: Resolved) -> Iterator[Setting]:
    logging = resolved.spec.logging
    wandb = logging.wandb
    run = {"project": wandb.project, "name": resolved.spec.name} if wandb else {}
    if wandb and wandb.entity:
        run["entity"] = wandb.entity
    yield Setting("logger.log_dir", "logs", why="in the run directory; each start makes the next exp_NNN")
    yield Setting("logger.tensorboard_enabled", logging.tensorboard, "logging.tensorboard")
    yield Setting("logger.tensorboard", {}, why="NeMo-RL puts it below log_dir")
    yield Setting("logger.wandb_enabled", wandb is not None, "logging.wandb")
    yield Setting("logger.wandb", run, "logging.wandb")
    yield Setting("logger.mlflow_enabled", logging.mlflow is not None, "logging.mlflow")
    if mlflow := logging.mlflow:
        yield Setting("logger.mlflow.experiment_name", mlflow.experiment, "logging.mlflow.experiment")
        yield Setting("logger.mlflow.run_name", resolved.spec.name, "name")
        store = mlflow.tracking_uri or MLFLOW_STORE
        yield Setting("logger.mlflow.tracking_uri", store, "logging.mlflow.tracking_uri")
    yield Setting("logger.swanlab_enabled", False, why="off")
    monitors = logging.tensorboard or wandb is not None or logging.mlflow is not None
    yield Setting("logger.monitor_gpus", monitors, "logging", "needs somewhere to report to", derived=True)
    yield Setting("logger.gpu_monitoring.collection_interval", 10, why="seconds")
    yield Setting("logger.gpu_monitoring.flush_interval", 10, why="seconds")
    yield Setting("logger.num_val_samples_to_print", logging.samples_to_print, "logging.samples_to_print")


def _cluster(resolved: Resolved) -> Iterator[Setting]:
    yield Setting("cluster.num_nodes", resolved.cluster.nodes, "cluster.nodes")
    yield Setting("cluster.gpus_per_node", resolved.cluster.gpus_per_node, "cluster.gpus_per_node")


def _is_left_out(setting: Setting, keys: Database) -> bool:
    """Whether the version lacks the key and would do the same without it."""
    if setting.key in keys:
        return False
    newest = database("0.7.0").get(setting.key)
    return setting.optional or not setting.value or (newest is not None and setting.value == newest.default)


def _with_overrides(found: list[Setting], options: NemoRLOptions, keys: Database) -> list[Setting]:
    """The settings with `engine.overrides` in their places, new keys behind the last of their block."""
    for key, value, _ in flat_overrides(options, keys):
        if any(setting.key.startswith(f"{key}.") for setting in found):
            continue  # a plain value in the place of a section: a check refuses it
        at = next((i for i, s in enumerate(found) if s.key == key or key.startswith(f"{s.key}.")), None)
        if at is None:
            found.insert(_place(found, tuple(key.split("."))), Setting(key, value, OVERRIDES))
            continue
        old = found[at]
        inside = key[len(old.key) + 1 :]
        if inside:
            new = _put(old.value, inside.split("."), value)
        elif isinstance(value, dict) and isinstance(old.value, dict):
            new = {**old.value, **value}
        else:
            new = value
        found[at] = Setting(old.key, new, OVERRIDES, path=old.path)
    return found


def flat_overrides(options: NemoRLOptions, keys: Database) -> Iterator[tuple[str, Any, tuple[str, ...]]]:
    """(key, value, path in the spec) of the overrides: a mapping for a block of known keys stands for those keys."""

    def flat(key: str, value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any, tuple[str, ...]]]:
        if isinstance(value, dict) and keys.is_block(key):
            for name, inner in value.items():
                yield from flat(f"{key}.{name}", inner, (*path, name))
        else:
            yield key, value, path

    for key, value in options.overrides.items():
        yield from flat(key, value, ("engine", "overrides", key))


def _put(mapping: Any, steps: list[str], value: Any) -> dict[str, Any]:
    first, *rest = steps
    changed = dict(mapping or {})
    changed[first] = _put(changed.get(first), rest, value) if rest else value
    return changed


def _place(found: list[Setting], steps: tuple[str, ...]) -> int:
    """Behind the last setting that shares the longest beginning."""
    for length in range(len(steps) - 1, 0, -1):
        same = [i for i, s in enumerate(found) if s.steps[:length] == steps[:length]]
        if same:
            return same[-1] + 1
    return len(found)
