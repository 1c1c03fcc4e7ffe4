"""Lines of large JSON files, with their numbers; one that is broken or too long is said to be, and the next follows."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ltrl.dataset.page import Unusable
from ltrl.errors import Code, LtrlError, fail, unreadable

__all__ = ["found_files", "json_lines", "relative"]


def found_files(path: str, patterns: Sequence[str]) -> list[Path]:
    """The file, or every file below the directory that fits a pattern, sorted; a relative path starts at the project.

    Raises LtrlError when there is none.
    """
    place = Path(os.environ.get("LTRL_PROJECT_DIR", "")) / path
    files = sorted({p for pattern in patterns for p in place.rglob(pattern) if p.is_file()})
    found = files if place.is_dir() else [place] if place.is_file() else []
    if not found:
        listed = " or ".join(f"`{pattern}`" for pattern in patterns)
        what = f"the directory `{place}` has no file {listed}" if place.is_dir() else f"there is no corpus `{place}`"
        raise fail(Code.BAD_DATA, what, hint="a relative path starts at the project, the directory with `specs`")
    return found


def relative(file: Path, path: str) -> Path:
    """A file's path below the corpus that it is of."""
    place = Path(os.environ.get("LTRL_PROJECT_DIR", "")) / path
    return file.relative_to(place) if place.is_dir() else Path(file.name)


def json_lines(file: Path, longest: int) -> Iterator[tuple[str, dict[str, Any]] | Unusable]:
    """(place, object) of every line that is not blank; one longer than so many bytes is never in memory as a whole."""
    try:
        with file.open("rb") as stream:
            number = 0
            while line := stream.readline(longest + 1):
                number += 1
                where = f"{file}:{number}"
                if len(line) > longest and not line.endswith(b"\n"):
                    while (rest := stream.readline(1 << 20)) and not rest.endswith(b"\n"):
                        pass
                    yield Unusable(where, f"the line has more than {longest} bytes (`max_page_bytes`)")
                elif line.strip():
                    yield _parsed(where, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)
    except OSError as error:
        raise LtrlError(unreadable(error, f"the corpus file `{file}`")) from None


def _parsed(where: str, line: bytes) -> tuple[str, dict[str, Any]] | Unusable:
    try:
        found = json.loads(line.rstrip(b"\r\n"))
    except UnicodeDecodeError as error:
        return Unusable(f"{where}:{error.start + 1}", f"byte {error.start + 1} of the line is not UTF-8")
    except json.JSONDecodeError as error:
        return Unusable(f"{where}:{error.colno}", f"not JSON: {error.msg[:1].lower()}{error.msg[1:]}")
    except (ValueError, RecursionError):
        return Unusable(where, "not JSON that can be read: too deep, or a number too long")
    return (where, found) if isinstance(found, dict) else Unusable(where, "not a JSON object")
