"""Fields of a spec that hold the section of any installed backend of a kind."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError, core_schema

from ltrl.backend.models import Model
from ltrl.backend.registry import known, load
from ltrl.backend.sections import DataSection, EngineSection, JudgeSection, RewardSection, named
from ltrl.errors import LtrlError

__all__ = ["Choice", "DataChoice", "EngineChoice", "JudgeChoice", "RewardChoice", "create"]


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
            serialization=core_schema.plain_serializer_function_ser_schema(lambda value: value.model_dump(mode="json")),
        )

    def choose(self, value: Any) -> Model:
        """The options in a section, checked by the backend that it names."""
        if isinstance(value, Model):
            return value
        if isinstance(value, str):
            value = {self.tag: value}
        if not isinstance(value, dict):
            told = {"kind": self.kind, "hint": known(self.kind, "")}
            raise PydanticCustomError("section", "the name of a {kind} backend or its section", told)
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

    def __get_pydantic_json_schema__(self, *_: Any) -> dict[str, Any]:
        # `ltrl.schema` writes the options of every backend of the kind out once: one may hold another of its kind.
        return {"$backend": self.kind}


def _error_at(key: str, kind: str, value: object, message: str = "", hint: str | None = None) -> ValidationError:
    problem = PydanticCustomError(kind, "{message}", {"message": message, "hint": hint})
    return ValidationError.from_exception_data("section", [InitErrorDetails(type=problem, loc=(key,), input=value)])


RewardChoice = Annotated[RewardSection, Choice("reward")]
JudgeChoice = Annotated[JudgeSection, Choice("judge")]
DataChoice = Annotated[DataSection, Choice("data")]
EngineChoice = Annotated[EngineSection, Choice("engine", tag="name")]


def create(section: Model) -> Any:
    """The backend that a section names, made with that section's options."""
    chosen = named(section)
    assert chosen is not None, "not the section of a backend"
    return load(*chosen)(section)
