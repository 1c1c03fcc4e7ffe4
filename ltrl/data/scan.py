"""The facts of every record of a file, in its order, worked out by several processes."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from pathlib import Path

from ltrl.data.facts import Facts, Looks, facts
from ltrl.data.records import Entry, entries

__all__ = ["available", "scan"]

BATCH_BYTES = 2 << 20
"""Records that go to a process at once; several of these for each process are in memory."""

WORTH_PROCESSES = 16 << 20
"""Bytes of a file below which starting processes takes longer than it saves."""


def available() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def scan(path: Path, looks: Looks, *, jobs: int, limit: int | None = None) -> Iterator[Facts]:
    """The facts of every record, or of the first `limit`; raises LtrlError where the file cannot be read on."""
    found = islice(entries(path), limit)
    if jobs == 1 or _size(path) < WORTH_PROCESSES:
        for some in _batches(found):
            yield from facts(some, looks)
        return
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are the parallelism
    ahead: deque[Future[list[Facts]]] = deque()
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            for some in _batches(found):
                ahead.append(pool.submit(facts, some, looks))
                if len(ahead) > 2 * jobs:
                    yield from ahead.popleft().result()
            while ahead:
                yield from ahead.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # reading it says why


def _batches(found: Iterable[Entry]) -> Iterator[list[Entry]]:
    some: list[Entry] = []
    size = 0
    for entry in found:
        some.append(entry)
        size += len(entry.text)
        if size >= BATCH_BYTES:
            yield some
            some, size = [], 0
    if some:
        yield some
