"""Everything that a report tells of a run, gathered from its directory; what is gone is left out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ltrl import bundle as bundles
from ltrl import checkpoints, excerpts, state
from ltrl.bundle import Bundle
from ltrl.errors import LtrlError
from ltrl.excerpts import Excerpt
from ltrl.metrics import Metrics, Reader
from ltrl.report.dumps import dumped
from ltrl.state import Event, Run

__all__ = ["Story", "Values", "chosen", "story"]

HEAD, TAIL = 1_000, 4_000
"""Characters of a response that a page shows: its beginning, and its end, where the answer is."""

Values = list[tuple[str, str, str]]
"""Field, value as JSON, and where it is from."""


@dataclass(frozen=True)
class Story:
    """A run from its spec to its responses."""

    run: Run
    metrics: Metrics
    bundle: Bundle | None
    """None when it is gone or was edited."""
    spec: Values
    events: tuple[Event, ...]
    checkpoints: tuple[checkpoints.Entry, ...]
    excerpts: tuple[Excerpt, ...]
    """In the order they were written; those of steps that a resume or a rollback went back over are left out."""


def story(run: Run) -> Story:
    """Reads a run; an unreadable part of it is an empty one."""
    reader = Reader(run.path)
    reader.update()
    found: Bundle | None = None
    values: Values = []
    with suppress(LtrlError):
        found = bundles.read(run.path / "bundle")
        values = list(_values(found))
    return Story(
        run=run,
        metrics=reader.metrics,
        bundle=found,
        spec=values,
        events=state.events(run.path),
        checkpoints=checkpoints.scan(run.path / "checkpoints", fingerprint=run.fingerprint),
        excerpts=tuple(_excerpts(reader)),
    )


def chosen(found: Sequence[Excerpt], *, limit: int) -> list[Excerpt]:
    """The responses that fit into so many characters, the most telling first, in the order of their steps.

    Three quarters are for the newest validation, then the oldest, then answers that changed between two; what is left
    is for training steps, spread evenly over the run.
    """
    validations: dict[int, list[Excerpt]] = {}
    steps: dict[int, list[Excerpt]] = {}
    for one in found:
        (validations if one.split == "validation" else steps).setdefault(one.step, []).append(one)
    measured = sorted(validations)
    telling = [*measured[-1:], *(measured[:1] if len(measured) > 1 else [])]
    order = [one for step in telling for one in validations[step]]
    order += [one for one in _changed(validations, measured) if one.step not in telling]
    kept, room = _fitting(order, limit * 3 // 4)
    trained, _ = _fitting([one for step in _spread(sorted(steps)) for one in steps[step]], limit // 4 + room)
    return sorted([*kept, *trained], key=lambda one: (one.step, one.split))


def _fitting(order: Iterable[Excerpt], limit: int) -> tuple[list[Excerpt], int]:
    """The first that fit, and the characters that are left."""
    kept = []
    for one in order:
        size = min(len(one.response), HEAD + TAIL) + len(one.question) + len(one.judge) + 400
        if size > limit:
            break
        limit -= size
        kept.append(one)
    return kept, limit


def _changed(validations: dict[int, list[Excerpt]], measured: Sequence[int]) -> Iterator[Excerpt]:
    before: dict[tuple[str, str], float | None] = {}
    for step in measured[:-1]:
        for one in validations[step]:
            key = (one.set, one.sample)
            if key in before and before[key] != one.outcome:
                yield one
            before[key] = one.outcome


def _spread(steps: Sequence[int]) -> Iterator[int]:
    """The last, the first, the middle, then the middles between: any beginning of it covers the whole."""
    seen = set()
    for at in (len(steps) - 1, 0):
        if 0 <= at < len(steps) and at not in seen:
            seen.add(at)
            yield steps[at]
    parts = 2
    while len(seen) < len(steps):
        for i in range(1, parts, 2):
            at = i * (len(steps) - 1) // parts
            if at not in seen:
                seen.add(at)
                yield steps[at]
        parts *= 2
        if parts > 4 * len(steps):
            yield from (step for at, step in enumerate(steps) if at not in seen)
            return


def _values(found: Bundle) -> Iterator[tuple[str, str, str]]:
    origins: dict[str, str] = found.resolved["origins"]
    whole: dict[str, Any] = {**found.resolved["spec"], "cluster": found.resolved["cluster"]}
    for path, origin in origins.items():
        value: Any = whole
        for part in path.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if not isinstance(value, dict) or not value:
            yield path, json.dumps(value, ensure_ascii=False), origin


def _excerpts(reader: Reader) -> Iterator[Excerpt]:
    for start in sorted(reader.metrics.starts.values(), key=lambda start: start.number):
        kept = start.path / excerpts.NAME
        for one in excerpts.read(kept) if kept.is_file() else dumped(start.path):
            if not reader.is_lost(start, one.step):
                yield one
