"""What comes of answers: graded by a rule or by a judge, each outcome written down the moment it is there."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import sha256
from typing import Any, TypeVar

from ltrl.backend import BenchmarkBackend, BenchmarkSection, Grade, JudgeSection
from ltrl.backend.models import graded
from ltrl.benchmark import Answered, Outcome, Question
from ltrl.evaluation.answers import Log
from ltrl.evaluation.asking import Asked
from ltrl.evaluation.results import TOO_LONG, Sample, Status
from ltrl.evaluation.spec import EvalSection
from ltrl.scoring import Response, Usage, chat_format, parse_response

__all__ = ["Grader", "Planned", "Set"]

T = TypeVar("T")

_BATCH = 256
"""Answers that are graded by a rule, and in memory, at once."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A question with the answers that it gets."""

    question: Question
    """Without its messages."""
    keys: tuple[str, ...]
    """Of its answers; empty for one that is too long."""
    samples: int
    is_cut: bool = False


@dataclass(frozen=True)
class Set:
    """One benchmark of an evaluation."""

    name: str
    section: BenchmarkSection
    backend: BenchmarkBackend
    planned: list[Planned]


class Grader:
    """Grades answers; a verdict that is there is not asked for again while nothing changes that it depends on.

    Benchmarks with a judge are graded answer by answer while others are asked for, the others in batches at the end.
    """

    def __init__(self, chat_format: str, answers: Log, outcomes: Log, asked: Asked, section: EvalSection) -> None:
        self._chat_format, self._answers, self._outcomes, self._asked = chat_format, answers, outcomes, asked
        self._section = section
        self._rules: dict[str, str] = {}
        self._places: dict[str, list[tuple[Set, Planned, int]]] = {}
        """Of answers that a judge waits for, by key."""
        self._unjudged: dict[str, Outcome] = {}
        """What no judge told right from wrong this time."""

    def expect(self, one: Set, planned: Planned) -> None:
        """Notes the answers of a question that are judged when they come."""
        if _judges(one.section):
            for number, key in enumerate(planned.keys):
                self._places.setdefault(key, []).append((one, planned, number))

    async def judge(self, key: str) -> None:
        """Has an answer judged that has come; a thread waits for the judge, and this loop writes down what it says."""
        for one, planned, number in self._places.pop(key, ()):
            draft = self._draft(one, planned, number)
            name = self._name(one, planned, number)
            if draft.score is None and self._known(name) is None:
                grade = partial(one.backend.grade, [Answered(planned.question, draft.answer or "")])
                [outcome] = await _in_a_thread(grade)
                self._keep(name, outcome)

    def sync(self) -> None:
        """Waits until the disk has every outcome."""
        self._outcomes.sync()

    def samples(self, one: Set) -> Iterator[Sample]:
        """Every sample of a benchmark, in the order of its questions."""
        places = [(planned, number) for planned in one.planned for number in range(planned.samples)]
        for start in range(0, len(places), _BATCH):
            yield from self._batch(one, places[start : start + _BATCH])

    def _batch(self, one: Set, places: list[tuple[Planned, int]]) -> Iterator[Sample]:
        drafts = [self._draft(one, planned, number) for planned, number in places]
        wanted: dict[str, Answered] = {}
        for (planned, number), draft in zip(places, drafts, strict=True):
            if draft.status == "graded" and draft.score is None:
                wanted[self._name(one, planned, number)] = Answered(planned.question, draft.answer or "")
        known = {name: outcome for name in wanted if (outcome := self._known(name)) is not None}
        new = {name: answered for name, answered in wanted.items() if name not in known}
        for name, outcome in zip(new, one.backend.grade(list(new.values())) if new else [], strict=True):
            known[name] = self._keep(name, outcome)
        self._outcomes.sync()
        for (planned, number), draft in zip(places, drafts, strict=True):
            if draft.status != "graded" or draft.score is not None:
                yield draft
                continue
            outcome = known[self._name(one, planned, number)]
            status: Status = "graded" if outcome.score is not None else "unjudged"
            yield replace(
                draft,
                status=status,
                score=outcome.score,
                reason=outcome.reason,
                extracted=outcome.extracted,
                judge=outcome.usage,
            )

    def _known(self, name: str) -> Outcome | None:
        """What came of an answer, now or before; None where it is still to be graded."""
        if name in self._unjudged:
            return self._unjudged[name]
        outcome = self._kept(name)
        return outcome if outcome and outcome.score is not None else None

    def _kept(self, name: str) -> Outcome | None:
        record = self._outcomes.get(name)
        if record is None:
            return None
        usage = record.get("usage")
        return Outcome(record["score"], record["extracted"], record["reason"], Usage(**usage) if usage else None)

    def _keep(self, name: str, outcome: Outcome) -> Outcome:
        """Writes an outcome down, with what earlier tries took; the next call asks again for one without a score."""
        before = self._kept(name)
        if before is not None:
            outcome = replace(outcome, usage=Usage.sum_of((before.usage, outcome.usage)))
        if outcome.score is None:
            self._unjudged[name] = outcome
        if outcome.score is not None or outcome.usage is not None:
            self._outcomes.add(name, asdict(outcome))
        return outcome

    def _name(self, one: Set, planned: Planned, number: int) -> str:
        """What an outcome depends on: the answer, what it is held against, and how."""
        if one.name not in self._rules:
            self._rules[one.name] = _rule(one.section, self._chat_format)
        question = planned.question
        against = json.dumps([question.text, question.label, question.extra], sort_keys=True, default=str)
        return f"{self._rules[one.name]}-{sha256(against.encode()).hexdigest()[:16]}-{planned.keys[number]}"

    def _draft(self, one: Set, planned: Planned, number: int) -> Sample:
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
            return replace(bare, status="too-long", score=0.0 if is_wrong else None, reason=TOO_LONG)
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


def _judges(section: BenchmarkSection) -> bool:
    return any(isinstance(value, JudgeSection) for _, value in section)


def _rule(section: BenchmarkSection, chat_format: str) -> str:
    """How a benchmark grades: its options, but for how many are asked and where a judge is found."""
    beside = BenchmarkSection.model_fields.keys() - {"backend"}
    options = {path: v for path, grade, v in graded(section) if grade is Grade.NEW_RUN and path not in beside}
    return sha256(json.dumps([chat_format, options], sort_keys=True, default=str).encode()).hexdigest()[:16]


def _in_a_thread(work: Callable[[], T]) -> asyncio.Future[T]:
    """What a call returns or raises. A thread of its own that nobody waits for in the end: a judge that does not answer
    must not hold up a process that is told to end."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:
            tell(future.set_exception, error)
        else:
            tell(future.set_result, result)

    def tell(end: Callable[[Any], None], value: object) -> None:
        def told() -> None:
            if not future.done():
                end(value)

        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody wants to know any more
            loop.call_soon_threadsafe(told)

    threading.Thread(target=run, name="grading", daemon=True).start()
    return future


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
