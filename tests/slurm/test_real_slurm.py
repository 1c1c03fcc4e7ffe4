"""The launch on a real Slurm of two fake nodes with 8 GPUs each: `apt-get install slurm-wlm munge`, and root."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))  # the helpers of the tests beside this directory
from launching import HOSTILE, make_bundle, stand_in, until

from ltrl import runs, state
from ltrl import submit as launcher
from ltrl.errors import Code, LtrlError
from ltrl.state import State

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(
        os.geteuid() != 0 or not all(map(shutil.which, ("slurmctld", "slurmd", "munged"))),
        reason="needs root and the packages slurm-wlm and munge",
    ),
]
HERE = Path(__file__).parent
BIN = str(Path(sys.executable).parent)


@pytest.fixture(scope="module")
def cluster():
    """A cluster whose clients are run in its network namespace; a short name, for the sake of its sockets."""
    prefix = Path(tempfile.mkdtemp(prefix="ltrl-", dir="/tmp"))
    try:
        subprocess.run(
            ["bash", HERE / "up.sh", prefix, "nodes=2", "gpus=8", "iso=net"], check=True, capture_output=True
        )
        yield prefix
    finally:
        subprocess.run(["bash", HERE / "down.sh", prefix, "--purge"], check=False, capture_output=True)
        shutil.rmtree(prefix, ignore_errors=True)


@pytest.fixture
def slurm(cluster, tmp_path, monkeypatch):
    clients = tmp_path / "clients"
    clients.mkdir()
    for name in ("sbatch", "squeue", "scancel", "sacct", "scontrol"):
        path = clients / name
        real = shutil.which(name)  # a job is inside already
        path.write_text(
            f'#!/bin/bash\n[[ -z ${{SLURM_JOB_ID:-}} ]] || exec {real} "$@"\nexec {cluster}/enter {real} "$@"\n'
        )
        path.chmod(0o755)
    monkeypatch.setenv("LTRL_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("PATH", f"{clients}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    return cluster


def start(
    project, *arguments, command=None, spec="quickstart.yaml", nodes=1, setup=None, environment=None, request=None
):
    cluster = {
        "executor": "slurm",
        "nodes": nodes,
        "gpus_per_node": 8,
        "minutes": 10,
        "setup": setup or [],
        "environment": environment or {},
        "slurm": request or {},
    }
    bundle = make_bundle(project, command or stand_in(*arguments), cluster=cluster, spec=spec)
    return launcher.submit(bundle, project=project)


def finished(run, seconds=60.0):
    return until(lambda: (row := runs.status(state.read_run(run.path))).state.is_finished and row, seconds)


def test_a_job_runs_to_its_target_with_hostile_names_everywhere(slurm, tmp_path):
    project = tmp_path / "".join(c for c in HOSTILE if c not in "\n/%\\")  # these are refused
    request = {"extra": [f"--wckey={shlex.quote(HOSTILE.replace(chr(10), ' '))}"]}
    run = start(project, "--", HOSTILE, environment={"TOLD": HOSTILE}, request=request)
    row = finished(run)
    assert (row.state, row.reason, row.step) == (State.COMPLETED, None, 4)
    said = (run.attempt_dir(1) / "stdout.log").read_text().splitlines()[0]
    assert json.loads(said)["arguments"] == [HOSTILE]
    assert not list(tmp_path.rglob("PWNED"))


def test_a_running_job_is_cancelled_and_resumed(slurm, tmp_path):
    run = start(tmp_path, "--seconds", "0.5")
    until(lambda: state.last_checkpoint(run.path) == 2, 30)
    runs.cancel(run)
    row = finished(run)
    assert (row.state, row.reason, row.last_checkpoint) == (State.CANCELLED, "cancelled", 2)
    run = start(tmp_path)
    row = finished(run)
    assert (row.state, row.attempt, row.step) == (State.COMPLETED, 2, 4)


def test_a_failing_driver_is_told_with_its_status(slurm, tmp_path):
    row = finished(start(tmp_path, command=["bash", "-c", "exit 7"]))
    assert (row.state, row.reason) == (State.FAILED, "the driver ended with status 7")


def test_what_sbatch_refuses_is_told(slurm, tmp_path):
    with pytest.raises(LtrlError) as caught:
        start(tmp_path, request={"partition": "nowhere"})
    assert caught.value.diagnostics[0].code is Code.SUBMIT_FAILED
    assert "invalid partition specified: nowhere" in str(caught.value)


def test_a_driver_uses_all_gpus_of_a_ray_cluster_of_two_nodes(slurm, tmp_path):
    driver = tmp_path / "driver.py"
    driver.write_text(
        "import ray, time\n"
        "ray.init(address='auto')\n"
        "@ray.remote(num_gpus=8)\n"
        "def where():\n"
        "    import ltrl, socket\n"
        "    time.sleep(1)\n"
        "    return socket.gethostname(), ltrl.__file__\n"
        "print(int(ray.cluster_resources()['GPU']), *sorted(ray.get([where.remote() for _ in range(2)])))\n"
    )
    environment = {"RAY_DEFAULT_OBJECT_STORE_MEMORY_PROPORTION": "0.01", "LTRL_NODE_TMP": "/tmp/ray"}
    command = [f"{BIN}/python", str(driver)]
    setup = [f"PATH={BIN}:$PATH"]
    run = start(tmp_path, command=command, spec="qwen30b_moe.yaml", nodes=2, setup=setup, environment=environment)
    row = finished(run)
    assert (row.state, row.reason) == (State.COMPLETED, None)
    module = f"{run.path}/bundle/payload.zip/ltrl/__init__.py"  # on every node, though ltrl is installed here too
    said = (run.attempt_dir(1) / "stdout.log").read_text().splitlines()[-1]
    assert said == f"16 {('node1', module)} {('node2', module)}"
