"""Fields of a spec that hold the section of any installed backend of a kind."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError, core_schema

from ltrl.backend.models import Model
from ltrl.backend.registry import known, load
from ltrl.backend.sections import BenchmarkSection, DataSection, EngineSection, JudgeSection, RewardSection, named
from ltrl.errors import LtrlError

__all__ = [
    "BenchmarkChoice",
    "Choice",
    "DataChoice",
    "EngineChoice",
    "JudgeChoice",
    "Later",
    "RewardChoice",
    "create",
]


@dataclass(frozen=True)
class Choice:
    """Makes a field accept the section of any installed backend of a kind and hold that backend's `Options`.

    A bare name stands for a section with nothing else: `judge: exact`.
    """

    kind: str
    tag: str = "backend"

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.choose,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda value: value and value.model_dump(mode="json")
            ),
        )

    def choose(self, value: Any) -> Model:
        """The options in a section, checked by the backend that it names."""
        if isinstance(value, Model):
            return value
        if isinstance(value, str):
            value = {self.tag: value}
        if not isinstance(value, dict):
            kind = f"an {self.kind}" if self.kind[0] in "aeio" else f"a {self.kind}"
            told = {"kind": kind, "hint": known(self.kind, "")}
            raise PydanticCustomError("section", "the name of {kind} backend or its section", told)
        name = value.get(self.tag)
        if self.tag not in value:
            raise _error_at(self.tag, "missing", value, hint=known(self.kind, ""))
        if not isinstance(name, str):
            raise _error_at(self.tag, "string_type", name, hint=known(self.kind, ""))
        try:
            options: type[Model] = load(self.kind, name).Options
        except LtrlError as error:  # pydantic adds where the section stands; `spec` turns it back into a diagnostic
            found = error.diagnostics[0]
            raise _error_at(self.tag, found.code, name, found.message, found.hint) from None
        return options.model_validate_json(json.dumps(value))

    def model_of(self, data: Any, /) -> type[Model] | None:
        """The model of a section that is not checked yet; None where it names no backend."""
        name = data.get(self.tag) if isinstance(data, dict) else data
        try:
            return load(self.kind, name).Options if isinstance(name, str) else None
        except LtrlError:
            return None

    def __get_pydantic_json_schema__(self, *_: Any) -> dict[str, Any]:
        # `ltrl.schema` writes the options of every backend of the kind out once: one may hold another of its kind.
        return {"$backend": self.kind}


class Later(Choice):
    """Makes a field accept a section whose model is imported when a document has one: most have none.

    `kind` is its `module:class`.
    """

    @property
    def model(self) -> type[Model]:
        """The section's model."""
        module, _, name = self.kind.partition(":")
        found: type[Model] = getattr(import_module(module), name)
        return found

    def choose(self, value: Any) -> Any:
        """The section, checked by its model."""
        if value is None or isinstance(value, Model):
            return value
        return self.model.model_validate_json(json.dumps(value))

    def model_of(self, _: Any, /) -> type[Model] | None:
        """Its model, whatever it says."""
        return self.model

    def __get_pydantic_json_schema__(self, *_: Any) -> dict[str, Any]:
        return {"$later": self.kind}


def _error_at(key: str, kind: str, value: object, message: str = "", hint: str | None = None) -> ValidationError:
    problem = PydanticCustomError(kind, "{message}", {"message": message, "hint": hint})
    return ValidationError.from_exception_data("section", [InitErrorDetails(type=problem, loc=(key,), input=value)])


RewardChoice = Annotated[RewardSection, Choice("reward")]
JudgeChoice = Annotated[JudgeSection, Choice("judge")]
DataChoice = Annotated[DataSection, Choice("data")]
BenchmarkChoice = Annotated[BenchmarkSection, Choice("benchmark")]
EngineChoice = Annotated[EngineSection, Choice("engine", tag="name")]


def create(section: Model) -> Any:
    """The backend that a section names, made with that section's options."""
    chosen = named(section)
    assert chosen is not None, "not the section of a backend"
    return load(*chosen)(section)
