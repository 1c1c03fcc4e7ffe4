"""The loss, the advantages and the metric that checkpoints are kept by."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from ltrl_backends.nemo_rl.checks.rule import MEGATRON, PP, Conf, Problem, rule

LOSS = "nemo_rl/algorithms/loss/loss_functions.py"
KIND = "loss_fn.truncated_importance_sampling_type"
HIGH = "loss_fn.truncated_importance_sampling_ratio"
LOW = "loss_fn.truncated_importance_sampling_ratio_min"
FIELD = "algorithm.importance_correction"
USUAL = {
    "tis": "`low: 0.5` and `high: 2.0`",
    "icepop": "`low: 0.5` and `high: 2.0`",
    "seq-mask-tis": "`low: 0.999` and `high: 1.002`",
}


@rule("I3", "truncated importance sampling has an upper bound", f"{LOSS}:288")
def _(c: Conf) -> Iterator[Problem]:
    if c[KIND] is not None and c[HIGH] is None:
        yield Problem(
            c.field(f"{FIELD}.kind"), f"`{FIELD}.kind: {c[KIND]}` needs `high`", f"for example {USUAL[c[KIND]]}"
        )


@rule("I4", "its lower bound is not above its upper one", f"{LOSS}:292")
def _(c: Conf) -> Iterator[Problem]:
    if c[KIND] is not None and c[LOW] is not None and c[HIGH] is not None and c[LOW] > c[HIGH]:
        yield Problem(
            c.field(f"{FIELD}.low"),
            f"`{FIELD}.low` {c[LOW]:g} is above `high` {c[HIGH]:g}",
            f"`low: {c[HIGH]:g}` and `high: {c[LOW]:g}`",
        )


@rule("I5", "icepop and seq-mask-tis have a lower bound", f"{LOSS}:300")
def _(c: Conf) -> Iterator[Problem]:
    if c[KIND] in ("icepop", "seq-mask-tis") and c[LOW] is None:
        yield Problem(
            c.field(f"{FIELD}.kind"), f"`{FIELD}.kind: {c[KIND]}` needs `low`", f"for example {USUAL[c[KIND]]}"
        )


@rule("I6", "seq-mask-tis does not go with sequence-level ratios", f"{LOSS}:304")
def _(c: Conf) -> Iterator[Problem]:
    if c[KIND] == "seq-mask-tis" and c["loss_fn.sequence_level_importance_ratios"]:
        yield Problem(
            c.field(f"{FIELD}.kind"),
            f"`{FIELD}.kind: seq-mask-tis` corrects tokens, `algorithm.ratio: sequence` does not",
            "`kind: tis`",
        )


@rule("I7", "bounds are given only with a kind that has bounds", f"{LOSS}:603 (in the first training step)")
def _(c: Conf) -> Iterator[Problem]:
    for key, name in ((HIGH, "high"), (LOW, "low")):
        if c[KIND] is None and c[key] is not None:
            kind = c.spec.algorithm.importance_correction.kind
            yield Problem(
                c.at(key),
                f"`{FIELD}.{name}` {c[key]:g} bounds nothing with `kind: {kind}`",
                f"`kind: tis` or `icepop`, or leave `{name}` out",
            )


@rule("I8", "sequence-level ratios go with a sequence-level loss", f"{LOSS}:249")
def _(c: Conf) -> Iterator[Problem]:
    if c["loss_fn.sequence_level_importance_ratios"] and c["loss_fn.token_level_loss"]:
        yield Problem(
            c.at("loss_fn.sequence_level_importance_ratios"),
            "`algorithm.ratio: sequence` (GSPO) with `loss_aggregation: token`",
            "`loss_aggregation: sequence`",
        )


@rule("I9", "CISPO: token-level loss and ratios, no dual clip, not forced on policy", f"{LOSS}:255")
def _(c: Conf) -> Iterator[Problem]:
    if not c["loss_fn.use_cispo"]:
        return
    algorithm = c.spec.algorithm
    wrong = {
        "algorithm.on_policy": algorithm.on_policy and "`on_policy: false`",
        "algorithm.ratio": algorithm.ratio == "sequence" and "`ratio: token`",
        "algorithm.clip.dual": algorithm.clip.dual is not None and "leave `clip.dual` out",
        "algorithm.loss_aggregation": algorithm.loss_aggregation == "sequence" and "`loss_aggregation: token`",
    }
    for field, change in wrong.items():
        if change:
            yield Problem(c.field(field), f"`algorithm.objective: cispo` does not go with `{field}` as it is", change)


@rule("I12", "vLLM in fp8: importance correction", "nemo_rl/algorithms/grpo.py:999")
def _(c: Conf) -> Iterator[Problem]:
    key = "policy.generation.vllm_cfg.precision"
    if c[key] == "fp8" and not c["loss_fn.use_importance_sampling_correction"]:
        yield Problem(
            c.at(key), f"`{key}` fp8 samples with other numerics than training", f"`{FIELD}: {{kind: tis, high: 2.0}}`"
        )


@rule(
    "I13",
    "fp8 KV cache: vLLM in fp8, responses scored at the end, pipeline parallel size 1",
    "nemo_rl/algorithms/grpo.py:1003",
)
def _(c: Conf) -> Iterator[Problem]:
    key, block = "policy.generation.vllm_cfg.kv_cache_dtype", "policy.generation.vllm_cfg"
    if not str(c[key]).startswith("fp8"):
        return
    if c[f"{block}.precision"] != "fp8":
        yield Problem(
            c.at(key),
            f"`{key}` {c[key]} needs `{block}.precision` fp8, it is {c[f'{block}.precision']}",
            f"`{block}.precision: fp8`",
        )
    if c.spec.rollout.async_engine:
        yield Problem(c.at(key), f"`{key}` {c[key]} does not go with `rollout.async_engine`", "`async_engine: false`")
    if c.pp > 1:
        yield Problem(c.at(key), f"`{key}` {c[key]} does not go with {c.said(PP)}", "`parallelism.pipeline: 1`")


@rule(
    "R3",
    "reward shaping has its bounds: a coefficient in [0, 1], or buffer length, penalty >= 0 and response length",
    "nemo_rl/algorithms/reward_functions.py:70",
)
def _(c: Conf) -> Iterator[Problem]:
    block = "grpo.reward_shaping"
    if not c[f"{block}.enabled"]:
        return
    coefficient = c[f"{block}.stop_properly_penalty_coef"]
    if coefficient is not None:
        if not 0 <= coefficient <= 1:
            yield Problem(
                c.at(f"{block}.stop_properly_penalty_coef"),
                f"`{block}.stop_properly_penalty_coef` is {coefficient:g}",
                "a number from 0 to 1",
            )
        return
    for name in ("overlong_buffer_length", "overlong_buffer_penalty", "max_response_length"):
        value = c[f"{block}.{name}"]
        if value is None:
            yield Problem(
                c.at(f"{block}.enabled"), f"`{block}.enabled` true needs `{block}.{name}`", f"add `{block}.{name}`"
            )
        elif value < 0:
            yield Problem(c.at(f"{block}.{name}"), f"`{block}.{name}` is {value}", "0 or more")


@rule(
    "R4",
    "reward scaling has four bounds, and source_max > source_min",
    "nemo_rl/algorithms/grpo.py:1404 (KeyError or division by 0)",
)
def _(c: Conf) -> Iterator[Problem]:
    block = "grpo.reward_scaling"
    if not c[f"{block}.enabled"]:
        return
    bounds = {n: c[f"{block}.{n}"] for n in ("source_min", "source_max", "target_min", "target_max")}
    for name in (n for n, value in bounds.items() if value is None):
        yield Problem(
            c.at(f"{block}.enabled"), f"`{block}.enabled` true needs `{block}.{name}`", f"add `{block}.{name}`"
        )
    low, high = bounds["source_min"], bounds["source_max"]
    if low is not None and high is not None and high <= low:
        yield Problem(
            c.at(f"{block}.source_max"),
            f"`{block}.source_max` {high:g} is not above `source_min` {low:g}",
            "give the range of the rewards",
        )


@rule("R5", "penalties for tool calls and thinking tags need NeMo-Gym", "nemo_rl/algorithms/grpo.py:1510")
def _(c: Conf) -> Iterator[Problem]:
    for key in ("grpo.invalid_tool_call_advantage", "grpo.malformed_thinking_advantage"):
        if c[key] is not None:
            yield Problem(
                c.at(key),
                f"`{key}` works on NeMo-Gym's rollouts only",
                "leave it out: ill-formed responses get reward 0",
            )


TRAIN_METRICS = (
    "reward",
    "loss",
    "grad_norm",
    "token_mult_prob_error",
    "gen_kl_error",
    "approx_entropy",
    "mean_gen_tokens_per_sample",
    "truncation_rate",
)
METRIC = "checkpointing.metric_name"


@rule(
    "R6",
    "the metric that checkpoints are kept by begins with `val:` or `train:`",
    "nemo_rl/algorithms/grpo.py:2900 (at the first save)",
)
def _(c: Conf) -> Iterator[Problem]:
    name = c[METRIC]
    if name is not None and not name.startswith(("val:", "train:")):
        yield Problem(c.at(METRIC), f"`checkpoint.metric` is `{name}`", f"`val:{name}` or `train:{name}`")


@rule("R7", "that metric is measured", "nemo_rl/algorithms/grpo.py:2918 (at the first save)")
def _(c: Conf) -> Iterator[Problem]:
    name = c[METRIC] or ""
    where, colon, metric = name.partition(":")
    if not colon or where not in ("val", "train"):
        return
    if where == "val" and not c.spec.data.validation:
        yield Problem(
            c.at(METRIC),
            f"`checkpoint.metric` `{name}` needs a validation set, `data.validation` is empty",
            "add a set, or `train:reward`",
        )
        return
    measured = ("accuracy", "avg_length", *(f"{name}/accuracy" for name in c.spec.data.validation))
    known = measured if where == "val" else TRAIN_METRICS
    if metric not in known:
        close = difflib.get_close_matches(metric, known, n=1, cutoff=0.3)
        yield Problem(
            c.at(METRIC),
            f"`checkpoint.metric` `{name}` is not measured",
            f"`{where}:{(close or known)[0]}`; known are " + ", ".join(f"`{where}:{k}`" for k in known),
        )


@rule(
    "R8",
    "checkpoints kept by a `val:` metric are saved at validation steps, else they rank last and are deleted first",
    "nemo_rl/utils/checkpoint.py:286",
)
def _(c: Conf) -> Iterator[Problem]:
    save, measure, keep = c.spec.checkpoint.every_steps, c["grpo.val_period"], c.spec.checkpoint.keep
    if not str(c[METRIC]).startswith("val:") or not keep or not c.spec.data.validation:
        return
    if keep >= -(-c.spec.algorithm.steps // save):
        return  # all are kept
    if not measure:
        yield Problem(
            c.field("validation.every_steps"),
            f"`validation.every_steps` is 0, so that no checkpoint before the last has a value of `{c[METRIC]}` and "
            f"`checkpoint.keep` {keep} keeps the newest",
            f"`validation.every_steps: {save}`, or leave `checkpoint.metric` out",
        )
    elif save % measure:
        yield Problem(
            c.field("checkpoint.every_steps"),
            f"checkpoints are saved every {save} steps and `{c[METRIC]}` measured every {measure}: of those between, "
            f"which have no value, `checkpoint.keep` {keep} deletes first",
            f"`checkpoint.every_steps: {-(-save // measure) * measure}`, or `validation.every_steps: {save}`",
        )


@rule("R9", "the job's wall time leaves time to train", "nemo_rl/utils/timer.py:255")
def _(c: Conf) -> Iterator[Problem]:
    minutes, reserve = c.cluster.minutes, c.options.reserve_minutes
    key = "checkpointing.checkpoint_must_save_by"
    value = c[key]
    if c.is_override(key) and value is not None:
        parts = str(value).split(":")
        if len(parts) != 4 or not all(p.isdecimal() for p in parts):
            yield Problem(
                c.at(key), f"`{key}` is `{value}`", "days:hours:minutes:seconds, `00:23:15:00`, or leave it out"
            )
    elif minutes <= reserve:
        yield Problem(
            c.field("cluster.minutes"),
            f"of the job's {minutes} minutes `engine.reserve_minutes` {reserve} are kept for starting up and for the "
            "last checkpoint: none is left to train",
            f"`minutes: {2 * reserve}` in the cluster profile, or a smaller `reserve_minutes`",
        )


@rule(
    "N2372",
    "no optimizer_cpu_offload: the first steps act on random weights",
    "NeMo-RL pull request 2372, fixed after 0.7.0",
)
def _(c: Conf) -> Iterator[Problem]:
    key = f"{MEGATRON}.optimizer.optimizer_cpu_offload"
    if c[key]:
        yield Problem(
            c.at(key),
            f"`{key}` true starts from random weights in NeMo-RL {c.options.version}",
            "more GPUs, or leave it out",
        )


@rule("N3182", "no fuse_loss with a pipeline: it crashes", "NeMo-RL pull request 3182, fixed after 0.7.0")
def _(c: Conf) -> Iterator[Problem]:
    key = "policy.sequence_packing.fuse_loss"
    if c[key] and c.pp > 1:
        yield Problem(
            c.at(key),
            f"`{key}` true crashes with {c.said(PP)} in NeMo-RL {c.options.version}",
            "leave it out, or `parallelism.pipeline: 1`",
        )


@rule(
    "N3419", "no auxiliary loss of the router with a pipeline: it hangs", "NeMo-RL pull request 3419, fixed after 0.7.0"
)
def _(c: Conf) -> Iterator[Problem]:
    key = f"{MEGATRON}.moe_router_load_balancing_type"
    if c.card.num_experts and c[key] != "none" and c.pp > 1:
        yield Problem(
            c.at(key),
            f"`{key}` {c[key]} hangs with {c.said(PP)} in NeMo-RL {c.options.version}",
            "leave it out, or `parallelism.pipeline: 1`",
        )
