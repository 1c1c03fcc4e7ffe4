"""Jobs that start again, by themselves or by Slurm's doing, on a behaving Slurm; the real one is in `tests/slurm/`."""

import os
import shlex
import signal
from pathlib import Path

import pytest
from fake_slurm import FakeSlurm
from launching import make_bundle, make_sweep, stand_in, until

from ltrl import array, runs, state
from ltrl import submit as launcher
from ltrl.state import State

SLURM = {"executor": "slurm", "slurm": {"exclusive": False}, "restarts": {"step_minutes": 0.1, "save_minutes": 0.1}}


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    fake = FakeSlurm(tmp_path / "slurm")
    monkeypatch.setenv("PATH", fake.path)
    monkeypatch.setenv("LTRL_STATE_DIR", str(tmp_path / "state"))
    return fake


def start(project, once):
    """A run whose driver does something else than to train, the first time; the job's first attempt is at step 0."""
    first = f"[[ -e once ]] && exec {shlex.join(stand_in())}; touch once; {once}"
    return launcher.submit(make_bundle(project, ["bash", "-c", first], cluster=SLURM), project=project)


def ends(run):
    until(lambda: runs.status(state.read_run(run.path)).state.is_finished)
    return [(a.state, a.reason) for a in state.read_run(run.path).attempts]


def before_a_requeue(slurm, does):
    """Lets something happen when a job asks to be requeued, just before Slurm hears of it."""
    client = slurm.directory / "bin" / "scontrol"
    real = client.with_name("real-scontrol")
    client.rename(real)
    client.write_text(f'#!/bin/bash\nif [[ $1 == requeue ]]; then {does}; fi\nexec {shlex.quote(str(real))} "$@"\n')
    client.chmod(0o755)


@pytest.mark.parametrize(
    ("says", "told"),
    [
        ("", (State.PREEMPTED, "preempted, or a node was taken away; Slurm started the job again")),
        ("srun: error: Node failure on node1", (State.NODE_FAIL, "lost while the driver ran: node1")),
    ],
)
def test_a_script_whose_steps_end_first_knows_that_slurm_ended_them(slurm, tmp_path, says, told):
    job = slurm.job(1)
    leader = f"read -r _ _ _ leader _ </proc/$(<{job}/pid)/stat; kill -STOP $leader"  # it tells the script too late
    run = start(tmp_path, f"{leader}; echo '{says}' >>attempts/1/job.log; echo 'preempt requeue' >{job}/event")
    until((run.attempt_dir(1) / "exit_status").exists)
    script = (job / "pid").read_text().strip()
    until(lambda: _stat(script)[0] == "Z")
    assert runs.status(state.read_run(run.path)).state is State.RUNNING
    os.kill(int(_stat(script)[1]), signal.SIGCONT)
    assert ends(run) == [told, (State.COMPLETED, None)]


def _stat(pid):
    """State and parent of a process."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]


def test_a_job_that_slurm_requeues_before_its_script_can_goes_on_as_the_attempt_that_was_announced(slurm, tmp_path):
    before_a_requeue(slurm, f"echo 'preempt requeue' >{slurm.job(1)}/event")
    run = start(tmp_path, "exit 0")
    assert ends(run) == [(State.FAILED, "ended at step 0 of 4"), (State.COMPLETED, None)]


def test_a_job_that_slurm_does_not_requeue_says_so(slurm, tmp_path):
    before_a_requeue(slurm, "exit 1")
    run = start(tmp_path, "exit 0")
    refused = "no further attempt: Slurm refuses to requeue the job; see job.log"
    assert ends(run) == [(State.FAILED, f"ended at step 0 of 4; {refused}")]
    assert not run.attempt_dir(2).exists()


def test_a_cell_that_starts_again_leaves_the_others_alone(slurm, tmp_path):
    """For Slurm the number of one of an array's tasks means the whole array."""
    other = ["bash", "-c", f"until [[ -e ../go ]]; do sleep 0.1; done; exec {shlex.join(stand_in())}"]
    sweep = array.submit(
        make_sweep(tmp_path, [stand_in("--die-at", "3"), other], cluster=SLURM), project=tmp_path
    ).sweep

    def found():
        return [(row.state, row.attempt) for row in runs.statuses(c.run for c in array.read(sweep.path).cells)]

    until(lambda: found() == [(State.COMPLETED, 2), (State.RUNNING, 1)])
    (tmp_path / "runs" / "go").touch()
    until(lambda: found() == [(State.COMPLETED, 2), (State.COMPLETED, 1)])
