"""Whether the files of a checkpoint are all there and whole.

safetensors   8 bytes: length of the JSON header, which says where the tensors end; `*.index.json` names every file
torch.save    a zip archive with its directory at the end
DCP           `.metadata` names each shard, `*.distcp`, with its length (torch.distributed.checkpoint)
Megatron      `iter_NNNNNNN/metadata.json`, `.metadata` and shards as in DCP, `latest_checkpointed_iteration.txt`
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from ltrl.checkpoints.pickled import shards

__all__ = ["INFO", "SUMS", "Layout", "layout", "problems", "sizes", "write_sums"]

Layout = Literal["safetensors", "torch", "dcp", "megatron", "unknown"]

INFO = "training_info.json"
"""What a checkpoint says of itself; its last word."""

SUMS = "sha256sums.txt"
"""Hashes of a checkpoint's other files but `training_info.json`, whose fingerprint is another one in a fork; as
`sha256sum` writes and checks them.
"""

MAX_HEADER = 100_000_000
"""Bytes of a header; the limit of safetensors itself."""

TORCH = (".pt", ".pth", ".bin")


def sizes(directory: Path) -> dict[str, int]:
    """Bytes of every file below a directory, by its path in it; those that vanish meanwhile are left out.

    Raises OSError for a directory that cannot be read, which is not the same as one that is not there.
    """
    found: dict[str, int] = {}
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(directory / folder) as entries:
                for entry in entries:
                    if entry.is_dir():
                        folders.append(f"{folder}{entry.name}/")
                    else:
                        found[f"{folder}{entry.name}"] = entry.stat().st_size
        except FileNotFoundError:
            continue
    return found


def layout(files: dict[str, int]) -> Layout:
    """What the weights are, by the names of the files."""
    weights = [name for name in files if name.startswith("policy/weights/")]
    if any("/iter_" in name for name in weights):
        return "megatron"
    if any(name.endswith(".distcp") or name.rpartition("/")[2] == ".metadata" for name in weights):
        return "dcp"
    if any(name.endswith(".safetensors") for name in weights):
        return "safetensors"
    return "torch" if any(name.endswith(TORCH) for name in weights) else "unknown"


def problems(directory: Path, files: dict[str, int], *, deep: bool = False) -> list[str]:
    """Everything that is wrong with the files of a checkpoint; the first look reads headers and indices alone.

    `deep` reads every byte that can be checked: indices of shards, archives, hashes where they were recorded. A
    checkpoint without `policy/` is of an engine that is not known here: nothing is wrong with it that could be told.
    Raises OSError for a file that cannot be read, which does not make it damaged.
    """
    wrong = [f"`{name}` is empty" for name, size in files.items() if size == 0 and _must_hold_something(name)]
    if any(name.startswith("policy/") for name in files) and layout(files) == "unknown":
        wrong.append("`policy/weights` has no weights")
    for name in sorted(files):
        if files[name] == 0:
            continue
        path = directory / name
        reason = None
        if name.endswith(".safetensors"):
            reason = _safetensors(path, files[name])
        elif name.endswith(TORCH):
            reason = _torch(path, deep=deep)
        elif name.endswith(".index.json"):
            wrong += _missing_of_index(path, name, files)
        if reason:
            wrong.append(f"`{name}` {reason}")
    wrong += _distributed(directory, files, deep=deep)
    return wrong + (list(_changed(directory, files)) if deep and SUMS in files else [])


def write_sums(directory: Path) -> None:
    """Records the hashes of a checkpoint's files as they are now."""
    lines = []
    for name in sorted(sizes(directory)):
        if name not in (INFO, SUMS):
            with (directory / name).open("rb") as file:
                lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {name}\n")
    (directory / SUMS).write_text("".join(lines), encoding="utf-8")


def _must_hold_something(name: str) -> bool:
    return name.endswith((".safetensors", ".distcp", ".metadata", ".json", *TORCH))


def _safetensors(path: Path, size: int) -> str | None:
    with path.open("rb") as file:
        head = file.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else MAX_HEADER + 1
        if length > MAX_HEADER:
            return "has no header"
        raw = file.read(length)
    try:
        tensors = json.loads(raw)
        ends = [tensor["data_offsets"][1] for name, tensor in tensors.items() if name != "__metadata__"]
        should = 8 + length + max(ends, default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return "has a damaged header"
    return None if size == should else f"has {size:,} bytes, its header says {should:,}"


def _torch(path: Path, *, deep: bool) -> str | None:
    with path.open("rb") as file:
        if file.read(1) == b"\x80":  # a plain pickle, as torch wrote before 1.6
            return None
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip() if deep else None
    except (zipfile.BadZipFile, EOFError):
        return "is cut short"
    return f"is damaged in `{damaged}`" if damaged else None


def _missing_of_index(path: Path, name: str, files: dict[str, int]) -> Iterator[str]:
    folder = name.rpartition("/")[0]
    try:
        named = set(json.loads(path.read_bytes())["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError):
        yield f"`{name}` is damaged"
        return
    for file in sorted(named):
        if f"{folder}/{file}".lstrip("/") not in files:
            yield f"`{folder}/{file}` is missing, `{name}` names it"


def _distributed(directory: Path, files: dict[str, int], *, deep: bool) -> Iterator[str]:
    folders = {name.rpartition("/")[0] for name in files if name.endswith(".distcp")}
    iterations = {name.partition("/iter_")[0] for name in files if "/iter_" in name}
    for folder in sorted(folders):
        if f"{folder}/.metadata" not in files:
            yield f"`{folder}/.metadata` is missing, the index of the shards"
            continue
        if not deep:
            continue
        try:
            wanted = shards((directory / folder / ".metadata").read_bytes())
        except ValueError as error:
            yield f"`{folder}/.metadata` is damaged: {error}"
            continue
        for shard, length in sorted(wanted.items()):
            size = files.get(f"{folder}/{shard}")
            if size is None:
                yield f"`{folder}/{shard}` is missing"
            elif size < length:
                yield f"`{folder}/{shard}` has {size:,} bytes, the index says {length:,}"
    for weights in sorted(iterations):
        own = {name[len(weights) + 1 :].partition("/")[0] for name in files if name.startswith(f"{weights}/iter_")}
        for iteration in sorted(own):
            inside = f"{weights}/{iteration}"
            if f"{inside}/metadata.json" not in files:
                yield f"`{inside}/metadata.json` is missing"
            if not any(folder == inside for folder in folders):
                yield f"`{inside}` has no shards (`*.distcp`)"
        tracker = f"{weights}/latest_checkpointed_iteration.txt"
        if tracker in files:
            said = (directory / tracker).read_text(errors="replace").strip()
            if not said.isdecimal() or f"iter_{int(said):07d}" not in own:
                yield f"`{tracker}` names iteration `{said}`, which is not there"


def _changed(directory: Path, files: dict[str, int]) -> Iterator[str]:
    for line in (directory / SUMS).read_text(errors="replace").splitlines():
        wanted, _, name = line.partition("  ")
        if name not in files:
            yield f"`{name}` is missing, `{SUMS}` names it"
            continue
        with (directory / name).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != wanted:
                yield f"`{name}` is not as it was written: its hash differs"
