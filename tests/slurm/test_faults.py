"""What can be wrong with the cluster around a job, on a real Slurm: each is told, and nothing is lost."""

import os
import re
import shutil
import signal
import sys
from pathlib import Path

import pytest
from conftest import HAS_CGROUPS, give_up_soon, up
from launching import release, until
from starting import client, finished, now, start

from ltrl import jobs, state
from ltrl.errors import Code, LtrlError
from ltrl.state import State

pytestmark = pytest.mark.slurm


def refusal(act):
    with pytest.raises(LtrlError) as caught:
        act()
    return caught.value.diagnostics[0].code, str(caught.value)


def test_a_disk_that_fills_up_is_the_cause(slurm, tmp_path):
    code = "import sys; f = open('rest', 'wb'); [f.write(bytes(4096)) for _ in range(10**6)]"
    runs_dir = str(slurm / "small" / "runs")
    run = start(tmp_path, command=[sys.executable, "-c", code], runs_dir=runs_dir)
    row = finished(run)
    assert (row.state, row.reason) == (State.FAILED, f"the disk of {run.path} is full: the driver ended with status 1")
    (run.path / "rest").unlink()


def test_too_little_space_ends_the_job_before_the_driver(slurm, tmp_path):
    run = start(tmp_path, preflight={"min_free_disk_gb": 10**6})
    row = finished(run)
    assert re.match("node. is not fit for the job: free disk: ", row.reason)
    assert row.reason.endswith(f" GiB in {run.path}, but at least 1e+06 GiB is wanted")
    assert not (run.attempt_dir(1) / "moments").read_text().count("driver started")


@pytest.mark.skipif(not HAS_CGROUPS, reason="needs the memory controller of cgroup v1")
def test_a_job_without_enough_memory_says_so(strict_slurm, tmp_path):
    hog = [sys.executable, "-c", "x = bytearray(10**9)"]
    run = start(tmp_path, command=hog, slurm={"account": "root", "memory": "200M"})
    row = finished(run)
    killed = "the driver was killed (SIGKILL), most likely for lack of memory"
    assert (row.state, row.reason) == (State.OUT_OF_MEMORY, killed)


def test_an_account_that_does_not_exist_is_refused(strict_slurm, tmp_path):
    code, message = refusal(lambda: start(tmp_path, slurm={"account": "nobody"}))
    assert (code, "Invalid account or account/partition combination specified" in message) == (Code.SUBMIT_FAILED, True)


def test_a_drained_partition_refuses_and_drained_nodes_let_wait(slurm, tmp_path):
    client("scontrol", "update", "PartitionName=debug", "State=DRAIN")
    try:
        code, message = refusal(lambda: start(tmp_path / "refused"))
    finally:
        client("scontrol", "update", "PartitionName=debug", "State=UP")
    told = "Required partition not available (inactive or drain)"
    assert (code, told in message) == (Code.SUBMIT_FAILED, True)
    client("scontrol", "update", "NodeName=node[1-4]", "State=DRAIN", "Reason=test")
    try:
        run = start(tmp_path)
        told = ("Nodes required for job are DOWN, DRAINED", "ReqNodeNotAvail")
        row = until(lambda: (r := now(run)).reason and r.reason.startswith(told) and r, 300)
        assert row.state is State.PENDING
    finally:
        client("scontrol", "update", "NodeName=node[1-4]", "State=RESUME")
    assert finished(run).state is State.COMPLETED


def test_without_a_controller_nothing_is_submitted_twice_and_nothing_is_taken_for_finished(slurm, tmp_path):
    run = start(tmp_path / "a", held_at=1)
    until(lambda: (p := run.attempt_dir(1) / "stdout.log").exists() and p.read_text(), 300)
    os.kill(int((slurm / "run" / "slurmctld.pid").read_text()), signal.SIGTERM)
    give_up_soon(slurm)
    try:
        row = until(lambda: (r := now(run)).state is State.UNKNOWN and r, 300)
        assert "Unable to contact slurm controller" in row.reason
        code, message = refusal(lambda: start(tmp_path / "b"))
        assert (code, "Unable to contact slurm controller" in message) == (Code.SUBMIT_FAILED, True)
    finally:
        up(slurm)
        release(run.path)
    assert finished(run).state is State.COMPLETED
    refused = state.read_run(tmp_path / "b" / "runs" / "trial-01234567")
    assert [a.state for a in refused.attempts] == [State.FAILED]
    assert (
        client("squeue", "--noheader", "--states=all", "--format=%k", "--name=trial").count(jobs.mark(run.path, 1)) >= 1
    )


def test_pyxis_gets_its_options_and_the_tasks_get_the_environment(slurm, tmp_path):
    if "fake_pyxis" not in (slurm / "etc" / "plugstack.conf").read_text():
        pytest.skip("needs gcc and libslurm-dev")
    names = ["FAKE_PYXIS_CONTAINER_IMAGE", "FAKE_PYXIS_CONTAINER_MOUNTS", "FAKE_PYXIS_CONTAINER_WORKDIR", "TOLD"]
    code = f"import os; print(*map(os.environ.get, {names}), sep=chr(10))"
    container = {"runtime": "pyxis", "image": "nvcr.io#nvidia/nemo-rl:v0.7.0", "mounts": ["/usr:/usr:ro"]}
    environment = {"TOLD": "a $b"}
    setup = [f"PATH={Path(sys.executable).parent}:$PATH"]  # a real image has ltrl for this engine
    run = start(
        tmp_path, command=[sys.executable, "-c", code], container=container, environment=environment, setup=setup
    )
    finished(run)
    assert (run.attempt_dir(1) / "stdout.log").read_text().splitlines() == [
        "nvcr.io#nvidia/nemo-rl:v0.7.0",
        f"{run.path}:{run.path},{tmp_path}:{tmp_path},/usr:/usr:ro",
        str(run.path),
        "a $b",
    ]


def test_nodes_that_do_not_see_the_run_directory_are_named(slurm, tmp_path):
    """In /tmp/ray, the one directory here of which each node has its own."""
    path = Path("/tmp/ray", f"ltrl-{os.getpid()}")
    held = {"extra": ["--hold", "--nodelist=node[1-3]"]}
    run = start(tmp_path, nodes=3, runs_dir=str(path), spec="qwen30b_moe.yaml", slurm=held, restarts={"how": "none"})
    try:
        copy = slurm / "nodefs" / "node1" / "ray" / path.name
        shutil.copytree(path, copy)  # as node1 sees it, where the job script runs
        client("scontrol", "release", run.latest.job_id)
        row = finished(run)
        assert row.state is State.FAILED
        shared = "it must be on a disk that all nodes share"
        told = f"cannot see in {run.path} what node1 writes there: {shared}\n"
        cause = (copy / run.id / "attempts" / "1" / "cause").read_text()
        assert cause in (f"node2 node3 {told}", f"node3 node2 {told}")
    finally:
        shutil.rmtree(path)
