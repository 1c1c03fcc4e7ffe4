"""`ruler`: synthetic needles by length, made on the spot: nothing to load, the same questions everywhere.

Tasks, wording and metric follow RULER (Hsieh et al. 2024, arXiv 2404.06654; NVIDIA/RULER, Apache-2.0): needles in its
repeated noise, magic numbers for key words, chains of variables; the score is the share of the expected strings
that an answer holds, whatever their case (`string_match_all`). Questions are drawn anew, so figures compare among
themselves, not with RULER's.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ltrl.backend import BenchmarkSection
from ltrl.benchmark import Answered, Outcome, Question, each
from ltrl.spec import TOKENS

__all__ = ["RULER", "matched"]

Task = Literal["single", "multi-key", "multi-value", "multi-query", "variables"]
NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
CHARACTERS_PER_TOKEN = 4.1
"""Of the noise, under the tokenizers of Qwen3 and Llama 3, roughly."""
_SYLLABLES = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]


class RULER:
    """Needles in noise."""

    api: ClassVar[int] = 1

    class Options(BenchmarkSection):
        """Synthetic needles in the manner of RULER, by task and length; needs no data."""

        backend: Literal["ruler"]
        """This backend."""
        tasks: Annotated[tuple[Task, ...], Field(min_length=1)] = (
            "single",
            "multi-key",
            "multi-value",
            "multi-query",
            "variables",
        )
        """`single`: one number; `multi-key`: one of 4 keys; `multi-value`: all 4 numbers of a key; `multi-query`: those
        of 4 keys; `variables`: every name of a chain of assignments."""
        lengths: Annotated[tuple[Annotated[int, TOKENS, Field(ge=256)], ...], Field(min_length=1)] = (
            4096,
            32768,
            131072,
        )
        """Lengths of the prompts in tokens, roughly."""
        questions: Annotated[int, Field(ge=1)] = 20
        """Questions of each task at each length."""
        seed: Annotated[int, Field(ge=0)] = 0
        """Seed of the questions."""

    def __init__(self, options: Options) -> None:
        self._options = options

    def __iter__(self) -> Iterator[Question]:
        """Every question; each depends on the seed, its task, its length and its number only."""
        options = self._options
        for length in options.lengths:
            for task in options.tasks:
                for number in range(options.questions):
                    yield question(task, length, f"{options.seed}-{task}-{length}-{number}")

    def num_questions(self) -> int:
        """Of every task at every length."""
        options = self._options
        return len(options.lengths) * len(options.tasks) * options.questions

    def grade(self, answers: Sequence[Answered]) -> list[Outcome]:
        """RULER's share of expected strings."""
        return each(answers, _outcome)


def matched(answer: str, expected: Sequence[str]) -> float:
    """RULER's `string_match_all`: the share of the strings that the answer holds, in [0, 1]."""
    lowered = answer.lower()
    return sum(one.lower() in lowered for one in expected) / len(expected)


def question(task: Task, length: int, seed: str) -> Question:
    """One question, about so many tokens long."""
    rng = random.Random(f"ruler-{seed}")
    if task == "variables":
        needles, asked, expected = _variables(rng)
        before = "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n"
    else:
        needles, asked, expected = _numbers(task, rng)
        before = "Some special magic numbers are hidden within the following text. Make sure to memorize it. "
        before += "I will quiz you about the numbers afterwards.\n"
    room = int(length * CHARACTERS_PER_TOKEN) - len(before) - len(asked) - sum(map(len, needles))
    lines = [NOISE] * max(len(needles), room // (len(NOISE) + 1))
    places = sorted(rng.sample(range(len(lines) + 1), len(needles)), reverse=True)
    order = needles if task == "variables" else rng.sample(needles, len(needles))
    for place, needle in zip(places, reversed(order), strict=True):
        lines.insert(place, needle)
    return Question(
        id=seed,
        messages=(("user", before + "\n".join(lines) + "\n" + asked),),
        label=", ".join(expected),
        text=asked,
        splits={"task": task, "length": f"{length // 1024}k" if length % 1024 == 0 else str(length)},
        extra={"expected": expected},
    )


def _numbers(task: Task, rng: random.Random) -> tuple[list[str], str, list[str]]:
    """Needles, question and expected strings of a task about magic numbers."""
    num_keys = 1 if task in ("single", "multi-value") else 4
    num_values = 4 if task == "multi-value" else 1
    keys = _words(rng, num_keys)
    values = {key: [str(rng.randint(10**6, 10**7 - 1)) for _ in range(num_values)] for key in keys}
    needles = [f"One of the special magic numbers for {key} is: {one}." for key in keys for one in values[key]]
    asked = keys if task == "multi-query" else [rng.choice(keys)]
    listed = asked[0] if len(asked) == 1 else f"{', '.join(asked[:-1])}, and {asked[-1]}"
    expected = [one for key in asked for one in values[key]]
    what = "is the special magic number" if len(expected) == 1 else "are all the special magic numbers"
    return needles, f"What {what} for {listed} mentioned in the provided text?", expected


def _variables(rng: random.Random) -> tuple[list[str], str, list[str]]:
    """A chain of four assignments after the first, between those of another chain."""
    names = [word.upper() for word in _words(rng, 10)]
    value, other = (str(rng.randint(10000, 99999)) for _ in range(2))
    chains = []
    for first, chain in ((value, names[:5]), (other, names[5:])):
        sources = [first, *(f"VAR {name}" for name in chain)]
        chains.append([f"VAR {name} = {source}" for name, source in zip(chain, sources, strict=False)])
    needles: list[str] = []
    while any(chains):
        needles.append(rng.choice([chain for chain in chains if chain]).pop(0))
    asked = f"Question: Find all variables that are assigned the value {value} in the text above."
    return needles, asked, names[:5]


def _words(rng: random.Random, number: int) -> list[str]:
    """So many different made-up words."""
    found: dict[str, None] = {}
    while len(found) < number:
        found["".join(rng.sample(_SYLLABLES, 3))] = None
    return list(found)


def _outcome(question: Question, answer: str) -> Outcome:
    expected = question.extra["expected"]
    lacking = [one for one in expected if one.lower() not in answer.lower()]
    return Outcome(matched(answer, expected), reason=f"lacks {', '.join(lacking)}" if lacking else "")
