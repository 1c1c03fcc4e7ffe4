"""Prompts that are longer than a run's context: left out, made shorter by whole documents, or refused.

A document is taken out with its markup. Those that the question does not need go first: tier 2 from the last to the
first, then tier 1; gold documents stay, and a prompt that is too long with them alone is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from os.path import commonprefix  # of characters: these are no paths

from ltrl.backend import Overlong
from ltrl.errors import Code, fail
from ltrl.samples import Passage, Sample

__all__ = ["Fitted", "fit", "shortened", "spans"]

CHUNK = 64
"""Prompts measured at once: tokenizers work on them in parallel, and 64 of 500 KB bound the memory."""

Measure = Callable[[Sequence[Sample]], Sequence[int]]
"""Lengths of prompts in tokens, the chat template included."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """The samples of a run, and what became of the others."""

    samples: tuple[Sample, ...]
    num_shortened: int = 0
    num_documents_dropped: int = 0
    num_left_out: int = 0

    @property
    def has_changed(self) -> bool:
        """Whether any prompt was too long."""
        return bool(self.num_left_out or self.num_shortened)

    def __str__(self) -> str:
        parts = []
        if self.num_left_out:
            parts.append(f"left out {self.num_left_out} of {len(self.samples) + self.num_left_out} samples")
        if self.num_shortened:
            parts.append(f"dropped {self.num_documents_dropped} documents of {self.num_shortened} samples")
        return ", ".join(parts)


def fit(samples: Iterable[Sample], measure: Measure, *, longest: int, policy: Overlong, name: str) -> Fitted:
    """The samples whose prompts have at most `longest` tokens, as `policy` makes them.

    Raises LtrlError, BAD_DATA, when none is left, or with `error` for the first that is too long; `name` is the field
    of the spec, or the task, that the samples come from.
    """
    kept: list[Sample] = []
    num_shortened = num_dropped = num_left_out = 0
    shortest: int | None = None
    for some in _chunks(samples):
        for sample, length in zip(some, measure(some), strict=True):
            shortest = length if shortest is None else min(shortest, length)
            if length <= longest:
                kept.append(sample)
                continue
            if policy == "error":
                message = f"the prompt of `{sample.id}` in `{name}` has {length} tokens, at most {longest} fit"
                raise fail(Code.BAD_DATA, message, hint="`overlong: skip` or `overlong: drop-documents`")
            found = shortened(sample, measure, length=length, longest=longest) if policy == "drop-documents" else None
            if found is None:
                num_left_out += 1
                continue
            num_shortened += 1
            num_dropped += len(sample.passages) - len(found.passages)
            kept.append(found)
    if not kept:
        said = f", the shortest has {shortest}" if shortest is not None else ""
        message = f"none of the {num_left_out} prompts of `{name}` has at most {longest} tokens{said}"
        raise fail(Code.BAD_DATA, message, hint="raise `model.context.prompt`")
    return Fitted(tuple(kept), num_shortened, num_dropped, num_left_out)


def shortened(sample: Sample, measure: Measure, *, length: int, longest: int) -> Sample | None:
    """The sample with as many of its documents as fit; None when it does not fit with the gold ones alone, or when its
    documents are not known.
    """
    if not sample.passages:
        return None
    blocks = _blocks(sample)
    order = sorted(
        (i for i, block in enumerate(blocks) if block and sample.passages[i].tier != "gold"),
        key=lambda i: (sample.passages[i].tier != "tier-2", -i),
    )
    pieces = [replace(sample, messages=(("user", blocks[i]),)) for i in order]
    overhead = measure([replace(sample, messages=(("user", "x"),))])[0] - 1  # of the chat template
    sizes = [max(1, size - overhead) for size in measure(pieces)] if pieces else []
    dropped: set[int] = set()
    while length > longest and len(dropped) < len(order):
        saved = 0
        for place, size in zip(order[len(dropped) :], sizes[len(dropped) :], strict=True):
            dropped.add(place)
            saved += size
            if length - saved <= longest:
                break
        made = _without(sample, dropped, blocks)
        [length] = measure([made])  # tokens meet across the gap: counted, not added up
    return _without(sample, dropped, blocks) if dropped and length <= longest else None


def _without(sample: Sample, dropped: set[int], blocks: Sequence[str]) -> Sample:
    messages = list(sample.messages)
    for place in dropped:
        for i, (role, content) in enumerate(messages):
            if blocks[place] in content:
                messages[i] = (role, content.replace(blocks[place], "", 1))
                break
    kept = tuple(p for i, p in enumerate(sample.passages) if i not in dropped)
    return replace(sample, messages=tuple(messages), passages=kept)


def _blocks(sample: Sample) -> list[str]:
    """Each document as it stands in the prompt, with its markup; empty for one that is not there as a whole.

    What stands between two documents is the end of one and the beginning of the next. All ends begin alike, and so
    their common beginning is the end; of the first document's beginning, what it shares with the others is looked for.
    """
    found = [""] * len(sample.passages)
    for _, content in sample.messages:
        edges_of = spans(content, sample.passages)
        if not edges_of:
            continue
        places = sorted(edges_of)
        edges = [edges_of[i] for i in places]
        gaps = [content[a[1] : b[0]] for a, b in pairwise(edges)]
        closing = commonprefix([*gaps, content[edges[-1][1] :][:4096]])  # noqa: RUF071
        opening = commonprefix([gap[len(closing) :] for gap in gaps])  # noqa: RUF071
        first = content.rfind(opening, 0, edges[0][0]) if opening else edges[0][0]
        begin = first if first >= 0 else edges[0][0]
        for i, (_, end) in zip(places, edges, strict=True):
            found[i] = content[begin : end + len(closing)]
            begin = end + len(closing)
    return found


def spans(content: str, passages: Sequence[Passage]) -> dict[int, tuple[int, int]]:
    """Where the documents stand; they are in the prompt's order, and one text may be part of another."""
    found: dict[int, tuple[int, int]] = {}
    after = 0
    for i, passage in enumerate(passages):
        start = content.find(passage.text, after)
        if start >= 0:
            after = start + len(passage.text)
            found[i] = (start, after)
    return found


def _chunks(samples: Iterable[Sample]) -> Iterable[list[Sample]]:
    some: list[Sample] = []
    for sample in samples:
        some.append(sample)
        if len(some) == CHUNK:
            yield some
            some = []
    if some:
        yield some
