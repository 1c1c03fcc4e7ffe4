"""Flags of slime whose words need a look of their own, or that say something together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from ltrl.backend import ImportRow
from ltrl_backends.nemo_rl.config import OVERRIDES
from ltrl_backends.nemo_rl.fidelity import CORRECTION
from ltrl_backends.nemo_rl.imports.flags import FLAGS, RUN_DIRECTORY, number
from ltrl_backends.nemo_rl.imports.uses import Use

if TYPE_CHECKING:
    from ltrl_backends.nemo_rl.imports.script import Reader

__all__ = ["BY_HAND", "field_path"]


def field_path(field: str) -> tuple[str, ...]:
    """The steps of a field's dotted path; a key of `engine.overrides` is one step."""
    if field.startswith(f"{OVERRIDES}."):
        return (*OVERRIDES.split("."), field.removeprefix(f"{OVERRIDES}."))
    return tuple(field.split("."))


def _model(reader: Reader, use: Use) -> None:
    tail = PurePosixPath(use.value).name
    named = [name for name in reader.importing.models if name in (use.value, tail) or name.rpartition("/")[2] == tail]
    if use.value in named or not named:
        reader.note(use, "model.base", use.value, "policy.model_name", "exact")
    else:
        note = "the directory is on the cluster; this is the published model of its name"
        reader.note(use, "model.base", named[0], "policy.model_name", "closest", note)


def _data(reader: Reader, use: Use) -> None:
    value = {"backend": "longtrace", "path": use.value}
    note = "read in LongTraceRL's schema; another backend reads another"
    reader.note(use, "data.train", value, "data.train", "closest", note)


def _evaluation(reader: Reader, use: Use) -> None:
    pairs = list(zip(use.words[::2], use.words[1::2], strict=False))
    if len(use.words) % 2:
        reader.unknown(use, "`--eval-prompt-data` takes names and paths in turn", "data.validation")
        return
    sets = {word.text.lower().replace(" ", "-"): {"backend": "longtrace", "path": path.text} for word, path in pairs}
    for name, value in sets.items():
        reader.fields[("data", "validation", name)] = value
    reader.rows.append(
        ImportRow(use.text, "closest", "data.validation", sets, "data.validation",
                  "read in LongTraceRL's schema; another backend reads another", use.position)
    )  # fmt: skip


def _estimator(reader: Reader, use: Use) -> None:
    match use.value:
        case "grpo":
            reader.note(use, "algorithm.name", "grpo", "grpo.adv_estimator.name")
        case "gspo":
            reader.note(use, "algorithm.ratio", "sequence", "loss_fn.sequence_level_importance_ratios")
        case _:
            reader.unknown(use, f"the advantage estimator `{use.value}` is not known here", "algorithm")


def _correction(reader: Reader, use: Use) -> None:
    path = reader.last.get("--custom-tis-function-path")
    kind = "icepop" if path and "icepop" in path.value else "tis"
    known = path is None or kind == "icepop"
    note = "" if known else f"`{path.value if path else ''}` is code of its own; plain truncation is taken"
    key = "loss_fn.truncated_importance_sampling_type"
    reader.note(use, f"{CORRECTION}.kind", kind, key, "exact" if known else "closest", note)
    if not reader.has("--tis-clip"):
        reader.fields[field_path(f"{CORRECTION}.high")] = 2.0  # slime's default
    if path:
        reader.note(path, f"{CORRECTION}.kind", kind, key, "exact" if known else "closest", note)


def _penalty(reader: Reader, use: Use) -> None:
    is_loss = reader.has("--use-kl-loss") and use.name == "--kl-loss-coef"
    is_reward = use.name == "--kl-coef"
    value = number(use.value)
    key = "loss_fn.reference_policy_kl_penalty"
    if value == 0 or not (is_loss or is_reward):
        reader.note(use, "algorithm.kl.coefficient", None, key, "exact", "no penalty, no reference model")
    else:
        reader.note(use, "algorithm.kl.coefficient", value, key)
        if is_reward:
            reader.fields[field_path("algorithm.kl.in_reward")] = True


def _entropy(reader: Reader, use: Use) -> None:
    row = FLAGS["--entropy-coef"]
    same = number(use.value) == 0
    note = "nothing to express at 0" if same else row.note
    reader.note(use, grade="exact" if same else "not expressible", note=note)


def _beta(reader: Reader, use: Use) -> None:
    which = 0 if use.name.endswith("1") else 1
    betas = list(reader.fields.get(("optimizer", "betas"), (0.9, 0.999)))  # Megatron's defaults
    betas[which] = number(use.value)
    reader.note(use, "optimizer.betas", betas, f"policy.megatron_cfg.optimizer.adam_beta{which + 1}")


def _eval_sampling(reader: Reader, use: Use) -> None:
    training = reader.last.get(use.name.replace("--eval-", "--rollout-"))
    same = training is not None and training.value == use.value
    field = {"--eval-max-response-len": "model.context", "--eval-max-context-len": "model.context"}.get(
        use.name, use.name.replace("--eval-", "rollout.").replace("-", "_")
    )
    note = "" if same else FLAGS["--eval-temperature"].note
    if use.name.endswith("-len"):
        note = "" if same else "one set of lengths serves training and validation"
    reader.note(use, field, None, "", "exact" if same else "not expressible", note)


def _wandb(reader: Reader, use: Use) -> None:
    project = reader.last.get("--wandb-project")
    team = reader.last.get("--wandb-team")
    match use.name:
        case "--use-wandb":
            reader.note(use, "logging.wandb.project", project.value if project else "slime", "logger.wandb_enabled")
        case "--wandb-project":
            reader.note(
                use, "logging.wandb.project", use.value if reader.has("--use-wandb") else None, "logger.wandb.project"
            )
        case "--wandb-team" if team:
            reader.note(
                use, "logging.wandb.entity", use.value if reader.has("--use-wandb") else None, "logger.wandb.entity"
            )
        case "--wandb-key":
            note = "the job reads WANDB_API_KEY from its environment; a key is no argument"
            shown = Use(use.name, (), use.position)  # never the key itself
            reader.note(shown, "cluster.environment.WANDB_API_KEY", "${env:WANDB_API_KEY}", "", "closest", note)
        case "--wandb-host":
            note = "W&B reads its host from the environment"
            reader.note(use, "cluster.environment.WANDB_BASE_URL", use.value, "", "closest", note)
        case "--wandb-group" | "--wandb-name":
            reader.note(use, "name", None, "logger.wandb.name", "closest", "the run has the spec's name")
        case _:
            reader.note(use, grade="not expressible", note="the run has the spec's name")


def _tokens_per_gpu(reader: Reader, use: Use) -> None:
    row = FLAGS[use.name]
    note = row.note if use.name != "--max-tokens-per-gpu" else "a bin of packed sequences is one full sequence here"
    reader.note(use, "", None, row.key, "closest", note)


def _dynamic(reader: Reader, use: Use) -> None:
    note = "a group whose rewards are all the same is replaced; slime's filters may say otherwise"
    reader.note(use, "algorithm.dynamic_sampling.max_batches", 10, "grpo.use_dynamic_sampling", "closest", note)


def _stop_tokens(reader: Reader, use: Use) -> None:
    ids = [number(word.text) for word in use.words]
    reader.note(use, "rollout.stop_token_ids", ids, "policy.generation.stop_token_ids")


def _switch(field: str, value: Any, key: str) -> Callable[[Reader, Use], None]:
    return lambda reader, use: reader.note(use, field, value, key)


def _engine_experts(reader: Reader, use: Use) -> None:
    row = FLAGS["--sglang-ep-size"]
    reader.note(use, row.field, None, row.key, row.grade if number(use.value) != 1 else "exact", row.note)


BY_HAND: Mapping[str, Callable[[Reader, Use], None]] = {
    "--hf-checkpoint": _model,
    "--prompt-data": _data,
    "--eval-prompt-data": _evaluation,
    "--advantage-estimator": _estimator,
    "--use-tis": _correction,
    "--kl-loss-coef": _penalty,
    "--kl-coef": _penalty,
    "--use-kl-loss": lambda reader, use: reader.note(
        use, "algorithm.kl.coefficient", None, "loss_fn.reference_policy_kl_penalty", "exact", "see --kl-loss-coef"
    ),
    "--entropy-coef": _entropy,
    "--adam-beta1": _beta,
    "--adam-beta2": _beta,
    "--eval-temperature": _eval_sampling,
    "--eval-top-p": _eval_sampling,
    "--eval-top-k": _eval_sampling,
    "--eval-max-response-len": _eval_sampling,
    "--eval-max-context-len": _eval_sampling,
    "--use-wandb": _wandb,
    "--wandb-project": _wandb,
    "--wandb-team": _wandb,
    "--wandb-group": _wandb,
    "--wandb-name": _wandb,
    "--wandb-key": _wandb,
    "--wandb-host": _wandb,
    "--disable-wandb-random-suffix": _wandb,
    "--use-dynamic-batch-size": _tokens_per_gpu,
    "--max-tokens-per-gpu": _tokens_per_gpu,
    "--dynamic-sampling-filter-path": _dynamic,
    "--rollout-stop-token-ids": _stop_tokens,
    "--calculate-per-token-loss": _switch("algorithm.loss_aggregation", "token", "loss_fn.token_level_loss"),
    "--rollout-shuffle": _switch("data.shuffle", True, "data.shuffle"),
    "--sequence-parallel": _switch("", None, "policy.megatron_cfg.sequence_parallel"),
    "--moe-permute-fusion": _switch("", None, "policy.megatron_cfg.moe_permute_fusion"),
    "--colocate": _switch("rollout.nodes", None, "policy.generation.colocated.enabled"),
    "--offload": _switch("rollout.nodes", None, "policy.generation.colocated.enabled"),
    "--sglang-ep-size": _engine_experts,
    "--sglang-expert-parallel-size": _engine_experts,
    "--save": lambda reader, use: reader.note(use, "", None, "checkpointing.checkpoint_dir", "closest", RUN_DIRECTORY),
}
