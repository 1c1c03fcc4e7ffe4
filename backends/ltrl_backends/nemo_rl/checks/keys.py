"""Overrides against the key database, and what a model card tells."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ltrl_backends.nemo_rl.checks.rule import Conf, Problem, rule, shown
from ltrl_backends.nemo_rl.config import Setting, compiled
from ltrl_backends.nemo_rl.database import database, fits, versions


@rule(
    "K1",
    "an override is a key that NeMo-RL knows",
    'nemo_rl/algorithms/grpo.py:236 (`extra="allow"`: a misspelt key is silent)',
)
def _(c: Conf) -> Iterator[Problem]:
    for key, _, path in c.overrides():
        if key in c.keys or _elsewhere(c, key):
            continue
        close = c.keys.close(key)
        yield Problem(
            c.resolved.document.at(path, key=True),
            f"NeMo-RL {c.options.version} has no key `{key}`",
            (f"did you mean `{close}`? " if close else "")
            + "NeMo-RL itself would accept it silently and never read it",
        )


@rule("K2", "a key exists in the version that runs", "keys of the versions that ltrl knows")
def _(c: Conf) -> Iterator[Problem]:
    for key, _, path in c.overrides():
        if key not in c.keys and (others := _elsewhere(c, key)):
            yield Problem(c.resolved.document.at(path, key=True), *_absent(c, f"`{key}`", key, others))
    for setting in c.settings:
        if not c.is_override(setting.key) and setting.key not in c.keys and (others := _elsewhere(c, setting.key)):
            name = f"`{setting.field}` {_worth(c, setting)} is `{setting.key}` {shown(setting.value)}, which"
            yield Problem(c.field(setting.field or "engine.version"), *_absent(c, name, setting.key, others))


def _worth(c: Conf, setting: Setting) -> str:
    value: Any = c.spec
    for step in setting.field.split("."):
        value = getattr(value, step, setting.value)
    return shown(value)


def _elsewhere(c: Conf, key: str) -> list[str]:
    return [v for v in versions() if v != c.options.version and key in database(v)]


def _absent(c: Conf, name: str, key: str, others: list[str]) -> tuple[str, str]:
    renamed = RENAMED.get(key)
    verb = "NeMo-RL" if name.endswith("which") else "is a key of NeMo-RL"
    listed = " and ".join(others)
    if verb == "NeMo-RL":
        message = f"{name} NeMo-RL {c.options.version} does not have; {listed} has it"
    else:
        message = f"{name} {verb} {listed}, not of {c.options.version}"
    return message, f"use `{renamed}`" if renamed else f"`engine.version: {others[-1]}`, or leave it out"


RENAMED: dict[str, str] = {}
"""Keys that another version calls differently; none between 0.6.0 and 0.7.0."""


@rule("K3", "a key that a field of the spec stands for is set there", "ltrl: one place for each decision")
def _(c: Conf) -> Iterator[Problem]:
    owners = {s.key: s.field for s in compiled(c.resolved, c.sizes) if s.field and not s.derived}
    for key, _, path in c.overrides():
        steps = key.split(".")
        owner = next((o for end in range(len(steps), 0, -1) if (o := owners.get(".".join(steps[:end])))), None)
        if owner:
            yield Problem(
                c.resolved.document.at(path, key=True), f"`{key}` is the field `{owner}` of a spec", f"set `{owner}`"
            )


@rule(
    "K4",
    "a key that NeMo-RL writes itself is left alone",
    "nemo_rl/models/generation/__init__.py, nemo_rl/algorithms/grpo.py",
)
def _(c: Conf) -> Iterator[Problem]:
    for key, _, path in c.overrides():
        known = c.keys.get(key)
        if known and known.written and known.required == "no" and key not in SETTABLE:
            yield Problem(c.resolved.document.at(path, key=True), f"NeMo-RL overwrites `{key}`", "leave it out")


SETTABLE = {"policy.megatron_cfg.env_vars"}
"""Written only to add to what is there."""


@rule("K5", "a value has the key's type", "NeMo-RL's annotations; pydantic checks some, the rest fail in the worker")
def _(c: Conf) -> Iterator[Problem]:
    for key, value, path in c.overrides():
        known = c.keys.get(key)
        if any(setting.key.startswith(f"{key}.") for setting in c.settings):
            message = f"`{key}` is {shown(value)}, NeMo-RL has a section there"
            yield Problem(c.resolved.document.at(path), message, f"name the keys in it: `{key}.…`")
        if known and not fits(value, known.type):
            yield Problem(
                c.resolved.document.at(path),
                f"`{key}` is {shown(value)}, NeMo-RL expects `{known.type}`",
                f"a value of type `{known.type}`",
            )


@rule("K6", "a block that is on has the keys it needs", "nemo_rl/algorithms/grpo.py:236 and wherever the key is read")
def _(c: Conf) -> Iterator[Problem]:
    present = set(leaves(c.settings))
    for key, known in c.keys.missing(present):
        block = key.rpartition(".")[0]
        if (c.sizes is None and key in LAYOUT_KEYS) or block in CHECKED_CLOSELY:
            continue
        reason = f", read at {known.read[0]}" if known.read else ""
        default = f"`{key}: {shown(known.default)}`" if known.default is not None else f"`{key}`"
        yield Problem(
            c.at(key),
            f"`{block}` needs the key `{key}` of type `{known.type}`{reason}",
            f"add {default} to `engine.overrides`",
        )


CHECKED_CLOSELY = {"grpo.reward_shaping", "grpo.reward_scaling", "checkpointing.pretrained_checkpoint"}
"""Blocks with a rule of their own: what they need depends on what else is given."""
LAYOUT_KEYS = {
    *(
        f"policy.megatron_cfg.{name}_parallel_size"
        for name in ("tensor_model", "pipeline_model", "context", "expert_model", "expert_tensor")
    ),
    "policy.megatron_cfg.sequence_parallel",
    "policy.make_sequence_length_divisible_by",
    "policy.sequence_packing.train_mb_tokens",
    "policy.sequence_packing.logprob_mb_tokens",
}


def leaves(found: list[Setting]) -> Iterator[str]:
    """Every key and block of a configuration; for what is on or absent also `key=true` or `key=null`."""
    for setting in found:
        steps = setting.steps
        yield from (".".join(steps[:end]) for end in range(1, len(steps) + 1))
        if setting.value is None or setting.value is True:
            yield f"{setting.key}={shown(setting.value)}"
        if isinstance(setting.value, dict):
            yield from (f"{setting.key}.{name}" for name in setting.value)


@rule(
    "M1",
    "rollouts and training scale the rotary embedding alike",
    "Megatron-Bridge model_bridge.py (does not read attn_factor), vLLM YaRNScalingRotaryEmbedding (does)",
)
def _(c: Conf) -> Iterator[Problem]:
    scaling = dict(c.card.rope_scaling or {})
    factor = {"attn_factor", "attention_factor"} & scaling.keys()
    if factor and "rope_scaling" not in c.spec.model.overrides:
        name = sorted(factor)[0]
        yield Problem(
            c.field("model.base"),
            f"`{c.card.name}` scales attention by its config's `{name}` {scaling[name]:g}; vLLM applies it, Megatron's "
            "import drops it, so that training and rollouts would disagree on every token",
            "give `model.overrides.rope_scaling` with all yarn keys and `mscale: 1.0`, `mscale_all_dim: 1.0`; "
            "specs/deepseek8b.yaml shows how",
        )


@rule("M2", "a model's revision is part of what is loaded", "nemo_rl/models/policy/__init__.py:493 (no key for it)")
def _(c: Conf) -> Iterator[Problem]:
    if c.spec.model.revision is not None:
        yield Problem(
            c.field("model.revision"),
            f"NeMo-RL has no key for a revision, `{c.spec.model.revision}` would be ignored",
            f"`hf download {c.spec.model.base} --revision {c.spec.model.revision} --local-dir DIR`, then `base: DIR`",
        )


@rule("M3", "the model has weights to load", "nemo_rl/models/megatron/community_import.py")
def _(c: Conf) -> Iterator[Problem]:
    if c.card.engine_made:
        yield Problem(
            c.field("model.base"),
            f"`{c.card.name}` is made by the embedded engine, there is nothing to load",
            "`engine: local`",
        )
