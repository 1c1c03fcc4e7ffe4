"""How an engine's configuration comes about: what an engine may offer to `ltrl explain`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from ltrl.memory import Layout
    from ltrl.resolve import Resolved

__all__ = ["EngineCheck", "EngineKey", "Explains"]


@dataclass(frozen=True, slots=True)
class EngineKey:
    """One key of an engine's configuration, and what it comes from."""

    key: str
    """Dotted."""
    value: Any
    field: str = ""
    """Dotted path of the spec's field, below `cluster.` of the profile's; empty for what no field decides."""
    why: str = ""
    """What the field's name does not say."""


@dataclass(frozen=True, slots=True)
class EngineCheck:
    """One condition that an engine puts on a spec."""

    id: str
    """As its diagnostics name it: `nemo-rl:P4`."""
    condition: str
    """What must hold."""
    source: str
    """Where it would go wrong otherwise."""
    fields: frozenset[str]
    """Dotted paths of the fields that it looked at."""


@runtime_checkable
class Explains(Protocol):
    """What an engine may offer beside, for `ltrl explain`: how its configuration comes about."""

    def keys(self, resolved: Resolved, layout: Layout | None) -> Iterable[EngineKey]:
        """Every key of its configuration; without a layout, none that depends on it. Pure."""
        ...

    def checks(self, resolved: Resolved, layout: Layout | None) -> Iterable[EngineCheck]:
        """The conditions that `check` and `check_layout` look at, with what they read of this very spec. Pure."""
        ...
