"""What is compared, and what a comparison says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ltrl.backend import Grade

__all__ = ["GRADES", "Answer", "Change", "Diff", "Figure", "Kind", "Side", "Verdict", "worst"]

Kind = Literal["experiment", "cluster"]
Answer = Literal["yes", "with care", "no", "does not apply"]

GRADES = (Grade.NEW_RUN, Grade.RELAUNCH, Grade.NOTE)
"""The gravest first."""


@dataclass(frozen=True)
class Side:
    """A description to be compared with another, in the form that a bundle keeps it in."""

    name: str
    """What the person called it: a path, `REV:path`, a run."""
    kind: Kind
    resolved: Mapping[str, Any]
    """As in `resolved.json`; of a cluster profile alone, only `cluster`."""
    plan: Mapping[str, Any] | None
    """As in `plan.json`; None for a cluster profile."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Text of the compiled files by name: the engine's and the scripts."""
    code: Mapping[str, str] = field(default_factory=dict)
    """Versions and hashes of the code that runs the job; compared only with another side that knows its own."""
    places: Mapping[str, str | None] = field(default_factory=dict)
    """`file:line:column` of each field by dotted path; None for one that is not written."""
    num_samples: int | None = None
    """Size of the training data, where it can be read."""
    data: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """SHA-256 of the data files by the field that reads them and their path, where it is known."""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is not as it was."""

    path: str
    """Dotted; an item of a list that has a key is `list[key]`. For a script: the line."""
    kind: Literal["added", "removed", "changed", "order"]
    old: Any
    """null where there was nothing; for `order`, the keys of the items."""
    new: Any
    old_position: str | None
    """`file:line:column`, and `REV:` or the run before it; null where it was not written."""
    new_position: str | None
    grade: Grade
    meaning: str = ""
    """The field's documentation."""
    consequence: str = ""
    """What this very change means."""
    follows: bool = False
    """Whether it comes with another: an option of a backend that was exchanged, a value worked out from others."""
    section: str = ""
    """Of a compiled change: the file, or `Slurm request`, `environment`, `code`."""
    cause: str = ""
    """Of a compiled change: the changed field that it comes from, where known."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A number that follows from the spec, on both sides."""

    name: str
    unit: str
    """`bytes`, `weights`, `tokens`, `hours`, `minutes`, `share`, `count` or `text`."""
    old: float | str | None
    """null where it is not known or does not apply."""
    new: float | str | None
    meaning: str

    @property
    def is_changed(self) -> bool:
        """Whether the two sides differ in it."""
        return self.old != self.new


@dataclass(frozen=True, slots=True)
class Verdict:
    """An answer to the question that a reviewer has, in words."""

    answer: Answer
    words: str
    because: tuple[str, ...] = ()
    """Paths of the changes that decide it."""


@dataclass(frozen=True, slots=True)
class Diff:
    """Everything that is different between two sides, and what it means."""

    kind: Kind
    old: str | None
    """Name of the old side; null when there is none: it is new."""
    new: str | None
    """Name of the new side; null when there is none: it was deleted."""
    spec: tuple[Change, ...]
    compiled: tuple[Change, ...]
    figures: tuple[Figure, ...]
    resume: Verdict
    """May an existing run go on with it?"""
    rewards: Verdict
    """Are the rewards of the two runs comparable?"""

    @property
    def is_same(self) -> bool:
        """Whether nothing is different."""
        return None not in (self.old, self.new) and not self.spec and not self.compiled

    @property
    def grade(self) -> Grade | None:
        """The gravest grade of a change; None where nothing is different.

        What is new or deleted as a whole is a note: it changes no run.
        """
        if None in (self.old, self.new):
            return Grade.NOTE
        return worst(change.grade for change in (*self.spec, *self.compiled))


def worst(grades: Any) -> Grade | None:
    """The gravest of some grades; None of none."""
    return min(grades, key=GRADES.index, default=None)
