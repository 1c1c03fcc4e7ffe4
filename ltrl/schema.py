"""JSON Schema (draft 2020-12) of spec files, for editors and for machines.

It accepts what `ltrl check` does, as far as one file tells: a value may be a reference, a backend's section is that
backend's own, and fields are required where nothing is extended that could bring them.
"""

from __future__ import annotations

import types
import typing
from typing import Any

from ltrl.backend import Choice, Later, Model, backends, load
from ltrl.spec import ClusterProfile, Experiment

__all__ = ["schema"]

REFERENCE = {"$ref": "#/$defs/reference"}


def schema(kind: str) -> dict[str, Any]:
    """The schema of a kind of file, with the options of every installed backend."""
    from ltrl.dataset.model import Dataset
    from ltrl.evaluation.spec import Evaluation

    models: dict[str, type[Model]] = {
        "experiment": Experiment,
        "evaluation": Evaluation,
        "cluster": ClusterProfile,
        "dataset": Dataset,
    }
    model = models[kind]
    definitions: dict[str, Any] = {
        "reference": {
            "description": "`${env:NAME}`, `${env:NAME:-default}` or `${file:PATH}`.",
            "type": "string",
            "pattern": r"\$\{(env:[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?|file:[^}]+)\}",
        }
    }
    made = _linked(model.model_json_schema(), definitions)
    # What `source` understands before a model sees it.
    made["properties"]["extends"] = {
        "description": "Path of a spec, or a list of them, whose values this file starts from.",
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
    }
    made["$defs"] = dict(sorted({**made.get("$defs", {}), **definitions}.items()))
    made |= {"if": {"not": {"required": ["extends"]}}, "then": _required(model, made["$defs"], ())}
    made["$defs"] = dict(sorted(made["$defs"].items()))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}


def _linked(node: Any, definitions: dict[str, Any]) -> Any:
    """A schema in which values may be references, no field is required yet, and every choice of a backend refers to a
    definition, which is made on the way.
    """
    if isinstance(node, list):
        return [_linked(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if kind := node.get("$backend"):
        _define(kind, definitions)
        return {**{k: v for k, v in node.items() if k != "$backend"}, "$ref": f"#/$defs/{kind}-backend"}
    if target := node.get("$later"):
        rest = {k: v for k, v in node.items() if k not in ("$later", "default")}
        found = Later(target).model.model_json_schema(ref_template="#/$defs/{model}")
        definitions |= {name: _linked(inner, definitions) for name, inner in found.pop("$defs", {}).items()}
        return {**rest, "anyOf": [_linked(found, definitions), {"type": "null"}]}
    made: dict[str, Any] = {}
    for key, value in node.items():
        match key:
            case "properties" | "$defs":
                made[key] = {name: _linked(inner, definitions) for name, inner in value.items()}
            case "patternProperties":  # of names: pydantic forgets to forbid the others
                made["propertyNames"] = {"pattern": next(iter(value))}
                made["additionalProperties"] = _linked(next(iter(value.values())), definitions)
            case "required":
                pass
            case "default" | "enum" | "const":
                made[key] = value
            case _:
                made[key] = _linked(value, definitions)
    if "properties" in made:
        return made
    return _or_reference(made)


def _or_reference(node: dict[str, Any]) -> dict[str, Any]:
    """A scalar's schema that accepts a reference too, where it does not accept any text anyway."""
    limits = {k: v for k, v in node.items() if k not in ("description", "default", "title")}
    if "anyOf" in limits:
        is_open = any(item in ({"type": "string"}, REFERENCE) for item in limits["anyOf"])
        return node if is_open else {**node, "anyOf": [*limits["anyOf"], REFERENCE]}
    is_scalar = limits.get("type") in ("integer", "number", "boolean") or "enum" in limits or "const" in limits
    is_secret = str(limits.get("pattern", "")).startswith(r"^\$")
    if is_scalar or (limits.get("type") == "string" and len(limits) > 1 and not is_secret):
        return {k: v for k, v in node.items() if k not in limits} | {"anyOf": [limits, REFERENCE]}
    return node


def _define(kind: str, definitions: dict[str, Any]) -> None:
    name = f"{kind}-backend"
    if name in definitions:
        return
    installed = [info.name for info in backends() if info.kind == kind]
    named = {"enum": installed, "description": f"a {kind} backend with its defaults"}
    references = [{"$ref": f"#/$defs/{kind}.{backend}"} for backend in installed]
    definitions[name] = {"anyOf": [named, REFERENCE, *references]}
    for backend in installed:
        options: type[Model] = load(kind, backend).Options
        template = f"#/$defs/{kind}.{backend}.{{model}}"
        made = options.model_json_schema(ref_template=template)
        inner = made.pop("$defs", {})
        made = _linked(made, definitions)
        described = {"description": f"the {kind} backend `{backend}`"}
        made["properties"][_tag(options)] = {"anyOf": [{"const": backend}, REFERENCE], **described}
        definitions[f"{kind}.{backend}"] = made
        for model, body in inner.items():
            definitions[f"{kind}.{backend}.{model}"] = _linked(body, definitions)


def _tag(options: type[Model]) -> str:
    return "name" if "name" in options.model_fields else "backend"


def _required(annotation: Any, definitions: dict[str, Any], metadata: tuple[Any, ...]) -> dict[str, Any]:
    """What must be written in a place, all the way down; empty where nothing must."""
    choice = next((m for m in metadata if isinstance(m, Choice)), None)
    if isinstance(choice, Later):
        return _required(choice.model, definitions, ())
    if choice:
        return _required_by_backend(choice, definitions)
    if typing.get_origin(annotation) is typing.Annotated:
        return _required(annotation.__origin__, definitions, annotation.__metadata__)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        found = (_required(member, definitions, ()) for member in typing.get_args(annotation))
        return next((made for made in found if made), {})
    if typing.get_origin(annotation) in (dict, tuple, list):
        inner = _required(
            typing.get_args(annotation)[-2 if ... in typing.get_args(annotation) else -1], definitions, ()
        )
        key = "additionalProperties" if typing.get_origin(annotation) is dict else "items"
        return {key: inner} if inner else {}
    if not (isinstance(annotation, type) and issubclass(annotation, Model)):
        return {}
    needed = [name for name, info in annotation.model_fields.items() if info.is_required()]
    inside = {
        name: made
        for name, info in annotation.model_fields.items()
        if (made := _required(info.annotation, definitions, tuple(info.metadata)))
    }
    return ({"required": needed} if needed else {}) | ({"properties": inside} if inside else {})


def _required_by_backend(choice: Choice, definitions: dict[str, Any]) -> dict[str, Any]:
    name = f"{choice.kind}-required"
    if name not in definitions:
        definitions[name] = {}  # one may hold another of its kind
        rules = []
        for info in backends():
            if info.kind == choice.kind:
                made = _required(load(choice.kind, info.name).Options, definitions, ())
                is_it = {"properties": {choice.tag: {"const": info.name}}, "required": [choice.tag]}
                rules.append({"if": is_it, "then": made})
        definitions[name] = {"if": {"type": "object"}, "then": {"required": [choice.tag], "allOf": rules}}
    return {"$ref": f"#/$defs/{name}"}
