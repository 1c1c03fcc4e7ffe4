"""The environment that scores responses inside NeMo-RL: a Ray actor around `Scorer`. Imported in the job only."""

from __future__ import annotations

from typing import Any

import ray

from ltrl_backends.nemo_rl.scorer import Scorer, Step

__all__ = ["LtrlEnvironment"]


@ray.remote(max_concurrency=256)
class LtrlEnvironment:
    """The actor; asynchronous rollouts call `step` for each response at the same time."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._scorer = Scorer(config)

    def step(self, message_log_batch: list[Any], metadata: list[Any], *_: Any) -> Step:
        """See `Scorer.step`."""
        return self._scorer.step(message_log_batch, metadata)

    def global_post_process_and_metrics(self, batch: Any) -> tuple[Any, dict[str, Any]]:
        """Part of NeMo-RL's interface, never called by it."""
        return batch, {}

    def shutdown(self) -> None:
        """Nothing is held open."""
