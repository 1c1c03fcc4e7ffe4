"""Strategies for the documents beside the gold ones: those of LongTraceRL's ablation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from ltrl.dataset.kinds import DistractorsSection, Pool
from ltrl.samples import Tier
from ltrl.trajectories import Search, Trajectory

__all__ = ["OneSearch", "RandomPages", "TrajectoryRandom", "TrajectoryTiered", "tiers"]

MOST = 16_384
"""Documents that one record can have, even if each has 8 tokens."""


def tiers(trajectory: Trajectory) -> tuple[list[str], list[str]]:
    """Ids of tier 1 (opened, not cited), in the order in which they were opened, and of tier 2 (found, never opened),
    by their best rank in any search. A document that was cited is in neither.
    """
    opened, cited = trajectory.opened, set(trajectory.cited)
    left_out = {*opened, *cited}
    ranks: dict[str, int] = {}
    for step in trajectory.steps:
        if isinstance(step, Search):
            for rank, document in enumerate(step.results):
                ranks[document] = min(rank, ranks.get(document, rank))
    unread = [document for document in ranks if document not in left_out]
    return [d for d in opened if d not in cited], sorted(unread, key=lambda d: ranks[d])


class TrajectoryTiered:
    """All of tier 1 first, then tier 2."""

    api: ClassVar[int] = 1

    class Options(DistractorsSection):
        """Options of the `traj-tiered` distractors."""

        backend: Literal["traj-tiered"]
        """This backend."""

    def __init__(self, options: Options) -> None: ...

    def order(self, pool: Pool) -> Iterator[tuple[str, Tier]]:
        """Tier 1, then tier 2."""
        first, second = tiers(pool.trajectory)
        yield from ((document, "tier-1") for document in first)
        yield from ((document, "tier-2") for document in second)


class TrajectoryRandom:
    """The same documents in a random order."""

    api: ClassVar[int] = 1

    class Options(DistractorsSection):
        """Options of the `traj-random` distractors."""

        backend: Literal["traj-random"]
        """This backend."""

    def __init__(self, options: Options) -> None: ...

    def order(self, pool: Pool) -> Iterator[tuple[str, Tier]]:
        """Both tiers, shuffled."""
        first, second = tiers(pool.trajectory)
        both: list[tuple[str, Tier]] = [*((d, "tier-1") for d in first), *((d, "tier-2") for d in second)]
        pool.random.shuffle(both)
        return iter(both)


class OneSearch:
    """What one search with the whole question finds."""

    api: ClassVar[int] = 1

    class Options(DistractorsSection):
        """Options of the `search` distractors."""

        backend: Literal["search"]
        """This backend."""

    def __init__(self, options: Options) -> None: ...

    def order(self, pool: Pool) -> Iterator[tuple[str, Tier]]:
        """By BM25, the best first."""
        numbers = pool.corpus.search(pool.question, MOST)
        for start in range(0, len(numbers), 256):
            for page in pool.corpus.pages(numbers[start : start + 256]):
                yield page.id, "tier-2"


class RandomPages:
    """Random pages of the corpus."""

    api: ClassVar[int] = 1

    class Options(DistractorsSection):
        """Options of the `random` distractors."""

        backend: Literal["random"]
        """This backend."""

    def __init__(self, options: Options) -> None: ...

    def order(self, pool: Pool) -> Iterator[tuple[str, Tier]]:
        """Drawn without repetition."""
        number = pool.corpus.num_pages
        drawn = pool.random.sample(range(1, number + 1), min(number, MOST))
        for start in range(0, len(drawn), 256):
            for page in pool.corpus.pages(drawn[start : start + 256]):
                yield page.id, "tier-2"
