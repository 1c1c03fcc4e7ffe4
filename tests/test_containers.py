"""Jobs in real containers, with podman: what they see, how they end, and that no name becomes a command.

`apt-get install podman crun catatonit`, and root. The image is made here, of two directories and busybox; what else it
takes to run Python is mounted.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from launching import HOSTILE, STAND_IN, make_bundle, until

from ltrl import runs, state
from ltrl import submit as launcher
from ltrl.state import State

NEEDED = ("podman", "crun", "catatonit")

pytestmark = [
    pytest.mark.skipif(
        os.geteuid() != 0 or not all(map(shutil.which, NEEDED)), reason="needs root and podman, crun and catatonit"
    ),
    pytest.mark.xdist_group("podman"),
]

IMAGE = "localhost/ltrl-test:1"
PYTHON = os.path.realpath(sys.executable)
SHOWN = ["/usr", "/lib", "/lib64", "/bin", sys.base_prefix, str(Path(__file__).parent)]
MOUNTS = [f"{path}:{path}:ro" for path in dict.fromkeys(SHOWN) if Path(path).exists()]


@pytest.fixture(scope="module")
def podman(tmp_path_factory):
    """A folder with podman as this machine can run it: its own storage, no cgroups, limits as they are."""
    home = tmp_path_factory.mktemp("podman")
    storage = {"driver": "vfs", "graphroot": f"{home}/root", "runroot": f"{home}/run"}
    lines = ["[storage]", *(f"{name} = {json.dumps(value)}" for name, value in storage.items())]
    (home / "storage.conf").write_text("\n".join(lines))
    (home / "containers.conf").write_text(
        '[containers]\ncgroups = "disabled"\ndefault_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]\n'
        '[engine]\ncgroup_manager = "cgroupfs"\nruntime = "crun"\nevents_logger = "none"\n'
    )
    client = home / "bin" / "podman"
    client.parent.mkdir()
    client.write_text(  # crun refuses a machine with both versions of cgroups
        f"#!/bin/bash\nexport CONTAINERS_CONF={home}/containers.conf CONTAINERS_STORAGE_CONF={home}/storage.conf\n"
        "exec unshare --mount sh -c 'umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$@\"' sh "
        f'{shutil.which("podman")} "$@"\n'
    )
    client.chmod(0o755)
    (home / "image" / "tmp").mkdir(parents=True)
    subprocess.run(["tar", "-C", home / "image", "-cf", home / "image.tar", "."], check=True)
    subprocess.run([client, "import", "--quiet", home / "image.tar", IMAGE], check=True, capture_output=True)
    yield client
    left = subprocess.run([client, "ps", "--all", "--quiet"], capture_output=True, text=True, check=True).stdout
    subprocess.run([client, "rmi", "--all", "--force"], check=False, capture_output=True)
    assert left == ""


@pytest.fixture
def start(podman, tmp_path, monkeypatch):
    """Submits the stand-in driver in a container."""
    monkeypatch.setenv("LTRL_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("PATH", f"{podman.parent}{os.pathsep}{os.environ['PATH']}")

    def submit(*arguments, project=tmp_path, mounts=(), **cluster):
        container = {"runtime": "podman", "image": IMAGE, "mounts": [*MOUNTS, *mounts]}
        command = [PYTHON, STAND_IN, "--steps", "4", *arguments]
        bundle = make_bundle(project, command, cluster={"container": container, **cluster})
        return launcher.submit(bundle, project=project)

    return submit


def over(run):
    return until(lambda: (row := runs.status(state.read_run(run.path))).state.is_finished and row, 60)


def said(run):
    return json.loads((run.attempt_dir(1) / "stdout.log").read_text().splitlines()[0])


def containers(podman):
    return subprocess.run([podman, "ps", "--all", "--quiet"], capture_output=True, text=True, check=True).stdout.split()


def test_a_job_sees_its_run_its_environment_and_its_mounts(start, tmp_path):
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "data").write_text("1")
    (tmp_path / "seen.py").write_text(
        "import os, pathlib\n"
        "print(sorted(os.listdir('/')), pathlib.Path('/x y/data').read_text(), os.environ['TOLD'], os.getuid())\n"
    )
    run = start(mounts=[f"{tmp_path / 'a b'}:/x y:ro"], environment={"TOLD": "a $b"})
    assert (over(run).state, over(run).step) == (State.COMPLETED, 4)
    told = said(run)
    assert (told["cwd"], told["environment"]["TOLD"]) == (str(run.path), "a $b")
    assert {name: told["environment"][name] for name in ("LTRL_RUN_ID", "LTRL_ATTEMPT", "LTRL_PROJECT_DIR")} == {
        "LTRL_RUN_ID": run.id, "LTRL_ATTEMPT": "1", "LTRL_PROJECT_DIR": str(tmp_path),
    }  # fmt: skip
    assert (run.path / "checkpoints" / "step_4" / "training_info.json").stat().st_uid == os.getuid()


def test_its_status_is_that_of_the_job(start):
    row = over(start("--die-at", "3"))
    assert (row.state, row.reason, row.step) == (State.FAILED, "the driver ended with status 1", 3)


def test_an_image_that_is_not_there_fails_the_job(start, monkeypatch):
    monkeypatch.setattr("test_containers.IMAGE", "localhost/nobody/has-this:1")
    run = start()
    row = over(run)
    assert (row.state, row.reason) == (State.FAILED, "the driver ended with status 125")
    assert "has-this" in (run.attempt_dir(1) / "stderr.log").read_text()


def test_cancelling_a_run_ends_its_container(start, podman):
    run = start("--seconds", "30")
    until(lambda: containers(podman) and (run.path / "logs" / "exp_001").exists(), 30)
    runs.cancel(state.read_run(run.path))
    assert over(run).state is State.CANCELLED
    assert containers(podman) == []


def test_a_client_that_is_killed_leaves_no_container(start, podman):
    run = start("--seconds", "30")
    until(lambda: containers(podman) and (run.path / "logs" / "exp_001").exists(), 30)
    cidfile = os.fsencode(f"--cidfile={run.attempt_dir(1)}/container_id")
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        words = path.read_bytes().split(b"\0") if path.exists() else []
        if cidfile in words and words[0].endswith(b"podman"):
            os.kill(int(path.parent.name), signal.SIGKILL)
    row = over(run)
    assert (row.state, row.reason) == (
        State.FAILED, "the driver was killed (SIGKILL), most likely for lack of memory"
    )  # fmt: skip
    until(lambda: containers(podman) == [], 10)


def test_hostile_names_stay_names(start, tmp_path):
    project = tmp_path / "".join(c for c in HOSTILE if c not in "\n/%\\:,")
    folder = project / "data `x` $(touch PWNED)"
    folder.mkdir(parents=True)
    run = start("--", HOSTILE, project=project, mounts=[f"{folder}:/mnt/$(touch PWNED)"], environment={"TOLD": HOSTILE})
    assert over(run).state is State.COMPLETED
    assert (said(run)["arguments"], said(run)["environment"]["TOLD"]) == ([HOSTILE], HOSTILE)
    assert not list(tmp_path.rglob("PWNED"))
