"""A reward server in a job of its own beside a training, on a real Slurm."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from launching import STAND_IN, hold, make_bundle, make_plan, release, until
from starting import client

from ltrl import runs, state
from ltrl import submit as launcher
from ltrl.reward_stage import reward_server
from ltrl.service import FILE, find
from ltrl.state import State

pytestmark = pytest.mark.slurm

DRIVER = (sys.executable, str(Path(__file__).parent.parent / "scoring_driver.py"), STAND_IN)
PROFILE = {
    "executor": "slurm",
    "gpus_per_node": 8,
    "minutes": 10,
    "slurm": {"exclusive": False},
    "restarts": {"step_minutes": 0.1, "save_minutes": 0.1},
    "preflight": {"min_free_disk_gb": 0},
}


@pytest.fixture
def start(slurm, tmp_path):
    def submit(*arguments, held_at=None):
        stage = reward_server(make_plan(server=True, cluster=PROFILE))
        stage = replace(stage, memory="1G")
        words = [*DRIVER, "--steps", "4", *arguments]
        bundle = make_bundle(tmp_path, words, stages=(stage,), server=True, cluster=PROFILE)
        if held_at:
            hold(launcher.run_dir_of(bundle, tmp_path), held_at)
        return launcher.submit(bundle, project=tmp_path)

    return submit


def read(path):
    try:
        return path.read_bytes()
    except OSError:  # it has ended
        return b""


def rows(run):
    return {row.id.partition("/")[2] or "train": row for row in runs.statuses(state.all_runs(run.path))}


def over(run):
    return until(lambda: (found := rows(run)) and all(r.state.is_finished for r in found.values()) and found, 600)


def test_the_server_is_on_another_job_and_stays_while_the_training_goes_on(start):
    run = start("--die-at", "3")  # saves at 2, fails, is requeued
    found = over(run)
    assert {name: (row.state, row.attempt) for name, row in found.items()} == {
        "train": (State.COMPLETED, 2), "reward-server": (State.COMPLETED, 1),
    }  # fmt: skip
    assert found["train"].job_id != found["reward-server"].job_id
    told = [json.loads(line)["outcome"] for line in (run.path / "scored").read_text().splitlines()]
    assert told == [1.0, 1.0]


def test_a_training_that_somebody_cancels_in_slurm_ends_its_server(start):
    run = start(held_at=1)
    until((run.path / "scored").exists, 300)
    token = (run.path / "stages" / "reward-server" / "reward_server.token").read_bytes()
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if token in read(path)]
    client("scancel", rows(run)["train"].job_id)
    found = over(run)
    assert {name: row.state for name, row in found.items()} == {
        "train": State.CANCELLED, "reward-server": State.COMPLETED,
    }  # fmt: skip


def test_a_server_at_the_end_of_its_time_is_started_again_and_found_again(start):
    run = start(held_at=1)
    until((run.path / "scored").exists, 300)
    home = run.path / "stages" / "reward-server"
    first = find(home / FILE)
    client("scancel", "--batch", "--signal=USR2", rows(run)["reward-server"].job_id)
    second = until(lambda: (found := find(home / FILE)) and found.url != first.url and found, 300)
    assert second.attempt == first.attempt
    release(run.path)
    found = over(run)
    assert {name: row.state for name, row in found.items()} == {
        "train": State.COMPLETED, "reward-server": State.COMPLETED,
    }  # fmt: skip
