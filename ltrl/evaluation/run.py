"""An evaluation from its questions to its results: asked, graded, written down; ended and begun again at any moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from ltrl.backend import CountsQuestions, create
from ltrl.benchmark import Question
from ltrl.errors import Code, LtrlError, fail
from ltrl.evaluation.answers import Log
from ltrl.evaluation.asking import Asked, Prompt, Target, ask
from ltrl.evaluation.grading import Grader, Planned, Set
from ltrl.evaluation.lengths import Lengths
from ltrl.evaluation.results import Head, Sample, write
from ltrl.evaluation.spec import EvalSection

__all__ = ["Progress", "evaluate"]

ANSWERS, OUTCOMES = "answers.jsonl", "outcomes.jsonl"

Progress = Callable[[int, int | None], None]
"""Told how many answers there are, and how many there will be at most; None while nobody knows."""


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
    `max_missing` allows, or nothing was measured because the server's context is shorter than the spec's, and
    NO_ANSWERS when the endpoint is gone.
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
    _refuse_gaps(kept, section.max_missing, context=target.total)
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
        self._most: dict[str, int | None] = {}
        """Questions of each benchmark; a bound before all are read, None where nobody knows."""

    def prompts(self) -> Iterator[Prompt]:
        """The prompts of every question; notes which answers each question gets."""
        self._most = {one.name: _most(one) for one in self._sets}
        for one in self._sets:
            samples = self._samples(one)
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
            self._most[one.name] = len(one.planned)
        self._on_progress(self._num_done, self._total)

    def answered(self) -> None:
        """One more answer, or the end of asking for one."""
        self._num_done += 1
        self._on_progress(self._num_done, self._total)

    @property
    def _total(self) -> int | None:
        """Answers in all, as far as it is known."""
        left = 0
        for one in self._sets:
            most = self._most.get(one.name)
            if most is None:
                return None
            left += max(0, most - len(one.planned)) * self._samples(one)
        return len(self._keys) + left

    def _samples(self, one: Set) -> int:
        return one.section.samples or self._section.sampling.samples


def _most(one: Set) -> int | None:
    """How many questions a benchmark has at most, as far as it is known before they are read."""
    known = None
    if isinstance(one.backend, CountsQuestions):
        with suppress(LtrlError):  # told when the questions are read
            known = one.backend.num_questions()
    bounds = [bound for bound in (known, one.section.limit) if bound is not None]
    return min(bounds, default=None)


def _questions(one: Set) -> Iterator[Question]:
    """The questions of a benchmark; with a limit, those whose ids hash lowest, which is a second reading."""
    limit = one.section.limit
    if limit is None:
        yield from one.backend
        return
    chosen = sorted((sha256(question.id.encode()).digest(), question.id) for question in one.backend)[:limit]
    ids = {name for _, name in chosen}
    yield from (question for question in one.backend if question.id in ids)


def _refuse_gaps(samples: list[Sample], most: float, *, context: int) -> None:
    """Raises INCOMPLETE for a benchmark that lacks too large a share of its answers, or of which nothing was measured
    because the server found too long what fits the spec's `context`."""
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
        refused = [sample for sample in members if sample.is_refused]
        if refused and not any(sample.status == "graded" for sample in members):
            message = (
                f"nothing of `{name}` was measured: the server refused {len(refused)} of {len(members)} prompts, which "
                f"fit the spec's context of {context} tokens, as too long; {refused[0].reason}"
            )
            hint = "serve the model with that context, or lower `context` in the spec; the same command asks again"
            raise fail(Code.INCOMPLETE, message, hint=hint)
