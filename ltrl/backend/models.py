"""The base of every model that a spec is made of."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from pydantic import GetJsonSchemaHandler
    from pydantic_core import CoreSchema

__all__ = ["Grade", "Model", "Note", "Relaunch", "graded"]


class Grade(Enum):
    """What a change of a field means for a run that exists."""

    NEW_RUN = "new-run"
    """Changes what is learned: hashed into the fingerprint, a resume is refused."""
    RELAUNCH = "relaunch"
    """Changes how the job runs, not what it learns."""
    NOTE = "note"
    """Changes nothing but a description."""


Relaunch = Grade.RELAUNCH
Note = Grade.NOTE


class Model(BaseModel):
    """Base of every model a spec is made of: no unknown keys, no coercion, frozen, documented by its docstrings."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        defer_build=True,  # only what a document needs is built, and nested models once
        allow_inf_nan=False,
        hide_input_in_errors=True,  # what is wrong may be a secret
        validate_default=False,
    )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        from ltrl.backend.documentation import docstrings

        made = handler(schema)
        properties = handler.resolve_ref_schema(made).get("properties", {})
        for name, text in docstrings(cls).items():
            properties[name]["description"] = text
        return made


@cache
def _grades(model: type[Model]) -> tuple[tuple[str, Grade | None], ...]:
    """Name and grade of every field; None for one that has that of its section."""
    fields = model.model_fields.items()
    return tuple((name, next((m for m in info.metadata if isinstance(m, Grade)), None)) for name, info in fields)


def graded(model: Model, *, grade: Grade = Grade.NEW_RUN, path: str = "") -> Iterator[tuple[str, Grade, Any]]:
    """(dotted path, grade, value) of every leaf of a spec; a field without a grade has that of its section."""
    for name, stated in _grades(type(model)):
        own = stated or grade
        value = getattr(model, name)
        here = f"{path}{name}"
        match value:
            case Model():
                yield from graded(value, grade=own, path=f"{here}.")
            case dict() if any(isinstance(item, Model) for item in value.values()):
                for key, item in value.items():
                    yield from graded(item, grade=own, path=f"{here}.{key}.")
            case tuple() if any(isinstance(item, Model) for item in value):
                for place, item in enumerate(value):
                    yield from graded(item, grade=own, path=f"{here}.{place}.")
            case _:
                yield here, own, value
