"""Which requests are being answered or were: the same request gets the same reply and is scored once.

A request is known by what it says. Clients that ask the same at the same time wait for one scoring; one that lost its
connection finds the reply when it asks again. The processes of a server share one SQLite file.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import NamedTuple

__all__ = ["Answer", "Ledger"]

_KEPT_SECONDS = 900
_POLL_SECONDS = 0.02
_SWEEP_EVERY = 256


class Answer(NamedTuple):
    """A reply."""

    status: int
    body: bytes
    is_final: bool = True
    """False for one that may differ when it is asked for again, with a judge that is back: it is not kept."""


class Ledger:
    """Replies by key. A claim of a process that died is taken over."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._here: dict[str, Future[Answer]] = {}
        self._num_claims = 0
        self._connection = sqlite3.connect(path, timeout=60, check_same_thread=False, isolation_level=None)
        # The file lives as long as the server: what a power cut takes is worth nothing.
        for pragma in ("journal_mode = WAL", "synchronous = OFF", "cache_size = -4000"):
            self._connection.execute(f"PRAGMA {pragma}").close()
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS answers"
            " (key TEXT PRIMARY KEY, owner INTEGER NOT NULL, status INTEGER, body BLOB, since REAL NOT NULL)"
        )

    def answer(self, key: str, work: Callable[[], Answer]) -> tuple[Answer, bool]:
        """The reply under a key and whether it was known; otherwise what `work` returns, called by one at a time."""
        with self._lock:
            future = self._here.get(key)
            if is_mine := future is None:
                future = self._here[key] = Future()
        if not is_mine:
            return future.result(), True
        try:
            answer, is_known = self._across_processes(key, work)
            future.set_result(answer)
        except BaseException as error:
            future.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._here[key]
        return answer, is_known

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()

    def _across_processes(self, key: str, work: Callable[[], Answer]) -> tuple[Answer, bool]:
        while not self._claimed(key):
            if (known := self._known(key)) is not None:
                return known, True
            time.sleep(_POLL_SECONDS)
        try:
            answer = work()
        except BaseException:
            self._execute("DELETE FROM answers WHERE key = ?", key)
            raise
        if answer.is_final:
            row = (answer.status, answer.body, time.time(), key)
            self._execute("UPDATE answers SET status = ?, body = ?, since = ? WHERE key = ?", *row)
        else:
            self._execute("DELETE FROM answers WHERE key = ?", key)
        return answer, False

    def _claimed(self, key: str) -> bool:
        """Whether this process is now the one to answer."""
        me = os.getpid()
        if self._execute("INSERT OR IGNORE INTO answers VALUES (?, ?, NULL, NULL, ?)", key, me, time.time()):
            self._sweep()
            return True
        rows = self._select("SELECT owner FROM answers WHERE key = ? AND status IS NULL", key)
        if not rows or _is_alive(owner := rows[0][0]):
            return False
        took_over = "UPDATE answers SET owner = ? WHERE key = ? AND owner = ? AND status IS NULL"
        return bool(self._execute(took_over, me, key, owner))

    def _known(self, key: str) -> Answer | None:
        rows = self._select("SELECT status, body FROM answers WHERE key = ? AND status IS NOT NULL", key)
        return Answer(*rows[0]) if rows else None

    def _sweep(self) -> None:
        self._num_claims += 1
        if self._num_claims % _SWEEP_EVERY == 0:
            old = time.time() - _KEPT_SECONDS
            self._execute("DELETE FROM answers WHERE status IS NOT NULL AND since < ?", old)

    def _execute(self, statement: str, *values: object) -> int:
        """How many rows a statement changed."""
        with self._lock, contextlib.closing(self._connection.execute(statement, values)) as done:
            return done.rowcount

    def _select(self, statement: str, *values: object) -> list[tuple[int, bytes]]:
        with self._lock, contextlib.closing(self._connection.execute(statement, values)) as found:
            return found.fetchall()


def _is_alive(pid: int) -> bool:
    if pid == os.getpid():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
