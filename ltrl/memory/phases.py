"""The phases of a training step, and what each holds in memory."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Unpack

from ltrl.catalog import ModelCard
from ltrl.memory import activations
from ltrl.memory.model import Layout, MemoryEstimate, Phase, Settings, Term
from ltrl.memory.sizes import GIB, WEIGHT_BYTES, Job, Stage

__all__ = ["estimate"]

_MASTER_BYTES = 12
"""fp32 master weight and both moments of Adam."""
_PRECISION_AWARE_BYTES = 10
"""As above with the master weight as the 16 bits that bf16 lacks (`store_param_remainders`)."""
_MEGATRON_PROCESS = 3 * GIB
"""CUDA context, NCCL buffers of some ten groups and library workspaces of a Megatron worker."""
_ENGINE_ASLEEP = 4 * GIB
"""CUDA context, NCCL buffers and CUDA graphs that stay while vLLM sleeps."""
_HOST_PROCESSES = 12 * GIB
"""Host memory per GPU of the two worker processes, without tensors."""
_KV_CACHE = "KV cache"

_THEORY = "Megatron-LM theoretical_memory_usage.py"
_DISTRIBUTED = "Megatron-Core distrib_optimizer.py; docs dist_optimizer.md"
_REFIT = "NeMo-RL v0.7.0 grpo.py:1896-1912, models/policy/utils.py stream_weights_via_ipc_zmq_impl"
_RULE = "rule of thumb"
_ASLEEP = "rule of thumb; vLLM issue 47654 measured 7.0 GiB with TP8, PR 11743 1.3 GiB with TP1"


def estimate(card: ModelCard, layout: Layout, **settings: Unpack[Settings]) -> MemoryEstimate:
    """The memory that training `card` on `layout` needs; the layout should have no `obstacles`.

    Sources: Megatron-LM's `theoretical_memory_usage.py` and arXiv:2205.05198 for weights, optimizer and activations,
    NeMo-RL v0.7.0 for what is resident in which phase (`algorithms/grpo.py`, `models/megatron/`).
    """
    job = Job(card, layout, **settings)
    kv_bytes = job.kv_bytes_per_token()
    rollout = _rollout(job)
    cache = next(term.bytes for term in rollout.terms if term.name == _KV_CACHE)
    tokens = cache // kv_bytes
    return MemoryEstimate(
        layout=layout,
        training=max((_training(job, stage) for stage in job.stages), key=lambda phase: phase.total),
        logprob=max((_logprob(job, stage) for stage in job.stages), key=lambda phase: phase.total),
        refit=_refit(job),
        rollout=rollout,
        host=_host(job),
        disk=_disk(job),
        num_engines=(job.rollout_gpus or layout.num_gpus) // job.gpus_per_engine,
        kv_bytes_per_token=kv_bytes,
        kv_tokens=tokens,
        sequences_per_engine=tokens // job.context_total,
    )


def _training(job: Job, stage: Stage) -> Phase:
    terms = (
        _weights(job, stage),
        _gradients(job, stage),
        _optimizer(job, stage),
        activations.kept(job, stage),
        activations.passing(job, stage, backward=True),
        activations.rotary(job),
        *_processes(job, engine=True),
    )
    return Phase("training", "GPU", terms, job.capacity)


def _logprob(job: Job, stage: Stage) -> Phase:
    """In colocated runs gradients and optimizer are not on the GPU then (`prepare_for_lp_inference`)."""
    optimizer = () if job.colocated else (_optimizer(job, stage),)
    passing = activations.passing(job, stage, backward=False)
    terms = (_weights(job, stage), *optimizer, passing, activations.rotary(job), *_processes(job, engine=True))
    return Phase("logprob", "GPU", terms, job.capacity)


def _refit(job: Job) -> Phase:
    stage = max(job.stages, key=lambda s: job.dense_parameters(s) + job.expert_parameters(s))
    largest = job.largest_tensor
    if not job.colocated:
        formula = f"2 x largest tensor {largest:,} B"
        buffer = Term("refit buffer", 2 * largest, formula, "NeMo-RL v0.7.0 packed_broadcast_producer", 0.5)
        terms = (_weights(job, stage), _optimizer(job, stage), buffer, *_processes(job, engine=False))
        return Phase("refit", "GPU", terms, job.capacity)
    if job.refit_buffer_gb is None:
        formula = f"2 halves x largest tensor {largest:,} B / 0.3 (the buffer is 30 % of what is free)"
        buffer = Term("refit buffer", math.ceil(2 * largest / 0.3), formula, _REFIT)
    else:
        size = max(round(job.refit_buffer_gb * GIB), 2 * largest)
        formula = f"max({job.refit_buffer_gb:g} GiB, 2 halves x {largest:,} B) + gathering 2 x {largest:,} B"
        buffer = Term("refit buffer", size + 2 * largest, formula, _REFIT)
    terms = (_weights(job, stage), _engine_weights(job), buffer, *_processes(job, engine=True))
    return Phase("refit", "GPU", terms, job.capacity)


def _rollout(job: Job) -> Phase:
    """vLLM takes its share whatever it needs: the KV cache is what weights and activations leave of it."""
    weights, activations = _engine_weights(job), _engine_activations(job)
    share = math.floor(job.capacity * job.gpu_memory_share)
    cache = max(0, share - weights.bytes - activations.bytes)
    per_token = job.kv_bytes_per_token()
    formula = (
        f"{job.gpu_memory_share:g} x {job.gpu_memory_gb:g} GiB - weights - activations"
        f" = {cache // per_token:,} tokens of {per_token:,} B"
    )
    terms = (
        weights,
        replace(activations, spread=0.0),  # an error here moves bytes between the cache and activations
        Term(_KV_CACHE, cache, formula, "vLLM gpu_worker.py determine_available_memory"),
        Term("vLLM outside its share", 2 * GIB, "CUDA graphs and NCCL buffers", _RULE, 0.5),
        *_processes(job, engine=False, trainer=job.colocated),
    )
    return Phase("rollout", "GPU", terms, job.capacity)


def _host(job: Job) -> Phase:
    """What is parked in a node's memory while its GPUs generate."""
    stage = max(job.stages, key=lambda s: job.dense_parameters(s) + job.expert_parameters(s))
    gpus = job.layout.gpus_per_node
    weights, optimizer, engine = _weights(job, stage).bytes, _optimizer(job, stage).bytes, _engine_weights(job).bytes
    parked = [("optimizer states", optimizer), ("Megatron weights", weights), ("vLLM weights", engine)]
    terms = []
    if job.colocated:
        for name, size in parked:
            formula, source = f"{gpus} GPUs x {size:,} B", "NeMo-RL v0.7.0 grpo.py:1853-1969, vLLM sleep level 1"
            terms.append(Term(f"{name}, offloaded", gpus * size, formula, source))
    if job.reference_model:
        formula = f"{gpus} GPUs x {weights:,} B x 2 (the reference, and the policy while they are swapped)"
        source = "NeMo-RL v0.7.0 megatron_policy_worker.py use_reference_model"
        terms.append(Term("reference model", 2 * gpus * weights, formula, source))
    tokens = job.samples_per_step * job.context_total
    formula = f"{job.samples_per_step} samples x {job.context_total:,} tokens x 48 B x 3 copies"
    terms.append(Term("batch of a step", tokens * 48 * 3, formula, "NeMo-RL grpo.py; object store copies", 0.5))
    what = f"{gpus} GPUs x {_HOST_PROCESSES // GIB} GiB"
    terms.append(Term("worker processes", gpus * _HOST_PROCESSES, what, _RULE, 0.5))
    count = job.card.num_parameters
    what = f"{count:,} parameters x 2 B, when the start model is converted"
    terms.append(Term("conversion", count * 2, what, "NeMo-RL v0.7.0 megatron setup.py:511-516", 0.5))
    capacity = None if job.host_memory_gb is None else round(job.host_memory_gb * GIB)
    return Phase("host", "node", tuple(terms), capacity)


def _disk(job: Job) -> Phase:
    count, kept = job.card.num_parameters, job.checkpoints_kept
    source = "Megatron-Core dist_checkpointing: bf16 weights, fp32 master and moments"
    terms = [Term("weights", kept * count * 2, f"{kept} checkpoints x {count:,} x 2 B", source)]
    if job.save_optimizer:
        formula = f"{kept} checkpoints x {count:,} x {_MASTER_BYTES} B"
        terms.append(Term("optimizer states", kept * count * _MASTER_BYTES, formula, source))
    terms.append(Term("converted start model", count * 2, f"{count:,} x 2 B", "NeMo-RL v0.7.0 setup.py:511-516"))
    return Phase("disk", "run", tuple(terms), None)


def _weights(job: Job, stage: Stage) -> Term:
    dense, experts = job.dense_parameters(stage), job.expert_parameters(stage)
    what = f"{stage.name}{dense:,} parameters (tp {job.layout.tp}, pp {job.layout.pp})"
    if experts:
        what += f" + {experts:,} of experts (ep {job.layout.ep}, etp {job.layout.etp})"
    return Term("weights", (dense + experts) * WEIGHT_BYTES, f"({what}) x 2 B", _THEORY)


def _gradients(job: Job, stage: Stage) -> Term:
    size = 4 if job.gradients_in_fp32 else 2
    count = job.dense_parameters(stage) + job.expert_parameters(stage)
    kind = "fp32" if job.gradients_in_fp32 else "bf16"
    return Term("gradients", count * size, f"{count:,} parameters x {size} B ({kind})", _DISTRIBUTED)


def _optimizer(job: Job, stage: Stage) -> Term:
    size = _PRECISION_AWARE_BYTES if job.precision_aware_optimizer else _MASTER_BYTES
    if not job.precision_aware_optimizer and not job.gradients_in_fp32:
        size += 4  # the shard's gradients are copied to fp32 for the update
    dense, experts = job.dense_parameters(stage), job.expert_parameters(stage)
    ranks = job.layout.dp * job.layout.cp
    total = math.ceil(dense / ranks) + math.ceil(experts / job.layout.expert_dp)
    formula = f"{dense:,} / (dp {job.layout.dp} x cp {job.layout.cp})"
    if experts:
        formula += f" + {experts:,} / expert dp {job.layout.expert_dp}"
    return Term("optimizer states", total * size, f"({formula}) x {size} B", _DISTRIBUTED)


def _processes(job: Job, *, engine: bool, trainer: bool = True) -> tuple[Term, ...]:
    """What the two processes on a GPU hold besides the tensors counted here."""
    found = []
    if trainer:
        what = "CUDA context, NCCL buffers and workspaces"
        found.append(Term("Megatron process", _MEGATRON_PROCESS, what, _RULE, 0.5))
    if engine and job.colocated:
        what = "CUDA context, NCCL buffers and CUDA graphs of vLLM"
        found.append(Term("rollout engine asleep", _ENGINE_ASLEEP, what, _ASLEEP, 0.5))
    return tuple(found)


def _engine_weights(job: Job) -> Term:
    count = job.engine_parameters()
    sizes = f"tp {job.rollout.tensor}, pp {job.rollout.pipeline}, ep {job.rollout.expert}"
    return Term("vLLM weights", count * WEIGHT_BYTES, f"{count:,} parameters ({sizes}) x 2 B", "vLLM layers")


def _engine_activations(job: Job) -> Term:
    """The peak that vLLM profiles at start and leaves out of the KV cache."""
    card, tp, tokens = job.card, job.rollout.tensor, job.max_batched_tokens
    feed_forward = 6 * card.ffn_size / tp if card.num_experts == 0 else 0
    if card.num_experts:
        inner = 6 * card.expert_ffn_size / max(tp, job.rollout.expert) * max(1, job.rollout.expert / tp)
        feed_forward = card.experts_per_token * (inner + 2 * card.hidden_size)
    per_token = 8 * card.hidden_size + math.ceil(feed_forward)
    logits = job.max_sequences * card.vocab_size * 4 * 3
    formula = (
        f"{tokens:,} batched tokens x {per_token:,} B"
        f" + {job.max_sequences} sequences x {card.vocab_size:,} logits x 4 B x 3 copies"
    )
    return Term(
        "vLLM activations",
        tokens * per_token + logits,
        formula,
        "vLLM gpu_worker.py profile run; arg_utils.py batch defaults",
        0.5,
    )
