"""A field, a resolved spec and the reference of fields, as a person reads them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ltrl.cli.show import out, table

if TYPE_CHECKING:
    from ltrl.explain import Explanation
    from ltrl.fields import Field
    from ltrl.resolve import Resolved

__all__ = ["explanation", "fields", "resolved"]

MAX_CHECKS = 12
WIDTH = 110


def explanation(found: Explanation) -> None:
    """Prints everything about one field."""
    out("\n".join(_explanation(found)))


def _explanation(found: Explanation) -> Iterator[str]:
    from ltrl.dump import dump, scalar

    is_section = isinstance(found.value, dict) and bool(found.value)
    yield found.path if is_section else f"{found.path}: {scalar(found.value)}"
    rows = [("meaning", found.field.doc), ("from", str(found.origin))]
    kinds = found.field.type
    rows.append(("type", f"{kinds}; default {found.field.default}" if found.field.default else kinds))
    rows.append(("change", _GRADES[found.field.grade.value]))
    for title, text in rows:
        yield from _row(title, text)
    if is_section:
        yield from _block("holds", dump(found.value).splitlines())
    keys = [f"{k.key}: {scalar(k.value)}" + (f"  # {k.why}" if k.why else "") for k in found.keys]
    yield from _block("becomes", keys or ["nothing of the engine's own configuration"])
    checks = [f"{c.id}: {c.condition} [{c.source}]" for c in found.checks]
    more = [f"and {len(checks) - MAX_CHECKS} more: --json lists all"] if len(checks) > MAX_CHECKS else []
    if checks:
        yield from _block("checked by", [*checks[:MAX_CHECKS], *more])


_GRADES = {
    "new-run": "new-run: changes what is learned, an existing run does not resume with it",
    "relaunch": "relaunch: changes how the job runs, an existing run may resume with it",
    "note": "note: changes nothing but a description",
}


def _row(title: str, text: str) -> Iterator[str]:
    lines = textwrap.wrap(text, WIDTH - 13, break_long_words=False, break_on_hyphens=False) or [""]
    yield f"  {title:<11}{lines[0]}"
    yield from (f"{'':<13}{line}" for line in lines[1:])


def _block(title: str, lines: Iterable[str]) -> Iterator[str]:
    yield f"  {title}"
    yield from (f"    {line}" for line in lines)


def resolved(found: Resolved, origins: Any) -> None:
    """Prints a whole spec as one that says everything, each value with its origin behind it."""
    from ltrl.dump import dump
    from ltrl.explain import values

    tree = values(found)
    del tree["cluster"]
    notes = {path: str(origin) for path, origin in origins.items() if path[0] != "cluster"}
    inner = {path[:-1] for path in notes if len(path) > 1}
    leaves = {path: note for path, note in notes.items() if path not in inner}
    out(dump(tree, notes=leaves, column=48).rstrip("\n"))
    out(f"# cluster profile `{found.cluster_name}`: `ltrl explain SPEC cluster`")


def fields(found: Iterable[Field]) -> None:
    """Prints fields as a table."""
    rows = [(f.path, f.type, f.default, f.grade.value, f.doc, f.owner) for f in found]
    table(("field", "type", "default", "grade", "meaning", "of"), rows)
