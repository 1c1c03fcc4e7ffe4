"""What a run has measured, read from the metrics files that every engine writes alike.

A driver writes `logs/exp_NNN/metrics.jsonl`, one JSON object a line: `step`, then NeMo-RL's TensorBoard tags. Each
start of the driver makes the next `exp_NNN`; after a resume the steps that were lost are measured again, and the newer
line counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Metrics", "read"]


@dataclass(frozen=True)
class Metrics:
    """Numbers by step, steps ascending."""

    train: Mapping[int, Mapping[str, float]]
    """Training steps count from 1; tags without their `train/` prefix, timings with `timing/`."""
    validation: Mapping[int, Mapping[str, float]]
    """Tags without their `validation/` prefix; step 0 is the start model."""

    @property
    def last_step(self) -> int:
        """The last training step measured; 0 before the first."""
        return max(self.train, default=0)

    def mean(self, tag: str, *, first: int = 0, last: int = 0) -> float | None:
        """Mean of a training tag over the first or the last so many steps; None where it was never measured."""
        steps = sorted(self.train)
        chosen = steps[:first] if first else steps[-last:] if last else steps
        values = [self.train[step][tag] for step in chosen if tag in self.train[step]]
        return sum(values) / len(values) if values else None


def read(run: Path) -> Metrics:
    """The metrics in a run directory; lines that are damaged or still being written are left out."""
    train: dict[int, dict[str, float]] = {}
    validation: dict[int, dict[str, float]] = {}
    for path in sorted(run.glob("logs/exp_*/metrics.jsonl")):
        for record in _records(path):
            step = int(record.pop("step"))
            measured = {
                tag.removeprefix("validation/"): v for tag, v in record.items() if tag.startswith("validation/")
            }
            trained = {tag.removeprefix("train/"): v for tag, v in record.items() if not tag.startswith("validation/")}
            if measured:
                validation[step] = {**validation.get(step, {}), **measured}
            if trained:
                train[step] = {**train.get(step, {}), **trained}
    return Metrics(dict(sorted(train.items())), dict(sorted(validation.items())))


def _records(path: Path) -> Iterator[dict[str, float]]:
    try:
        raw = path.read_bytes()
    except OSError:  # an attempt that is just starting
        return
    for line in raw.split(b"\n"):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(record.get("step"), int):
            yield {tag: value for tag, value in record.items() if isinstance(value, int | float)}
