"""What the `engine` section of a spec may say to NeMo-RL."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from ltrl.backend import EngineSection, Model, Note, Relaunch

__all__ = ["NemoRLOptions", "Rehearsal"]

Count = Annotated[int, Field(ge=1)]


class Rehearsal(Model):
    """How small a run becomes that is rehearsed without a GPU; what is smaller already stays."""

    steps: Count = 4
    """Training steps."""
    prompt: Count = 512
    """Tokens of a prompt; longer ones are cut in their middle."""
    response: Count = 64
    """Tokens of a response."""


class NemoRLOptions(EngineSection):
    """Trains on GPUs with NVIDIA NeMo-RL: Megatron trains, vLLM samples."""

    name: Literal["nemo-rl"]
    """Name of the engine."""
    version: Literal["0.6.0", "0.7.0"] = "0.7.0"
    """NeMo-RL release that runs the job; its keys and its limits are checked."""
    train_router: bool = False
    """Train the router of a mixture of experts too; NeMo-RL freezes it, which keeps sampling and training close."""
    fused_kernels: bool = False
    """Fuse RoPE and bias-activation kernels: faster, but their bfloat16 intermediates drift from the rollout engine."""
    logprob_chunk_size: Annotated[Count | None, Relaunch] = 2048
    """Tokens whose log-probabilities are computed at once; `null` takes whole sequences, which costs memory. NeMo-RL
    0.6.0 takes whole sequences in its loss whatever this says."""
    recompute: Annotated[Literal["full", "selective", "none"], Relaunch] = "full"
    """Activations that are computed again in the backward pass instead of being kept."""
    reserve_minutes: Annotated[Count, Relaunch] = 45
    """Part of the job's wall time kept for starting up and for the last checkpoint; training stops before it begins."""
    device: Literal["gpu", "cpu"] = "gpu"
    """`cpu` rehearses the run on this machine, from a checkout of NeMo-RL at `$NEMO_RL`: its own trainer, rollouts and
    checkpoints with this spec's data, judge and reward, but a small model, short texts and few steps. `ltrl rehearse`
    sets it."""
    rehearsal: Annotated[Rehearsal, Note] = Rehearsal()
    """How small a run on the `device: cpu` is; does nothing on GPUs."""
    overrides: dict[str, Any] = {}
    """Further NeMo-RL keys, dotted: `policy.refit_buffer_size_gb: 2`. Unknown keys and keys that a field of this spec
    stands for are refused."""
