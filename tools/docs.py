"""Writes the generated pages and the JSON schemas under docs/, or says which are out of step (`--check`)."""

from __future__ import annotations

import json
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path

from ltrl.backend import KINDS, Choice, Grade, Model, backends, load
from ltrl.schema import schema
from ltrl.spec import ClusterProfile, Experiment

DOCS = Path(__file__).resolve().parent.parent / "docs"


def pages() -> dict[str, str]:
    """The text of every generated file by its name under docs/."""
    from ltrl_backends.nemo_rl import checks, fidelity

    return {
        "ltrl.schema.json": json.dumps(schema("experiment"), indent=2) + "\n",
        "cluster.schema.json": json.dumps(schema("cluster"), indent=2) + "\n",
        "spec.md": _reference(),
        "checks.md": checks.checks_markdown(),
        "fidelity.md": fidelity.fidelity_markdown(),
    }


def _reference() -> str:
    lines = [
        "# Reference of spec files",
        "",
        "Generated from the models by `make docs`. A grade says what changing a field means for a run that exists:",
        "`new-run` changes what is learned, `relaunch` how the job runs, `note` nothing but a description.",
        "",
        "## `kind: experiment`",
        "",
        *_fields(Experiment, "", Grade.NEW_RUN),
        "",
        "## `kind: cluster`",
        "",
        *_fields(ClusterProfile, "", Grade.RELAUNCH),
    ]
    for kind in KINDS:
        lines += ["", f"## {kind} backends"]
        for info in backends():
            if info.kind == kind and info.distribution == "ltrl":
                options = load(kind, info.name).Options
                lines += [
                    "",
                    f"### `{info.name}`",
                    "",
                    _first(options.__doc__),
                    "",
                    *_fields(options, "", Grade.NEW_RUN),
                ]
    return "\n".join(lines) + "\n"


def _fields(model: type[Model], prefix: str, grade: Grade) -> list[str]:
    header = ["| field | type | default | grade | meaning |", "|---|---|---|---|---|"]
    return header + [
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in _rows(model, prefix, grade)
    ]


def _rows(model: type[Model], prefix: str, grade: Grade) -> Iterator[tuple[str, str, str, str, str]]:
    for name, info in model.model_fields.items():
        own = next((m for m in info.metadata if isinstance(m, Grade)), grade)
        choice = next((m for m in info.metadata if isinstance(m, Choice)), None)
        meaning = " ".join((info.description or "").split())
        kind = f"{choice.kind} backend" if choice else _type(info.annotation)
        inner = _inner(info.annotation)
        default = "required" if info.is_required() else "" if inner else _default(info.default)
        yield f"`{prefix}{name}`", kind, default, own.value, meaning
        if inner and not choice:
            yield from _rows(inner, f"{prefix}{name}.", own)


def _inner(annotation: object) -> type[Model] | None:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return next((m for m in map(_inner, typing.get_args(annotation)) if m), None)
    return annotation if isinstance(annotation, type) and issubclass(annotation, Model) else None


def _type(annotation: object) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        choice = next((m for m in annotation.__metadata__ if isinstance(m, Choice)), None)  # type: ignore[attr-defined]
        return f"{choice.kind} backend" if choice else _type(arguments[0])
    if origin is typing.Literal:
        return " or ".join(f"`{a}`" for a in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type(a) for a in arguments if a is not type(None))
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return f"{_type(arguments[1])} by name"
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return "section"
    return {int: "whole number", float: "number", bool: "true or false", str: "text"}.get(annotation, "anything")  # type: ignore[call-overload, no-any-return]


def _default(value: object) -> str:
    if value is None or value in ((), {}):
        return "none"
    if isinstance(value, Model):
        chosen = getattr(value, "backend", None)
        return f"`{chosen}`" if chosen else ""
    return f"`{json.dumps(value)}`"


def _first(text: str | None) -> str:
    return " ".join((text or "").strip().split())


def main() -> int:
    """Writes what differs; with `--check` only names it and fails."""
    stale = [name for name, text in pages().items() if not (DOCS / name).is_file() or (DOCS / name).read_text() != text]
    if "--check" in sys.argv[1:]:
        for name in stale:
            print(f"docs/{name} is out of step: run `make docs`")
        return 1 if stale else 0
    for name in stale:
        (DOCS / name).write_text(pages()[name])
        print(f"docs/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
