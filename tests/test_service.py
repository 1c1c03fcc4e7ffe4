"""Services of a run: they begin before the training and end with it, and the training finds them."""

import json
import os
import signal
import stat
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from launching import SPECS, STAND_IN, hold, make_bundle, make_plan, make_sweep, release, until

from ltrl import array, compile, mock, runs, state
from ltrl import submit as launcher
from ltrl.backend import Stage
from ltrl.errors import Code, LtrlError
from ltrl.reward_stage import reward_server
from ltrl.service import FILE, find
from ltrl.state import State

DRIVER = (sys.executable, str(Path(__file__).with_name("scoring_driver.py")), STAND_IN)
MOCK = {"executor": "slurm", "minutes": 5, "slurm": {"clients": "mock"}, "preflight": {"min_free_disk_gb": 0},
        "restarts": {"step_minutes": 0.1, "save_minutes": 0.1}}  # fmt: skip


@pytest.fixture(autouse=True)
def _own_state(tmp_path, monkeypatch):
    monkeypatch.setenv("LTRL_STATE_DIR", str(tmp_path / "state"))


def served(directory, *arguments, steps=4, cluster=None, **options):
    """A bundle whose rewards come from the stage `reward-server`."""
    stage = reward_server(make_plan(server=True, cluster=cluster))
    return make_bundle(
        directory, [*DRIVER, "--steps", str(steps), *arguments], stages=(stage,), server=True, cluster=cluster,
        steps=steps, **options,
    )  # fmt: skip


def rows(run):
    return {row.id.partition("/")[2] or "train": row for row in runs.statuses(state.all_runs(run.path))}


def over(run, seconds=60.0):
    return until(
        lambda: (r := rows(run)) and len(r) == 2 and all(x.state.is_finished for x in r.values()) and r, seconds
    )


def states(found):
    return {name: row.state for name, row in found.items()}


@pytest.mark.parametrize("cluster", [None, MOCK], ids=["this machine", "slurm"])
def test_rewards_come_from_a_job_that_begins_before_the_training_and_ends_with_it(tmp_path, cluster):
    run = launcher.submit(served(tmp_path, cluster=cluster), project=tmp_path)
    found = over(run)
    assert states(found) == {"train": State.COMPLETED, "reward-server": State.COMPLETED}
    home = run.path / "stages" / "reward-server"
    told = [json.loads(line) for line in (run.path / "scored").read_text().splitlines()]
    assert told == [{"outcome": 1.0, "address": f"{home}/service.json", "secrets": []}]
    token = home / "reward_server.token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    written = [path for path in run.path.rglob("*") if path.is_file() and path != token]
    assert not [path for path in written if token.read_bytes() in path.read_bytes()]  # it is nowhere else


def test_a_training_that_fails_ends_its_service_and_the_next_one_gets_another(tmp_path):
    bundle = served(tmp_path, "--die-at", "3", cluster=MOCK | {"restarts": {"how": "none"}})
    run = launcher.submit(bundle, project=tmp_path)
    assert states(over(run)) == {"train": State.FAILED, "reward-server": State.COMPLETED}
    found = over(launcher.submit(bundle, project=tmp_path))
    assert {name: (row.state, row.attempt) for name, row in found.items()} == {
        "train": (State.COMPLETED, 2), "reward-server": (State.COMPLETED, 2),
    }  # fmt: skip
    assert launcher.unfinished(bundle, run.path) == ()


def test_a_service_outlives_an_attempt_that_another_follows(tmp_path):
    run = launcher.submit(
        served(tmp_path, "--die-at", "3", cluster=MOCK), project=tmp_path
    )  # saves at 2, fails, goes on
    found = over(run, 90)
    assert {name: (row.state, row.attempt) for name, row in found.items()} == {
        "train": (State.COMPLETED, 2), "reward-server": (State.COMPLETED, 1),
    }  # fmt: skip
    assert len((run.path / "scored").read_text().splitlines()) == 2


def test_a_service_at_the_end_of_its_time_is_followed_by_another_where_jobs_must_not_be_requeued(tmp_path):
    cluster = MOCK | {"restarts": {**MOCK["restarts"], "how": "chain"}}
    hold(tmp_path / "runs" / "trial-01234567", 1)  # it trains until its server has moved
    run = launcher.submit(served(tmp_path, cluster=cluster), project=tmp_path)
    until((run.path / "scored").exists, 60)
    home, job = run.path / "stages" / "reward-server", rows(run)["reward-server"].job_id
    client = tmp_path / "state" / "mock" / "bin" / "scancel"
    subprocess.run([client, "--batch", "--signal=USR2", job], check=True)
    until(lambda: (found := find(home / FILE)) and found.attempt == "2", 60)
    release(run.path)
    assert states(over(run)) == {"train": State.COMPLETED, "reward-server": State.COMPLETED}
    first, second = state.read_run(home).attempts
    assert (first.state, first.reason) == (State.TIMEOUT, "told to stop: the time limit is near")
    assert first.job_id == job != second.job_id


@pytest.mark.parametrize("cluster", [None, MOCK], ids=["this machine", "slurm"])
def test_cancelling_a_run_ends_its_service(tmp_path, cluster):
    run = launcher.submit(served(tmp_path, "--seconds", "30", cluster=cluster), project=tmp_path)
    until((run.path / "scored").exists, 60)
    runs.cancel(state.read_run(run.path))
    found = states(over(run))
    assert found["train"] is State.CANCELLED
    assert found["reward-server"] in (State.CANCELLED, State.COMPLETED)  # it may see the end of the training first


def test_a_training_whose_job_is_killed_ends_its_service(tmp_path):
    run = launcher.submit(served(tmp_path, "--seconds", "30"), project=tmp_path)
    until((run.path / "scored").exists, 60)
    leader = int(state.read_run(run.path).latest.job_id)
    for pid in [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]:
        with suppress(ProcessLookupError):
            if os.getsid(pid) == leader:
                os.kill(pid, signal.SIGKILL)
    found = over(run)
    assert states(found) == {"train": State.FAILED, "reward-server": State.COMPLETED}


def test_a_job_that_could_say_nothing_of_its_end_ends_its_service(tmp_path, monkeypatch):
    monkeypatch.setenv("LTRL_SERVICE_ASK_SECONDS", "1")
    cluster = MOCK | {"restarts": {"how": "none"}}
    run = launcher.submit(served(tmp_path, "--seconds", "30", cluster=cluster), project=tmp_path)
    until((run.path / "scored").exists, 120)
    mock.send(tmp_path / "state" / "mock", rows(run)["train"].job_id, "node-fail", requeue=False)
    assert states(over(run, 120)) == {"train": State.NODE_FAIL, "reward-server": State.COMPLETED}
    assert not (run.attempt_dir(1) / "exit_status").exists()


def test_a_service_that_fails_ends_the_training_with_its_cause(tmp_path):
    broken = Stage("judge", ("bash", "-c", "exit 7"), before_training=True, is_service=True, minutes=5)
    run = launcher.submit(make_bundle(tmp_path, cluster=MOCK, stages=(broken,)), project=tmp_path)
    found = over(run)
    assert states(found) == {"train": State.FAILED, "judge": State.FAILED}
    assert found["train"].reason == "the service `judge` has ended: the driver ended with status 7"


def test_a_service_that_never_listens_ends_the_training_in_time(tmp_path, monkeypatch):
    monkeypatch.setenv("LTRL_SERVICE_DEADLINE_SECONDS", "1")
    silent = Stage("judge", ("sleep", "60"), before_training=True, is_service=True, minutes=5)
    run = launcher.submit(make_bundle(tmp_path, cluster=MOCK, stages=(silent,)), project=tmp_path)
    found = over(run)
    assert states(found) == {"train": State.FAILED, "judge": State.COMPLETED}
    assert found["train"].reason == "the service `judge` is not ready: it has not started"


def test_the_jobs_wait_for_each_other_and_the_service_shares_its_node(tmp_path):
    cluster = MOCK | {"stages": {"reward-server": {"partition": "cpu"}}}
    before = Stage("convert", ("true",), before_training=True)
    after = Stage("export", ("true",))
    server = replace(reward_server(make_plan(server=True, cluster=cluster)), partition="cpu")
    bundle = make_bundle(tmp_path, stages=(before, server, after), server=True, cluster=cluster)
    asked = launcher.requests(bundle, project=tmp_path)
    waits = {one.stage: [word for word in one.argv if word.startswith("--dependency")] for one in asked}
    assert waits == {
        "convert": [],
        "reward-server": ["--dependency=afterok:<job of `convert`>"],
        "train": ["--dependency=afterok:<job of `convert`>,after:<job of `reward-server`>"],
        "export": ["--dependency=afterok:<job of `train`>"],
    }
    options = [line for line in bundle.read("stages/reward-server/job.sbatch").splitlines() if "#SBATCH" in line]
    assert options == [
        "#SBATCH --job-name=trial-reward-server",
        "#SBATCH --nodes=1",
        "#SBATCH --ntasks-per-node=1",
        "#SBATCH --time=5",
        "#SBATCH --open-mode=append",
        "#SBATCH --requeue",
        "#SBATCH --signal=B:USR2@60",
        "#SBATCH --partition=cpu",
        "#SBATCH --mem=8G",
        "#SBATCH --cpus-per-task=2",
    ]


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (
            ["stages=[reward-server, train]"],
            "the stage `reward-server` would serve nobody: rewards are computed in the driver",
        ),
        (
            ["stages=[reward-server, train]", "reward.server={url: 'http://x:1'}"],
            "the stage `reward-server` would serve nobody: another server computes the rewards",
        ),
        (["stages=[reward-server]", "reward.server={}"], "the stage `reward-server` needs `train`"),
        (["stages=[train, reward-server]", "reward.server={}"], "the stage `reward-server` comes before `train`"),
        (
            ["reward.server={url: 'http://x:1', address: f}"],
            "`url` and `address` both say where the server is",
        ),
    ],
)  # fmt: skip
def test_a_service_without_use_is_refused_where_it_stands(sets, message):
    with pytest.raises(LtrlError) as caught:
        compile.prepare(SPECS / "quickstart.yaml", sets=sets)
    [found] = caught.value.diagnostics
    assert (message in found.message, found.position is not None) == (True, True)


def test_a_sweep_has_no_services(tmp_path):
    stage = reward_server(make_plan(server=True))
    bundles = make_sweep(tmp_path, [["true"]] * 2, stages=(stage,), server=True)
    with pytest.raises(LtrlError) as caught:
        array.submit(bundles, project=tmp_path)
    [found] = caught.value.diagnostics
    assert found.code is Code.SWEEP
    assert found.message.startswith("a sweep has no services, `stages` names `reward-server`")
