"""`longreason`: 794 multiple-choice questions, each at several lengths (Ling et al. 2025, arXiv 2501.15089).

The hub's records (lz1bytedance/LongReason) hold whole prompts in `prompt`: they are sent as they are. How the authors
read a letter out of an answer is not published where we could read it. Here the last letter that an answer declares
counts: in `\\boxed{B}`, else after `answer is`, `Answer:` or `I choose`, else of `option B is correct`, else of `so
option B.`, else one alone on the last line. A letter that is only spoken of is none (`option C fails`); no such letter
is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ltrl.backend import BenchmarkSection
from ltrl.benchmark import Answered, Outcome, Question, each
from ltrl_backends.benchmarks.records import bad, count, from_hub, local, read, text

__all__ = ["LongReason", "extract"]

REPOSITORY = "lz1bytedance/LongReason"
LETTERS = tuple("ABCDEFGH")
_QUOTES = r"*_\"'`$\u201c\u201d\u2018\u2019"
_OPENED = rf"(?:[\s:=(\[{{{_QUOTES}]|\\[a-z]*){{0,20}}"
"""What may stand before a letter: markup, quotes, brackets, LaTeX commands; bounded, so that reading stays linear."""
_LETTER = rf"{_OPENED}(?:(?i:option|choice|answer)\b{_OPENED})?([A-H])(?![^\W_])"
_DECLARED = (
    re.compile(rf"\\boxed{_LETTER}"),
    re.compile(
        r"(?i:(?:answer|(?:best|correct|final|my|right)\s+(?:option|choice))[\s*_]*(?:is\b|[:=])"
        r"|\b(?:choose|pick|select|go\s+with)\b)"
        rf"{_LETTER}"
    ),
    re.compile(
        rf"(?i:option|choice)\b{_OPENED}([A-H])[)\]{_QUOTES}]*\s+is\s+(?:the\s+)?(?:correct|best|right|answer)\b"
    ),
    re.compile(
        rf"(?i:hence|so|therefore|thus),?\s+(?i:option|choice|answer)\b{_OPENED}([A-H])[)\]{_QUOTES}]*(?:[.!]|\s*\Z)"
    ),
)
"""In their order: the first that is in an answer counts."""
_ALONE = re.compile(
    rf"[\W_]*(?:(?i:option|choice|answer){_OPENED}([A-H])[\W_]*|([A-H])(?:[\W_]*|[{_QUOTES}]*[.):][.):{_QUOTES}]*\s.*))"
)


class LongReason:
    """Questions of the parquet files, by length; right is the letter."""

    api: ClassVar[int] = 1

    class Options(BenchmarkSection):
        """LongReason: multiple-choice reasoning at 8K to 128K tokens."""

        backend: Literal["longreason"]
        """This backend."""
        lengths: Annotated[
            tuple[Literal["original", "expanded", "8k", "16k", "32k", "64k", "128k"], ...], Field(min_length=1)
        ] = ("8k", "16k", "32k", "64k", "128k")
        """Which of the hub's splits to ask."""
        path: str | None = None
        """Directory with the hub's files, which are named after their split: `data/128k-….parquet`, or `128k.jsonl`; by
        default the hub."""
        revision: str | None = None
        """Commit of the hub's repository; by default its newest."""

    def __init__(self, options: Options) -> None:
        self._options = options

    def __iter__(self) -> Iterator[Question]:
        """Every question of each length, the lengths in the spec's order."""
        options = self._options
        root = self._root()
        for length in options.lengths:
            for position, row in read(root, _files(length)):
                number = str(row.get("example_idx", position.line - 1))
                label = text(position, row, "answer").strip().upper()
                if label not in LETTERS:
                    raise bad(position, f"has `{label[:40]}` as its `answer`, which is none of {', '.join(LETTERS)}")
                yield Question(
                    id=f"{length}-{number}",
                    messages=(("user", text(position, row, "prompt")),),
                    label=label,
                    text=text(position, row, "question"),
                    splits={"length": length},
                    cluster=number,  # the same question at another length is no independent one
                )

    def num_questions(self) -> int:
        """At all lengths that are asked for."""
        root = self._root()
        return sum(count(root, _files(length)) for length in self._options.lengths)

    def _root(self) -> Path:
        options = self._options
        if options.path:
            return local(options.path)
        wanted = [f"data/{length}-*.parquet" for length in options.lengths]
        return from_hub(REPOSITORY, wanted, revision=options.revision)

    def grade(self, answers: Sequence[Answered]) -> list[Outcome]:
        """1 for the right letter."""
        return each(answers, _outcome)


def _files(length: str) -> tuple[str, ...]:
    return (f"data/{length}-*.parquet", f"{length}-*.parquet", f"{length}.parquet", f"{length}.jsonl")


def extract(answer: str) -> str | None:
    """The letter that an answer gives; None without one."""
    for pattern in _DECLARED:
        if declared := pattern.findall(answer):
            return str(declared[-1])
    lines = [line for line in answer.strip().splitlines() if line.strip()]
    alone = _ALONE.fullmatch(lines[-1]) if lines else None
    return alone[1] or alone[2] if alone else None


def _outcome(question: Question, answer: str) -> Outcome:
    letter = extract(answer)
    return Outcome(float(letter == question.label), letter, "" if letter else "no letter")
