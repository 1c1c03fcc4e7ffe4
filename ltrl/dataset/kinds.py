"""The plugin surface of data sets: the sections that name a stage's backend, and what such a backend does.

A backend is published as any other (`ltrl.backend`): `"walk.my-walk" = "my_package:MyWalk"`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol

from pydantic import Field

from ltrl.backend import Choice, JudgeChoice, StageSection
from ltrl.dataset.chat import ChatOptions
from ltrl.dataset.page import Page, SourcePage, Unusable
from ltrl.samples import Tier

if TYPE_CHECKING:
    from ltrl.dataset.corpus import Corpus
    from ltrl.trajectories import Trajectory

__all__ = [
    "AgentBackend",
    "AgentChoice",
    "AgentSection",
    "Candidate",
    "CorpusBackend",
    "CorpusChoice",
    "CorpusSection",
    "Counter",
    "DistractorsBackend",
    "DistractorsChoice",
    "DistractorsSection",
    "Draft",
    "Pool",
    "QuestionBackend",
    "QuestionChoice",
    "QuestionSection",
    "Rejected",
    "SearchBackend",
    "SearchChoice",
    "SearchSection",
    "TokenizerBackend",
    "TokenizerChoice",
    "TokenizerSection",
    "Tools",
    "WalkBackend",
    "WalkChoice",
    "WalkSection",
]

Count = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]


class Rejected(Exception):
    """Why nothing comes of a candidate; it is counted and the next one is tried."""


class CorpusSection(StageSection):
    """Pages that link to each other; the base of every corpus backend's `Options`."""

    kind: ClassVar[str] = "corpus"

    licence: str = "unknown"
    """Licence of the texts, for the data card."""
    broken: Literal["refuse", "skip"] = "refuse"
    """What is no page (broken JSON, invalid UTF-8, no text): `refuse` the corpus and say where; `skip` and count it."""
    max_page_bytes: Annotated[int, Field(ge=1024)] = 16 << 20
    """Longest page that is read; a longer one counts as broken."""


class CorpusBackend(Protocol):
    """Reads pages."""

    api: ClassVar[int]
    Options: ClassVar[type[CorpusSection]]

    def __init__(self, options: Any) -> None: ...

    def files(self) -> Sequence[Path]:
        """Every file that is read, in order; their contents identify the corpus. Raises LtrlError for none."""
        ...

    def pages(self) -> Iterator[SourcePage | Unusable]:
        """Every page in an order that depends on nothing but the files; streamed. Raises LtrlError for a file that
        cannot be read on."""
        ...


class WalkSection(StageSection):
    """How a path of pages is found; the base of every walk backend's `Options`. Defaults are DeepDive's."""

    kind: ClassVar[str] = "walk"

    hops: Count = 8
    """Links that a path follows; it has one page more."""
    candidates: Count = 5
    """Most pages that are chosen from at each step."""
    min_links: Whole = 4
    """Fewest links that a page must have to be walked over; the last page of a path needs none."""
    min_characters: Whole = 200
    """Shortest text of a page on a path."""
    paths_per_walk: Count = 8
    """Paths taken from one walk; they share no page."""
    mad_jumps: tuple[Whole, Whole] = (2, 4)
    """Fewest and most random links followed between two paths, so that a walk leaves its region."""
    mad_steps: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the steps of a path that go to a random candidate instead of a chosen one."""
    skip_titles: tuple[str, ...] = ("(disambiguation)", "List of ")
    """Pages whose title contains one of these are not walked over."""
    starts: tuple[str, ...] = ()
    """Titles of the pages where walks start, in turn; by default random ones."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A page that a walk may go to."""

    page: Page
    anchor: str
    """The words of the link that leads there."""


class WalkBackend(Protocol):
    """Chooses the next page of a walk."""

    api: ClassVar[int]
    Options: ClassVar[type[WalkSection]]
    concurrency: int | None
    """Walks at the same time, for one that waits for others; None leaves it to the number of workers."""

    def __init__(self, options: Any) -> None: ...

    def choose(self, path: Sequence[Page], candidates: Sequence[Candidate], random: Random) -> int:
        """Which of at least two candidates comes after the pages of the path."""
        ...


class QuestionSection(StageSection):
    """How a path becomes a question; the base of every question backend's `Options`."""

    kind: ClassVar[str] = "question"

    max_characters: Count = 4000
    """Longest question."""
    same_answer: Count = 1
    """Most questions with the same answer."""
    same_shape: Count = 100
    """Most questions whose answers differ in numbers only."""
    closed_book: ChatOptions | None = None
    """Model that is asked each question without any document; one that it answers right is dropped. By default the
    model that writes the questions; where none does, nobody is asked."""
    closed_book_tries: Whole = 1
    """Times that it is asked."""
    judge: JudgeChoice = Field(default="exact", validate_default=True)
    """Who decides whether such an answer is right."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A question, as it was written."""

    text: str
    answer: str
    entities: tuple[str, ...]
    """Gold entities: what a good answer names on its way."""
    aliases: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Other names by entity."""


class QuestionBackend(Protocol):
    """Writes questions."""

    api: ClassVar[int]
    Options: ClassVar[type[QuestionSection]]
    concurrency: int | None
    model: ChatOptions | None
    """Who writes them, where that is a model: it is asked them without documents, too."""

    def __init__(self, options: Any) -> None: ...

    def write(self, path: Sequence[Page], random: Random) -> Draft:
        """A question that needs every page of the path; the answer is on the last. Raises Rejected."""
        ...


class SearchSection(StageSection):
    """What an agent searches in; the base of every search backend's `Options`."""

    kind: ClassVar[str] = "search"


class SearchBackend(Protocol):
    """Finds and opens documents."""

    api: ClassVar[int]
    Options: ClassVar[type[SearchSection]]

    def __init__(self, options: Any) -> None: ...

    def search(self, query: str, limit: int, corpus: Corpus) -> Sequence[Page]:
        """The documents that suit a query best, the best first; `number` 0 for those that are not of the corpus."""
        ...

    def open(self, document: str, corpus: Corpus) -> Page | None:
        """The whole document with that id."""
        ...


SearchChoice = Annotated[SearchSection, Choice("search")]


class AgentSection(StageSection):
    """Who answers the questions; the base of every agent backend's `Options`."""

    kind: ClassVar[str] = "agent"

    search: SearchChoice = Field(default="bm25", validate_default=True)
    """What it searches in."""
    judge: JudgeChoice = Field(default="exact", validate_default=True)
    """Who decides whether its answer is right."""
    attempts: Count = 5
    """Attempts at each question; one of those that are right is drawn."""
    results: Count = 50
    """Documents that a search finds."""
    max_steps: Count = 128
    """Searches, documents and citations of one attempt."""


class Tools(Protocol):
    """What an agent does: every use is recorded in its trajectory. All raise Rejected when the steps are used up."""

    number: int
    """Which of the question's attempts this is, from 0; several are made at the same time."""

    def search(self, query: str) -> Sequence[Page]:
        """The documents found, the best first."""
        ...

    def open(self, document: str) -> Page | None:
        """The document with that id; None when there is none, which is no step."""
        ...

    def cite(self, documents: Sequence[str]) -> Sequence[str]:
        """Names documents as evidence, each by its id, title or other name. Gives back those that there are not."""
        ...

    def answer(self, text: str) -> None:
        """Gives the answer; nothing comes after it."""
        ...

    def replay(self, trajectory: Trajectory, documents: Sequence[Page]) -> None:
        """Takes over what was done elsewhere; the documents are those of it that are not of the corpus."""
        ...


class AgentBackend(Protocol):
    """Answers questions by searching."""

    api: ClassVar[int]
    Options: ClassVar[type[AgentSection]]
    concurrency: int | None

    def __init__(self, options: Any) -> None: ...

    @property
    def name(self) -> str:
        """What trajectories call it."""
        ...

    def attempt(self, question: str, tools: Tools, random: Random) -> None:
        """Works on a question until it is answered or given up. Raises Rejected for an attempt that went wrong, and
        LtrlError when no attempt can succeed now."""
        ...


class DistractorsSection(StageSection):
    """Which documents stand beside the gold ones; the base of every such backend's `Options`."""

    kind: ClassVar[str] = "distractors"


@dataclass(frozen=True, slots=True)
class Pool:
    """What distractors can be taken from."""

    corpus: Corpus
    question: str
    trajectory: Trajectory
    random: Random


class DistractorsBackend(Protocol):
    """Orders the documents that a record is filled with."""

    api: ClassVar[int]
    Options: ClassVar[type[DistractorsSection]]

    def __init__(self, options: Any) -> None: ...

    def order(self, pool: Pool) -> Iterator[tuple[str, Tier]]:
        """(id, tier) of documents, those to be taken first before the others; gold and repeated ones are ignored."""
        ...


class TokenizerSection(StageSection):
    """What counts tokens; the base of every tokenizer backend's `Options`."""

    kind: ClassVar[str] = "tokenizer"


class Counter(Protocol):
    """Counts tokens."""

    identity: str
    """Says what counts: a name, and a hash of the file that there is."""

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without those that mark beginning and end of a sequence."""
        ...


class TokenizerBackend(Protocol):
    """Makes a counter."""

    api: ClassVar[int]
    Options: ClassVar[type[TokenizerSection]]

    def __init__(self, options: Any) -> None: ...

    def counter(self, corpus: Corpus, folder: Path) -> Counter:
        """The counter; what had to be made for it is kept in the folder. Raises LtrlError."""
        ...


CorpusChoice = Annotated[CorpusSection, Choice("corpus")]
WalkChoice = Annotated[WalkSection, Choice("walk")]
QuestionChoice = Annotated[QuestionSection, Choice("question")]
AgentChoice = Annotated[AgentSection, Choice("agent")]
DistractorsChoice = Annotated[DistractorsSection, Choice("distractors")]
TokenizerChoice = Annotated[TokenizerSection, Choice("tokenizer")]
