"""Where two trees of mappings, lists and plain values differ.

Order of mapping keys is no difference. Items of a list are told apart by a key where each has one of its own: the name
of a mapping, the option of `--option=value`, the target of a mount, or the text itself; otherwise by their place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Literal

from ltrl.source import Keys

__all__ = ["ABSENT", "Edit", "Item", "Path", "edits", "item_keys"]


class _Absent(Enum):
    ABSENT = "absent"


ABSENT: Final = _Absent.ABSENT
"""Stands where there is nothing, not even a null."""


@dataclass(frozen=True, slots=True)
class Item:
    """A step of a path: the item of a list that has this key."""

    key: str


Path = tuple[str | int | Item, ...]

_OPTION = re.compile(r"(--?[A-Za-z][\w-]*)(?:[= ].*)?", re.DOTALL)
_MOUNT = re.compile(r"/[^:]*:(/[^:]*)(?::.*)?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Edit:
    """One difference."""

    path: Path
    kind: Literal["added", "removed", "changed", "order"]
    """`order`: items are put elsewhere; `old` and `new` are the lists of their keys."""
    old: Any
    new: Any
    old_at: Keys
    """The path with places instead of keys, in the old tree."""
    new_at: Keys


def edits(old: Any, new: Any) -> Iterator[Edit]:
    """Every difference between two trees, in the order of the old one; a part that one lacks is one difference."""
    return _edits(old, new, (), (), ())


def _edits(old: Any, new: Any, path: Path, old_at: Keys, new_at: Keys) -> Iterator[Edit]:
    if old is ABSENT:
        yield Edit(path, "added", ABSENT, new, old_at, new_at)
    elif new is ABSENT:
        yield Edit(path, "removed", old, ABSENT, old_at, new_at)
    elif isinstance(old, dict) and isinstance(new, dict):
        for key in (*old, *(key for key in new if key not in old)):
            yield from _edits(old.get(key, ABSENT), new.get(key, ABSENT), (*path, key), (*old_at, key), (*new_at, key))
    elif isinstance(old, list) and isinstance(new, list):
        yield from _of_lists(old, new, path, old_at, new_at)
    elif isinstance(old, bool) is not isinstance(new, bool) or old != new:
        yield Edit(path, "changed", old, new, old_at, new_at)


def _of_lists(old: list[Any], new: list[Any], path: Path, old_at: Keys, new_at: Keys) -> Iterator[Edit]:
    both = item_keys(old, new)
    if both is None:
        for i in range(max(len(old), len(new))):
            before, after = (items[i] if i < len(items) else ABSENT for items in (old, new))
            yield from _edits(before, after, (*path, i), (*old_at, i), (*new_at, i))
        return
    olds, news = both
    for key in (*olds, *(key for key in news if key not in olds)):
        i = olds.index(key) if key in olds else -1
        j = news.index(key) if key in news else -1
        before, after = ABSENT if i < 0 else old[i], ABSENT if j < 0 else new[j]
        yield from _edits(before, after, (*path, Item(key)), (*old_at, i), (*new_at, j))
    shared = [key for key in olds if key in news]
    if not olds[: len(shared)] == shared == news[: len(shared)]:  # else only the ends of the lists differ
        yield Edit(path, "order", olds, news, old_at, new_at)


def item_keys(old: Sequence[Any], new: Sequence[Any]) -> tuple[list[str], list[str]] | None:
    """The keys of the items of two lists, found in the same way for both; None where there are none."""
    for find in (_name, _backend_and_model, _backend, _option, _mount, _text):
        keys = [find(item) for item in old], [find(item) for item in new]
        if all(None not in found and len(set(found)) == len(found) for found in keys):
            return keys  # type: ignore[return-value]  # no None in it
    return None


def _name(item: Any) -> str | None:
    found = [item[key] for key in ("name", "id") if key in item] if isinstance(item, dict) else []
    return found[0] if found and isinstance(found[0], str) else None


def _backend(item: Any) -> str | None:
    found = item.get("backend") if isinstance(item, dict) else None
    return found if isinstance(found, str) else None


def _backend_and_model(item: Any) -> str | None:
    model = item.get("model") if isinstance(item, dict) else None
    return f"{_backend(item)} {model}" if _backend(item) and isinstance(model, str) else None


def _option(item: Any) -> str | None:
    found = _OPTION.fullmatch(item) if isinstance(item, str) else None
    return found[1] if found else None


def _mount(item: Any) -> str | None:
    found = _MOUNT.fullmatch(item) if isinstance(item, str) else None
    return found[1] if found else None


def _text(item: Any) -> str | None:
    return item if isinstance(item, str) else None
