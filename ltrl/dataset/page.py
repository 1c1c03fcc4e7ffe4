"""Pages of a corpus: as a source has them, and as the store gives them back."""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Link", "Page", "SourcePage", "Unusable", "clean", "cut", "sentences", "sketch"]

_SHORTEST = 25
"""Characters of a sentence that says something: shorter ones (`See also:`, a date) stand in pages of all kinds."""
_SKETCH = 64
"""Sentences of a page that a sketch has; most pages have fewer."""


@dataclass(frozen=True, slots=True)
class Link:
    """A link as it is written."""

    target: str
    """Id, title or other name of the page that it leads to."""
    anchor: str = ""
    """The words that are the link."""


@dataclass(frozen=True, slots=True)
class SourcePage:
    """A page as a corpus backend reads it."""

    id: str
    title: str
    text: str
    links: tuple[Link, ...] = ()
    aliases: tuple[str, ...] = ()
    """Other names of what the page is about."""
    where: str = ""
    """File and line, for messages."""


@dataclass(frozen=True, slots=True)
class Unusable:
    """Something in a corpus that should have been a page."""

    where: str
    """File and line or byte."""
    reason: str


@dataclass(frozen=True, slots=True)
class Page:
    """A page as the store has it."""

    number: int
    """Its place in the corpus, from 1; 0 for a document from outside."""
    id: str
    title: str
    text: str
    aliases: tuple[str, ...] = ()
    sentences: array[int] | None = None
    """Hashes of its sentences (`sketch`)."""

    @property
    def names(self) -> tuple[str, ...]:
        """Title and aliases."""
        return (self.title, *self.aliases)


def clean(text: str) -> str:
    """The text with `\\n` as its only line end, without white space around it and NUL characters in it."""
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "").strip()


def cut(text: str, longest: int) -> str:
    """The text, or its beginning of at most so many characters, up to the end of a paragraph, sentence or word."""
    if len(text) <= longest:
        return text
    head = text[:longest]
    for end in (head.rfind("\n\n"), head.rfind(". ") + 1, head.rfind(" ")):
        if end > longest // 2:
            return head[:end].rstrip()
    return head.rstrip()


def sentences(text: str) -> Iterator[str]:
    """The sentences of a text that say something, in the form in which they are compared."""
    for paragraph in text.lower().split("\n\n"):
        for sentence in " ".join(paragraph.split()).split(". "):
            if len(sentence) >= _SHORTEST:
                yield sentence.rstrip(".!?")


def sketch(text: str) -> array[int]:
    """Hashes of a text's sentences, sorted, at most 64: two texts that share most of them are nearly the same."""
    found = {zlib.crc32(sentence.encode("utf-8", "replace")) for sentence in sentences(text[:65536])}
    return array("I", sorted(found)[:_SKETCH])
