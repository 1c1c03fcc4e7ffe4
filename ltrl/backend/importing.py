"""Reading the files of other launchers: what an engine may offer to `ltrl import`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from pathlib import Path

    from ltrl.errors import Diagnostic, Position
    from ltrl.resolve import Resolved
    from ltrl.script import Script
    from ltrl.source import Document

__all__ = ["Fidelity", "ImportRow", "Imported", "Importing", "Imports"]

Fidelity = Literal["exact", "closest", "not expressible", "not compared"]
"""How near a spec comes to a setting; not compared where the spec itself has a mistake."""


@dataclass(frozen=True, slots=True)
class ImportRow:
    """One setting of a foreign launcher's file, and what becomes of it."""

    setting: str
    """As the file has it: `--eps-clip 0.2`, `grpo.seed: 42`."""
    grade: Fidelity
    field: str = ""
    """Dotted path of the spec's field; empty where none stands for it."""
    value: Any = None
    """What the field gets."""
    key: str = ""
    """The engine's own key; empty where there is none."""
    note: str = ""
    """Why it is not exact, and what happens instead."""
    position: Position | None = None


@dataclass(frozen=True, slots=True)
class Imported:
    """A foreign launcher's file in the words of a spec."""

    fields: Mapping[tuple[str, ...], Any]
    """Values by the path of their field; those of the cluster profile below `cluster`."""
    rows: tuple[ImportRow, ...]
    """Every setting of the file, in its order: nothing is dropped silently."""
    diagnostics: tuple[Diagnostic, ...] = ()
    """Defects of the file."""


@dataclass(frozen=True, slots=True)
class Importing:
    """What an engine may ask while it reads a foreign file."""

    models: tuple[str, ...]
    """Names of the models that are known."""
    resolve: Callable[[Mapping[tuple[str, ...], Any]], Resolved]
    """A spec with these fields and stand-ins for what it lacks; raises LtrlError when they contradict each other."""
    load: Callable[[Path], Document]
    """A YAML file as a document."""
    layer: Callable[[Document, Document], Document]
    """A document with another's values over it."""


@runtime_checkable
class Imports(Protocol):
    """What an engine may offer beside, for `ltrl import`: reading the files of other launchers."""

    @staticmethod
    def import_script(script: Script, importing: Importing) -> Imported | None:
        """The run that a shell script starts; None for a script that starts none that is known here."""
        ...

    @staticmethod
    def import_config(document: Document, importing: Importing) -> Imported | None:
        """The run that a configuration describes; None for one that is not of this engine."""
        ...
