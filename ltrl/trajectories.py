"""What a search agent did to answer a question: it searched, opened documents, cited some and answered.

The JSON form has one object a trajectory, and is the one in every file of trajectories that ltrl reads or writes:

    {"question_id": "q7", "question": "…", "attempt": 0, "agent": "scripted", "answer": "nucleus", "is_correct": true,
     "steps": [{"action": "search", "query": "…", "results": ["doc-3", "doc-9"]},
               {"action": "open", "document": "doc-3"},
               {"action": "cite", "documents": ["doc-3"]},
               {"action": "answer", "text": "nucleus"}]}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, assert_never

__all__ = ["Answer", "Cite", "Open", "Search", "Step", "Trajectory"]


@dataclass(frozen=True, slots=True)
class Search:
    """A query and what the search engine found."""

    query: str
    results: tuple[str, ...]
    """Ids of documents, the best first."""


@dataclass(frozen=True, slots=True)
class Open:
    """A document that was read."""

    document: str
    """Its id."""


@dataclass(frozen=True, slots=True)
class Cite:
    """Documents that the agent names as its evidence."""

    documents: tuple[str, ...]
    """Their ids."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the agent answered."""

    text: str


Step = Search | Open | Cite | Answer


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One attempt of an agent at one question."""

    question_id: str
    question: str
    attempt: int
    """Counted from 0 for each question."""
    steps: tuple[Step, ...]
    """In the order in which they happened."""
    answer: str
    """Empty when the agent gave none."""
    is_correct: bool | None
    """None when nobody has judged the answer."""
    agent: str = ""
    """What it was: `scripted`, or the model's name."""

    @property
    def retrieved(self) -> tuple[str, ...]:
        """Ids of the documents that searches found, each once, in the order in which they were seen first."""
        return tuple(dict.fromkeys(d for s in self.steps if isinstance(s, Search) for d in s.results))

    @property
    def opened(self) -> tuple[str, ...]:
        """Ids of the documents that were read, each once, in order."""
        return tuple(dict.fromkeys(s.document for s in self.steps if isinstance(s, Open)))

    @property
    def cited(self) -> tuple[str, ...]:
        """Ids of the documents that were cited, each once, in order."""
        return tuple(dict.fromkeys(d for s in self.steps if isinstance(s, Cite) for d in s.documents))

    def to_json(self) -> dict[str, Any]:
        """The trajectory as one JSON object; `from_json` gives it back."""
        return {
            "question_id": self.question_id,
            "question": self.question,
            "attempt": self.attempt,
            "agent": self.agent,
            "answer": self.answer,
            "is_correct": self.is_correct,
            "steps": [_written(step) for step in self.steps],
        }

    @classmethod
    def from_json(cls, record: object) -> Trajectory:
        """The trajectory in a JSON object.

        Raises ValueError that names the field which is missing or wrong; callers know which line of which file it was.
        """
        found = _Fields(record, "")
        attempt = found.get("attempt", lambda v: isinstance(v, int) and not isinstance(v, bool) and v >= 0, "a count")
        verdict = found.get("is_correct", lambda v: v is None or isinstance(v, bool), "true, false or null")
        steps = found.get("steps", lambda v: isinstance(v, list), "a list")
        return cls(
            question_id=found.text("question_id"),
            question=found.text("question"),
            attempt=attempt,
            steps=tuple(_step(_Fields(step, f"steps[{i}]")) for i, step in enumerate(steps)),
            answer=found.text("answer", may_be_empty=True),
            is_correct=verdict,
            agent=found.text("agent", may_be_empty=True),
        )


def _written(step: Step) -> dict[str, Any]:
    match step:
        case Search():
            return {"action": "search", "query": step.query, "results": list(step.results)}
        case Open():
            return {"action": "open", "document": step.document}
        case Cite():
            return {"action": "cite", "documents": list(step.documents)}
        case Answer():
            return {"action": "answer", "text": step.text}
    assert_never(step)


def _step(fields: _Fields) -> Step:
    match fields.text("action"):
        case "search":
            return Search(fields.text("query", may_be_empty=True), fields.ids("results"))
        case "open":
            return Open(fields.text("document"))
        case "cite":
            return Cite(fields.ids("documents"))
        case "answer":
            return Answer(fields.text("text", may_be_empty=True))
        case action:
            raise ValueError(f"`{fields.path}.action` is `{action}`, expected `search`, `open`, `cite` or `answer`")


class _Fields:
    """The fields of a JSON object, each checked when it is asked for."""

    def __init__(self, record: object, path: str) -> None:
        if not isinstance(record, Mapping):
            raise ValueError(f"{f'`{path}`' if path else 'a trajectory'} is not an object")
        self.record = record
        self.path = path

    def get(self, name: str, is_right: Callable[[Any], bool], expected: str) -> Any:
        where = f"{self.path}.{name}" if self.path else name
        if name not in self.record:
            raise ValueError(f"`{where}` is missing")
        if not is_right(self.record[name]):
            raise ValueError(f"`{where}` is not {expected}")
        return self.record[name]

    def text(self, name: str, *, may_be_empty: bool = False) -> str:
        expected = "text" if may_be_empty else "text with something in it"
        return str(self.get(name, lambda v: isinstance(v, str) and (may_be_empty or bool(v)), expected))

    def ids(self, name: str) -> tuple[str, ...]:
        is_right = lambda v: isinstance(v, list) and all(isinstance(d, str) and d for d in v)  # noqa: E731
        return tuple(self.get(name, is_right, "a list of document ids"))
