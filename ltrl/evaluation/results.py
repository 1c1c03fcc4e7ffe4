"""Results of an evaluation on disk: every answer with its score, in the order of the benchmarks' questions."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from ltrl.errors import Code, LtrlError, fail, unreadable
from ltrl.evaluation.statistics import Scores
from ltrl.scoring import Usage

__all__ = ["HEAD", "SAMPLES", "TOO_LONG", "Head", "Sample", "Status", "read", "read_head", "scores", "splits", "write"]

HEAD, SAMPLES = "evaluation.json", "samples.jsonl"
FORMAT = 1

_SIZE = re.compile(r"(\d+)([km]?)")
_UNITS = {"": 1, "k": 1024, "m": 1024**2}

Status = Literal["graded", "too-long", "unanswered", "unjudged"]
"""`graded` has a score; `too-long` prompts were not asked, or refused; `unanswered` and `unjudged` are missing."""

TOO_LONG = "longer than the context"
"""Reason of a prompt that was not asked; of one that the server refused it is what the server said."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer to one question, with everything that came of it."""

    benchmark: str
    question: str
    """Id of the question."""
    number: int
    """Of the answer, from 0."""
    status: Status
    score: float | None
    """0 to 1; None for what has none."""
    reason: str = ""
    extracted: str | None = None
    label: str = ""
    text: str = ""
    """The question, without its documents."""
    cluster: str = ""
    splits: Mapping[str, str] = field(default_factory=dict)
    answer: str | None = None
    """The visible answer; None where there is none."""
    reasoning: str | None = None
    finish_reason: str = ""
    ill_formed: tuple[str, ...] = ()
    is_cut: bool = False
    """Whether the prompt was asked without its middle."""
    prompt_tokens: int | None = None
    response_tokens: int | None = None
    judge: Usage | None = None
    """What judging it took, in all tries; None where no judge was asked."""

    @property
    def is_missing(self) -> bool:
        """Whether it lacks because something failed."""
        return self.status in ("unanswered", "unjudged")

    @property
    def is_refused(self) -> bool:
        """Whether the server found too long what fits the context."""
        return self.status == "too-long" and self.reason != TOO_LONG

    @property
    def without_texts(self) -> Sample:
        """What figures need of it: a response may have 100 KB."""
        return replace(self, text="", label="", answer=None, reasoning=None)

    def to_json(self) -> dict[str, Any]:
        """Its line; `from_json` gives it back."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Sample:
        """The sample of a line."""
        known = {name: record[name] for name in _NAMES if name in record}
        judge = record.get("judge")
        return cls(
            **known | {"ill_formed": tuple(record.get("ill_formed", ())), "judge": Usage(**judge) if judge else None}
        )


_NAMES = tuple(f.name for f in fields(Sample))


@dataclass(frozen=True)
class Head:
    """What was measured, and how."""

    name: str
    model: str
    identity: str
    spec: Mapping[str, Any]
    """The section `eval`, with every default."""
    lengths: str
    """How prompts were counted: `exact` or `estimated`."""
    prices: Mapping[str, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """The file; `read_head` gives it back."""
        return {"ltrl_evaluation": FORMAT, **asdict(self)}


def write(directory: Path, head: Head, samples: Iterable[Sample]) -> None:
    """Writes results, each file whole or not at all; raises UNWRITABLE."""
    lines = (json.dumps(sample.to_json(), ensure_ascii=False) + "\n" for sample in samples)
    _replace(directory / SAMPLES, lines)
    _replace(directory / HEAD, [json.dumps(head.to_json(), indent=2, ensure_ascii=False) + "\n"])


def read_head(directory: Path) -> Head:
    """What the results in a directory are of; raises BAD_RESULTS where there are none."""
    try:
        record = json.loads((directory / HEAD).read_text(encoding="utf-8"))
        if record.pop("ltrl_evaluation") != FORMAT:
            raise ValueError("of another version of ltrl")
        return Head(**record)
    except FileNotFoundError:
        hint = "`ltrl eval SPEC -o DIR` makes them"
        raise fail(Code.BAD_RESULTS, f"`{directory}` holds no results of an evaluation", hint=hint) from None
    except OSError as error:
        raise LtrlError(unreadable(error, f"the results `{directory}`")) from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise fail(Code.BAD_RESULTS, f"`{directory / HEAD}` is no head of results: {error}") from None


def read(directory: Path) -> Iterator[Sample]:
    """Every sample of the results in a directory, in their order; raises BAD_RESULTS."""
    read_head(directory)
    path = directory / SAMPLES
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                try:
                    yield Sample.from_json(json.loads(line))
                except (ValueError, TypeError, KeyError) as error:
                    raise fail(Code.BAD_RESULTS, f"line {number} of `{path}` is no sample: {error}") from None
    except OSError as error:
        raise LtrlError(unreadable(error, f"the results `{path}`")) from None


def scores(samples: Iterable[Sample]) -> dict[str, Scores]:
    """The scores of each question that has any, by its id."""
    found: dict[str, tuple[str, list[float]]] = {}
    for sample in samples:
        if sample.score is not None:
            found.setdefault(sample.question, (sample.cluster or sample.question, []))[1].append(sample.score)
    return {question: Scores(cluster, tuple(values)) for question, (cluster, values) in found.items()}


def splits(samples: Iterable[Sample]) -> dict[str, list[str]]:
    """The parts of each split: by the sizes that they name (`<4k`, `4k-8k`, `128k`), else as they come."""
    found: dict[str, dict[str, None]] = {}
    for sample in samples:
        for split, part in sample.splits.items():
            found.setdefault(split, {})[part] = None
    return {split: _by_size(list(parts)) for split, parts in found.items()}


def _by_size(parts: list[str]) -> list[str]:
    sizes = {part: match for part in parts if (match := _SIZE.search(part))}
    if len(sizes) < len(parts):
        return parts
    return sorted(parts, key=lambda part: (int(sizes[part][1]) * _UNITS[sizes[part][2]], "<" not in part))


def _replace(path: Path, lines: Iterable[str]) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("w", encoding="utf-8", errors="backslashreplace") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise fail(Code.UNWRITABLE, f"cannot write `{path}`: {reason}") from None
    finally:
        with suppress(OSError):
            draft.unlink()
