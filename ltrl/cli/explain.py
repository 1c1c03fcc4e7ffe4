"""Commands that say what things are: `explain` and `fields`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ltrl.cli import complete
from ltrl.cli.specs import Cluster, Json, Overlays, Sets

__all__ = ["explain", "fields"]


def explain(
    what: Annotated[
        str,
        typer.Argument(
            metavar="SPEC|CODE",
            help="An experiment's file, or the code of a mistake, `LTRL014`.",
            autocompletion=complete.specs,
        ),
    ],
    path: Annotated[
        str | None,
        typer.Argument(
            metavar="[FIELD]", help="Dotted path of a field, `algorithm.clip.high`.", autocompletion=complete.fields
        ),
    ] = None,
    cluster: Cluster = None,
    overlay: Overlays = None,
    set_: Sets = None,
    as_json: Json = False,
) -> None:
    """Explain a spec, or one field of it: value, origin, meaning, engine keys, checks; or a mistake by its code."""
    if re.fullmatch(r"(?i)ltrl\d{3}", what):
        if path is not None or cluster or overlay or set_:
            raise typer.BadParameter(f"`{what}` is the code of a mistake: it takes no field and no options of a spec")
        _code(what.upper(), as_json=as_json)
    else:
        _spec(Path(what), path, cluster, overlay or (), set_ or (), as_json=as_json)


def _code(name: str, *, as_json: bool) -> None:
    from ltrl.cli import show
    from ltrl.errors import Code
    from ltrl.names import close_to
    from ltrl.pages import page

    if name not in set(Code):
        raise typer.BadParameter(f"there is no code `{name}`; {close_to(name, Code) or 'see docs/errors.md'}")
    found = page(Code(name))
    if as_json:
        show.json_({"code": name, "title": found.title, "page": found.text})
    else:
        show.out(found.text.rstrip("\n"))


def _spec(
    spec: Path, path: str | None, cluster: str | None, overlays: Sequence[Path], sets: Sequence[str], *, as_json: bool
) -> None:
    from ltrl import plan
    from ltrl.cli.show import diagnostics, json_
    from ltrl.cli.show import explain as show
    from ltrl.compile import resolved as resolve
    from ltrl.errors import LtrlError
    from ltrl.explain import explain as make
    from ltrl.explain import origins, values

    resolved = resolve(spec, cluster=cluster, overlays=overlays, sets=sets)
    layout, problem = None, None
    try:
        layout = plan.plan(resolved).layout
    except LtrlError as error:  # what is wrong with a spec is no reason not to explain it
        problem = error
    if path is not None:
        found = make(resolved, path, layout)
        json_(found.to_json()) if as_json else show.explanation(found)
    elif as_json:
        said = origins(resolved, layout)
        json_({"values": values(resolved), "origins": {".".join(map(str, p)): str(o) for p, o in said.items() if p}})
    else:
        show.resolved(resolved, origins(resolved, layout))
    if problem:
        diagnostics(problem.diagnostics)
        raise typer.Exit(1)


def fields(
    pattern: Annotated[
        str,
        typer.Argument(
            metavar="[PATTERN]", help="Part of a path, or a glob: `*.clip.*`.", autocompletion=complete.fields
        ),
    ] = "",
    as_json: Json = False,
) -> None:
    """List the fields that files may have, those of installed backends too."""
    from ltrl import fields as reference
    from ltrl.cli import show
    from ltrl.cli.show import explain as view

    every = list(reference.fields())
    found = reference.matching(pattern, every)
    if not found:
        raise reference.unknown(pattern, [f.path for f in every])
    if as_json:
        show.json_([field.to_json() for field in found])
    else:
        view.fields(found)
