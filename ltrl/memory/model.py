"""What the arithmetic takes and what it gives back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol, Required, TypedDict

__all__ = [
    "EngineSettings",
    "EngineSizes",
    "Layout",
    "MemoryEstimate",
    "Phase",
    "Recompute",
    "RolloutSizes",
    "Settings",
    "Term",
    "Verdict",
]

Recompute = Literal["full", "selective", "none"]
Verdict = Literal["fits", "tight", "does not fit"]


@dataclass(frozen=True, slots=True)
class Layout:
    """How the trained model is spread over GPUs."""

    tp: int
    """Tensor parallel size; the sequence dimension is split over it too (sequence parallel)."""
    pp: int
    """Pipeline parallel size."""
    cp: int
    """Context parallel size."""
    ep: int
    """Expert parallel size; it folds over tp, cp and dp."""
    etp: int
    """Tensor parallel size inside an expert."""
    dp: int
    """Data parallel size: GPUs / (tp x pp x cp)."""
    nodes: int
    gpus_per_node: int

    @property
    def num_gpus(self) -> int:
        """GPUs that train."""
        return self.nodes * self.gpus_per_node

    @property
    def expert_dp(self) -> int:
        """Replicas of each expert: GPUs / (etp x ep x pp)."""
        return max(1, self.num_gpus // (self.etp * self.ep * self.pp))


class RolloutSizes(Protocol):
    """GPUs of one rollout engine; `ltrl.spec.RolloutParallelism` is one."""

    @property
    def tensor(self) -> int:
        """Tensor parallel size."""

    @property
    def pipeline(self) -> int:
        """Pipeline parallel size."""

    @property
    def expert(self) -> int:
        """Expert parallel size."""


@dataclass(frozen=True, slots=True)
class EngineSizes:
    """The plain `RolloutSizes`."""

    tensor: int = 1
    pipeline: int = 1
    expert: int = 1


class EngineSettings(TypedDict, total=False):
    """What of a training system's own options decides the memory."""

    recompute: Recompute
    """Activation checkpointing: `full` (uniform, 1 layer; the default), `selective` (core attention) or `none`."""
    logprob_chunk: int | None
    """Tokens whose logits are cast to fp32 at a time; none casts all at once; by default 2048."""
    loss_in_chunks: bool
    """The training loss casts its logits in those chunks too; by default it does."""
    fused_kernels: bool
    """`bias_activation_fusion`, which saves one activation of a feed-forward layer less; by default it is off."""
    gradients_in_fp32: bool
    """`grad_reduce_in_fp32`; NeMo-RL's default is false."""
    precision_aware_optimizer: bool
    """`use_precision_aware_optimizer`; NeMo-RL's default is true."""
    refit_buffer_gb: float | None
    """Fixed `refit_buffer_size_gb`; by default NeMo-RL takes 30 % of what is free."""
    max_batched_tokens: int
    """vLLM's `max_num_batched_tokens`; by default 16384, its default for offline use on an 80 GiB GPU."""
    max_sequences: int
    """vLLM's `max_num_seqs`; by default 1024, likewise."""


class Settings(EngineSettings, total=False):
    """What besides model and layout decides the memory."""

    context_total: Required[int]
    """Longest sequence, prompt and response, in tokens."""
    gpu_memory_gb: Required[float]
    """Memory of one GPU, in GiB."""
    rollout: RolloutSizes
    """GPUs of one rollout engine; by default one."""
    gpu_memory_share: float
    """Share of a GPU that the rollout engine takes for weights, activations and KV cache; by default 0.7."""
    colocated: bool
    """Training and generation take turns on the same GPUs; by default they do."""
    rollout_gpus: int
    """GPUs that generate; by default those that train."""
    filtered_sampling: bool
    """top_p below 1 or top_k set: the training loss then ignores `logprob_chunk`."""
    reference_model: bool
    """A KL penalty keeps the start model in host memory."""
    samples_per_step: int
    """Responses of one step; by default 128."""
    host_memory_gb: float | None
    """Memory of a node, in GiB, when known."""
    checkpoints_kept: int
    """Checkpoints on disk at the same time; by default 1."""
    save_optimizer: bool
    """Checkpoints hold the optimizer's state; by default they do."""


@dataclass(frozen=True, slots=True)
class Term:
    """One use of memory."""

    name: str
    bytes: int
    formula: str
    """The arithmetic with the user's numbers."""
    source: str
    """Where the formula or its constants come from."""
    spread: float = 0.0
    """By which share it may be wrong, in either direction."""


@dataclass(frozen=True, slots=True)
class Phase:
    """What is in memory at the same time."""

    name: str
    """`training`, `logprob`, `refit`, `rollout`, `host` or `disk`."""
    per: str
    """What the bytes are counted for: `GPU`, `node` or `run`."""
    terms: tuple[Term, ...]
    capacity: int | None
    """Bytes that there are; none when not known."""

    @property
    def total(self) -> int:
        """Bytes needed: the sum of the terms."""
        return sum(term.bytes for term in self.terms)

    @property
    def band(self) -> tuple[int, int]:
        """Lower and upper end of the total when all terms err in the same direction."""
        slack = sum(term.bytes * term.spread for term in self.terms)
        return math.floor(self.total - slack), math.ceil(self.total + slack)

    @property
    def headroom(self) -> int | None:
        """Bytes that remain; negative when it does not fit, none when the capacity is not known."""
        return None if self.capacity is None else self.capacity - self.total

    @property
    def verdict(self) -> Verdict:
        """Whether the total fits, and whether the upper end of the band does too."""
        if self.capacity is None or self.band[1] <= self.capacity:
            return "fits"
        return "tight" if self.total <= self.capacity else "does not fit"


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Memory of one experiment on one layout."""

    layout: Layout
    training: Phase
    """Forward and backward of the longest microbatch, then the optimizer."""
    logprob: Phase
    """Forward only, for the log-probabilities before the update."""
    refit: Phase
    """Weights pass from Megatron to vLLM."""
    rollout: Phase
    """Generation."""
    host: Phase
    """Memory of a node while its GPUs generate."""
    disk: Phase
    """Checkpoints of the whole run."""
    num_engines: int
    """Rollout engines at work at the same time."""
    kv_bytes_per_token: int
    """Of one token in the KV cache, on one GPU of an engine."""
    kv_tokens: int
    """Tokens that the KV cache of one engine holds."""
    sequences_per_engine: int
    """Full-length sequences that one engine can hold at the same time; with none vLLM refuses to start."""

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The phases of a step that need GPU memory, in the order in which a step has them."""
        return self.rollout, self.logprob, self.training, self.refit

    @property
    def worst(self) -> Phase:
        """The GPU phase with the least headroom."""
        return min(self.phases, key=lambda phase: (phase.headroom or 0, phase.name))

    @property
    def headroom(self) -> int:
        """Bytes per GPU that remain in the worst phase; negative when it does not fit."""
        return self.worst.headroom or 0

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of a GPU phase and of the node's memory; no full-length sequence does not fit either."""
        found = {phase.verdict for phase in (*self.phases, self.host)}
        if "does not fit" in found or self.sequences_per_engine < 1:
            return "does not fit"
        return "tight" if "tight" in found else "fits"

    @property
    def fits(self) -> bool:
        """The middle value of every phase fits."""
        return self.verdict != "does not fit"
