"""The numbers that follow from a spec, on both sides: what a change costs and gains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from pydantic import ValidationError

from ltrl.backend import Choice, RewardSection, load
from ltrl.catalog import LatentAttention, ModelCard
from ltrl.diff.model import Figure, Side

__all__ = ["figures"]

Value = float | str | None


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    unit: str
    of: Callable[[Side], Value]
    meaning: str


def figures(old: Side | None, new: Side | None) -> tuple[Figure, ...]:
    """Every number that at least one side has; the epochs also where the data cannot be read.

    Of dense models alone no active parameters: they are all of them.
    """
    sides = [side for side in (old, new) if side]
    is_sparse = any(card.num_experts for side in sides if (card := _card(side)))
    found = (
        Figure(row.name, row.unit, row.of(old) if old else None, row.of(new) if new else None, row.meaning)
        for row in ROWS
        if row.of is not _active or is_sparse
    )
    of_run = any(side.plan for side in sides)
    return tuple(f for f in found if (f.old, f.new) != (None, None) or (of_run and f.name == "epochs"))


def _card(side: Side) -> ModelCard | None:
    if "model_card" not in side.resolved:
        return None
    known = {field.name for field in fields(ModelCard)}
    values = {name: value for name, value in side.resolved["model_card"].items() if name in known}
    if values.get("latent"):
        values["latent"] = LatentAttention(**values["latent"])
    return ModelCard(**values)


def _parameters(side: Side) -> Value:
    card = _card(side)
    return card.num_parameters if card else None


def _active(side: Side) -> Value:
    card = _card(side)
    return card.num_active_parameters if card else None


def _gpus(side: Side) -> Value:
    cluster = side.resolved["cluster"]
    return int(cluster["nodes"] * cluster["gpus_per_node"]) or None


def _gpu_hours(side: Side) -> Value:
    return float(round(float(_gpus(side) or 0) * side.resolved["cluster"]["minutes"] / 60, 2)) or None


def _plan(*path: str) -> Callable[[Side], Value]:
    def value(side: Side) -> Value:
        data: Any = side.plan
        for step in path:
            data = data.get(step) if isinstance(data, Mapping) else None
        found: Value = data
        return found

    return value


def _layout(side: Side) -> Value:
    layout = side.plan["layout"] if side.plan else None
    if not layout or not layout["gpus_per_node"]:
        return None
    axes = [axis for axis in ("tp", "pp", "cp", "ep", "etp") if layout[axis] > 1]
    return ", ".join(f"{axis} {layout[axis]}" for axis in axes) or "no splitting"


def _replicas(side: Side) -> Value:
    layout = side.plan["layout"] if side.plan else None
    return layout["dp"] if layout and layout["gpus_per_node"] else None


def _tokens_of_run(side: Side) -> Value:
    return side.plan["steps"] * side.plan["batches"]["max_tokens_per_step"] if side.plan else None


def _epochs(side: Side) -> Value:
    if side.plan is None or not side.num_samples:
        return None
    return float(round(side.plan["steps"] * side.plan["batches"]["prompts_per_step"] / side.num_samples, 3))


def _fullest(side: Side) -> Mapping[str, Any] | None:
    memory = side.plan["memory"] if side.plan else None
    phases = [phase for phase in memory["phases"].values() if phase["per"] == "GPU"] if memory else []
    return min(phases, key=lambda phase: phase["capacity_bytes"] - phase["total_bytes"], default=None)


def _memory(side: Side) -> Value:
    phase = _fullest(side)
    return phase["total_bytes"] if phase else None


def _concurrent(side: Side) -> Value:
    memory = side.plan["memory"] if side.plan else None
    return memory["sequences_per_engine"] * memory["num_engines"] if memory else None


def _payments(side: Side) -> Mapping[str, tuple[float, float]]:
    """Least and most that a response can get, by what it is; empty where the reward backend does not say."""
    if "spec" not in side.resolved:
        return {}
    try:
        section = Choice("reward").choose(dict(side.resolved["spec"]["reward"]))
    except ValidationError:  # of a bundle whose backend has other options now
        return {}
    assert isinstance(section, RewardSection)
    backend = load("reward", section.backend)
    return backend.payments(section) if hasattr(backend, "payments") else {}


def _pays(*kinds: str) -> Callable[[Side], Value]:
    def value(side: Side) -> Value:
        found = [ends for kind, ends in _payments(side).items() if not kinds or kind in kinds]
        if not found:
            return None
        low, high = min(low for low, _ in found), max(high for _, high in found)
        penalty = " less the KL penalty" if side.resolved["spec"]["algorithm"]["kl"]["in_reward"] else ""
        return (f"{low:g}" if low == high else f"{low:g} to {high:g}") + penalty

    return value


ROWS = (
    _Row("model parameters", "weights", _parameters, "weights that are trained"),
    _Row("active parameters", "weights", _active, "weights that one token passes through"),
    _Row("GPUs", "count", _gpus, "of one job"),
    _Row("layout", "text", _layout, "how one copy of the model is split: tensor, pipeline, context, expert"),
    _Row("data-parallel size", "count", _replicas, "copies of the model that share the work of a step"),
    _Row("responses per step", "count", _plan("batches", "samples_per_step"), "prompts times responses to each"),
    _Row("updates per step", "count", _plan("batches", "updates_per_step"), "of the weights"),
    _Row("microbatches per step", "count", _plan("microbatches", "max_per_step"), "at most, on one replica"),
    _Row("pipeline idle", "share", _plan("microbatches", "pipeline_idle"), "share of an update, at least"),
    _Row("tokens per step", "tokens", _plan("batches", "max_tokens_per_step"), "at most, were all texts full"),
    _Row("tokens per run", "tokens", _tokens_of_run, "at most, were all texts full"),
    _Row("epochs", "count", _epochs, "times that each training sample is seen"),
    _Row("wall time", "minutes", lambda side: side.resolved["cluster"]["minutes"], "of one job, at most"),
    _Row("GPU-hours requested", "hours", _gpu_hours, "of one job that uses all its time"),
    _Row(
        "training memory per GPU",
        "bytes",
        _plan("memory", "phases", "training", "total_bytes"),
        "while it trains: weights, gradients, optimizer, activations",
    ),
    _Row("peak memory per GPU", "bytes", _memory, "in the fullest phase of a step"),
    _Row(
        "headroom per GPU",
        "bytes",
        _plan("memory", "headroom_bytes_per_gpu"),
        "what is left in that phase; below 0 it does not fit",
    ),
    _Row("memory verdict", "text", _plan("memory", "verdict"), "whether it fits"),
    _Row("full responses at a time", "count", _concurrent, "of full length, that the KV caches of all engines hold"),
    _Row("memory per node", "bytes", _plan("memory", "phases", "host", "total_bytes"), "of the host, while sampling"),
    _Row("checkpoints on disk", "bytes", _plan("memory", "phases", "disk", "total_bytes"), "of the whole run"),
    _Row("reward range", "text", _pays(), "least and most that a response can get"),
    _Row("reward, right answer", "text", _pays("right"), "without and with all evidence"),
    _Row("reward, wrong answer", "text", _pays("wrong"), "without and with all evidence"),
)
