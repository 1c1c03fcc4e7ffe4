"""An evaluation from its questions to its results: asked, graded, written down; ended and begun again at any moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from ltrl.backend import BenchmarkBackend, BenchmarkSection, create
from ltrl.benchmark import Answered, Outcome, Question
from ltrl.errors import Code, fail
from ltrl.evaluation.answers import Log
from ltrl.evaluation.asking import Asked, Prompt, Target, ask
from ltrl.evaluation.lengths import Lengths
from ltrl.evaluation.results import Head, Sample, Status, write
from ltrl.evaluation.spec import EvalSection
from ltrl.scoring import Response, chat_format, parse_response

__all__ = ["Progress", "evaluate"]

ANSWERS, OUTCOMES = "answers.jsonl", "outcomes.jsonl"
_BATCH = 256
"""Answers that are graded, and in memory, at once."""

Progress = Callable[[int, int | None], None]
"""Told how many answers there are, and how many there will be; None while questions are still being read."""


@dataclass(frozen=True, slots=True)
class _Planned:
    """A question with the answers that it gets."""

    question: Question
    """Without its messages."""
    keys: tuple[str, ...]
    """Of its answers; empty for one that is too long."""
    samples: int
    is_cut: bool = False


@dataclass(frozen=True)
class _Set:
    """One benchmark of an evaluation."""

    name: str
    section: BenchmarkSection
    backend: BenchmarkBackend
    planned: list[_Planned]


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
    sets = [_Set(known, part, create(part), []) for known, part in section.benchmarks.items()]
    head = Head(
        name=name,
        model=target.model,
        identity=target.identity,
        spec=section.model_dump(mode="json"),
        lengths="exact" if lengths.is_exact else "estimated",
        prices=prices,
    )
    with Log(out / ANSWERS) as answers, Log(out / OUTCOMES) as outcomes:
        reader = _Reader(section, target, sets, answers, lengths, on_progress=on_progress)
        asked = ask(reader.prompts(), answers, target, on_answer=reader.answered)
        grader = _Grader(chat_format, answers, outcomes, asked, section)
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
        sets: list[_Set],
        answers: Log,
        lengths: Lengths,
        *,
        on_progress: Progress,
    ) -> None:
        self._section, self._target, self._sets, self._lengths = section, target, sets, lengths
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
                    one.planned.append(_Planned(slim, (), samples))
                    continue
                found = list(Prompt.all_of(self._target, fitted.question.messages, fitted.num_tokens, samples))
                one.planned.append(_Planned(slim, tuple(p.key for p in found), samples, fitted.is_cut))
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


def _questions(one: _Set) -> Iterator[Question]:
    """The questions of a benchmark; with a limit, those whose ids hash lowest, which is a second reading."""
    limit = one.section.limit
    if limit is None:
        yield from one.backend
        return
    chosen = sorted((sha256(question.id.encode()).digest(), question.id) for question in one.backend)[:limit]
    ids = {name for _, name in chosen}
    yield from (question for question in one.backend if question.id in ids)


class _Grader:
    """Grades answers in batches; a verdict that is there is not asked for again."""

    def __init__(self, chat_format: str, answers: Log, outcomes: Log, asked: Asked, section: EvalSection) -> None:
        self._chat_format, self._answers, self._outcomes, self._asked = chat_format, answers, outcomes, asked
        self._section = section

    def samples(self, one: _Set) -> Iterator[Sample]:
        """Every sample of a benchmark, in the order of its questions."""
        rule = sha256(f"{self._chat_format}\0{one.section.model_dump_json()}".encode()).hexdigest()[:16]
        places = [(planned, number) for planned in one.planned for number in range(planned.samples)]
        for start in range(0, len(places), _BATCH):
            yield from self._batch(one, rule, places[start : start + _BATCH])

    def _batch(self, one: _Set, rule: str, places: list[tuple[_Planned, int]]) -> Iterator[Sample]:
        drafts = [self._draft(one, planned, number) for planned, number in places]
        wanted = []
        for (planned, number), draft in zip(places, drafts, strict=True):
            if draft.status == "graded" and draft.score is None:
                key = f"{rule}-{planned.keys[number]}"
                wanted.append((key, Answered(planned.question, draft.answer or "")))
        known = {key: Outcome(**_fields(found)) for key, _ in wanted if (found := self._outcomes.get(key)) is not None}
        new = {key: answered for key, answered in wanted if key not in known}
        for key, outcome in zip(new, one.backend.grade(list(new.values())) if new else [], strict=True):
            known[key] = outcome
            if outcome.score is not None:
                self._outcomes.add(key, asdict(outcome))
        self._outcomes.sync()
        for (planned, number), draft in zip(places, drafts, strict=True):
            if draft.status != "graded" or draft.score is not None:
                yield draft
                continue
            outcome = known[f"{rule}-{planned.keys[number]}"]
            status: Status = "graded" if outcome.score is not None else "unjudged"
            yield replace(draft, status=status, score=outcome.score, reason=outcome.reason, extracted=outcome.extracted)

    def _draft(self, one: _Set, planned: _Planned, number: int) -> Sample:
        """A sample before it is graded; one that needs no grading has its score."""
        question = planned.question
        bare = Sample(
            benchmark=one.name,
            question=question.id,
            number=number,
            status="graded",
            score=None,
            label=question.label,
            text=question.text,
            cluster=question.cluster or question.id,
            splits=dict(question.splits),
            is_cut=planned.is_cut,
        )
        is_wrong = (one.section.overlong or self._section.overlong) == "wrong"
        if not planned.keys:
            return replace(bare, status="too-long", score=0.0 if is_wrong else None, reason="longer than the context")
        key = planned.keys[number]
        if key in self._asked.too_long:
            reason = self._asked.too_long[key]
            return replace(bare, status="too-long", score=0.0 if is_wrong else None, reason=reason)
        record = self._answers.get(key)
        if record is None:
            return replace(bare, status="unanswered", reason=self._asked.failures.get(key, "not asked"))
        response = _response(record, self._chat_format)
        draft = replace(
            bare,
            answer=response.content,
            reasoning=response.reasoning,
            finish_reason=record.get("finish_reason", ""),
            ill_formed=response.ill_formed_reasons,
            prompt_tokens=record.get("prompt_tokens"),
            response_tokens=record.get("response_tokens"),
        )
        if response.content is None:
            reason = "cut before an answer" if response.status == "truncated" else "no answer"
            return replace(draft, score=0.0, reason=reason)
        return draft


def _fields(record: dict[str, Any]) -> dict[str, Any]:
    return {name: record[name] for name in ("score", "extracted", "reason")}


def _response(record: dict[str, Any], format_: str) -> Response:
    """An answer taken apart as training does it: with the stop token, which endpoints do not send, put back."""
    rules = chat_format(format_)
    text = record["text"]
    if (reasoning := record.get("reasoning")) and "</think>" not in text:
        is_open = not text and record.get("finish_reason") == "length"  # cut while it was thinking
        text = reasoning if is_open else f"{reasoning}\n</think>\n\n{text}"
    is_truncated = record.get("finish_reason") == "length"
    if not is_truncated and rules.stop_tokens and not text.endswith(rules.stop_tokens):
        text += rules.stop_tokens[0]
    return parse_response(text, chat_format=format_, is_truncated=is_truncated)


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
