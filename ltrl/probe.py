"""What a Slurm cluster has, as far as its clients tell; and a cluster profile made of it."""

from __future__ import annotations

import getpass
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ltrl.errors import Code, fail
from ltrl.slurm import Unreachable, ask

__all__ = ["Partition", "Shape", "Site", "choose", "probe", "profile"]

MAX_NODES = 4
"""Nodes that a written profile asks for at most: it is a start, and few jobs want a whole partition."""

GPU_GIB = {"b200": 179, "h200": 140, "h100": 80, "gh200": 95, "l40s": 45, "l40": 45, "a40": 45, "l4": 22}
"""Memory of GPUs that come in one size only, as nvidia-smi shows it."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What is in a machine."""

    gpus: int
    gpu_type: str
    """As the site calls it; empty when it has no name, or several."""
    cpus: int
    memory_mb: int


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition and its machines."""

    name: str
    is_default: bool
    shapes: tuple[tuple[Shape, int], ...]
    """Every shape with the number of its machines; those with most GPUs in all first."""
    num_up: int
    """Machines that can run jobs now."""
    max_minutes: int | None
    """Time limit; None without one."""
    max_nodes: int | None
    """Machines of one job; None without a limit."""
    features: tuple[str, ...]

    @property
    def num_nodes(self) -> int:
        """All machines."""
        return sum(number for _, number in self.shapes)

    @property
    def usual(self) -> tuple[Shape, int]:
        """The shape that a job would want, and how many machines have it."""
        return self.shapes[0]


@dataclass(frozen=True, slots=True)
class Site:
    """A Slurm cluster."""

    name: str
    version: str
    has_accounting: bool
    accounts: tuple[str, ...]
    """Those that this user may charge; empty when nobody could tell."""
    has_pyxis: bool
    apptainer: str
    """Name of the program where it is here; it may be on the nodes alone."""
    partitions: tuple[Partition, ...]


def probe() -> Site:
    """The cluster whose clients are on this machine; raises LtrlError when there is none or it does not answer."""
    absent = [name for name in ("sinfo", "scontrol") if shutil.which(name) is None]
    if absent:
        hint = "run it on a login node of the cluster; docs/clusters.md has a profile to fill in by hand"
        listed = " and ".join(f"`{name}`" for name in absent)
        raise fail(Code.NO_SLURM, f"there is no Slurm on this machine: {listed} not on the PATH", hint=hint)
    try:
        config = dict(_settings(ask("scontrol", "show", "config")))
        nodes = ask("sinfo", "--noheader", "--Node", "--format=%N|%P|%G|%c|%m|%l|%s|%T|%f")
    except Unreachable as error:
        raise fail(Code.NO_SLURM, f"Slurm does not answer: {error}", hint="try again, or ask who runs it") from None
    has_accounting = not config.get("AccountingStorageType", "accounting_storage/none").endswith(("none", "(null)"))
    return Site(
        name=config.get("ClusterName", "slurm"),
        version=config.get("SLURM_VERSION", "unknown"),
        has_accounting=has_accounting,
        accounts=_accounts() if has_accounting else (),
        has_pyxis=_has_pyxis(),
        apptainer=next((name for name in ("apptainer", "singularity") if shutil.which(name)), ""),
        partitions=tuple(_partitions(nodes)),
    )


def choose(site: Site, name: str | None = None) -> Partition:
    """A partition by its name; by default the only one with GPUs, or the default one if it has some.

    Raises LtrlError when there is no such partition or when the choice is the user's.
    """
    named = {p.name: p for p in site.partitions}
    listed = ", ".join(f"`{p}`" for p in named) or "none"
    if name is not None:
        if name not in named:
            raise fail(Code.NO_SLURM, f"`{site.name}` has no partition `{name}`", hint=f"partitions here: {listed}")
        return named[name]
    able = [p for p in site.partitions if p.usual[0].gpus] or list(site.partitions)
    usual = [p for p in able if p.is_default]
    if len(able) == 1 or usual:
        return (usual or able)[0]
    hint = "choose with `--partition NAME`, or `--all` writes a profile of each"
    raise fail(
        Code.NO_SLURM, f"`{site.name}` has these partitions, and none of them is the default: {listed}", hint=hint
    )


def profile(site: Site, partition: Partition) -> str:
    """The text of a cluster profile with what is known, and remarks on what is not."""
    shape, number = partition.usual
    limit = partition.max_minutes
    nodes = min(number, MAX_NODES, partition.max_nodes or number)
    gres = f"gpu:{shape.gpu_type}" if shape.gpu_type else "gpu"
    most = "any number of them" if partition.max_nodes is None else f"at most {partition.max_nodes}"
    up = f"{partition.num_nodes} nodes, {partition.num_up} of them up"
    lines = [
        f"# Partition `{partition.name}` of the Slurm cluster `{site.name}` ({site.version}): {up}.",
        *(f"#   {count} with {_shape(found)}" for found, count in partition.shapes),
        *([f"# Features, for `constraint`: {', '.join(partition.features)}"] if partition.features else []),
        "# Accounting is on: jobs that are over stay known (sacct)."
        if site.has_accounting
        else "# No accounting: Slurm forgets jobs soon after their end, then what they wrote down themselves counts.",
        "kind: cluster",
        "executor: slurm",
        f"nodes: {nodes}  # of one job; the partition has {number} of this kind and a job may have {most}",
        f"gpus_per_node: {shape.gpus}",
    ]
    if shape.gpus:
        known = _gpu_gib(shape.gpu_type)
        remark = f"of `{shape.gpu_type}`" if known else "a guess, Slurm does not know it: ask nvidia-smi on a node"
        lines.append(f"gpu_memory_gb: {known or 80}  # {remark}")
    lines.append(
        f"minutes: {limit}  # the most that the partition allows"
        if limit
        else "minutes: 1440  # the partition has no limit; a shorter job starts sooner"
    )
    lines += ["slurm:", f"  partition: {_text(partition.name)}"]
    if len(site.accounts) == 1:
        lines.append(f"  account: {_text(site.accounts[0])}  # the only one that you may charge")
    elif site.accounts:
        lines.append(f"  account: {_text(site.accounts[0])}  # or {', '.join(map(_text, site.accounts[1:]))}")
    elif site.has_accounting:
        lines.append("  # account: NAME  # if the site charges jobs")
    if shape.gpus:
        lines.append(f"  gres: {_text(gres)}")
    lines += [
        *_containers(site),
        "# setup:  # without a container: what makes `python` the one to train with",
        "#   - module load cuda",
        "# shared_paths: [/shared]  # models, data and caches that every node sees",
    ]
    return "\n".join(lines) + "\n"


def _containers(site: Site) -> Iterator[str]:
    runtime = "pyxis" if site.has_pyxis else "apptainer" if site.apptainer else None
    if runtime is None:
        yield "# Neither pyxis nor apptainer was found on this machine; the nodes may have one."
    else:
        yield f"# {'srun starts containers (pyxis)' if site.has_pyxis else f'`{site.apptainer}` is here'}:"
    yield "# container:"
    yield f"#   runtime: {runtime or 'apptainer'}"
    yield "#   image: nvcr.io#nvidia/nemo-rl:v0.7.0" if runtime == "pyxis" else "#   image: /shared/nemo-rl.sif"


def _shape(shape: Shape) -> str:
    gpus = f"{shape.gpus} GPUs of type `{shape.gpu_type}`" if shape.gpu_type else f"{shape.gpus} GPUs"
    return f"{gpus if shape.gpus else 'no GPU'}, {shape.cpus} CPUs and {shape.memory_mb / 1024:,.0f} GiB of memory each"


def _gpu_gib(gpu_type: str) -> int | None:
    if stated := re.search(r"(\d+)gb", gpu_type.lower()):  # `nvidia_a100-sxm4-80gb`, as AutoDetect names them
        return int(stated[1])
    words = re.split(r"[^a-z0-9]+", gpu_type.lower())
    return next((size for name, size in GPU_GIB.items() if name in words), None)


def _text(value: str) -> str:
    """A scalar of YAML that means exactly the text."""
    is_plain = re.fullmatch(r"[A-Za-z][A-Za-z0-9_.:-]*[A-Za-z0-9_]|[A-Za-z]", value)
    return value if is_plain and value.lower() not in ("true", "false", "null") else json.dumps(value)


def _settings(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        name, separator, value = line.partition("=")
        if separator:
            yield name.strip(), value.strip()


def _has_pyxis() -> bool:
    try:
        return any("--container-image" in line for line in ask("srun", "--help"))
    except Unreachable:
        return False


def _accounts() -> tuple[str, ...]:
    """Best effort: not every site lets its users ask."""
    which = (f"user={getpass.getuser()}", "format=account")
    try:
        return tuple(sorted(set(ask("sacctmgr", "--noheader", "--parsable2", "show", "associations", *which))))
    except Unreachable:
        return ()


def _partitions(lines: Iterable[str]) -> Iterator[Partition]:
    """In the order of sinfo; a node is in a partition once, whatever the number of its lines."""
    found: dict[str, dict[str, list[str]]] = {}
    for line in lines:
        node, partition, *rest = line.split("|", 8)
        if len(rest) == 7:
            found.setdefault(partition, {})[node] = rest
    for name, nodes in found.items():
        shapes = Counter(_read_shape(gres, cpus, memory) for gres, cpus, memory, *_ in nodes.values())
        first = next(iter(nodes.values()))
        features = {f for node in nodes.values() if node[6] != "(null)" for f in node[6].split(",")}
        down = ("down", "drain", "fail", "unk", "inval", "maint", "boot", "powe")
        yield Partition(
            name=name.removesuffix("*"),
            is_default=name.endswith("*"),
            shapes=tuple(sorted(shapes.items(), key=lambda s: (-s[0].gpus * s[1], -s[1], s[0].gpu_type))),
            num_up=sum(not node[5].lower().startswith(down) and not node[5].endswith("*") for node in nodes.values()),
            max_minutes=_minutes(first[3]),
            max_nodes=_most(first[4]),
            features=tuple(sorted(features)),
        )


def _read_shape(gres: str, cpus: str, memory: str) -> Shape:
    gpus = re.findall(r"(?:^|,)gpu(?::([^:,(]*[^:,(0-9][^:,(]*))?:(\d+)", gres)
    types = {name for name, _ in gpus}
    return Shape(
        gpus=sum(int(number) for _, number in gpus),
        gpu_type=types.pop() if len(types) == 1 else "",
        cpus=int(cpus.rstrip("+") or 0),
        memory_mb=int(memory.rstrip("+") or 0),
    )


def _minutes(text: str) -> int | None:
    """Slurm's `days-hours:minutes:seconds`, `hours:minutes:seconds` or `minutes:seconds`; None for no limit."""
    days, _, clock = text.rpartition("-")
    parts = clock.split(":")
    if not all(part.isdecimal() for part in parts) or (days and not days.isdecimal()):
        return None
    hours, minutes = (int(parts[0]), int(parts[1])) if len(parts) == 3 else (0, int(parts[0]))
    return (int(days or 0) * 24 + hours) * 60 + minutes


def _most(text: str) -> int | None:
    """The upper end of sinfo's job size: `1-infinite`, `1-4`, `4`."""
    last = text.rpartition("-")[2]
    return int(last) if last.isdecimal() else None
