"""Every field that a file may have, as its models describe it: path, type, default, grade and meaning."""

from __future__ import annotations

import difflib
import json
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

import annotated_types as bounds

from ltrl.backend import Choice, Grade, Later, Model, backends, docstrings, load
from ltrl.errors import Code, LtrlError, Position, fail
from ltrl.names import elsewhere
from ltrl.parse import fields_of
from ltrl.source import Keys
from ltrl.spec import TOKENS, ClusterProfile, Experiment

__all__ = [
    "SECTIONS",
    "Field",
    "field_at",
    "fields",
    "key_order",
    "matching",
    "of_model",
    "ordered",
    "token_fields",
    "unknown",
    "without_defaults",
]

SECTIONS = {
    "benchmark": "eval.benchmarks.*",
    "data": "data.train",
    "engine": "engine",
    "judge": "reward.judge",
    "reward": "reward",
    "search": "dataset.agent.search",
    **{kind: f"dataset.{kind}" for kind in ("corpus", "walk", "question", "agent", "distractors", "tokenizer")},
}
"""Where the section of each kind of backend stands in a spec."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field as the reference describes it."""

    path: str
    """Dotted, from the root of its file."""
    type: str
    """In words: `whole number, at least 1`."""
    default: str
    """As YAML; `required` where there is none, empty for a section."""
    grade: Grade
    doc: str
    """The field's own words, on one line."""
    owner: str = "experiment"
    """What it belongs to: `experiment`, `cluster`, `dataset`, or a backend, `reward.rubric`."""

    def to_json(self) -> dict[str, str]:
        """The same for programs."""
        return {
            "path": self.path,
            "type": self.type,
            "default": self.default,
            "grade": self.grade.value,
            "doc": self.doc,
            "owner": self.owner,
        }


def fields() -> Iterator[Field]:
    """Every field of specs, of cluster profiles (below `cluster.`), of data sets (below `dataset.`) and of each
    installed backend's section.
    """
    from ltrl.dataset.model import Dataset

    yield from of_model(Experiment)
    yield from of_model(ClusterProfile, prefix="cluster.", grade=Grade.RELAUNCH, owner="cluster")
    yield from of_model(Dataset, prefix="dataset.", owner="dataset")
    for info in backends():
        prefix = f"{SECTIONS[info.kind]}."
        yield from of_model(load(info.kind, info.name).Options, prefix=prefix, owner=f"{info.kind}.{info.name}")


def of_model(
    model: type[Model], *, prefix: str = "", grade: Grade = Grade.NEW_RUN, owner: str = "experiment"
) -> Iterator[Field]:
    """The fields of a model and of the sections in it; a field without a grade has that of its section."""
    for name in model.model_fields:
        field = _field(model, name, prefix, grade, owner)
        yield field
        info = model.model_fields[name]
        inner, choice = _section(info.annotation), _choice(info.metadata)
        if isinstance(choice, Later):
            inner, choice = choice.model, None
        if inner and not choice:
            yield from of_model(inner, prefix=f"{field.path}.", grade=field.grade, owner=owner)


def matching(pattern: str, among: Iterable[Field]) -> list[Field]:
    """The fields whose path a pattern describes: a glob if it has a wildcard, else part of the path."""
    if any(c in pattern for c in "*?["):
        return [f for f in among if fnmatchcase(f.path, pattern)]
    return [f for f in among if pattern in f.path]


def field_at(path: Keys, model: type[Model], data: Any, *, prefix: str = "", grade: Grade = Grade.NEW_RUN) -> Field:
    """The field at a path, in the sections that the document's backends choose.

    A key that the author made up (the name of a validation set, an entry of `overrides`) has the words of the field
    that holds it. Raises UNKNOWN_PATH.
    """
    found = None
    for end in range(len(path)):
        owner = fields_of(model, path[:end], data)
        if owner is None or not isinstance(path[end], str):
            continue  # inside a mapping whose keys are the author's
        name = str(path[end])
        if name not in owner.model_fields:
            raise unknown(prefix + ".".join(map(str, path)), [prefix + known for known in _paths(model, data)])
        before = "".join(f"{step}." for step in path[:end])
        found = _field(owner, name, before, found.grade if found else grade)
    assert found is not None, "the root is no field"
    return found


def key_order(model: type[Model], path: Keys, data: Any) -> list[str]:
    """The fields of the section at a path in the order of the reference; none where the keys are the author's."""
    owner = fields_of(model, path, data)
    names = [*owner.model_fields] if owner else []
    return names if path else ["kind", "extends", *(name for name in names if name != "kind")]


def ordered(data: Mapping[str, Any], model: type[Model], path: Keys = (), root: Any = None) -> dict[str, Any]:
    """The data with the keys of every section in the order of the reference; keys that are no fields come last."""
    root = data if root is None else root
    names = key_order(model, path, root)
    known = [name for name in names if name in data]
    rest = [name for name in data if name not in names]
    return {
        name: ordered(data[name], model, (*path, name), root) if isinstance(data[name], dict) else data[name]
        for name in (*known, *rest)
    }


def without_defaults(data: Mapping[str, Any], model: type[Model], path: Keys = (), root: Any = None) -> dict[str, Any]:
    """The data without what is so anyway: values that equal their field's default, and sections that hold nothing."""
    root = data if root is None else root
    owner = fields_of(model, path, root)
    kept: dict[str, Any] = {}
    for name, value in data.items():
        info = owner.model_fields.get(name) if owner else None
        default = info.get_default(call_default_factory=True) if info and not info.is_required() else None
        if isinstance(value, dict):
            left = without_defaults(value, model, (*path, name), root)
            if left or info is None or info.is_required() or default is None:
                kept[name] = left
        elif info is None or info.is_required() or _plain(value) != _plain(default):
            kept[name] = value
    return kept


def _plain(value: Any) -> str:
    """A value as JSON, so that tuples are lists and 1 is 1.0."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return json.dumps(float(value) if number else value, default=lambda model: model.model_dump(mode="json"))


@cache
def token_fields() -> tuple[Keys, ...]:
    """Paths of the fields that count tokens."""
    return tuple(tuple(f.path.split(".")) for f in of_model(Experiment) if f.type == "tokens")


def unknown(path: str, known: Iterable[str], position: Position | None = None) -> LtrlError:
    """The error for a path that is no field, with the nearest one that is."""
    listed = sorted(set(known))
    leaf = path.rpartition(".")[2]
    homes = [p for p in listed if p.rpartition(".")[2] == leaf]
    close = difflib.get_close_matches(path, homes, n=1, cutoff=0) or difflib.get_close_matches(path, listed, n=1)
    foreign = elsewhere().get(leaf.lstrip("-").replace("-", "_"), "")
    meant = close[0] if close else foreign if foreign in listed else None
    hint = f"did you mean `{meant}`?" if meant else foreign if " " in foreign else "`ltrl fields` lists all"
    return fail(Code.UNKNOWN_PATH, f"there is no field `{path}`", position, hint=hint)


def _paths(model: type[Model], data: Any, path: Keys = ()) -> Iterator[str]:
    """Every path in the sections that the document's backends choose."""
    owner = fields_of(model, path, data)
    for name in owner.model_fields if owner else ():
        yield ".".join(map(str, (*path, name)))
        yield from _paths(model, data, (*path, name))


def _field(model: type[Model], name: str, prefix: str, grade: Grade, owner: str = "experiment") -> Field:
    info = model.model_fields[name]
    choice = _choice(info.metadata)
    kind = _kind(choice) if choice else _type(info.annotation, info.metadata)
    default = "required" if info.is_required() else "" if _section(info.annotation) else _default(info.default)
    own = next((m for m in info.metadata if isinstance(m, Grade)), grade)
    meaning = " ".join(docstrings(model).get(name, "").split())
    return Field(f"{prefix}{name}", kind, default, own, meaning, owner)


def _choice(metadata: Iterable[object]) -> Choice | None:
    return next((m for m in metadata if isinstance(m, Choice)), None)


def _kind(choice: Choice) -> str:
    return "section" if isinstance(choice, Later) else f"{choice.kind} backend"


def _section(annotation: object) -> type[Model] | None:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return next((m for m in map(_section, typing.get_args(annotation)) if m), None)
    return annotation if isinstance(annotation, type) and issubclass(annotation, Model) else None


def _type(annotation: object, metadata: Iterable[object] = ()) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        inside: tuple[object, ...] = annotation.__metadata__  # type: ignore[attr-defined]
        choice = _choice(inside)
        return _kind(choice) if choice else _type(arguments[0], inside)
    if origin is typing.Literal:
        return " or ".join(f"`{a}`" for a in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type(a, metadata) for a in arguments if a is not type(None))
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return f"{_type(arguments[1])} by name"
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return "section"
    names: dict[object, str] = {int: "whole number", float: "number", bool: "true or false", str: "text"}
    if TOKENS in metadata:
        return "tokens"
    return ", ".join([names.get(annotation, "anything"), *_limits(metadata)])


def _limits(metadata: Iterable[object]) -> Iterator[str]:
    for limit in metadata:
        match limit:
            case bounds.Gt():
                yield f"more than {limit.gt}"
            case bounds.Ge():
                yield f"at least {limit.ge}"
            case bounds.Lt():
                yield f"less than {limit.lt}"
            case bounds.Le():
                yield f"at most {limit.le}"
            case _ if constraints := getattr(limit, "metadata", None):  # pydantic's FieldInfo inside Annotated
                yield from _limits(constraints)


def _default(value: object) -> str:
    if value is None or value in ((), {}):
        return "none"
    if isinstance(value, Model):
        return str(getattr(value, "backend", ""))
    return json.dumps(value)
