"""Commands about specs: check, plan, compile, and what a spec may contain."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ltrl.errors import Diagnostic

__all__ = ["backends", "check", "compile_", "plan", "schema"]

Spec = Annotated[Path, typer.Argument(metavar="SPEC", help="The experiment's YAML file.")]
Cluster = Annotated[
    str | None,
    typer.Option("--cluster", metavar="NAME|PATH", help="Cluster profile; by default the engine's usual one."),
]
Overlays = Annotated[
    list[Path] | None, typer.Option("-f", "--overlay", metavar="FILE", help="Put a file's values on top.")
]
Sets = Annotated[
    list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Set one field: `--set algorithm.steps=100`.")
]


class SpecKind(Enum):
    """Kinds of files with a schema of their own."""

    EXPERIMENT = "experiment"
    CLUSTER = "cluster"


Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def check(
    specs: Annotated[list[Path], typer.Argument(metavar="SPEC...", help="Experiment files.")],
    cluster: Cluster = None,
    overlay: Overlays = None,
    set_: Sets = None,
    as_json: Json = False,
) -> None:
    """Check specs without writing anything."""
    from ltrl.cli import show
    from ltrl.compile import prepare
    from ltrl.errors import LtrlError

    found: list[Diagnostic] = []
    for spec in specs:
        try:
            planned = prepare(spec, cluster=cluster, overlays=overlay or (), sets=set_ or ())
        except LtrlError as error:
            found += error.diagnostics
        else:
            found += planned.warnings
            if not as_json:
                show.out(f"{spec}: ok")
    if as_json:
        show.json_(show.diagnostics_json(found))
    elif found:
        show.diagnostics(found)
    if any(d.severity == "error" for d in found):
        raise typer.Exit(1)


def plan(
    spec: Spec,
    cluster: Cluster = None,
    overlay: Overlays = None,
    set_: Sets = None,
    search: Annotated[
        bool, typer.Option("--search", help="List the layouts that the engine accepts, those that fit first.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show what a run will do: which GPU holds what, batches, epochs, memory, GPU-hours."""
    from dataclasses import asdict

    from ltrl import project
    from ltrl.cli import show
    from ltrl.compile import prepare, resolved, training_data
    from ltrl.plan import search as find

    if search:
        found = find(resolved(spec, cluster=cluster, overlays=overlay or (), sets=set_ or ()))
        if as_json:
            show.json_(show.layouts_json(found))
        else:
            show.layouts(found)
        return
    planned = prepare(spec, cluster=cluster, overlays=overlay or (), sets=set_ or ())
    data = training_data(planned, project=project.root(spec.parent))
    if as_json:
        ranks = [asdict(rank) for rank in planned.ranks]
        show.json_({**planned.to_json(), "ranks": ranks, "data": data.to_json()})
    else:
        show.plan(planned, data)
    if planned.warnings:
        show.diagnostics(planned.warnings)


def compile_(
    spec: Spec,
    cluster: Cluster = None,
    overlay: Overlays = None,
    set_: Sets = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="DIR", help="Directory of the bundle; by default build/<name>."),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite a different bundle that is there.")] = False,
    as_json: Json = False,
) -> None:
    """Compile a spec into a bundle: the engine's configuration, job scripts and a manifest."""
    from ltrl.backend import create
    from ltrl.cli import show
    from ltrl.compile import compile_bundle

    made, planned, is_new = compile_bundle(
        spec, cluster=cluster, overlays=overlay or (), sets=set_ or (), out=out, replace=replace
    )
    if as_json:
        show.json_({"bundle": str(made.path), "is_new": is_new, **made.lock})
    else:
        show.note(f"{'compiled' if is_new else 'unchanged'}: {', '.join(made.lock['files'])}")
        show.out(show.relative(made.path))
    warnings = list(planned.warnings)
    if planned.launch.executor == "local" and (missing := create(planned.resolved.engine).missing()):
        warnings.append(missing)
    if warnings:
        from dataclasses import replace as with_

        show.diagnostics(with_(w, severity="warning") for w in warnings)


def backends(as_json: Json = False) -> None:
    """List installed backends; imports none of them."""
    from dataclasses import asdict

    from ltrl.backend import backends as installed
    from ltrl.cli import show

    if as_json:
        show.json_([asdict(info) for info in installed()])
    else:
        rows = [(i.kind, i.name, i.distribution, i.version, i.target) for i in installed()]
        show.table(("kind", "name", "distribution", "version", "class"), rows)


def schema(
    kind: Annotated[SpecKind, typer.Argument(help="Kind of file.")] = SpecKind.EXPERIMENT,
) -> None:
    """Print the JSON Schema of a kind of file, with every installed backend's options."""
    from ltrl.cli import show
    from ltrl.schema import schema as make

    show.json_(make(kind.value))
