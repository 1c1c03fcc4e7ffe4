"""What the `engine` section of a spec may say to the embedded engine."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ltrl.backend import EngineSection, Model

__all__ = ["Collapse", "LocalEngineOptions", "WarmStart"]

Count = Annotated[int, Field(ge=1)]


class WarmStart(Model):
    """How the start model is taught before reinforcement learning; its result is kept and shared by runs.

    It first recites links until it can look one up, then imitates answers of mixed quality, so that the training has
    something to choose from. Both come from the data backend.
    """

    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the initial weights and of the demonstrations."""
    batch_size: Count = 32
    """Demonstrations in one update."""
    lookup_steps: Count = 400
    """Most updates of the first lesson; a model that has not learned to look up by then is refused."""
    lookup_accuracy: Annotated[float, Field(gt=0, lt=1)] = 0.97
    """The first lesson ends when so many determined tokens are right, five updates in a row."""
    answer_steps: Count = 150
    """Updates of the second lesson."""


class Collapse(Model):
    """When a training counts as lost: no reward while the policy babbles; it never recovers from that."""

    steps: Count = 10
    """So many steps in a row."""
    reward: Annotated[float, Field(ge=0)] = 0.01
    """With a mean reward of at most this."""
    entropy_factor: Annotated[float, Field(ge=1)] = 2.0
    """And a mean entropy of at least so many times that of the first step, before any update."""


class LocalEngineOptions(EngineSection):
    """Trains on the machine that runs the job, with TRL's GRPO trainer, on the CPU or on one GPU."""

    name: Literal["local"]
    """Name of the engine."""
    threads: Count = 2
    """CPU threads; a run repeats exactly only with the same number."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where it trains; `cuda` is one GPU, which the cluster profile must ask for."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the model's arithmetic, in training and generation; weights and optimizer stay in float32 (autocast)."""
    warm_start: WarmStart = WarmStart()
    """Start model, where the engine makes it (`model.base: tiny-qwen3`)."""
    collapse: Collapse = Collapse()
    """When to give up."""
