"""`longtrace`: records in the schema of LongTraceRL's published data set, in a file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from ltrl.backend import DataSection
from ltrl.errors import Code, LtrlError, fail

if TYPE_CHECKING:
    from ltrl.data.records import Entry
    from ltrl.samples import Sample

__all__ = ["LongTrace", "LongTraceOptions"]


class LongTraceOptions(DataSection):
    """Samples from a file as LongTraceRL publishes it: JSON Lines, also with gzip, or Parquet."""

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
    """The samples of a file, read one by one: the published one has 1.2 GB."""

    api: ClassVar[int] = 1
    Options: ClassVar[type[DataSection]] = LongTraceOptions

    def __init__(self, options: LongTraceOptions) -> None:
        self._options = options
        self._path = Path(os.environ.get("LTRL_PROJECT_DIR", "")) / options.path
        self.files = (self._path,)

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
        """How many records there are; counts lines, parses none."""
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
            if said.code is Code.UNREADABLE and not self._path.exists() and not Path(self._options.path).is_absolute():
                hint = "relative paths start at the project, the nearest directory with a `specs` folder"
                raise fail(said.code, said.message, hint=hint) from None
            raise
        if not found:
            raise fail(Code.BAD_DATA, f"the data file `{self._path}` has no records")

    def _sample(self, entry: Entry) -> Sample:
        from ltrl.data.records import Problem, Unusable, bad, sample

        try:
            found = sample(entry)
        except Unusable as error:
            raise bad(self._path, entry, error.problems[0]) from None
        if self._options.nameless == "refuse" and (nameless := _nameless(found)) is not None:
            message = f"the rubric entity `{nameless}` has nothing to look for"
            hint = "a rubric entity needs a letter or a digit to be found by; `ltrl reward lint` lists them all"
            raise bad(self._path, entry, Problem("metadata.extra_reward_info.rubrics", message, hint))
        return found


def _nameless(sample: Sample) -> str | None:
    """The first name that no text can contain as words."""
    from ltrl.scoring import is_findable

    names = (name for entity in sample.rubrics for name in (entity, *sample.aliases.get(entity, ())))
    return next((name for name in names if not is_findable(name)), None)
