"""Paths of pages through a corpus: DeepDive's random walk, with a chooser at each step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import Any

from ltrl.dataset.corpus import Corpus, Neighbour
from ltrl.dataset.kinds import Candidate, Rejected, WalkBackend, WalkSection
from ltrl.dataset.page import Page
from ltrl.errors import Code, fail

__all__ = ["Walked", "walk"]

TRIES = 200
"""Random pages looked at for a start that links to enough others."""


@dataclass(frozen=True, slots=True)
class Walked:
    """What came of one walk."""

    paths: tuple[tuple[str, ...], ...]
    """Ids of the pages of each."""
    mad_walks: int
    """Times that random links led from the end of a path to the start of another."""
    mad_steps: int
    """Steps of its paths that nobody chose."""
    dead_ends: int
    """Paths that were begun and dropped."""

    def to_json(self) -> dict[str, Any]:
        """The walk as one JSON object."""
        return asdict(self)


def walk(corpus: Corpus, backend: WalkBackend, section: WalkSection, number: int, random: Random) -> Walked:
    """One walk: at most `paths_per_walk` paths, and no page twice.

    A path that ends in a dead end is dropped and the walk goes on from a page where it was before. Between two paths it
    jumps a few links at random. Raises Rejected when nothing is left to walk, LtrlError when a start is not there.
    """
    return _Walk(corpus, backend, section, random).run(_start(corpus, section, number, random))


class _Walk:
    """Where a walk has been."""

    def __init__(self, corpus: Corpus, backend: WalkBackend, section: WalkSection, random: Random) -> None:
        self.corpus = corpus
        self.backend = backend
        self.section = section
        self.random = random
        self.visited: set[int] = set()
        self.names: set[str] = set()
        self.history: list[Page] = []
        self.mad_walks = self.mad_steps = self.dead_ends = 0

    def run(self, start: Page) -> Walked:
        found: list[tuple[str, ...]] = []
        mad_steps = 0
        page: Page | None = start
        while page and self.dead_ends <= 2 * self.section.paths_per_walk:
            before = self.mad_steps
            path = self.path(page)
            if len(path) <= self.section.hops:
                self.dead_ends += 1
                page = self.elsewhere()
                continue
            found.append(tuple(p.id for p in path))
            mad_steps += self.mad_steps - before
            if len(found) == self.section.paths_per_walk:
                break
            page = self.mad_walk(path[-1])
        if not found:
            raise Rejected("the walk ended in dead ends")
        return Walked(tuple(found), self.mad_walks, mad_steps, self.dead_ends)

    def path(self, start: Page) -> list[Page]:
        """As many pages as a path has, or fewer when there is no way on."""
        path = [start]
        self.visit(start)
        while len(path) <= self.section.hops:
            is_last = len(path) == self.section.hops
            candidates = self.candidates(path[-1], min_links=0 if is_last else self.section.min_links)
            if not candidates:
                break
            path.append(candidates[self.chosen(path, candidates)].page)
            self.visit(path[-1])
        return path

    def chosen(self, path: Sequence[Page], candidates: Sequence[Candidate]) -> int:
        if len(candidates) == 1:
            return 0
        if self.section.mad_steps and self.random.random() < self.section.mad_steps:
            self.mad_steps += 1
            return self.random.randrange(len(candidates))
        return self.backend.choose(path, candidates, self.random)

    def visit(self, page: Page) -> None:
        self.visited.add(page.number)
        self.names |= {name.casefold() for name in page.names}
        self.history.append(page)

    def candidates(self, page: Page, *, min_links: int) -> list[Candidate]:
        """Pages that the walk may go to from a page, at most so many."""
        links = self.corpus.links(page.number)
        self.random.shuffle(links)
        found: list[Candidate] = []
        for link in links:
            if link.number in self.visited or link.anchor.casefold() in self.names:
                continue
            if (to := self.usable(link, min_links)) is not None:
                found.append(Candidate(to, link.anchor))
            if len(found) == self.section.candidates:
                break
        return found

    def usable(self, link: Neighbour, min_links: int) -> Page | None:
        if min_links and self.corpus.num_links(link.number) < min_links:
            return None
        page = self.corpus.page(link.number)
        return page if _is_fit(page, self.section) and page.title.casefold() not in self.names else None

    def mad_walk(self, page: Page) -> Page | None:
        """Where a few random links lead; somewhere else where they lead nowhere."""
        fewest, most = self.section.mad_jumps
        for longer in range(20):
            here = page
            for _ in range(self.random.randint(fewest, max(fewest, most)) + longer):
                ways = [link.number for link in self.corpus.links(here.number) if link.number not in self.visited]
                if not ways:
                    break
                here = self.corpus.page(self.random.choice(ways))
            if self.is_new_start(here):
                self.mad_walks += 1
                return here
        return self.elsewhere()

    def elsewhere(self) -> Page | None:
        """A page that one of the history links to and that can be a start."""
        for _ in range(20):
            links = self.corpus.links(self.random.choice(self.history).number)
            ways = [link.number for link in links if link.number not in self.visited]
            if ways and self.is_new_start(page := self.corpus.page(self.random.choice(ways))):
                return page
        return None

    def is_new_start(self, page: Page) -> bool:
        is_new = page.number not in self.visited and page.title.casefold() not in self.names
        return is_new and _is_start(self.corpus, page, self.section)


def _start(corpus: Corpus, section: WalkSection, number: int, random: Random) -> Page:
    if section.starts:
        name = section.starts[number % len(section.starts)]
        found = corpus.named(name)
        if found is None:
            raise fail(Code.BAD_DATA, f"the corpus has no page `{name}` (`walk.starts`)")
        return found
    for _ in range(TRIES):
        page = corpus.page(random.randint(1, corpus.num_pages))
        if _is_start(corpus, page, section):
            return page
    hint = "lower `walk.min_links`, or is this no corpus of pages that link to each other?"
    message = f"none of {TRIES} random pages links to {section.min_links} others"
    raise fail(Code.BAD_DATA, message, hint=hint)


def _is_start(corpus: Corpus, page: Page, section: WalkSection) -> bool:
    return _is_fit(page, section) and corpus.num_links(page.number) >= max(1, section.min_links)


def _is_fit(page: Page, section: WalkSection) -> bool:
    has_bad_title = any(part.casefold() in page.title.casefold() for part in section.skip_titles)
    return not has_bad_title and len(page.text) >= section.min_characters
