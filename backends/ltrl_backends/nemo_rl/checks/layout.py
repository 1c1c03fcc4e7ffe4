"""Parallel sizes, and what Megatron asks of a model that is spread over GPUs."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ltrl.errors import Code
from ltrl_backends.nemo_rl.checks.rule import CP, EP, ETP, MEGATRON, PP, TP, Conf, Problem, nearest, rule, shown

LM = "nemo_rl/models/policy/lm_policy.py"
SETUP = "nemo_rl/models/megatron/setup.py"
PACKING = "policy.sequence_packing.enabled"
DYNAMIC = "policy.dynamic_batching.enabled"
DTYPES = ("float32", "bfloat16", "float16")
RECOMPUTED = ("core_attn", "moe_act", "layernorm", "mla_up_proj", "mlp", "moe", "shared_experts")
BACKENDS = ("flash", "fused", "unfused", "local", "auto")


@rule("P1", "exactly one of megatron_cfg.enabled and dtensor_cfg.enabled", f"{LM}:93 and :128")
def _(c: Conf) -> Iterator[Problem]:
    megatron, dtensor = c[f"{MEGATRON}.enabled"], c["policy.dtensor_cfg.enabled"]
    if not megatron or dtensor:
        key = "policy.dtensor_cfg.enabled" if dtensor else f"{MEGATRON}.enabled"
        yield Problem(
            c.at(key),
            f"`{MEGATRON}.enabled` {str(megatron).lower()} with `policy.dtensor_cfg.enabled` {str(dtensor).lower()}: "
            "one of the two trains, and ltrl writes Megatron's settings",
            "leave both out",
        )


@rule("P2", "a draft model is trained on Megatron without packing only", f"{LM}:98")
def _(c: Conf) -> Iterator[Problem]:
    if c["policy.draft.enabled"] and c[PACKING]:
        yield Problem(
            c.at("policy.draft.enabled"),
            f"`policy.draft.enabled` true does not go with `{PACKING}` true",
            f"`{PACKING}: false` as well, with `parallelism.context: 1`",
        )


@rule("P3", "TORCH_CUDA_ARCH_LIST is set where Megatron runs", f"{LM}:121", severity="warning")
def _(c: Conf) -> Iterator[Problem]:
    if c.cluster.container is None and "TORCH_CUDA_ARCH_LIST" not in c.cluster.environment:
        yield Problem(
            c.field("cluster.environment"),
            "outside a NeMo-RL container `TORCH_CUDA_ARCH_LIST` is not set, and Megatron stops without it",
            'add `environment: {TORCH_CUDA_ARCH_LIST: "9.0"}` to the cluster profile (8.0 for A100), or a `container`',
        )


@rule("P4", "training GPUs are a multiple of tp x pp x cp", f"{LM}:197", code=Code.LAYOUT)
def _(c: Conf) -> Iterator[Problem]:
    sizes = {TP: c.tp, PP: c.pp, CP: c.cp}
    product, gpus = c.tp * c.pp * c.cp, c.train_gpus
    if not gpus or gpus % product == 0:  # a profile without GPUs is C0
        return
    changes = []
    for key, size in sizes.items():
        others = product // size
        if choice := nearest(size, (n for n in range(1, gpus + 1) if gpus % (n * others) == 0 and _splits(c, key, n))):
            changes.append((max(choice, size) / min(choice, size), f"{c.word(key)} {choice}"))
    each = c.cluster.gpus_per_node
    fewest, now = product // math.gcd(product, each), max(1, gpus // each)
    whole = now // fewest * fewest
    if nodes := nearest(now, (n for n in (whole, whole + fewest) if n)):
        changes.append((nodes * each / gpus, f"{nodes} training nodes"))
    yield Problem(
        c.at(TP),
        f"tp {c.tp} x pp {c.pp} x cp {c.cp} = {product} GPUs hold one copy of the model; {c.gpus_of_training} are "
        + ("too few" if gpus < product else f"{gpus / product:.3g} times that, not a whole number"),
        " or ".join(text for _, text in sorted(changes)[:2]) or "`parallelism: auto`",
    )


@rule("P6", "dynamic batching: pipeline parallel size 1 and no packing", f"{LM}:282 and :319")
def _(c: Conf) -> Iterator[Problem]:
    if c[DYNAMIC] and (c[PACKING] or c.pp > 1):
        what = f"`{PACKING}` true" if c[PACKING] else c.said(PP)
        yield Problem(c.at(DYNAMIC), f"`{DYNAMIC}` true does not go with {what}", "leave it out: packing does the same")


@rule("P7", "context parallel size > 1: packing, and no linear cross-entropy fusion", f"{SETUP}:629")
def _(c: Conf) -> Iterator[Problem]:
    fusion = f"{MEGATRON}.use_linear_ce_fusion_loss"
    if c.cp > 1 and not c[PACKING]:
        yield Problem(c.at(PACKING), f"{c.said(CP)} needs packing, `{PACKING}` is false", f"leave `{PACKING}` out")
    if c.cp > 1 and c[fusion]:
        yield Problem(c.at(fusion), f"{c.said(CP)} does not go with `{fusion}` true", f"leave `{fusion}` out")


@rule("P8", "training GPUs are a multiple of etp x ep x pp", "Megatron-Core parallel_state", code=Code.LAYOUT)
def _(c: Conf) -> Iterator[Problem]:
    product, gpus = c.etp * c.ep * c.pp, c.train_gpus
    if gpus and gpus % product:
        choice = nearest(c.ep, (n for n in range(1, gpus + 1) if gpus % (c.etp * n * c.pp) == 0 and _splits(c, EP, n)))
        yield Problem(
            c.at(EP),
            f"etp {c.etp} x ep {c.ep} x pp {c.pp} = {product} GPUs hold the experts once; {c.gpus_of_training} are no "
            "multiple of that",
            f"`parallelism.expert: {choice}`" if choice else "a smaller `parallelism.expert_tensor` or `pipeline`",
        )


@rule(
    "P9",
    "the number of experts is a multiple of the expert parallel size",
    "Megatron-Core TransformerConfig",
    code=Code.LAYOUT,
)
def _(c: Conf) -> Iterator[Problem]:
    experts = c.card.num_experts
    if not experts and (c.ep > 1 or c.etp > 1):
        key = EP if c.ep > 1 else ETP
        yield Problem(
            c.at(key),
            f"`{c.card.name}` has no experts, {c.said(key)} has nothing to spread",
            f"leave {c.word(key)} out",
        )
    elif experts and experts % c.ep:
        choice = nearest(c.ep, (n for n in range(1, experts + 1) if experts % n == 0))
        yield Problem(c.at(EP), f"{experts} experts do not divide over {c.said(EP)}", f"`parallelism.expert: {choice}`")


@rule(
    "P10",
    "a mixture of experts with tensor parallel size > 1 uses sequence parallelism",
    "Megatron-Core TransformerConfig",
)
def _(c: Conf) -> Iterator[Problem]:
    key = f"{MEGATRON}.sequence_parallel"
    if c.card.num_experts and c.tp > 1 and not c[key]:
        yield Problem(
            c.at(key),
            f"`{c.card.name}` has experts and {c.said(TP)}, but `{key}` is false",
            f"leave `{key}` out: it is true then",
        )


@rule(
    "P11",
    "layers divide over the pipeline; heads and key-value heads divide over tp",
    "Megatron-Core TransformerConfig",
    code=Code.LAYOUT,
)
def _(c: Conf) -> Iterator[Problem]:
    own = {
        key: c[key]
        for end in ("first", "last")
        if c[key := f"{MEGATRON}.num_layers_in_{end}_pipeline_stage"] is not None
    }
    layers, stages = c.card.num_layers - sum(own.values()), c.pp - len(own)
    even = layers == 0 if stages == 0 else stages > 0 and layers >= stages and layers % stages == 0
    if not even or min(own.values(), default=1) < 1:
        uneven = f", {c.card.num_layers - layers} of them in stages of their own," if own else ""
        choice = nearest(c.pp, (n for n in range(1, c.card.num_layers + 1) if _splits(c, PP, n)))
        changes = [f"leave `{key}` out" for key in own]
        if choice != c.pp:
            changes.append(f"`parallelism.pipeline: {choice}`")
        yield Problem(
            c.at(next(iter(own), PP)),
            f"the {c.card.num_layers} layers of `{c.card.name}`{uneven} do not divide over {c.said(PP)}",
            " and ".join(changes),
        )
    for heads, what in ((c.card.num_heads, "attention heads"), (c.card.num_kv_heads, "key-value heads")):
        if heads % c.tp:
            choice = nearest(c.tp, (n for n in range(1, heads + 1) if _splits(c, TP, n)))
            yield Problem(
                c.at(TP),
                f"the {heads} {what} of `{c.card.name}` do not divide over {c.said(TP)}",
                f"`parallelism.tensor: {choice}`",
            )


def _splits(c: Conf, key: str, size: int) -> bool:
    """Whether the model itself allows a parallel size."""
    card = c.card
    if key == TP:
        return card.num_heads % size == 0 and card.num_kv_heads % size == 0
    if key == PP:
        return card.num_layers % size == 0
    return key != EP or (card.num_experts % size == 0 if card.num_experts else size == 1)


REPLAY = "policy.router_replay.enabled"


@rule("P12", "router replay: no virtual pipeline", "nemo_rl/models/megatron/router_replay.py:62")
def _(c: Conf) -> Iterator[Problem]:
    key = f"{MEGATRON}.virtual_pipeline_model_parallel_size"
    if c[REPLAY] and c[key] not in (None, 1):
        yield Problem(c.at(key), f"`{REPLAY}` true does not go with `{key}` {c[key]}", f"leave `{key}` out")


@rule("P13", "router replay: a model with a router", "nemo_rl/models/megatron/router_replay.py:57")
def _(c: Conf) -> Iterator[Problem]:
    if c[REPLAY] and not c.card.num_experts:
        yield Problem(
            c.at(REPLAY),
            f"`{c.card.name}` has no experts, so that there is no routing to replay",
            f"leave `{REPLAY}` out",
        )


@rule("P14", "optimizer_cpu_offload: optimizer_offload_fraction 1.0", f"{SETUP}:887")
def _(c: Conf) -> Iterator[Problem]:
    offload, share = f"{MEGATRON}.optimizer.optimizer_cpu_offload", f"{MEGATRON}.optimizer.optimizer_offload_fraction"
    if c[offload] and c[share] != 1.0:
        yield Problem(c.at(offload), f"`{offload}` true needs the fraction 1.0, it is {c[share]:g}", f"`{share}: 1.0`")


@rule("P15", "logprob_chunk_size > 0: defer_fp32_logits", f"{SETUP}:895")
def _(c: Conf) -> Iterator[Problem]:
    key, size = f"{MEGATRON}.defer_fp32_logits", c["policy.logprob_chunk_size"]
    if size and not c[key]:
        yield Problem(
            c.at(key),
            f"`engine.logprob_chunk_size` {size} needs `{key}` true",
            f"leave `{key}` out, or `logprob_chunk_size: null`",
        )


@rule("P16", "attention_backend is one of " + ", ".join(BACKENDS), f"{SETUP}:835")
def _(c: Conf) -> Iterator[Problem]:
    key = f"{MEGATRON}.attention_backend"
    if c[key] is not None and c[key] not in BACKENDS:
        yield Problem(c.at(key), f"`{key}` is `{c[key]}`", "one of " + ", ".join(f"`{b}`" for b in BACKENDS))


@rule("P17", "recompute_modules are modules that Megatron-Core can recompute", f"{SETUP}:800 (not checked there)")
def _(c: Conf) -> Iterator[Problem]:
    key = f"{MEGATRON}.recompute_modules"
    unknown = [m for m in c[key] or () if m not in RECOMPUTED]
    if unknown:
        listed = ", ".join(f"`{m}`" for m in unknown)
        yield Problem(
            c.at(key),
            f"`{key}` has {listed}, which Megatron ignores",
            "some of " + ", ".join(f"`{m}`" for m in RECOMPUTED),
        )


@rule("P18", "the optimizer's bf16 and fp16 agree with policy.precision", f"{SETUP}:948")
def _(c: Conf) -> Iterator[Problem]:
    precision, optimizer = c["policy.precision"], f"{MEGATRON}.optimizer"
    bf16, fp16 = c[f"{optimizer}.bf16"], c[f"{optimizer}.fp16"]
    aware = c[f"{optimizer}.use_precision_aware_optimizer"]
    wrong = {
        "bfloat16": aware and not bf16,
        "float16": aware and not fp16,
        "float32": bf16 or fp16,
    }
    if wrong.get(precision, False):
        keys = ("policy.precision", f"{optimizer}.bf16", f"{optimizer}.fp16")
        key = next((k for k in keys if c.is_override(k)), "policy.precision")
        right = {"bfloat16": ("true", "false"), "float16": ("false", "true"), "float32": ("false", "false")}[precision]
        yield Problem(
            c.at(key),
            f"`policy.precision` {precision} with the optimizer's bf16 {shown(bf16)} and fp16 {shown(fp16)}",
            f"`{optimizer}.bf16: {right[0]}` and `{optimizer}.fp16: {right[1]}`",
        )


@rule("P19", "precision and pipeline_dtype are " + ", ".join(DTYPES), f"{SETUP}:246 and :785 (KeyError)")
def _(c: Conf) -> Iterator[Problem]:
    for key in ("policy.precision", f"{MEGATRON}.pipeline_dtype"):
        if c[key] not in DTYPES:
            yield Problem(c.at(key), f"`{key}` is `{c[key]}`", "one of " + ", ".join(f"`{d}`" for d in DTYPES))


@rule("P20", "the warm-up is shorter than the schedule", "Megatron-Core OptimizerParamScheduler")
def _(c: Conf) -> Iterator[Problem]:
    key, warmup = f"{MEGATRON}.scheduler.lr_decay_iters", c.spec.optimizer.warmup_steps
    if c[key] is not None and warmup >= c[key]:
        yield Problem(
            c.at(key), f"`optimizer.warmup_steps` {warmup} is not less than `{key}` {c[key]}", f"leave `{key}` out"
        )
    elif warmup >= c.spec.algorithm.steps:
        yield Problem(
            c.field("optimizer.warmup_steps"),
            f"`warmup_steps` {warmup} lasts as long as the {c.spec.algorithm.steps} steps: `lr` is never reached",
            f"`warmup_steps: {max(0, c.spec.algorithm.steps // 10)}`",
        )


@rule("P29", "min_lr and lr_warmup_init are not above lr", "Megatron-Core OptimizerParamScheduler")
def _(c: Conf) -> Iterator[Problem]:
    lr = c[f"{MEGATRON}.optimizer.lr"]
    for key in (f"{MEGATRON}.optimizer.min_lr", f"{MEGATRON}.scheduler.lr_warmup_init"):
        if c[key] is not None and c[key] > lr:
            hint = f"leave {c.word(key)} out" if c.is_override(key) else "leave `optimizer.min_lr` out: it is 0 then"
            yield Problem(c.at(key), f"{c.said(key)} is above `optimizer.lr` {lr:g}", hint)


@rule("P30", "a constant learning rate has no min_lr", "ltrl: `optimizer.lr` itself is written", severity="warning")
def _(c: Conf) -> Iterator[Problem]:
    low = c.spec.optimizer.min_lr
    if c.spec.optimizer.schedule == "constant" and low is not None and low != c.spec.optimizer.lr:
        yield Problem(
            c.field("optimizer.min_lr"),
            f"`optimizer.min_lr` {low:g} is ignored: `optimizer.schedule` is `constant`",
            "`schedule: linear` or `cosine`, or leave `min_lr` out",
        )


@rule("P21", "no reward model on Megatron", f"{SETUP}:258")
def _(c: Conf) -> Iterator[Problem]:
    key = "policy.reward_model_cfg.enabled"
    if c[key]:
        yield Problem(c.at(key), f"`{key}` true: Megatron trains no reward models", "leave it out")


@rule("P22", "pretrained_checkpoint has a path and a format", f"{SETUP}:378")
def _(c: Conf) -> Iterator[Problem]:
    block = "checkpointing.pretrained_checkpoint"
    given = c[block] or {}
    lacking = [name for name in ("path", "format") if given and name not in given]
    if lacking:
        yield Problem(
            c.at(f"{block}.{next(iter(given))}"), f"`{block}` has no `{lacking[0]}`", f"add `{block}.{lacking[0]}`"
        )


YARN = (
    "factor",
    "rope_theta",
    "original_max_position_embeddings",
    "truncate",
    "beta_fast",
    "beta_slow",
    "mscale",
    "mscale_all_dim",
)


@rule("P24", "a yarn override has all of " + ", ".join(YARN), f"{SETUP}:264")
def _(c: Conf) -> Iterator[Problem]:
    scaling = (c["policy.hf_config_overrides"] or {}).get("rope_scaling") or {}
    lacking = [name for name in YARN if name not in scaling]
    if scaling.get("rope_type") == "yarn" and lacking:
        from_card = {"rope_theta": c.card.rope_theta, **dict(c.card.rope_scaling or {})}
        usual = {"truncate": "true", "beta_fast": "32", "beta_slow": "1", "mscale": "1.0", "mscale_all_dim": "1.0"}
        values = {name: usual.get(name, from_card.get(name, "…")) for name in lacking}
        yield Problem(
            c.field("model.overrides.rope_scaling"),
            "a yarn `rope_scaling` lacks " + ", ".join(f"`{name}`" for name in lacking),
            "add " + ", ".join(f"`{name}: {value}`" for name, value in values.items()),
        )


FP8 = f"{MEGATRON}.fp8_cfg"


@rule("P31", "training in fp8 has fp8, fp8_recipe and fp8_param", f"{SETUP}:870 (KeyError)")
def _(c: Conf) -> Iterator[Problem]:
    given = c[FP8] or {}
    lacking = [name for name in ("fp8", "fp8_recipe", "fp8_param") if name not in given]
    if given.get("enabled") and lacking:
        usual = {name: c.keys[f"{FP8}.{name}"].default for name in lacking}
        yield Problem(
            c.at(f"{FP8}.enabled"),
            f"`{FP8}.enabled` true needs " + ", ".join(f"`{name}`" for name in lacking),
            "add " + ", ".join(f"`{FP8}.{name}: {shown(value)}`" for name, value in usual.items()),
        )


@rule("P26", "LoRA on Megatron: dim and alpha are more than 0", f"{SETUP}:1241")
def _(c: Conf) -> Iterator[Problem]:
    block = f"{MEGATRON}.peft"
    if c[f"{block}.enabled"]:
        for name in ("dim", "alpha"):
            value = c[f"{block}.{name}"]
            if value is not None and value <= 0:
                yield Problem(
                    c.at(f"{block}.{name}"),
                    f"`{block}.{name}` is {value}",
                    f"`{block}.{name}: {8 if name == 'dim' else 32}`",
                )
