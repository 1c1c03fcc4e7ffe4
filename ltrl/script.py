"""What a shell script says, without running it: its commands in their order, with variables and arrays filled in.

Branches and loops are read as if each part ran once, in the order of the text. What only a run could tell (the output
of a command, a variable of the environment) stays as it is written, and is named.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ltrl.errors import Code, Diagnostic, LtrlError, Position, Source, fail, raise_if_any
from ltrl.source import read

if TYPE_CHECKING:
    from tree_sitter import Node

__all__ = ["Assignment", "Command", "Script", "Word", "parse", "read_script"]


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a command after expansion."""

    text: str
    position: Position
    """Where it is written; for a word out of an array, there."""
    unknown: tuple[str, ...] = ()
    """What stands in the text as written because only a run could tell: `${MASTER_ADDR}`."""
    branch: frozenset[tuple[int, int]] = frozenset()
    """Which part of which conditions it is written in: (number of the condition, number of the part)."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """A variable that is set to a single value."""

    name: str
    value: Word
    position: Position
    """Of the name."""
    exported: bool = False


@dataclass(frozen=True, slots=True)
class Command:
    """A command with its words."""

    words: tuple[Word, ...]

    @property
    def name(self) -> str:
        """The program."""
        return self.words[0].text

    @property
    def position(self) -> Position:
        """Where the program is named."""
        return self.words[0].position


@dataclass
class Script:
    """A script with the files that it sources."""

    source: Source
    commands: list[Command] = field(default_factory=list)
    assignments: list[Assignment] = field(default_factory=list)
    problems: list[Diagnostic] = field(default_factory=list)
    """Warnings: what could not be read."""


def read_script(path: Path) -> Script:
    """The script in a file; raises LtrlError for one that cannot be read or is no shell script."""
    script = parse(read(path, path.parent))
    raise_if_any(script.problems)
    return script


def parse(source: Source) -> Script:
    """The script in a text."""
    reader = _Reader(Script(source))
    reader.read(source)
    return reader.script


class _Reader:
    def __init__(self, script: Script) -> None:
        self.script, self.source = script, script.source
        self.lines: list[bytes] = []
        self.values: dict[str, Word] = {}
        self.arrays: dict[str, tuple[Word, ...]] = {}
        self.open: list[str] = []
        self.branch: frozenset[tuple[int, int]] = frozenset()
        self.num_conditions = 0

    def read(self, source: Source) -> None:
        root = _tree(source)
        if root.has_error:
            self.script.problems.append(_syntax_error(root, source))
            return
        outer = self.source
        self.source, self.lines = source, source.text.encode().split(b"\n")
        self.open.append(source.name)
        self.visit(root)
        self.open.pop()
        self.source, self.lines = outer, outer.text.encode().split(b"\n")

    def visit(self, node: Node) -> None:
        match node.type:
            case "variable_assignment":
                self.assign(node)
            case "declaration_command":
                exported = node.children[0].type == "export"
                for child in node.named_children:
                    if child.type == "variable_assignment":
                        self.assign(child, exported=exported)
            case "command":
                self.command(node)
            case "function_definition":
                self.visit_all(node.named_children[1:])
            case "for_statement":
                self.loop(node)
            case "if_statement" | "case_statement" | "list":
                self.condition(node)
            case _:
                self.visit_all(node.named_children)

    def visit_all(self, nodes: list[Node]) -> None:
        for node in nodes:
            self.visit(node)

    def condition(self, node: Node) -> None:
        """`if`, `case`, `&&` and `||`: their parts one after another, but for what always runs."""
        always, *parts = node.named_children
        self.visit(always)
        outer, self.num_conditions = self.branch, self.num_conditions + 1
        number, part = self.num_conditions, 0
        for child in parts:
            part += child.type in ("elif_clause", "else_clause", "case_item")
            self.branch = outer | {(number, part)}
            self.visit(child)
        self.branch = outer

    def loop(self, node: Node) -> None:
        name, *rest = node.named_children
        items = [word for n in rest if n.type != "do_group" for word in self.words(n)]
        if name.type == "variable_name" and items:
            self.values[_raw(name)] = items[0]
        self.visit_all([n for n in rest if n.type == "do_group"])

    def assign(self, node: Node, *, exported: bool = False) -> None:
        name_node, *value_nodes = node.named_children
        name = _raw(name_node)
        adds = any(child.type == "+=" for child in node.children)
        if value_nodes and value_nodes[0].type == "array":
            items = tuple(word for n in value_nodes[0].named_children for word in self.words(n))
            self.arrays[name] = (self.arrays.get(name, ()) if adds else ()) + items
            return
        value = self.word(value_nodes[0]) if value_nodes else Word("", self.position(node))
        if adds and name in self.values:
            value = replace(value, text=self.values[name].text + value.text)
        self.values[name] = value
        self.script.assignments.append(Assignment(name, value, self.position(name_node), exported))

    def command(self, node: Node) -> None:
        words: list[Word] = []
        for child in node.named_children:
            if child.type == "variable_assignment":  # NAME=value command
                self.assign(child)
            elif child.type == "command_name":
                words += self.words(child.named_children[0])
            else:
                words += self.words(child)
        if not words:
            return
        command = Command(tuple(words))
        if command.name in ("source", ".") and len(words) > 1:
            self.sourced(words[1])
        else:
            self.script.commands.append(command)

    def sourced(self, name: Word) -> None:
        home = Path(self.source.name).parent
        path = home / name.text
        try:
            if name.unknown:
                raise fail(Code.UNREADABLE, f"`{name.text}` is known only when the script runs")
            if str(path) in self.open:
                raise fail(Code.UNREADABLE, f"`{name.text}` leads back to itself")
            if path.exists() and not path.is_file():  # a device or a pipe may never end
                raise fail(Code.UNREADABLE, f"`{name.text}` is no file")
            self.read(read(path, home))
        except LtrlError as error:
            why = error.diagnostics[0].message
            self.script.problems.append(
                Diagnostic(
                    Code.NOT_IMPORTED,
                    f"the file that is sourced here is not read: {why}",
                    name.position,
                    "put it where the script expects it",
                    "warning",
                )
            )

    def words(self, node: Node) -> Iterator[Word]:
        """The words that one piece of a command becomes; an array becomes many."""
        inner = node.named_children[0] if node.type == "string" and node.named_child_count == 1 else node
        if inner.type == "expansion" and inner.named_children[0].type == "subscript":
            name, index = (_raw(n) for n in inner.named_children[0].named_children)
            if index in ("@", "*"):
                yield from self.arrays.get(name) or (
                    Word(_raw(node), self.position(node), (_raw(inner),), self.branch),
                )
                return
        if node.type in ("comment", "file_redirect", "herestring_redirect", "heredoc_redirect"):
            return
        word = self.word(node)
        if node.type in ("simple_expansion", "expansion") and not word.unknown:  # unquoted: the shell splits it
            yield from (replace(word, text=text) for text in word.text.split())
        else:
            yield word

    def word(self, node: Node) -> Word:
        unknown: list[str] = []
        text = self.text(node, unknown)
        return Word(text, self.position(node), tuple(unknown), self.branch)

    def text(self, node: Node, unknown: list[str]) -> str:
        match node.type:
            case "raw_string":
                return _raw(node)[1:-1]
            case "string":
                return _unescaped(self.pieces(node, unknown, 1), '"\\$`\n')
            case "concatenation":
                return self.pieces(node, unknown, 0)
            case "simple_expansion":
                return self.variable(_raw(node)[1:], node, unknown)
            case "expansion":
                return self.expansion(node, unknown)
            case "command_substitution" | "process_substitution" | "arithmetic_expansion":
                if "dirname" in _raw(node) and ("BASH_SOURCE" in _raw(node) or "$0" in _raw(node)):
                    return "."  # the folder of the script: sourced files are read from there
                unknown.append(_raw(node))
                return _raw(node)
            case "word":
                return _unescaped(_raw(node), None)
        return _raw(node)

    def pieces(self, node: Node, unknown: list[str], quote: int) -> str:
        """The text of a node with its parts expanded; what lies between the parts is kept."""
        raw = node.text or b""
        start, out = quote, []
        for child in node.named_children:
            begin, end = child.start_byte - node.start_byte, child.end_byte - node.start_byte
            out.append(raw[start:begin].decode())
            out.append(_raw(child) if child.type == "string_content" else self.text(child, unknown))
            start = end
        out.append(raw[start : len(raw) - quote].decode())
        return "".join(out)

    def expansion(self, node: Node, unknown: list[str]) -> str:
        """`${NAME}` and `${NAME:-default}`; other operators are for a run."""
        operators = [c.type for c in node.children if not c.is_named and c.type not in ("${", "}")]
        name, *default = node.named_children
        if name.type == "variable_name" and operators in ([], [":-"], ["-"], [":="], ["="]):
            if operators and _raw(name) not in self.values:
                return "".join(self.text(n, unknown) for n in default)
            return self.variable(_raw(name), node, unknown)
        unknown.append(_raw(node))
        return _raw(node)

    def variable(self, name: str, node: Node, unknown: list[str]) -> str:
        if name in self.values:
            unknown += self.values[name].unknown
            return self.values[name].text
        unknown.append(_raw(node))
        return _raw(node)

    def position(self, node: Node) -> Position:
        (row, column), (end_row, end) = node.start_point, node.end_point
        line = self.lines[row]
        start = len(line[:column].decode(errors="replace"))
        stop = len((line[:end] if end_row == row else line).decode(errors="replace"))
        return Position(self.source, row + 1, start + 1, max(1, stop - start))


def _tree(source: Source) -> Node:
    try:
        import tree_sitter
        import tree_sitter_bash
    except ImportError:
        message = "reading a shell script needs `tree-sitter` and its grammar of bash, which are not installed"
        raise fail(Code.MISSING_EXTRA, message, hint="pip install 'ltrl[import]'") from None
    language = tree_sitter.Language(tree_sitter_bash.language())
    return tree_sitter.Parser(language).parse(source.text.encode()).root_node


def _syntax_error(root: Node, source: Source) -> Diagnostic:
    node = root
    while inner := next((c for c in node.children if c.has_error or c.is_missing), None):
        node = inner
    row, column = node.start_point
    start = len(source.text.encode().split(b"\n")[row][:column].decode(errors="replace")) + 1
    what = f"`{node.type}` is missing" if node.is_missing else "this cannot be read"
    return Diagnostic(Code.NOT_IMPORTED, f"not a shell script: {what}", Position(source, row + 1, start))


def _raw(node: Node) -> str:
    return (node.text or b"").decode()


def _unescaped(text: str, special: str | None) -> str:
    """The text without the backslashes that quote; inside double quotes only before `special` characters."""
    out, characters = [], iter(text)
    for c in characters:
        if c != "\\":
            out.append(c)
            continue
        following = next(characters, "")
        if special is not None and following not in special:
            out.append(c)
        out.append("" if following == "\n" else following)
    return "".join(out)
