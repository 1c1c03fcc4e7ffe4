"""What an author writes: the model behind `kind: dataset`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from ltrl.backend import Model, Note, Relaunch
from ltrl.dataset.kinds import (
    AgentChoice,
    CorpusChoice,
    DistractorsChoice,
    QuestionChoice,
    TokenizerChoice,
    WalkChoice,
)
from ltrl.spec import Name, Tokens

__all__ = ["Assembly", "Dataset"]

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(gt=0, le=1)]

INSTRUCTIONS = (
    "Answer the question from the documents below. If they do not say, say that you do not know.",
    "Read the documents and answer the question that follows them. Name what leads you to the answer.",
    "Use only facts that the documents state. Connect them where the question needs more than one.",
    "The documents below hold the evidence for one question. Find it, and answer concisely.",
    "Put together what different documents say in order to answer the question at the end.",
)
"""Our own words for what LongTraceRL's prompts begin with."""

MarkupName = Literal["document", "section", "brackets", "heading"]


class Assembly(Model):
    """How documents become a prompt."""

    max_characters: Annotated[int, Field(ge=100)] = 20_000
    """Longest text of one document; a longer page is cut at the end of a paragraph, sentence or word."""
    near_duplicates: Share = 0.8
    """Share of its sentences that a document may at most have in common with one that is there already."""
    gold_leaks: Literal["drop", "keep"] = "drop"
    """What is done with a document that has the name of a gold page, or repeats a sentence of one."""
    instructions: Annotated[tuple[str, ...], Field(min_length=1)] = INSTRUCTIONS
    """What a prompt begins with; one is drawn for each record."""
    markups: Annotated[tuple[MarkupName, ...], Field(min_length=1)] = ("document", "section", "brackets", "heading")
    """How documents are told apart; one is drawn for each record."""

    @field_validator("instructions")
    @classmethod
    def _says_something(cls, written: tuple[str, ...]) -> tuple[str, ...]:
        if any(not text.strip() for text in written):
            raise ValueError("`instructions` has an item without text")
        return written


class Dataset(Model):
    """A data set: the corpus it comes from, and each stage that makes its records."""

    kind: Literal["dataset"]
    """What this file is."""
    name: Annotated[Name, Note]
    """Names the data set and, by default, its directory."""
    description: Annotated[str, Note] = ""
    """For the people who read this; the data card has it."""
    records: Count
    """Records to build."""
    tokens: Tokens
    """Length of a prompt in tokens; documents are added until the next would not fit."""
    seed: Annotated[int, Field(ge=0)] = 1
    """Seed of everything random; each record has its own, made of this one and its number."""
    corpus: CorpusChoice
    """Pages that link to each other."""
    questions_file: Annotated[str | None, Note] = None
    """Questions that are there already, in place of walking and asking: JSON Lines with `question`, `answer`,
    `entities` and `path`, the names of the gold pages; a relative path starts at the project."""
    walk: WalkChoice = Field(default="random", validate_default=True)
    """From a page to a path of pages."""
    question: QuestionChoice = Field(default="template", validate_default=True)
    """From a path to a question, its answer and its gold entities."""
    agent: AgentChoice = Field(default="scripted", validate_default=True)
    """From a question to a trajectory that answers it."""
    distractors: DistractorsChoice = Field(default="traj-tiered", validate_default=True)
    """From a trajectory to the documents beside the gold ones."""
    tokenizer: TokenizerChoice
    """What counts tokens: that of the model that will be trained."""
    assembly: Assembly = Assembly()
    """From documents to a prompt."""
    max_candidates: Count = 20
    """Most paths that are tried for each record; most are lost to questions that give something away or are not
    answered."""
    output: Annotated[str | None, Relaunch] = None
    """Directory of the data set; by default `data/NAME` of the project. Corpora lie in `corpora` beside it."""
