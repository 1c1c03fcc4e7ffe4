"""Command `init`: a first spec."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ltrl.starter import Machine

__all__ = ["init"]

MODEL = "Qwen/Qwen3-4B-Thinking-2507"
DATA = "data/train.jsonl"


def init(
    path: Annotated[
        Path | None, typer.Argument(metavar="[SPEC]", help="File to write; by default specs/<model>.yaml.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="Hugging Face id, directory or name of a card.")] = None,
    nodes: Annotated[int | None, typer.Option("--nodes", min=1, help="Machines.")] = None,
    gpus: Annotated[int | None, typer.Option("--gpus", min=0, help="GPUs in each machine; 0 for none.")] = None,
    gpu_memory: Annotated[
        float | None, typer.Option("--gpu-memory-gb", min=1, help="Memory of one GPU, in GiB.")
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="PATH|BACKEND", help="File of samples, or a data backend's name.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")] = False,
) -> None:
    """Write a first spec for a model, a machine and data, with a layout that fits.

    What is not said is asked for on a terminal, and has its default elsewhere.
    """
    import json
    import os
    import re

    from ltrl import project
    from ltrl.cli import show
    from ltrl.schema import schema
    from ltrl.starter import Machine, starter
    from ltrl.writing import refuse_existing, write

    asks = sys.stdin.isatty() and sys.stdout.isatty()
    if asks:
        model = model or typer.prompt("Model", default=MODEL)
        gpus = gpus if gpus is not None else typer.prompt("GPUs in each machine (0: this one, without)", 8, type=int)
        nodes = nodes or (typer.prompt("Machines", 1, type=int) if gpus else 1)
        gpu_memory = gpu_memory or (typer.prompt("Memory of one GPU in GiB", 80.0, type=float) if gpus else 80.0)
        data = data or typer.prompt("Samples, a file or a data backend", DATA if gpus else "entity-chain")
    gpus = 8 if gpus is None else gpus
    machine: Machine = Machine(nodes or 1, gpus, gpu_memory or 80.0)
    model = model or (MODEL if gpus else "tiny-qwen3")
    name = path.stem if path else model.rstrip("/").rpartition("/")[2]
    name = re.sub(r"[^a-z0-9._-]+", "-", name.lower())[:63].strip("._-") or "first"
    target = path or Path("specs") / f"{name}.yaml"
    cluster = target.parent / "clusters" / f"{name}.yaml"
    refuse_existing([target, cluster], force=force)
    made = starter(
        name,
        model=model,
        machine=machine,
        data=data or (DATA if gpus else "entity-chain"),
        project=project.root(target.parent if target.parent.is_dir() else target.parent.parent),
        out=target,
    )
    for file, kind, text in ((target, "experiment", made.spec), (cluster, "cluster", made.cluster)):
        place = file.parent / f"{kind}.schema.json"
        write(place, json.dumps(schema(kind), indent=2) + "\n")
        write(file, f"# yaml-language-server: $schema={os.path.relpath(place, file.parent)}\n{text}")
        show.note(f"wrote {file}")
    show.out(f"ltrl plan {target} --cluster {name}")
