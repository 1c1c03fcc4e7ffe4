"""Does it fit: the memory that NeMo-RL with Megatron and vLLM needs, by pure arithmetic.

Each phase of a training step is a tuple of terms; a term carries its formula with the user's numbers and its source.
Bytes are per GPU of the most loaded pipeline stage unless a phase says otherwise; GiB are 2^30 bytes. Nothing is read
or measured here.

Confidence band: every term has a `spread`, the share by which it may be wrong. Weights, gradients, optimizer states and
the KV cache are counted exactly (0). Activations are counted from the tensors that Megatron and Transformer Engine
save, which differ between versions (0.25; 0.05 where only layer inputs are kept); logits and the loss from NeMo-RL's
code (0.15). What a process holds besides tensors is a rule of thumb (0.5). The band of a phase lets all terms err in
the same direction. A phase fits when its middle value does, and is tight when only the upper end does not.
"""

from ltrl.memory.layouts import Change, obstacles, search, smallest_change
from ltrl.memory.model import EngineSettings, EngineSizes, Layout, MemoryEstimate, Phase, RolloutSizes, Settings, Term
from ltrl.memory.phases import estimate

__all__ = [
    "Change",
    "EngineSettings",
    "EngineSizes",
    "Layout",
    "MemoryEstimate",
    "Phase",
    "RolloutSizes",
    "Settings",
    "Term",
    "estimate",
    "obstacles",
    "search",
    "smallest_change",
]
