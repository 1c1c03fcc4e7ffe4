"""Mistakes for the places where a change is reviewed: SARIF, and GitHub's workflow commands."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from ltrl import __version__
from ltrl.cli.show import out
from ltrl.errors import Code, Diagnostic, Position

__all__ = ["github", "sarif"]

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def sarif(found: Sequence[Diagnostic]) -> dict[str, Any]:
    """A SARIF 2.1.0 log with one result for each mistake, and a rule for each code among them."""
    from ltrl.pages import page

    codes = sorted({d.code for d in found})
    driver = {
        "name": "ltrl",
        "semanticVersion": __version__,
        "rules": [
            {"id": code.value, "name": _pascal(code), "shortDescription": {"text": page(code).title}} for code in codes
        ],
    }
    results = [_result(d, codes.index(d.code)) for d in found]
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def github(found: Iterable[Diagnostic]) -> None:
    """Prints workflow commands: GitHub shows each mistake at its line of the change."""
    for d in found:
        told: dict[str, str | int] = {"title": d.code.value}
        text = d.message + (f"\nhint: {d.hint}" if d.hint else "")
        if d.position and _is_file(d.position):
            told |= {"file": _path(d.position), "line": d.position.line, "col": d.position.column}
            told["endColumn"] = d.position.column + d.position.width
        elif d.position:  # an argument has no line that could be marked
            text = f"{text}\nin `{d.position.source.name} {d.position.source.text}`"
        properties = ",".join(f"{name}={_property(str(value))}" for name, value in told.items())
        out(f"::{d.severity} {properties}::{_data(text)}")


def _result(d: Diagnostic, rule: int) -> dict[str, Any]:
    text = d.message + (f"\nhint: {d.hint}" if d.hint else "")
    result: dict[str, Any] = {"ruleId": d.code.value, "ruleIndex": rule, "level": d.severity, "message": {"text": text}}
    if d.position:
        result["locations"] = [_location(d.position)]
    if d.related:
        result["relatedLocations"] = [
            {"id": i, **_location(where), "message": {"text": what}} for i, (what, where) in enumerate(d.related)
        ]
    return result


def _location(position: Position) -> dict[str, Any]:
    if not _is_file(position):
        return {"logicalLocations": [{"fullyQualifiedName": position.source.text, "kind": "argument"}]}
    end = position.column + position.width
    region = {"startLine": position.line, "startColumn": position.column, "endColumn": end}
    path = _path(position)
    where: dict[str, str] = {"uri": quote(path)}
    if not path.startswith("/"):
        where["uriBaseId"] = "%SRCROOT%"
    else:
        where["uri"] = f"file://{quote(path)}"
    return {"physicalLocation": {"artifactLocation": where, "region": region}}


def _is_file(position: Position) -> bool:
    return not position.source.name.startswith("--")


def _path(position: Position) -> str:
    return PurePath(position.source.name).as_posix()


def _pascal(code: Code) -> str:
    return "".join(word.capitalize() for word in code.name.split("_"))


def _data(text: str) -> str:
    """A message as GitHub's runner reads it back (actions/toolkit, `escapeData`)."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
