"""Answers on disk, each written the moment it is there: a file that can be left off at any moment and gone on with.

One JSON object a line, under the hash of everything that the answer depends on: model, prompt, sampling, number. What a
killed process left of a line is cut off.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from ltrl.errors import Code, LtrlError, fail, unreadable

__all__ = ["Log"]


class Log:
    """Records by key in one file, of which memory holds keys and places only; one process at a time has it open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._places: dict[str, tuple[int, int]] = {}
        self._unsynced = False

    def __enter__(self) -> Log:
        """Opens the file and reads what is there; raises UNWRITABLE, and RUN_BUSY while another process has it."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise fail(Code.UNWRITABLE, f"cannot write `{self.path}`: {reason}") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._file)
            message = f"another process is at work on `{self.path.parent}`"
            raise fail(Code.RUN_BUSY, message, hint="wait for it, or write elsewhere: `-o DIR`") from None
        self._end = 0
        for key, end in _keys(self.path):
            if key is not None:
                self._places[key] = (self._end, end - self._end)
            self._end = end
        os.ftruncate(self._file, self._end)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sync()
        os.close(self._file)

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def __len__(self) -> int:
        return len(self._places)

    def add(self, key: str, record: Mapping[str, Any]) -> None:
        """Writes a record down; it survives the end of this process from now on, and a power cut after `sync`."""
        line = (json.dumps({"key": key, **record}, ensure_ascii=True, separators=(",", ":")) + "\n").encode()
        try:
            written = os.write(self._file, line)
        except OSError as error:
            self._cut()
            reason = (error.strerror or str(error)).lower()
            raise fail(Code.UNWRITABLE, f"cannot write `{self.path}`: {reason}") from None
        if written < len(line):
            self._cut()
            raise fail(Code.UNWRITABLE, f"cannot write `{self.path}`: no space left")
        self._places[key] = (self._end, len(line))
        self._end += len(line)
        self._unsynced = True

    def get(self, key: str) -> dict[str, Any] | None:
        """The record of a key."""
        place = self._places.get(key)
        if place is None:
            return None
        found: dict[str, Any] = json.loads(os.pread(self._file, place[1], place[0]))
        return found

    def sync(self) -> None:
        """Waits until the disk has everything."""
        if self._unsynced:
            self._unsynced = False
            os.fsync(self._file)

    def _cut(self) -> None:
        os.ftruncate(self._file, self._end)


def _keys(path: Path) -> Iterator[tuple[str | None, int]]:
    """(key, where its line ends) of every whole line; None for a line that is no record."""
    end = 0
    try:
        with path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    return
                end += len(line)
                try:
                    yield str(json.loads(line)["key"]), end
                except (ValueError, KeyError, TypeError):
                    yield None, end
    except OSError as error:
        raise LtrlError(unreadable(error, f"`{path}`")) from None
