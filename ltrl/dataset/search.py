"""One attempt of an agent at a question, with everything that it does written down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ltrl.dataset.corpus import Corpus
from ltrl.dataset.kinds import AgentSection, Rejected, SearchBackend
from ltrl.dataset.page import Page
from ltrl.dataset.question import Question
from ltrl.trajectories import Answer, Cite, Open, Search, Step, Trajectory

__all__ = ["Attempt", "attempt_number", "candidate_and_place", "outside"]

_CANDIDATES = 1 << 40
"""Candidates that there may be: a journal numbers attempts by both."""


def attempt_number(candidate: int, place: int) -> int:
    """The number under which an attempt is written down; more attempts leave those of before as they are."""
    return place * _CANDIDATES + candidate


def candidate_and_place(attempt: int) -> tuple[int, int]:
    """The number of the candidate, and which of its attempts it is, from 0."""
    place, candidate = divmod(attempt, _CANDIDATES)
    return candidate, place


def outside(attempt: Mapping[str, Any]) -> dict[str, Page]:
    """The documents of an attempt's JSON form that are not of the corpus, by id."""
    return {p["id"]: Page(0, p["id"], p["title"], p["text"]) for p in attempt["outside"]}


class Attempt:
    """The tools of an agent, and what it did with them."""

    def __init__(self, corpus: Corpus, backend: SearchBackend, section: AgentSection, *, number: int) -> None:
        self.number = number
        """Which of a question's attempts it is, from 0."""
        self.steps: list[Step] = []
        self.outside: dict[str, Page] = {}
        """Documents that are not of the corpus, by id, as they were last seen."""
        self.text = ""
        """The answer."""
        self.agent = ""
        """Who did it, where that is another than the backend."""
        self._corpus = corpus
        self._backend = backend
        self._section = section

    def search(self, query: str) -> Sequence[Page]:
        """The documents that suit a query best."""
        self._use()
        found = self._backend.search(query, self._section.results, self._corpus)
        self.steps.append(Search(query, tuple(page.id for page in found)))
        self._keep(found)
        return found

    def open(self, document: str) -> Page | None:
        """The document with that id."""
        self._use()
        found = self._backend.open(document, self._corpus)
        if found is not None:
            self.steps.append(Open(found.id))
            self._keep([found])
        return found

    def cite(self, documents: Sequence[str]) -> None:
        """Names evidence."""
        self._use()
        self.steps.append(Cite(tuple(documents)))

    def answer(self, text: str) -> None:
        """Ends the attempt."""
        self.text = text.strip()
        self.steps.append(Answer(self.text))

    def replay(self, trajectory: Trajectory, documents: Sequence[Page]) -> None:
        """Takes over what was done elsewhere."""
        self.steps = [*trajectory.steps]
        self.text, self.agent = trajectory.answer, trajectory.agent
        self._keep(documents)

    def to_json(self, question: Question, agent: str) -> dict[str, Any]:
        """What was done, by an agent of that name where the attempt says no other; nobody has judged it."""
        made = Trajectory(
            question.id, question.text, self.number, tuple(self.steps), self.text, None, self.agent or agent
        )
        documents = [{"id": p.id, "title": p.title, "text": p.text} for p in self.outside.values()]
        return {"trajectory": made.to_json(), "outside": documents}

    def _use(self) -> None:
        if len(self.steps) >= self._section.max_steps:
            raise Rejected("the agent used up its steps")

    def _keep(self, pages: Sequence[Page]) -> None:
        for page in pages:
            known = self.outside.get(page.id)
            if page.number == 0 and (known is None or len(page.text) >= len(known.text)):
                self.outside[page.id] = page
