"""What libyaml says of a text that is not YAML, in the words of the person who wrote it."""

from __future__ import annotations

import re

import yaml

from ltrl.errors import Code, Diagnostic, Position, Source

__all__ = ["syntax_error"]

_QUOTED = 'put the text in quotes: `"…"`'
_BRACKETS = "close every `[` and `{` where it ends, with commas between"

_PROBLEMS: tuple[tuple[str, str, str], ...] = (
    ("tab character", "a tab indents this line", "indent with spaces, not tabs"),
    ("mapping values are not allowed", "a `:` that cannot stand here", "a text that contains `: ` needs quotes"),
    ("found unexpected end of stream", "a quote is never closed", "close it on the same line"),
    ("found unexpected document indicator", "a quote is never closed", "close it on the same line"),
    ("found unknown escape character", "an unknown escape", "write `\\\\` for a backslash, or use single quotes"),
    ("hexdecimal number", "an escape without its digits", "write `\\\\` for a backslash, or use single quotes"),
    ("invalid Unicode character escape", "an escape that is no character", "write the character itself"),
    ("found undefined alias", "an alias without an anchor", "a text that begins with `*` needs quotes"),
    ("second occurrence", "an anchor with this name was there already", "give each `&name` once"),
    ("expected ',' or ']'", "a `[` is not closed before this", _BRACKETS),
    ("expected ',' or '}'", "a `{` is not closed before this", _BRACKETS),
    ("expected node content", "a value is missing here", _QUOTED),
    ("expected '-' indicator", "this is no item of the list above", "begin each item with `- `, all in one column"),
    ("expected key", "this does not fit what stands before it", "fields of a section begin in the same column"),
    ("could not find expected ':'", "a `:` is missing before this", "write `field: value`"),
    ("block sequence entries are not allowed", "a `- ` that cannot stand here", "begin a list on a line of its own"),
    ("block mapping keys", "a `?` that cannot stand here", _QUOTED),
    ("cannot start any token", "a value cannot begin with this character", _QUOTED),
    ("another document", "a second document begins", "one file holds one spec"),
    ("<document start>", "text after the end of the document", "one file holds one spec; delete the `...`"),
    ("tag", "a tag that is no tag", "leave it out: tags have no meaning here"),
    ("directive", "a `%` line that YAML does not know", "leave it out"),
    ("alphabetic or numeric character", "an anchor or alias without a name", _QUOTED),
    ("block scalar", "a `|` or `>` with something behind it", "begin the text on the next line"),
)
"""(part of what libyaml says, what we say, what to do); the first that fits counts."""


def syntax_error(error: yaml.MarkedYAMLError, source: Source) -> Diagnostic:
    """The diagnostic for what the YAML reader refused."""
    said = f"{error.problem or ''} {error.context or ''}".strip()
    message, hint = next(((m, h) for part, m, h in _PROBLEMS if part in said), (said or "not YAML", _QUOTED))
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return Diagnostic(Code.NOT_YAML, f"not YAML: {message}", Position(source, 1, 1), hint)
    lines = source.lines
    number = min(mark.line, len(lines) - 1)
    line = lines[number]
    column = min(mark.column, len(line))
    before = line[:column]
    width = 1
    if "\t" in line[: len(line) - len(line.lstrip())]:
        message, hint = _PROBLEMS[0][1:]
        column = line.index("\t")
    elif "never closed" in message and error.context_mark:
        number, column = error.context_mark.line, error.context_mark.column
    elif "${" in line[max(0, column - 1) : column + 2]:
        column = line.index("${", max(0, column - 1))
        width = len(_to_brace(line[column:]))
        message = "a reference inside `{…}` or `[…]` needs quotes"
        hint = f'write `"{_to_brace(line[column:])}"`'
    elif "`:`" in message and re.fullmatch(r"\s+[\w.-]+", before):
        message = "this line is indented deeper than those around it"
        hint = "fields of a section begin in the same column; or quote a text that contains `: `"
        column = len(before) - len(before.lstrip())
        width = len(before) - column
    elif "does not fit" in message and line[column : column + 1] in ("]", "}"):
        message, hint = "this bracket closes nothing", "delete it, or open it before"
    elif "does not fit" in message and line[column - 1 : column] in ("'", '"'):
        message, hint = "text after the closing quote", "inside single quotes a quote is written twice: `'it''s'`"
    related: tuple[tuple[str, Position], ...] = ()
    is_last = not any(rest.strip() for rest in (lines[number][column:], *lines[number + 1 :]))
    if ("is missing here" in message or "is not closed" in message) and is_last and (opened := _never_closed(source)):
        number, column = opened.line, opened.column
        message, hint = "a bracket is never closed", _BRACKETS
    elif "is not closed" in message and error.context_mark:
        opened = error.context_mark
        related = (("opened here", Position(source, opened.line + 1, opened.column + 1)),)
    position = Position(source, number + 1, column + 1, width)
    return Diagnostic(Code.NOT_YAML, f"not YAML: {message}", position, hint, related=related)


def _never_closed(source: Source) -> yaml.Mark | None:
    """The innermost bracket that is open where the text ends."""
    opened: list[yaml.Mark] = []
    for token in yaml.scan(source.text):
        match token:
            case yaml.FlowSequenceStartToken() | yaml.FlowMappingStartToken():
                opened.append(token.start_mark)
            case yaml.FlowSequenceEndToken() | yaml.FlowMappingEndToken() if opened:
                opened.pop()
    return opened[-1] if opened else None


def _to_brace(text: str) -> str:
    return text[: text.find("}") + 1] or text
