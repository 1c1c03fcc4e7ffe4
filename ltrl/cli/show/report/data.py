"""The numbers and the responses of a report, as the page's script reads them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ltrl.metrics import FIGURES
from ltrl.report.story import HEAD, TAIL, chosen
from ltrl.scoring import matcher

if TYPE_CHECKING:
    from ltrl.excerpts import Excerpt
    from ltrl.metrics import Table
    from ltrl.report.story import Story

__all__ = ["MOST_POINTS", "SAMPLE_CHARACTERS", "page_data"]

MOST_POINTS = 1_000
"""Of a curve; longer ones are means of neighbours."""

SAMPLE_CHARACTERS = 3_000_000
"""Of all responses of a page together: it stays below 10 MB with the 4.8 MB of the plotting library."""


def page_data(stories: Sequence[Story]) -> dict[str, Any]:
    """Everything that the script draws."""
    each = SAMPLE_CHARACTERS // len(stories)
    samples: list[dict[str, Any]] = []
    left_out = 0
    for number, story in enumerate(stories):
        kept = chosen(story.excerpts, limit=each)
        left_out += len(story.excerpts) - len(kept)
        samples += [_sample(number, one) for one in kept]
    return {
        "figures": {name: {"title": figure.title, "unit": figure.unit} for name, figure in FIGURES.items()},
        "runs": [_run(story) for story in stories],
        "samples": samples,
        "samples_left_out": left_out,
    }


def _run(story: Story) -> dict[str, Any]:
    measured = story.metrics
    steps = list(measured.train.steps)
    size = -(-len(steps) // MOST_POINTS) or 1
    figures = {name: measured.figure(name) for name in FIGURES}
    starts = sorted(s.first_step for s in measured.starts.values() if s.first_step is not None)
    return {
        "name": story.run.id,
        "neighbours": size,
        "steps": steps[size - 1 :: size] + ([steps[-1]] if len(steps) % size else []),
        "figures": {name: _thinned(values, size) for name, values in figures.items() if not _is_empty(values)},
        "sources": {
            source: {name: _thinned(values, size) for name, values in found.items()}
            for source, found in measured.sources().items()
        },
        "starts": starts[1:],
        "checkpoints": [entry.step for entry in story.checkpoints if entry.is_complete],
        "validation": _validation(measured.validation),
    }


def _validation(table: Table) -> dict[str, Any]:
    """Every validation figure by set, the empty name for all together."""
    found: dict[str, dict[str, list[float | None]]] = {}
    for tag in table.tags:
        name, _, figure = tag.rpartition("/")
        found.setdefault(name, {})[figure] = [_number(value) for value in table.column(tag)]
    if set(found) > {""} and len(found) == 2:  # one set: the same as all together
        del found[""]
    return {"steps": list(table.steps), "sets": found}


def _thinned(values: Sequence[float], size: int) -> list[float | None]:
    if size == 1:
        return [_number(value) for value in values]
    return [_number(_mean(values[i : i + size])) for i in range(0, len(values), size)]


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _number(value: float) -> float | None:
    """Five digits are more than a screen shows."""
    return None if math.isnan(value) else float(f"{value:.5g}")


def _is_empty(values: Iterable[float]) -> bool:
    return all(math.isnan(value) for value in values)


def _sample(run: int, one: Excerpt) -> dict[str, Any]:
    text = one.response
    if len(text) > HEAD + TAIL:
        left_out = len(text) - HEAD - TAIL
        text = f"{text[:HEAD]}\n\n[… {left_out:,} characters …]\n\n{text[-TAIL:]}"
    row: dict[str, Any] = {
        "run": run,
        "step": one.step,
        "split": one.split,
        "set": one.set,
        "sample": one.sample,
        "question": one.question,
        "label": one.label,
        "response": text,
        "status": one.status,
        "reward": one.reward,
        "outcome": one.outcome,
        "rubric": one.rubric,
        "zeroed": one.zeroed,
        "parts": dict(one.parts),
        "judge": one.judge[:2000],
        "tokens": one.num_tokens,
        "entities": list(one.rubrics),
        "marks": _marks(text, one.rubrics, one.aliases),
    }
    return {name: value for name, value in row.items() if value not in (None, "", {}, [])}


def _marks(text: str, entities: Sequence[str], aliases: Mapping[str, Sequence[str]]) -> list[tuple[int, int, int]]:
    """Where gold entities are named: begin and end in UTF-16 units, as scripts count, and which entity."""
    named = [entity for entity in entities if any(character.isalnum() for character in entity)]
    other = {entity: tuple(names) for entity, names in aliases.items()}
    spans = [
        (*span, entities.index(hit.entity))
        for hit in matcher("words").hits(text, named, other, every=True)
        for span in hit.spans
    ]
    units = _units(text, {edge for begin, end, _ in spans for edge in (begin, end)})
    marks: list[tuple[int, int, int]] = []
    for begin, end, entity in sorted(spans):
        if not marks or units[begin] >= marks[-1][1]:
            marks.append((units[begin], units[end], entity))
    return marks


def _units(text: str, places: Iterable[int]) -> dict[int, int]:
    if text.isascii():
        return {place: place for place in places}
    return {place: len(text[:place].encode("utf-16-le", "surrogatepass")) // 2 for place in places}
