"""What a stage has done so far: a line for each of its records, in the order in which they were done.

A line has its own checksum. One that was being written when the process was killed is dropped when the journal is
opened again; so is a journal that was kept for another input.
"""

from __future__ import annotations

import os
import threading
import zlib
from pathlib import Path

from ltrl.errors import Code, LtrlError, fail, unreadable

__all__ = ["Journal"]


class Journal:
    """Records by number, each a text on one line; kept on disk, read back from there."""

    def __init__(self, path: Path, key: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._places: dict[int, tuple[int, int]] = {}
        """Where the text of a record stands: offset and length in bytes."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            self._end = self._read(_line(f"key {key}"))
            os.ftruncate(self._file, self._end)
        except OSError as error:
            raise LtrlError(unreadable(error, f"the journal `{path}`")) from None

    def __contains__(self, number: int) -> bool:
        return number in self._places

    def __len__(self) -> int:
        return len(self._places)

    def add(self, number: int, text: str) -> None:
        """Writes a record down; from now on it is done. Raises LtrlError when the disk is full."""
        line = _line(f"{number} {text}")
        with self._lock:
            self._write(line, self._end)
            self._places[number] = self._place(line, self._end)
            self._end += len(line)

    def get(self, number: int) -> str:
        """The text of a record that is done."""
        return self.raw(number).decode()

    def raw(self, number: int) -> bytes:
        """The same in UTF-8."""
        offset, size = self._places[number]
        return os.pread(self._file, size, offset)

    def close(self) -> None:
        """Gives the file back."""
        os.close(self._file)

    def _write(self, line: bytes, offset: int) -> None:
        """All of it: the first write on a disk that is nearly full takes a part, and the next one fails."""
        try:
            while line:
                written = os.pwrite(self._file, line, offset)
                line, offset = line[written:], offset + written
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise fail(Code.UNWRITABLE, f"cannot write the journal `{self._path}`: {reason}") from None

    def _read(self, key: bytes) -> int:
        """Finds the records of a file that has the key; returns the end of its last good line."""
        end = 0
        with os.fdopen(os.dup(self._file), "rb") as stream:
            stream.seek(0)
            for line in stream:
                if not _is_whole(line) or (end == 0 and line != key):
                    break
                if end:
                    self._places[int(line[9 : line.index(b" ", 9)])] = self._place(line, end)
                end += len(line)
        if end == 0:
            os.ftruncate(self._file, 0)
            self._write(key, 0)
            end = len(key)
        return end

    @staticmethod
    def _place(line: bytes, start: int) -> tuple[int, int]:
        text = line.index(b" ", 9) + 1
        return start + text, len(line) - text - 1


def _line(text: str) -> bytes:
    body = text.encode()
    assert b"\n" not in body, "a record is one line"
    return b"%08x %b\n" % (zlib.crc32(body), body)


def _is_whole(line: bytes) -> bool:
    return line.endswith(b"\n") and line[:9] == b"%08x " % zlib.crc32(line[9:-1])
