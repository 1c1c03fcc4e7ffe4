"""What training data have in common with an evaluation set: questions, and the gold documents behind the answers."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ltrl.data.facts import Facts
from ltrl.data.near import near

__all__ = ["NEAR", "Seen", "Shared", "shared"]

NEAR = 0.8
"""Share of three-word shingles of two questions, or of sentences of two documents, of those of either, that makes them
nearly the same."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What of a record is compared with others: some kilobytes."""

    file: Path
    number: int
    question: bytes
    shingles: array[int]
    answer: bytes
    gold: tuple[bytes, ...]
    """Sketches of its gold documents."""

    def __str__(self) -> str:
        return f"{self.file}:{self.number}"

    @classmethod
    def of(cls, path: Path, found: Facts) -> Seen:
        """The record with these facts."""
        gold = tuple(sketch.tobytes() for sketch in found.gold)
        return cls(path, found.number, found.question_digest, found.shingles, found.answer_digest, gold)


@dataclass(frozen=True, slots=True)
class Shared:
    """One thing that a training record has in common with the evaluation set."""

    kind: str
    record: Seen
    field: str
    message: str


def shared(train: Sequence[Seen], held_out: Sequence[Seen], name: str) -> Iterator[Shared]:
    """What records have in common with the evaluation set of that name; of each the gravest."""
    field, of = "metadata.extra_reward_info.question", f"in the evaluation set `{name}`"
    asked = {one.question: one for one in reversed(held_out)}
    exact = {one.question for one in train}
    others = [one for one in held_out if one.question not in exact]
    left = []
    for one in train:
        if one.question in asked:
            yield Shared("contaminated", one, field, f"the question is that of {asked[one.question]}, {of}")
        else:
            left.append(one)
    alike = {
        place: f"the question is {share:.0%} that of {others[other]}, {of}"
        for place, other, share in near([o.shingles for o in left], among=[o.shingles for o in others], threshold=NEAR)
    }
    for place, message in alike.items():
        yield Shared("near-contaminated", left[place], field, message)
    yield from _evidence([one for place, one in enumerate(left) if place not in alike], held_out, of)


def _evidence(own: Sequence[Seen], held_out: Sequence[Seen], of: str) -> Iterator[Shared]:
    """Gold documents that both have; each document is compared once, however many records have it."""
    holders: dict[bytes, dict[bytes, Seen]] = {}
    """Records of the evaluation set by gold document and answer."""
    for one in held_out:
        for sketch in one.gold:
            holders.setdefault(sketch, {}).setdefault(one.answer, one)
    places: dict[bytes, list[int]] = {}
    for place, one in enumerate(own):
        for sketch in one.gold:
            places.setdefault(sketch, []).append(place)
    known, mine = [*holders.values()], [*places.values()]
    among = [array("I", sketch) for sketch in holders]
    counts: Counter[int] = Counter()
    first: dict[int, Seen] = {}
    same: dict[int, Seen] = {}
    for document, other, _ in near([array("I", sketch) for sketch in places], among=among, threshold=NEAR):
        for place in mine[document]:
            counts[place] += 1
            first.setdefault(place, next(iter(known[other].values())))
            if (asks_it := known[other].get(own[place].answer)) is not None:
                same.setdefault(place, asks_it)
    for place, count in sorted(counts.items()):
        one, documents = own[place], f"{count} of its {len(own[place].gold)} gold documents"
        if place in same:
            message = f"the answer and {documents} are those of {same[place]}, {of}, or nearly"
            yield Shared("same-evidence", one, "label", message)
        else:
            message = f"{documents} are gold {of} too, or nearly, the first in {first[place]}"
            yield Shared("shared-gold", one, "metadata.documents", message)
