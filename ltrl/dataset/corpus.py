"""The store of a corpus: pages, links and a full-text index in one SQLite file, read by any number of threads.

BM25 is that of SQLite's FTS5 (k1 1.2, b 0.75). The most frequent words of a query are left out, so that a search
ranks some `MOST_MATCHES` pages at most.
"""

from __future__ import annotations

import json
import re
import sqlite3
import threading
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ltrl.dataset.page import Page

__all__ = ["FREQUENT", "Corpus", "Neighbour", "normal"]

FREQUENT = 256
"""Pages that a word must stand in to be counted: rarer ones cost a search nothing."""

MOST_MATCHES = 20_000
"""Pages that one search ranks, about."""

_WORD = re.compile(r"[^\W_]+")
_COLUMNS = "number, id, title, text, aliases, sentences"


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A page that another links to."""

    number: int
    anchor: str
    """The words of the link."""


class Corpus:
    """A complete store; opened read-only."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()
        self._lock = threading.Lock()
        self._opened: list[tuple[threading.Thread, sqlite3.Connection]] = []

    def close(self) -> None:
        """Gives the connections of all threads back."""
        while self._opened:
            self._opened.pop()[1].close()

    @property
    def _db(self) -> sqlite3.Connection:
        found: sqlite3.Connection | None = getattr(self._local, "db", None)
        if found is None:
            found = self._local.db = self._connection()
        return found

    def _connection(self) -> sqlite3.Connection:
        """That of a thread which has ended, or a new one: each has a cache, and every stage has threads of its own."""
        me = threading.current_thread()
        with self._lock:
            for place, (owner, db) in enumerate(self._opened):
                if not owner.is_alive():
                    self._opened[place] = (me, db)
                    return db
            uri = f"{self.path.absolute().as_uri()}?mode=ro&immutable=1"
            db = sqlite3.connect(uri, uri=True, check_same_thread=False)  # an iterator of it may change its thread
            db.execute("PRAGMA cache_size = -16384")  # KiB
            self._opened.append((me, db))
            return db

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What is known of it as a whole: id, counts, what was skipped."""
        [(text,)] = self._db.execute("SELECT value FROM meta WHERE key = 'facts'")
        return dict(json.loads(text))

    @property
    def id(self) -> str:
        """SHA-256 of its sources and of how they were read."""
        return str(self.facts["id"])

    @property
    def num_pages(self) -> int:
        """How many pages it has; their numbers are 1 to this."""
        return int(self.facts["num_pages"])

    def page(self, number: int) -> Page:
        """The page with that number."""
        [row] = self._db.execute(f"SELECT {_COLUMNS} FROM pages WHERE number = ?", (number,))
        return _page(row)

    def pages(self, numbers: Sequence[int]) -> list[Page]:
        """The pages with these numbers, in their order."""
        marks = ",".join("?" * len(numbers))
        rows = self._db.execute(f"SELECT {_COLUMNS} FROM pages WHERE number IN ({marks})", numbers)
        found = {row[0]: _page(row) for row in rows}
        return [found[number] for number in numbers]

    def find(self, id: str) -> Page | None:
        """The page with that id."""
        row = self._db.execute(f"SELECT {_COLUMNS} FROM pages WHERE id = ?", (id,)).fetchone()
        return _page(row) if row else None

    def numbers(self, ids: Iterable[str]) -> dict[str, int]:
        """The number of each id that is there."""
        wanted = list(ids)
        marks = ",".join("?" * len(wanted))
        return dict(self._db.execute(f"SELECT id, number FROM pages WHERE id IN ({marks})", wanted))

    def named(self, name: str) -> Page | None:
        """The page with that id, title or other name, in this order; case and spacing do not matter."""
        row = self._db.execute("SELECT page FROM names WHERE name = ? ORDER BY rank, page", (normal(name),)).fetchone()
        return self.page(row[0]) if row else None

    def links(self, number: int) -> list[Neighbour]:
        """The pages that a page links to, each once, in the order of its text."""
        rows = self._db.execute("SELECT target, anchor FROM links WHERE page = ? ORDER BY place", (number,))
        return [Neighbour(target, anchor) for target, anchor in rows]

    def num_links(self, number: int) -> int:
        """How many pages a page links to."""
        [(count,)] = self._db.execute("SELECT count(*) FROM links WHERE page = ?", (number,))
        return int(count)

    def search(self, query: str, limit: int) -> list[int]:
        """Numbers of the pages that suit a query best by BM25, the best first; equals by number."""
        words = self._telling(query)
        if not words:
            return []
        match = " OR ".join(f'"{word}"' for word in words)
        rows = self._db.execute(
            "SELECT rowid FROM search WHERE search MATCH ? ORDER BY bm25(search), rowid LIMIT ?", (match, limit)
        )
        return [number for (number,) in rows]

    def texts(self) -> Iterator[str]:
        """The text of every page, in order."""
        for (text,) in self._db.execute("SELECT text FROM pages ORDER BY number"):
            yield text

    def _telling(self, query: str) -> list[str]:
        """The words of a query by rarity, as many as make up the most matches; at least one."""
        words = sorted(dict.fromkeys(_WORD.findall(query.casefold())), key=lambda w: self._frequency.get(w, 0))
        taken: list[str] = []
        matches = 0
        for word in words:
            matches += self._frequency.get(word, FREQUENT)
            if taken and matches > MOST_MATCHES:
                break
            taken.append(word)
        return taken

    @cached_property
    def _frequency(self) -> dict[str, int]:
        return dict(self._db.execute("SELECT term, num_pages FROM frequent"))


def normal(name: str) -> str:
    """A name in the form in which names are compared."""
    return " ".join(name.replace("_", " ").casefold().split())


def _page(row: tuple[Any, ...]) -> Page:
    number, id, title, text, aliases, sentences = row
    return Page(number, id, title, text, tuple(json.loads(aliases)) if aliases else (), array("I", sentences))
