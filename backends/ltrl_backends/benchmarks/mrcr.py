"""`mrcr`: OpenAI's multi-round co-reference resolution, 2,400 long conversations with 2, 4 or 8 equal requests.

The last message asks for one of the equal requests' answers again, behind a random string. Metric and bins are those of
the card (openai/mrcr, MIT): 0 without the string at the very beginning, else the ratio of `difflib.SequenceMatcher`
between both texts without it; bins count the tokens of prompt and answer under o200k_base, [4096, 8192], (8192, 16384]
and so on to 1M, 100 conversations of each number of needles in each. The labels were mended in December 2025.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from difflib import SequenceMatcher
from functools import cache
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ltrl.backend import BenchmarkSection
from ltrl.benchmark import Answered, Outcome, Question, each
from ltrl.errors import Position
from ltrl_backends.benchmarks.records import Record, bad, count, from_hub, local, read, text

__all__ = ["MRCR", "bin_of", "ratio"]

REPOSITORY = "openai/mrcr"
FILES = ("*needle*.parquet", "*needle*/*.parquet", "*.parquet", "*.jsonl")
BOUNDS = tuple(4096 * 2**i for i in range(9))
CHARACTERS_PER_TOKEN = 4.5
"""Of English prose under o200k_base, roughly: only where the tokenizer is not there."""


class MRCR:
    """Conversations of the parquet files; the score is a ratio in [0, 1]."""

    api: ClassVar[int] = 1

    class Options(BenchmarkSection):
        """OpenAI MRCR: repeat one of several equal requests' answers, by needles and length."""

        backend: Literal["mrcr"]
        """This backend."""
        needles: Annotated[tuple[Literal[2, 4, 8], ...], Field(min_length=1)] = (2, 4, 8)
        """Numbers of equal requests to ask about."""
        max_tokens: Annotated[int, Field(ge=4096)] | None = None
        """Leave out conversations that are longer, in tokens of o200k_base, answer included."""
        path: str | None = None
        """Parquet or JSON Lines file in the hub's schema, or a directory of them; by default the hub."""
        revision: str | None = None
        """Commit of the hub's repository; by default its newest."""

    def __init__(self, options: Options) -> None:
        self._options = options

    def __iter__(self) -> Iterator[Question]:
        """Every conversation in the files' order."""
        options = self._options
        num, mark = _counter()
        for position, row in read(self._root(), FILES):
            num_needles = row.get("n_needles")
            if not isinstance(num_needles, int):
                raise bad(position, "has no number as its `n_needles`")
            if num_needles not in options.needles:
                continue
            messages, answer = _messages(position, row), text(position, row, "answer")
            num_tokens = sum(num(content) for _, content in messages) + num(answer)
            if options.max_tokens and num_tokens > options.max_tokens:
                continue
            yield Question(
                id=f"{num_needles}-{hashlib.sha256(text(position, row, 'prompt').encode()).hexdigest()[:12]}",
                messages=messages,
                label=answer,
                text=messages[-1][1],
                splits={"needles": str(num_needles), "length": mark + bin_of(num_tokens)},
                extra={"prefix": text(position, row, "random_string_to_prepend")},
            )

    def num_questions(self) -> int:
        """With any number of needles, of any length."""
        return count(self._root(), FILES)

    def _root(self) -> Path:
        path, revision = self._options.path, self._options.revision
        return local(path) if path else from_hub(REPOSITORY, FILES, revision=revision)

    def grade(self, answers: Sequence[Answered]) -> list[Outcome]:
        """The card's ratio of each answer."""
        return each(answers, _outcome)


def ratio(response: str, answer: str, prefix: str) -> float:
    """The card's metric: 0 without the prefix, else how alike both texts are behind it, in [0, 1]."""
    if not response.startswith(prefix):
        return 0.0
    return float(SequenceMatcher(None, response.removeprefix(prefix), answer.removeprefix(prefix)).ratio())


def bin_of(num_tokens: int) -> str:
    """The card's bin of a length: `64k-128k` holds more than 65536 and at most 131072 tokens."""
    if num_tokens < BOUNDS[0]:
        return "<4k"
    upper = next((bound for bound in BOUNDS[1:] if num_tokens <= bound), None)
    return f"{_short(upper // 2)}-{_short(upper)}" if upper else f">{_short(BOUNDS[-1])}"


def _short(num_tokens: int) -> str:
    return "1m" if num_tokens == 2**20 else f"{num_tokens // 1024}k"


def _outcome(question: Question, answer: str) -> Outcome:
    prefix = str(question.extra["prefix"])
    reason = "" if answer.startswith(prefix) else f"does not begin with `{prefix}`"
    return Outcome(ratio(answer, question.label, prefix), reason=reason)


def _messages(position: Position, row: Record) -> tuple[tuple[str, str], ...]:
    try:
        found = tuple((str(m["role"]), str(m["content"])) for m in json.loads(text(position, row, "prompt")))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise bad(position, "has a `prompt` that is no list of messages") from error
    if not found:
        raise bad(position, "has a `prompt` without a message")
    return found


@cache
def _counter() -> tuple[Callable[[str], int], str]:
    """Counts tokens of o200k_base, or estimates them; the mark before a bin says which: `~64k-128k` is an estimate."""
    try:
        import tiktoken

        encoding = tiktoken.get_encoding("o200k_base")
    except Exception:  # not installed, or its file is neither here nor to be had
        return lambda content: round(len(content) / CHARACTERS_PER_TOKEN), "~"
    return lambda content: len(encoding.encode_ordinary(content)), ""
