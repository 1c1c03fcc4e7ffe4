"""The launch on a real Slurm: what is submitted, cancelled, refused."""

import json
import shlex

import pytest
from launching import HOSTILE, release
from starting import finished, saved, start

from ltrl import runs
from ltrl.errors import Code, LtrlError
from ltrl.state import State

pytestmark = pytest.mark.slurm


def test_a_job_runs_to_its_target_with_hostile_names_everywhere(slurm, tmp_path):
    project = tmp_path / "".join(c for c in HOSTILE if c not in "\n/%\\")  # these are refused
    request = {"extra": [f"--wckey={shlex.quote(HOSTILE.replace(chr(10), ' '))}"]}
    run = start(project, "--", HOSTILE, environment={"TOLD": HOSTILE}, slurm=request)
    row = finished(run)
    assert (row.state, row.reason, row.step) == (State.COMPLETED, None, 4)
    said = (run.attempt_dir(1) / "stdout.log").read_text().splitlines()[0]
    assert json.loads(said)["arguments"] == [HOSTILE]
    assert not list(tmp_path.rglob("PWNED"))


def test_a_running_job_is_cancelled_and_resumed(slurm, tmp_path):
    run = start(tmp_path, held_at=3)
    saved(run, 2)
    runs.cancel(run)
    row = finished(run)
    assert (row.state, row.reason, row.last_checkpoint) == (State.CANCELLED, "cancelled", 2)
    release(run.path)
    run = start(tmp_path)
    row = finished(run)
    assert (row.state, row.attempt, row.step) == (State.COMPLETED, 2, 4)


def test_a_failing_driver_is_told_with_its_status(slurm, tmp_path):
    row = finished(start(tmp_path, command=["bash", "-c", "exit 7"]))
    assert (row.state, row.reason) == (State.FAILED, "the driver ended with status 7")


def test_what_sbatch_refuses_is_told(slurm, tmp_path):
    with pytest.raises(LtrlError) as caught:
        start(tmp_path, slurm={"partition": "nowhere"})
    assert caught.value.diagnostics[0].code is Code.SUBMIT_FAILED
    assert "invalid partition specified: nowhere" in str(caught.value)
