"""Which entities of a rubric a text names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Protocol, assert_never

from ltrl.errors import Code, fail
from ltrl.scoring import reference, words
from ltrl.scoring.fold import fold
from ltrl.scoring.score import Hit, MatcherName

__all__ = ["Matcher", "ReferenceMatcher", "WordsMatcher", "is_findable", "matcher", "recall"]

Aliases = Mapping[str, tuple[str, ...]]
_NO_ALIASES: Aliases = {}


class Matcher(Protocol):
    """Finds entities in texts."""

    def hits(
        self, text: str, entities: Sequence[str], aliases: Aliases = _NO_ALIASES, *, every: bool = False
    ) -> tuple[Hit, ...]:
        """One hit for each entity, in their order, with the first or every place where the text names it.

        `aliases` gives other names by entity. Raises LtrlError with code BAD_DATA for one that cannot be looked for.
        """
        ...


class WordsMatcher:
    """Whole words in every script (NFKC, case folded), numbers by value, units and acronyms in any usual spelling."""

    def __init__(self, *, ignore_accents: bool = True) -> None:
        self._ignore_accents = ignore_accents

    def hits(
        self, text: str, entities: Sequence[str], aliases: Aliases = _NO_ALIASES, *, every: bool = False
    ) -> tuple[Hit, ...]:
        """One hit for each entity; an alias is as good as the name."""
        folded = fold(text, ignore_accents=self._ignore_accents)
        found = []
        for entity in entities:
            spans: list[tuple[int, int]] = []
            for name in (entity, *aliases.get(entity, ())):
                known = words.entity(name, self._ignore_accents)
                if known.is_empty:
                    hint = "a rubric entity needs a letter or a digit to be found by"
                    raise fail(Code.BAD_DATA, f"the rubric entity `{name}` has nothing to look for", hint=hint)
                if every or not spans:
                    spans.extend(islice(known.find_all(folded), None if every else 1))
            found.append(Hit(entity, tuple(sorted(set(spans)))))
        return tuple(found)


class ReferenceMatcher:
    """LongTraceRL's matcher, hit for hit: a substring of what is left of both texts; aliases are not looked at."""

    def hits(
        self,
        text: str,
        entities: Sequence[str],
        aliases: Aliases = _NO_ALIASES,  # noqa: ARG002
        *,
        every: bool = False,
    ) -> tuple[Hit, ...]:
        """One hit for each entity, found under its own name only."""
        prepared = reference.Prepared(text)
        num_places = None if every else 1
        return tuple(
            Hit(entity, tuple(islice(reference.entity(entity).find_all(prepared), num_places))) for entity in entities
        )


def matcher(name: MatcherName, *, ignore_accents: bool = True) -> Matcher:
    """The matcher of that name."""
    match name:
        case "words":
            return WordsMatcher(ignore_accents=ignore_accents)
        case "reference":
            return ReferenceMatcher()
        case _:
            assert_never(name)


def is_findable(entity: str) -> bool:
    """Whether a name has a letter or a digit to be found by."""
    return not words.entity(entity, True).is_empty


def recall(hits: Sequence[Hit]) -> float:
    """The share of entities that were found; 0.0 where there are none. One listed twice counts twice."""
    return sum(1 for hit in hits if hit.spans) / len(hits) if hits else 0.0
