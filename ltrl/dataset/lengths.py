"""Lengths of documents in tokens: each is tokenized once, ever, and looked up from then on.

The cache is a file with four bytes a page, mapped into memory: a build that was killed has lost nothing, and
several threads may use it.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from ltrl.dataset.kinds import Counter
from ltrl.dataset.markup import MARKUPS, Markup, body, prompt
from ltrl.dataset.page import Page

__all__ = ["Lengths"]

_BEFORE = "x\n"
"""What stands before a piece while it is counted: the beginning of a text is special to some tokenizers."""


class Lengths:
    """Counts the pieces of prompts (`ltrl.dataset.markup`)."""

    def __init__(self, counter: Counter, num_pages: int, folder: Path, *, corpus: str, max_characters: int) -> None:
        self.counter = counter
        self.max_characters = max_characters
        name = hashlib.sha256(f"{corpus} {counter.identity} {max_characters}".encode()).hexdigest()[:16]
        path = folder / f"{name}.lengths"
        size = 4 * (num_pages + 1)
        with path.open("a+b") as file:
            file.truncate(size)
            os.posix_fallocate(file.fileno(), 0, size)  # on a full disk a mapped hole is a SIGBUS
            self._map = memoryview(mmap.mmap(file.fileno(), size)).cast("i")
        self._frames: dict[str, list[int]] = {}
        """Tokens of all frames up to that of a document, by markup."""
        [self._before] = counter.count([_BEFORE])

    def of(self, pages: Sequence[Page]) -> list[int]:
        """Tokens of each page's body; those that were never counted are tokenized together."""
        found = [self._map[page.number] if page.number else 0 for page in pages]
        new = [i for i, count in enumerate(found) if not count]
        if new:
            counts = self._pieces([body(pages[i], self.max_characters) for i in new])
            for i, count in zip(new, counts, strict=True):
                found[i] = count
                if pages[i].number:
                    self._map[pages[i].number] = count
        return found

    def frames(self, markup: Markup, num_documents: int) -> int:
        """Tokens of everything that stands between so many documents."""
        sums = self._frames.get(markup.name, [0, 0])
        if num_documents >= len(sums):
            more = self._pieces([markup.frame(n) for n in range(len(sums) - 1, 2 * num_documents)])
            sums = [*sums[:-1], *accumulate(more, initial=sums[-1])]
            self._frames[markup.name] = sums  # as a whole: other threads read it
        return sums[num_documents]

    def head(self, markup: Markup, instruction: str) -> int:
        """Tokens of what stands before the documents."""
        return self.counter.count([markup.head(instruction)])[0]

    def tail(self, markup: Markup, question: str) -> int:
        """Tokens of what stands behind them."""
        return self._pieces([markup.tail(question)])[0]

    def whole(self, text: str) -> int:
        """Tokens of a whole prompt, tokenized as a whole."""
        return self.counter.count([text])[0]

    def is_additive(self, pages: Sequence[Page]) -> bool:
        """Whether prompts of these pages have as many tokens as their pieces, in every markup."""
        lengths = self.of(pages)
        bodies = [body(page, self.max_characters) for page in pages]
        for markup in MARKUPS.values():
            pieces = self.head(markup, "Answer.") + self.tail(markup, "what is it?") + sum(lengths)
            pieces += self.frames(markup, len(pages))
            if self.whole(prompt(markup, "Answer.", bodies, "what is it?")) != pieces:
                return False
        return True

    def _pieces(self, texts: Sequence[str]) -> list[int]:
        return [count - self._before for count in self.counter.count([_BEFORE + text for text in texts])]
