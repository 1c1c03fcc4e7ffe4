"""What a node must have before Ray or the driver starts there: looked at by the job, told by `ltrl status RUN`.

`python3 -m ltrl.preflight …` runs in the job's own environment, where ltrl may be nothing but the payload of the
bundle: only the standard library is imported. It writes one JSON file per node and attempt, prints the first check that
failed, and ends with status 1 when there is one.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["Check", "Report", "main", "reports"]

LOCK = "ltrl.lock.json"
"""The bundle's manifest."""

PATIENCE_S = 20
"""A driver that hangs must not hang the job."""

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that a node must have."""

    name: str
    found: str
    wanted: str
    is_ok: bool


@dataclass(frozen=True, slots=True)
class Report:
    """What one node was found to have."""

    node: str
    checks: tuple[Check, ...]
    seconds: float
    """How long the checks took."""

    @property
    def first_failure(self) -> Check | None:
        """The check that ends the job; None when all passed."""
        return next((check for check in self.checks if not check.is_ok), None)


def reports(attempt_dir: Path) -> tuple[Report, ...]:
    """What the nodes of an attempt reported, by name; a file that a full disk cut short is left out."""
    found = []
    for path in sorted((attempt_dir / "preflight").glob("*.json")):
        with suppress(OSError, ValueError, TypeError, KeyError):
            data = json.loads(path.read_bytes())
            found.append(Report(data["node"], tuple(Check(**c) for c in data["checks"]), data["seconds"]))
    return tuple(found)


def main(arguments: Sequence[str] | None = None) -> int:
    """Checks this node; 0 when everything is there."""
    asked = _parser().parse_args(arguments)
    began = time.monotonic()
    asked.out.mkdir(parents=True, exist_ok=True)
    checks = (
        *_bundle(asked.bundle, asked.bundle_hash),
        *_gpus(asked),
        *_network(asked),
        *(_mount(path) for path in asked.mount),
        *(_free_disk(path, asked.min_free_disk_gb) for path in asked.disk),
        _clock(asked.out, asked.max_clock_skew_seconds),
    )
    report = Report(asked.node, checks, round(time.monotonic() - began, 3))
    draft = asked.out / f".{asked.node}.{os.getpid()}"
    draft.write_text(json.dumps(asdict(report), indent=1) + "\n", encoding="utf-8")
    draft.replace(asked.out / f"{asked.node}.json")
    if failed := report.first_failure:
        sys.stdout.write(f"{failed.name}: {failed.found}, but {failed.wanted} is wanted\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m ltrl.preflight", description="Check this node.")
    parser.add_argument("--node", required=True)
    parser.add_argument("--out", type=Path, required=True, help="directory of the reports")
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--bundle-hash", default="", help="SHA-256 of the manifest as the first node sees it")
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--gpus", type=int, default=0)
    parser.add_argument("--max-gpu-memory-used-mb", type=int, required=True)
    parser.add_argument("--driver", help="oldest version")
    parser.add_argument("--require-nvidia-smi", action="store_true")
    parser.add_argument("--network-interface")
    parser.add_argument("--mount", action="append", default=[], help="must be there")
    parser.add_argument("--disk", action="append", default=[], help="must have free space")
    parser.add_argument("--min-free-disk-gb", type=float, required=True)
    parser.add_argument("--max-clock-skew-seconds", type=float, required=True)
    return parser


def _bundle(bundle: Path, expected: str) -> Iterator[Check]:
    """The files that the job runs from are those that were compiled, and the same on every node."""
    try:
        manifest = (bundle / LOCK).read_bytes()
        digest = hashlib.sha256(manifest).hexdigest()
        listed: dict[str, str] = json.loads(manifest)["files"]
        changed = [n for n, d in listed.items() if hashlib.sha256((bundle / n).read_bytes()).hexdigest() != d]
    except (OSError, ValueError, KeyError) as error:
        yield Check("bundle", f"it cannot be read ({error})", "as compiled", False)
        return
    if changed:
        yield Check("bundle", f"`{changed[0]}` is not as compiled", "as compiled", False)
    else:
        yield Check("bundle", digest[:12], expected[:12] or "as compiled", digest == (expected or digest))


def _gpus(asked: argparse.Namespace) -> Iterator[Check]:
    if not asked.gpus:
        return
    seen = _nvidia_smi()
    if seen is None:
        if asked.require_nvidia_smi or asked.driver:
            yield Check("GPUs", "no answer from `nvidia-smi`", str(asked.gpus), False)
            return
        number, how = _given()
        yield Check("GPUs", f"{number} by {how}", str(asked.gpus), number == asked.gpus)
        return
    yield Check("GPUs", str(len(seen)), str(asked.gpus), len(seen) == asked.gpus)
    used = max((mb for mb, _ in seen), default=0)
    most = asked.max_gpu_memory_used_mb
    yield Check("GPU memory in use", f"{used} MiB", f"at most {most} MiB", used <= most)
    driver = min((version for _, version in seen), key=_version, default="none")
    is_new = asked.driver is None or _version(driver) >= _version(asked.driver)
    yield Check("driver", driver, asked.driver or "any", is_new)


def _nvidia_smi() -> list[tuple[int, str]] | None:
    """(memory in use, driver version) of each GPU that the job may use; None without an answer."""
    query = ("nvidia-smi", "--query-gpu=index,uuid,memory.used,driver_version", "--format=csv,noheader,nounits")
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
        rows = [[cell.strip() for cell in line.split(",")] for line in answer.stdout.splitlines() if line.strip()]
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        mine = [row for row in rows if row[0] in visible or row[1] in visible] if visible != [""] else rows
        return [(int(row[2]), row[3]) for row in mine]
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None


def _given() -> tuple[int, str]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    if visible:
        return len(visible.split(",")), "CUDA_VISIBLE_DEVICES"
    return sum(bool(re.fullmatch(r"nvidia\d+", p.name)) for p in Path("/dev").iterdir()), "/dev"


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text))


def _network(asked: argparse.Namespace) -> Iterator[Check]:
    wanted = asked.network_interface or os.environ.get("NCCL_SOCKET_IFNAME", "")
    if asked.nodes == 1 and not wanted:
        return
    up = [name for _, name in socket.if_nameindex() if _is_up(name)]
    fitting = [name for name in up if _is_chosen(name, wanted)]
    found = fitting or up
    yield Check("network", ",".join(found) or "nothing up", wanted or "an interface beside lo", bool(fitting))


def _is_chosen(name: str, pattern: str) -> bool:
    """As NCCL reads NCCL_SOCKET_IFNAME: prefixes, `=` whole names, `^` all but these."""
    if not pattern:
        return name != "lo"
    kind, names = (pattern[0], pattern[1:]) if pattern[0] in "=^" else ("", pattern)
    hit = any(name == n if kind == "=" else name.startswith(n) for n in names.split(",") if n)
    return not hit if kind == "^" else hit


def _is_up(name: str) -> bool:
    """Whether an interface is up and has a carrier (SIOCGIFFLAGS: IFF_UP and IFF_RUNNING)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket, suppress(OSError):
        answer = fcntl.ioctl(any_socket, 0x8913, struct.pack("16sh14x", name.encode()[:15], 0))
        flags = int(struct.unpack("16sh14x", answer)[1])
        return bool(flags & 0x1) and bool(flags & 0x40)
    return False


def _mount(path: str) -> Check:
    return Check("mounts", path if Path(path).exists() else f"no {path}", path, Path(path).exists())


def _free_disk(path: str, least_gb: float) -> Check:
    try:
        free = shutil.disk_usage(path).free / GIB
    except OSError as error:
        return Check("free disk", f"no {path} ({(error.strerror or str(error)).lower()})", path, False)
    return Check("free disk", f"{free:.1f} GiB in {path}", f"at least {least_gb:g} GiB", free >= least_gb)


def _clock(directory: Path, most_s: float) -> Check:
    """The clock of the run directory's disk is the one that all nodes share."""
    probe = directory / f".clock.{os.uname().nodename}.{os.getpid()}"
    probe.write_bytes(b"?")
    skew = time.time() - probe.stat().st_mtime
    probe.unlink()
    return Check("clock", f"{skew:+.1f} s from the disk's", f"at most {most_s:g} s", abs(skew) <= most_s)


if __name__ == "__main__":
    sys.exit(main())
