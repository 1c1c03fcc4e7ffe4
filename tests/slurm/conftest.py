"""A real Slurm of four fake nodes with 8 GPUs each, for all tests: `apt-get install slurm-wlm munge`, and root."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))  # the helpers of the tests beside this directory

HERE = Path(__file__).parent
CLIENTS = ("sbatch", "squeue", "scancel", "sacct", "scontrol", "sinfo", "srun", "sacctmgr")
HAS_CGROUPS = Path("/sys/fs/cgroup/memory").is_dir()
HAS_SLURM = os.geteuid() == 0 and all(map(shutil.which, ("slurmctld", "slurmd", "munged")))


def up(prefix: Path, *options: str) -> None:
    """Starts a cluster; without options what is missing of one that was started."""
    known = prefix / "options"
    if options:
        known.write_text("\0".join(options))
    subprocess.run(["bash", HERE / "up.sh", prefix, *known.read_text().split("\0")], check=True, capture_output=True)


def give_up_soon(prefix: Path) -> None:
    """Lets clients wait 2 s instead of 10 s for a controller that is down; `up` takes it back."""
    with (prefix / "etc" / "slurm.conf").open("a") as file:
        file.write("MessageTimeout=2\n")


def running(*options: str, keep: Callable[[Path], None] = lambda _: None) -> Iterator[Path]:
    """A cluster while it is needed, in a directory with a short name, for the sake of its sockets."""
    if not HAS_SLURM:
        pytest.skip("needs root and the packages slurm-wlm and munge")
    prefix = Path(tempfile.mkdtemp(prefix="ltrl-", dir="/tmp"))
    try:
        keep(prefix)
        up(prefix, *options)
        yield prefix
    finally:
        subprocess.run(["bash", HERE / "down.sh", prefix], check=False, capture_output=True)
        subprocess.run(["umount", prefix / "small"], check=False, capture_output=True)
        shutil.rmtree(prefix, ignore_errors=True)


@pytest.fixture(scope="session")
def four_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cluster: `small` in it is a disk of 2 MiB that all nodes see; it takes pyxis' options where gcc is."""

    def disk(prefix: Path) -> None:  # before the nodes start, whose mounts are their own
        (prefix / "small").mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", prefix / "small"], check=True)

    options = ["nodes=4", "gpus=8", "iso=net"]
    if plugin := fake_pyxis(tmp_path_factory.mktemp("spank")):
        options.append(f"spank={plugin}")
    yield from running(*options, keep=disk)


@pytest.fixture(scope="session")
def strict_node() -> Iterator[Path]:
    """One node with accounting, where an account must exist, and memory has a limit on a machine with cgroups v1."""
    if not all(map(shutil.which, ("slurmdbd", "mariadbd"))):
        pytest.skip("needs the packages slurmdbd and mariadb-server-core")
    cgroups = f"cgroup={int(HAS_CGROUPS)}"
    yield from running("nodes=1", "gpus=8", cgroups, "acct=dbd", "extra=AccountingStorageEnforce=associations")


def fake_pyxis(directory: Path) -> Path | None:
    """The plugin that takes pyxis' options and runs no container; None without gcc and libslurm-dev."""
    plugin = directory / "fake_pyxis.so"
    if not shutil.which("gcc") or not Path("/usr/include/slurm/spank.h").is_file():
        return None
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", plugin, HERE / "fake_pyxis.c"], check=True, capture_output=True)
    return plugin


def clients(cluster: Path, directory: Path, patch: pytest.MonkeyPatch) -> None:
    """Puts Slurm's clients on the PATH, so that they reach a cluster; a job is inside already."""
    directory.mkdir()
    for name in CLIENTS:
        path = directory / name
        real = shutil.which(name)
        path.write_text(
            f'#!/bin/bash\n[[ -z ${{SLURM_CONF:-}} ]] || exec {real} "$@"\nexec {cluster}/enter {real} "$@"\n'
        )
        path.chmod(0o755)
    patch.setenv("PATH", f"{directory}{os.pathsep}{os.environ['PATH']}")
    patch.delenv("PYTEST_CURRENT_TEST")


@pytest.fixture
def slurm(four_nodes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cluster, with its clients on the PATH and an index of runs of its own."""
    monkeypatch.setenv("LTRL_STATE_DIR", str(tmp_path / "state"))
    clients(four_nodes, tmp_path / "clients", monkeypatch)
    return four_nodes


@pytest.fixture
def strict_slurm(strict_node: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The strict cluster in the same way."""
    monkeypatch.setenv("LTRL_STATE_DIR", str(tmp_path / "state"))
    clients(strict_node, tmp_path / "clients", monkeypatch)
    return strict_node
