"""Makes the store of a corpus, once for each content: the file's name is the hash of what is in it.

Pages are committed in batches; one that was killed goes on after the last batch. The file gets its name when it is
complete.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from ltrl import __version__
from ltrl.backend import Grade, create
from ltrl.dataset.corpus import FREQUENT, Corpus, normal
from ltrl.dataset.kinds import CorpusBackend, CorpusSection
from ltrl.dataset.page import SourcePage, Unusable, clean, sketch
from ltrl.dataset.progress import Progress
from ltrl.errors import Code, Diagnostic, LtrlError, fail, unreadable
from ltrl.writing import write

__all__ = ["index", "locked", "writing"]

FORMAT = 2
BATCH = 8 << 20
"""Characters of text in a batch."""
MOST_TOLD = 20
"""Broken pages that are named; the others are counted."""

_SCHEMA = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE pages(number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, title TEXT NOT NULL, text TEXT NOT NULL,
    aliases TEXT, sentences BLOB NOT NULL);
CREATE TABLE names(name TEXT, rank INTEGER, page INTEGER, PRIMARY KEY (name, rank, page)) WITHOUT ROWID;
CREATE TABLE written(page INTEGER, place INTEGER, target TEXT, anchor TEXT, PRIMARY KEY (page, place)) WITHOUT ROWID;
CREATE VIRTUAL TABLE search USING fts5(title, text, content='pages', content_rowid='number');
INSERT INTO search(search, rank) VALUES('hashsize', 33554432);
"""
_LINKED = """
CREATE TABLE links(page INTEGER, place INTEGER, target INTEGER, anchor TEXT, PRIMARY KEY (page, place)) WITHOUT ROWID;
INSERT INTO links SELECT page, min(place), target, anchor FROM (
    SELECT page, place, anchor,
        (SELECT n.page FROM names n WHERE n.name = w.target ORDER BY rank, n.page LIMIT 1) target
    FROM written w) WHERE target IS NOT NULL AND target != page GROUP BY page, target;
CREATE VIRTUAL TABLE vocabulary USING fts5vocab(search, row);
"""


@dataclass
class _Tally:
    """What became of what was read."""

    num_read: int = 0
    num_pages: int = 0
    num_skipped: int = 0
    skipped: list[str] = field(default_factory=list)
    """`where: reason` of the first."""


def index(section: CorpusSection, folder: Path, progress: Progress) -> Corpus:
    """The store of the corpus that a section describes, made now if there is none with its content.

    Raises LtrlError with the places of everything that is broken, unless that is to be skipped.
    """
    backend: CorpusBackend = create(section)
    with writing(folder), locked(folder / ".lock", "these corpora"):
        files = backend.files()
        hashes = _Hashes(folder / "files.json")
        id = _identity(section, files, hashes, progress)
        path = folder / f"{id[:16]}.sqlite"
        if not path.exists():
            part = path.with_suffix(".sqlite.part")
            with closing(sqlite3.connect(part)) as db:
                _fill(db, id, section, backend, progress)
            for file in files:
                if not hashes.is_as_read(file):
                    part.unlink()
                    hint = "start again when nobody writes it"
                    raise fail(Code.BAD_DATA, f"the corpus file `{file}` changed while it was read", hint=hint)
            _sync(part)
            part.replace(path)
    return Corpus(path)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Makes a directory; raises LtrlError for what cannot be written there, or is damaged."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        if isinstance(error, ConnectionError | TimeoutError):
            raise
        reason = (error.strerror or str(error)).lower()
        raise fail(Code.UNWRITABLE, f"cannot write below `{folder}`: {reason}") from None
    except sqlite3.OperationalError as error:  # the disk is full, for example
        raise fail(Code.UNWRITABLE, f"cannot write the store of a corpus in `{folder}`: {error}") from None
    except sqlite3.DatabaseError as error:
        hint = "delete it: it is made again"
        raise fail(Code.BAD_DATA, f"a store of a corpus in `{folder}` is damaged: {error}", hint=hint) from None


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Nobody else builds the same meanwhile; raises LtrlError when somebody does."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise fail(Code.RUN_BUSY, f"another process builds {what}", hint=f"it holds `{path}`") from None
        yield


def _identity(section: CorpusSection, files: Sequence[Path], hashes: _Hashes, progress: Progress) -> str:
    """Hash of contents and of how they are read; not of where they lie."""
    noted = {n for n, info in type(section).model_fields.items() if Grade.NOTE in info.metadata} | {"licence"}
    root = Path(os.path.commonpath([p.absolute().parent for p in files]))
    contents = []
    for path in progress.over(files, "hashing the corpus"):
        contents.append([path.absolute().relative_to(root).as_posix(), hashes.of(path)])
    hashes.save()
    how = section.model_dump(mode="json", exclude=noted)
    return hashlib.sha256(json.dumps([FORMAT, __version__, how, contents], sort_keys=True).encode()).hexdigest()


class _Hashes:
    """SHA-256 of files, remembered as long as size and time of a file stay the same."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._known: dict[str, list[Any]] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self._known = {}

    def of(self, path: Path) -> str:
        try:
            stat = path.stat()
            found = self._known.get(str(path.absolute()))
            if found is None or found[:2] != [stat.st_size, stat.st_mtime_ns]:
                with path.open("rb") as file:
                    found = [stat.st_size, stat.st_mtime_ns, hashlib.file_digest(file, "sha256").hexdigest()]
                self._known[str(path.absolute())] = found
        except OSError as error:
            raise LtrlError(unreadable(error, f"the corpus file `{path}`")) from None
        return str(found[2])

    def is_as_read(self, path: Path) -> bool:
        """Whether a file still has the size and the time that it had when it was hashed."""
        try:
            stat = path.stat()
        except OSError:
            return False
        return self._known[str(path.absolute())][:2] == [stat.st_size, stat.st_mtime_ns]

    def save(self) -> None:
        write(self._path, json.dumps(self._known, sort_keys=True))


def _fill(db: sqlite3.Connection, id: str, section: CorpusSection, backend: CorpusBackend, progress: Progress) -> None:
    db.isolation_level = None
    db.execute("PRAGMA cache_size = -131072")  # KiB
    tally = _begin(db, id)
    items = islice(backend.pages(), tally.num_read, None)
    with progress.counting("indexing pages") as step:
        step(tally.num_read)
        for batch in _batches(items):
            db.execute("BEGIN")
            for item in batch:
                _take(db, item, tally, section)
            db.execute("UPDATE meta SET value = ? WHERE key = 'tally'", (json.dumps(vars(tally)),))
            db.execute("COMMIT")
            step(len(batch))
    if tally.num_skipped and section.broken == "refuse":
        more = tally.num_skipped - len(tally.skipped)
        hint = "`broken: skip` leaves them out and counts them"
        raise LtrlError(
            *(Diagnostic(Code.BAD_DATA, told, hint=hint if i == 0 else None) for i, told in enumerate(tally.skipped)),
            *([Diagnostic(Code.BAD_DATA, f"{more} more pages are broken")] if more else ()),
        )
    if not tally.num_pages:
        raise fail(Code.BAD_DATA, "the corpus has no page")
    with progress.counting("linking pages"):
        _finish(db, id, tally)


def _begin(db: sqlite3.Connection, id: str) -> _Tally:
    """What was read before, of a file that was begun and not finished."""
    try:
        known = dict(db.execute("SELECT key, value FROM meta"))
        if known.get("id") == id:
            return _Tally(**json.loads(known["tally"]))
    except (sqlite3.Error, KeyError, ValueError):
        pass
    db.execute("BEGIN")  # the schema is there as a whole or not at all
    for statement in _SCHEMA.strip().split(";\n"):
        db.execute(statement)
    db.execute("INSERT INTO meta VALUES ('id', ?), ('tally', ?)", (id, json.dumps(vars(_Tally()))))
    db.execute("COMMIT")
    return _Tally()


def _batches(items: Iterator[SourcePage | Unusable]) -> Iterator[list[SourcePage | Unusable]]:
    batch: list[SourcePage | Unusable] = []
    size = 0
    for item in items:
        batch.append(item)
        size += len(item.text) if isinstance(item, SourcePage) else 0
        if size > BATCH or len(batch) >= 10_000:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _take(db: sqlite3.Connection, item: SourcePage | Unusable, tally: _Tally, section: CorpusSection) -> None:
    tally.num_read += 1
    problem = item.reason if isinstance(item, Unusable) else _problem(item, section)
    if isinstance(item, SourcePage) and problem is None:
        page = (tally.num_pages + 1, item.id, item.title, clean(item.text))
        links = [(normal(link.target), link.anchor) for link in item.links]
        aliases = json.dumps(item.aliases, ensure_ascii=False) if item.aliases else None
        try:
            "".join(text for link in links for text in link).encode()
            row = (*page, aliases, sketch(page[3]).tobytes())
            db.execute("INSERT INTO pages VALUES (?, ?, ?, ?, ?, ?)", row)
        except sqlite3.IntegrityError:
            problem = f"the id `{item.id}` is that of an earlier page"
        except UnicodeEncodeError:
            problem = "it has half of a surrogate pair"
    if problem is not None:
        tally.num_skipped += 1
        if len(tally.skipped) < MOST_TOLD:
            tally.skipped.append(f"{item.where}: {problem}")
        return
    assert isinstance(item, SourcePage)
    tally.num_pages += 1
    number = tally.num_pages
    db.execute("INSERT INTO search(rowid, title, text) VALUES (?, ?, ?)", (number, page[2], page[3]))
    names = ((item.id, 0), (item.title, 1), *((alias, 2) for alias in item.aliases))
    db.executemany("INSERT OR IGNORE INTO names VALUES (?, ?, ?)", ((normal(n), rank, number) for n, rank in names))
    db.executemany("INSERT INTO written VALUES (?, ?, ?, ?)", ((number, i, *link) for i, link in enumerate(links)))


def _problem(page: SourcePage, section: CorpusSection) -> str | None:
    if not page.id or not page.title.strip():
        return "the page has no title"
    if not page.text.strip():
        return "the page has no text"
    if len(page.text) > section.max_page_bytes:
        return f"the page has more than {section.max_page_bytes} bytes (`max_page_bytes`)"
    return None


def _finish(db: sqlite3.Connection, id: str, tally: _Tally) -> None:
    db.execute("BEGIN")
    for statement in _LINKED.strip().split(";\n"):
        db.execute(statement)
    db.execute(
        f"CREATE TABLE frequent AS SELECT term, doc num_pages FROM vocabulary WHERE doc > {FREQUENT} ORDER BY term"
    )
    [(num_links,)] = db.execute("SELECT count(*) FROM links")
    [(num_written,)] = db.execute("SELECT count(*) FROM written")
    [(num_missing,)] = db.execute(
        "SELECT count(*) FROM written w WHERE NOT EXISTS (SELECT 1 FROM names n WHERE n.name = w.target)"
    )
    db.execute("DROP TABLE written")
    db.execute("DROP TABLE vocabulary")
    facts = {
        "id": id,
        "num_pages": tally.num_pages,
        "num_links": num_links,
        "num_links_written": num_written,
        "num_links_to_nowhere": num_missing,
        "num_skipped": tally.num_skipped,
        "skipped": tally.skipped,
    }
    db.execute("INSERT INTO meta VALUES ('facts', ?)", (json.dumps(facts),))
    db.execute("COMMIT")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
