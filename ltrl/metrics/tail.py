"""A growing file, read from where the last reading ended."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["Replaced", "Tail", "lines"]

CHECKED = 64
"""Bytes before the offset that must still be what they were: a file written anew can be as long as the old one."""

LONGEST = 8 * 2**20
"""Bytes of a line; what goes on for longer is no metrics and is skipped."""

PIECE = 2**20
"""Bytes that are read at a time."""


class Replaced(Exception):  # an answer, not a failure
    """The file is another one than that which was read so far, or was cut short."""


class Tail:
    """How far a file has been read. A file that is gone, or not there yet, has nothing new."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = 0
        self.is_closed = False
        """Whether nobody can make sense of what follows the offset."""
        self._file: tuple[int, int] | None = None
        self._ended: tuple[int, int] | None = None
        """Size and time of change when all of it had been seen."""
        self._before = b""

    def fresh(self, limit: int) -> bytes:
        """At most `limit` bytes from the offset on; raises Replaced when what was read is there no more."""
        try:
            found = self.path.stat()
            is_same = self._file == (found.st_dev, found.st_ino)
            if is_same and (self.is_closed or self._ended == (found.st_size, found.st_mtime_ns)):
                return b""
            with self.path.open("rb", buffering=0) as file:
                return self._read(file.fileno(), limit)
        except OSError:
            return b""

    def _read(self, handle: int, limit: int) -> bytes:
        found = os.fstat(handle)
        if self._file not in (None, (found.st_dev, found.st_ino)) or found.st_size < self.offset:
            raise Replaced(self.path)
        if os.pread(handle, len(self._before), self.offset - len(self._before)) != self._before:
            raise Replaced(self.path)
        self._file = (found.st_dev, found.st_ino)
        data = os.pread(handle, limit, self.offset)
        if self.offset + len(data) >= found.st_size:
            self._ended = (found.st_size, found.st_mtime_ns)
        return data

    def advance(self, read: bytes) -> None:
        """Says that these bytes, which followed the offset, are done with."""
        self.offset += len(read)
        self._before = (self._before + read[-CHECKED:])[-CHECKED:]


def lines(tail: Tail, limit: int) -> Iterator[bytes]:
    """The whole lines in about the next `limit` bytes; one that is still being written waits for its end."""
    stop = tail.offset + limit
    piece = min(limit, PIECE)
    while tail.offset < stop and (data := tail.fresh(piece)):
        end = data.rfind(b"\n") + 1
        if end:
            tail.advance(data[:end])
            yield from data[:end].splitlines()
        elif len(data) < piece:
            return
        elif piece < LONGEST:
            piece = min(2 * piece, LONGEST)
        else:
            tail.advance(data)
