"""A job of four nodes with a real Ray of 32 logical GPUs, and the loss of each of its parts."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import up
from launching import hold, make_bundle, release, stand_in, until

from ltrl import preflight, runs, state
from ltrl import submit as launcher
from ltrl.state import State

pytestmark = pytest.mark.slurm
BIN = str(Path(sys.executable).parent)
PATIENCE_S = 600.0
"""Nothing here depends on how fast the machine is; what does not happen in this time does not happen."""

LIGHT = {"RAY_DEFAULT_OBJECT_STORE_MEMORY_PROPORTION": "0.01", "RAY_enable_worker_prestart": "0"}


def start(project, *arguments, setup=(), environment=None, held_at=None):
    cluster = {
        "executor": "slurm",
        "nodes": 4,
        "gpus_per_node": 8,
        "minutes": 30,
        "setup": [f"PATH={BIN}:$PATH", *setup],
        "environment": {**LIGHT, "LTRL_NODE_TMP": "/tmp/ray", **(environment or {})},
        "preflight": {"min_free_disk_gb": 0.1},
    }
    bundle = make_bundle(
        project, stand_in("--ray", *arguments, steps=12), cluster=cluster, spec="qwen30b_moe.yaml", steps=12
    )
    if held_at:
        hold(launcher.run_dir_of(bundle, project), held_at)
    return launcher.submit(bundle, project=project)


def now(run):
    return runs.status(state.read_run(run.path))


def attempt(run, number):
    """An attempt when the next one has followed it."""
    until(lambda: now(run).attempt > number, PATIENCE_S)
    return state.read_run(run.path).attempts[number - 1]


def said(run, number):
    """What an attempt's driver printed about its start."""
    path = run.attempt_dir(number) / "stdout.log"
    lines = until(lambda: path.exists() and len(found := path.read_text().splitlines()) > 2 and found, PATIENCE_S)
    return json.loads(lines[0]), json.loads(lines[1])


def newest(run):
    """The number of the newest attempt when its driver has begun to train."""

    def begun():
        number = len(state.read_run(run.path).attempts)
        path = run.attempt_dir(number) / "moments"
        return path.exists() and " training" in path.read_text() and number

    return until(begun, PATIENCE_S)


def saved(run, step):
    until(lambda: (state.last_checkpoint(run.path) or 0) >= step, PATIENCE_S)


def kill(run, node, program):
    """Kills a process of the job on one node, by its number."""
    wanted = {f"LTRL_RUN_DIR={run.path}".encode(), f"SLURMD_NODENAME={node}".encode()}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            found = path.joinpath("environ").read_bytes().split(b"\0"), path.joinpath("cmdline").read_bytes()
        except OSError:
            continue
        if wanted <= {*found[0]} and found[1].split(b"\0")[0].endswith(program):
            os.kill(int(path.name), signal.SIGKILL)
            return
    raise AssertionError(f"no {program!r} on {node}")


def test_a_run_of_four_nodes_survives_the_loss_of_each_part_and_reaches_its_target(slurm, tmp_path):
    run = start(tmp_path, held_at=3)

    told, cluster = said(run, 1)
    module = f"{run.path}/bundle/payload.zip/ltrl/__init__.py"  # on every node, though ltrl is installed here too
    everywhere = [[f"node{i}", module, "0,1,2,3,4,5,6,7"] for i in (1, 2, 3, 4)]
    assert (told["from"], cluster) == (0, {"gpus": 32, "nodes": everywhere})
    assert [r.node for r in preflight.reports(run.attempt_dir(1)) if r.first_failure is None] == [
        "node1",
        "node2",
        "node3",
        "node4",
    ]
    saved(run, 2)
    kill(run, "node3", b"raylet")
    lost = attempt(run, 1)
    assert (lost.state, lost.reason) == (State.FAILED, "Ray ended with status 1 on node3")

    hold(run.path, 5)
    saved(run, 4)
    assert said(run, 2)[0]["from"] == 2
    kill(run, "node1", b"gcs_server")
    lost = attempt(run, 2)
    reason = "Ray's head on node1 ended with status 1 while the driver ran; see ray-head.log"
    assert (lost.state, lost.reason) == (State.FAILED, reason)

    hold(run.path, 7)
    saved(run, 6)
    assert said(run, 3)[0]["from"] == 4
    os.kill(int((slurm / "run" / "node4.pid").read_text()), signal.SIGKILL)  # slurmd and everything on that node
    until(lambda: now(run).state is State.PENDING, PATIENCE_S)  # Slurm has noticed, and waits for four nodes
    up(slurm)
    lost = attempt(run, 3)
    assert (lost.state, lost.reason) in (  # Slurm was first, and srun or the script had the time to say so; or Ray was
        (State.NODE_FAIL, "a node was lost; Slurm started the job again"),
        (State.NODE_FAIL, "lost while the driver ran: node4"),
        (State.PREEMPTED, "preempted, or a node was taken away; Slurm started the job again"),
        (State.FAILED, "lost while the driver ran: node4"),
    )

    back = newest(run)  # not always the fourth: Slurm may take a node that was away from the job once more
    subprocess.run(["scancel", "--batch", "--signal=USR2", now(run).job_id], check=True)
    until((run.attempt_dir(back) / "stop").exists, PATIENCE_S)
    release(run.path)
    assert attempt(run, back).state is State.TIMEOUT

    row = until(lambda: (r := now(run)).state.is_finished and r, PATIENCE_S)
    assert (row.state, row.reason, row.step, row.attempt) == (State.COMPLETED, None, 12, back + 1)
    assert said(run, back + 1)[0]["from"] == 7
    lines = [line for path in run.path.glob("logs/*/metrics.jsonl") for line in path.read_text().splitlines()]
    assert sorted({json.loads(line)["step"] for line in lines}) == list(range(1, 13))


def test_a_worker_that_never_comes_is_named(slurm, tmp_path):
    stuck = "if [[ ${index:-} == 2 ]]; then ray() { sleep 600; }; fi"
    run = start(tmp_path, setup=[stuck], environment={"LTRL_RAY_DEADLINE_SECONDS": "20"})
    first = attempt(run, 1)
    assert first.state is State.FAILED
    assert re.fullmatch("after 20 s these of 4 nodes with 8 GPUs are missing in Ray: .*node3.*", first.reason)
    runs.cancel(state.read_run(run.path))
