"""Records of a benchmark's files, one at a time: JSON, JSON Lines, CSV, TSV and Parquet, from disk or from the hub."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ltrl.errors import Code, LtrlError, Position, Source, fail, unreadable

__all__ = ["Record", "bad", "count", "from_hub", "local", "one_of", "read", "text"]

Record = Mapping[str, Any]

_BLOCK = 1 << 20
_FEW_ROWS = 16
"""Parquet rows in memory at once: one of MRCR's may have 5 MB."""


def local(path: str) -> Path:
    """A path of a spec; a relative one starts at the project."""
    return Path(os.environ.get("LTRL_PROJECT_DIR", "")) / path


def from_hub(repository: str, patterns: Iterable[str], *, revision: str | None) -> Path:
    """A directory with the files of a data set of the hub; those in the cache are not loaded again.

    Raises MISSING_EXTRA without huggingface_hub, and BAD_DATA when the hub cannot be reached.
    """
    try:
        from huggingface_hub import snapshot_download
    except ModuleNotFoundError as error:
        hint = "pip install 'ltrl[eval]', or give the benchmark's files as `path`"
        raise fail(Code.MISSING_EXTRA, f"loading `{repository}` needs `huggingface_hub`", hint=hint) from error
    try:
        found = snapshot_download(
            repository, repo_type="dataset", revision=revision, allow_patterns=list(patterns), max_workers=4
        )
    except Exception as error:  # its own, httpx's and the system's, by version
        hint = f"give the files of `{repository}` as `path`; HF_HUB_OFFLINE=1 uses what is in the cache already"
        said = str(error).strip().splitlines()
        message = f"cannot load `{repository}` from the hub: {said[0] if said else type(error).__name__}"
        raise fail(Code.BAD_DATA, message, hint=hint) from error
    return Path(found)


def read(path: Path, patterns: Iterable[str] = ()) -> Iterator[tuple[Position, Record]]:
    """The records of a file, or of all files of a directory that match, sorted by name, each with where it stands.

    Raises BAD_DATA for what is no record, and for a directory without such files.
    """
    for file in _files(path, patterns):
        reader = _READERS.get(file.suffix)
        if reader is None:
            raise fail(Code.BAD_DATA, f"`{file}` is none of {', '.join(f'`{suffix}`' for suffix in _READERS)}")
        try:
            for number, record in reader(file):
                position = Position(Source(str(file), "\n" * number), number, 1)
                if not isinstance(record, dict):
                    raise fail(Code.BAD_DATA, f"record {number} of `{file}` is no object", position)
                if None in record:  # what the csv module does with them
                    raise fail(Code.BAD_DATA, f"record {number} of `{file}` has more fields than its head", position)
                yield position, record
        except OSError as error:
            raise LtrlError(unreadable(error, f"the benchmark's data `{file}`")) from None
        except (ValueError, csv.Error) as error:
            raise fail(Code.BAD_DATA, f"`{file}` is not {file.suffix[1:].upper()}: {error}") from error


def count(path: Path, patterns: Iterable[str] = ()) -> int:
    """How many records `read` finds, those of Parquet without reading them; raises as it does."""
    return sum(_num_records(file) for file in _files(path, patterns))


def _num_records(file: Path) -> int:
    if file.suffix == ".parquet":
        with suppress(ImportError, OSError, ValueError):  # told by `read`
            from pyarrow.parquet import read_metadata

            return int(read_metadata(file).num_rows)
    return sum(1 for _ in read(file))


def _files(path: Path, patterns: Iterable[str]) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted({file for pattern in patterns for file in path.glob(pattern)})
    if not found:
        listed = ", ".join(f"`{pattern}`" for pattern in patterns)
        raise fail(Code.BAD_DATA, f"`{path}` has no file like {listed}")
    return found


def text(position: Position, record: Record, name: str) -> str:
    """A field that must be text; raises BAD_DATA with the columns that are there."""
    value = record.get(name)
    if isinstance(value, str):
        return value
    said = f"has no `{name}`" if value is None else f"has a `{name}` that is no text"
    hint = f"its fields: {', '.join(f'`{key}`' for key in record)}"
    raise bad(position, said, hint=hint)


def one_of(position: Position, record: Record, name: str, known: Sequence[str]) -> str:
    """A field that must be one of some texts; raises BAD_DATA."""
    value = text(position, record, name)
    if value not in known:
        shown = value if len(value) <= 40 else value[:37] + "..."
        raise bad(position, f"has `{shown}` as its `{name}`, which is none of {', '.join(known)}")
    return value


def bad(position: Position, said: str, *, hint: str | None = None) -> LtrlError:
    """The error BAD_DATA for a record, which says where it stands."""
    return fail(Code.BAD_DATA, f"record {position.line} of `{position.source.name}` {said}", position, hint=hint)


def _json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    record = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise ValueError(f"record {number}: {error}") from None
                yield number, record


def _json_list(path: Path) -> Iterator[tuple[int, Any]]:
    """The items of a list, without the whole list in memory: LongBench v2 is one of 465 MB."""
    decoder, number, rest = json.JSONDecoder(), 0, ""
    with path.open(encoding="utf-8") as file:
        rest = file.read(_BLOCK).lstrip()
        if not rest.startswith("["):
            raise ValueError("it does not begin with `[`")
        rest = rest[1:]
        while True:
            rest = rest.lstrip(" \t\r\n,")
            if rest.startswith("]"):
                return
            try:
                item, end = decoder.raw_decode(rest)
                is_cut = end == len(rest)  # a number may go on behind the block
            except RecursionError as error:
                raise ValueError(f"item {number + 1}: {error}") from None
            except ValueError:
                is_cut = True
            if is_cut:
                more = file.read(max(_BLOCK, len(rest)))
                if not more:
                    raise ValueError(f"item {number + 1} is no JSON, or the file ends in it")
                rest += more
                continue
            number += 1
            yield number, item
            rest = rest[end:]


def _table(delimiter: str) -> Callable[[Path], Iterator[tuple[int, Any]]]:
    def rows(path: Path) -> Iterator[tuple[int, Any]]:
        csv.field_size_limit(sys.maxsize)
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from enumerate(csv.DictReader(file, delimiter=delimiter, strict=True), 1)

    return rows


def _parquet(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ModuleNotFoundError as error:
        raise fail(Code.MISSING_EXTRA, f"reading `{path}` needs `pyarrow`", hint="pip install 'ltrl[eval]'") from error
    number = 0
    try:
        with ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_FEW_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except ArrowException as error:
        raise ValueError(str(error)) from error


_READERS: dict[str, Callable[[Path], Iterator[tuple[int, Any]]]] = {
    ".json": _json_list,
    ".jsonl": _json_lines,
    ".csv": _table(","),
    ".tsv": _table("\t"),
    ".parquet": _parquet,
}
