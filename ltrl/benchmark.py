"""What a benchmark is made of: questions, answers, and what comes of an answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ltrl.scoring import JudgeRequest, Usage

if TYPE_CHECKING:
    from ltrl.backend import JudgeBackend

__all__ = ["Answered", "Outcome", "Question", "asked_of", "each"]


@dataclass(frozen=True, slots=True)
class Question:
    """One question with its documents."""

    id: str
    """Unique in its benchmark, and the same whenever it is loaded."""
    messages: tuple[tuple[str, str], ...]
    """(role, content) of each message of the prompt."""
    label: str
    """The right answer."""
    text: str = ""
    """The question alone, for a judge and for people."""
    splits: Mapping[str, str] = field(default_factory=dict)
    """Which part of each split it belongs to: `{"difficulty": "hard"}`; results are shown for each part too."""
    cluster: str = ""
    """Questions that are not independent share one, as versions of one question do; by default its own id."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What grading needs beside."""


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer to a question."""

    question: Question
    """Without its messages: a prompt may have a megabyte, and grading needs none."""
    text: str
    """The visible answer, never empty; an answer that is empty or was cut before it began is wrong without grading."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an answer."""

    score: float | None
    """0 to 1; None when no judge told right from wrong: such an answer is missing, never wrong."""
    extracted: str | None = None
    """What was taken for the final answer; None where there was none or nothing is extracted."""
    reason: str = ""
    """Why it is so, in a few words."""
    usage: Usage | None = None
    """What the judge took; None where none was asked."""


def each(answers: Sequence[Answered], grade: Callable[[Question, str], Outcome]) -> list[Outcome]:
    """The outcome of each answer by a rule."""
    return [grade(one.question, one.text) for one in answers]


def asked_of(judge: JudgeBackend, answers: Sequence[Answered]) -> list[Outcome]:
    """The outcome of each answer as a judge says: 1 right, 0 wrong, None without a verdict."""
    verdicts = judge.judge([JudgeRequest(one.question.text, one.question.label, one.text) for one in answers])
    return [
        Outcome(None if v.is_correct is None else float(v.is_correct), reason=v.reason, usage=v.usage) for v in verdicts
    ]
