"""Every condition of NeMo-RL that a spec can break, found in milliseconds instead of minutes into an allocation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

# Each of these registers its rules; the order is that of the table.
from ltrl_backends.nemo_rl.checks import batches, cluster, keys, layout, lengths, loss, rollouts  # noqa: F401
from ltrl_backends.nemo_rl.checks.rule import RULES, Check, Conf
from ltrl_backends.nemo_rl.checks.table import ELSEWHERE, checks_markdown

if TYPE_CHECKING:
    from ltrl.errors import Diagnostic
    from ltrl.resolve import Resolved
    from ltrl_backends.nemo_rl.config import Sizes

__all__ = ["CHECKS", "ELSEWHERE", "Check", "Conf", "check", "checks_markdown"]

CHECKS: tuple[Check, ...] = tuple(RULES)
"""All checks in the order of their table."""


def check(resolved: Resolved, sizes: Sizes | None = None) -> Iterator[Diagnostic]:
    """What NeMo-RL would refuse or ignore; with `sizes` for that layout, else for the one that the spec states.

    A spec that leaves the layout to the planner is checked for the rest.
    """
    conf = Conf(resolved, sizes)
    for one in CHECKS:
        try:
            yield from one(conf)
        except (TypeError, AttributeError):
            if not _is_mistyped(conf):
                raise


def _is_mistyped(conf: Conf) -> bool:
    """Whether an override has a value of the wrong type, which is told as such and means nothing to other checks."""
    return any(True for one in CHECKS if one.id in TYPES for _ in one(conf))


TYPES = ("K5", "K6")
"""Checks of the types of keys, and of blocks that lack keys."""
