"""One record, taken apart for a person to look at: its documents, where they name the rubric, what the agent did."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ltrl.data.overlong import spans
from ltrl.data.records import Entry, Unusable, bad, decoded, entries, sample
from ltrl.errors import Code, fail
from ltrl.samples import Passage, Sample
from ltrl.scoring import is_findable, matcher

__all__ = ["Row", "Shown", "View", "find", "index", "view"]

Mark = tuple[int, int, int]
"""First character, last + 1, and the number of the entity, from 1."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A text with its marks."""

    text: str
    marks: tuple[Mark, ...]
    title_entities: tuple[int, ...] = ()
    """Numbers of the entities that the title of a document names."""

    @property
    def entities(self) -> tuple[int, ...]:
        """Numbers of the entities that it names."""
        return tuple(sorted({*self.title_entities, *(number for _, _, number in self.marks)}))


@dataclass(frozen=True, slots=True)
class View:
    """A record with everything that is shown of it."""

    file: str
    line: int
    sample: Sample
    question: Shown
    passages: tuple[tuple[Passage, Shown], ...]
    frame: tuple[tuple[str, Shown], ...]
    """(role, text) of each message without its documents."""

    @property
    def num_characters(self) -> int:
        """Of the whole prompt."""
        return sum(len(content) for _, content in self.sample.messages)


@dataclass(frozen=True, slots=True)
class Row:
    """A record in a list of records."""

    line: int
    id: str
    question: str
    label: str
    num_characters: int
    tiers: tuple[int, int, int]
    """Documents: gold, tier 1, tier 2."""
    num_entities: int
    problem: str = ""
    """What is wrong with one that cannot be shown."""


def index(path: Path) -> Iterator[Row]:
    """Every record of a file, in a line."""
    for entry in entries(path):
        try:
            found = sample(entry)
        except Unusable as error:
            yield Row(entry.number, "", "", "", 0, (0, 0, 0), 0, error.problems[0].message)
            continue
        counts = [sum(p.tier == tier for p in found.passages) for tier in ("gold", "tier-1", "tier-2")]
        yield Row(
            entry.number,
            found.id,
            found.question,
            found.label,
            sum(len(content) for _, content in found.messages),
            (counts[0], counts[1], counts[2]),
            len(found.rubrics),
        )


def find(path: Path, id_: str) -> tuple[Entry, Sample]:
    """The record of that id, or without ids at that line; raises LtrlError when there is none, or when it is broken."""
    wanted = [json.dumps(id_).encode(), json.dumps(id_, ensure_ascii=False).encode("utf-8", "replace")]
    for entry in entries(path):
        is_line = str(entry.number) == id_
        if not is_line and not any(w in entry.text for w in wanted) and not id_.lstrip("-").isdecimal():
            continue  # cheaper than reading it
        try:
            record = decoded(entry)
            metadata = record.get("metadata", {}) if isinstance(record, dict) else {}
            own = metadata.get("id") if isinstance(metadata, dict) else None
            if str(own) == id_ or (own is None and is_line):
                return entry, sample(entry)
        except Unusable as error:
            if is_line:
                raise bad(path, entry, error.problems[0]) from None
    hint = f"`ltrl data show {path}` lists its records"
    raise fail(Code.BAD_DATA, f"`{path}` has no record `{id_}`", hint=hint)


def view(path: Path, id_: str) -> View:
    """The record of that id, taken apart."""
    entry, found = find(path, id_)
    is_named = found.dataset_name != "longrlvr"  # its rubrics are numbers of chunks
    names = {e: number for number, e in reversed(list(enumerate(found.rubrics, 1))) if is_named and is_findable(e)}
    aliases = {e: tuple(filter(is_findable, found.aliases.get(e, ()))) for e in names}

    def shown(text: str) -> Shown:
        hits = matcher("words").hits(text, tuple(names), aliases, every=True)
        return Shown(text, tuple(sorted((*span, names[hit.entity]) for hit in hits for span in hit.spans)))

    return View(
        str(path),
        entry.number,
        found,
        shown(found.question),
        tuple((p, replace(shown(p.text), title_entities=shown(p.title).entities)) for p in found.passages),
        tuple((role, shown(_frame(content, found.passages))) for role, content in found.messages),
    )


def _frame(content: str, passages: tuple[Passage, ...]) -> str:
    """A message without its documents: what stands before the first, and after the last."""
    found = spans(content, passages)
    if not found:
        return content
    first, last = min(start for start, _ in found.values()), max(end for _, end in found.values())
    return f"{content[:first]}⟨{len(found)} documents⟩{content[last:]}"
