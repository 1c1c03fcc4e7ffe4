"""What a data file contains, written down beside it: hash, size and number of records.

Hashing a file of gigabytes is no part of compiling. Whoever has read the whole file anyway (`ltrl data check`, `fetch`,
`build`) writes `NAME.digest.json` next to it; compiling reads that, and believes it while size and time of the file are
those it was written for. The note travels with the file, and everybody who shares the file shares the note.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from ltrl.errors import LtrlError, unreadable
from ltrl.writing import write

__all__ = ["DataDigests", "Digest", "digest_file", "known", "measure", "record"]

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Digest:
    """The contents of a file."""

    sha256: str
    """In hex."""
    bytes: int
    modified_ns: int
    """Its time of modification when it was read."""
    records: int | None = None
    """Records that can be used; None where nobody has counted."""


DataDigests = dict[str, dict[str, Digest | None]]
"""By the field of the spec that reads a file and the file's path; None where nothing is known of it."""


def digest_file(path: Path) -> Path:
    """Where the note about a file is."""
    return path.with_name(f"{path.name}.digest.json")


def measure(path: Path, *, records: int | None = None) -> Digest:
    """Reads a whole file; raises LtrlError when it cannot, or when it changes meanwhile."""
    try:
        with path.open("rb") as file:
            before = path.stat()
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            after = path.stat()
    except OSError as error:
        raise LtrlError(unreadable(error, f"the data file `{path}`")) from None
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise LtrlError(unreadable(OSError("it changes while it is read"), f"the data file `{path}`"))
    return Digest(sha256, after.st_size, after.st_mtime_ns, records)


def record(path: Path, found: Digest) -> None:
    """Writes the note about a file; raises LtrlError when its directory cannot be written."""
    write(digest_file(path), json.dumps({"format": FORMAT, **asdict(found)}, indent=1) + "\n")


def known(path: Path) -> Digest | None:
    """The note about a file; None when there is none, or when the file is not what it was written for."""
    try:
        data = json.loads(digest_file(path).read_bytes())
        status = path.stat()
        found = Digest(str(data["sha256"]), int(data["bytes"]), int(data["modified_ns"]), data["records"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if (found.bytes, found.modified_ns) == (status.st_size, status.st_mtime_ns) else None
