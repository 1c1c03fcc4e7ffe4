"""`longtrace`, `jsonl`, `hf`: records in the schema of LongTraceRL's published data set, or in one that is named."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from ltrl.backend import DataSection
from ltrl.data.mapping import Fields
from ltrl.errors import Code, LtrlError, fail

if TYPE_CHECKING:
    from ltrl.data.records import Entry
    from ltrl.samples import Sample

__all__ = ["Hub", "HubOptions", "Jsonl", "JsonlOptions", "LongTrace", "LongTraceOptions"]


class _RecordsOptions(DataSection):
    nameless: Literal["refuse", "keep"] = "refuse"
    """An entity without a letter or digit, which nothing can name: `refuse` its record, or `keep` it for
    `matcher: reference`, which counts it as named by every response."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Use the first so many records only; by default all."""


class LongTraceOptions(_RecordsOptions):
    """Samples from a file as LongTraceRL publishes it: JSON Lines, also with gzip, or Parquet."""

    backend: Literal["longtrace"]
    """Name of the backend."""
    path: str
    """The file; a relative path starts at the project."""


class JsonlOptions(_RecordsOptions):
    """Samples from a file of records of any schema, whose fields are named: JSON Lines, also with gzip, or Parquet."""

    backend: Literal["jsonl"]
    """Name of the backend."""
    path: str
    """The file; a relative path starts at the project."""
    fields: Fields = Fields()
    """Which field of a record is what."""


class HubOptions(_RecordsOptions):
    """Samples from a file of a data set on the Hugging Face hub, which `ltrl data fetch` has fetched."""

    backend: Literal["hf"]
    """Name of the backend."""
    repo: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]
    """The data set: `THU-KEG/LongTraceRL`."""
    revision: Annotated[str, Field(pattern="^[0-9a-f]{40}$")]
    """Commit of the data set; `ltrl data fetch` says the newest."""
    file: str = "data.jsonl"
    """Path of the file in it."""


class _Records:
    """The samples of a file, read one by one: the published one has 1.2 GB."""

    def __init__(self, options: _RecordsOptions, name: str, path: Path, fields: Fields | None = None) -> None:
        self._options, self._path, self._fields = options, path, fields
        self.files = {name: path}

    def __iter__(self) -> Iterator[Sample]:
        """Every sample in the file's order; raises BAD_DATA for a record that is none or an id that comes twice."""
        from ltrl.data.records import Problem, bad

        seen: dict[str, int] = {}
        for entry in self._entries():
            sample = self._sample(entry)
            if sample.id in seen:
                problem = Problem("metadata.id", f"`metadata.id` `{sample.id}` is that of line {seen[sample.id]}")
                raise bad(self._path, entry, problem)
            seen[sample.id] = entry.number
            yield sample

    def __len__(self) -> int:
        """How many records there are; counts lines or rows, parses none."""
        if self._path.suffix == ".parquet" and self._path.is_file():
            from ltrl.data.records import count

            return min(count(self._path), self._options.limit or sys.maxsize)
        return sum(1 for _ in self._entries())

    def _entries(self) -> Iterator[Entry]:
        """Those up to the limit."""
        from ltrl.data.records import entries

        found = 0
        try:
            for entry in entries(self._path):
                if found == self._options.limit:
                    return
                found += 1
                yield entry
        except LtrlError as error:
            [said] = error.diagnostics
            if said.code is Code.UNREADABLE and not self._path.exists() and (hint := self._where()):
                raise fail(said.code, said.message, hint=hint) from None
            raise
        if not found:
            raise fail(Code.BAD_DATA, f"the data file `{self._path}` has no records")

    def _sample(self, entry: Entry) -> Sample:
        from ltrl.data.records import Problem, Unusable, bad, sample

        try:
            found = sample(entry, self._fields)
        except Unusable as error:
            raise bad(self._path, entry, error.problems[0]) from None
        if self._options.nameless == "refuse" and (nameless := _nameless(found)) is not None:
            message = f"the rubric entity `{nameless}` has nothing to look for"
            hint = "a rubric entity needs a letter or a digit to be found by; `ltrl reward lint` lists them all"
            raise bad(self._path, entry, Problem("metadata.extra_reward_info.rubrics", message, hint))
        return found

    def _where(self) -> str | None:
        """What to do where there is no file."""
        if Path(next(iter(self.files))).is_absolute():
            return None
        return "relative paths start at the project, the nearest directory with a `specs` folder"


class LongTrace(_Records):
    """The data backend `longtrace`."""

    api: ClassVar[int] = 1
    Options: ClassVar[type[DataSection]] = LongTraceOptions

    def __init__(self, options: LongTraceOptions) -> None:
        super().__init__(options, options.path, _in_project(options.path))


class Jsonl(_Records):
    """The data backend `jsonl`."""

    api: ClassVar[int] = 1
    Options: ClassVar[type[DataSection]] = JsonlOptions

    def __init__(self, options: JsonlOptions) -> None:
        super().__init__(options, options.path, _in_project(options.path), options.fields)


class Hub(_Records):
    """The data backend `hf`."""

    api: ClassVar[int] = 1
    Options: ClassVar[type[DataSection]] = HubOptions

    def __init__(self, options: HubOptions) -> None:
        from ltrl.data.hub import cached

        name = f"{options.repo}@{options.revision}/{options.file}"
        found = cached(options.repo, options.file, options.revision)
        super().__init__(options, name, found or Path("hub", name))

    def _where(self) -> str:
        return "`ltrl data fetch --spec SPEC` fetches it, into the cache of the hub (`HF_HOME`)"


def _in_project(path: str) -> Path:
    return Path(os.environ.get("LTRL_PROJECT_DIR", "")) / path


def _nameless(sample: Sample) -> str | None:
    """The first name that no text can contain as words."""
    from ltrl.scoring import is_findable

    names = (name for entity in sample.rubrics for name in (entity, *sample.aliases.get(entity, ())))
    return next((name for name in names if not is_findable(name)), None)
