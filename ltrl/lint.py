"""Rubrics that do not measure what they should, found in data before a model learns from them.

Errors make a record useless: it is no record, an entity cannot be looked for, an id comes twice. Everything else is a
doubt: what a reward pays for may be had without the reading that it is meant for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ltrl.errors import Code, LtrlError, unreadable
from ltrl.samples import Sample
from ltrl.scoring import is_findable, matcher, tokens

__all__ = ["ERRORS", "KINDS", "Finding", "Kind", "doubts", "lint"]

Kind = Literal[
    "unusable",
    "same-id",
    "empty",
    "no-rubric",
    "duplicate",
    "answer",
    "leaked",
    "absent",
    "trap",
    "nested",
    "same-question",
]
KINDS: Mapping[Kind, str] = {
    "unusable": "lines that are no records",
    "same-id": "ids that come twice",
    "empty": "entities without a letter or digit",
    "no-rubric": "records without entities",
    "duplicate": "entities listed twice",
    "answer": "entities that are the answer",
    "leaked": "entities that the question names",
    "absent": "entities that the prompt does not name",
    "trap": "entities that a substring match finds inside other words of the prompt",
    "nested": "entities inside another entity",
    "same-question": "questions that come twice",
}
"""Every kind of finding, what it counts, gravest first."""

ERRORS: frozenset[Kind] = frozenset({"unusable", "same-id", "empty"})
_WORDS, _SUBSTRING = matcher("words"), matcher("reference")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a record."""

    kind: Kind
    file: str
    line: int
    message: str
    hint: str | None

    @property
    def is_error(self) -> bool:
        """Whether the record cannot be used as it is."""
        return self.kind in ERRORS

    @property
    def code(self) -> Code:
        """The code of the mistake."""
        return Code.BAD_RUBRIC if self.is_error else Code.DOUBTFUL_RUBRIC


def lint(path: Path) -> Iterator[Finding | None]:
    """What is wrong with the records of a file in LongTraceRL's schema; None after each record.

    Reads line by line and keeps ids and hashes of questions only.
    """
    ids: dict[str, int] = {}
    questions: dict[int, int] = {}
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                for kind, message, hint in _record(line, number, ids, questions):
                    yield Finding(kind, str(path), number, message, hint)
                yield None
    except OSError as error:
        raise LtrlError(unreadable(error, f"the data file `{path}`")) from None


Said = tuple[Kind, str, str | None]


def _record(line: bytes, number: int, ids: dict[str, int], questions: dict[int, int]) -> Iterator[Said]:
    try:
        sample = Sample.from_json(json.loads(line), default_id=str(number))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        said = f"the record has no {error}" if isinstance(error, KeyError) else str(error)
        yield "unusable", f"this is no record: {said}", None
        return
    except RecursionError:
        yield "unusable", "this is no record: too many lists or objects inside each other", None
        return
    if (first := ids.setdefault(sample.id, number)) != number:
        yield (
            "same-id",
            f"the id `{sample.id}` is that of line {first}",
            "ids name groups of responses: make them unique",
        )
    if (first := questions.setdefault(hash(sample.question), number)) != number:
        yield "same-question", f"the question is that of line {first}", None
    if sample.dataset_name != "longrlvr":  # its rubrics are numbers of chunks
        yield from doubts(sample)


def doubts(sample: Sample) -> Iterator[Said]:
    """(kind, what is wrong, what to do) of everything in one sample's rubric."""
    if not sample.rubrics:
        yield "no-rubric", "the rubric is empty: no response can name anything", None
    names = {entity: (entity, *sample.aliases.get(entity, ())) for entity in sample.rubrics}
    nameless = [name for entity in names.values() for name in entity if not is_findable(name)]
    for name in nameless:
        yield "empty", f"the entity `{name}` has nothing to look for", "it needs a letter or a digit"
    entities = tuple(entity for entity in names if not set(names[entity]) & set(nameless))
    words = {entity: {tokens(name) for name in names[entity]} for entity in entities}
    listed: set[tuple[str, ...]] = set()
    for entity in sample.rubrics:
        if tokens(entity) in listed:
            yield "duplicate", f"the entity `{entity}` is listed twice, and counts twice", "list it once"
        if tokens(entity):
            listed.add(tokens(entity))
    answer = tokens(sample.label)
    context = "\n\n".join(text for _, text in sample.messages)
    if sample.question:
        context = context.replace(sample.question, " ")
    in_question = _WORDS.hits(sample.question, entities, sample.aliases)
    in_context = _WORDS.hits(context, entities, sample.aliases, every=True)
    inside = _SUBSTRING.hits(context, entities, every=True)
    for entity, question, places, loose_places in zip(entities, in_question, in_context, inside, strict=True):
        if answer in words[entity]:
            yield "answer", f"the entity `{entity}` is the answer: naming it takes no evidence", "leave it out"
        if question.spans:
            yield "leaked", f"the question names the entity `{entity}`", "leave it out, or ask without naming it"
        if not places.spans:
            hint = "is it written in another way there? give the names as `metadata.aliases`"
            yield "absent", f"the prompt does not name the entity `{entity}`", hint
        trap = next((p for p in loose_places.spans if not any(a < p[1] and p[0] < b for a, b in places.spans)), None)
        if trap is not None and trap != (0, 0):
            yield "trap", f"a substring match finds `{entity}` in `{_words(context, *trap)}`", "use `matcher: words`"
        for other in entities:
            if other != entity and _WORDS.hits(other, (entity,))[0].spans and words[other] != words[entity]:
                yield "nested", f"the entity `{entity}` is inside `{other}`: naming that one names both", None


def _words(text: str, start: int, end: int) -> str:
    """The whole words that a stretch of a text touches, if they are not long."""
    before, after = text[max(0, start - 30) : start], text[end : end + 30]
    left = before.split()[-1] if before and not before[-1].isspace() else ""
    right = after.split()[0] if after and not after[0].isspace() else ""
    return " ".join(f"{left}{text[start:end]}{right}".split())
