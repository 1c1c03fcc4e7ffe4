"""From a question and a trajectory to a record: gold documents, distractors by tier up to the length, shuffled."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from random import Random

from ltrl.dataset.corpus import Corpus
from ltrl.dataset.kinds import DistractorsBackend, Pool, Rejected
from ltrl.dataset.lengths import Lengths
from ltrl.dataset.markup import MARKUPS, Markup, body, prompt
from ltrl.dataset.model import Dataset
from ltrl.dataset.page import Page, sentences, sketch
from ltrl.dataset.question import Question
from ltrl.samples import Passage, Provenance, Sample, Tier
from ltrl.scoring import matcher
from ltrl.trajectories import Trajectory

__all__ = ["Assembled", "Assembler"]

CHUNK = 256
"""Documents looked at together, so that those seen first are tokenized together."""
MISSES = 64
"""Documents in a row that are too long for what is left, after which the record is full."""
CHECKED = 64
"""Every so many-th record is tokenized as a whole and compared with the sum of its pieces."""


@dataclass(frozen=True, slots=True)
class Assembled:
    """A record and what the data card says of it."""

    sample: Sample
    documents: Mapping[str, int]
    """Documents by tier."""
    named: Mapping[str, int]
    """Documents by tier that name an entity of the rubric."""
    dropped: Mapping[str, int]
    """Documents that were left out, by reason; too long are those passed over for shorter ones behind them."""


@dataclass(frozen=True, slots=True)
class _Document:
    page: Page
    tier: Tier
    num_tokens: int


class Assembler:
    """Makes records of one data set; used by several threads at once."""

    def __init__(self, dataset: Dataset, corpus: Corpus, lengths: Lengths, distractors: DistractorsBackend) -> None:
        self._dataset = dataset
        self._corpus = corpus
        self._lengths = lengths
        self._distractors = distractors
        first = [corpus.page(n) for n in range(1, min(64, corpus.num_pages) + 1)]
        self.is_additive = lengths.is_additive(first)
        """Whether pieces are counted alone; if not, every prompt is tokenized as a whole."""

    def assemble(
        self, number: int, question: Question, trajectory: Trajectory, outside: Mapping[str, Page], seed: int
    ) -> Assembled:
        """The record with that number; `outside` has the documents that are not of the corpus.

        Raises Rejected when the gold documents alone are too long.
        """
        random = Random(seed)
        assembly = self._dataset.assembly
        instruction = random.choice(assembly.instructions)
        markup = MARKUPS[random.choice(assembly.markups)]
        pool = Pool(self._corpus, question.text, trajectory, random)
        chosen, dropped = self._choose(question, instruction, markup, pool, outside)
        random.shuffle(chosen)
        num_tokens = self._sum(chosen, instruction, markup, question.text)
        text = self._prompt(chosen, instruction, markup, question.text)
        if number % CHECKED == 0 or not self.is_additive:
            whole = self._lengths.whole(text)
            if self.is_additive:
                assert whole == num_tokens, f"{whole} tokens as a whole, {num_tokens} in pieces"
            while whole > self._dataset.tokens:
                last = max((i for i, d in enumerate(chosen) if d.tier != "gold"), default=None)
                if last is None:
                    raise Rejected("the gold documents are longer than a prompt")
                dropped[f"too long, {chosen[last].tier}"] += 1
                del chosen[last]
                text = self._prompt(chosen, instruction, markup, question.text)
                whole = self._lengths.whole(text)
            num_tokens = whole
        longest = assembly.max_characters
        passages = tuple(
            Passage(d.page.id, body(d.page, longest).partition("\n")[2][:-1], d.tier, d.page.title) for d in chosen
        )
        sample = Sample(
            id=question.id,
            messages=(("user", text),),
            question=question.text,
            label=question.answer,
            rubrics=question.entities,
            passages=passages,
            aliases=question.aliases,
            trajectory=trajectory,
            provenance=Provenance(
                dataset=self._dataset.name,
                corpus=self._corpus.id,
                path=question.path,
                seed=seed,
                strategy=self._dataset.distractors.backend,
                tokenizer=self._lengths.counter.identity,
                num_tokens=num_tokens,
            ),
        )
        documents: Counter[str] = Counter(d.tier for d in chosen)
        return Assembled(sample, documents, _naming(passages, question), dropped)

    def _choose(
        self, question: Question, instruction: str, markup: Markup, pool: Pool, outside: Mapping[str, Page]
    ) -> tuple[list[_Document], Counter[str]]:
        lengths, limit = self._lengths, self._dataset.tokens
        gold = [page for id in question.path if (page := self._corpus.find(id)) is not None]
        chosen = [_Document(p, "gold", n) for p, n in zip(gold, lengths.of(gold), strict=True)]
        total = self._sum(chosen, instruction, markup, question.text)
        bare = total - lengths.frames(markup, len(chosen))
        if total > limit:
            raise Rejected("the gold documents are longer than a prompt")
        likeness = _Likeness(gold, self._dataset.assembly.near_duplicates)
        dropped: Counter[str] = Counter()
        seen = {page.id for page in gold}
        misses: list[Tier] = []
        for page, tier, num_tokens in self._candidates(self._distractors.order(pool), seen, outside):
            if bare + num_tokens + lengths.frames(markup, len(chosen) + 1) > limit:
                misses.append(tier)
                if len(misses) == MISSES:
                    break
                continue
            reason = likeness.problem(page, drop_leaks=self._dataset.assembly.gold_leaks == "drop")
            if reason:
                dropped[reason] += 1
                continue
            likeness.add(page)
            chosen.append(_Document(page, tier, num_tokens))
            bare += num_tokens
            dropped.update(f"too long, {missed}" for missed in misses)
            misses.clear()
        return chosen, dropped

    def _candidates(
        self, order: Iterable[tuple[str, Tier]], seen: set[str], outside: Mapping[str, Page]
    ) -> Iterator[tuple[Page, Tier, int]]:
        """Each document once, with its length."""
        stream = iter(order)
        while chunk := list(islice(stream, CHUNK)):
            fresh = []
            for id, tier in chunk:
                if id not in seen:
                    seen.add(id)
                    fresh.append((id, tier))
            numbers = self._corpus.numbers([id for id, _ in fresh])
            pages = {p.id: p for p in self._corpus.pages(list(numbers.values()))}
            found = [(page, tier) for id, tier in fresh if (page := pages.get(id) or outside.get(id)) and page.text]
            for (page, tier), count in zip(found, self._lengths.of([page for page, _ in found]), strict=True):
                yield page, tier, count

    def _sum(self, chosen: Sequence[_Document], instruction: str, markup: Markup, question: str) -> int:
        lengths = self._lengths
        around = lengths.head(markup, instruction) + lengths.tail(markup, question)
        return around + lengths.frames(markup, len(chosen)) + sum(d.num_tokens for d in chosen)

    def _prompt(self, chosen: Sequence[_Document], instruction: str, markup: Markup, question: str) -> str:
        longest = self._dataset.assembly.max_characters
        return prompt(markup, instruction, [body(d.page, longest) for d in chosen], question)


class _Likeness:
    """Tells documents that are nearly there already, or that give the gold ones away."""

    def __init__(self, gold: Sequence[Page], threshold: float) -> None:
        self._threshold = threshold
        self._holders: dict[int, list[int]] = {}
        self._sizes: list[int] = []
        self._texts: set[bytes] = set()
        self._gold_names = {page.title.casefold() for page in gold}
        self._gold_sentences = {sentence for page in gold for sentence in sentences(page.text)}
        for page in gold:
            self.add(page)
        self._gold_texts = frozenset(self._texts)

    def problem(self, page: Page, *, drop_leaks: bool) -> str | None:
        """Why a document is left out; None when it is not."""
        text = _digest(page)
        if drop_leaks and (
            page.title.casefold() in self._gold_names
            or text in self._gold_texts
            or not self._gold_sentences.isdisjoint(sentences(page.text))
        ):
            return "gold leak"
        if text in self._texts and self._threshold < 1:  # a sketch of short lines is empty
            return "near-duplicate"
        found = _sketch(page)
        shared = Counter(holder for sentence in found for holder in self._holders.get(sentence, ()))
        for holder, count in shared.items():
            if count > self._threshold * min(len(found), self._sizes[holder]):
                return "near-duplicate"
        return None

    def add(self, page: Page) -> None:
        """From now on it is there."""
        found = _sketch(page)
        for sentence in found:
            self._holders.setdefault(sentence, []).append(len(self._sizes))
        self._sizes.append(len(found))
        self._texts.add(_digest(page))


def _sketch(page: Page) -> Sequence[int]:
    return page.sentences if page.sentences is not None else sketch(page.text)


def _digest(page: Page) -> bytes:
    """Of a page's text, case and white space aside."""
    return hashlib.blake2b(" ".join(page.text.lower().split()).encode("utf-8", "replace"), digest_size=16).digest()


def _naming(passages: Sequence[Passage], question: Question) -> Counter[str]:
    """How many documents of each tier name an entity of the rubric."""
    text = "\n\n".join(f"{p.title}\n{p.text}" for p in passages)
    starts = [0, *accumulate(len(p.title) + len(p.text) + 3 for p in passages)]
    hits = matcher("words").hits(text, question.entities, question.aliases, every=True)
    naming = {bisect_right(starts, start) - 1 for hit in hits for start, _ in hit.spans}
    return Counter(passages[i].tier for i in naming)
