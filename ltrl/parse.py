"""From a Document to a checked model; every mistake in the user's words, at its line.

pydantic finds the mistakes, this module says them: where (from the document's positions), what (pydantic's English
rewritten) and what to do (the nearest name, the allowed values, the level where a key belongs).
"""

from __future__ import annotations

import difflib
import json
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pydantic
from pydantic_core import ErrorDetails

from ltrl.backend import Choice, Model, load
from ltrl.errors import Code, Diagnostic, LtrlError, Position
from ltrl.source import Document, Keys

__all__ = ["fields_of", "parse"]

M = TypeVar("M", bound=Model)

ELSEWHERE = {
    "max_total_sequence_length": "context.total",
    "max_new_tokens": "context.response",
    "max_input_seq_length": "context.prompt",
    "num_prompts_per_step": "algorithm.prompts_per_step",
    "rollout_batch_size": "algorithm.prompts_per_step",
    "num_generations_per_prompt": "algorithm.group_size",
    "n_samples_per_prompt": "algorithm.group_size",
    "max_num_steps": "algorithm.steps",
    "num_rollout": "algorithm.steps",
    "train_global_batch_size": "algorithm.batch_size",
    "global_batch_size": "algorithm.batch_size",
    "ratio_clip_min": "algorithm.clip.low",
    "eps_clip": "algorithm.clip.low",
    "ratio_clip_max": "algorithm.clip.high",
    "eps_clip_high": "algorithm.clip.high",
    "reference_policy_kl_penalty": "algorithm.kl.coefficient",
    "kl_loss_coef": "algorithm.kl.coefficient",
    "learning_rate": "optimizer.lr",
    "tensor_model_parallel_size": "parallelism.tensor",
    "pipeline_model_parallel_size": "parallelism.pipeline",
    "context_parallel_size": "parallelism.context",
    "expert_model_parallel_size": "parallelism.expert",
    "rubric_reward_ratio": "reward.eta",
    "save_period": "checkpoint.every_steps",
    "save_interval": "checkpoint.every_steps",
    "val_period": "validation.every_steps",
    "eval_interval": "validation.every_steps",
    "model_name": "model.base",
    "gpu_memory_utilization": "rollout.gpu_memory",
    "num_nodes": "nodes in the cluster profile",
    "partition": "slurm.partition in the cluster profile",
}
"""What NeMo-RL, slime and the reference scripts call our fields."""


def parse(document: Document, model: type[M]) -> M:
    """The model's instance for a document; raises LtrlError with every mistake, each at its place."""
    kind = typing.get_args(model.model_fields["kind"].annotation)[0] if "kind" in model.model_fields else None
    written = document.data.get("kind", kind)
    if kind is not None and written != kind:
        message = f"this is `kind: {written}`, expected `kind: {kind}`"
        raise LtrlError(Diagnostic(Code.WRONG_KIND, message, document.at(("kind",))))
    try:
        return model.model_validate_json(json.dumps(document.data))
    except pydantic.ValidationError as error:
        found = [_diagnostic(document, model, details) for details in error.errors(include_url=False)]
    unique = {(d.code, d.message, d.position): d for d in found}
    raise LtrlError(*sorted(unique.values(), key=_place))


def fields_of(model: type[Model], path: Keys, data: Any) -> type[Model] | None:
    """The model that describes the mapping at a path, following the backends that the document
    (from its root) chooses; None if none does."""
    current: Any = model
    for step in path:
        if isinstance(current, type) and issubclass(current, Model):
            info = current.model_fields.get(str(step))
            if info is None:
                return None
            current = _with_metadata(info)
        else:
            current = _item_type(current)
        data = _child(data, step)
        current = _concrete(current, data)
        if current is None:
            return None
    return current if isinstance(current, type) and issubclass(current, Model) else None


def _with_metadata(info: pydantic.fields.FieldInfo) -> Any:
    choice = next((m for m in info.metadata if isinstance(m, Choice)), None)
    return choice or info.annotation


def _item_type(annotation: Any) -> Any:
    arguments = [a for a in typing.get_args(annotation) if a is not Ellipsis]
    return arguments[-1] if arguments else None


def _concrete(annotation: Any, data: Any) -> Any:
    """The type behind Annotated, Optional and backend choices."""
    if typing.get_origin(annotation) is typing.Annotated:
        choice = next((m for m in annotation.__metadata__ if isinstance(m, Choice)), None)
        return _concrete(choice or annotation.__origin__, data)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        models = [_concrete(a, data) for a in typing.get_args(annotation) if a is not type(None)]
        return next((m for m in models if isinstance(m, type) and issubclass(m, Model)), models[0])
    if isinstance(annotation, Choice):
        name = data.get(annotation.tag) if isinstance(data, dict) else data
        try:
            return load(annotation.kind, name).Options if isinstance(name, str) else None
        except LtrlError:
            return None
    return annotation


def _child(data: Any, step: str | int) -> Any:
    if isinstance(data, dict):
        return data.get(str(step))
    if isinstance(data, list) and isinstance(step, int) and step < len(data):
        return data[step]
    return None


def _diagnostic(document: Document, model: type[Model], error: ErrorDetails) -> Diagnostic:
    path: Keys = tuple(step for step in error["loc"] if step != "[key]")
    is_key = "[key]" in error["loc"]
    match error["type"]:
        case "missing":
            return _missing(document, model, path, error.get("ctx", {}).get("hint"))
        case "extra_forbidden":
            return _unknown(document, model, path)
    context = error.get("ctx", {})
    if error["type"] in set(Code):  # a backend that does not load, said by the registry
        return Diagnostic(Code(error["type"]), str(context["message"]), document.at(path), context["hint"])
    if error["type"] == "value_error":  # raised by a model's own validator, in the user's words
        return Diagnostic(Code.INVALID_VALUE, str(context["error"]), document.at(path))
    name = ".".join(str(step) for step in path)
    value = path[-1] if is_key else error["input"]
    expected, is_type = _expected(error["type"], context, error["msg"])
    code = Code.WRONG_TYPE if is_type else Code.INVALID_VALUE
    message = f"the name {_shown(value)} under `{name}`" if is_key else f"`{name}` is {_shown(value)}"
    return Diagnostic(code, f"{message}, expected {expected}", document.at(path, key=is_key), _hint(error, value))


def _missing(document: Document, model: type[Model], path: Keys, hint: str | None) -> Diagnostic:
    *around, name = path
    section = ".".join(str(step) for step in around)
    owner = fields_of(model, tuple(around), document.data)
    info = owner.model_fields.get(str(name)) if owner else None
    if info and info.description:
        hint = hint or f"`{name}`: {info.description.splitlines()[0]}"
    place = f" in `{section}`" if section else ""
    position = document.at(tuple(around), key=bool(around))
    if not around:  # the root has no key of its own: point at the first line that is written
        position = min(
            document.keys.values(), key=lambda p: (p.source != document.sources[0], p.line), default=position
        )
    return Diagnostic(Code.MISSING_FIELD, f"missing field `{name}`{place}", position, hint)


def _unknown(document: Document, model: type[Model], path: Keys) -> Diagnostic:
    *around, name = path
    section = ".".join(str(step) for step in around)
    owner = fields_of(model, tuple(around), document.data)
    names = list(owner.model_fields) if owner else []
    where = f"in `{section}`" if section else "at the top level"
    hint = _where_instead(str(name), names, section, list(_all_fields(document, model)))
    return Diagnostic(Code.UNKNOWN_FIELD, f"unknown field `{name}` {where}", document.at(path, key=True), hint)


def _where_instead(name: str, names: list[str], section: str, everywhere: list[tuple[str, str]]) -> str:
    if close := difflib.get_close_matches(name, names, n=1, cutoff=0.7):
        return f"did you mean `{close[0]}`?"
    if homes := [home for home, field in everywhere if field == name and home != section]:
        return f"`{name}` belongs {f'under `{homes[0]}`' if homes[0] else 'at the top level'}"
    if name in ELSEWHERE:
        return f"here this is `{ELSEWHERE[name]}`"
    if close := difflib.get_close_matches(name, [field for _, field in everywhere], n=1, cutoff=0.8):
        home = next(home for home, field in everywhere if field == close[0])
        return f"did you mean `{f'{home}.' if home else ''}{close[0]}`?"
    if close := difflib.get_close_matches(name, names, n=1, cutoff=0.5):
        return f"did you mean `{close[0]}`?"
    listed = ", ".join(f"`{n}`" for n in names)
    return f"fields here: {listed}" if listed else "this section has no fields"


def _all_fields(document: Document, model: type[Model], path: Keys = ()) -> Iterator[tuple[str, str]]:
    """(section, field) of every field, in the sections that the document's backends choose."""
    owner = fields_of(model, path, document.data)
    if owner is None:
        return
    for name in owner.model_fields:
        yield ".".join(map(str, path)), name
    for name in owner.model_fields:
        yield from _all_fields(document, model, (*path, name))


def _place(diagnostic: Diagnostic) -> tuple[str, int, int]:
    position: Position | None = diagnostic.position
    return (position.source.name, position.line, position.column) if position else ("", 0, 0)


_TYPES: dict[str, str] = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "`true` or `false`",
    "bool_parsing": "`true` or `false`",
    "string_type": "text",
    "dict_type": "`field: value` lines",
    "model_type": "`field: value` lines",
    "model_attributes_type": "`field: value` lines",
    "list_type": "a list",
    "tuple_type": "a list",
}

_VALUES: dict[str, Callable[[dict[str, Any]], str]] = {
    "greater_than": lambda c: f"more than {c['gt']:g}",
    "greater_than_equal": lambda c: f"at least {c['ge']:g}",
    "less_than": lambda c: f"less than {c['lt']:g}",
    "less_than_equal": lambda c: f"at most {c['le']:g}",
    "literal_error": lambda c: str(c["expected"]).replace("'", "`"),
    "finite_number": lambda _: "a finite number",
    "string_pattern_mismatch": lambda c: f"text of the form `{c['pattern']}`",
    "too_short": lambda c: f"at least {c['min_length']} items",
    "too_long": lambda c: f"at most {c['max_length']} items",
    "string_too_short": lambda c: f"at least {c['min_length']} characters",
}


def _expected(kind: str, context: dict[str, Any], fallback: str) -> tuple[str, bool]:
    """What was expected, and whether the mistake is one of type."""
    if kind in _TYPES:
        return _TYPES[kind], True
    if kind in _VALUES:
        return _VALUES[kind](context), False
    if kind == "missing_argument":
        return "more items", False
    return fallback[:1].lower() + fallback[1:], kind == "section"


def _hint(error: ErrorDetails, value: Any) -> str | None:
    context = error.get("ctx", {})
    if error["type"] == "literal_error" and isinstance(value, str):
        close = difflib.get_close_matches(
            value, str(context["expected"]).replace("'", "").replace(" or ", ", ").split(", "), n=1
        )
        return f"did you mean `{close[0]}`?" if close else None
    if error["type"] == "bool_type" and isinstance(value, str) and value.lower() in ("yes", "no", "on", "off"):
        return f"write `{'true' if value.lower() in ('yes', 'on') else 'false'}`: in YAML 1.2 `{value}` is text"
    if error["type"] in ("int_type", "float_type") and isinstance(value, str):
        try:
            float(value)
        except ValueError:
            return None
        return "leave out the quotes"
    return None


def _shown(value: Any) -> str:
    """A value as the user knows it, with its type where that is what is wrong."""
    match value:
        case None:
            return "empty"
        case bool():
            return f"`{str(value).lower()}`"
        case str():
            return f'`"{value}"`' if len(value) <= 60 else f'`"{value[:57]}…"`'
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case _:
            return f"`{value}`"
