"""References that a value may hold: `${env:NAME}`, `${env:NAME:-default}` and `${file:PATH}`.

One rule: a reference is resolved when ltrl reads the spec, but for the fields marked `Late` (secrets, and the job's
environment): those keep it as it is written, in every file that ltrl makes, until the job needs the value.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum, auto
from pathlib import Path
from typing import Annotated, Literal

from pydantic import StringConstraints

from ltrl.errors import Code, Diagnostic, LtrlError, Position, fail
from ltrl.leaks import leaks

__all__ = [
    "Late",
    "Malformed",
    "Reference",
    "Secret",
    "Shell",
    "Treatment",
    "find",
    "keeps_a_secret",
    "look_up",
    "names_a_secret",
    "place",
    "resolve",
    "reveal",
    "split",
]

MAX_BYTES = 64 * 1024
"""Largest file that a reference reads: a value, not data."""

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_REFERENCE = re.compile(r"\$\{([A-Za-z][A-Za-z0-9_.]*):([^}]*)(\}?)")
_VARIABLE = re.compile(rf"({_NAME})(?::-(.*))?", re.DOTALL)
_SECRET = r"password|passwd|passphrase|secret|credentials?|authorization|(?:api|access|secret|private)[_-]?key"
_SECRET_VARIABLE = re.compile(rf"(?:{_SECRET}|token|(?:^|[._-])key)$", re.IGNORECASE)
_SECRET_KEY = re.compile(
    rf"(?:{_SECRET}|(?:^|\.|(?:access|api|auth|bearer|hf|hub|refresh|session|wandb)[_-]?)token)$", re.IGNORECASE
)
_NO_SECRET = re.compile("empty|none|null|no|yes|true|false|dummy|unused|placeholder|x+|<[^<>]*>", re.IGNORECASE)


class Treatment(Enum):
    """What becomes of the references in a field that is no ordinary one."""

    LATE = auto()
    """They stay as written and are looked up where the value is used."""
    SECRET = auto()
    """As late ones; and the value is one reference, nothing else."""
    SHELL = auto()
    """None is allowed: the text is a shell's, which has variables of its own."""


Late = Treatment.LATE
Shell = Treatment.SHELL

Secret = Annotated[
    str, Treatment.SECRET, StringConstraints(pattern=rf"^\$\{{(env:{_NAME}|file:[^}}]+)\}}$"),
]  # fmt: skip
"""A field that holds a secret: `${env:NAME}` or `${file:PATH}`, resolved by `reveal` in the process that needs it."""


@dataclass(frozen=True, slots=True)
class Reference:
    """One reference in a text."""

    kind: Literal["env", "file"]
    name: str
    """Of a variable, or the path of a file."""
    default: str | None
    """What stands for a variable that is not set or empty."""
    text: str
    """As written."""
    start: int
    """Where in the text, counted from 0."""


class Malformed(ValueError):
    """Something in a text that looks like a reference and is none."""

    def __init__(self, text: str, reason: str, hint: str) -> None:
        super().__init__(reason)
        self.text = text
        self.hint = hint


def find(text: str) -> Iterator[Reference]:
    """The references in a text; raises Malformed for what is meant as one and cannot be."""
    for match in _REFERENCE.finditer(text):
        whole, kind, rest, end = match[0], *match.groups()
        variable = _VARIABLE.fullmatch(rest)
        if kind not in ("env", "file"):
            meant = "file" if "file" in kind.lower() or "path" in kind.lower() else "env"
            known = "`${env:NAME}`, `${env:NAME:-default}` and `${file:PATH}`"
            hint = f"did you mean `${{{meant}:{rest}}}`? there are {known}"
            raise Malformed(whole, f"there is no reference `{kind}:`", hint)
        if not end:
            raise Malformed(whole, "a reference has no closing brace", f"write `{whole.split()[0][:60]}}}`")
        if kind == "file" and not rest.strip():
            raise Malformed(whole, "a reference names no file", "write `${file:PATH}`")
        if kind == "env" and variable is None:
            reason = f"`{rest}` is not the name of an environment variable"
            raise Malformed(whole, reason, "write `${env:NAME}`, or `${env:NAME:-default}`")
        if kind == "env" and variable:
            yield Reference("env", variable[1], variable[2], whole, match.start())
        else:
            yield Reference("file", rest.strip(), None, whole, match.start())


def split(text: str) -> list[str | Reference]:
    """The text in pieces: literal text and references, in their order."""
    pieces: list[str | Reference] = []
    done = 0
    for reference in find(text):
        if reference.start > done:
            pieces.append(text[done : reference.start])
        pieces.append(reference)
        done = reference.start + len(reference.text)
    return [*pieces, text[done:]] if done < len(text) else pieces


def look_up(reference: Reference, *, folder: Path) -> str:
    """What a reference stands for now; a relative path starts at the folder. Raises LookupError that says why not."""
    if reference.kind == "env":
        value = os.environ.get(reference.name)
        if not value and reference.default is not None:
            return reference.default
        if value is None:
            raise LookupError(f"the environment variable `{reference.name}` is not set")
        if any("\ud800" <= c <= "\udfff" for c in value):
            raise LookupError(f"the environment variable `{reference.name}` is not UTF-8 text")
        return value
    path = folder / Path(reference.name).expanduser()
    if not path.is_file():
        raise LookupError(f"there is no file `{path}`")
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise LookupError(f"cannot read `{path}`: {(error.strerror or str(error)).lower()}") from None
    if len(raw) > MAX_BYTES:
        raise LookupError(f"`{path}` has more than {MAX_BYTES} bytes: a reference reads a value")
    try:
        return raw.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise LookupError(f"`{path}` is not UTF-8 text") from None


def resolve(text: str, where: Position) -> str:
    """A text with what its references stand for; relative paths start at the folder of the file that it is written in.

    Raises LtrlError with every reference that leads nowhere, and for one that names a secret: what is resolved is
    written into bundles and shown.
    """
    try:
        pieces = split(text)
    except Malformed as error:
        raise fail(Code.BAD_REFERENCE, str(error), place(where, error.text), hint=error.hint) from None
    parts: list[str] = []
    mistakes: list[Diagnostic] = []
    for piece in pieces:
        if isinstance(piece, str):
            parts.append(piece)
            continue
        at = place(where, piece.text)
        if piece.kind == "env" and names_a_secret(piece.name):
            message = f"`{piece.text}` names a secret, and what stands here is shown and written into the bundle"
            hint = "a secret goes into a field for one (`api_key`) or the cluster profile's `environment`"
            mistakes.append(Diagnostic(Code.BAD_REFERENCE, message, at, hint))
            continue
        try:
            found = look_up(piece, folder=Path(where.source.name).parent)
        except LookupError as error:
            mistakes.append(Diagnostic(Code.UNSET_REFERENCE, str(error.args[0]), at, _way_out(piece)))
            continue
        if looks := leaks(found):
            message = f"`{piece.text}` stands for {looks[0].what}, which would be shown and written into the bundle"
            mistakes.append(Diagnostic(Code.SECRET, message, at, "refer to it in a field for secrets"))
        parts.append(found)
    if mistakes:
        raise LtrlError(*mistakes)
    return "".join(parts)


def place(where: Position, text: str) -> Position:
    """The part of a written value that is this text; the whole value where it is not found on the line."""
    column = where.line_text.find(text, where.column - 1)
    return where if column < 0 else replace(where, column=column + 1, width=len(text))


def _way_out(reference: Reference) -> str:
    if reference.kind == "env":
        return f"`export {reference.name}=…`, or give a default: `${{env:{reference.name}:-default}}`"
    return "a relative path starts at the file that it is written in"


def reveal(reference: str, *, what: str) -> str:
    """The secret that a field of type `Secret` points to; called where it is used. A message names the reference and
    `what` it is for, never the secret.
    """
    [found] = find(reference)
    try:
        value = look_up(found, folder=Path()).strip()
    except LookupError as error:
        raise fail(Code.UNSET_REFERENCE, f"{what} `{reference}`: {error.args[0]}") from None
    if not value:
        raise fail(Code.UNSET_REFERENCE, f"{what} `{reference}` is empty")
    if not (value.isascii() and value.isprintable()):  # a library would refuse it later, and quote it
        raise fail(Code.INVALID_VALUE, f"{what} `{reference}` is not one line of ASCII text")
    return value


def names_a_secret(name: str) -> bool:
    """Whether a variable with this name is there to hold a secret."""
    return bool(_SECRET_VARIABLE.search(name))


def keeps_a_secret(key: str, value: str) -> bool:
    """Whether a key of a section that takes any holds a secret: `eos_token` and `input_key` do not, nor does a value
    that stands for none.
    """
    return bool(_SECRET_KEY.search(key)) and not _NO_SECRET.fullmatch(value)
