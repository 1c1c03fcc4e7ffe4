"""Python, packages, GPUs, disks and caches of this machine."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from ltrl.doctor.finding import Finding, Mark, found_or, said
from ltrl.doctor.wanted import Wanted
from ltrl.state import state_dir

__all__ = ["disks", "gpus", "hub", "packages", "python"]

GIB = 2**30
LEAST_FREE_GIB = 10
"""Less is full soon: a checkpoint of a 4B model with its optimizer has 50 GiB."""


def python(wanted: Wanted) -> Iterator[Finding]:  # noqa: ARG001
    """This Python, and ltrl."""
    version = platform.python_version()
    is_known = (3, 11) <= sys.version_info[:2] <= (3, 13)
    fix = "" if is_known else "install Python 3.11, 3.12 or 3.13, and ltrl in it"
    yield Finding("python", "Python", found_or(is_known, "ltrl"), f"{version}, {sys.executable}", "ltrl", fix)
    yield Finding("python", "ltrl", "ok", _version("ltrl") or "not installed: run from its sources", "everything")


def packages(wanted: Wanted) -> Iterator[Finding]:
    """Each extra of ltrl with the packages that it brings, and those of a version that it does not take."""
    for extra, requirements in _extras().items():
        absent = [r for r in requirements if _version(_name(r)) is None]
        others = [f"{_name(r)} {_version(_name(r))}, not {_range(r)}" for r in requirements if not _fits(r)]
        needed = wanted.extras.get(extra, "")
        shown = ", ".join(f"{_name(r)} {_version(_name(r))}" for r in requirements)
        found = "; ".join([f"not installed: {', '.join(map(_name, absent))}"] * bool(absent) + others)
        fix = f"pip install 'ltrl[{extra}]'" if found else ""
        yield Finding("packages", f"ltrl[{extra}]", found_or(not found, needed), found or shown, needed, fix)


def gpus(wanted: Wanted) -> Iterator[Finding]:
    """NVIDIA's GPUs and driver, the CUDA that it offers, and whether PyTorch can use them."""
    needed = f"{wanted.gpus} on each node of `{wanted.cluster_name}`" if wanted.gpus else ""
    fields = "--query-gpu=name,memory.total,memory.free,driver_version"
    listed = said("nvidia-smi", fields, "--format=csv,noheader,nounits")
    cards = [line.split(", ") for line in (listed or "").splitlines() if line.count(", ") == 3]
    if not cards:
        fix = "install NVIDIA's driver, or choose a cluster with GPUs: `--cluster NAME`" if needed else ""
        yield Finding("gpus", "GPUs", found_or(False, needed), "none: nvidia-smi finds no GPU", needed, fix)
        return
    shown = ", ".join(
        f"{name} ({int(total) / 1024:.0f} GiB, {int(free) / 1024:.0f} free)" for name, total, free, _ in cards
    )
    has_enough = len(cards) >= wanted.gpus
    fix = "" if has_enough else f"`gpus_per_node: {len(cards)}` in the profile"
    yield Finding("gpus", "GPUs", found_or(has_enough, needed or "-"), f"{len(cards)}: {shown}", needed, fix)
    cuda = re.search(r"CUDA Version: ([\d.]+)", said("nvidia-smi") or "")
    offered = f", CUDA up to {cuda[1]}" if cuda else ""
    yield Finding("gpus", "driver", "ok", f"{cards[0][3]}{offered}", needed)
    torch = _version("torch")
    if torch and torch.endswith("+cpu"):
        fix = "pip install --force-reinstall torch, from an index with the CUDA builds"
        mark: Mark = "missing" if needed and wanted.trains_here else "absent"
        yield Finding("gpus", "PyTorch for CUDA", mark, f"torch {torch} uses no GPU", needed, fix)


def disks(wanted: Wanted) -> Iterator[Finding]:
    """Free space where ltrl writes."""
    runs = wanted.cluster.runs_dir if wanted.cluster and wanted.cluster.runs_dir else "."
    places = {"runs": Path(runs).expanduser(), "ltrl's state": state_dir(), "Hugging Face's cache": _hub_home()}
    for name, path in places.items():
        there = next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
        usage = shutil.disk_usage(there)
        is_enough = usage.free >= LEAST_FREE_GIB * GIB
        can_write = os.access(there, os.W_OK)
        found = f"{usage.free / GIB:,.0f} of {usage.total / GIB:,.0f} GiB free, {path}"
        fix = f"df -h {there}" if not is_enough else ""
        if not can_write:
            found, fix = f"not writable: {there}", f"ls -ld {there}"
        mark: Mark = "ok" if is_enough and can_write else "missing" if name == "runs" else "unsure"
        yield Finding("disk", name, mark, found, "checkpoints and metrics" if name == "runs" else "", fix)


def hub(wanted: Wanted) -> Iterator[Finding]:
    """The cache of the Hugging Face hub, and the spec's model in it."""
    home = _hub_home()
    kept = sorted(path.name.removeprefix("models--").replace("--", "/") for path in home.glob("hub/models--*"))
    yield Finding("hub", "cache", "ok" if home.is_dir() else "absent", f"{len(kept)} models, {home}")
    if wanted.hub_model is None:
        return
    is_offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
    needed = f"`model.base: {wanted.hub_model}`"
    if wanted.hub_model in kept:
        yield Finding("hub", wanted.hub_model, "ok", "in the cache", needed)
    else:
        fix = f"{'HF_HUB_OFFLINE=0 ' if is_offline else ''}hf download {wanted.hub_model}"
        mark: Mark = "missing" if is_offline and wanted.trains_here else "unsure"
        said_ = "not in the cache of this machine" + (", and HF_HUB_OFFLINE is set" if is_offline else "")
        yield Finding("hub", wanted.hub_model, mark, said_, needed, fix)


def _hub_home() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return Path(os.environ.get("HF_HOME") or cache / "huggingface").expanduser()


def _extras() -> dict[str, list[str]]:
    """What each extra brings, as `name>=version`; nothing where ltrl is not installed."""
    try:
        declared = metadata.requires("ltrl") or []
    except metadata.PackageNotFoundError:
        return {}
    found: dict[str, list[str]] = {}
    for line in declared:
        requirement, _, marker = line.partition(";")
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", marker)
        is_ours = extra and extra[1] not in ("dev", "nemo") and not ("linux" in marker and sys.platform != "linux")
        if extra and is_ours:
            found.setdefault(extra[1], []).append(requirement.strip())
    return found


def _name(requirement: str) -> str:
    match = re.match(r"[\w.-]+", requirement)
    return match[0] if match else requirement


def _range(requirement: str) -> str:
    return requirement.removeprefix(_name(requirement)).strip()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _fits(requirement: str) -> bool:
    """Whether the installed version is one that the requirement takes; true where that cannot be told."""
    version = _version(_name(requirement))
    try:
        from packaging.requirements import Requirement
    except ModuleNotFoundError:  # comes with every larger package, not with ltrl
        return True
    return version is None or Requirement(requirement).specifier.contains(version, prereleases=True)
