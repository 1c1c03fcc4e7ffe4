"""`entity-chain`: a made-up long-context task whose evidence is known exactly.

Made-up entities know one another in chains; each document states one link, in a random order. The question gives the
start of one chain and the number of links; the answer is its last entity and the rubric the entities between. Documents
of the chain asked for are `gold`. Those of the other chains are `tier-1`: equally long and equally worded, they lead a
reader astray who loses the thread. Single links are `tier-2`. Nothing but the chain itself tells them apart.

It also teaches: an engine that makes its own start model takes its words and demonstrations from here.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import count, pairwise
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from ltrl.backend import DataSection, Model
from ltrl.samples import Passage, Sample

__all__ = ["Demonstration", "Demonstrations", "EntityChain", "EntityChainOptions", "Piece"]

Share = Annotated[float, Field(ge=0, le=1)]

CONSONANTS = "bdfgklmnprstvz"
VOWELS = "aeiou"
MOST_ENTITIES = (len(CONSONANTS) * len(VOWELS)) ** 2
INSTRUCTION = "Answer from the documents only."
FEW_LINKS = 10
"""Chains are shorter than this, so that every number in a question is one digit."""


class Demonstrations(Model):
    """What a start model is shown before reinforcement learning: demonstrations of mixed quality, by their shares.

    The first four sum to 1 and say how the chain is walked; whether the evidence is reported is drawn independently of
    that, so that the demonstrations hold no preference for or against reporting.
    """

    direct: Share = 0.4
    """Walks the chain asked for, to its end."""
    detour: Share = 0.25
    """Recites 3 or 4 entities of another chain first, then walks the right one to its end."""
    early: Share = 0.2
    """Stops one link before the end."""
    guess: Share = 0.15
    """Names an entity of another chain without walking."""
    reports: Share = 0.5
    """Names the entities passed on the way in the answer, not in the reasoning alone."""

    @model_validator(mode="after")
    def _shares_sum_to_one(self) -> Demonstrations:
        total = self.direct + self.detour + self.early + self.guess
        if abs(total - 1) > 1e-6:
            raise ValueError(f"`direct`, `detour`, `early` and `guess` are shares of 1, but sum to {total:g}")
        return self


class EntityChainOptions(DataSection):
    """Generated questions over chains of made-up entities, for the embedded engine and for tests."""

    backend: Literal["entity-chain"]
    """Name of the backend."""
    samples: Annotated[int, Field(ge=1)] = 1024
    """How many samples there are."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the samples; two sets with different seeds share none."""
    hops: Annotated[int, Field(ge=2, lt=FEW_LINKS)] = 3
    """Links from the start of a chain to its end; the rubric is the `hops` - 1 entities between."""
    chains: Annotated[int, Field(ge=2)] = 3
    """Chains in a prompt; one is asked for."""
    strays: Annotated[int, Field(ge=0)] = 2
    """Single links that belong to no chain."""
    entities: Annotated[int, Field(ge=8, le=MOST_ENTITIES)] = 64
    """Size of the pool of names that prompts draw from."""
    demonstrations: Demonstrations = Demonstrations()
    """What an engine-made start model is shown."""

    @model_validator(mode="after")
    def _has_enough_entities(self) -> EntityChainOptions:
        needed = self.chains * (self.hops + 1) + 2 * self.strays
        if self.entities < needed:
            raise ValueError(f"a prompt needs {needed} different entities, `entities` is {self.entities}")
        return self


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a demonstrated response."""

    text: str
    is_determined: bool = False
    """Follows from the prompt and the response so far; what is not is the teacher's free choice."""


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A prompt with a response to learn from."""

    messages: tuple[tuple[str, str], ...]
    """(role, content) of each message of the prompt."""
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class _Puzzle:
    """Chains with the links of all of them and of the strays, in prompt order."""

    chains: tuple[tuple[str, ...], ...]
    links: tuple[tuple[str, str], ...]


class EntityChain:
    """The data backend `entity-chain`."""

    api: ClassVar[int] = 1
    Options: ClassVar[type[DataSection]] = EntityChainOptions

    def __init__(self, options: EntityChainOptions) -> None:
        self.options = options
        self.names = _names(options.entities)

    def __len__(self) -> int:
        return self.options.samples

    def __iter__(self) -> Iterator[Sample]:
        """Every sample; sample i depends on the seed, i and the shape of the puzzle only."""
        for index in range(self.options.samples):
            sample_id = f"entity-chain-{self.options.seed}-{index}"
            yield _sample(sample_id, self._puzzle(random.Random(sample_id)), self.options.hops)

    def words(self) -> tuple[str, ...]:
        """Every word of prompts and demonstrations with the space before it, the entities first.

        A tokenizer that makes each one token keeps sequences short and a link two tokens.
        """
        text = ("knows", "the", "documents", "only", "from", "at", "and", "follow", "links", "Who", "is", "last", "who")
        digits = tuple(str(n) for n in range(FEW_LINKS))
        plain = ("Answer", "Documents", "Question", "Start", "user", "assistant", "evidence", "answer")
        return (*(f" {name}" for name in self.names), *(f" {w}" for w in (*text, *digits, *plain)), *plain)

    def lookup_demonstrations(self, seed: int) -> Iterator[Demonstration]:
        """Endless lessons in looking up: every link of the prompt is recited, in another order than the prompt's.

        The first entity of each recited link is free, the second determined.
        """
        for index in count():
            rng = random.Random(f"lookup-{seed}-{index}")
            num_links = self.options.chains * self.options.hops + self.options.strays
            names = rng.sample(self.names, 2 * num_links)
            links = list(zip(names[::2], names[1::2], strict=True))
            prompt = _prompt(links, "Who knows who?")
            rng.shuffle(links)
            recital = [piece for a, b in links for piece in (Piece(f" {a}"), Piece(f" {b}", is_determined=True))]
            yield Demonstration(prompt, (*recital, Piece("\n</think>")))

    def answer_demonstrations(self, seed: int) -> Iterator[Demonstration]:
        """Endless answers of mixed quality to new questions, in the shares of `demonstrations`."""
        shares = self.options.demonstrations
        kinds = {"direct": shares.direct, "detour": shares.detour, "early": shares.early, "guess": shares.guess}
        for index in count():
            rng = random.Random(f"answer-{seed}-{index}")
            puzzle = self._puzzle(rng)
            asked, others = puzzle.chains[0], puzzle.chains[1:]
            kind = rng.choices(list(kinds), weights=list(kinds.values()))[0]
            before: tuple[str, ...] = ()
            walk = asked
            if kind == "detour":
                before = rng.choice(others)[: rng.randint(3, 4)]
            elif kind == "early":
                walk = asked[:-1]
            elif kind == "guess":
                walk = (asked[0], rng.choice([name for chain in others for name in chain]))
            response = _response((*before, *walk), walk[1:-1] if rng.random() < shares.reports else (), walk[-1])
            yield Demonstration(_prompt(puzzle.links, _question(asked, self.options.hops)), (Piece(response),))

    def _puzzle(self, rng: random.Random) -> _Puzzle:
        length = self.options.hops + 1
        in_chains = self.options.chains * length
        names = rng.sample(self.names, in_chains + 2 * self.options.strays)
        chains = tuple(tuple(names[i : i + length]) for i in range(0, in_chains, length))
        links = [link for chain in chains for link in pairwise(chain)]
        links += zip(names[in_chains::2], names[in_chains + 1 :: 2], strict=True)
        rng.shuffle(links)
        return _Puzzle(chains, tuple(links))


@cache
def _names(number: int) -> tuple[str, ...]:
    """So many different four-letter names, the same on every machine."""
    rng = random.Random("entity-chain names")
    syllables = [c + v for c in CONSONANTS for v in VOWELS]
    return tuple(name.capitalize() for name in rng.sample([a + b for a in syllables for b in syllables], number))


def _sample(sample_id: str, puzzle: _Puzzle, hops: int) -> Sample:
    asked = puzzle.chains[0]
    question = _question(asked, hops)
    in_chain = {name: chain for chain in puzzle.chains for name in chain}
    passages = []
    for number, (a, b) in enumerate(puzzle.links, 1):
        tier: Literal["gold", "tier-1", "tier-2"] = "tier-2"
        if a in in_chain:
            tier = "gold" if in_chain[a] == asked else "tier-1"
        passages.append(Passage(id=str(number), text=_statement(a, b), tier=tier, title=a))
    return Sample(
        id=sample_id,
        messages=_prompt(puzzle.links, question),
        question=question,
        label=asked[-1],
        rubrics=asked[1:-1],
        source="entity-chain",
        dataset_name="entity-chain",
        passages=tuple(passages),
    )


def _statement(a: str, b: str) -> str:
    return f"{a} knows {b}."


def _question(chain: tuple[str, ...], hops: int) -> str:
    return f"Start at {chain[0]} and follow {hops} links. Who is last?"


def _prompt(links: list[tuple[str, str]] | tuple[tuple[str, str], ...], question: str) -> tuple[tuple[str, str], ...]:
    documents = "".join(f"\n- {_statement(a, b)}" for a, b in links)
    return (("user", f"{INSTRUCTION}\n\nDocuments:{documents}\n\nQuestion: {question}"),)


def _response(reasoning: tuple[str, ...], evidence: tuple[str, ...], answer: str) -> str:
    report = f"evidence {' '.join(evidence)} " if evidence else ""
    return f"{''.join(f' {name}' for name in reasoning)}\n</think>\n\n{report}answer {answer}"
