"""The keys of each NeMo-RL version: data made by `tools/nemo_rl_keys.py` from its source."""

from __future__ import annotations

import ast
import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from typing import Any

__all__ = ["Database", "Key", "database", "fits", "versions"]

_FOLDER = resources.files("ltrl_backends.nemo_rl") / "keys"  # in a job, inside the payload


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a NeMo-RL configuration."""

    type: str
    """As annotated in its source, or the type of the exemplar's value."""
    required: str
    """`schema`, `enabled`, `runtime`, `cond` or `no`; see `tools/nemo_rl_keys.py`."""
    default: Any = None
    """Value in the exemplar configuration; NeMo-RL keeps its defaults nowhere else."""
    read: tuple[str, ...] = ()
    """`file:line` of up to four places that read it."""
    written: bool = False
    """NeMo-RL sets it itself."""


class Database:
    """The keys of one version."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.version = str(data["version"])
        self._open: Mapping[str, str] = data["open"]
        self._keys: Mapping[str, Mapping[str, Any]] = data["keys"]
        self._read: dict[str, Key] = {}

    def __contains__(self, name: str) -> bool:
        """Whether something in NeMo-RL declares or reads the key; any key of an open block does."""
        return name in self._keys or name in self._blocks or self.open_block(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __getitem__(self, name: str) -> Key:
        if name not in self._read:
            entry = self._keys[name]
            self._read[name] = Key(
                type=entry["type"],
                required=entry["required"],
                default=entry.get("default"),
                read=tuple(entry.get("read", ())),
                written=entry.get("written", False),
            )
        return self._read[name]

    def get(self, name: str) -> Key | None:
        """The key, or None for one that is unknown or stands in an open block."""
        return self[name] if name in self._keys else None

    def open_block(self, name: str) -> str | None:
        """The open block that a key stands in: one whose keys NeMo-RL hands on without looking."""
        return next((block for block in self._open if name.startswith(f"{block}.") or name == block), None)

    def is_block(self, name: str) -> bool:
        """Whether a key only groups others, all of which are known."""
        return name in self._blocks and self.open_block(name) is None

    def close(self, name: str) -> str | None:
        """The known key that a misspelt one most likely means."""
        parent, _, leaf = name.rpartition(".")
        siblings = {k.rpartition(".")[2]: k for k in self._keys if k.rpartition(".")[0] == parent}
        if found := difflib.get_close_matches(leaf, siblings, n=1, cutoff=0.6):
            return siblings[found[0]]
        if homes := sorted(k for k in self._keys if k.rpartition(".")[2] == leaf):
            return difflib.get_close_matches(name, homes, n=1, cutoff=0)[0]
        found = difflib.get_close_matches(name, list(self._keys), n=1, cutoff=0.7)
        return found[0] if found else None

    def missing(self, present: set[str]) -> Iterator[tuple[str, Key]]:
        """Keys that NeMo-RL would stop for want of, given a configuration's keys and blocks.

        `present` says `block.enabled=true` for a block that is on and `block=null` for one that is not there.
        """
        for name in self._keys:
            key = self[name]
            block = name.rpartition(".")[0]
            if name in present or (block and (block not in present or f"{block}=null" in present)):
                continue
            is_on = f"{block}.enabled" not in self._keys or f"{block}.enabled=true" in present
            if key.required in ("schema", "runtime") or (key.required == "enabled" and is_on):
                yield name, key

    @cached_property
    def _blocks(self) -> frozenset[str]:
        steps = (name.split(".") for name in self._keys)
        return frozenset(".".join(s[:end]) for s in steps for end in range(1, len(s)))


def fits(value: Any, annotation: str) -> bool:
    """Whether a value can be what an annotation says; annotations that name classes or `Any` take anything."""
    known = {"int", "float", "bool", "str", "None", "dict", "list"}
    for part in _alternatives(annotation):
        name = part.partition("[")[0]
        if name == "Literal":
            if value in ast.literal_eval(part.removeprefix("Literal").replace("[", "(", 1)[:-1] + ",)"):
                return True
        elif name not in known or _is(value, name):
            return True
    return False


def _is(value: Any, name: str) -> bool:
    match name:
        case "None":
            return value is None
        case "bool":
            return isinstance(value, bool)
        case "int":
            return isinstance(value, int) and not isinstance(value, bool)
        case "float":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "str":
            return isinstance(value, str)
        case "dict":
            return isinstance(value, dict)
    return isinstance(value, list)


def _alternatives(annotation: str) -> Iterator[str]:
    """`int | None` in its parts; `|` inside brackets does not count."""
    if annotation.startswith("Optional[") and annotation.endswith("]"):
        yield from _alternatives(annotation[9:-1])
        yield "None"
        return
    depth, start = 0, 0
    for index, character in enumerate(annotation):
        depth += (character == "[") - (character == "]")
        if character == "|" and depth == 0:
            yield annotation[start:index].strip()
            start = index + 1
    yield annotation[start:].strip()


@cache
def database(version: str) -> Database:
    """The keys of a version that `versions` lists."""
    return Database(json.loads((_FOLDER / f"v{version}.json").read_text(encoding="utf-8")))


def versions() -> tuple[str, ...]:
    """Versions whose keys are known, oldest first."""
    names = (file.name for file in _FOLDER.iterdir())
    return tuple(sorted(name[1:].removesuffix(".json") for name in names if name.endswith(".json")))
