"""Metrics of a run, under NeMo-RL's names and in its layout, one `logs/exp_NNN` for each start of the driver.

metrics.jsonl            one line for each step and for each validation
tensorboard/, wandb/     the same numbers, where asked for
val_data_step{N}.jsonl   validation responses; train_data_step{N}.jsonl training responses, where asked for
excerpts.jsonl           a few of both, for people (`ltrl.excerpts`)
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from ltrl.excerpts import Excerpt, append
from ltrl.scoring import group_kind
from ltrl_backends.local_engine.storage import writing

if TYPE_CHECKING:
    from ltrl_backends.local_engine.scorer import Scored
    from ltrl_backends.local_engine.trackers import Tracker

__all__ = ["Metrics", "excerpt", "response_metrics", "validation_metrics"]

Values = dict[str, float]


class Metrics:
    """Writes the metrics of one driver start."""

    def __init__(self, logs: Path) -> None:
        self.trackers: list[Tracker] = []
        """Who else gets the numbers."""
        with writing(logs):
            logs.mkdir(parents=True, exist_ok=True)
            self.directory = _next_experiment(logs)
            self.file = (self.directory / "metrics.jsonl").open("a", encoding="utf-8")

    def __enter__(self) -> Metrics:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()
        for tracker in self.trackers:
            tracker.close(has_failed=error is not None)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Appends one line; numbers that are not finite are left out."""
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        with writing(self.directory):
            self.file.write(json.dumps({"step": step, **finite}) + "\n")
            self.file.flush()
            for tracker in self.trackers:
                tracker.write(step, finite)

    def write_responses(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Writes `{name}.jsonl`, one line for each response."""
        with writing(self.directory), (self.directory / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(dict(row), ensure_ascii=False) + "\n" for row in rows)

    def write_excerpts(self, step: int, found: Iterable[Excerpt]) -> None:
        """Keeps responses for people."""
        with writing(self.directory):
            append(self.directory, step, found)


def response_metrics(scored: Sequence[Scored], *, group_size: int) -> Values:
    """What a step's responses say, by name without prefix; every `group_size` neighbours are a group."""
    starts = range(0, len(scored), group_size)
    kinds = [group_kind([s.reward for s in scored[start : start + group_size]]) for start in starts]
    lengths = [len(s.token_ids) for s in scored]
    values = {
        "reward": _mean(s.reward for s in scored),
        "outcome": _mean(s.score.outcome for s in scored),
        "rubric": fmean(s.score.rubric for s in scored),
        "group/all_one": kinds.count("all-one") / len(kinds),
        "group/all_zero": kinds.count("all-zero") / len(kinds),
        "group/mixed": kinds.count("mixed") / len(kinds),
        "truncation_rate": fmean(s.response.status == "truncated" for s in scored),
        "ill_formed_rate": fmean(s.response.is_ill_formed for s in scored),
        "unjudged_rate": fmean(s.reward is None for s in scored),
        "mean_gen_tokens_per_sample": fmean(lengths),
        "max_gen_tokens_per_sample": float(max(lengths)),
    }
    for name in sorted({name for s in scored for name in s.score.parts}):
        values[name] = _mean(s.score.parts.get(name) for s in scored)
    return values | _by_source(scored)


def _by_source(scored: Sequence[Scored]) -> Values:
    """Figures of each source of samples; none where there is but one."""
    values: Values = {}
    sources = sorted({s.sample.source for s in scored})
    for source in sources if len(sources) > 1 else ():
        mine = [s for s in scored if s.sample.source == source]
        values |= {
            f"source/{source}/reward": _mean(s.reward for s in mine),
            f"source/{source}/outcome": _mean(s.score.outcome for s in mine),
            f"source/{source}/rubric": fmean(s.score.rubric for s in mine),
        }
    return values


def excerpt(scored: Scored, *, split: Literal["train", "validation"], name: str = "") -> Excerpt:
    """A response for people; `name` is that of its validation set."""
    sample, score = scored.sample, scored.score
    return Excerpt(
        split=split,
        set=name,
        sample=sample.id,
        question=sample.question,
        label=sample.label,
        rubrics=sample.rubrics,
        aliases=sample.aliases,
        response=scored.response.raw,
        status=scored.response.status,
        reward=scored.reward,
        outcome=score.outcome,
        rubric=score.rubric,
        zeroed=score.zeroed,
        parts=score.parts,
        judge=score.said,
        num_tokens=len(scored.token_ids),
    )


def validation_metrics(sets: Mapping[str, Sequence[Scored]]) -> Values:
    """Figures of each validation set and, without the set's name, their means over all responses."""
    values: Values = {}
    for name, scored in sets.items():
        values |= {f"validation/{name}/{key}": value for key, value in _validation(scored).items()}
    everything = [s for scored in sets.values() for s in scored]
    return values | {f"validation/{key}": value for key, value in _validation(everything).items()}


def _validation(scored: Sequence[Scored]) -> Values:
    return {
        "accuracy": _mean(s.score.outcome for s in scored),
        "rubric": fmean(s.score.rubric for s in scored),
        "avg_length": fmean(len(s.token_ids) for s in scored),
        "truncation_rate": fmean(s.response.status == "truncated" for s in scored),
        "unjudged_rate": fmean(s.score.outcome is None for s in scored),
    }


def _mean(values: Iterable[float | None]) -> float:
    """Mean of what is known, NaN of nothing."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else math.nan


def _next_experiment(logs: Path) -> Path:
    numbers = [int(m[1]) for path in logs.iterdir() if (m := re.fullmatch(r"exp_(\d+)", path.name))]
    directory = logs / f"exp_{max(numbers, default=0) + 1:03d}"
    directory.mkdir()
    return directory
