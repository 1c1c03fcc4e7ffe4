"""Activations of the longest microbatch: what stays until the backward pass, and what passes."""

from __future__ import annotations

import math

from ltrl.memory.model import Term
from ltrl.memory.sizes import Job, Stage

__all__ = ["kept", "passing", "rotary"]

MOE_IMBALANCE = 2.0
"""Tokens of the busiest expert rank over the mean; the router is not balanced during GRPO."""

_SAVED = "tensors saved for backward, arXiv:2205.05198 section 4 for gated feed-forward and flash attention"
_LOGPROBS = "NeMo-RL v0.7.0 distributed/model_utils.py"
_WHOLE_LOSS = "NeMo-RL v0.6.0 algorithms/loss/utils.py, which takes no chunks"


def kept(job: Job, stage: Stage) -> Term:
    """What stays from the forward pass of each layer until its backward pass."""
    tokens = job.rank_tokens / job.layout.tp
    moe = job.moe_layers(stage)
    if job.recompute == "full":
        size = 2 * job.card.hidden_size
        per_stage = job.layers * size
        per_layer = f"{job.layers} layers x {job.card.hidden_size} x 2 B"
        name = "layer inputs kept for recomputation"
    else:
        dense, mixture = _saved_per_token(job, moe=False), _saved_per_token(job, moe=True)
        per_stage = math.ceil((job.layers - moe) * dense + moe * mixture)
        per_layer = f"{job.layers} layers, {per_stage // job.layers:,} B each"
        name = "activations kept for backward"
    total = math.ceil(tokens * per_stage) * stage.in_flight
    formula = (
        f"{stage.name}{job.packed_tokens:,} tokens / (cp {job.layout.cp} x tp {job.layout.tp})"
        f" x {per_layer} x {stage.in_flight} in flight"
    )
    return Term(name, total, formula, _SAVED, 0.05 if job.recompute == "full" else 0.25)


def passing(job: Job, stage: Stage, *, backward: bool) -> Term:
    """The larger of one layer at work and the logits; they are never needed at the same time."""
    layer, logits = _layer(job, stage, backward=backward), _logits(job, stage, backward=backward)
    return max(layer, logits, key=lambda term: term.bytes)


def rotary(job: Job) -> Term:
    """Sines and cosines of every position of the microbatch."""
    width = job.card.latent.rope_head_dim if job.card.latent else job.card.head_dim
    total = job.packed_tokens * width * 8
    formula = f"{job.packed_tokens:,} tokens x {width} x (fp32 angles 4 B + bf16 sine and cosine 4 B)"
    return Term("rotary tables", total, formula, "Megatron-Core rotary_pos_embedding.py", 0.25)


def _saved_per_token(job: Job, *, moe: bool) -> float:
    """Bytes that one layer saves for backward per token, before sequence and tensor parallelism split them."""
    card = job.card
    queries, keys, values, outputs = _attention_widths(job)
    saved = 8.0 * card.hidden_size  # input and output of both norms
    saved += 2 * (queries + keys + values) + 2 * outputs
    if job.recompute != "selective":
        saved += 4 * card.num_heads  # softmax statistics, all that recomputing flash attention can spare
    if card.qk_norm:
        saved += 2 * (queries + keys)
    if card.latent is not None:
        saved += 4 * ((card.latent.query_rank or 0) + card.latent.kv_rank + card.latent.rope_head_dim)
    inner = 6 if job.fused_kernels else 8  # gate, up and their product; unfused, also the gate's activation
    if not moe:
        return saved + inner * card.ffn_size
    copies = card.experts_per_token * MOE_IMBALANCE
    routed = copies * (4 * card.hidden_size * job.layout.etp + inner * card.expert_ffn_size)
    router = 20 * card.num_experts  # fp64 logits and scores, fp32 probabilities
    return saved + routed + inner * card.shared_expert_ffn_size + router


def _attention_widths(job: Job) -> tuple[int, int, int, int]:
    """Elements of queries, keys, values and outputs per token."""
    card = job.card
    value_head = card.latent.value_head_dim if card.latent else card.head_dim
    kv_heads = card.num_heads if card.latent else card.num_kv_heads
    return (
        card.num_heads * card.head_dim,
        kv_heads * card.head_dim,
        kv_heads * value_head,
        card.num_heads * value_head,
    )


def _layer(job: Job, stage: Stage, *, backward: bool) -> Term:
    """One layer at work."""
    kinds = [True] * (job.moe_layers(stage) > 0) + [False] * (job.moe_layers(stage) < job.layers)
    passing = max(_passing_per_token(job, moe=moe, backward=backward) for moe in kinds)
    saved = 0.0
    if backward and job.recompute == "full":
        saved = max(_saved_per_token(job, moe=moe) for moe in kinds)
    tp, tokens, hidden = job.layout.tp, job.rank_tokens, job.card.hidden_size
    gathered = (4 if backward else 2) * hidden
    total = math.ceil(tokens * (gathered + (saved + passing) / tp))
    name = "one layer recomputed and its gradients" if saved else "one layer at work"
    formula = (
        f"{stage.name}{job.packed_tokens:,} tokens / cp {job.layout.cp}"
        f" x ({gathered:,} B gathered + ({saved:,.0f} B saved + {passing:,.0f} B passing) / tp {tp})"
    )
    if kinds[0]:
        formula += f", busiest expert rank {MOE_IMBALANCE} x mean"
    return Term(name, total, formula, _SAVED, 0.25)


def _passing_per_token(job: Job, *, moe: bool, backward: bool) -> float:
    """Bytes of temporary tensors in one layer per token, before tensor parallelism splits them."""
    card = job.card
    queries, keys, values, outputs = _attention_widths(job)
    attention = 2.0 * (queries + keys + values) + 2 * outputs
    if backward:
        attention += 4 * queries  # flash attention sums the gradient of the queries in fp32
    if job.layout.cp > 1:
        attention += job.layout.cp * 2 * outputs + 4 * (keys + values)  # outputs of each ring step, buffers
    feed_forward = 6.0 * card.ffn_size
    if moe:
        copies = card.experts_per_token * MOE_IMBALANCE
        feed_forward = copies * (4 * card.hidden_size * job.layout.etp + 6 * card.expert_ffn_size)
        feed_forward += 6 * card.shared_expert_ffn_size
    return max(attention, feed_forward) + (0 if backward else 6 * card.hidden_size)


def _logits(job: Job, stage: Stage, *, backward: bool) -> Term:
    """Logits with what the loss makes of them, on the stage that has the output layer."""
    if not stage.last:
        return Term("logits", 0, "not on this stage", _LOGPROBS)
    tokens, vocab, chunk = job.rank_tokens, job.vocab, job.logprob_chunk
    whole_loss = job.filtered_sampling or not job.loss_in_chunks
    chunked = chunk is not None and not (whole_loss and backward)
    if chunked:
        per_logit, per_chunk = (6, 28) if backward else (2, 16)
    else:
        per_logit, per_chunk = (18, 0) if backward else (16, 0)
    if job.filtered_sampling:  # logits of all columns for some of the rows, sorted with their indices
        per_logit, per_chunk = per_logit + (0 if chunked else 16), per_chunk + (24 if chunked else 0)
    rows = min(chunk or 0, tokens)
    hidden = 2 * job.card.hidden_size
    total = vocab * (tokens * per_logit + rows * per_chunk) + tokens * hidden
    formula = f"{stage.name}{job.packed_tokens:,} tokens / cp {job.layout.cp} x {vocab:,} logits x {per_logit} B"
    if per_chunk:
        formula += f" + chunk of {rows:,} x {vocab:,} x {per_chunk} B"
    if backward:
        return Term("logits and loss", total, formula, _LOGPROBS if job.loss_in_chunks else _WHOLE_LOSS, 0.15)
    return Term("logits", total, formula, _LOGPROBS, 0.15)
