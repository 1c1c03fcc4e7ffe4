"""Submitting to Slurm and asking it, with clients that behave; a real Slurm is in `tests/slurm/`."""

import json
import os
import subprocess
import sys

import pytest
from fake_slurm import FakeSlurm
from launching import HOSTILE, make_bundle, stand_in, until
from test_submit import LAUNCH

from ltrl import jobs, runs, state
from ltrl import submit as launcher
from ltrl.errors import Code, LtrlError
from ltrl.slurm import STATES, _state
from ltrl.state import State

SLURM = {"executor": "slurm", "slurm": {"exclusive": False}}


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    fake = FakeSlurm(tmp_path / "slurm")
    monkeypatch.setenv("PATH", fake.path)
    monkeypatch.setenv("LTRL_STATE_DIR", str(tmp_path / "state"))
    return fake


def make(tmp_path, *arguments, **cluster):
    return make_bundle(tmp_path, stand_in(*arguments), cluster={**SLURM, **cluster})


def status(run):
    return runs.status(state.read_run(run.path))


def finished(run):
    return until(lambda: (row := status(run)).state.is_finished and row)


def refusal(act):
    with pytest.raises(LtrlError) as caught:
        act()
    return caught.value.diagnostics[0].code, str(caught.value)


def test_what_is_submitted_is_the_script_that_compile_showed(slurm, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "99")
    monkeypatch.setenv("SBATCH_TIME", "1")
    monkeypatch.setenv("SBATCH_ACCOUNT", "mine")
    bundle = make(tmp_path)
    asked = launcher.request(bundle, project=tmp_path)
    run = launcher.submit(bundle, project=tmp_path)
    assert finished(run).state is State.COMPLETED
    job = slurm.job(1)
    assert (
        (job / "script").read_text()
        == bundle.read("job.sbatch")
        == (run.attempt_dir(1) / "1_submission.sh").read_text()
    )
    words = asked.argv[asked.argv.index("sbatch") + 1 :]
    assert words == (
        "--export=ALL",
        f"--chdir={run.path}",
        "--output=attempts/1/job.log",
        f"--comment={jobs.mark(run.path, 1)}",
        str(run.path / "bundle" / "job.sbatch"),
    )
    assert (job / "argv").read_text().splitlines() == list(words)
    variables = json.loads((job / "job.json").read_text())["environment"]
    assert "SLURM_JOB_ID" not in variables
    assert "SBATCH_TIME" not in variables  # the script states a time
    assert variables["SBATCH_ACCOUNT"] == "mine"  # and no account
    assert variables["LTRL_RUN_DIR"] == str(run.path)
    assert not list(run.path.rglob("*.pkl"))
    assert [e.state for e in state.events(run.path)][:2] == [State.SUBMITTING, State.PENDING]


def test_hostile_names_are_only_names(slurm, tmp_path):
    project = tmp_path / "".join(c for c in HOSTILE if c not in "\n/%\\")
    run = launcher.submit(make(project, "--", HOSTILE, environment={"TOLD": HOSTILE}), project=project)
    assert finished(run).state is State.COMPLETED
    assert not list(tmp_path.rglob("PWNED"))


def test_a_path_that_slurm_would_rewrite_is_refused(slurm, tmp_path):
    for name in ("100%", "a\\b"):
        project = tmp_path / name
        code, message = refusal(lambda project=project: launcher.submit(make(project), project=project))
        assert (code, "must not have" in message) == (Code.INVALID_VALUE, True)


def test_what_sbatch_says_is_told_and_the_attempt_is_over(slurm, tmp_path):
    bundle = make(tmp_path, slurm={"partition": "wrong"})
    assert refusal(lambda: launcher.submit(bundle, project=tmp_path)) == (
        Code.SUBMIT_FAILED,
        "invalid partition specified: wrong; Batch job submission failed: Invalid partition name specified",
    )
    run = state.read_run(tmp_path / "runs" / "trial-01234567")
    assert (run.latest.state, run.latest.job_id) == (State.FAILED, None)


def test_a_machine_without_slurm_is_told_so(tmp_path, monkeypatch):
    monkeypatch.setenv("LTRL_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("PATH", "/nowhere")
    code, message = refusal(lambda: launcher.submit(make(tmp_path), project=tmp_path))
    assert (code, message) == (Code.SUBMIT_FAILED, "there is no Slurm on this machine: `sbatch` is not on the PATH")


def test_a_waiting_job_says_why_and_can_be_cancelled(slurm, tmp_path):
    slurm.set("hold")
    run = launcher.submit(make(tmp_path), project=tmp_path)
    assert (status(run).state, status(run).reason) == (State.PENDING, "Priority")
    assert refusal(lambda: launcher.submit(make(tmp_path), project=tmp_path))[0] is Code.RUN_BUSY
    assert runs.cancel(run).state is State.CANCELLED
    assert status(run).reason == "cancelled"


def test_a_running_job_is_cancelled(slurm, tmp_path):
    run = launcher.submit(make(tmp_path, "--seconds", "30"), project=tmp_path)
    until(lambda: status(run).state is State.RUNNING and (run.attempt_dir(1) / "stdout.log").exists())
    assert runs.cancel(state.read_run(run.path)).state is State.CANCELLED


def test_a_scheduler_that_does_not_answer_leaves_a_run_unknown(slurm, tmp_path):
    slurm.set("hold")
    run = launcher.submit(make(tmp_path), project=tmp_path)
    slurm.set("down")
    assert (status(run).state, status(run).reason) == (
        State.UNKNOWN,
        "slurm_load_jobs error: Unable to contact slurm controller (connect failure)",
    )
    assert state.read_run(run.path).latest.state is State.PENDING
    assert refusal(lambda: launcher.submit(make(tmp_path), project=tmp_path))[0] is Code.RUN_BUSY
    slurm.clear("down")
    assert status(run).state is State.PENDING


def test_a_job_that_slurm_forgot_is_what_it_wrote_itself_else_unknown(slurm, tmp_path):
    run = launcher.submit(make(tmp_path), project=tmp_path)
    until(lambda: state.exit_status(run.attempt_dir(1)) is not None)
    slurm.set("forgotten")
    assert status(run).state is State.COMPLETED
    slurm.set("hold")
    other = launcher.submit(make(tmp_path), project=tmp_path, fresh=True)
    row = status(other)
    assert (row.state, row.reason) == (
        State.UNKNOWN,
        "Slurm does not know job 2; `ltrl cancel trial-01234567-2` gives it up",
    )
    assert runs.cancel(other).state is State.CANCELLED


@pytest.mark.parametrize(
    ("word", "expected", "reason"),
    [
        ("TIMEOUT", State.TIMEOUT, "the time limit was reached"),
        ("OUT_OF_MEMORY", State.OUT_OF_MEMORY, "out of memory"),
        ("NODE_FAIL", State.NODE_FAIL, "a node failed"),
        ("PREEMPTED", State.PREEMPTED, "preempted"),
        ("CANCELLED by 1000", State.CANCELLED, None),
        ("FAILED", State.FAILED, None),
    ],
)
@pytest.mark.parametrize("accounting", [True, False])
def test_ends_are_told_apart(slurm, tmp_path, word, expected, reason, accounting):
    slurm.set("hold", *(["accounting", "forgotten"] if accounting else []))
    run = launcher.submit(make(tmp_path), project=tmp_path)
    (slurm.job(1) / "state").write_text(word)
    (slurm.job(1) / "reason").unlink()
    assert (status(run).state, status(run).reason) == (expected, reason)


def test_a_requeued_job_is_not_over(slurm, tmp_path):
    slurm.set("hold")
    run = launcher.submit(make(tmp_path), project=tmp_path)
    for word, expected in {"RUNNING": State.RUNNING, "REQUEUED": State.PENDING, "COMPLETING": State.RUNNING}.items():
        (slurm.job(1) / "state").write_text(word)
        assert status(run).state is expected
    assert _state("SOMETHING_NEW") is State.UNKNOWN
    assert set(State) - set(STATES.values()) == {State.SUBMITTING, State.UNKNOWN}


def test_a_job_whose_submitter_died_is_found_by_its_mark(slurm, tmp_path):
    slurm.set("hold", "die_after_sbatch")
    bundle = make(tmp_path)
    died = subprocess.run([sys.executable, "-c", LAUNCH, bundle.path, tmp_path], capture_output=True, check=False)
    assert died.returncode == -9
    run = state.read_run(tmp_path / "runs" / "trial-01234567")
    assert (run.latest.state, run.latest.job_id) == (State.SUBMITTING, None)
    row = runs.status(run)
    assert (row.state, row.job_id) == (State.PENDING, "1")
    assert refusal(lambda: launcher.submit(bundle, project=tmp_path))[0] is Code.RUN_BUSY
    assert len(list((slurm.directory / "jobs").iterdir())) == 1


def test_many_runs_cost_one_question(slurm, tmp_path):
    slurm.set("hold", "accounting")
    found = [
        launcher.submit(make_bundle(tmp_path, ["true"], cluster=SLURM, name=f"t{i}"), project=tmp_path)
        for i in range(5)
    ]
    slurm.calls()
    assert {r.latest.state for r in jobs.observe(found)} == {State.PENDING}
    assert slurm.calls() == ["squeue"]
    slurm.set("forgotten")
    jobs.observe([state.read_run(r.path) for r in found])
    assert slurm.calls() == ["squeue", "sacct"]


def test_the_environment_of_the_submitter_is_left_alone(slurm, tmp_path):
    before = dict(os.environ)
    finished(launcher.submit(make(tmp_path), project=tmp_path))
    assert dict(os.environ) == before


def test_attempts_that_a_later_one_follows_are_told_how_they_ended(slurm, tmp_path):
    slurm.set("hold")
    run = launcher.submit(make(tmp_path), project=tmp_path)
    left = {  # exit status and cause
        1: ("124", "told to save and stop"),
        2: ("143", "told to stop (SIGTERM)"),
        3: (None, None),
        4: (None, "lost while the driver ran: node4"),
        5: ("125", "the driver was killed"),
        6: ("7", None),
        7: (None, None),
    }
    for number, (code, cause) in left.items():
        directory = run.attempt_dir(number)
        directory.mkdir(exist_ok=True)
        (directory / "job_id").write_text("1\n")
        (directory / "continues").touch()
        for name, text in (("exit_status", code), ("cause", cause)):
            if text:
                (directory / name).write_text(f"{text}\n")
    row = status(run)
    assert (row.state, row.attempt, row.job_id) == (State.PENDING, 7, "1")
    assert [(a.state, a.reason) for a in state.read_run(run.path).attempts[:-1]] == [
        (State.TIMEOUT, "told to save and stop"),
        (State.PREEMPTED, "preempted, or a node was taken away; Slurm started the job again"),
        (State.NODE_FAIL, "a node was lost; Slurm started the job again"),
        (State.NODE_FAIL, "lost while the driver ran: node4"),
        (State.OUT_OF_MEMORY, "the driver was killed"),
        (State.FAILED, "ended with status 7"),
    ]
    assert runs.cancel(run).state is State.CANCELLED


def test_a_resumed_job_is_told_to_stop_by_what_was_measured(slurm, tmp_path):
    bundle = make(tmp_path, "--die-at", "3", "--seconds", "0.1", minutes=240, restarts={"how": "none"})
    run = launcher.submit(bundle, project=tmp_path)
    assert finished(run).last_checkpoint == 2
    asked = launcher.request(bundle, project=tmp_path)
    assert asked.reserve.step_from == "longest of 3 measured, times 1.25"
    assert asked.reserve.save_from == "restarts.save_minutes"
    assert asked.argv[-2:] == ("--signal=B:USR2@661", str(run.path / "bundle" / "job.sbatch"))
    assert (asked.environment["LTRL_STOP_SECONDS"], asked.environment["LTRL_SAVE_SECONDS"]) == ("601", "660")
    assert asked.set_up_seconds > 0
