"""JSON Schema (draft 2020-12) of spec files, for editors and for machines."""

from __future__ import annotations

from typing import Any

from ltrl.backend import Model, backends, load
from ltrl.spec import ClusterProfile, Experiment

__all__ = ["schema"]


def schema(kind: str) -> dict[str, Any]:
    """The schema of `experiment` or `cluster` files, with the options of every installed backend."""
    models: dict[str, type[Model]] = {"experiment": Experiment, "cluster": ClusterProfile}
    definitions: dict[str, Any] = {}
    made = _linked(models[kind].model_json_schema(), definitions)
    # What `source` understands before a model sees it.
    made["properties"]["extends"] = {
        "description": "Path of a spec, or a list of them, whose values this file starts from.",
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
    }
    made["required"] = ["kind"]  # the rest may come from a file that is extended
    made["$defs"] = dict(sorted({**made.get("$defs", {}), **definitions}.items()))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}


def _linked(node: Any, definitions: dict[str, Any]) -> Any:
    """A schema in which every choice of a backend refers to a definition, which is made on the way."""
    if isinstance(node, list):
        return [_linked(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if kind := node.get("$backend"):
        _define(kind, definitions)
        return {**{k: v for k, v in node.items() if k != "$backend"}, "$ref": f"#/$defs/{kind}-backend"}
    return {key: _linked(value, definitions) for key, value in node.items()}


def _define(kind: str, definitions: dict[str, Any]) -> None:
    name = f"{kind}-backend"
    if name in definitions:
        return
    installed = [info.name for info in backends() if info.kind == kind]
    named = {"enum": installed, "description": f"a {kind} backend with its defaults"}
    references = [{"$ref": f"#/$defs/{kind}.{backend}"} for backend in installed]
    definitions[name] = {"anyOf": [named, *references]}
    for backend in installed:
        options: type[Model] = load(kind, backend).Options
        tag = "name" if "name" in options.model_fields else "backend"
        template = f"#/$defs/{kind}.{backend}.{{model}}"
        made = options.model_json_schema(ref_template=template)
        inner = made.pop("$defs", {})
        made["properties"][tag] = {"const": backend, "description": f"the {kind} backend `{backend}`"}
        made["required"] = sorted({*made.get("required", ()), tag})
        definitions[f"{kind}.{backend}"] = _linked(made, definitions)
        for model, body in inner.items():
            definitions[f"{kind}.{backend}.{model}"] = _linked(body, definitions)
