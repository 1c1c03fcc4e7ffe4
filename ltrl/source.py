"""YAML with positions: files and command-line arguments become one Document.

Scalars follow the YAML 1.2 core schema (`no` is text, `1e-6` a number, `010` is ten), keys are unique, and every key
and value remembers the file, line and column it was written at, through `extends`, overlays and `--set`.
"""

from __future__ import annotations

import bisect
import difflib
import hashlib
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from ltrl.errors import Code, Diagnostic, LtrlError, Position, Source, fail, raise_if_any, unreadable
from ltrl.leaks import cover, leaks
from ltrl.references import resolve
from ltrl.syntax import syntax_error

__all__ = [
    "Document",
    "Keys",
    "layer",
    "load",
    "override",
    "parse",
    "place",
    "plain",
    "put",
    "read",
    "walk",
    "written_out",
]

Keys = tuple[str | int, ...]
"""Where a value stands in a document: mapping keys and list indices from the root."""

MAX_NODES = 20_000
"""Aliases can make a short text describe a huge tree; no spec has a hundredth of this."""

MAX_BYTES = 1024 * 1024
"""The longest shipped spec has 2 KiB."""

MAX_DEPTH = 64
"""libyaml composes recursively, in C: some ten thousand brackets end the process."""

_FLATTER = "a spec has some four levels"
_LINE_END = re.compile(r"\r\n?|\n")
_PLAIN_ASCII = re.compile(r"[\t\r\n\x20-\x7e]*")
_FORBIDDEN = r"[^\t\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
"""What YAML forbids, and the line ends that only its older version had: they would shift every line number."""
_DEEP = re.compile(rf"\n {{{MAX_DEPTH // 2}}}|(?:[-?]\s+){{{MAX_DEPTH // 2}}}")
"""Block nesting that may be too deep: a far indented line, or many dashes in a row."""

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
    mistakes: tuple[Diagnostic, ...] = ()
    """What is wrong with it that did not keep it from being read; `ltrl.parse` reports it with what it finds itself."""

    def at(self, path: Keys, *, key: bool = False) -> Position:
        """The position of a value, or of its key, or of the nearest thing around it that was written."""
        for end in range(len(path), -1, -1):
            found = (self.keys if key or end < len(path) else self.values).get(path[:end])
            if found:
                return found
        return Position(self.sources[0], 1, 1)

    def written(self, path: Keys) -> Position | None:
        """The position of a value that somebody wrote, itself or as part of what stands for it (`judge: exact`)."""
        found = self.read(path)
        return found[0] if found else None

    def read(self, path: Keys) -> tuple[Position, Any] | None:
        """Position and value, references and all, of what somebody wrote, or of what stands for it: no mapping."""
        if position := self.values.get(path):
            return position, _get(self.data, path)
        for end in range(len(path) - 1, 0, -1):
            if position := self.values.get(path[:end]):
                value = _get(self.data, path[:end])
                return None if isinstance(value, dict) else (position, value)
        return None

    @property
    def fingerprints(self) -> dict[str, str]:
        """SHA-256 of each source by its machine-independent name."""
        return {s.label: hashlib.sha256(s.text.encode()).hexdigest() for s in self.sources}


def _get(data: Any, path: Keys) -> Any:
    for step in path:
        data = data[step]
    return data


def load(path: Path, *, overlays: Sequence[Path] = (), sets: Sequence[str] = ()) -> Document:
    """The document of a file, with what it extends below it, overlays and `key.path=value` arguments on top.

    Raises LtrlError with every mistake of every source when one of them cannot be read at all.
    """
    home = Path(os.path.abspath(path)).parent
    broken: list[Diagnostic] = []
    found = [_with_parents(source, home, (), broken) for source in (path, *overlays)]
    readable = [one for one in found if one is not None]
    document = readable[0] if readable else None
    for overlay in readable[1:]:
        document = layer(document, overlay) if document else overlay
    if document is None or found[0] is None:  # what an argument would change is not known
        raise_if_any([*broken, *(m for one in readable for m in one.mistakes)])
        raise AssertionError("a source without a document has a mistake")
    try:
        document = override(document, sets)
    except LtrlError as error:
        broken += error.diagnostics
    if broken:
        raise_if_any([*broken, *document.mistakes])
    return document


def override(document: Document, sets: Sequence[str], *, below: str = "") -> Document:
    """The document with `key.path=value` arguments applied in their order.

    With `below`, every argument begins with it (`cluster.`) and it is no part of the path.
    """
    broken: list[Diagnostic] = []
    for argument in sets:
        try:
            document = _set(document, argument, len(below))
        except LtrlError as error:
            broken += error.diagnostics
    raise_if_any(broken)
    return document


def place(document: Document, name: str, origin: Keys) -> Document:
    """The document with a value that is written elsewhere in it put at a dotted name, positions and all.

    `origin` is where: the value of a key that is the name, or an item of the list that such a key has.
    """
    value: Any = document.data
    for step in origin:
        value = value[step]
    start = document.keys[origin if isinstance(origin[-1], str) else origin[:-1]]
    whole = document.values[origin]
    path, steps = _path_of(document, name, start)
    keys = {k: p for k, p in document.keys.items() if k[: len(path)] != path}
    values = {k: p for k, p in document.values.items() if k[: len(path)] != path}
    for end, step_position in enumerate(steps, 1):
        keys.setdefault(path[:end], step_position)
        values.setdefault(path[:end], whole)
    for table, known in ((keys, document.keys), (values, document.values)):
        table.update(
            {path + k[len(origin) :]: p for k, p in known.items() if k[: len(origin)] == origin and k != origin}
        )
    return replace(document, data=put(document.data, path, value), keys=keys, values=values)


def parse(source: Source) -> Document:
    """The document in a text; raises LtrlError with every mistake in it."""
    document = _parse(source)
    raise_if_any(document.mistakes)
    return document


def _parse(source: Source) -> Document:
    """The document in a text, with its mistakes; raises LtrlError where there is none to be had."""
    source, secrets = _without_secrets(source)
    try:
        _check_characters(source)
        _check_depth(source)
        node = yaml.compose(source.text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        raise LtrlError(*secrets, syntax_error(error, source)) from None
    except LtrlError as error:
        raise LtrlError(*secrets, *error.diagnostics) from None
    start = Position(source, 1, 1)
    if node is None or (isinstance(node, yaml.ScalarNode) and node.tag == _PLAIN and not node.value):
        nothing = Diagnostic(Code.WRONG_TYPE, "the file is empty", start, "start with `kind: experiment`")
        raise LtrlError(*secrets, nothing)
    reader = _Reader(source)
    data = reader.value(node, ())
    if not isinstance(data, dict):
        if not reader.mistakes:
            is_glued = isinstance(data, str) and re.match(r"\w+:\S", data)
            hint = "a `:` needs a blank behind it" if is_glued else "start with `kind: experiment`"
            reader.mistake(Code.WRONG_TYPE, "expected `field: value` lines", node, hint)
        raise LtrlError(*secrets, *reader.mistakes)
    return Document(data, (source,), reader.keys, reader.values, (*secrets, *reader.mistakes))


def _without_secrets(source: Source) -> tuple[Source, list[Diagnostic]]:
    """The source with every secret in it covered, and a mistake for each: nothing after this sees one."""
    found = leaks(source.text)
    if not found:
        return source, []
    hidden = replace(source, text=cover(source.text, found))
    ends = [end.end() for end in _LINE_END.finditer(source.text)]
    starts = [len(source.text) - len(source.text.removeprefix("\ufeff")), *ends]
    mistakes = []
    for leak in found:
        line = bisect.bisect_right(starts, leak.start)
        width = len(_LINE_END.split(source.text[leak.start : leak.end])[0])
        where = Position(hidden, line, leak.start - starts[line - 1] + 1, width)
        mistakes.append(written_out(leak.what, where))
    return hidden, mistakes


def written_out(what: str, where: Position) -> Diagnostic:
    """The mistake that a secret stands in a file for everybody to read; it is never shown."""
    hint = "write a reference, `${env:NAME}` or `${file:PATH}`; and replace the key if others could read the file"
    return Diagnostic(Code.SECRET, f"{what} is written out here", where, hint)


def _check_characters(source: Source) -> None:
    if _PLAIN_ASCII.fullmatch(source.text):  # `_FORBIDDEN` takes longer to compile than a spec to read
        return
    forbidden, mistakes = re.compile(_FORBIDDEN), []
    for number, line in enumerate(source.lines, 1):
        if found := forbidden.search(line):
            name = unicodedata.name(found[0], "a control character").lower()
            message = f"the character U+{ord(found[0]):04X} ({name}) is not allowed in YAML"
            at = Position(source, number, found.start() + 1)
            mistakes.append(
                Diagnostic(Code.NOT_YAML, message, at, "delete it, or write it as an escape in double quotes")
            )
    raise_if_any(mistakes)


def _check_depth(source: Source) -> None:
    text = source.text
    if text.count("[") + text.count("{") < MAX_DEPTH and not _DEEP.search(text):
        return
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH and event.start_mark:
            where = Position(source, event.start_mark.line + 1, event.start_mark.column + 1)
            raise fail(Code.UNSUPPORTED_YAML, f"more than {MAX_DEPTH} levels inside each other", where, hint=_FLATTER)


def _with_parents(path: Path, home: Path, children: tuple[Path, ...], broken: list[Diagnostic]) -> Document | None:
    """The document of a file over those that it extends; None where it cannot be read, which is added to `broken`."""
    try:
        document = _parse(read(path, home))
    except LtrlError as error:
        broken += error.diagnostics
        return None
    absolute = Path(os.path.abspath(path))
    if "extends" not in document.data:
        return document
    base: Document | None = None
    for name, where in _parents(document, broken):
        parent = path.parent / name
        if Path(os.path.abspath(parent)) in (*children, absolute):
            message, hint = f"`{name}` extends this file in turn", "a file cannot be below itself: take one of them out"
            broken.append(Diagnostic(Code.EXTENDS_CYCLE, message, where, hint))
            continue
        found: list[Diagnostic] = []
        below = _with_parents(parent, home, (*children, absolute), found)
        broken += [d if d.position else replace(d, position=where) for d in found]
        if below is not None:
            base = below if base is None else layer(base, below)
    merged = document if base is None else layer(base, document)
    main = document.sources[0]
    return Document(
        data={key: value for key, value in merged.data.items() if key != "extends"},
        sources=(main, *(s for s in merged.sources if s != main)),
        keys={path: p for path, p in merged.keys.items() if path[:1] != ("extends",)},
        values={path: p for path, p in merged.values.items() if path[:1] != ("extends",)},
        mistakes=merged.mistakes,
    )


def _parents(document: Document, broken: list[Diagnostic]) -> Iterator[tuple[str, Position]]:
    """The path of each file that a document extends, and where it is written."""
    names = document.data["extends"]
    listed = names if isinstance(names, list) else [names]
    for i, name in enumerate(listed):
        where = document.at(("extends", i) if isinstance(names, list) else ("extends",))
        if not isinstance(name, str):
            message, hint = "`extends` takes the path of a spec, or a list of them", "write `extends: base.yaml`"
            broken.append(Diagnostic(Code.WRONG_TYPE, message, where, hint))
            continue
        try:
            yield resolve(name, where), where
        except LtrlError as error:
            broken += error.diagnostics


def read(path: Path, home: Path) -> Source:
    """The text of a file, labelled by its path relative to `home`; raises LtrlError for one that cannot be read."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        problem = unreadable(error, f"`{path}`")
        hint = f"name the files in it: `{path}/*.yaml`" if path.is_dir() else _nearby(path)
        raise LtrlError(replace(problem, hint=hint)) from None
    if len(raw) > MAX_BYTES:
        message = f"`{path}` has more than {MAX_BYTES // 2**20} MiB"
        raise fail(Code.UNREADABLE, message, hint="a spec has some kilobytes; is this a data file?")
    label = Path(os.path.relpath(os.path.abspath(path), home)).as_posix()
    try:
        return Source(str(path), raw.decode(), label)
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode(errors="replace").removeprefix("\ufeff")
        lines = _LINE_END.split(before)
        shown, _ = _without_secrets(Source(str(path), raw.decode(errors="replace"), label))
        hint = "save the file as UTF-8"
        if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
            hint += "; it begins like UTF-16"
        message = f"byte 0x{raw[error.start]:02x} is not UTF-8"
        raise fail(Code.NOT_UTF8, message, Position(shown, len(lines), len(lines[-1]) + 1), hint=hint) from None


def _nearby(path: Path) -> str | None:
    try:
        names = [p.name for p in path.parent.iterdir()]
    except OSError:
        return None
    close = difflib.get_close_matches(path.name, names, n=1, cutoff=0.7)
    return f"did you mean `{path.parent / close[0]}`?" if close else None


def layer(base: Document, over: Document) -> Document:
    """The base with the values of another document put over it: mappings merge, everything else is replaced."""
    keys, values = dict(base.keys), dict(base.values)

    def merge(below: Any, above: Any, path: Keys) -> Any:
        if isinstance(below, dict) and isinstance(above, dict):
            for table, other in ((keys, over.keys), (values, over.values)):
                if path in other and path:
                    table[path] = other[path]
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
    return Document(data, sources, keys, values, base.mistakes + over.mistakes)


def _set(document: Document, argument: str, skip: int) -> Document:
    """The document with one `key.path=value` argument applied; positions point into the argument."""
    source, secrets = _without_secrets(Source("--set", argument))
    argument = source.text
    source = replace(source, label=f"--set {argument}")
    name, separator, text = argument.partition("=")
    if not separator or not all(name.split(".")):
        hint = "write `--set algorithm.steps=100`"
        where = Position(source, 1, 1, max(1, len(argument)))
        raise fail(Code.BAD_SET, f"`{argument}` is not `field.path=value`", where, hint=hint)
    path, steps = _path_of(document, name[skip:], Position(source, 1, skip + 1))
    value, below, above = _argument_value(source, text, offset=len(name) + 1)
    whole = Position(source, 1, len(name) + 2, max(1, len(text)))
    keys = {k: p for k, p in document.keys.items() if k[: len(path)] != path}
    values = {k: p for k, p in document.values.items() if k[: len(path)] != path}
    for end, step in enumerate(steps, 1):
        keys.setdefault(path[:end], step)
        values.setdefault(path[:end], whole)
    keys |= {path + k: p for k, p in below.items()}
    values |= {path + k: p for k, p in above.items()}
    mistakes = (
        *document.mistakes,
        *(replace(d, position=replace(d.position, source=source)) for d in secrets if d.position),
    )
    return Document(put(document.data, path, value), (*document.sources, source), keys, values, mistakes)


def _path_of(document: Document, name: str, start: Position) -> tuple[Keys, list[Position]]:
    """Where a dotted name, which is written at a position, leads; and the position of each of its steps."""
    path: Keys = ()
    positions: list[Position] = []
    data: Any = document.data
    column = start.column
    for step in name.split("."):
        here = replace(start, column=column, width=max(1, len(step)))
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


def put(data: Any, path: Keys, value: Any) -> Any:
    """A copy of the data with one value in place; mappings on the way are made where there are none."""
    if not path:
        return value
    step, *rest = path
    if isinstance(data, list):
        return [put(item, tuple(rest), value) if i == step else item for i, item in enumerate(data)]
    return {**data, step: put(data.get(step, {}), tuple(rest), value)}


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
        self.lines = source.lines
        self.keys: dict[Keys, Position] = {}
        self.values: dict[Keys, Position] = {}
        self.mistakes: list[Diagnostic] = []
        self.open: set[int] = set()
        self.num_nodes = 0

    def value(self, node: yaml.Node, path: Keys) -> Any:
        self.values[path] = self.position(node)
        self.num_nodes += 1
        if self.num_nodes > MAX_NODES:
            hint = "aliases multiply what they name; write out what is needed"
            raise fail(Code.UNSUPPORTED_YAML, f"more than {MAX_NODES} values", self.position(node), hint=hint)
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node)
        if len(path) > MAX_DEPTH:  # by aliases
            self.mistake(Code.UNSUPPORTED_YAML, f"more than {MAX_DEPTH} levels inside each other", node, _FLATTER)
            return None
        if id(node) in self.open:
            hint = "write the value out where it is needed"
            self.mistake(Code.UNSUPPORTED_YAML, "an alias stands inside what it names", node, hint)
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
                if isinstance(key_node, yaml.ScalarNode):
                    message, hint = f"the key `{key_node.value}` is not text", "put it in quotes"
                else:
                    message, hint = "a list or section is no key", "a key is a word before a `:`"
                self.mistake(Code.UNSUPPORTED_YAML, message, key_node, hint)
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
        return plain(text)

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


def plain(text: str) -> Any:
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
