"""What becomes of the models that an engine trained: served, or exported for others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from ltrl.checkpoints import Entry
    from ltrl.exported import Origin

__all__ = ["Exports", "ModelServer", "Serves"]


@dataclass(frozen=True, slots=True)
class ModelServer:
    """How a model is served."""

    name: str
    """What requests call the model."""
    host: str
    port: int
    """0 takes any free one."""
    token: str | None
    """Where the token that requests must bring is found: a value of type `Secret`."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = None
    """CPU threads; by default the library's choice."""
    max_batch: int = 64
    """Completions under way at once; further ones wait."""


@runtime_checkable
class Serves(Protocol):
    """What an engine may offer beside, for `ltrl serve model`."""

    @staticmethod
    def serve(model: Path, settings: ModelServer, *, on_listening: Callable[[str], None]) -> None:
        """Serves one of its checkpoints or a Hugging Face model directory until it is told to end; `on_listening` is
        told the URL. Raises LtrlError for what can be known before.
        """
        ...


@runtime_checkable
class Exports(Protocol):
    """What an engine may offer beside, for `ltrl export` without a job; otherwise its stage `export` does it."""

    @staticmethod
    def export(checkpoint: Entry, out: Path, made_of: Origin) -> None:
        """Puts the model of a checkpoint into a Hugging Face directory, whole or not at all; see `ltrl.exported.finish`
        for what belongs into it. Raises LtrlError.
        """
        ...
