"""YAML as a person would write it: from data and comments, what `source` reads back as the same data."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ltrl.errors import LtrlError, Source
from ltrl.source import Keys, parse

__all__ = ["dump", "scalar", "tokens"]

_PLAIN = re.compile(r"[A-Za-z0-9_./$][A-Za-z0-9_ ./+=:@%~${}()^*-]*")
MAX_FLOW = 72
"""Characters of a section that is written on one line, `{low: 0.5, high: 2.0}`."""


def dump(
    data: Mapping[str, Any],
    *,
    notes: Mapping[Keys, str] | None = None,
    above: Mapping[Keys, str] | None = None,
    column: int = 0,
) -> str:
    """The data as block YAML; `notes` stand behind their values, from `column` on, and `above` over their keys.

    A section of plain values without notes of its own is written on one line if that is short.
    """
    writer = _Writer(notes or {}, above or {}, column)
    return "\n".join(writer.mapping(data, ())) + "\n"


def scalar(value: Any, *, inside: bool = False) -> str:
    """One value, or a list or mapping of them, on one line; `inside` brackets or braces some text needs quotes."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case float():
            text = repr(value)
            return re.sub(r"e([-+])0+", r"e\1", text)
        case int():
            return str(value)
        case Mapping():
            return (
                "{"
                + ", ".join(f"{_text(str(k), inside=True)}: {scalar(v, inside=True)}" for k, v in value.items())
                + "}"
            )
        case list() | tuple():
            return "[" + ", ".join(scalar(item, inside=True) for item in value) + "]"
    return _text(str(value), inside=inside)


def tokens(count: int) -> int | str:
    """A number of tokens with its unit, `128k`, where that is the same number."""
    for unit, size in (("m", 1024 * 1024), ("k", 1024)):
        if count and count % size == 0:
            return f"{count // size}{unit}"
    return count


def _text(text: str, *, inside: bool = False) -> str:
    """Plain where YAML reads the same text back, quoted elsewhere."""
    if _PLAIN.fullmatch(text) and not text.endswith((":", " ")) and not (inside and set(text) & set("{}")):
        try:
            if parse(Source("", f"x: {text}\n")).data["x"] == text:
                return text
        except LtrlError:
            pass
    return json.dumps(text, ensure_ascii=not text.isprintable())


class _Writer:
    def __init__(self, notes: Mapping[Keys, str], above: Mapping[Keys, str], column: int) -> None:
        self.notes, self.over, self.column = notes, above, column
        self.noted = {path[:end] for path in (*notes, *above) for end in range(len(path))}

    def mapping(self, data: Mapping[str, Any], path: Keys) -> Iterator[str]:
        for name, value in data.items():
            here = (*path, name)
            indent = "  " * len(path)
            yield from (f"{indent}# {line}".rstrip() for line in self.over.get(here, "").splitlines())
            yield from self.entry(f"{indent}{_text(str(name))}:", value, here)

    def entry(self, head: str, value: Any, path: Keys) -> Iterator[str]:
        if isinstance(value, Mapping) and value and not self.is_short(value, path):
            yield self.line(head, path)
            yield from self.mapping(value, path)
        elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
            yield self.line(head, path)
            for i, item in enumerate(value):
                yield self.line(f"{'  ' * len(path)}- {scalar(item)}", (*path, i))
        else:
            yield self.line(f"{head} {scalar(value)}", path)

    def is_short(self, value: Mapping[str, Any], path: Keys) -> bool:
        nested = any(isinstance(item, Mapping) and item for item in value.values())
        return path not in self.noted and not nested and len(scalar(value)) <= MAX_FLOW

    def line(self, text: str, path: Keys) -> str:
        note = self.notes.get(path)
        return f"{text:<{self.column}}  # {note}" if note else text
