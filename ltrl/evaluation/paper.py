"""The paper's table of results, and ours beside it.

The figures are those of LongTraceRL's Table 1 (arXiv 2605.31584): five benchmarks, 0 to 100, three models, each before
and after five trainings. Which MRCR bins, LongBench v2 lengths, LongReason lengths, judges and repetitions it used is
not published beyond AA-LCR's 4 answers a question, at temperature 0.6, top-p 0.95 and top-k 20.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ltrl.errors import Code, fail
from ltrl.evaluation.results import read, read_head, scores
from ltrl.evaluation.statistics import Estimate, mean
from ltrl.names import close_to

__all__ = ["BENCHMARKS", "MODELS", "TABLE", "Cell", "Row", "average", "reproduced"]

BENCHMARKS = ("aa-lcr", "mrcr", "frames", "longbench-v2", "longreason")
MODELS = {
    "8b": "DeepSeek-R1-0528-Qwen3-8B",
    "4b": "Qwen3-4B-Thinking-2507",
    "30b": "Qwen3-30B-A3B-Thinking-2507",
}
TABLE: Mapping[str, Mapping[str, tuple[float, ...]]] = {
    "8b": {
        "base": (13.8, 27.0, 73.2, 25.4, 74.1, 42.7),
        "docqa": (9.5, 20.2, 73.4, 25.9, 73.7, 40.6),
        "loongrl": (10.2, 19.0, 72.6, 25.5, 73.3, 40.1),
        "longrlvr": (12.2, 21.9, 70.3, 26.8, 73.2, 40.9),
        "grpo": (15.0, 25.2, 73.1, 25.6, 75.4, 42.9),
        "longtracerl": (15.0, 27.0, 74.3, 27.5, 75.2, 43.8),
    },
    "4b": {
        "base": (33.2, 36.2, 76.7, 41.7, 78.5, 53.3),
        "docqa": (28.8, 41.9, 78.3, 44.6, 79.9, 54.7),
        "loongrl": (32.0, 38.2, 75.8, 41.8, 78.7, 53.3),
        "longrlvr": (37.5, 41.8, 78.5, 43.8, 80.7, 56.5),
        "grpo": (34.0, 38.9, 76.1, 40.7, 78.7, 53.7),
        "longtracerl": (41.8, 45.8, 79.5, 44.1, 83.8, 59.0),
    },
    "30b": {
        "base": (47.0, 40.8, 80.7, 49.9, 84.2, 60.5),
        "docqa": (50.2, 44.8, 83.5, 51.6, 86.4, 63.3),
        "loongrl": (53.5, 43.8, 81.9, 52.3, 84.9, 63.3),
        "longrlvr": (48.5, 43.3, 81.7, 50.3, 84.2, 61.6),
        "grpo": (48.2, 44.7, 79.6, 51.8, 86.9, 62.3),
        "longtracerl": (53.5, 46.5, 81.9, 51.3, 85.4, 63.7),
    },
}
"""By model and training: the benchmarks in the order of BENCHMARKS, and their average as printed."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One benchmark of one row."""

    benchmark: str
    paper: float
    """0 to 100."""
    ours: Estimate | None
    """0 to 1; None where it was not measured."""

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's, in points of 100."""
        return None if self.ours is None else 100 * self.ours.value - self.paper

    @property
    def is_inside(self) -> bool | None:
        """Whether our interval holds the paper's figure, which is rounded to a tenth itself."""
        if self.ours is None:
            return None
        return 100 * self.ours.low - 0.05 <= self.paper <= 100 * self.ours.high + 0.05


@dataclass(frozen=True)
class Row:
    """One row of the table with what was measured for it."""

    model: str
    training: str
    cells: tuple[Cell, ...]
    paper_average: float
    results: str | None
    """Where ours are from; None for a row that is the paper's alone."""

    def to_json(self) -> dict[str, Any]:
        """The same for programs."""
        return {
            "model": self.model,
            "training": self.training,
            "results": self.results,
            "cells": [
                {
                    "benchmark": cell.benchmark,
                    "paper": cell.paper,
                    "ours": cell.ours and cell.ours.to_json(),
                    "difference": cell.difference,
                    "inside": cell.is_inside,
                }
                for cell in self.cells
            ],
        }


def reproduced(results: Mapping[str, Sequence[Path]]) -> list[Row]:
    """Every row of the table, with ours where results are given for it, by `model/training`.

    Several directories of one row have different benchmarks. Raises BAD_RESULTS for a row that the table has not, and
    for a benchmark that a row gets twice.
    """
    known = [f"{model}/{training}" for model, rows in TABLE.items() for training in rows]
    for name in results:
        if name not in known:
            hint = close_to(name, known) or f"rows: {', '.join(f'`{row}`' for row in known)}"
            raise fail(Code.BAD_RESULTS, f"the paper's table has no row `{name}`", hint=hint)
    return [
        _row(model, training, results.get(f"{model}/{training}", ())) for model in TABLE for training in TABLE[model]
    ]


def average(values: Sequence[float | None]) -> float | None:
    """The mean over the five benchmarks; None unless all are there."""
    there = [value for value in values if value is not None]
    return math.fsum(there) / len(there) if len(there) == len(values) else None


def _row(model: str, training: str, directories: Sequence[Path]) -> Row:
    ours: dict[str, Estimate] = {}
    for directory in directories:
        found = list(_measured(directory))
        if not found:
            hint = f"its benchmarks: {', '.join(f'`{name}`' for name in BENCHMARKS)}"
            raise fail(Code.BAD_RESULTS, f"`{directory}` has no answers to a benchmark of the paper", hint=hint)
        for benchmark, estimate in found:
            if benchmark in ours:
                message = f"`{model}/{training}` gets `{benchmark}` twice, the second time from `{directory}`"
                raise fail(Code.BAD_RESULTS, message)
            ours[benchmark] = estimate
    *figures, whole = TABLE[model][training]
    cells = tuple(Cell(name, figure, ours.get(name)) for name, figure in zip(BENCHMARKS, figures, strict=True))
    return Row(model, training, cells, whole, ", ".join(map(str, directories)) or None)


def _measured(directory: Path) -> Iterator[tuple[str, Estimate]]:
    """(backend, score) of each benchmark of the paper in a directory of results, whatever its name there."""
    backends = {name: section["backend"] for name, section in read_head(directory).spec["benchmarks"].items()}
    samples: dict[str, list[Any]] = {}
    for sample in read(directory):
        if backends.get(sample.benchmark) in BENCHMARKS:
            samples.setdefault(sample.benchmark, []).append(sample.without_texts)
    for name, members in samples.items():
        if (estimate := mean(list(scores(members).values()))) is not None:
            yield backends[name], estimate
