"""Questions: what one is, and what keeps a draft from becoming one."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ltrl.dataset.corpus import Corpus
from ltrl.dataset.kinds import Draft, QuestionSection, Rejected
from ltrl.dataset.page import Page
from ltrl.errors import Code, Diagnostic, LtrlError, fail, raise_if_any, unreadable
from ltrl.scoring import is_findable, matcher, tokens

__all__ = ["Duplicates", "Question", "accept", "given"]

_SHORTEST_NAME = 3
"""Letters of a name that gives something away: shorter ones are words of their own too often."""
_MOST_TOLD = 20
"""Broken questions of a file that are named; the others are counted."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its answer and the path that leads there."""

    id: str
    text: str
    answer: str
    entities: tuple[str, ...]
    path: tuple[str, ...]
    """Ids of its pages, the page with the answer last."""
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The question as one JSON object; `from_json` gives it back."""
        return {
            "id": self.id,
            "question": self.text,
            "answer": self.answer,
            "entities": list(self.entities),
            "aliases": {entity: list(names) for entity, names in self.aliases.items()},
            "path": list(self.path),
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Question:
        """The question in a JSON object of `to_json`."""
        return cls(
            id=record["id"],
            text=record["question"],
            answer=record["answer"],
            entities=tuple(record["entities"]),
            path=tuple(record["path"]),
            aliases={entity: tuple(names) for entity, names in record["aliases"].items()},
        )


def accept(draft: Draft, path: Sequence[Page], section: QuestionSection, *, id: str) -> Question:
    """The question that a draft is; raises Rejected when it gives its path or its answer away, or cannot be scored."""
    text = draft.text.strip()
    if not text or not draft.answer.strip() or not draft.entities:
        raise Rejected("a draft lacks its question, its answer or its entities")
    if len(text) > section.max_characters:
        raise Rejected("the question is too long")
    if not tokens(draft.answer):
        raise Rejected("the answer has no letter or digit")
    if not all(map(is_findable, draft.entities)):
        raise Rejected("an entity has no letter or digit")
    given = dict(draft.aliases)
    names = [draft.answer, *draft.entities, *(n for e in draft.entities for n in given.get(e, ()))]
    names += [name for page in path for name in page.names]
    if leaked(text, names):
        raise Rejected("the question has a name of its path")
    aliases = {
        entity: kept for entity in draft.entities if (kept := tuple(n for n in given.get(entity, ()) if is_findable(n)))
    }
    return Question(id, text, draft.answer.strip(), tuple(draft.entities), tuple(p.id for p in path), aliases)


def leaked(text: str, names: Sequence[str]) -> tuple[str, ...]:
    """The names that a text has, as whole words."""
    long = [n for n in dict.fromkeys(names) if sum(map(len, tokens(n))) >= _SHORTEST_NAME and is_findable(n)]
    return tuple(hit.entity for hit in matcher("words").hits(text, long) if hit.spans)


def given(file: str, name: str, corpus: Corpus) -> list[Question]:
    """The questions of a file, their paths looked up in the corpus; raises LtrlError with all that cannot be used."""
    path = Path(os.environ.get("LTRL_PROJECT_DIR", "")) / file
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise LtrlError(unreadable(error, f"the questions `{path}`")) from None
    found: dict[str, Question] = {}
    broken: list[Diagnostic] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            question = _given(line, f"{name}-{number:06d}", corpus)
            if question.id in found:
                raise ValueError(f"the id `{question.id}` is that of an earlier question")
            found[question.id] = question
        except ValueError as error:
            hint = None if broken else "a question is an object with `question`, `answer`, `entities` and `path`"
            broken.append(Diagnostic(Code.BAD_DATA, f"{path}:{number}: {error}", hint=hint))
    if len(broken) > _MOST_TOLD:
        broken[_MOST_TOLD:] = [Diagnostic(Code.BAD_DATA, f"{len(broken) - _MOST_TOLD} more questions are broken")]
    raise_if_any(broken)
    if not found:
        raise fail(Code.BAD_DATA, f"the file `{path}` has no question")
    return [*found.values()]


def _given(line: bytes, id: str, corpus: Corpus) -> Question:
    """The question on a line; raises ValueError with what is wrong."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("not JSON") from None
    if not isinstance(record, dict):
        raise ValueError("not an object")
    for key in ("question", "answer", "id"):
        value = record.get(key, id if key == "id" else None)
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"`{key}` is missing or not text")
    for key in ("entities", "path"):
        if not _are_texts(record.get(key)) or not record[key]:
            raise ValueError(f"`{key}` is missing or no list of texts")
    aliases = record.get("aliases", {})
    if not isinstance(aliases, dict) or not all(map(_are_texts, aliases.values())):
        raise ValueError("`aliases` is no object with a list of texts for each entity")
    names = [*record["entities"], *(alias for found in aliases.values() for alias in found)]
    if (nameless := next((n for n in names if not is_findable(n)), None)) is not None:
        raise ValueError(f"the entity `{nameless}` has no letter or digit to be found by")
    pages = [corpus.named(page) for page in record["path"]]
    for page, named in zip(record["path"], pages, strict=True):
        if named is None:
            raise ValueError(f"the corpus has no page `{page}`")
    path = [page.id for page in pages if page is not None]
    return Question.from_json({"id": id, **record, "path": path, "aliases": aliases})


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) and item.strip() for item in value)


class Duplicates:
    """Keeps a data set from asking for the same again and again."""

    def __init__(self, section: QuestionSection) -> None:
        self._section = section
        self._answers: Counter[tuple[str, ...]] = Counter()
        self._shapes: Counter[str] = Counter()

    def refuses(self, answer: str) -> str | None:
        """Why a question with this answer is one too many; counts it when it is none."""
        words, shape = tokens(answer), re.sub(r"\d+", "0", answer.casefold())
        if self._answers[words] >= self._section.same_answer:
            return "another question has the same answer"
        if self._shapes[shape] >= self._section.same_shape:
            return "other answers have the same shape"
        self._answers[words] += 1
        self._shapes[shape] += 1
        return None
