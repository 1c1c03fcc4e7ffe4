"""What is wrong with a cluster profile: values that no script could hold, or that Slurm would not take."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ltrl import sbatch
from ltrl.errors import Code, Diagnostic, Position

if TYPE_CHECKING:
    from ltrl.spec import ClusterProfile, Container, SlurmRequest

__all__ = ["mistakes", "refused_options"]

CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")
"""What would end a line of a script, or hide in one."""


At = Callable[[str], Position | None]
"""Where a field of the profile, given by its dotted path, was written."""


def mistakes(cluster: ClusterProfile, at: At) -> Iterable[Diagnostic]:
    """Everything that no script can hold or that contradicts itself. Asks nobody."""
    if cluster.executor == "local":
        yield from _beyond_this_machine(cluster, at)
    if cluster.slurm:
        yield from _request(cluster.slurm, cluster, at)
    for i, line in enumerate(cluster.setup):
        if "\0" in line:
            yield _wrong(at, f"setup.{i}", "a `setup` line holds a NUL character")
    for i, path in enumerate(cluster.shared_paths):
        yield from _one_line(at, f"shared_paths.{i}", path)
        if not path.startswith("/") or ":" in path or "," in path:
            message = f"a shared path is absolute and has no `:` or `,` in it, unlike `{path}`"
            yield _wrong(at, f"shared_paths.{i}", message)
    for name, value in cluster.environment.items():
        where = f"environment.{name}"
        if "\0" in value or any("\ud800" <= c <= "\udfff" for c in value):
            yield _wrong(at, where, f"`{ascii(value)[1:-1]}` cannot be an environment variable")
    if cluster.container:
        yield from _container(cluster.container, cluster, at)


def refused_options(cluster: ClusterProfile, at: At) -> Iterable[Diagnostic]:
    """Further options of the profile that sbatch does not know; asks the one of this machine if there are any."""
    request = cluster.slurm
    for i, message, hint in sbatch.objections(request.extra if request else ()):
        yield Diagnostic(Code.SBATCH_OPTION, message, at(f"slurm.extra.{i}"), hint)


def _beyond_this_machine(cluster: ClusterProfile, at: At) -> Iterable[Diagnostic]:
    if cluster.slurm is not None:
        hint = "write `executor: slurm` or leave the section out"
        yield _wrong(at, "slurm", "`slurm` options do nothing with `executor: local`", hint)
    for section in ("restarts", "preflight"):
        given = getattr(cluster, section)
        if given != type(given)():
            message = f"`{section}` does nothing with `executor: local`"
            yield _wrong(at, section, message, "leave the section out")
    if cluster.nodes > 1:
        message = f"`executor: local` runs on this machine alone, `nodes` is {cluster.nodes}"
        yield _wrong(at, "nodes", message, "use a Slurm cluster for several nodes")


def _request(request: SlurmRequest, cluster: ClusterProfile, at: At) -> Iterable[Diagnostic]:
    for name in ("partition", "account", "qos", "constraint", "reservation", "gres"):
        yield from _one_line(at, f"slurm.{name}", getattr(request, name))
    if request.gres is not None and not CONTROL.search(request.gres) and re.search(r":[0-9]+$|^$|[,=]", request.gres):
        hint = "write `gpu`, `gpu:h100` or null; the number is `gpus_per_node`"
        yield _wrong(at, "slurm.gres", f"`{ascii(request.gres)[1:-1]}` is no name of a GPU", hint)
    if request.segment is not None and cluster.nodes % request.segment:
        yield _wrong(at, "slurm.segment", f"segments of {request.segment} do not divide `nodes: {cluster.nodes}`")
    for i, line in enumerate(request.extra):
        where = f"slurm.extra.{i}"
        if found := [*_one_line(at, where, line)]:
            yield from found
            continue
        try:
            sbatch.option(line)
        except ValueError as error:
            yield Diagnostic(Code.SBATCH_OPTION, str(error.args[0]), at(where), *error.args[1:])
    for i, line in enumerate(request.step_options):
        yield from _one_line(at, f"slurm.step_options.{i}", line)
        try:
            words = shlex.split(line)
        except ValueError as error:
            yield _wrong(at, f"slurm.step_options.{i}", f"`{line}` is not an option of srun: {str(error).lower()}")
            continue
        if not words or not words[0].startswith("-"):
            yield _wrong(at, f"slurm.step_options.{i}", f"`{line}` is not an option of srun")


def _container(container: Container, cluster: ClusterProfile, at: At) -> Iterable[Diagnostic]:
    yield from _one_line(at, "container.image", container.image)
    if container.image.startswith("-"):
        yield _wrong(at, "container.image", f"`{container.image}` is an option, not an image")
    for i, mount in enumerate(container.mounts):
        yield from _one_line(at, f"container.mounts.{i}", mount)
        parts = mount.split(":")
        if len(parts) not in (2, 3) or not all(p.startswith("/") for p in parts[:2]) or "," in mount:
            message = f"a mount is `/source:/target[:options]` with absolute paths without commas, not `{mount}`"
            yield _wrong(at, f"container.mounts.{i}", message)
    slurm_only, local_only = container.runtime == "pyxis", container.runtime in ("docker", "podman")
    if (slurm_only and cluster.executor == "local") or (local_only and cluster.executor == "slurm"):
        others = "`pyxis` or `apptainer`" if cluster.executor == "slurm" else "`docker`, `podman` or `apptainer`"
        message = f"the container runtime `{container.runtime}` does not go with `executor: {cluster.executor}`"
        yield _wrong(at, "container.runtime", message, f"use {others}")


def _one_line(at: At, path: str, value: str | None) -> Iterable[Diagnostic]:
    if value is not None and CONTROL.search(value):
        yield _wrong(at, path, f"`{path}` holds a line break or control character: `{ascii(value)[1:-1]}`")


def _wrong(at: At, path: str, message: str, hint: str | None = None) -> Diagnostic:
    return Diagnostic(Code.INVALID_VALUE, message, at(path), hint)
