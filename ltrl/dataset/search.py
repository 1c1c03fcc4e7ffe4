"""One attempt of an agent at a question, with everything that it does written down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, assert_never

from ltrl.dataset.corpus import Corpus, normal
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
        self._ids: set[str] = set()
        """Of the documents that it was shown."""
        self._names: dict[str, str] = {}
        """Their ids by title and by what they were asked for with."""

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
            self._names |= {normal(name): found.id for name in (found.title, document)}
        return found

    def cite(self, documents: Sequence[str]) -> Sequence[str]:
        """Names evidence by id, title or other name; gives back what no document has."""
        self._use()
        ids = {document: self._id(document) for document in documents}
        if known := [id for id in ids.values() if id is not None]:
            self.steps.append(Cite(tuple(known)))
        return [document for document, id in ids.items() if id is None]

    def answer(self, text: str) -> None:
        """Ends the attempt."""
        self.text = text.strip()
        self.steps.append(Answer(self.text))

    def replay(self, trajectory: Trajectory, documents: Sequence[Page]) -> None:
        """Takes over what was done elsewhere, with the id of each document in place of another name of it."""
        seen = dict.fromkeys((*trajectory.opened, *trajectory.retrieved))
        numbers = self._corpus.numbers(seen)
        self._keep([*documents, *self._corpus.pages([numbers[id] for id in seen if id in numbers])])
        self.steps = [self._by_id(step) for step in trajectory.steps]
        self.text, self.agent = trajectory.answer, trajectory.agent

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

    def _by_id(self, step: Step) -> Step:
        match step:
            case Search():
                return Search(step.query, tuple(self._id(document) or document for document in step.results))
            case Open():
                return Open(self._id(step.document) or step.document)
            case Cite():
                return Cite(tuple(self._id(document) or document for document in step.documents))
            case Answer():
                return step
        assert_never(step)

    def _id(self, document: str) -> str | None:
        """The id of the document with that id, title or other name, of those that it was shown first."""
        if document in self._ids:
            return document
        if (shown := self._names.get(normal(document))) is not None:
            return shown
        page = self._corpus.find(document) or self._corpus.named(document)
        return page.id if page else None

    def _keep(self, pages: Sequence[Page]) -> None:
        for page in pages:
            self._ids.add(page.id)
            self._names.setdefault(normal(page.title), page.id)
            known = self.outside.get(page.id)
            if page.number == 0 and (known is None or len(page.text) >= len(known.text)):
                self.outside[page.id] = page
