"""`longbench-v2`: 503 multiple-choice questions over 8K to 2M words (Bai et al. 2024, arXiv 2412.15204).

Prompt (`prompts/0shot.txt`) and extraction (`pred.py`) are those of the repository THUDM/LongBench (MIT), the first
quoted, the second restated: asterisks go, then `The correct answer is (A)`, else `The correct answer is A`; no match is
wrong. The repository cuts prompts that are too long in the middle: `overlong: cut-middle`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ltrl.backend import BenchmarkSection
from ltrl.benchmark import Answered, Outcome, Question, each
from ltrl.errors import Position
from ltrl_backends.benchmarks.records import Record, count, from_hub, local, one_of, read, text

__all__ = ["LongBenchV2", "extract"]

REPOSITORY = "zai-org/LongBench-v2"
FILES = ("data.json", "*.jsonl", "*.parquet")
CHOICES = tuple("ABCD")
LENGTHS = ("short", "medium", "long")
_ANSWERS = (re.compile(r"The correct answer is \(([A-D])\)"), re.compile(r"The correct answer is ([A-D])"))


class LongBenchV2:
    """Questions of `data.json`; right is the letter."""

    api: ClassVar[int] = 1

    class Options(BenchmarkSection):
        """LongBench v2: multiple choice over long documents, by length and difficulty."""

        backend: Literal["longbench-v2"]
        """This backend."""
        lengths: Annotated[tuple[Literal["short", "medium", "long"], ...], Field(min_length=1)] = (
            "short",
            "medium",
            "long",
        )
        """Which to ask: `short` is under 32K words, `long` more than 128K."""
        path: str | None = None
        """`data.json` of the hub, or its records as JSON Lines or Parquet; by default the hub."""
        revision: str | None = None
        """Commit of the hub's repository; by default its newest."""

    def __init__(self, options: Options) -> None:
        self._options = options

    def __iter__(self) -> Iterator[Question]:
        """Every question in the file's order."""
        options = self._options
        for position, row in read(self._root(), FILES):
            length = one_of(position, row, "length", LENGTHS)
            if length in options.lengths:
                yield Question(
                    id=text(position, row, "_id"),
                    messages=(("user", prompt(position, row)),),
                    label=one_of(position, row, "answer", CHOICES),
                    text=text(position, row, "question"),
                    splits={
                        "length": length,
                        "difficulty": text(position, row, "difficulty"),
                        "domain": text(position, row, "domain"),
                    },
                )

    def num_questions(self) -> int:
        """Of all lengths."""
        return count(self._root(), FILES)

    def _root(self) -> Path:
        path, revision = self._options.path, self._options.revision
        return local(path) if path else from_hub(REPOSITORY, ("data.json",), revision=revision)

    def grade(self, answers: Sequence[Answered]) -> list[Outcome]:
        """1 for the right letter."""
        return each(answers, _outcome)


def prompt(position: Position, row: Record) -> str:
    """The prompt `0shot` of the repository, filled in."""
    choices = "\n".join(f"({letter}) {text(position, row, f'choice_{letter}').strip()}" for letter in CHOICES)
    return (
        "Please read the following text and answer the question below.\n\n"
        f"<text>\n{text(position, row, 'context').strip()}\n</text>\n\n"
        f"What is the correct answer to this question: {text(position, row, 'question').strip()}\n"
        f"Choices:\n{choices}\n\n"
        'Format your response as follows: "The correct answer is (insert answer here)".'
    )


def extract(answer: str) -> str | None:
    """The letter that an answer gives, as the repository reads it; None without one."""
    plain = answer.replace("*", "")
    return next((match[1] for pattern in _ANSWERS if (match := pattern.search(plain))), None)


def _outcome(question: Question, answer: str) -> Outcome:
    letter = extract(answer)
    return Outcome(float(letter == question.label), letter, "" if letter else "no answer of the published form")
