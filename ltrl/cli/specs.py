"""Commands about specs: check, plan, compile, and what a spec may contain."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from ltrl.cli import complete

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ltrl.errors import Diagnostic
    from ltrl.plan import Plan

__all__ = ["backends", "check", "compile_", "fmt", "plan", "schema"]

Spec = Annotated[
    Path, typer.Argument(metavar="SPEC", help="The experiment's YAML file.", autocompletion=complete.specs)
]
Cluster = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="NAME|PATH",
        help="Cluster profile; by default the engine's usual one.",
        autocompletion=complete.clusters,
    ),
]
Overlays = Annotated[
    list[Path] | None,
    typer.Option("-f", "--overlay", metavar="FILE", help="Put a file's values on top.", autocompletion=complete.specs),
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="Set one field: `--set algorithm.steps=100`.",
        autocompletion=complete.assignments,
    ),
]


class SpecKind(Enum):
    """Kinds of files with a schema of their own."""

    EXPERIMENT = "experiment"
    EVALUATION = "evaluation"
    CLUSTER = "cluster"
    DATASET = "dataset"


Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def check(
    specs: Annotated[
        list[Path],
        typer.Argument(metavar="SPEC...", help="Experiment files and cluster profiles.", autocompletion=complete.specs),
    ],
    cluster: Cluster = None,
    overlay: Overlays = None,
    set_: Sets = None,
    as_json: Json = False,
    as_sarif: Annotated[bool, typer.Option("--sarif", help="Print a SARIF 2.1.0 log, for code scanning.")] = False,
    as_github: Annotated[
        bool, typer.Option("--github", help="Print workflow commands, which GitHub shows at the lines of a change.")
    ] = False,
) -> None:
    """Check files without writing anything. Exit status: 0 good (warnings allowed), 1 mistakes, 2 wrong usage."""
    from ltrl.check import check as mistakes_of
    from ltrl.cli import show

    if as_json + as_sarif + as_github > 1:
        raise typer.BadParameter("choose one of --json, --sarif and --github")
    is_text = not (as_json or as_sarif or as_github)
    found: dict[Diagnostic, None] = {}  # each mistake once: several specs may share a file
    for spec in specs:
        mistakes = mistakes_of(spec, cluster=cluster, overlays=overlay or (), sets=set_ or ())
        found |= dict.fromkeys(mistakes)
        if is_text and not any(d.severity == "error" for d in mistakes):
            show.out(f"{spec}: ok")
    if as_json:
        show.json_(show.diagnostics_json(found))
    elif as_sarif:
        from ltrl.cli.show import review

        show.json_(review.sarif(list(found)))
    elif as_github:
        from ltrl.cli.show import review

        review.github(found)
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
    cell: Annotated[str | None, typer.Option("--cell", metavar="NAME", help="Of a sweep, show this run.")] = None,
    as_json: Json = False,
) -> None:
    """Show what a run will do: which GPU holds what, batches, epochs, memory, GPU-hours."""
    from dataclasses import asdict

    from ltrl import project
    from ltrl.cli import show
    from ltrl.compile import is_sweep, prepare, resolved, training_data
    from ltrl.plan import search as find

    if search:
        found = find(resolved(spec, cluster=cluster, overlays=overlay or (), sets=set_ or ()))
        if as_json:
            show.json_(show.layouts_json(found))
        else:
            show.layouts(found)
        return
    options: Given = {"cluster": cluster, "overlays": overlay or (), "sets": set_ or ()}
    if is_sweep(spec, overlays=overlay or (), sets=set_ or ()) or cell:
        if cell is None:
            _show_cells(spec, options, as_json=as_json)
            return
        planned = _cell(spec, options, cell)
    else:
        planned = prepare(spec, **options)
    data = training_data(planned, project=project.root(spec.parent))
    if as_json:
        ranks = [asdict(rank) for rank in planned.ranks]
        show.json_({**planned.to_json(), "ranks": ranks, "data": data.to_json()})
    else:
        show.plan(planned, data)
    if planned.warnings:
        show.diagnostics(planned.warnings)


class Given(TypedDict):
    """What the command line says beside the spec."""

    cluster: str | None
    overlays: Sequence[Path]
    sets: Sequence[str]


def _show_cells(spec: Path, options: Given, *, as_json: bool) -> None:
    from ltrl.cli import show
    from ltrl.cli.show import sweep as views
    from ltrl.compile import prepare_all, sweep_values

    found, values = prepare_all(spec, **options), sweep_values(spec, overlays=options["overlays"], sets=options["sets"])
    if as_json:
        show.json_([{**p.to_json(), "values": dict(own)} for p, own in zip(found, values, strict=True)])
        return
    views.plans(found, values)
    if warnings := dict.fromkeys(w for planned in found for w in planned.warnings):
        show.diagnostics(warnings)


def _cell(spec: Path, options: Given, name: str) -> Plan:
    from ltrl.compile import prepare_all
    from ltrl.errors import Code, fail

    found = {planned.resolved.spec.name: planned for planned in prepare_all(spec, **options)}
    if name not in found:
        raise fail(Code.SWEEP, f"no cell is called `{name}`", hint=f"`ltrl plan {spec}` lists them")
    return found[name]


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
    """Compile a spec into a bundle: the engine's configuration, job scripts and a manifest; a sweep into one a cell."""
    from ltrl.backend import create
    from ltrl.cli import show
    from ltrl.compile import compile_bundle, compile_sweep, is_sweep

    if is_sweep(spec, overlays=overlay or (), sets=set_ or ()):
        swept, plans = compile_sweep(
            spec, cluster=cluster, overlays=overlay or (), sets=set_ or (), out=out, replace=replace
        )
        if as_json:
            show.json_({"sweep": swept.id, "path": str(swept.path), "bundles": [str(b.path) for b in swept.cells]})
        else:
            show.note(f"compiled: {len(swept.cells)} bundles")
            show.out(show.relative(swept.path))
        if every := dict.fromkeys(w for planned in plans for w in planned.warnings):
            show.diagnostics(every)
        return
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


def fmt(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Specs and cluster profiles.", autocompletion=complete.specs)
    ],
    check_only: Annotated[bool, typer.Option("--check", help="Name the files that would change; write none.")] = False,
) -> None:
    """Format specs: fields in the order of the reference, units, spacing; comments stay with their fields."""
    from ltrl.cli import show
    from ltrl.errors import LtrlError
    from ltrl.format import format_text
    from ltrl.source import read
    from ltrl.writing import write

    changed: list[Path] = []
    found: list[Diagnostic] = []
    for file in files:
        try:
            source = read(file, file.parent)
            made = format_text(source)
        except LtrlError as error:
            found += error.diagnostics
            continue
        if made.encode() != source.text.encode():
            changed.append(file)
            if not check_only:
                write(file, made)
    for file in changed:
        show.out(str(file))
    if found:
        show.diagnostics(found)
    if found or (changed and check_only):
        raise typer.Exit(1)
