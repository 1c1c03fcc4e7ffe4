"""Sets that are nearly the same: all pairs whose Jaccard similarity reaches a threshold, exactly.

Prefix filtering (Bayardo, Ma, Srikant: Scaling Up All Pairs Similarity Search, 2007): with the rare elements first, two
sets that are similar enough share one of their first few, and so only those are indexed.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

__all__ = ["near"]


def near(
    sets: Sequence[Iterable[int]], *, among: Sequence[Iterable[int]] | None = None, threshold: float
) -> Iterator[tuple[int, int, float]]:
    """(place of a set, place of the first set like it, similarity) for each set that has one.

    The other set stands before it in `sets`, or anywhere in `among` where that is given. Empty sets are like none.
    """
    counts = Counter(element for group in (sets, among or ()) for one in group for element in one)

    def rare_first(one: Iterable[int]) -> list[int]:
        return sorted(set(one), key=lambda element: (counts[element], element))

    index: defaultdict[int, list[int]] = defaultdict(list)
    indexed: list[frozenset[int]] = []

    def add(elements: list[int]) -> None:
        for element in _prefix(elements, threshold):
            index[element].append(len(indexed))
        indexed.append(frozenset(elements))

    for one in among or ():
        add(rare_first(one))
    for place, one in enumerate(sets):
        elements = rare_first(one)
        own = frozenset(elements)
        candidates = sorted({i for element in _prefix(elements, threshold) for i in index.get(element, ())})
        for other in candidates:
            shared = len(own & indexed[other])
            similarity = shared / (len(own) + len(indexed[other]) - shared)
            if similarity >= threshold:
                yield place, other, similarity
                break
        if among is None:
            add(elements)


def _prefix(elements: Sequence[int], threshold: float) -> Sequence[int]:
    return elements[: len(elements) - math.ceil(threshold * len(elements)) + 1] if elements else ()
