"""Verdicts kept on disk, shared by any number of processes."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ltrl.errors import Code, fail
from ltrl.scoring import Verdict

__all__ = ["VerdictCache"]

_BUSY_SECONDS = 30.0


class VerdictCache:
    """Verdicts by key in one SQLite file. The first verdict of a key stays; failures are never kept.

    Rollback journal rather than WAL: run directories stand on network file systems.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._owner = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._connect() as connection:
                connection.execute(
                    "CREATE TABLE IF NOT EXISTS verdicts"
                    " (key TEXT PRIMARY KEY, is_correct INTEGER NOT NULL, reason TEXT NOT NULL, words TEXT NOT NULL,"
                    " sampling TEXT NOT NULL)"
                )
        except (OSError, sqlite3.Error) as error:
            hint = "name another file as `cache` of the judge, or delete this one"
            raise fail(Code.UNWRITABLE, f"the verdict cache `{path}` cannot be used: {error}", hint=hint) from error

    def get(self, key: str) -> Verdict | None:
        """The verdict kept under a key; None also when the file cannot be read just now."""
        with self._lock, contextlib.suppress(sqlite3.Error):
            row = self._connect().execute("SELECT is_correct, reason, words FROM verdicts WHERE key = ?", (key,))
            if found := row.fetchone():
                return Verdict(bool(found[0]), found[1], found[2])
        return None

    def put(self, key: str, verdict: Verdict, sampling: Mapping[str, Any]) -> None:
        """Keeps a verdict with the model and sampling that gave it.

        A full disk or a lock that lasts leaves it unkept, which costs a question later, no more.
        """
        if verdict.is_correct is None:
            return
        row = (key, int(verdict.is_correct), verdict.reason, verdict.words, json.dumps(sampling, sort_keys=True))
        with self._lock, contextlib.suppress(sqlite3.Error), self._connect() as connection:
            connection.execute("INSERT OR IGNORE INTO verdicts VALUES (?, ?, ?, ?, ?)", row)

    def close(self) -> None:
        """Closes the file; a later use opens it again."""
        with self._lock:
            if self._connection is not None and self._owner == os.getpid():
                self._connection.close()
            self._connection = None

    def _connect(self) -> sqlite3.Connection:
        """This process's connection: one taken over a fork must not be used."""
        if self._connection is None or self._owner != os.getpid():
            self._connection = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, check_same_thread=False)
            self._owner = os.getpid()
        return self._connection
