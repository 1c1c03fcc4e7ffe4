"""What becomes of a job and of the attempts that follow it, on a real Slurm, fault by fault."""

import re
import subprocess
import sys

import pytest
from launching import release, stand_in, until
from starting import client, ends, finished, now, resumed_at, saved, start

from ltrl import state
from ltrl.state import State

pytestmark = pytest.mark.slurm


STOPPED = "told to save and stop: the time limit is near, or the nodes are needed"


@pytest.mark.parametrize("how", ["requeue", "chain"])
def test_a_job_near_its_time_limit_saves_and_goes_on_in_the_next(slurm, tmp_path, how):
    run = start(tmp_path, "--save-every", "100", held_at=2, restarts={"how": how, "step_minutes": 1})
    until(lambda: (p := run.attempt_dir(1) / "stdout.log").exists() and "step 1" in p.read_text(), 300)
    client("scancel", "--batch", "--signal=USR2", run.latest.job_id)
    until((run.attempt_dir(1) / "stop").exists, 300)
    release(run.path)
    row = finished(run)
    assert (row.state, row.reason, row.step, row.attempt) == (State.COMPLETED, None, 4, 2)
    assert ends(run) == [(State.TIMEOUT, STOPPED), (State.COMPLETED, None)]
    assert resumed_at(run, 2) == 2
    jobs = [a.job_id for a in state.read_run(run.path).attempts]
    assert (jobs[0] == jobs[1]) is (how == "requeue")


def test_a_driver_that_does_not_stop_is_stopped_and_goes_on_from_what_was_saved(slurm, tmp_path):
    once = f"[[ -e once ]] && exec {' '.join(stand_in())}; touch once; sleep 600"
    run = start(tmp_path, command=["bash", "-c", once], restarts={"step_minutes": 0.01, "save_minutes": 0.01})
    until((run.path / "once").exists, 300)
    client("scancel", "--batch", "--signal=USR2", run.latest.job_id)
    finished(run)
    assert ends(run) == [(State.TIMEOUT, STOPPED), (State.COMPLETED, None)]


def test_attempts_that_save_nothing_are_no_endless_loop_and_report_to_one_run(slurm, tmp_path):
    code = "import os; print(os.environ['WANDB_RUN_ID'], os.environ['WANDB_RESUME'])"
    run = start(tmp_path, command=[sys.executable, "-c", code])
    finished(run)
    short = "ended at step 0 of 4"
    braked = f"{short}; no further attempt: 2 in a row saved no new checkpoint"
    assert ends(run) == [(State.FAILED, short), (State.FAILED, braked)]
    said = [(run.attempt_dir(n) / "stdout.log").read_text() for n in (1, 2)]
    assert said[0] == said[1] == f"{(run.path / 'wandb_run_id').read_text().strip()} allow\n"
    assert said[0].startswith(f"{run.id}-")


def test_so_many_attempts_are_made_and_no_more(slurm, tmp_path):
    run = start(tmp_path, "--die-at", "3", restarts={"max_attempts": 1})
    finished(run)
    assert ends(run) == [(State.FAILED, "the driver ended with status 1; no further attempt: 1 of at most 1 were made")]


def test_a_driver_that_fails_before_it_saved_anything_is_not_started_again(slurm, tmp_path):
    run = start(tmp_path, command=["bash", "-c", "exit 7"])
    finished(run)
    assert ends(run) == [(State.FAILED, "the driver ended with status 7")]


def test_a_driver_that_fails_later_goes_on_from_its_last_checkpoint(slurm, tmp_path):
    run = start(tmp_path, "--die-at", "3")
    row = finished(run)
    assert (row.state, row.step) == (State.COMPLETED, 4)
    assert ends(run) == [(State.FAILED, "the driver ended with status 1"), (State.COMPLETED, None)]
    assert resumed_at(run, 2) == 2


def test_a_node_that_is_taken_away_is_no_end(slurm, tmp_path):
    run = start(tmp_path, held_at=3)
    saved(run, 2)
    [node] = client("squeue", "--noheader", "--format=%N", f"--jobs={run.latest.job_id}").split()
    client("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
    try:
        until(lambda: (r := now(run)).state is State.PENDING or r.attempt == 2, 300)
        release(run.path)
        row = finished(run)
    finally:
        subprocess.run(["scontrol", "update", f"NodeName={node}", "State=RESUME"], check=False, capture_output=True)
    assert (row.state, row.step) == (State.COMPLETED, 4)
    first, second = ends(run)
    assert first in (  # what its script had the time to say, and what it had heard of srun
        (State.NODE_FAIL, f"lost while the driver ran: {node}"),
        (State.PREEMPTED, "preempted, or a node was taken away; Slurm started the job again"),
        (State.NODE_FAIL, "a node was lost; Slurm started the job again"),
    )
    assert second == (State.COMPLETED, None)
    assert resumed_at(run, 2) == 2


def test_a_node_that_is_not_fit_is_named_with_what_is_missing(slurm, tmp_path):
    run = start(tmp_path, preflight={"require_nvidia_smi": True})
    row = finished(run)
    assert re.fullmatch("node. is not fit for the job: GPUs: no answer from `nvidia-smi`, but 8 is wanted", row.reason)
    assert len(ends(run)) == 1


def test_a_killed_driver_is_said_to_lack_memory(slurm, tmp_path):
    run = start(tmp_path, command=["bash", "-c", "kill -KILL $$"])
    assert finished(run).reason == "the driver was killed (SIGKILL), most likely for lack of memory"
