"""The Slurm script of a Ray job, run here with a Ray that only registers; the real one is in `tests/slurm/`."""

import json
import os
import shlex
import sys
import time
from pathlib import Path

import pytest
from fake_slurm import FakeSlurm
from launching import make_bundle, stand_in, until

from ltrl import runs, state
from ltrl import submit as launcher
from ltrl.backend import Stage
from ltrl.state import State

RAY = r"""#!/usr/bin/env python3
import json, os, socket, sys, time
from pathlib import Path
options = dict(w.removeprefix("--").split("=", 1) for w in sys.argv[1:] if w.startswith("--") and "=" in w)
known = Path(os.environ["FAKE_RAY"])
assert os.environ["RAY_AUTH_MODE"] == "token"
token = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
if sys.argv[1] == "status":
    print("\n".join(f" 0.0/1.0 {p.name}" for p in known.iterdir() if p.name.startswith("ltrl_node")))
    sys.exit()
assert token.stat().st_mode & 0o777 == 0o600 and len(token.read_text()) == 64, token
resources = json.loads(options["resources"])
(index,) = (name for name in resources if name.startswith("ltrl_node_"))
if "--head" in sys.argv:
    server = socket.create_server((options["node-ip-address"], int(options["port"])))
behaviour = os.environ.get(f"FAKE_{index}", "")
if behaviour == "never":
    time.sleep(600)
(known / index).write_text(json.dumps([resources, options, os.environ["PYTHONPATH"]]))
print("Ray runtime started.", flush=True)
if behaviour.startswith("die "):
    time.sleep(float(behaviour.split()[1]))
    sys.exit("raylet is gone")
time.sleep(600)
"""

HOSTS = [f"127.1.{os.getpid() % 250}.{i}" for i in (2, 3, 4)]
"""Every address of 127/8 is this machine, so three of them make three nodes with the same ports."""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    fake = FakeSlurm(tmp_path / "slurm", ",".join(HOSTS))
    ray = fake.directory / "bin" / "ray"
    ray.write_text(RAY)
    ray.chmod(0o755)
    (tmp_path / "ray").mkdir()
    hidden = tmp_path / "without-ray" / "ray.py"  # what a real one would ask does not answer
    hidden.parent.mkdir()
    hidden.write_text("raise ImportError('this Ray only registers')\n")
    monkeypatch.setenv("PATH", fake.path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,4,5,6,7")  # as Slurm does it
    monkeypatch.setenv("FAKE_RAY", str(tmp_path / "ray"))
    monkeypatch.setenv("LTRL_STATE_DIR", str(tmp_path / "state"))
    return fake


def start(tmp_path, *arguments, command=None, stages=(), how="none", **environment):
    cluster = {
        "executor": "slurm",
        "nodes": 3,
        "gpus_per_node": 8,
        "restarts": {"how": how},
        "environment": {"LTRL_NODE_TMP": str(tmp_path), **environment},
        "setup": [  # before a real Ray of this Python
            f"PATH={shlex.quote(str(tmp_path / 'slurm' / 'bin'))}:$PATH",
            f"export PYTHONPATH={shlex.quote(str(tmp_path / 'without-ray'))}",
        ],
    }
    bundle = make_bundle(
        tmp_path, command or stand_in(*arguments), cluster=cluster, spec="qwen30b_moe.yaml", stages=stages
    )
    return launcher.submit(bundle, project=tmp_path)


def finished(run, seconds=20.0):
    row = until(lambda: (r := runs.status(state.read_run(run.path))).state.is_finished and r, seconds)
    attempt = run.attempt_dir(1)
    assert not (attempt / "ray_token").exists()
    return row, state.exit_status(attempt)


def started(run):
    return until(lambda: (p := run.attempt_dir(1) / "stdout.log").exists() and p.read_text())


def test_the_driver_runs_when_every_node_is_there_and_its_end_is_the_job_s(slurm, tmp_path):
    run = start(tmp_path)
    row, status = finished(run)
    assert (row.state, row.reason, row.step, status) == (State.COMPLETED, None, 4, 0)
    attempt = run.attempt_dir(1)
    assert sorted(p.name for p in attempt.glob("*.log")) == [
        "job.log",
        "ray-head.log",
        *sorted(f"ray-worker-{host}.log" for host in HOSTS[1:]),
        "stderr.log",
        "stdout.log",
    ]
    assert "ltrl: Ray has 3 nodes with 8 GPUs each after" in (attempt / "ray-head.log").read_text()
    assert not (attempt / "cause").exists()


def test_every_node_gets_its_gpus_and_ports_below_the_system_s(slurm, tmp_path):
    finished(start(tmp_path))
    ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for i in range(3):
        resources, options, _ = json.loads((tmp_path / "ray" / f"ltrl_node_{i}").read_text())
        assert resources == {"worker_units": 8, "slurm_managed_ray_cluster": 1, f"ltrl_node_{i}": 1}
        assert (options["num-gpus"], options["node-ip-address"]) == ("8", HOSTS[i])
        ports = [int(value) for name, value in options.items() if name.endswith("port")]
        assert len(set(ports)) == len(ports) == (10 if i == 0 else 8)
        assert (min(ports) >= 10240, max(ports) < min(20001, ephemeral)) == (True, True)


def test_the_driver_s_exit_status_is_the_job_s(slurm, tmp_path):
    row, status = finished(start(tmp_path, command=["bash", "-c", "exit 7"]))
    assert (row.state, row.reason, status) == (State.FAILED, f"the driver ended with status 7 on {HOSTS[0]}", 7)


def test_a_dead_worker_ends_the_job_at_once_and_is_named(slurm, tmp_path):
    run = start(tmp_path, "--seconds", "60", FAKE_ltrl_node_2="die 2")
    started(run)
    began = time.monotonic()
    row, status = finished(run)
    assert (row.state, row.reason, status) == (State.FAILED, f"Ray ended with status 1 on {HOSTS[2]}", 1)
    assert time.monotonic() - began < 10


def test_a_dead_head_ends_the_job_at_once(slurm, tmp_path):
    run = start(tmp_path, "--seconds", "60", FAKE_ltrl_node_0="die 2")
    started(run)
    row, status = finished(run)
    reason = f"Ray's head on {HOSTS[0]} ended with status 1 while the driver ran; see ray-head.log"
    assert (row.state, row.reason, status) == (State.FAILED, reason, 1)


def test_a_node_that_never_comes_is_named(slurm, tmp_path):
    run = start(tmp_path, FAKE_ltrl_node_1="never", LTRL_RAY_DEADLINE_SECONDS="4")
    row, status = finished(run)
    reason = f"after 4 s these of 3 nodes with 8 GPUs are missing in Ray: {HOSTS[1]}"
    assert (row.state, row.reason, status) == (State.FAILED, reason, 1)
    assert not (run.attempt_dir(1) / "stdout.log").exists()


def test_a_step_that_slurm_cannot_start_is_no_end(slurm, tmp_path):
    client = slurm.directory / "bin" / "srun"
    real = client.rename(client.with_name("real-srun"))
    said = "srun: error: Task launch failed on node node4: Job credential expired"
    fails = (
        f"[[ $* != *canary* || -e {tmp_path}/failed ]] || {{ touch {tmp_path}/failed; echo '{said}' >&2; exit 167; }}"
    )
    client.write_text(f'#!/bin/bash\n{fails}\nexec {shlex.quote(str(real))} "$@"\n')
    client.chmod(0o755)
    row, _ = finished(start(tmp_path, how="requeue"), 60)
    assert (row.state, row.attempt) == (State.COMPLETED, 2)


def test_a_cancelled_job_ends_with_all_its_processes(slurm, tmp_path):
    run = start(tmp_path, "--seconds", "60")
    started(run)
    assert runs.cancel(state.read_run(run.path)).state is State.CANCELLED
    marked = f"LTRL_RUN_DIR={run.path}".encode()

    def left():
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if marked in path.read_bytes().split(b"\0"):
                    found.append(path)
            except OSError:
                continue
        return found

    until(lambda: not left())


def test_a_setup_that_fails_on_a_node_is_named(slurm, tmp_path):
    cluster = {"executor": "slurm", "nodes": 3, "gpus_per_node": 8, "setup": ["[[ $index != 1 ]]"], "environment": {}}
    bundle = make_bundle(tmp_path, stand_in(), cluster=cluster, spec="qwen30b_moe.yaml")
    row, _ = finished(launcher.submit(bundle, project=tmp_path))
    assert row.reason == f"the setup of the cluster profile ended with status 1 on {HOSTS[1]}"


def test_every_node_imports_ltrl_from_the_bundle(slurm, tmp_path):
    run = start(tmp_path, command=["python3", "-S", "-c", "import ltrl; print(ltrl.__file__)"])
    _, status = finished(run)
    archive = run.path / "bundle" / "payload.zip"
    assert (status, started(run)) == (1, f"{archive}/ltrl/__init__.py\n")
    for i in range(3):
        first = json.loads((tmp_path / "ray" / f"ltrl_node_{i}").read_text())[2].split(os.pathsep)[0]
        assert first == str(archive)


LISTENS = """
import http.server, pathlib
from ltrl import service
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/readyz" else 404)
        self.end_headers()
with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
    service.publish(pathlib.Path.cwd(), f"http://127.0.0.1:{server.server_port}", token=None)
    server.serve_forever()
"""


def judge(*command):
    return Stage("judge", command, before_training=True, is_service=True, minutes=5)


def test_ray_starts_when_the_services_of_the_run_are_ready(slurm, tmp_path):
    code = (
        "import os, sys; from ltrl import service; print(service.address('judge')); os.execv(sys.argv[1], sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, *stand_in()]
    run = start(tmp_path, command=command, stages=(judge(sys.executable, "-c", LISTENS),))
    assert finished(run, 60)[0].state is State.COMPLETED
    found = (run.attempt_dir(1) / "stdout.log").read_text().splitlines()[0]
    assert found == f"{run.path}/stages/judge/service.json"
    service = state.read_run(run.path / "stages" / "judge")
    assert until(lambda: (r := runs.status(service)).state.is_finished and r, 60).state is State.COMPLETED


def test_a_service_that_has_ended_ends_the_job_before_ray_starts(slurm, tmp_path):
    run = start(tmp_path, stages=(judge("bash", "-c", "exit 7"),))
    row, status = finished(run, 60)
    assert (row.reason, status) == ("the service `judge` has ended: the driver ended with status 7", 1)
    assert "Ray started" not in (run.attempt_dir(1) / "moments").read_text()
