"""Spec files in one form: fields in the order of the reference, two spaces, units; every comment stays with its field.

The text is rearranged line by line along the positions of its YAML nodes. A round trip through a YAML library ties a
comment to the value before it, so that moving a field would leave its comment behind.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import yaml

from ltrl.backend import Model
from ltrl.dataset.model import Dataset
from ltrl.dump import tokens
from ltrl.errors import Source
from ltrl.fields import key_order, token_fields
from ltrl.source import Keys, parse
from ltrl.spec import ClusterProfile, Experiment

__all__ = ["format_text"]

WIDTH = 120
MODELS: dict[str, type[Model]] = {"experiment": Experiment, "cluster": ClusterProfile, "dataset": Dataset}
_COMMENT = re.compile(r"(?:^|(?<=[ \t]))#.*", re.MULTILINE)
_SPACED = re.compile(r"#+(?=[^\s#!])")


def format_text(source: Source) -> str:
    """The text of a spec file in its one form; raises LtrlError with everything that keeps it from being read."""
    document = parse(source)
    text = source.text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    kind = document.data.get("kind", "experiment")
    model = MODELS.get(kind) if isinstance(kind, str) else None
    made = _Formatter(text, document.data, model).text()
    assert _meaning(made, model) == _meaning(text, model), "formatting has changed what the file means"
    assert Counter(_comments(made)) == Counter(_comments(text)), "formatting has lost a comment"
    return made


def _meaning(text: str, model: type[Model] | None) -> Any:
    """The data of a text, with lengths in tokens as numbers."""
    data = parse(Source("", text)).data
    for path in token_fields() if model is Experiment else ():
        place: Any = data
        for step in path[:-1]:
            place = place.get(step) if isinstance(place, dict) else None
        if isinstance(place, dict) and type(place.get(path[-1])) is int:
            place[path[-1]] = tokens(place[path[-1]])
    return data


def _comments(text: str) -> Iterator[str]:
    """Every comment of a text, without what stands before it."""
    spans = [(n.start_mark.index, n.end_mark.index) for n in _scalars(_compose(text)) if n.value or n.style]
    for found in _COMMENT.finditer(text):
        if not any(start <= found.start() < end for start, end in spans):
            yield _comment(found[0])


def _compose(text: str) -> yaml.Node:
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    assert node is not None  # the text has been read before
    return node


def _scalars(node: yaml.Node) -> Iterator[yaml.ScalarNode]:
    if isinstance(node, yaml.ScalarNode):
        yield node
    else:
        for child in node.value:
            for inner in child if isinstance(child, tuple) else (child,):
                yield from _scalars(inner)


def _comment(text: str) -> str:
    return _SPACED.sub(lambda found: f"{found[0]} ", text.strip(), count=1)


class _Formatter:
    def __init__(self, text: str, data: Any, model: type[Model] | None) -> None:
        self.source, self.lines, self.data, self.model = text, text.split("\n"), data, model
        root = _compose(text)
        events = list(yaml.parse(text, Loader=yaml.SafeLoader))
        named = any(getattr(event, "anchor", None) or getattr(event, "tag", None) for event in events)
        explicit = any(re.match(r"\s*(- )*\? ", line) for line in self.lines)
        # Anchors come before their aliases, and in `|+` the empty lines count: such files stay as they are.
        blocks = [self.slice(scalar) for scalar in _scalars(root) if scalar.style in ("|", ">")]
        counted = any("+" in block.partition("\n")[0].partition("#")[0] for block in blocks)
        open_end = bool(blocks) and not text.endswith("\n")
        self.root = root if isinstance(root, yaml.MappingNode) and not root.flow_style else None
        self.stays = named or explicit or counted or open_end

    def text(self) -> str:
        if self.stays or self.root is None:
            return self.source
        first = self.root.value[0][0].start_mark.line
        end = self.reach(self.root, len(self.lines))
        header, tail = _trimmed(self.lines[:first]), _trimmed(self.lines[end:])
        body = self.mapping(self.root, (), 0, end)
        if not body[0]:  # an empty line parts the first entry from the comments on top, if there are any
            body = body[1:]
            gap = [""]
        else:
            gap = [""] if not self.lines[first - 1].strip() else []
        return "\n".join([*header, *(gap if header else []), *body, *tail]) + "\n"

    def mapping(self, node: yaml.MappingNode, path: Keys, indent: int, limit: int) -> list[str]:
        """The lines of a block mapping, its entries in order, each with its comments; `limit` is the line behind it."""
        entries: list[tuple[str, list[str], list[str]]] = []
        above = node.value[0][0].start_mark.line  # what stands above the first key belongs to whoever is around
        for i, (key, value) in enumerate(node.value):
            lead = self.lines[above : key.start_mark.line]
            following = node.value[i + 1][0].start_mark.line if i + 1 < len(node.value) else limit
            end = self.reach(value, following) if not _is_empty(value) else key.end_mark.line + 1
            above = self.own(end, following, key)
            is_literal = isinstance(value, yaml.ScalarNode) and value.style in ("|", ">")
            inner = self.lead(self.lines[end:above], indent if is_literal else indent + 2)  # else it would be its text
            entries.append((key.value, self.lead(lead, indent), [*self.entry(key, value, path, indent, end), *inner]))
        names = key_order(self.model, path, self.data) if self.model else []
        entries.sort(key=lambda e: names.index(e[0]) if e[0] in names else len(names))  # stable
        made = [line for _, lead, lines in entries for line in (*lead, *lines)]
        return made if made[0] or not path else made[1:]

    def reach(self, node: yaml.Node, limit: int) -> int:
        """The line behind a value and behind the comments that stand as deep as its last entries."""
        if isinstance(node, yaml.MappingNode) and not node.flow_style:
            key, value = node.value[-1]
            end = key.end_mark.line + 1 if _is_empty(value) else self.reach(value, limit)
            return self.own(end, limit, key)
        return self.last_line(node) + 1

    def own(self, start: int, limit: int, key: yaml.Node) -> int:
        """The line behind the comments from a line on that are set in deeper than a key: they are its entry's."""
        while start < limit and _column(self.lines[start]) > key.start_mark.column:
            start += 1
        return start

    def lead(self, lines: list[str], indent: int) -> list[str]:
        """Comments and empty lines between two entries."""
        made = [f"{' ' * indent}{_comment(line)}" if line.strip() else "" for line in lines]
        return [line for i, line in enumerate(made) if line or (i == 0 or made[i - 1])]

    def entry(self, key: yaml.ScalarNode, value: yaml.Node, path: Keys, indent: int, end: int) -> list[str]:
        name = self.slice(key)
        here = (*path, key.value)
        head = f"{' ' * indent}{name}:"
        on_key = self.comment_after(key.end_mark.index + 1 if _is_empty(value) else None, key, value)
        if _is_empty(value):
            return [head + on_key]
        if isinstance(value, yaml.MappingNode) and not value.flow_style:
            first = value.value[0][0].start_mark.line
            between = self.lead(self.lines[key.end_mark.line + 1 : first], indent + 2)
            return [head + on_key, *between, *self.mapping(value, here, indent + 2, end)]
        if isinstance(value, yaml.SequenceNode) and not value.flow_style:
            items = self.sequence(value, here, indent)
            return [head + on_key, *items] if items is not None else self.raw(key, value, indent)
        flat = self.flat(value, here)
        starts_here = value.start_mark.line == key.end_mark.line
        if flat is None or not starts_here or len(head) + 1 + len(flat) > WIDTH:
            return self.raw(key, value, indent)
        return [f"{head} {flat}{self.comment_after(value.end_mark.index, key, value)}"]

    def sequence(self, node: yaml.SequenceNode, path: Keys, indent: int) -> list[str] | None:
        """The lines of a block list of values that fit on a line each; None for any other."""
        lines: list[str] = []
        above = node.value[0].start_mark.line
        for i, item in enumerate(node.value):
            flat = self.flat(item, (*path, i))
            if flat is None or _is_block(item) or item.start_mark.line != item.end_mark.line or _is_empty(item):
                return None
            lines += self.lead(self.lines[above : item.start_mark.line] if i else [], indent + 2)
            lines.append(f"{' ' * (indent + 2)}- {flat}{self.comment_after(item.end_mark.index, item, item)}")
            above = item.end_mark.line + 1
        opening = self.source.rfind("\n", 0, node.start_mark.index)
        has_lead = self.source[: opening + 1].rstrip("\n").split("\n")[-1].lstrip().startswith("#")
        return None if has_lead else lines

    def flat(self, node: yaml.Node, path: Keys) -> str | None:
        """A value on one line; None for one that does not fit there."""
        if isinstance(node, yaml.ScalarNode):
            raw = self.slice(node)
            if "\n" in raw:
                return None
            is_count = self.model is Experiment and path in token_fields() and not node.style and raw.isdecimal()
            return str(tokens(int(raw))) if is_count else raw
        if _is_block(node) or "#" in self.slice(node):
            return None
        if isinstance(node, yaml.SequenceNode):
            items = [self.flat(item, (*path, i)) for i, item in enumerate(node.value)]
            return f"[{', '.join(i for i in items if i is not None)}]" if None not in items else None
        if not isinstance(node, yaml.MappingNode):
            return None
        pairs = {
            key.value: (self.flat(key, ()), self.flat(value, (*path, key.value)), value) for key, value in node.value
        }
        if any(key is None or (value is None) for key, value, _ in pairs.values()):
            return None
        names = key_order(self.model, path, self.data) if self.model else []
        order = sorted(pairs, key=lambda n: names.index(n) if n in names else len(names))
        texts = (f"{pairs[n][0]}:{'' if _is_empty(pairs[n][2]) else f' {pairs[n][1]}'}" for n in order)
        return f"{{{', '.join(texts)}}}"

    def raw(self, key: yaml.Node, value: yaml.Node, indent: int) -> list[str]:
        """The entry as it is written, set in or out as a whole."""
        shift = indent - key.start_mark.column
        first, *rest = self.lines[key.start_mark.line : self.last_line(value) + 1]
        is_literal = any(scalar.style in ("|", ">") for scalar in _scalars(value))
        moved = [" " * shift + line if shift > 0 and line.strip() else _outdented(line, -shift) for line in rest]
        lines = [" " * indent + first[key.start_mark.column :], *moved]
        return lines if is_literal else [line.rstrip() for line in lines]

    def slice(self, node: yaml.Node) -> str:
        return self.source[node.start_mark.index : node.end_mark.index].rstrip()

    def comment_after(self, index: int | None, key: yaml.Node, value: yaml.Node) -> str:
        """The comment behind a value that ends at an index, or behind the key of a block."""
        if index is None:
            index = key.end_mark.index + 1
            if not _is_block(value):
                return ""
        rest = self.source[index:].partition("\n")[0]
        found = re.search(r"(?:^|\s)(#.*)", rest)
        return f"  {_comment(found[1])}" if found else ""

    def last_line(self, node: yaml.Node) -> int:
        """The last line that a node has text on."""
        if isinstance(node, yaml.ScalarNode):
            if node.style in ("|", ">"):
                return self.last_of_block(node)
            return int(node.end_mark.line)
        if not _is_block(node):
            return int(node.end_mark.line)
        last = node.value[-1]
        key, value = last if isinstance(last, tuple) else (last, last)
        return max(int(key.end_mark.line), self.last_line(value)) if not _is_empty(value) else int(key.end_mark.line)

    def last_of_block(self, node: yaml.ScalarNode) -> int:
        end = int(node.end_mark.line) - (1 if node.end_mark.column == 0 else 0)
        end = min(end, len(self.lines) - 1)
        while end > node.start_mark.line and not self.lines[end].strip():
            end -= 1
        return end


def _is_block(node: yaml.Node) -> bool:
    """A mapping or a list that is written line by line."""
    return isinstance(node, yaml.CollectionNode) and not node.flow_style


def _is_empty(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and not node.value and not node.style


def _column(line: str) -> int:
    """Where a comment begins; -1 for an empty line."""
    return len(line) - len(line.lstrip()) if line.strip() else -1


def _outdented(line: str, width: int) -> str:
    return line[width:] if not line[:width].strip() else line.lstrip()


def _trimmed(lines: list[str]) -> list[str]:
    """Without blank lines at both ends and more than one between."""
    kept: list[str] = []
    for line in lines:
        if line.strip() or (kept and kept[-1].strip()):
            kept.append(line if line.strip() else "")
    while kept and not kept[-1].strip():
        kept.pop()
    return kept
