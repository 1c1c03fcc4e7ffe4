"""What a person is told when something they wrote cannot be used."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Literal

__all__ = ["Code", "Diagnostic", "LtrlError", "Position", "Source", "fail", "in_order", "raise_if_any", "unreadable"]

_LINE_END = re.compile(r"\r\n?|\n")


class Code(StrEnum):
    """Stable names of mistakes; a code is never reused for something else."""

    UNREADABLE = "LTRL001"
    NOT_UTF8 = "LTRL002"
    NOT_YAML = "LTRL003"
    DUPLICATE_KEY = "LTRL004"
    UNSUPPORTED_YAML = "LTRL005"
    EXTENDS_CYCLE = "LTRL006"
    BAD_SET = "LTRL007"
    MISSING_FIELD = "LTRL010"
    WRONG_TYPE = "LTRL011"
    INVALID_VALUE = "LTRL012"
    WRONG_KIND = "LTRL013"
    UNKNOWN_FIELD = "LTRL014"
    UNKNOWN_BACKEND = "LTRL015"
    BROKEN_BACKEND = "LTRL016"
    MISSING_EXTRA = "LTRL017"
    UNKNOWN_MODEL = "LTRL020"
    CONTEXT_TOO_LONG = "LTRL021"
    LAYOUT = "LTRL022"
    UNKNOWN_CLUSTER = "LTRL023"
    ENGINE_LIMIT = "LTRL024"
    MEMORY = "LTRL025"
    PAYLOAD = "LTRL026"
    UNSET_REFERENCE = "LTRL027"
    SECRET = "LTRL028"
    BAD_REFERENCE = "LTRL029"
    BUNDLE_EXISTS = "LTRL030"
    NOT_A_BUNDLE = "LTRL031"
    UNWRITABLE = "LTRL032"
    SBATCH_OPTION = "LTRL033"
    SWEEP = "LTRL034"
    STAGE = "LTRL035"
    NO_SLURM = "LTRL036"
    UNKNOWN_RUN = "LTRL040"
    RUN_BUSY = "LTRL041"
    SUBMIT_FAILED = "LTRL042"
    RESUME_REFUSED = "LTRL043"
    FORK_REFUSED = "LTRL044"
    UNKNOWN_CHECKPOINT = "LTRL045"
    BAD_DATA = "LTRL050"
    BAD_CHECKPOINT = "LTRL051"
    TRAINING_COLLAPSED = "LTRL052"
    CANCEL_FAILED = "LTRL053"
    NO_LOGS = "LTRL054"
    MOCK = "LTRL055"
    SUBMIT_UNCERTAIN = "LTRL056"
    DOUBTFUL_DATA = "LTRL057"
    NO_ANSWERS = "LTRL060"
    INCOMPLETE = "LTRL061"
    BAD_RESULTS = "LTRL062"
    NOT_SERVED = "LTRL063"
    NOT_COMPARABLE = "LTRL070"
    GIT = "LTRL071"
    UNKNOWN_PATH = "LTRL075"
    FILE_EXISTS = "LTRL076"
    NOT_IMPORTED = "LTRL077"
    SCRIPT_DEFECT = "LTRL079"
    POINTLESS_REWARD = "LTRL080"
    BAD_ROLLOUTS = "LTRL081"
    OTHER_SCORES = "LTRL082"
    BAD_RUBRIC = "LTRL083"
    DOUBTFUL_RUBRIC = "LTRL084"
    JUDGE_OUTAGE = "LTRL085"
    INSECURE = "LTRL086"
    CANNOT_LISTEN = "LTRL087"
    SERVER_DOWN = "LTRL088"
    OTHER_REWARD = "LTRL089"
    TRACKER = "LTRL090"


@dataclass(frozen=True, slots=True)
class Source:
    """A text that a person wrote: a file, or one command-line argument."""

    name: str
    """As shown in messages: the path as the person typed it."""
    text: str
    label: str = ""
    """Machine-independent name used in bundles: the path relative to the main spec's directory."""

    @property
    def lines(self) -> tuple[str, ...]:
        """Its lines, without their ends and without a byte order mark."""
        return _lines(self.text)


@dataclass(frozen=True, slots=True)
class Position:
    """A stretch of one line of a source; line and column count from 1."""

    source: Source
    line: int
    column: int
    width: int = 1
    """In characters; at least 1."""

    def __str__(self) -> str:
        return f"{self.source.name}:{self.line}:{self.column}"

    @property
    def line_text(self) -> str:
        """The line that it is in; a byte order mark is no part of it."""
        lines = self.source.lines
        return lines[self.line - 1] if self.line <= len(lines) else ""

    @property
    def label(self) -> str:
        """The same place with the machine-independent name of its source: `common.yaml:12`."""
        return f"{self.source.label or self.source.name}:{self.line}"


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One mistake: what is wrong, where, and what to do."""

    code: Code
    message: str
    """Lower case, the user's own words in backticks, values included, no final period."""
    position: Position | None = None
    hint: str | None = None
    severity: Literal["error", "warning"] = "error"
    related: tuple[tuple[str, Position], ...] = ()
    """Other places that matter, each with what it is (`first defined here`)."""


class LtrlError(Exception):
    """A user's mistake. A bug in ltrl is any other exception and shows its traceback."""

    def __init__(self, *diagnostics: Diagnostic) -> None:
        super().__init__("; ".join(d.message for d in diagnostics))
        self.diagnostics = diagnostics

    def __reduce__(self) -> tuple[type[LtrlError], tuple[Diagnostic, ...]]:
        """Whole in another process: an exception's own way keeps the message alone."""
        return type(self), self.diagnostics


def fail(code: Code, message: str, position: Position | None = None, *, hint: str | None = None) -> LtrlError:
    """An error with one diagnostic, to be raised."""
    return LtrlError(Diagnostic(code, message, position, hint))


def unreadable(error: OSError, what: str, position: Position | None = None) -> Diagnostic:
    """The diagnostic for a file that the operating system refuses to read or write."""
    reason = (error.strerror or str(error)).lower()
    return Diagnostic(Code.UNREADABLE, f"cannot read {what}: {reason}", position)


def raise_if_any(diagnostics: Iterable[Diagnostic]) -> None:
    """Raises when an error is among the diagnostics; all are reported, in order of position."""
    found = tuple(diagnostics)
    if any(d.severity == "error" for d in found):
        raise LtrlError(*in_order(found))


def in_order(diagnostics: Iterable[Diagnostic]) -> tuple[Diagnostic, ...]:
    """The diagnostics by position."""
    return tuple(sorted(diagnostics, key=_order))


@lru_cache(maxsize=64)  # every position of a file asks
def _lines(text: str) -> tuple[str, ...]:
    return tuple(_LINE_END.split(text.removeprefix("\ufeff")))


def _order(diagnostic: Diagnostic) -> tuple[str, int, int]:
    p = diagnostic.position
    return (p.source.name, p.line, p.column) if p else ("", 0, 0)
