"""`samples`: any data backend's samples as a benchmark, for questions like those of the training.

With `measure: evidence` it asks whether an answer names what it is built on: the share of the rubric's entities in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

from pydantic import Field

from ltrl.backend import BenchmarkSection, DataChoice, JudgeChoice, create
from ltrl.benchmark import Answered, Outcome, Question, asked_of, each
from ltrl.scoring import matcher, recall

__all__ = ["Samples"]


class Samples:
    """Samples of a data backend; right is what the judge says, or named evidence counts."""

    api: ClassVar[int] = 1

    class Options(BenchmarkSection):
        """Held-out samples of any data backend, judged, or measured by the evidence that answers name."""

        backend: Literal["samples"]
        """This backend."""
        data: DataChoice
        """Where the samples come from."""
        judge: JudgeChoice = Field(default="exact", validate_default=True)
        """Who compares answers with labels."""
        measure: Literal["answer", "evidence"] = "answer"
        """`answer`: whether it is right; `evidence`: the share of the rubric that the answer names."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._data = create(options.data)
        self._judge = create(options.judge)
        self._matcher = matcher("words")

    def __iter__(self) -> Iterator[Question]:
        """Every sample in the data's order."""
        for sample in self._data:
            yield Question(
                id=sample.id,
                messages=sample.messages,
                label=sample.label,
                text=sample.question,
                extra={"rubrics": sample.rubrics},
            )

    def num_questions(self) -> int:
        """As many as there are samples."""
        return len(self._data)

    def grade(self, answers: Sequence[Answered]) -> list[Outcome]:
        """The judge's verdict, or the share of the rubric."""
        if self._options.measure == "answer":
            return asked_of(self._judge, answers)
        return each(answers, self._evidence)

    def _evidence(self, question: Question, answer: str) -> Outcome:
        hits = self._matcher.hits(answer, question.extra["rubrics"])
        lacking = [hit.entity for hit in hits if not hit.spans]
        return Outcome(recall(hits), reason=f"does not name {', '.join(lacking)}" if lacking else "")
