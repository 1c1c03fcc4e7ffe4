"""Files that a person keeps: written whole or not at all, never over others unasked."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from ltrl.errors import Code, Diagnostic, LtrlError, fail

__all__ = ["refuse_existing", "write"]


def refuse_existing(paths: Iterable[Path], *, force: bool) -> None:
    """Raises LtrlError when one of the files is there, unless that is said to be right."""
    found = [path for path in paths if path.exists() and not force]
    if found:
        raise LtrlError(*(Diagnostic(Code.FILE_EXISTS, f"`{p}` exists", hint="`--force` overwrites it") for p in found))


def write(path: Path, text: str) -> None:
    """Writes a file in one step, with the permissions that it had: a reader sees the old text or the new one."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        target = path.resolve()  # a link stays a link
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                file.write(text)
            mask = os.umask(0)
            os.umask(mask)
            Path(temporary).chmod(target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~mask)
            Path(temporary).replace(target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise fail(Code.UNWRITABLE, f"cannot write `{path}`: {reason}") from None
