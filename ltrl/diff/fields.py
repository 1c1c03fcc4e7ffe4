"""The fields of a side: their effective values, what they mean, and what a change of them is graded."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ltrl.backend import Grade, Model, docstrings
from ltrl.diff.meanings import consequence
from ltrl.diff.model import Change, Side
from ltrl.diff.trees import ABSENT, Edit, Item, Path, edits
from ltrl.leaks import leaks
from ltrl.parse import fields_of
from ltrl.references import names_a_secret
from ltrl.resolve import derived
from ltrl.source import Keys, walk
from ltrl.spec import ClusterProfile, Experiment

__all__ = ["changes", "effective", "hidden", "mask", "shown_path", "written"]

HIDDEN = "(hidden)"
"""Stands for the value of a variable that holds a secret."""

SHORTEST = 8
"""Characters of a secret that is looked for inside of other texts: a shorter one could be any word."""

_REFERENCE = re.compile(r"\$\{(env|file):[^}]+\}")
_PARALLELISM = {"tensor": "tp", "pipeline": "pp", "context": "cp", "expert": "ep", "expert_tensor": "etp"}


def effective(side: Side) -> dict[str, Any]:
    """Every field with the value that counts: what was left open is filled in, the cluster profile is `cluster`."""
    tree: dict[str, Any] = {**copy.deepcopy(side.resolved.get("spec", {})), "cluster": dict(side.resolved["cluster"])}
    if side.plan is None:
        return tree
    for path, (_, value) in derived(tree, side.resolved["model_card"]).items():
        if path in _open(side):
            section, _, name = path.rpartition(".")
            _at(tree, section)[name] = value
    layout = side.plan["layout"]
    if tree["parallelism"] is None and layout["gpus_per_node"]:
        tree["parallelism"] = {field: layout[axis] for field, axis in _PARALLELISM.items()}
    return tree


def changes(old: Side, new: Side) -> tuple[Change, ...]:
    """Every field that differs, in the order of the reference."""
    before, after = effective(old), effective(new)
    secrets = hidden(old) | hidden(new)
    found = []
    different = tuple(edits(before, after))
    exchanged = {edit.path[:-1] for edit in different if edit.path[-1] in ("backend", "name") and len(edit.path) > 1}
    for edit in different:
        grade, meaning = _field(edit.new_at, after) if edit.old is ABSENT else _field(edit.old_at, before)
        change = Change(
            path=mask(shown_path(edit.path), secrets),
            kind=edit.kind,
            old=mask(edit.old, secrets),
            new=mask(edit.new, secrets),
            old_position=None if edit.old is ABSENT else _position(edit.old_at, old),
            new_position=None if edit.new is ABSENT else _position(edit.new_at, new),
            grade=grade,
            meaning=meaning,
            follows=(edit.path[:-1] in exchanged and edit.kind in ("added", "removed")) or _is_derived(edit, old, new),
        )
        found.append(change if change.follows else replace(change, consequence=consequence(change, before, after)))
    return tuple(found)


def written(side: Side, *, is_new: bool) -> tuple[Change, ...]:
    """What the author of the only side wrote, as added or as removed."""
    tree, secrets = effective(side), hidden(side)
    found = []
    for keys, raw in walk(tree):
        position = side.places.get(_dotted(keys))
        of_profile = side.kind == "experiment" and keys[0] == "cluster"
        if position is not None and not of_profile and keys not in (("kind",), ("cluster", "kind")):
            grade, meaning = _field(keys, tree)
            value, path = mask(raw, secrets), shown_path(keys)
            found.append(
                Change(path, "added", None, value, None, position, grade, meaning)
                if is_new
                else Change(path, "removed", value, None, position, None, grade, meaning)
            )
    return tuple(found)


def shown_path(path: Path) -> str:
    """A path as a person reads it: dotted, `[key]` for an item of a list."""
    return "".join(f"[{step.key}]" if isinstance(step, Item) else f".{step}" for step in path).removeprefix(".")


def hidden(side: Side) -> frozenset[str]:
    """Texts that may be secrets: what a variable with such a name holds, if it is no reference."""
    environment: Mapping[str, str] = side.resolved["cluster"].get("environment") or {}
    return frozenset(
        value for name, value in environment.items() if names_a_secret(name) and not _REFERENCE.search(value)
    ) - {""}


def mask(value: Any, secrets: frozenset[str]) -> Any:
    """The value without secrets; `null` for what is absent."""
    match value:
        case str():
            if value in secrets:
                return HIDDEN
            for secret in secrets:
                if len(secret) >= SHORTEST:
                    value = value.replace(secret, HIDDEN)
            for leak in reversed(leaks(value)):
                value = value[: leak.start] + HIDDEN + value[leak.end :]
            return value
        case dict():
            return {key: mask(item, secrets) for key, item in value.items()}
        case list():
            return [mask(item, secrets) for item in value]
        case _:
            return None if value is ABSENT else value


def _is_derived(edit: Edit, old: Side, new: Side) -> bool:
    """Whether a field that either side leaves open differs because others do."""
    path = shown_path(edit.path)
    return any(path == field or path.startswith(f"{field}.") for field in _open(old) & _open(new))


def _open(side: Side) -> frozenset[str]:
    """Fields that are left open, to be worked out from others."""
    if side.plan is None:
        return frozenset()
    spec = side.resolved["spec"]
    found = {
        path for path, (open_, _) in derived(spec, side.resolved["model_card"]).items() if _at(spec, path) == open_
    }
    return frozenset(found | ({"parallelism"} if spec["parallelism"] is None else set()))


def _at(tree: Mapping[str, Any], path: str) -> Any:
    found: Any = tree
    for step in path.split("."):
        found = found[step]
    return found


def _field(path: Keys, tree: Mapping[str, Any]) -> tuple[Grade, str]:
    """Grade and documentation of the field at a path, or of the nearest one around it."""
    root: type[Model] = Experiment
    data: Any = tree
    grade, meaning = Grade.NEW_RUN, ""
    if path[:1] == ("cluster",):
        root, data, path = ClusterProfile, tree["cluster"], path[1:]
        grade, meaning = Grade.RELAUNCH, "Name of the cluster profile."
    for end, step in enumerate(path):
        owner = fields_of(root, path[:end], data)
        info = owner.model_fields.get(str(step)) if owner else None
        if owner and info:
            grade = next((m for m in info.metadata if isinstance(m, Grade)), grade)
            meaning = " ".join(docstrings(owner).get(str(step), "").split())
    return grade, meaning


def _position(path: Keys, side: Side) -> str | None:
    """Where a field was written: itself, or the first thing in it."""
    name = _dotted(path)
    inside = (place for known, place in side.places.items() if known.startswith(f"{name}.") and place)
    return side.places.get(name) or next(inside, None)


def _dotted(path: Keys) -> str:
    return ".".join(str(step) for step in path)
