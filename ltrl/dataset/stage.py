"""Runs one stage over numbered records: several at a time, each once, and none that is done already."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from ltrl.dataset.journal import Journal
from ltrl.dataset.kinds import Rejected
from ltrl.dataset.progress import Progress

__all__ = ["Stage", "key_of", "random_of", "seed_of"]

_REJECTED = b'{"rejected": '


def seed_of(*parts: object) -> int:
    """A seed below 2^63 that depends on nothing but what it is made of."""
    return int.from_bytes(hashlib.sha256(json.dumps([str(p) for p in parts]).encode()).digest()[:8]) >> 1


def random_of(*parts: object) -> Random:
    """A generator with the seed that is made of these."""
    return Random(seed_of(*parts))


def key_of(*parts: object) -> str:
    """A hash of what decides the results of a stage."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@dataclass
class Stage:
    """One stage with what it has done."""

    name: str
    journal: Journal
    progress: Progress
    workers: int

    @classmethod
    def open(cls, name: str, folder: Path, key: str, progress: Progress, workers: int) -> Stage:
        """The stage, with what it did before for the same key."""
        return cls(name, Journal(folder / f"{name}.journal", key), progress, workers)

    def run(self, numbers: Iterable[int], work: Callable[[int], str]) -> None:
        """Does the records that are not done. `work` gives a record's text, one line, or raises Rejected.

        An exception of any other kind ends the stage; what was done until then is kept.
        """
        wanted = list(numbers)
        left = [number for number in wanted if number not in self.journal]
        if not left:
            return
        with (
            self.progress.counting(self.name, len(wanted), done=len(wanted) - len(left)) as step,
            ThreadPoolExecutor(self.workers) as pool,
        ):
            pending: set[Future[tuple[int, str]]] = set()
            try:
                for number in left:
                    pending.add(pool.submit(_done, work, number))
                    if len(pending) >= 2 * self.workers:
                        pending = self._collect(pending, step)
                while pending:
                    pending = self._collect(pending, step)
            except BaseException:
                self._keep(pending)
                raise

    def get(self, number: int) -> Any:
        """The result of a record, or why it was rejected: `{"rejected": reason}`."""
        return json.loads(self.journal.raw(number))

    def rejection(self, number: int) -> str | None:
        """Why a record was rejected; None when it was not."""
        raw = self.journal.raw(number)
        return str(json.loads(raw)["rejected"]) if raw.startswith(_REJECTED) else None

    def good(self, numbers: Iterable[int]) -> list[int]:
        """Those of the records that were not rejected."""
        return [number for number in numbers if self.rejection(number) is None]

    def _collect(
        self, pending: set[Future[tuple[int, str]]], step: Callable[[int], None]
    ) -> set[Future[tuple[int, str]]]:
        done, rest = wait(pending, return_when=FIRST_COMPLETED)
        failures = []
        for future in done:
            if (failure := future.exception()) is not None:
                failures.append(failure)
                continue
            self.journal.add(*future.result())
            step(1)
        if failures:
            raise failures[0]
        return rest

    def _keep(self, pending: set[Future[tuple[int, str]]]) -> None:
        """Ends the stage early: records that are under way are still written down, the others are not begun."""
        running = [future for future in pending if not future.cancel()]
        for future in running:
            if future.exception() is None:
                self.journal.add(*future.result())


def _done(work: Callable[[int], str], number: int) -> tuple[int, str]:
    try:
        return number, work(number)
    except Rejected as reason:
        return number, f"{_REJECTED.decode()}{json.dumps(str(reason))}}}"
