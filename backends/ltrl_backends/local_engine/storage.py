"""Writing that is complete or absent, and says clearly why it could not be done."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ltrl.errors import Code, LtrlError, fail

__all__ = ["locked", "sync_directory", "sync_tree", "write_text", "writing"]

REFUSALS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.EIO, errno.ENOTDIR, errno.EEXIST, errno.ENOENT),
}
"""What a file system answers when it is full, read-only, not ours or broken; anything else is a bug of ours."""


@contextmanager
def writing(place: Path, *, hint: str | None = None) -> Iterator[None]:
    """Turns the file system's refusal to write in a place into an LtrlError."""
    try:
        yield
    except LtrlError:
        raise
    except Exception as error:
        reason = _refusal(error)
        if reason is None:
            raise
        message = f"cannot write to `{place}`: {os.strerror(reason).lower()}"
        raise fail(Code.UNWRITABLE, message, hint=hint) from error


@contextmanager
def locked(path: Path, *, when_busy: Callable[[], None]) -> Iterator[None]:
    """Holds a lock; calls `when_busy` if another process has it, and waits unless that raises.

    The operating system frees it when the process ends, however it ends. Without effect on file systems without locks.
    """
    with writing(path.parent):
        file = path.open("w")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            when_busy()
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
        yield


def write_text(path: Path, text: str) -> None:
    """The file with this text, on disk when this returns."""
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def sync_tree(directory: Path) -> None:
    """Everything below the directory is on disk when this returns."""
    for folder, _, names in os.walk(directory, topdown=False):
        for name in names:
            with Path(folder, name).open("rb") as file:
                os.fsync(file.fileno())
        sync_directory(Path(folder))


def sync_directory(directory: Path) -> None:
    """The directory's entries are on disk when this returns."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refusal(error: Exception) -> int | None:
    """The error number of a refused write; torch and safetensors hide it in errors of their own."""
    if isinstance(error, OSError):
        return error.errno if error.errno in REFUSALS else None
    message = str(error)
    for number in sorted(REFUSALS):
        if os.strerror(number) in message or f"os error {number})" in message:
            return number
    # torch.save says no more than this
    return errno.ENOSPC if "PytorchStreamWriter failed writing" in message or "unexpected pos" in message else None
