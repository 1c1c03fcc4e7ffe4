"""The flags of a training program's command line."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from ltrl.errors import Position

if TYPE_CHECKING:
    from ltrl.script import Command, Word

__all__ = ["Use", "is_async", "is_decided", "program", "uses_of"]

PROGRAMS = ("train.py", "train_async.py")


@dataclass(frozen=True, slots=True)
class Use:
    """A flag with its words, as the training program would get it."""

    name: str
    words: tuple[Word, ...]
    position: Position
    branch: frozenset[tuple[int, int]] = frozenset()
    """The conditions that decide whether the program gets it."""

    @property
    def text(self) -> str:
        """The flag as one would type it."""
        return " ".join([self.name, *(word.text for word in self.words)])

    @property
    def value(self) -> str:
        """Its first word; empty for a switch."""
        return self.words[0].text if self.words else ""

    @property
    def unknown(self) -> tuple[str, ...]:
        """What of it only a run could tell."""
        return tuple(name for word in self.words for name in word.unknown)


def program(command: Command) -> int | None:
    """Which word is the training program."""
    names = [PurePosixPath(word.text).name for word in command.words]
    return next((i for i, name in enumerate(names) if name in PROGRAMS), None)


def is_async(command: Command) -> bool:
    """Whether generation and training overlap."""
    return any(PurePosixPath(word.text).name == "train_async.py" for word in command.words)


def uses_of(command: Command) -> list[Use]:
    """Every flag behind the training program, in their order."""
    start = program(command)
    assert start is not None
    found: list[tuple[Word, list[Word]]] = []
    for word in command.words[start + 1 :]:
        name, is_joined, value = word.text.partition("=")
        if word.text.startswith("--"):
            found.append((replace(word, text=name, unknown=()), [replace(word, text=value)] if is_joined else []))
        elif found:
            found[-1][1].append(word)
        else:  # an array that is not known, before any flag
            found.append((word, []))
    given = command.words[start].branch  # what holds for the whole command
    return [Use(name.text, tuple(words), name.position, name.branch - given) for name, words in found]


def is_decided(use: Use, last: Use) -> bool:
    """Whether the last use of a flag always takes the place of an earlier one, whatever the script's conditions."""
    return last.branch <= use.branch
