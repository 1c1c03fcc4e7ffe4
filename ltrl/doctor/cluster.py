"""Slurm, containers and shared paths, as far as they show on this machine."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from ltrl import slurm
from ltrl.doctor.finding import Finding, Mark, found_or, said
from ltrl.doctor.wanted import Wanted

__all__ = ["containers", "scheduler", "shared_paths"]


def scheduler(wanted: Wanted) -> Iterator[Finding]:
    """Slurm's client, its version, and whether its controller answers."""
    needed = f"`{wanted.cluster_name}`" if wanted.cluster and wanted.cluster.executor == "slurm" else ""
    request = wanted.cluster.slurm if wanted.cluster else None
    clients = slurm.clients(request.clients if request else None)
    sbatch = str(clients / "sbatch") if clients else "sbatch"
    try:
        version = slurm.ask("sbatch", "--version", clients=clients)[0] if shutil.which(sbatch) else ""
        failed = f"no {sbatch} on the PATH"
    except (slurm.Unreachable, IndexError) as error:
        version, failed = "", f"{sbatch} fails: {(str(error).splitlines() or ['it says nothing'])[0]}"
    if not version:
        fix = "log in to a node of the cluster, or try without one: `ltrl submit SPEC --cluster mock`" if needed else ""
        yield Finding("slurm", "client", found_or(False, needed), failed, needed, fix)
        return
    yield Finding("slurm", "client", "ok", version, needed)
    try:
        lines = slurm.ask("scontrol", "ping", clients=clients)
    except slurm.Unreachable as error:
        mark = found_or(False, needed)
        yield Finding("slurm", "controller", mark, str(error).splitlines()[0], needed, "scontrol ping; sinfo")
        return
    is_up = any(re.search(r"\bUP\b", line) for line in lines)
    fix = "" if is_up else "scontrol ping; sinfo"
    yield Finding("slurm", "controller", found_or(is_up, needed), "; ".join(lines), needed, fix)


def containers(wanted: Wanted) -> Iterator[Finding]:
    """Programs that start images, and the image where it is a file."""
    container = wanted.cluster.container if wanted.cluster else None
    asked = container.runtime if container else ""
    needed = f"`container.runtime: {asked}`" if asked else ""
    versions = {name: said(name, "--version") for name in ("apptainer", "docker", "podman", "enroot")}
    found = ", ".join(version.splitlines()[0] for version in versions.values() if version) or "none"
    if asked == "pyxis":
        has_it = "--container-image" in (said("srun", "--help") or "")
        shown = "srun takes --container-image" if has_it else "srun here knows no --container-image"
        mark: Mark = "ok" if has_it else "unsure"
        fix = "" if has_it else "ltrl cluster probe"
    else:
        has_it, shown = bool(versions.get(asked)) or not asked, found
        mark = (
            "ok"
            if found != "none" and has_it
            else "absent"
            if not asked
            else "missing"
            if wanted.is_local
            else "unsure"
        )
        fix = f"install {asked}, or another `container.runtime`" if asked and not has_it else ""
        if asked == "docker" and has_it and said("docker", "version") is None:  # its client needs no daemon for its own
            mark, shown = "missing", f"{shown}; docker's daemon does not answer"
            fix = "docker version; start its daemon, or another `container.runtime`: podman has none"
    yield Finding("container", asked or "runtimes", mark, shown, needed, fix)
    if container and re.match(r"[/~.]", container.image):
        image = Path(container.image).expanduser()
        fix = "" if image.exists() else f"enroot import -o {image} docker://nvcr.io#nvidia/nemo-rl:v0.7.0"
        found = f"{image}" if image.exists() else f"no file {image}"
        yield Finding("container", "image", found_or(image.exists(), needed), found, needed, fix)


def shared_paths(wanted: Wanted) -> Iterator[Finding]:
    """Directories that every node sees: on this machine alone can be looked."""
    for path in wanted.cluster.shared_paths if wanted.cluster else ():
        is_there, can_write = Path(path).is_dir(), os.access(path, os.W_OK)
        shown = "here, and writable" if can_write else "here, read only" if is_there else "not here"
        fix = "" if is_there else f"ls -ld {path}; `shared_paths` in the profile"
        needed = f"`shared_paths` of `{wanted.cluster_name}`"
        yield Finding("shared paths", path, found_or(is_there, needed), shown, needed, fix)
