"""What the processes of a server count together, in the text format of Prometheus."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ltrl.scoring import Score

__all__ = ["Metrics"]

DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
"""Variable with the directory that the processes share; prometheus-client reads it when it is imported."""

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """The numbers of one process; `text` is those of all."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, multiprocess

        registry = CollectorRegistry()
        for file in Path(os.environ[DIRECTORY]).glob("gauge_live*_*.db"):
            pid = file.stem.rpartition("_")[2]
            if not Path(f"/proc/{pid}").exists():  # killed: it took its requests along
                multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]
        self.requests = Counter(
            "ltrl_reward_requests", "Requests answered, by route and status.", ("route", "status"), registry=registry
        )
        self.repeats = Counter(
            "ltrl_reward_repeats", "Requests answered with the reply to an equal one.", ("route",), registry=registry
        )
        self.responses = Counter(
            "ltrl_reward_responses",
            "Responses scored: right, wrong, zeroed (not judged by rule) or unjudged.",
            ("result",),
            registry=registry,
        )
        self.seconds = Histogram(
            "ltrl_reward_seconds",
            "From a request's first byte to its reply, waiting included.",
            ("route",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.scoring = Gauge(
            "ltrl_reward_scoring", "Requests being scored.", multiprocess_mode="livesum", registry=registry
        )
        self.waiting = Gauge(
            "ltrl_reward_waiting", "Requests that wait for a place.", multiprocess_mode="livesum", registry=registry
        )

    def count(self, scores: Iterable[Score]) -> None:
        """Counts scored responses by what became of them."""
        for score in scores:
            result = {None: "unjudged", 0.0: "wrong"}.get(score.outcome, "right")
            self.responses.labels("zeroed" if score.zeroed else result).inc()

    def text(self) -> tuple[bytes, str]:
        """The numbers of all processes of this server, and their content type."""
        from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest, multiprocess

        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry), CONTENT_TYPE_LATEST
