"""What is to be known of one record: enough to check and count a file without keeping its texts."""

from __future__ import annotations

import hashlib
import zlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ltrl.backend import Overlong
from ltrl.data.mapping import Fields
from ltrl.data.overlong import shortened
from ltrl.data.records import Entry, Problem, Unusable, sample
from ltrl.data.tokens import Counter
from ltrl.dataset.page import sketch
from ltrl.lint import doubts
from ltrl.samples import Passage, Sample
from ltrl.scoring import is_findable, matcher, tokens

__all__ = ["Doubt", "Facts", "Looks", "facts"]

SHINGLE = 3
"""Words in a shingle of a question."""

_HEAD = 200
"""Characters at the beginning of a text by which it is found although its end is missing."""
_SHOWN = 160


@dataclass(frozen=True, slots=True)
class Looks:
    """What is looked at."""

    counter: Counter
    longest: int | None = None
    """Tokens of the longest prompt that a run takes; None: any length is right."""
    policy: Overlong = "skip"
    rubric: bool = True
    """Whether the rubric is looked for in the prompt."""
    overlap: bool = False
    """Whether the documents that name an entity of the rubric are counted."""
    gold: bool = False
    """Whether gold documents are sketched, to be compared with those of others."""
    fields: Fields | None = None
    """Where records keep what; None: where LongTraceRL does."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """Something about a record that may be wrong."""

    kind: str
    field: str
    message: str
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class TierFacts:
    """The documents of one tier in a record."""

    num_documents: int
    num_characters: int
    num_naming: int = 0
    """Documents that name an entity of the rubric; 0 unless that was looked at."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one record. Of one that cannot be used: its problems."""

    number: int
    """Its line or row."""
    num_bytes: int
    problems: tuple[Problem, ...] = ()
    doubts: tuple[Doubt, ...] = ()
    id: str = ""
    question: str = ""
    """Its beginning."""
    label: str = ""
    num_characters: int = 0
    """Of all messages."""
    num_tokens: int = 0
    """Of the prompt as the model gets it; an estimate unless the counter is exact."""
    is_shortened: bool = False
    """Too long, and short enough without some of its documents."""
    tiers: Mapping[str, TierFacts] = field(default_factory=dict)
    num_entities: int = 0
    num_hops: int | None = None
    """Links on the way to the answer, where the record says it."""
    strategy: str = ""
    """How its documents were chosen, where the record says it."""
    prompt_digest: bytes = b""
    question_digest: bytes = b""
    shingles: array[int] = field(default_factory=lambda: array("I"))
    """Hashes of the question's shingles, each once."""
    answer_digest: bytes = b""
    gold: tuple[array[int], ...] = ()
    """Hashes of the sentences of each gold document; empty unless that was looked at."""

    def is_overlong(self, longest: int | None) -> bool:
        """Whether its prompt does not fit as it is."""
        return longest is not None and self.num_tokens > longest


def facts(some: Sequence[Entry], looks: Looks) -> list[Facts]:
    """What is known of each of some records; texts are counted together, which is faster."""
    read: list[tuple[Entry, Sample] | Facts] = []
    for entry in some:
        try:
            read.append((entry, sample(entry, looks.fields)))
        except Unusable as error:
            read.append(Facts(entry.number, len(entry.text), error.problems))
    lengths = iter(looks.counter.prompts([one[1] for one in read if not isinstance(one, Facts)]))
    return [one if isinstance(one, Facts) else _facts(*one, next(lengths), looks) for one in read]


def _facts(entry: Entry, found: Sample, num_tokens: int, looks: Looks) -> Facts:
    prompt = hashlib.blake2b(digest_size=16)
    for role, content in found.messages:
        prompt.update(f"{role}\n{len(content)}\n{content}".encode())
    words = tokens(found.question)
    is_shortened = False
    if looks.longest is not None and num_tokens > looks.longest and looks.policy == "drop-documents":
        made = shortened(found, looks.counter.prompts, length=num_tokens, longest=looks.longest)
        is_shortened = made is not None
    return Facts(
        number=entry.number,
        num_bytes=len(entry.text),
        doubts=(*_evidence(found), *(_rubric(found) if looks.rubric else ())),
        id=found.id,
        question=found.question[:_SHOWN],
        label=found.label[:_SHOWN],
        num_characters=sum(len(content) for _, content in found.messages),
        num_tokens=num_tokens,
        is_shortened=is_shortened,
        tiers=_tiers(found, naming=looks.overlap),
        num_entities=len(found.rubrics),
        num_hops=max(0, len(found.provenance.path) - 1) if found.provenance else None,
        strategy=found.provenance.strategy if found.provenance else "",
        prompt_digest=prompt.digest(),
        question_digest=_digest(words),
        shingles=array("I", sorted(_shingles(words))),
        answer_digest=_digest(tokens(found.label) or (found.label,)),
        gold=_gold(found) if looks.gold else (),
    )


def _digest(words: Sequence[str]) -> bytes:
    return hashlib.blake2b("\0".join(words).encode(), digest_size=16).digest()


def _gold(found: Sample) -> tuple[array[int], ...]:
    """Sketches of the gold documents that have a sentence."""
    return tuple(made for p in found.passages if p.tier == "gold" and (made := sketch(p.text)))


def _shingles(words: Sequence[str]) -> set[int]:
    last = max(1, len(words) - SHINGLE + 1)
    return {zlib.crc32(" ".join(words[i : i + SHINGLE]).encode()) for i in range(last)}


def _rubric(found: Sample) -> Iterator[Doubt]:
    if found.dataset_name != "longrlvr":  # its rubrics are numbers of chunks
        for kind, message, hint in doubts(found):
            yield Doubt(kind, "metadata.extra_reward_info.rubrics", message, hint)


def _evidence(found: Sample) -> Iterator[Doubt]:
    """Gold documents that the prompt has not, or has cut; a question that it does not ask."""
    prompt = "\n".join(content for _, content in found.messages)
    if found.question and not _is_in(found.question, prompt):
        yield Doubt("unasked", "metadata.extra_reward_info.question", "the prompt does not have the question")
    if not found.passages:
        return
    gold = [(i, p) for i, p in enumerate(found.passages) if p.tier == "gold"]
    if not gold:
        message = "none of its documents is gold: the answer may not be there"
        yield Doubt("no-gold", "metadata.documents", message)
    for place, passage in gold:
        if not _is_in(passage.text, prompt):
            yield _missing(place, passage, prompt)
    named = [entity for entity in found.rubrics if is_findable(entity)] if found.dataset_name != "longrlvr" else []
    aliases = {e: names for e, names in found.aliases.items() if all(map(is_findable, names))}
    text = "\n\n".join(f"{p.title}\n{p.text}" for _, p in gold)
    for hit in matcher("words").hits(text, named, aliases) if gold else ():
        if not hit.spans:
            message = f"no gold document names the entity `{hit.entity}`"
            yield Doubt("unbacked", "metadata.documents", message, "is one missing, or has it another name there?")


def _missing(place: int, passage: Passage, prompt: str) -> Doubt:
    name = f"metadata.documents[{place}]"
    said = f" `{passage.title}`" if passage.title else ""
    low, high = 0, len(passage.text)
    if not _is_in(passage.text[:_HEAD], prompt):
        return Doubt("gold-absent", name, f"the prompt does not have the gold document `{passage.id}`{said}")
    while high - low > 1:  # the longest beginning that is there
        middle = (low + high) // 2
        low, high = (middle, high) if _is_in(passage.text[:middle], prompt) else (low, middle)
    of = f"{low:,} of {len(passage.text):,} characters"
    return Doubt("gold-cut", name, f"the prompt has the gold document `{passage.id}`{said} up to {of}")


def _is_in(text: str, prompt: str) -> bool:
    return text in prompt or " ".join(text.split()) in " ".join(prompt.split())  # markup may wrap lines anew


def _tiers(found: Sample, *, naming: bool) -> dict[str, TierFacts]:
    counted: dict[str, TierFacts] = {}
    entities = [e for e in found.rubrics if is_findable(e)] if naming and found.dataset_name != "longrlvr" else []
    aliases = {e: names for e, names in found.aliases.items() if all(map(is_findable, names))}
    for passage in found.passages:
        before = counted.get(passage.tier, TierFacts(0, 0))
        text = f"{passage.title}\n{passage.text}"
        names_one = any(hit.spans for hit in matcher("words").hits(text, entities, aliases)) if entities else False
        counted[passage.tier] = TierFacts(
            before.num_documents + 1, before.num_characters + len(passage.text), before.num_naming + names_one
        )
    return counted
