"""An evaluation from its questions to its results: asked, graded, written down; ended and begun again at any moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from ltrl.backend import create
from ltrl.benchmark import Question
from ltrl.errors import Code, fail
from ltrl.evaluation.answers import Log
from ltrl.evaluation.asking import Asked, Prompt, Target, ask
from ltrl.evaluation.grading import Grader, Planned, Set
from ltrl.evaluation.lengths import Lengths
from ltrl.evaluation.results import Head, Sample, write
from ltrl.evaluation.spec import EvalSection

__all__ = ["Progress", "evaluate"]

ANSWERS, OUTCOMES = "answers.jsonl", "outcomes.jsonl"

Progress = Callable[[int, int | None], None]
"""Told how many answers there are, and how many there will be; None while questions are still being read."""


def evaluate(
    section: EvalSection,
    target: Target,
    *,
    name: str,
    chat_format: str,
    lengths: Lengths,
    out: Path,
    on_progress: Progress = lambda *_: None,
    prices: dict[str, float] | None = None,
) -> list[Sample]:
    """Asks what is not answered yet, grades what is not graded yet, and writes the results to a directory.

    Returns the samples without their texts. Raises INCOMPLETE, after writing, when more of a benchmark is missing than
    `max_missing` allows, and NO_ANSWERS when the endpoint is gone.
    """
    sets = [Set(known, part, create(part), []) for known, part in section.benchmarks.items()]
    head = Head(
        name=name,
        model=target.model,
        identity=target.identity,
        spec=section.model_dump(mode="json"),
        lengths="exact" if lengths.is_exact else "estimated",
        prices=prices,
    )
    with Log(out / ANSWERS) as answers, Log(out / OUTCOMES) as outcomes:
        asked = Asked()
        grader = Grader(chat_format, answers, outcomes, asked, section)
        reader = _Reader(section, target, sets, answers, lengths, grader=grader, on_progress=on_progress)
        ask(reader.prompts(), answers, target, asked, on_answer=reader.answered, judging=grader)
        kept: list[Sample] = []

        def graded() -> Iterator[Sample]:
            for one in sets:
                for sample in grader.samples(one):
                    kept.append(sample.without_texts)
                    yield sample

        write(out, head, graded())
    _refuse_gaps(kept, section.max_missing)
    return kept


class _Reader:
    """Reads questions as they are needed, and counts what is under way."""

    def __init__(
        self,
        section: EvalSection,
        target: Target,
        sets: list[Set],
        answers: Log,
        lengths: Lengths,
        *,
        grader: Grader,
        on_progress: Progress,
    ) -> None:
        self._section, self._target, self._sets, self._lengths = section, target, sets, lengths
        self._grader = grader
        self._answers, self._on_progress = answers, on_progress
        self._keys: set[str] = set()
        """Of all answers so far: two benchmarks may have the same questions, which are asked once."""
        self._num_done = 0
        self._is_read = False

    def prompts(self) -> Iterator[Prompt]:
        """The prompts of every question; notes which answers each question gets."""
        for one in self._sets:
            samples = one.section.samples or self._section.sampling.samples
            seen: set[str] = set()
            for question in _questions(one):
                if question.id in seen:
                    raise fail(
                        Code.BAD_DATA, f"two questions of the benchmark `{one.name}` have the id `{question.id}`"
                    )
                seen.add(question.id)
                fitted = self._lengths.fitted(question, one.section.overlong or self._section.overlong)
                slim = replace(question, messages=())
                if fitted is None:
                    one.planned.append(Planned(slim, (), samples))
                    continue
                found = list(Prompt.all_of(self._target, fitted.question.messages, fitted.num_tokens, samples))
                planned = Planned(slim, tuple(p.key for p in found), samples, fitted.is_cut)
                one.planned.append(planned)
                self._grader.expect(one, planned)
                fresh = [prompt for prompt in found if prompt.key not in self._keys]
                self._keys.update(prompt.key for prompt in fresh)
                self._num_done += sum(prompt.key in self._answers for prompt in fresh)
                yield from fresh
            if not seen:
                hint = "its options leave none, or its files are empty"
                raise fail(Code.BAD_DATA, f"the benchmark `{one.name}` has no question", hint=hint)
        self._is_read = True
        self._on_progress(self._num_done, len(self._keys))

    def answered(self) -> None:
        """One more answer, or the end of asking for one."""
        self._num_done += 1
        self._on_progress(self._num_done, len(self._keys) if self._is_read else None)


def _questions(one: Set) -> Iterator[Question]:
    """The questions of a benchmark; with a limit, those whose ids hash lowest, which is a second reading."""
    limit = one.section.limit
    if limit is None:
        yield from one.backend
        return
    chosen = sorted((sha256(question.id.encode()).digest(), question.id) for question in one.backend)[:limit]
    ids = {name for _, name in chosen}
    yield from (question for question in one.backend if question.id in ids)


def _refuse_gaps(samples: list[Sample], most: float) -> None:
    """Raises INCOMPLETE for the benchmark with the largest share of missing answers, if that is too large."""
    by_name: dict[str, list[Sample]] = {}
    for sample in samples:
        by_name.setdefault(sample.benchmark, []).append(sample)
    for name, members in by_name.items():
        missing = [sample for sample in members if sample.is_missing]
        if len(missing) > most * len(members) + 1e-9:
            reasons = sorted({f"{sample.status}: {sample.reason}" for sample in missing})
            hint = "the same command asks again for what is missing, and for nothing else"
            message = (
                f"{len(missing)} of {len(members)} answers of `{name}` are missing, `max_missing` {most:g} allows "
            )
            raise fail(Code.INCOMPLETE, f"{message}{int(most * len(members) + 1e-9)}; {reasons[0]}", hint=hint)
