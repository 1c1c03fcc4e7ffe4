"""From a NeMo-RL GRPO configuration to a spec.

What a field stands for becomes that field. The spec is then compiled, and whatever the configuration says differently
goes to `engine.overrides` where the checks allow it; the rest is listed with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltrl.backend import Fidelity, Imported, Importing, ImportRow
from ltrl.errors import Code, Diagnostic, LtrlError, Position
from ltrl_backends.nemo_rl.config import ALL, DATASET, OVERRIDES, TRAIN, compiled, settings, validation_name
from ltrl_backends.nemo_rl.database import Database, database
from ltrl_backends.nemo_rl.fidelity import MEGATRON, VLLM
from ltrl_backends.nemo_rl.imports.interpolation import interpolated

if TYPE_CHECKING:
    from ltrl.resolve import Resolved
    from ltrl.source import Document

__all__ = ["import_config"]

FIELDS: dict[str, str] = {
    "grpo.num_prompts_per_step": "algorithm.prompts_per_step",
    "grpo.num_generations_per_prompt": "algorithm.group_size",
    "grpo.max_num_steps": "algorithm.steps",
    "grpo.seed": "algorithm.seed",
    "grpo.normalize_rewards": "algorithm.advantage.divide_by_std",
    "grpo.use_leave_one_out_baseline": "algorithm.advantage.leave_one_out",
    "grpo.advantage_clip_low": "algorithm.advantage.clip_low",
    "grpo.advantage_clip_high": "algorithm.advantage.clip_high",
    "grpo.val_period": "validation.every_steps",
    "grpo.val_at_start": "validation.at_start",
    "grpo.val_at_end": "validation.at_end",
    "loss_fn.reference_policy_kl_penalty": "algorithm.kl.coefficient",
    "loss_fn.reference_policy_kl_type": "algorithm.kl.estimator",
    "loss_fn.use_kl_in_reward": "algorithm.kl.in_reward",
    "loss_fn.ratio_clip_min": "algorithm.clip.low",
    "loss_fn.ratio_clip_max": "algorithm.clip.high",
    "loss_fn.ratio_clip_c": "algorithm.clip.dual",
    "loss_fn.force_on_policy_ratio": "algorithm.on_policy",
    "loss_fn.truncated_importance_sampling_ratio": "algorithm.importance_correction.high",
    "loss_fn.truncated_importance_sampling_ratio_min": "algorithm.importance_correction.low",
    "checkpointing.save_period": "checkpoint.every_steps",
    "checkpointing.metric_name": "checkpoint.metric",
    "checkpointing.save_optimizer": "checkpoint.save_optimizer",
    "policy.model_name": "model.base",
    "policy.hf_config_overrides": "model.overrides",
    "policy.logprob_chunk_size": "engine.logprob_chunk_size",
    "policy.max_grad_norm": "optimizer.max_grad_norm",
    f"{MEGATRON}.tensor_model_parallel_size": "parallelism.tensor",
    f"{MEGATRON}.pipeline_model_parallel_size": "parallelism.pipeline",
    f"{MEGATRON}.context_parallel_size": "parallelism.context",
    f"{MEGATRON}.expert_model_parallel_size": "parallelism.expert",
    f"{MEGATRON}.expert_tensor_parallel_size": "parallelism.expert_tensor",
    f"{MEGATRON}.optimizer.lr": "optimizer.lr",
    f"{MEGATRON}.optimizer.weight_decay": "optimizer.weight_decay",
    f"{MEGATRON}.optimizer.adam_eps": "optimizer.eps",
    f"{MEGATRON}.optimizer.clip_grad": "optimizer.max_grad_norm",
    f"{MEGATRON}.scheduler.lr_decay_style": "optimizer.schedule",
    f"{MEGATRON}.scheduler.lr_warmup_iters": "optimizer.warmup_steps",
    "policy.generation.temperature": "rollout.temperature",
    "policy.generation.top_p": "rollout.top_p",
    "policy.generation.top_k": "rollout.top_k",
    "policy.generation.stop_token_ids": "rollout.stop_token_ids",
    f"{VLLM}.tensor_parallel_size": "rollout.parallelism.tensor",
    f"{VLLM}.pipeline_parallel_size": "rollout.parallelism.pipeline",
    f"{VLLM}.expert_parallel_size": "rollout.parallelism.expert",
    f"{VLLM}.gpu_memory_utilization": "rollout.gpu_memory",
    f"{VLLM}.async_engine": "rollout.async_engine",
    "data.shuffle": "data.shuffle",
    "logger.tensorboard_enabled": "logging.tensorboard",
    "logger.num_val_samples_to_print": "logging.samples_to_print",
    "cluster.num_nodes": "cluster.nodes",
    "cluster.gpus_per_node": "cluster.gpus_per_node",
}
"""Keys whose value is that of a field."""

_PERIOD = "grpo.val_period"

NULLABLE = {
    "algorithm.clip.dual",
    "algorithm.advantage.clip_low",
    "algorithm.advantage.clip_high",
    "engine.logprob_chunk_size",
}
"""Fields to which null says something."""


def import_config(document: Document, importing: Importing) -> Imported | None:
    """The run that a configuration describes; None for a file without `policy` and `grpo`."""
    problems: list[Diagnostic] = []
    whole = _with_defaults(document, importing, problems)
    if not {"policy", "grpo"} <= set(whole.data):
        return None
    tree = interpolated(whole.data, whole.at, problems.append)
    keys = database("0.7.0")
    given = _Given(dict(_flat(tree, keys)), tree, whole, keys)
    fields = dict(_fields(given))
    resolved = _resolved(importing, fields, problems, whole)
    if resolved is None:
        return Imported(fields, tuple(_uncompared(given, fields)), tuple(problems))
    _leave_to_the_card(fields, resolved)
    rows = tuple(_compare(given, importing, fields, problems, resolved))
    return Imported(fields, rows, tuple(problems))


class _Given:
    """The configuration's keys with their values and places."""

    def __init__(self, values: dict[str, Any], tree: Mapping[str, Any], document: Document, keys: Database) -> None:
        self.values, self.tree, self.document, self.keys = values, tree, document, keys

    def __getitem__(self, key: str) -> Any:
        """The value of a key; for one of the loss that is absent, what NeMo-RL takes then."""
        if key in self.values:
            return self.values[key]
        known = self.keys.get(key) if key.startswith("loss_fn.") else None
        return known.default if known else None

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def count(self, key: str) -> int | None:
        """The whole number behind a key, if it is one."""
        value = self[key]
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def items(self) -> Iterator[tuple[str, Any]]:
        """Every key of the file."""
        return iter(self.values.items())

    def block(self, name: str) -> Any:
        """A block as nested mappings; empty where there is none."""
        place: Any = self.tree
        for step in name.split("."):
            place = place.get(step) if isinstance(place, Mapping) else None
        return {} if place is None else place

    def at(self, key: str) -> Position:
        """Where a key is written."""
        return self.document.at(tuple(key.split(".")), key=True)


def _with_defaults(document: Document, importing: Importing, problems: list[Diagnostic], depth: int = 0) -> Document:
    """The file over those that its `defaults` name; a section with `_override_: true` takes the place of theirs."""
    names = document.data.get("defaults", [])
    below: Document | None = None
    for name in [names] if isinstance(names, str) else names if isinstance(names, list) else []:
        path = Path(document.sources[0].name).parent / str(name)
        try:
            if depth > 20:
                raise LtrlError(Diagnostic(Code.EXTENDS_CYCLE, f"`{name}` leads back here"))
            parent = _with_defaults(importing.load(path), importing, problems, depth + 1)
        except LtrlError as error:
            message = f"`{name}`, whose values this file starts from, is not read: {error.diagnostics[0].message}"
            hint = "put it where the file expects it, or import what `config_cli.py expand` prints"
            problems.append(Diagnostic(Code.NOT_IMPORTED, message, document.at(("defaults",)), hint, "warning"))
        else:
            below = parent if below is None else importing.layer(below, parent)
    if below is None:
        return document
    for section, value in document.data.items():
        if isinstance(value, dict) and value.get("_override_") is True:
            below.data.pop(section, None)
    return importing.layer(below, document)


def _flat(tree: Mapping[str, Any], keys: Database, path: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of everything but the loader's own words; open blocks, data and environments stay whole."""
    for name, value in tree.items():
        key = f"{path}{name}"
        if name in ("defaults", "_override_"):
            continue
        whole = key in ("data.train", "data.validation", "data.default", "logger.wandb") or keys.open_block(key)
        if isinstance(value, Mapping) and value and (key == "env" or not whole):
            yield from _flat(value, keys, f"{key}.")
        else:
            yield key, value


def _fields(given: _Given) -> Iterator[tuple[tuple[str, ...], Any]]:
    """What the fields of a spec stand for."""
    for key, field in FIELDS.items():
        value = given[key]
        is_said = key in given or key.startswith("loss_fn.")
        is_open = isinstance(value, str) and "${" in value
        if key == _PERIOD and _is_off(value):
            value = 0
        if is_said and not is_open and (value is not None or (key in given and field in NULLABLE)):
            yield tuple(field.split(".")), value
    yield ("cluster", "executor"), "slurm"
    yield from _algorithm(given)
    yield from _lengths(given)
    yield from _engine(given)
    yield from _data(given)


def _algorithm(given: _Given) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield ("algorithm", "truncated"), "mask" if given["grpo.overlong_filtering"] else "train"
    if given["grpo.use_dynamic_sampling"]:
        block = ("algorithm", "dynamic_sampling")
        yield (*block, "max_batches"), given["grpo.dynamic_sampling_max_gen_batches"] or 10
        yield (*block, "batch_multiplier"), given["grpo.batch_multiplier"] or 1.0
    if given["grpo.async_grpo.enabled"]:
        block = ("algorithm", "asynchronous")
        yield (*block, "max_age_steps"), given["grpo.async_grpo.max_trajectory_age_steps"] or 1
        yield (*block, "in_flight_updates"), bool(given["grpo.async_grpo.in_flight_weight_updates"])
    objective = "cispo" if given["loss_fn.use_cispo"] else "reinforce" if given["loss_fn.disable_ppo_ratio"] else "clip"
    yield ("algorithm", "objective"), objective
    yield ("algorithm", "loss_aggregation"), "sequence" if given["loss_fn.token_level_loss"] is False else "token"
    yield ("algorithm", "ratio"), "sequence" if given["loss_fn.sequence_level_importance_ratios"] else "token"
    kind = given["loss_fn.truncated_importance_sampling_type"]
    corrects = given["loss_fn.use_importance_sampling_correction"]
    yield ("algorithm", "importance_correction", "kind"), (kind or "full") if corrects else "none"
    betas = [given[f"{MEGATRON}.optimizer.adam_beta{i}"] for i in (1, 2)]
    if None not in betas:
        yield ("optimizer", "betas"), betas
    if given[f"{MEGATRON}.scheduler.lr_decay_style"] not in (None, "constant"):
        yield ("optimizer", "min_lr"), given[f"{MEGATRON}.optimizer.min_lr"] or 0.0
    samples = (given.count("grpo.num_prompts_per_step") or 0) * (given.count("grpo.num_generations_per_prompt") or 0)
    if (batch := given["policy.train_global_batch_size"]) not in (None, samples):
        yield ("algorithm", "batch_size"), batch
    if (keep := given["checkpointing.keep_top_k"]) not in (None, ALL):
        yield ("checkpoint", "keep"), keep


def _is_off(period: Any) -> bool:
    """Whether NeMo-RL never measures with such a `val_period`: it asks for one above 0."""
    return isinstance(period, int | float) and period < 0


def _lengths(given: _Given) -> Iterator[tuple[tuple[str, ...], Any]]:
    total, prompt = given.count("policy.max_total_sequence_length"), given.count("data.max_input_seq_length")
    response = given.count("policy.generation.max_new_tokens")
    if total and response and response >= total:  # NeMo-RL's examples give one length to everything
        response = total - prompt if prompt and prompt < total else total // 2
    if total and response and (prompt is None or prompt + response > total):
        prompt = total - response
    for name, value in (("prompt", prompt), ("response", response)):
        if value:
            yield ("model", "context", name), value
    if total and prompt and response and total != prompt + response:
        yield ("model", "context", "total"), total


def _engine(given: _Given) -> Iterator[tuple[tuple[str, ...], Any]]:
    if given[f"{MEGATRON}.activation_checkpointing"] is False:
        yield ("engine", "recompute"), "none"
    elif given[f"{MEGATRON}.recompute_granularity"] == "selective":
        yield ("engine", "recompute"), "selective"
    if given[f"{MEGATRON}.apply_rope_fusion"] and given[f"{MEGATRON}.bias_activation_fusion"]:
        yield ("engine", "fused_kernels"), True
    if given[f"{MEGATRON}.freeze_moe_router"] is False:
        yield ("engine", "train_router"), True
    if given["policy.generation.colocated.enabled"] is False:
        yield ("rollout", "nodes"), given["policy.generation.colocated.resources.num_nodes"] or 1
    if given["env.should_log_nemo_gym_responses"] is False:
        yield ("logging", "rollouts"), True
    if given["logger.wandb_enabled"]:
        block = given.block("logger.wandb")
        wandb = {k: v for k, v in block.items() if "${" not in str(v)} if isinstance(block, Mapping) else {}
        yield ("logging", "wandb"), {k: v for k, v in wandb.items() if k in ("project", "entity")}
        if wandb.get("name"):
            yield ("name",), wandb["name"]
    last = given["checkpointing.checkpoint_must_save_by"]
    if found := re.fullmatch(r"(\d+):(\d+):(\d+):\d+", str(last)):
        days, hours, minutes = map(int, found.groups())
        yield ("cluster", "minutes"), days * 1440 + hours * 60 + minutes + 45  # engine.reserve_minutes


def _data(given: _Given) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Data and rewards that ltrl itself compiled; others are code of NeMo-RL, which no field names."""
    train = given.block("data.train")
    if isinstance(train, Mapping) and train.get("dataset_name") == DATASET:
        yield ("data", "train"), train["section"]
    sets = given.block("data.validation")
    for one in [sets] if isinstance(sets, Mapping) else sets if isinstance(sets, list) else []:
        if isinstance(one, Mapping) and one.get("dataset_name") == DATASET:
            name = str(one["task_name"]).removeprefix(validation_name(""))
            yield ("data", "validation", name), one["section"]
            yield ("validation", "samples_per_prompt"), one["repeat"]
    environment = given.block(f"env.{TRAIN}")
    if isinstance(environment, Mapping) and "reward" in environment:
        yield ("reward",), environment["reward"]
        yield ("model", "chat_format"), environment["chat_format"]


def _resolved(
    importing: Importing, fields: Mapping[tuple[str, ...], Any], problems: list[Diagnostic], document: Document
) -> Resolved | None:
    try:
        return importing.resolve(fields)
    except LtrlError as error:
        message = "the values cannot be compared with what the spec compiles to: " + error.diagnostics[0].message
        problems.append(
            Diagnostic(Code.NOT_IMPORTED, message, document.at(("policy",), key=True), "correct the spec", "warning")
        )
        return None


def _uncompared(given: _Given, fields: Mapping[tuple[str, ...], Any]) -> Iterator[ImportRow]:
    """A row for each key, with the field that it became as far as that is known without the compiled values."""
    for key, value in given.items():
        field = FIELDS.get(key, "")
        taken = fields.get(tuple(field.split(".")))
        yield ImportRow(
            _shown(key, value), "not compared", "" if taken is None else field, taken, key, position=given.at(key)
        )


def _leave_to_the_card(fields: dict[tuple[str, ...], Any], resolved: Resolved) -> None:
    """Takes away what the model card says anyway."""
    if fields.get(("model", "chat_format")) == resolved.card.chat_format:
        del fields[("model", "chat_format")]
    if tuple(fields.get(("rollout", "stop_token_ids")) or ()) == resolved.card.stop_token_ids:
        fields.pop(("rollout", "stop_token_ids"), None)


def _compare(
    given: _Given,
    importing: Importing,
    fields: dict[tuple[str, ...], Any],
    problems: list[Diagnostic],
    resolved: Resolved,
) -> Iterator[ImportRow]:
    """A row for each key; what differs from the compiled value becomes an override where that is allowed."""
    written = {setting.key: setting for setting in settings(resolved, _Sizes(resolved))}
    owners = {s.key: s.field for s in compiled(resolved, _Sizes(resolved)) if s.field and not s.derived}
    differing = {
        key: _refusal(key, given, owners, written[key].value if key in written else None)
        for key, value in given.items()
        if not (key in written and _same(written[key].value, value)) and _idle(key, value, given) is None
    }
    candidates = {key: given[key] for key, why in differing.items() if why is None}
    differing |= _refused(importing, fields, candidates, resolved)
    for key, value in given.items():
        setting, row = written.get(key), _shown(key, value)
        field = setting.field if setting else ""
        why = differing.get(key)
        if key not in differing:
            note = _idle(key, value, given) if setting is None or not _same(setting.value, value) else setting.why
            yield ImportRow(row, "exact", field, setting.value if setting else None, key, note or "", given.at(key))
        elif why is None:
            fields[(*OVERRIDES.split("."), key)] = value
            yield ImportRow(row, "exact", f"{OVERRIDES}.{key}", value, key, "", given.at(key))
        else:
            if key not in given.keys:
                near = given.keys.close(key)
                hint = f"did you mean `{near}`?" if near else "no version that is known here reads it"
                message = f"NeMo-RL does not read `{key}`"
                problems.append(Diagnostic(Code.SCRIPT_DEFECT, message, given.at(key), hint, "warning"))
            grade: Fidelity = "closest" if key in _LENGTHS else "not expressible"
            yield ImportRow(row, grade, field, None, key, why, given.at(key))


_LENGTHS = ("policy.max_total_sequence_length", "data.max_input_seq_length", "policy.generation.max_new_tokens")


def _idle(key: str, value: Any, given: _Given) -> str | None:
    """Why a key decides nothing: its block is off, or it says what its absence says too."""
    steps = key.split(".")
    for end in range(1, len(steps)):
        block = ".".join(steps[:end])
        if given.values.get(f"{block}.enabled") is False and not key.startswith("checkpointing."):
            return f"`{block}` is off: nothing reads it"
    if key in ("policy.optimizer", "policy.scheduler"):
        return "Megatron has its own: nothing reads it"
    if key.startswith("policy.generation.mcore_generation_config.") and given["policy.generation.backend"] == "vllm":
        return "vLLM samples: nothing reads it"
    if key == _PERIOD and _is_off(value):
        return "below 0 as 0: never"
    if value is None and (known := given.keys.get(key)) and known.required == "no":
        return "as when it is left out"
    return None


def _refusal(key: str, given: _Given, owners: Mapping[str, str], compiled_value: Any) -> str | None:
    """Why a key can be no override, as far as the key itself says."""
    if key not in given.keys:
        return "NeMo-RL reads no such key"
    if key.startswith(("env.", "data.")) and key not in owners.keys() - {"data.train", "data.validation"}:
        return "code of NeMo-RL's own data or environments: choose a backend for `data` and `reward`"
    if owner := next((f for k, f in owners.items() if key == k or key.startswith(f"{k}.")), None):
        return f"`{owner}` decides it, and compiles to {compiled_value!r}"
    known = given.keys.get(key)
    if known and known.written:
        return "NeMo-RL writes it itself"
    if isinstance(given[key], str) and "${" in given[key]:
        return "known only when the job runs"
    if key in ("checkpointing.checkpoint_dir", "logger.log_dir", "logger.wandb", "logger.tensorboard"):
        return "the run directory decides"
    return None


def _refused(
    importing: Importing, fields: Mapping[tuple[str, ...], Any], candidates: Mapping[str, Any], resolved: Resolved
) -> dict[str, str]:
    """The candidates for overrides that the checks refuse, with the reason: first asked for all, then one by one."""
    around = tuple(OVERRIDES.split("."))
    accepted: dict[tuple[str, ...], Any] = dict(fields)
    if _objection(importing, {**fields, **{(*around, k): v for k, v in candidates.items()}}, resolved) is None:
        return {}
    refused = {}
    for key, value in candidates.items():
        trial = {**accepted, (*around, key): value}
        why = _objection(importing, trial, resolved)
        if why is None:
            accepted = trial
        else:
            refused[key] = why
    return refused


def _objection(importing: Importing, fields: Mapping[tuple[str, ...], Any], before: Resolved) -> str | None:
    """What the checks say against a spec with more overrides that they did not say before."""
    from ltrl_backends.nemo_rl.checks import check

    try:
        resolved = importing.resolve(fields)
    except LtrlError as error:
        return error.diagnostics[0].message
    known = {d.message for d in check(before, _Sizes(before)) if d.severity == "error"}
    return next(
        (d.message for d in check(resolved, _Sizes(resolved)) if d.severity == "error" and d.message not in known), None
    )


class _Sizes:
    """The layout that a spec states; one of 1 where it leaves that to the planner."""

    def __init__(self, resolved: Resolved) -> None:
        written = resolved.spec.parallelism
        self.tp = written.tensor if written else 1
        self.pp = written.pipeline if written else 1
        self.cp = written.context if written else 1
        self.ep = written.expert if written else 1
        self.etp = written.expert_tensor if written else 1


def _same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, list | tuple) and isinstance(theirs, list | tuple):
        return sorted(map(repr, ours)) == sorted(map(repr, theirs))
    return bool(ours == theirs) and isinstance(ours, bool) == isinstance(theirs, bool)


def _shown(key: str, value: Any) -> str:
    from ltrl_backends.nemo_rl.yaml import scalar

    text = scalar(value)
    return f"{key}: {text if len(text) <= 60 else text[:57] + '…'}"
