"""Counts of weights and tokens on one GPU."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ltrl.catalog import ModelCard
from ltrl.memory.model import EngineSizes, Layout, Recompute, RolloutSizes

__all__ = ["GIB", "WEIGHT_BYTES", "Job", "Stage"]

GIB = 2**30

WEIGHT_BYTES = 2
"""bf16 weights in both systems."""


@dataclass(frozen=True)
class Stage:
    """A pipeline stage, by what makes it the most loaded one."""

    first: bool
    last: bool
    in_flight: int
    """Microbatches whose activations it holds (1F1B schedule)."""

    @property
    def name(self) -> str:
        """For formulas; empty without a pipeline."""
        if self.first and self.last:
            return ""
        return "first stage: " if self.first else "last stage: "


@dataclass(frozen=True)
class Job:
    """A model, a layout and the settings with their defaults."""

    card: ModelCard
    layout: Layout
    context_total: int
    gpu_memory_gb: float
    rollout: RolloutSizes = field(default_factory=EngineSizes)
    gpu_memory_share: float = 0.7
    colocated: bool = True
    rollout_gpus: int | None = None
    recompute: Recompute = "full"
    logprob_chunk: int | None = 2048
    loss_in_chunks: bool = True
    filtered_sampling: bool = False
    fused_kernels: bool = False
    gradients_in_fp32: bool = False
    precision_aware_optimizer: bool = True
    reference_model: bool = False
    samples_per_step: int = 128
    refit_buffer_gb: float | None = None
    max_batched_tokens: int = 16384
    max_sequences: int = 1024
    host_memory_gb: float | None = None
    checkpoints_kept: int = 1
    save_optimizer: bool = True

    @property
    def capacity(self) -> int:
        """Bytes of one GPU."""
        return round(self.gpu_memory_gb * GIB)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The first stage holds the most activations, the last one the logits."""
        pp = self.layout.pp
        if pp == 1:
            return (Stage(first=True, last=True, in_flight=1),)
        return Stage(first=True, last=False, in_flight=pp), Stage(first=False, last=True, in_flight=1)

    @property
    def layers(self) -> int:
        """Layers of one stage."""
        return math.ceil(self.card.num_layers / self.layout.pp)

    def moe_layers(self, stage: Stage) -> int:
        """Mixture layers of one stage; the dense ones come first in the model."""
        dense = self.card.num_dense_layers if stage.first else self.card.num_dense_layers - self._layers_before
        return self.layers - min(self.layers, max(0, dense)) if self.card.num_experts else 0

    @property
    def _layers_before(self) -> int:
        return self.layers * (self.layout.pp - 1)

    @property
    def packed_tokens(self) -> int:
        """Tokens of a microbatch that holds one longest sequence, padded as packing asks."""
        tp, cp = self.layout.tp, self.layout.cp
        alignment = tp * (2 * cp if cp > 1 else 1)
        return math.ceil(self.context_total / alignment) * alignment

    @property
    def rank_tokens(self) -> int:
        """Tokens of that microbatch on one context-parallel rank."""
        return self.packed_tokens // self.layout.cp

    @property
    def vocab(self) -> int:
        """Columns of the output layer on one tensor-parallel rank; Megatron Bridge hardly pads them."""
        return math.ceil(self.card.vocab_size / self.layout.tp)

    def dense_parameters(self, stage: Stage) -> int:
        """Weights on one GPU that all data- and context-parallel ranks share; routed experts are apart."""
        card, tp = self.card, self.layout.tp
        moe = self.moe_layers(stage)
        split = self.layers * card.attention_parameters + (self.layers - moe) * card.mlp_parameters
        split += moe * card.shared_expert_parameters
        whole = self.layers * card.norm_parameters + moe * card.router_parameters
        matrix = self.vocab * card.hidden_size
        ends = matrix if stage.first else 0
        if stage.last:
            ends += card.hidden_size + (0 if card.tied_embeddings and stage.first else matrix)
        return math.ceil(split / tp) + whole + ends

    def expert_parameters(self, stage: Stage) -> int:
        """Weights of routed experts on one GPU."""
        share = self.card.num_experts * self.card.expert_parameters / (self.layout.ep * self.layout.etp)
        return math.ceil(self.moe_layers(stage) * share)

    def engine_parameters(self) -> int:
        """Weights on one GPU of a rollout engine; key and value heads are copied when there are fewer than ranks."""
        card, tp, pp = self.card, self.rollout.tensor, self.rollout.pipeline
        heads = card.head_dim * card.hidden_size * card.num_kv_heads
        copies = max(1, tp // card.num_kv_heads) if card.latent is None else 1
        attention = card.attention_parameters + 2 * heads * (copies - 1)
        moe = card.num_moe_layers
        split = card.num_layers * attention + (card.num_layers - moe) * card.mlp_parameters
        split += moe * card.shared_expert_parameters
        whole = card.num_layers * card.norm_parameters + moe * card.router_parameters
        experts = moe * card.num_experts * card.expert_parameters / max(tp, self.rollout.expert)
        matrices = (1 if card.tied_embeddings and pp == 1 else 2) * card.embedding_parameters / tp
        if pp > 1:
            matrices /= 2
        return math.ceil((split / tp + whole + experts) / pp + matrices + card.hidden_size)

    @property
    def gpus_per_engine(self) -> int:
        """Beyond its tensor parallel size, expert parallelism adds data parallel ranks (NeMo-RL vgen.py:123-134)."""
        tensor = self.rollout.tensor
        return tensor * self.rollout.pipeline * max(1, self.rollout.expert // tensor)

    def kv_bytes_per_token(self) -> int:
        """Of one token in the rollout engine's cache, on one GPU."""
        layers = math.ceil(self.card.num_layers / self.rollout.pipeline)
        if self.card.latent is not None:
            return layers * (self.card.latent.kv_rank + self.card.latent.rope_head_dim) * 2
        heads = math.ceil(self.card.num_kv_heads / self.rollout.tensor)
        return layers * 2 * heads * self.card.head_dim * 2

    @property
    def largest_tensor(self) -> int:
        """Bytes of the largest tensor that a refit sends whole."""
        dense = self.card.hidden_size * self.card.ffn_size
        return WEIGHT_BYTES * max(self.card.embedding_parameters, dense)
