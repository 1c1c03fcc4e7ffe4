"""The records of a file, one after the other: JSON Lines, plain or compressed, and Parquet.

Reading stops for nothing but a file that cannot be read on: what is wrong with one record is said of that record, with
its field, and the next one follows.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ltrl.data.mapping import Fields, mapped
from ltrl.errors import Code, LtrlError, Position, Source, fail, unreadable
from ltrl.samples import Sample

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

__all__ = ["LONGEST", "Entry", "Problem", "Unusable", "bad", "count", "decoded", "entries", "problems", "sample"]

LONGEST = 64 << 20
"""Bytes of one record; a prompt of 128K tokens has half a megabyte."""

_SHOWN = 120
_GZIP = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"
_TIERS = ("gold", "tier-1", "tier-2")


@dataclass(frozen=True, slots=True)
class Entry:
    """What should be one record."""

    number: int
    """Its line, or its row in a Parquet file; from 1."""
    text: bytes
    """JSON; of one longer than `LONGEST` bytes the beginning only."""
    is_last: bool = False
    """Whether the file ends here without the end of a line: it may have been cut off."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that keeps a record from being LongTraceRL's."""

    field: str
    """Dotted path; empty for the record as a whole."""
    message: str
    hint: str | None = None


class Unusable(Exception):
    """A record that cannot be used, with all its problems."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("; ".join(p.message for p in problems))
        self.problems = problems


def entries(path: Path) -> Iterator[Entry]:
    """Every line that is not blank, or every row, in the file's order; holds one at a time.

    A name that ends in `.parquet` is a Parquet file; gzip is known by its first bytes. Raises LtrlError where the file
    cannot be read on.
    """
    try:
        if path.suffix == ".parquet":
            yield from _rows(path)
            return
        with path.open("rb") as raw:
            is_gzip = raw.read(2) == _GZIP
            raw.seek(0)
            if not is_gzip:
                yield from _lines(raw)
                return
            with gzip.open(raw) as unpacked:
                yield from _lines(unpacked)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        hint = "the file was not copied whole, or is damaged"
        raise fail(Code.BAD_DATA, f"the data file `{path}` is no whole gzip file: {_lower(error)}", hint=hint) from None
    except OSError as error:
        raise LtrlError(unreadable(error, f"the data file `{path}`")) from None


def count(path: Path) -> int:
    """How many entries a file has; parses none."""
    if path.suffix != ".parquet":
        return sum(1 for _ in entries(path))
    with _parquet(path) as file:
        return int(file.metadata.num_rows)


def decoded(entry: Entry) -> Any:
    """The JSON of an entry; raises Unusable when it is none."""
    if len(entry.text) > LONGEST:
        message = f"this is longer than {LONGEST >> 20} MiB"
        raise Unusable(Problem("", message, "one record a line; is the end of a line missing?"))
    try:
        return json.loads(entry.text.rstrip())
    except UnicodeDecodeError as error:
        raise Unusable(Problem("", f"this is not UTF-8 from byte {error.start + 1} of the line on")) from None
    except RecursionError:
        raise Unusable(Problem("", "this is not a record: too many lists or objects inside each other")) from None
    except ValueError as error:
        hint = "one JSON object a line; a `.json` file with a list is not JSON Lines"
        if entry.is_last:
            hint = "the file ends in the middle of this record: was it copied whole?"
        where = f" at character {error.pos + 1} of the line" if isinstance(error, json.JSONDecodeError) else ""
        said = _lower(error.msg if isinstance(error, json.JSONDecodeError) else error)
        raise Unusable(Problem("", f"this is not JSON: {said.removesuffix(' at')}{where}", hint)) from None


def sample(entry: Entry, fields: Fields | None = None) -> Sample:
    """The sample of an entry, by default in LongTraceRL's schema; raises Unusable with every problem of it."""
    record = decoded(entry) if fields is None else mapped(decoded(entry), fields)
    found = tuple(problems(record))
    if found:
        raise Unusable(*found)
    try:
        return Sample.from_json(record, default_id=str(entry.number))
    except (ValueError, TypeError, KeyError) as error:
        said = f"`metadata` has no {error}" if isinstance(error, KeyError) else str(error)
        raise Unusable(Problem("metadata", said)) from None


def bad(path: Path, entry: Entry, problem: Problem) -> LtrlError:
    """The error for a record that a training cannot do without."""
    text = entry.text[: 4 * _SHOWN].decode("utf-8", "replace").strip()
    shown = text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
    source = Source(str(path), "\n" * (entry.number - 1) + shown)
    return fail(
        Code.BAD_DATA,
        problem.message,
        Position(source, entry.number, 1, max(1, len(shown))),
        hint=problem.hint,
    )


def problems(record: Any) -> Iterator[Problem]:
    """Everything that keeps a record from being LongTraceRL's, in the words of its schema."""
    if not isinstance(record, dict):
        yield Problem("", f"a record is a JSON object, this is {_kind(record)}")
        return
    for field in ("source", "input_messages", "label", "metadata"):
        if field not in record:
            yield Problem(field, f"the record has no `{field}`")
    if "source" in record:
        yield from _text("source", record["source"])
    if "input_messages" in record:
        yield from _messages(record["input_messages"])
    if "label" in record:
        yield from _text("label", record["label"])
    if "metadata" in record:
        yield from _metadata(record["metadata"])


def _messages(messages: Any) -> Iterator[Problem]:
    if not isinstance(messages, list) or not messages:
        message = f"`input_messages` is {_kind(messages)}, expected a list of at least one message"
        yield Problem("input_messages", message)
        return
    for index, message in enumerate(messages):
        for key in ("role", "content"):
            yield from _text(f"input_messages[{index}].{key}", message.get(key) if isinstance(message, dict) else None)


def _metadata(metadata: Any) -> Iterator[Problem]:
    info = metadata.get("extra_reward_info") if isinstance(metadata, dict) else None
    if not isinstance(metadata, dict) or not isinstance(info, dict):
        name = "metadata.extra_reward_info"
        yield Problem(name, f"`{name}` is {_kind(info)}, expected an object")
        return
    for key in ("question", "dataset_name"):
        yield from _text(f"metadata.extra_reward_info.{key}", info.get(key), may_be_empty=True)
    rubrics, name = info.get("rubrics"), "metadata.extra_reward_info.rubrics"
    if not isinstance(rubrics, list):
        yield Problem(name, f"`{name}` is {_kind(rubrics)}, expected a list")
    elif info.get("dataset_name") != "longrlvr":
        if any(not isinstance(r, str) or not r.strip() for r in rubrics):
            yield Problem(name, f"`{name}` has an item that is not text")
        else:
            for place, rubric in enumerate(rubrics):
                yield from _text(f"{name}[{place}]", rubric)
    if isinstance(metadata.get("id", ""), list | dict) or metadata.get("id", "") is None:
        yield Problem("metadata.id", f"`metadata.id` is {_kind(metadata['id'])}, expected text or a number")
    elif isinstance(metadata.get("id"), str):
        yield from _text("metadata.id", metadata["id"])
    yield from _documents(metadata.get("documents", []))


def _documents(documents: Any) -> Iterator[Problem]:
    if not isinstance(documents, list):
        yield Problem("metadata.documents", f"`metadata.documents` is {_kind(documents)}, expected a list")
        return
    for place, document in enumerate(documents):
        name = f"metadata.documents[{place}]"
        if not isinstance(document, dict):
            yield Problem(name, f"`{name}` is {_kind(document)}, expected an object")
            continue
        yield from _text(f"{name}.id", document.get("id"))
        yield from _text(f"{name}.text", document.get("text"))
        yield from _text(f"{name}.title", document.get("title", ""), may_be_empty=True)
        if document.get("tier") not in _TIERS:
            tiers = ", ".join(f"`{tier}`" for tier in _TIERS)
            yield Problem(f"{name}.tier", f"`{name}.tier` is {_value(document.get('tier'))}, expected one of {tiers}")


def _text(field: str, value: Any, *, may_be_empty: bool = False) -> Iterator[Problem]:
    if not isinstance(value, str) or not (value.strip() or (may_be_empty and value == "")):
        yield Problem(field, f"`{field}` is {_kind(value)}, expected text")
        return
    try:
        value.encode()
    except UnicodeEncodeError as error:
        half = ascii(value[error.start])[1:-1]
        yield Problem(field, f"`{field}` has `{half}` at character {error.start + 1}, half of a character")


def _lines(file: IO[bytes] | gzip.GzipFile) -> Iterator[Entry]:
    number = 0
    while line := file.readline(LONGEST + 1):
        number += 1
        if number == 1:
            line = line.removeprefix(_BOM)
        rest = line
        while len(rest) > LONGEST and not rest.endswith(b"\n"):  # skipped, not kept
            rest = file.readline(LONGEST + 1)
        if not line.isspace() and line:
            yield Entry(number, line, not line.endswith(b"\n"))


def _rows(path: Path) -> Iterator[Entry]:
    """The rows as JSON: what is null in them was not there, Parquet gives every object of a column the same keys."""
    with _parquet(path) as file:
        number = 0
        for batch in file.iter_batches(batch_size=16):
            for row in batch.to_pylist():
                number += 1
                yield Entry(number, json.dumps(_without_nulls(row), default=str).encode())


@contextmanager
def _parquet(path: Path) -> Iterator[ParquetFile]:
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ImportError:
        hint = "`pip install 'ltrl[data]'`"
        raise fail(Code.MISSING_EXTRA, f"`{path}` is a Parquet file, which needs `pyarrow`", hint=hint) from None
    try:
        with ParquetFile(path) as file:
            yield file
    except pyarrow.ArrowException as error:
        message = f"the data file `{path}` is not a Parquet file that can be read: {_lower(error)}"
        raise fail(Code.BAD_DATA, message) from None
    except OSError as error:
        raise LtrlError(unreadable(error, f"the data file `{path}`")) from None


def _without_nulls(value: Any) -> Any:
    match value:
        case dict():
            return {key: _without_nulls(item) for key, item in value.items() if item is not None or key == "is_correct"}
        case list():
            return [_without_nulls(item) for item in value]
    return value


def _kind(value: Any) -> str:
    match value:
        case None:
            return "missing"
        case bool() | int() | float():
            return f"`{json.dumps(value)}`"
        case str():
            return "empty text" if not value.strip() else "text"
        case list():
            return "an empty list" if not value else "a list"
    return "an object"


def _value(value: Any) -> str:
    return f"`{value[:40]}`" if isinstance(value, str) and value.strip() else _kind(value)


def _lower(error: Exception | str) -> str:
    text = str(error).partition("\n")[0]
    return text[:1].lower() + text[1:]
