"""Questions that a model answers without documents, and what decides whether an answer is right."""

from __future__ import annotations

from collections.abc import Collection
from random import Random

from ltrl.backend import JudgeBackend, create
from ltrl.dataset.chat import Chat, ChatOptions
from ltrl.dataset.kinds import QuestionSection, Rejected
from ltrl.dataset.question import Question
from ltrl.errors import Code, fail
from ltrl.scoring import JudgeRequest

__all__ = ["ClosedBook", "right_answers"]


class ClosedBook:
    """A model that is asked a question and shown nothing."""

    def __init__(self, model: ChatOptions, section: QuestionSection) -> None:
        self.name = model.model
        self.concurrency = model.concurrency
        self._tries = section.closed_book_tries
        self._judge = create(section.judge)
        self._chat = Chat(model)

    def close(self) -> None:
        """Gives the connections back."""
        self._chat.close()

    def ask(self, question: Question, random: Random) -> None:
        """Raises Rejected when a try gets it right, LtrlError when the model or the judge does not answer."""
        for _ in range(self._tries):
            asked = f"Answer in as few words as possible, with nothing else.\n\n{question.text}"
            reply = self._chat.message([{"role": "user", "content": asked}], seed=random.getrandbits(31))
            answer = (reply.get("content") or "").rpartition("</think>")[2].strip()
            if answer and right_answers(self._judge, question, [answer], whose="the closed book"):
                raise Rejected("the model knows the answer without documents")


def right_answers(judge: JudgeBackend, question: Question, answers: Collection[str], *, whose: str) -> set[str]:
    """Those of the answers that are right, each judged once; raises LtrlError when the judge does not decide."""
    distinct = [*dict.fromkeys(answers)]
    verdicts = judge.judge([JudgeRequest(question.text, question.answer, answer) for answer in distinct])
    for verdict in verdicts:
        if verdict.is_correct is None:
            hint = "start the build again when it answers: it goes on where it stopped"
            raise fail(Code.SERVER_DOWN, f"the judge of {whose} gave no verdict: {verdict.reason}", hint=hint)
    return {answer for answer, verdict in zip(distinct, verdicts, strict=True) if verdict.is_correct}
