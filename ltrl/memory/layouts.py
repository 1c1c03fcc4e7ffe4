"""Which layouts Megatron accepts, which of them fit, and what to change when one does not."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Unpack

from ltrl.catalog import ModelCard
from ltrl.memory.model import EngineSizes, Layout, MemoryEstimate, Settings, Verdict
from ltrl.memory.phases import estimate

__all__ = ["Change", "obstacles", "search", "smallest_change"]


@dataclass(frozen=True, slots=True)
class Change:
    """A change after which an experiment fits."""

    what: str
    """The fields of the spec to change, each with its old and new value: `parallelism.context` 1 -> 4."""
    layout: Layout
    settings: Settings
    estimate: MemoryEstimate

    @property
    def first_field(self) -> str:
        """The first of those fields."""
        name = self.what.split("`")[1]
        return "cluster.nodes" if name == "nodes" else name


def obstacles(card: ModelCard, layout: Layout) -> tuple[str, ...]:
    """Why Megatron refuses a layout for a model, with the arithmetic; empty when it does not.

    NeMo-RL `lm_policy.py` and Megatron-Core `parallel_state`, `transformer_config`.
    """
    found: list[str] = []

    def divides(part: int, whole: int, parts: str, wholes: str) -> None:
        if whole % part:
            found.append(f"{wholes} ({whole}) is no multiple of {parts} ({part})")

    gpus, model = layout.num_gpus, layout.tp * layout.pp * layout.cp
    divides(model, gpus, f"tp {layout.tp} x pp {layout.pp} x cp {layout.cp}", "the number of GPUs")
    if gpus % model == 0 and layout.dp != gpus // model:
        found.append(f"dp is {layout.dp}, but {gpus} GPUs / {model} are {gpus // model}")
    divides(layout.pp, card.num_layers, "pp", "the number of layers")
    divides(layout.tp, card.num_heads, "tp", "the number of attention heads")
    if card.latent is None:
        divides(layout.tp, card.num_kv_heads, "tp", "the number of key and value heads")
    if card.num_experts:
        divides(layout.ep, card.num_experts, "ep", "the number of experts")
        divides(layout.etp, card.expert_ffn_size, "etp", "the inner width of an expert")
        grid = layout.etp * layout.ep * layout.pp
        divides(grid, gpus, f"etp {layout.etp} x ep {layout.ep} x pp {layout.pp}", "the number of GPUs")
    elif layout.ep * layout.etp > 1:
        found.append(f"ep {layout.ep} x etp {layout.etp} for a model without experts")
    return tuple(found)


def search(
    card: ModelCard,
    num_gpus: int,
    gpus_per_node: int,
    *,
    batch_size: int | None = None,
    **settings: Unpack[Settings],
) -> list[tuple[Layout, MemoryEstimate]]:
    """Every layout that Megatron accepts, with its estimate, best first.

    Tensor parallelism stays inside a node and etp is 1. With `batch_size`, the responses of one optimizer update,
    layouts whose dp does not divide it are left out (`Policy.train` shards a batch over dp).

    The order: layouts that fit, then tight ones, then the others by what they lack. Among equals: fewest pipeline
    stages, because with packing every microbatch of a pipeline is padded to the longest; then fewest groups (tp x cp,
    ep x etp) that cross nodes; then fewest GPUs per replica; then the smallest tp, ep and cp, by their traffic.
    """
    layouts = _layouts(card, num_gpus, gpus_per_node, batch_size)
    return sorted(((layout, estimate(card, layout, **settings)) for layout in layouts), key=_preference)


def smallest_change(
    card: ModelCard, layout: Layout, *, batch_size: int | None = None, **settings: Unpack[Settings]
) -> Change | None:
    """The smallest change after which a layout fits; none when it fits already or nothing that is tried helps.

    A layout that does not fit may become a tight one where nothing as small does better, a tight one has to fit.

    Fewest fields first, then the smallest factors, and context before tensor, expert and pipeline. Tried are every
    layout of the same GPUs, the recomputation, logits in chunks and, when generation does not fit, the rollout engine's
    share and size; then two, four and eight times the nodes with any layout; then a shorter context.
    """
    now = estimate(card, layout, **settings)
    if now.verdict == "fits":
        return None
    below = _RANK[now.verdict]
    repaired = _repair_rollout(card, layout, settings, now)
    if repaired is not None:
        base, words = repaired
        found = _same_gpus(card, layout, base, words, batch_size, below=below)
        found = found or _more_nodes(card, layout, base, words, batch_size, below=below)
        if found is not None:
            return found
    return _shorter(card, layout, settings, below)


_RANK: dict[Verdict, int] = {"fits": 0, "tight": 1, "does not fit": 2}

_AXES = {"cp": ("context", 1.0), "tp": ("tensor", 1.1), "ep": ("expert", 1.2), "pp": ("pipeline", 1.5)}
"""Name in a spec of each size, and what doubling it counts in `smallest_change`."""


def _layouts(card: ModelCard, num_gpus: int, gpus_per_node: int, batch_size: int | None) -> Iterator[Layout]:
    nodes = num_gpus // gpus_per_node
    sizes = [n for n in range(1, num_gpus + 1) if num_gpus % n == 0]
    inside = [n for n in sizes if n <= gpus_per_node]
    expert_sizes = [n for n in sizes if card.num_experts % n == 0] if card.num_experts else [1]
    for tp, pp, cp, ep in itertools.product(inside, sizes, sizes, expert_sizes):
        dp, rest = divmod(num_gpus, tp * pp * cp)
        if rest or (batch_size is not None and batch_size % dp):
            continue
        layout = Layout(tp, pp, cp, ep, 1, dp, nodes, gpus_per_node)
        if not obstacles(card, layout):
            yield layout


def _preference(found: tuple[Layout, MemoryEstimate]) -> tuple[int, ...]:
    layout, memory = found
    rank, shortage = _RANK[memory.verdict], max(0, -memory.headroom)
    across = sum(size > layout.gpus_per_node for size in (layout.tp * layout.cp, layout.ep * layout.etp))
    replica = layout.tp * layout.cp * layout.pp
    return rank, shortage, layout.pp, across, replica, layout.tp, layout.ep, layout.cp


def _repair_rollout(
    card: ModelCard, layout: Layout, settings: Settings, now: MemoryEstimate
) -> tuple[Settings, tuple[str, ...]] | None:
    """Settings under which generation fits, whatever the layout, with the words for it."""
    below = _RANK[now.verdict]
    if now.sequences_per_engine >= 1 and _RANK[now.rollout.verdict] < below:
        return settings, ()
    share, engine = settings.get("gpu_memory_share", 0.7), settings.get("rollout", EngineSizes())
    gpus = settings.get("rollout_gpus", layout.num_gpus)
    shares = [share, *(step / 20 for step in range(2, 20) if step / 20 != share)]
    tensors = [n for n in range(1, layout.gpus_per_node + 1) if card.num_heads % n == 0 and gpus % n == 0]
    tried = []
    for new_share, tensor in itertools.product(shares, sorted({engine.tensor, *tensors})):
        words = []
        size = abs(new_share - share) * 10 + abs(math.log2(tensor / engine.tensor))
        if tensor != engine.tensor:
            words.append(f"`rollout.parallelism.tensor` {engine.tensor} -> {tensor}")
        if new_share != share:
            words.append(f"`rollout.gpu_memory` {share:g} -> {new_share:g}")
        tried.append((len(words), size, tensor, new_share, tuple(words)))
    for _, _, tensor, new_share, said in sorted(tried):
        sizes = EngineSizes(tensor, engine.pipeline, engine.expert)
        changed: Settings = {**settings, "gpu_memory_share": new_share, "rollout": sizes}
        found = estimate(card, layout, **changed)
        if found.sequences_per_engine >= 1 and _RANK[found.rollout.verdict] < below:
            return changed, said
    return None


def _same_gpus(
    card: ModelCard, layout: Layout, settings: Settings, words: tuple[str, ...], batch_size: int | None, *, below: int
) -> Change | None:
    """The nearest layout on the same GPUs, with or without more recomputation and chunks."""
    variants: list[tuple[Settings, tuple[str, ...]]] = [(settings, ())]
    recompute = settings.get("recompute", "full")
    if recompute != "full":
        variants.append(({**settings, "recompute": "full"}, (f"`engine.recompute` {recompute} -> full",)))
    if settings.get("logprob_chunk", 2048) is None:
        chunk = "`engine.logprob_chunk_size` null -> 2048"
        variants += [({**changed, "logprob_chunk": 2048}, (*before, chunk)) for changed, before in tuple(variants)]
    candidates = []
    for number, other in enumerate(_layouts(card, layout.num_gpus, layout.gpus_per_node, batch_size)):
        resized, distance = _difference(layout, other)
        for changed, said in variants:
            all_words = (*words, *said, *resized)
            candidates.append((len(all_words), distance + len(said), number, other, changed, all_words))
    candidates.sort(key=lambda candidate: candidate[:3])
    for _, group in itertools.groupby(candidates, key=lambda candidate: candidate[0]):
        tight: Change | None = None
        for _, _, _, other, changed, all_words in group:
            found = estimate(card, other, **changed)
            if _RANK[found.verdict] < below:
                change = Change(", ".join(all_words), other, changed, found)
                if found.verdict == "fits":
                    return change
                tight = tight or change
        if tight is not None:
            return tight
    return None


def _difference(old: Layout, new: Layout) -> tuple[tuple[str, ...], float]:
    """The words for going from one layout to another, and how far that is."""
    words, distance = [], 0.0
    for axis, (field, weight) in _AXES.items():
        before, after = getattr(old, axis), getattr(new, axis)
        if before != after:
            words.append(f"`parallelism.{field}` {before} -> {after}")
            distance += weight * abs(math.log2(after / before))
    if old.etp != new.etp:
        words.append(f"`parallelism.expert_tensor` {old.etp} -> {new.etp}")
        distance += math.log2(old.etp)
    return tuple(words), distance


def _more_nodes(
    card: ModelCard, layout: Layout, settings: Settings, words: tuple[str, ...], batch_size: int | None, *, below: int
) -> Change | None:
    for factor in (2, 4, 8):
        nodes, gpus = layout.nodes * factor, layout.num_gpus * factor
        ranked = search(card, gpus, layout.gpus_per_node, batch_size=batch_size, **settings)
        if ranked and _RANK[ranked[0][1].verdict] < below:
            other, found = ranked[0]
            resized, _ = _difference(layout, other)
            said = (f"`nodes` of the cluster {layout.nodes} -> {nodes}", *words, *resized)
            return Change(", ".join(said), other, settings, found)
    return None


def _shorter(card: ModelCard, layout: Layout, settings: Settings, below: int) -> Change | None:
    """The longest context in steps of 4096 tokens that fits on the same layout."""
    if obstacles(card, layout):
        return None
    old = settings["context_total"]
    low, high = 0, math.ceil(old / 4096)  # in steps; `low` fits, `high` does not
    best: Change | None = None
    while high - low > 1:
        middle = (low + high) // 2
        changed: Settings = {**settings, "context_total": middle * 4096}
        found = estimate(card, layout, **changed)
        if _RANK[found.verdict] < below:
            low, best = middle, Change(f"`model.context` {old:,} -> {middle * 4096:,} tokens", layout, changed, found)
        else:
            high = middle
    return best
