"""What the models say of a place in a document: its type, its meaning, and what becomes of references there."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ltrl.backend import Choice, Model, docstrings
from ltrl.references import Treatment
from ltrl.source import Keys

__all__ = ["Slot", "child", "fields_of", "slot"]


def fields_of(model: type[Model], path: Keys, data: Any) -> type[Model] | None:
    """The model that describes the mapping at a path, following the backends that the document
    (from its root) chooses; None if none does."""
    current = slot(model, path, data).annotation
    return current if isinstance(current, type) and issubclass(current, Model) else None


@dataclass
class Slot:
    """What the models say of a place in a document."""

    annotation: Any
    """The type behind Annotated, Optional and backend choices; None where no model says anything."""
    field: str = ""
    """Name of the nearest field of a model that the place is in."""
    owner: type[Model] | None = None
    """The model that this field is one of."""
    is_free: bool = False
    """Whether it is a key of a section that takes any."""
    treatments: set[Treatment] = dataclasses.field(default_factory=set)

    @property
    def description(self) -> str | None:
        """Of that field."""
        return docstrings(self.owner).get(self.field) if self.owner else None


def slot(model: type[Model], path: Keys, data: Any) -> Slot:
    """What a model says of a place in a document, following the backends that the document (from its root) chooses."""
    found = Slot(model)
    for step in path:
        annotation = found.annotation
        if isinstance(annotation, type) and issubclass(annotation, Model):
            info = annotation.model_fields.get(str(step))
            if info is None:
                return Slot(None)
            choice = next((m for m in info.metadata if isinstance(m, Choice)), None)
            found.field, found.owner = str(step), annotation
            found.treatments |= {m for m in info.metadata if isinstance(m, Treatment)}
            annotation = choice or info.annotation
        else:
            arguments = [a for a in typing.get_args(annotation) if a is not Ellipsis]
            is_open = annotation is Any
            annotation = arguments[-1] if arguments else None
            found.is_free |= is_open or annotation in (Any, str)
        data = child(data, step)
        found.treatments |= set(_treatments(annotation))
        found.annotation = _concrete(annotation, data)
        if found.annotation is None:
            return found
    return found


def _treatments(annotation: Any) -> Iterator[Treatment]:
    if typing.get_origin(annotation) is typing.Annotated:
        yield from (m for m in annotation.__metadata__ if isinstance(m, Treatment))
        yield from _treatments(annotation.__origin__)
    elif typing.get_origin(annotation) in (typing.Union, types.UnionType):
        for member in typing.get_args(annotation):
            yield from _treatments(member)


def _concrete(annotation: Any, data: Any) -> Any:
    """The type behind Annotated, Optional and backend choices."""
    if typing.get_origin(annotation) is typing.Annotated:
        choice = next((m for m in annotation.__metadata__ if isinstance(m, Choice)), None)
        return _concrete(choice or annotation.__origin__, data)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        members = [_concrete(a, data) for a in typing.get_args(annotation) if a is not type(None)]
        return next((m for m in members if isinstance(m, type) and issubclass(m, Model)), members[0])
    if isinstance(annotation, Choice):
        return annotation.model_of(data)
    return annotation


def child(data: Any, step: str | int) -> Any:
    """A value inside another; None where there is none."""
    if isinstance(data, dict):
        return data.get(str(step))
    if isinstance(data, list) and isinstance(step, int) and step < len(data):
        return data[step]
    return None
