"""Tells a training that is lost from one that is slow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from ltrl.errors import Code, fail
from ltrl_backends.local_engine.options import Collapse

__all__ = ["refuse_collapse"]


def refuse_collapse(history: Sequence[Mapping[str, Any]], limits: Collapse) -> None:
    """Raises LtrlError when the last steps earned nothing while the policy babbled.

    `history` holds each step's `step`, `reward` and `entropy` (nats per token) from the first step on. Reward alone
    does not tell: a hard task earns nothing at first, at the entropy it started with. Both together never recover.
    """
    steps = [entry for entry in history if entry.get("reward") is not None and entry.get("entropy") is not None]
    last = steps[-limits.steps :]
    if len(steps) <= limits.steps or any(entry["reward"] > limits.reward for entry in last):
        return
    start_entropy = steps[0]["entropy"]  # before any update: a collapse may take no more than two
    entropy = fmean(entry["entropy"] for entry in last)
    if entropy < limits.entropy_factor * start_entropy:
        return
    raise fail(
        Code.TRAINING_COLLAPSED,
        f"the policy collapsed: no reward since step {last[0]['step']}, "
        f"its entropy rose from {start_entropy:.2f} to {entropy:.2f} nats per token",
        hint="lower `optimizer.lr` or raise `optimizer.warmup_steps`; resuming would collapse again",
    )
