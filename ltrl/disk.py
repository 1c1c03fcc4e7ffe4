"""Records of runs: what is written is on the disk before the next step depends on it, and a reader never sees half."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from ltrl.errors import Code, LtrlError, fail

__all__ = ["Writes", "unwritable", "write_json"]

WRITERS = 32
"""Files that are waited for at the same time: a disk makes many writes last in the time of one."""


class Writes:
    """Changes of many files that are made and waited for together, at the end of a `with`; after an error there, none.

    Raises LtrlError, UNWRITABLE, for a path that cannot be written.
    """

    def __init__(self) -> None:
        self._drafts: dict[Path, Path] = {}
        self._lines: list[tuple[Path, bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._commit()
        finally:
            for draft in self._drafts.values():
                with suppress(OSError):
                    draft.unlink(missing_ok=True)

    def json(self, path: Path, data: Any) -> None:
        """Replaces a file: readers see the old or the new one."""
        self._drafts[path] = draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        with _unwritable(path):
            draft.write_bytes(json.dumps(data, indent=2, ensure_ascii=False).encode() + b"\n")

    def line(self, path: Path, data: Any) -> None:
        """Adds a line to a file, once the files are there."""
        self._lines.append((path, json.dumps(data, ensure_ascii=False).encode() + b"\n"))

    def _commit(self) -> None:
        _sync({draft: path for path, draft in self._drafts.items()})
        folders = {path.parent: path for path in self._drafts}
        for path in [*self._drafts]:
            with _unwritable(path):
                self._drafts[path].replace(path)
            del self._drafts[path]
        for path, line in self._lines:
            with _unwritable(path):
                _append(path, line)
        _sync({**folders, **{path: path for path, _ in self._lines}})


def write_json(path: Path, data: Any) -> None:
    """Replaces a file: readers see the old or the new one, and the new one is on the disk."""
    with Writes() as writes:
        writes.json(path, data)


def unwritable(error: OSError, path: Path) -> LtrlError:
    """The error for a path that the system does not let us write."""
    return fail(Code.UNWRITABLE, f"cannot write `{path}`: {(error.strerror or str(error)).lower()}")


@contextmanager
def _unwritable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise unwritable(error, path) from None


def _append(path: Path, line: bytes) -> None:
    with path.open("a+b") as file:
        # one write, so that lines of two processes do not mix; it begins anew after a line that a crash cut short
        torn = file.tell() and os.pread(file.fileno(), 1, file.tell() - 1) != b"\n"
        file.write(b"\n" + line if torn else line)


def _sync(paths: Mapping[Path, Path]) -> None:
    """Waits until files or directories are on the disk; each with the file that is meant."""
    if len(paths) < 2:
        _synced(paths.items())
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(_synced, ([*paths.items()][i::WRITERS] for i in range(WRITERS))))


def _synced(paths: Iterable[tuple[Path, Path]]) -> None:
    for path, meant in paths:
        with _unwritable(meant):
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
