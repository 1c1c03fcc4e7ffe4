"""YAML with positions: files and command-line arguments become one Document.

Scalars follow the YAML 1.2 core schema (`no` is text, `1e-6` a number, `010` is ten), keys are unique, and every key
and value remembers the file, line and column it was written at, through `extends`, overlays and `--set`.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from ltrl.errors import Code, Diagnostic, LtrlError, Position, Source, fail, unreadable

__all__ = ["Document", "Keys", "load", "override", "parse", "walk"]

Keys = tuple[str | int, ...]
"""Where a value stands in a document: mapping keys and list indices from the root."""

MAX_NODES = 200_000
"""Aliases can make a short text describe a huge tree; no spec has a thousandth of this."""

_PLAIN = "!plain"
_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INF = re.compile(r"[-+]?\.(inf|Inf|INF)")
_NAN = re.compile(r"\.(nan|NaN|NAN)")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Composes nodes; marks plain scalars so that ours is the schema that resolves them, not YAML 1.1."""

    yaml_implicit_resolvers = {None: [(_PLAIN, re.compile(""))]}


@dataclass(frozen=True)
class Document:
    """A mapping with the position of each of its keys and values."""

    data: dict[str, Any]
    sources: tuple[Source, ...]
    """Everything it was made of; the main file first."""
    keys: Mapping[Keys, Position] = field(default_factory=dict)
    """Position of each key (for an item of a list: of the item)."""
    values: Mapping[Keys, Position] = field(default_factory=dict)
    """Position of each value."""

    def at(self, path: Keys, *, key: bool = False) -> Position:
        """The position of a value, or of its key, or of the nearest thing around it that was written."""
        for end in range(len(path), -1, -1):
            found = (self.keys if key or end < len(path) else self.values).get(path[:end])
            if found:
                return found
        return Position(self.sources[0], 1, 1)

    @property
    def fingerprints(self) -> dict[str, str]:
        """SHA-256 of each source by its machine-independent name."""
        return {s.label: hashlib.sha256(s.text.encode()).hexdigest() for s in self.sources}


def load(path: Path, *, overlays: Sequence[Path] = (), sets: Sequence[str] = ()) -> Document:
    """The document of a file, with what it extends below it, overlays and `key.path=value` arguments on top.

    Raises LtrlError with every mistake of the first source that has one.
    """
    home = Path(os.path.abspath(path)).parent
    document = _with_parents(path, home, ())
    for overlay in overlays:
        document = _layer(document, _with_parents(overlay, home, ()))
    return override(document, sets)


def override(document: Document, sets: Sequence[str], *, below: str = "") -> Document:
    """The document with `key.path=value` arguments applied in their order.

    With `below`, every argument begins with it (`cluster.`) and it is no part of the path.
    """
    for argument in sets:
        document = _set(document, argument, len(below))
    return document


def parse(source: Source) -> Document:
    """The document in a text; raises LtrlError with every mistake in it."""
    try:
        node = yaml.compose(source.text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        raise LtrlError(_syntax_error(error, source)) from None
    except yaml.YAMLError as error:  # a character that YAML forbids
        raise LtrlError(_forbidden_character(error, source)) from None
    if node is None or (isinstance(node, yaml.ScalarNode) and node.tag == _PLAIN and not node.value):
        raise fail(Code.WRONG_TYPE, "the file is empty", Position(source, 1, 1), hint="start with `kind: experiment`")
    reader = _Reader(source)
    data = reader.value(node, ())
    if not reader.mistakes and not isinstance(data, dict):
        reader.mistake(Code.WRONG_TYPE, "expected `field: value` lines", node, "start with `kind: experiment`")
    if reader.mistakes:
        raise LtrlError(*reader.mistakes)
    return Document(data, (source,), reader.keys, reader.values)


def _with_parents(path: Path, home: Path, children: tuple[Path, ...]) -> Document:
    document = parse(_read(path, home))
    absolute = Path(os.path.abspath(path))
    if "extends" not in document.data:
        return document
    names = document.data["extends"]
    names = [names] if isinstance(names, str) else names
    where = document.at(("extends",))
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise fail(Code.WRONG_TYPE, "`extends` takes the path of a spec, or a list of them", where)
    base: Document | None = None
    for name in names:
        parent = path.parent / name
        if Path(os.path.abspath(parent)) in (*children, absolute):
            raise fail(Code.EXTENDS_CYCLE, f"`{name}` extends this file in turn", where)
        try:
            below = _with_parents(parent, home, (*children, absolute))
        except LtrlError as error:
            raise _blame(error, where) from None
        base = below if base is None else _layer(base, below)
    merged = document if base is None else _layer(base, document)
    main = document.sources[0]
    return Document(
        data={key: value for key, value in merged.data.items() if key != "extends"},
        sources=(main, *(s for s in merged.sources if s != main)),
        keys={path: p for path, p in merged.keys.items() if path[:1] != ("extends",)},
        values={path: p for path, p in merged.values.items() if path[:1] != ("extends",)},
    )


def _read(path: Path, home: Path) -> Source:
    try:
        raw = path.read_bytes()
    except OSError as error:
        problem = unreadable(error, f"`{path}`")
        raise LtrlError(replace(problem, hint=_nearby(path))) from None
    label = Path(os.path.relpath(os.path.abspath(path), home)).as_posix()
    try:
        return Source(str(path), raw.decode(), label)
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode(errors="replace")
        line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
        shown = Source(str(path), raw.decode(errors="replace"), label)
        byte = raw[error.start]
        message = f"byte 0x{byte:02x} is not UTF-8"
        raise fail(Code.NOT_UTF8, message, Position(shown, line, column), hint="save the file as UTF-8") from None


def _nearby(path: Path) -> str | None:
    try:
        names = [p.name for p in path.parent.iterdir()]
    except OSError:
        return None
    close = difflib.get_close_matches(path.name, names, n=1)
    return f"did you mean `{path.parent / close[0]}`?" if close else None


def _blame(error: LtrlError, where: Position) -> LtrlError:
    """An unreadable parent is reported at the line that names it."""
    return LtrlError(*(d if d.position else replace(d, position=where) for d in error.diagnostics))


def _layer(base: Document, over: Document) -> Document:
    """The base with the values of another document put over it: mappings merge, everything else is replaced."""
    keys, values = dict(base.keys), dict(base.values)

    def merge(below: Any, above: Any, path: Keys) -> Any:
        if isinstance(below, dict) and isinstance(above, dict):
            merged = dict(below)
            for name, value in above.items():
                merged[name] = merge(below[name], value, (*path, name)) if name in below else value
                if name not in below:
                    adopt((*path, name))
            return merged
        for table in (keys, values):
            for known in [k for k in table if k[: len(path)] == path]:
                del table[known]
        adopt(path)
        return above

    def adopt(path: Keys) -> None:
        for table, other in ((keys, over.keys), (values, over.values)):
            table.update({k: p for k, p in other.items() if k[: len(path)] == path})

    data = merge(base.data, over.data, ())
    sources = base.sources + tuple(s for s in over.sources if s not in base.sources)
    return Document(data, sources, keys, values)


def _set(document: Document, argument: str, skip: int) -> Document:
    """The document with one `key.path=value` argument applied; positions point into the argument."""
    name, separator, text = argument.partition("=")
    source = Source("--set", argument, f"--set {argument}")
    if not separator or not all(name.split(".")):
        hint = "write `--set algorithm.steps=100`"
        where = Position(source, 1, 1, max(1, len(argument)))
        raise fail(Code.BAD_SET, f"`{argument}` is not `field.path=value`", where, hint=hint)
    path, steps = _path_of(document, source, name[skip:], skip + 1)
    value, below, above = _argument_value(source, text, offset=len(name) + 1)
    whole = Position(source, 1, len(name) + 2, max(1, len(text)))
    keys = {k: p for k, p in document.keys.items() if k[: len(path)] != path}
    values = {k: p for k, p in document.values.items() if k[: len(path)] != path}
    for end, step in enumerate(steps, 1):
        keys.setdefault(path[:end], step)
        values.setdefault(path[:end], whole)
    keys |= {path + k: p for k, p in below.items()}
    values |= {path + k: p for k, p in above.items()}
    return Document(_put(document.data, path, value), (*document.sources, source), keys, values)


def _path_of(document: Document, source: Source, name: str, column: int) -> tuple[Keys, list[Position]]:
    """Where a dotted name, which stands at a column of the argument, leads; and the position of each of its steps."""
    path: Keys = ()
    positions: list[Position] = []
    data: Any = document.data
    for step in name.split("."):
        here = Position(source, 1, column, len(step))
        so_far = ".".join(map(str, path))
        if isinstance(data, list):
            if not step.isdecimal() or int(step) >= len(data):
                raise fail(Code.BAD_SET, f"`{so_far}` is a list of {len(data)}, `{step}` is not in it", here)
            path, data = (*path, int(step)), data[int(step)]
        elif isinstance(data, dict):
            path, data = (*path, step), data.get(step, {})
        else:
            hint = f"write `{so_far}` as a section in the file, or set it as a whole"
            raise fail(Code.BAD_SET, f"`{so_far}` is `{data}`, it has no field `{step}`", here, hint=hint)
        positions.append(here)
        column += len(step) + 1
    return path, positions


def _put(data: Any, path: Keys, value: Any) -> Any:
    """A copy of the data with one value in place; mappings on the way are made where there are none."""
    if not path:
        return value
    step, *rest = path
    if isinstance(data, list):
        return [_put(item, tuple(rest), value) if i == step else item for i, item in enumerate(data)]
    return {**data, step: _put(data.get(step, {}), tuple(rest), value)}


def _argument_value(
    source: Source, text: str, *, offset: int
) -> tuple[Any, dict[Keys, Position], dict[Keys, Position]]:
    padded = replace(source, text=" " * offset + text)
    try:
        node = yaml.compose(padded.text, Loader=_Loader)
    except yaml.YAMLError:
        where = Position(source, 1, offset + 1, max(1, len(text)))
        raise fail(Code.BAD_SET, f"`{text}` is not a YAML value", where, hint="quote it") from None
    if node is None:
        return None, {}, {}
    reader = _Reader(source)
    value = reader.value(node, ())
    if reader.mistakes:
        raise LtrlError(*reader.mistakes)
    return value, reader.keys, reader.values


class _Reader:
    """Turns composed nodes into data, keeping positions and collecting mistakes."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.lines = source.text.splitlines() or [""]
        self.keys: dict[Keys, Position] = {}
        self.values: dict[Keys, Position] = {}
        self.mistakes: list[Diagnostic] = []
        self.open: set[int] = set()
        self.num_nodes = 0

    def value(self, node: yaml.Node, path: Keys) -> Any:
        self.values[path] = self.position(node)
        self.num_nodes += 1
        if self.num_nodes > MAX_NODES:
            raise fail(Code.UNSUPPORTED_YAML, f"more than {MAX_NODES} values", self.position(node))
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node)
        if id(node) in self.open:
            self.mistake(Code.UNSUPPORTED_YAML, "an alias stands inside what it names", node)
            return None
        self.open.add(id(node))
        result = self.sequence(node, path) if isinstance(node, yaml.SequenceNode) else self.mapping(node, path)
        self.open.remove(id(node))
        return result

    def sequence(self, node: yaml.SequenceNode, path: Keys) -> Any:
        self.refuse_tag(node, "tag:yaml.org,2002:seq")
        for i, item in enumerate(node.value):
            self.keys[(*path, i)] = self.position(item)
        return [self.value(item, (*path, i)) for i, item in enumerate(node.value)]

    def mapping(self, node: yaml.Node, path: Keys) -> Any:
        self.refuse_tag(node, "tag:yaml.org,2002:map")
        result: dict[str, Any] = {}
        first: dict[str, yaml.Node] = {}
        for key_node, value_node in node.value:
            key = self.scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                written = getattr(key_node, "value", "…")
                self.mistake(Code.UNSUPPORTED_YAML, f"the key `{written}` is not text", key_node, "put it in quotes")
            elif key == "<<":
                hint = "YAML 1.2 has no merge keys; use `extends:` or write the values out"
                self.mistake(Code.UNSUPPORTED_YAML, "`<<` does not merge", key_node, hint)
            elif key in first:
                before = self.position(first[key])
                message = f"`{key}` is written twice, first at line {before.line}"
                duplicate = Diagnostic(
                    Code.DUPLICATE_KEY,
                    message,
                    self.position(key_node),
                    "keep one of the two",
                    related=(("first written here", before),),
                )
                self.mistakes.append(duplicate)
            else:
                first[key] = key_node
                self.keys[(*path, key)] = self.position(key_node)
                result[key] = self.value(value_node, (*path, key))
                if (
                    isinstance(value_node, yaml.ScalarNode) and value_node.tag == _PLAIN and not value_node.value
                ):  # nothing is written: show its key
                    self.values[(*path, key)] = self.keys[(*path, key)]
        return result

    def scalar(self, node: yaml.ScalarNode) -> Any:
        text: str = node.value
        if node.tag != _PLAIN:
            self.refuse_tag(node, "tag:yaml.org,2002:str")
            return text
        return _plain(text)

    def refuse_tag(self, node: yaml.Node, expected: str) -> None:
        if node.tag not in (expected, "!"):
            tag = node.tag.replace("tag:yaml.org,2002:", "!!")
            self.mistake(Code.UNSUPPORTED_YAML, f"the tag `{tag}` has no meaning here", node, "leave it out")

    def position(self, node: yaml.Node) -> Position:
        start, end = node.start_mark, node.end_mark
        line = self.lines[start.line] if start.line < len(self.lines) else ""
        stop = end.column if end.line == start.line else len(line.rstrip())
        return Position(self.source, start.line + 1, start.column + 1, max(1, stop - start.column))

    def mistake(self, code: Code, message: str, node: yaml.Node, hint: str | None = None) -> None:
        self.mistakes.append(Diagnostic(code, message, self.position(node), hint))


def _plain(text: str) -> Any:
    """A plain scalar by the YAML 1.2 core schema."""
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if len(text) <= 64 and _INT.fullmatch(text):  # Python refuses to read integers of thousands of digits
        return int(text)
    if len(text) <= 64 and _OCTAL.fullmatch(text):
        return int(text[2:], 8)
    if len(text) <= 64 and _HEX.fullmatch(text):
        return int(text[2:], 16)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _INF.fullmatch(text):
        return float("-inf" if text.startswith("-") else "inf")
    if _NAN.fullmatch(text):
        return float("nan")
    return text


def _syntax_error(error: yaml.MarkedYAMLError, source: Source) -> Diagnostic:
    mark = error.problem_mark or error.context_mark
    problem = (error.problem or error.context or "not YAML").strip()
    lines = source.text.splitlines() or [""]
    if mark is None:
        return Diagnostic(Code.NOT_YAML, problem, Position(source, 1, 1))
    number = min(mark.line, len(lines) - 1)
    position = Position(source, number + 1, min(mark.column, len(lines[number])) + 1)
    indent = lines[number][: len(lines[number]) - len(lines[number].lstrip())]
    hint = "indent with spaces, not tabs" if "\t" in indent or "\\t" in problem else None
    if hint is None and "mapping values are not allowed" in problem:
        hint = "a text that contains `: ` needs quotes"
    return Diagnostic(Code.NOT_YAML, f"not YAML: {problem}", position, hint)


def _forbidden_character(error: yaml.YAMLError, source: Source) -> Diagnostic:
    for number, line in enumerate(source.text.split("\n"), 1):
        for column, character in enumerate(line, 1):
            if not (character.isprintable() or character in "\t\r\x85\xa0\ufeff"):
                message = f"the character U+{ord(character):04X} is not allowed in YAML"
                return Diagnostic(Code.NOT_YAML, message, Position(source, number, column))
    return Diagnostic(Code.NOT_YAML, str(error).splitlines()[0], Position(source, 1, 1))


def walk(data: Any, path: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """Every leaf of a tree of mappings and lists with where it stands; empty mappings and lists are leaves."""
    items: Iterator[tuple[str | int, Any]]
    if isinstance(data, dict) and data:
        items = iter(data.items())
    elif isinstance(data, list | tuple) and data:
        items = iter(enumerate(data))
    else:
        yield path, data
        return
    for key, value in items:
        yield from walk(value, (*path, key))
