"""Commands about cluster profiles: cluster probe, list, show."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["app"]

app = typer.Typer(name="cluster", help="Cluster profiles: make one, list them, show one.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def probe(
    partition: Annotated[
        str | None, typer.Option("--partition", metavar="NAME", help="By default the one with GPUs.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="A profile of each partition; needs --name.")] = False,
    name: Annotated[
        str | None, typer.Option("--name", metavar="N", help="Write to your configuration, for `--cluster N`.")
    ] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="FILE", help="Write to a file.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite a file that is there.")] = False,
    as_json: Json = False,
) -> None:
    """Write a profile of the Slurm cluster that this machine belongs to; to stdout unless told where."""
    from dataclasses import asdict

    from ltrl import probe as prober
    from ltrl.cli import show
    from ltrl.project import config_dir, write_cluster

    if every and name is None:
        raise typer.BadParameter("--all writes a file for each partition: say --name N too")
    if out and name:
        raise typer.BadParameter("--out and --name both say where to write")
    site = prober.probe()
    if as_json:
        show.json_(asdict(site))
        return
    chosen = site.partitions if every else (prober.choose(site, partition),)
    for found in chosen:
        text = prober.profile(site, found)
        called = f"{name}-{found.name}" if every else name
        path = config_dir() / "clusters" / f"{called}.yaml" if called else out
        if path is None:
            show.out(text.rstrip("\n"))
            continue
        write_cluster(path, text, replace=replace)
        if called:
            show.note(f"`ltrl submit SPEC --cluster {called} --dry-run` shows what it asks for")
        show.out(show.relative(path))


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the cluster profiles that `--cluster NAME` finds here."""
    from ltrl.cli import show
    from ltrl.project import BUILT_IN, cluster_files, root

    files = cluster_files(root(Path.cwd()))
    if as_json:
        show.json_({name: str(path) for name, path in files.items()})
    else:
        built_in = [(name, "built in") for name in BUILT_IN if name not in files]
        show.table(("name", "file"), [*built_in, *((name, show.relative(path)) for name, path in files.items())])


@app.command("show")
def show_(
    name: Annotated[str, typer.Argument(metavar="NAME|PATH", help="Cluster profile.")], as_json: Json = False
) -> None:
    """Show a cluster profile with its defaults, and where each value comes from."""
    import json

    from ltrl.cli import show
    from ltrl.compile import cluster_values
    from ltrl.project import root

    values, origins = cluster_values(name, root(Path.cwd()))
    if as_json:
        show.json_(values)
    else:
        rows = [(p, v if isinstance(v, str) else json.dumps(v), origins[p]) for p, v in values.items()]
        show.table(("field", "value", "from"), rows)
