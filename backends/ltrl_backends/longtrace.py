"""`longtrace`: records in the schema of LongTraceRL's published data set, one JSON object a line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from ltrl.backend import DataSection
from ltrl.errors import Code, LtrlError, Position, Source, fail, unreadable
from ltrl.samples import Sample
from ltrl.scoring import is_findable

__all__ = ["LongTrace", "LongTraceOptions"]


class LongTraceOptions(DataSection):
    """Samples from a JSON Lines file as LongTraceRL publishes it."""

    backend: Literal["longtrace"]
    """Name of the backend."""
    path: str
    """The file; a relative path starts at the project."""
    nameless: Literal["refuse", "keep"] = "refuse"
    """An entity without a letter or digit, which nothing can name: `refuse` its record, or `keep` it for
    `matcher: reference`, which counts it as named by every response."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Use the first so many records only; by default all."""


class LongTrace:
    """The samples of a file, read line by line: the published one has 1.2 GB."""

    api: ClassVar[int] = 1
    Options: ClassVar[type[DataSection]] = LongTraceOptions

    def __init__(self, options: LongTraceOptions) -> None:
        self._options = options
        self._path = Path(os.environ.get("LTRL_PROJECT_DIR", "")) / options.path

    def __iter__(self) -> Iterator[Sample]:
        """Every sample in the file's order; raises BAD_DATA for a line that is none or an id that comes twice."""
        seen: dict[str, int] = {}
        for number, line in self._lines():
            sample = self._sample(number, line)
            if sample.id in seen:
                raise self._bad(number, line, f"`metadata.id` `{sample.id}` is that of line {seen[sample.id]}")
            seen[sample.id] = number
            yield sample

    def __len__(self) -> int:
        """How many records there are; counts lines, parses none."""
        return sum(1 for _ in self._lines())

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        """(number from 1, text) of every line that is not blank, up to the limit."""
        found = 0
        try:
            with self._path.open("rb") as file:
                for number, line in enumerate(file, 1):
                    if found == self._options.limit:
                        return
                    if line.strip():
                        found += 1
                        yield number, line
        except OSError as error:
            hint = None
            if isinstance(error, FileNotFoundError) and not Path(self._options.path).is_absolute():
                hint = "relative paths start at the project, the nearest directory with a `specs` folder"
            found_error = unreadable(error, f"the data file `{self._path}`")
            raise fail(found_error.code, found_error.message, hint=hint) from None
        if not found:
            raise fail(Code.BAD_DATA, f"the data file `{self._path}` has no records")

    def _sample(self, number: int, line: bytes) -> Sample:
        try:
            record = json.loads(line)
        except UnicodeDecodeError as error:
            raise self._bad(number, line, f"this is not UTF-8 from byte {error.start + 1} of the line on") from None
        except ValueError as error:
            hint = "one JSON object a line; a `.json` file with a list is not JSON Lines"
            raise self._bad(number, line, f"this is not JSON: {_lower(str(error))}", hint) from None
        problem = _problem(record)
        if problem:
            raise self._bad(number, line, problem)
        try:
            sample = Sample.from_json(record, default_id=str(number))
        except (ValueError, TypeError, KeyError) as error:
            said = f"`metadata` has no {error}" if isinstance(error, KeyError) else str(error)
            raise self._bad(number, line, said) from None
        if self._options.nameless == "refuse" and (nameless := _nameless(sample)) is not None:
            hint = "a rubric entity needs a letter or a digit to be found by; `ltrl reward lint` lists them all"
            raise self._bad(number, line, f"the rubric entity `{nameless}` has nothing to look for", hint)
        return sample

    def _bad(self, number: int, line: bytes, message: str, hint: str | None = None) -> LtrlError:
        text = line.decode("utf-8", "replace").strip()
        shown = text if len(text) <= 120 else f"{text[:119]}…"
        source = Source(str(self._path), "\n" * (number - 1) + shown)
        return fail(Code.BAD_DATA, message, Position(source, number, 1, len(shown)), hint=hint)


def _problem(record: Any) -> str | None:
    """What keeps a record from being LongTraceRL's, in the words of its schema; None when nothing does."""
    if not isinstance(record, dict):
        return f"a record is a JSON object, this is {_kind(record)}"
    for field in ("source", "input_messages", "label", "metadata"):
        if field not in record:
            return f"the record has no `{field}`"
    messages = record["input_messages"]
    if not isinstance(messages, list) or not messages:
        return f"`input_messages` is {_kind(messages)}, expected a list of at least one message"
    for index, message in enumerate(messages):
        for key in ("role", "content"):
            value = message.get(key) if isinstance(message, dict) else None
            if not isinstance(value, str) or not value:
                return f"`input_messages[{index}].{key}` is {_kind(value)}, expected text"
    if not isinstance(record["label"], str) or not record["label"].strip():
        return f"`label` is {_kind(record['label'])}, expected text"
    info = record["metadata"].get("extra_reward_info") if isinstance(record["metadata"], dict) else None
    if not isinstance(info, dict):
        return f"`metadata.extra_reward_info` is {_kind(info)}, expected an object"
    for key, kind in (("question", str), ("rubrics", list), ("dataset_name", str)):
        if not isinstance(info.get(key), kind):
            expected = "a list" if kind is list else "text"
            return f"`metadata.extra_reward_info.{key}` is {_kind(info.get(key))}, expected {expected}"
    if info["dataset_name"] != "longrlvr" and any(not isinstance(r, str) or not r.strip() for r in info["rubrics"]):
        return "`metadata.extra_reward_info.rubrics` has an item that is not text"
    return None


def _nameless(sample: Sample) -> str | None:
    """The first name that no text can contain as words."""
    names = (name for entity in sample.rubrics for name in (entity, *sample.aliases.get(entity, ())))
    return next((name for name in names if not is_findable(name)), None)


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


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
