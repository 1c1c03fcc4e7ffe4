"""Runs beside each other: the fields in which they differ, and what came of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ltrl.errors import Code, fail
from ltrl.report import report
from ltrl.runs import Status
from ltrl.source import walk

__all__ = ["Comparison", "Row", "compare"]

NOT_LEARNED = ("name", "description", "sweep")
"""Fields that differ without making a difference."""


@dataclass(frozen=True, slots=True)
class Row:
    """One run."""

    run: str
    values: Mapping[str, Any]
    """Of the fields in which the runs differ; those that it does not have are left out."""
    state: str
    step: int
    steps: int
    reward: float | None
    """Mean of the last ten steps."""
    accuracy: float | None
    """On the validation sets, at the last measurement."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Runs, the best reward first."""

    fields: tuple[str, ...]
    """Dotted paths of what differs, in the order of the spec."""
    rows: tuple[Row, ...]


def compare(found: Iterable[Status]) -> Comparison:
    """What tells runs apart; raises LtrlError when one has no bundle."""
    every = list(found)
    values = [_values(Path(status.path)) for status in every]
    names = dict.fromkeys(name for row in values for name in row)
    fields = tuple(name for name in names if len({json.dumps(row.get(name)) for row in values}) > 1)
    rows = [
        Row(
            run=status.id,
            values={name: row[name] for name in fields if name in row},
            state=str(status.state),
            step=status.step,
            steps=status.steps,
            reward=status.reward,
            accuracy=_accuracy(status),
        )
        for status, row in zip(every, values, strict=True)
    ]
    return Comparison(fields, tuple(sorted(rows, key=lambda r: (r.reward is None, -(r.reward or 0.0), r.run))))


def _values(run: Path) -> dict[str, Any]:
    try:
        resolved = json.loads((run / "bundle" / "resolved.json").read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise fail(Code.NOT_A_BUNDLE, f"the bundle of `{run.name}` cannot be read: {error}") from None
    spec = resolved.get("spec") if isinstance(resolved, dict) else None
    if not isinstance(spec, dict):
        raise fail(Code.NOT_A_BUNDLE, f"the bundle of `{run.name}` cannot be read: its `resolved.json` has no `spec`")
    return {".".join(map(str, path)): value for path, value in walk(spec) if path[0] not in NOT_LEARNED}


def _accuracy(status: Status) -> float | None:
    made = report(status.id, Path(status.path), reward_backend="", num_steps=status.steps)
    return made.validation_change()[1]
