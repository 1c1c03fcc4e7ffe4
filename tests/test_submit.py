"""Launching on this machine, with real processes."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from launching import HOSTILE, make_bundle, stand_in, until

from ltrl import jobs, lineage, local, runs, state
from ltrl import submit as launcher
from ltrl.errors import Code, LtrlError
from ltrl.state import State

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small file system")


@pytest.fixture(autouse=True)
def _own_state(monkeypatch, tmp_path):
    monkeypatch.setenv("LTRL_STATE_DIR", str(tmp_path / "state"))


def submit(bundle, project, **options):
    return launcher.submit(bundle, project=project, **options)


def finished(run):
    return until(lambda: (row := runs.status(state.read_run(run.path))).state.is_finished and row)


def refusal(act):
    with pytest.raises(LtrlError) as caught:
        act()
    return caught.value.diagnostics[0].code, str(caught.value)


def test_a_run_goes_through_its_states_to_its_step_target(tmp_path):
    run = submit(make_bundle(tmp_path, stand_in()), tmp_path)
    assert (run.path, run.latest.state, run.latest.number) == (tmp_path / "runs" / "trial-01234567", State.RUNNING, 1)
    row = finished(run)
    assert (row.state, row.reason, row.step, row.steps, row.last_checkpoint) == (State.COMPLETED, None, 4, 4, 4)
    assert [e.state for e in state.events(run.path)] == [State.SUBMITTING, State.RUNNING, State.COMPLETED]
    said = json.loads((run.path / "attempts/1/stdout.log").read_text().splitlines()[0])
    assert said["cwd"] == str(run.path)
    assert said["environment"] | {"TOLD": None, "SECRET": None} == {
        "LTRL_RUN_ID": "trial-01234567",
        "LTRL_ATTEMPT": "1",
        "LTRL_PROJECT_DIR": str(tmp_path),
        "TOLD": None,
        "SECRET": None,
    }


def test_hostile_names_in_a_project_are_only_names(tmp_path):
    project = tmp_path / HOSTILE.replace("\n", " ").replace("/", " ")
    cluster = {"environment": {"TOLD": HOSTILE}}
    run = submit(make_bundle(project, stand_in("--", HOSTILE), cluster=cluster), project)
    assert finished(run).state is State.COMPLETED
    said = json.loads((run.path / "attempts/1/stdout.log").read_text().splitlines()[0])
    assert (said["arguments"], said["environment"]["TOLD"], said["cwd"]) == ([HOSTILE], HOSTILE, str(run.path))
    assert not list(tmp_path.rglob("PWNED"))


def test_a_dry_run_says_what_is_done_and_does_nothing(tmp_path):
    bundle = make_bundle(tmp_path, stand_in())
    asked = launcher.request(bundle, project=tmp_path)
    assert not (tmp_path / "runs").exists()
    folder = tmp_path / "runs/trial-01234567/attempts/1"
    assert asked.argv == (sys.executable, "-P", "-m", "submitit.local._local", str(folder))
    assert asked.environment["SUBMITIT_LOCAL_COMMAND"].startswith("bash ")
    assert asked.environment["SUBMITIT_LOCAL_TIMEOUT_S"] == str(1440 * 60)
    assert (asked.attempt, asked.is_resume, asked.checkpoint) == (1, False, None)
    run = submit(bundle, tmp_path)
    finished(run)
    assert asked.run_dir == run.path


def test_submitting_again_resumes_at_the_last_checkpoint(tmp_path):
    bundle = make_bundle(tmp_path, stand_in("--die-at", "3"))
    row = finished(submit(bundle, tmp_path))
    assert (row.state, row.reason, row.last_checkpoint) == (State.FAILED, "the driver ended with status 1", 2)
    asked = launcher.request(bundle, project=tmp_path)
    assert (asked.attempt, asked.is_resume, asked.checkpoint) == (2, True, 2)
    run = submit(bundle, tmp_path)
    row = finished(run)
    assert (row.state, row.attempt, row.step, row.last_checkpoint) == (State.COMPLETED, 2, 4, 4)
    assert json.loads((run.path / "attempts/2/stdout.log").read_text().splitlines()[0])["from"] == 2


def test_a_complete_run_is_not_run_again_unless_anew(tmp_path):
    bundle = make_bundle(tmp_path, stand_in())
    done = finished(submit(bundle, tmp_path))
    again = submit(bundle, tmp_path)
    assert (again.is_complete, len(again.attempts)) == (True, 1)
    assert finished(again) == done
    run = submit(bundle, tmp_path, fresh=True)
    assert run.id == "trial-01234567-2"
    assert finished(run).state is State.COMPLETED


def test_a_clean_exit_short_of_the_target_is_no_success(tmp_path):
    row = finished(submit(make_bundle(tmp_path, stand_in(steps=2), steps=4), tmp_path))
    assert (row.state, row.reason) == (State.FAILED, "ended at step 2 of 4")


def test_a_clean_exit_without_any_checkpoint_is_no_success(tmp_path):
    row = finished(submit(make_bundle(tmp_path, ["true"]), tmp_path))
    assert (row.state, row.reason) == (State.FAILED, "ended at step 0 of 4")


def test_another_experiment_in_the_run_directory_is_refused_field_by_field(tmp_path):
    run = submit(make_bundle(tmp_path, ["false"]), tmp_path)
    finished(run)
    other = make_bundle(tmp_path / "other", ["false"], steps=9, fingerprint="01234567" + "f" * 56)
    refused = Code.RESUME_REFUSED, "`trial-01234567` learned from something else: `algorithm.steps` 4 → 9"
    assert refusal(lambda: submit(other, tmp_path)) == refused
    assert refusal(lambda: launcher.submit(other, project=tmp_path, run=run)) == refused


def test_the_checkpoints_say_themselves_who_may_go_on_from_them(tmp_path):
    bundle = make_bundle(tmp_path, ["false"])
    run = submit(bundle, tmp_path)
    finished(run)
    record = run.path / "checkpoints" / "ltrl-experiment.json"
    known = json.loads(record.read_bytes())
    assert known["fingerprint"] == bundle.fingerprint
    known |= {"fingerprint": "abcdef" * 10, "fields": known["fields"] | {"optimizer.lr": 1.0}}
    record.write_text(json.dumps(known))
    lr = bundle.resolved["spec"]["optimizer"]["lr"]
    message = f"`trial-01234567` learned from something else: `optimizer.lr` 1.0 → {lr}"
    assert refusal(lambda: submit(bundle, tmp_path)) == (Code.RESUME_REFUSED, message)
    record.unlink()  # of a run that an older ltrl made: its bundle says the same
    assert submit(bundle, tmp_path).latest.number == 2


def test_a_run_forks_from_a_checkpoint_of_another_which_stays_as_it_is(tmp_path):
    source = submit(make_bundle(tmp_path, stand_in()), tmp_path)
    finished(source)
    big = source.path / "checkpoints" / "step_2" / "weights"
    big.write_bytes(bytes(2 << 20))
    bundle = make_bundle(tmp_path, stand_in(steps=6), steps=6, name="other", fingerprint="f" * 64)
    fork = lineage.fork(source, 2)
    asked = launcher.request(bundle, project=tmp_path, fork=fork)
    assert (asked.run_dir.name, asked.checkpoint, asked.is_resume) == ("other-ffffffff", 2, False)
    run = launcher.submit(bundle, project=tmp_path, fork=fork)
    row = finished(run)
    assert (row.state, row.step) == (State.COMPLETED, 6)
    assert json.loads((run.attempt_dir(1) / "stdout.log").read_text().splitlines()[0])["from"] == 2
    assert state.read_run(run.path).forked_from == f"{source.path}@2"
    weights = run.path / "checkpoints" / "step_2" / "weights"
    assert weights.stat().st_ino == big.stat().st_ino  # linked, not copied
    assert sorted(state.checkpoints(source.path)) == [2, 4]
    again = launcher.submit(bundle, project=tmp_path, fork=lineage.fork(source, None))
    assert (again.id, finished(again).state) == ("other-ffffffff-2", State.COMPLETED)


def test_a_fork_that_cannot_work_is_refused(tmp_path):
    source = submit(make_bundle(tmp_path, stand_in()), tmp_path)
    finished(source)
    code, message = refusal(lambda: lineage.fork(source, 3))
    assert (code, message) == (Code.UNKNOWN_CHECKPOINT, "`trial-01234567` has no checkpoint of step 3")
    short = make_bundle(tmp_path, stand_in(), name="short", fingerprint="e" * 64)
    message = "the checkpoint is of step 4, the target is step 4: nothing is left"
    act = lambda: launcher.submit(short, project=tmp_path, fork=lineage.fork(source, None))  # noqa: E731
    assert refusal(act) == (Code.FORK_REFUSED, message)
    assert not (tmp_path / "runs" / "short-eeeeeeee").exists()


def test_a_changed_launch_takes_the_place_of_the_old_bundle(tmp_path):
    run = submit(make_bundle(tmp_path, ["false"]), tmp_path)
    finished(run)
    submit(make_bundle(tmp_path, stand_in(), cluster={"minutes": 7}), tmp_path)
    assert finished(run).state is State.COMPLETED
    assert [a.minutes for a in state.read_run(run.path).attempts] == [1440, 7]
    assert sorted(p.name for p in run.path.iterdir() if "bundle" in p.name) == ["bundle"]


def test_one_of_many_submits_wins_and_the_others_are_told(tmp_path):
    bundle = make_bundle(tmp_path, stand_in("--seconds", "0.3"))
    outcomes = []

    def try_it():
        try:
            outcomes.append(submit(bundle, tmp_path).latest.state)
        except LtrlError as error:
            outcomes.append(error.diagnostics[0].code)

    threads = [threading.Thread(target=try_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [Code.RUN_BUSY] * 5 + [State.RUNNING]
    run = state.read_run(tmp_path / "runs" / "trial-01234567")
    assert len(run.attempts) == 1
    code, message = refusal(lambda: submit(bundle, tmp_path))
    assert (code, "has an attempt that is not over: job" in message) == (Code.RUN_BUSY, True)
    assert finished(run).state is State.COMPLETED


LAUNCH = """
import os, sys
from pathlib import Path
from ltrl import bundle, submit
run = submit.submit(bundle.read(Path(sys.argv[1])), project=Path(sys.argv[2]))
print(run.latest.job_id, flush=True)
if len(sys.argv) > 3:
    import time; time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_a_run_survives_its_shell(tmp_path, number):
    bundle = make_bundle(tmp_path, stand_in("--seconds", "0.2"))
    shell = subprocess.Popen(
        [sys.executable, "-c", LAUNCH, bundle.path, tmp_path, "stay"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert shell.stdout
    with shell:
        assert shell.stdout.readline().strip().isdecimal()
        os.killpg(shell.pid, number)
        assert shell.wait(10) != 0
    row = finished(state.read_run(tmp_path / "runs" / "trial-01234567"))
    assert (row.state, row.step) == (State.COMPLETED, 4)


def lost_submission(tmp_path, **changes):
    """A run as a submitter leaves it that was killed after it wrote the attempt."""
    bundle = make_bundle(tmp_path, stand_in())
    asked = launcher.request(bundle, project=tmp_path)
    asked.run_dir.mkdir(parents=True)
    run = state.add_attempt(launcher.prepare_run(bundle, asked), replace(launcher.attempt_of(asked), **changes))
    return bundle, asked, run


def test_a_submitter_killed_before_the_launch_leaves_a_visible_attempt_that_ends(tmp_path):
    bundle, _, run = lost_submission(tmp_path)
    assert runs.status(run).state is State.SUBMITTING
    assert refusal(lambda: submit(bundle, tmp_path))[0] is Code.RUN_BUSY
    run = state.change_attempt(run, 1, created="2026-01-01T00:00:00.000+00:00")
    row = runs.status(run)
    assert (row.state, row.reason) == (State.FAILED, "interrupted while it was submitted; nothing was launched")
    run = submit(bundle, tmp_path)
    assert (run.latest.number, finished(run).state) == (2, State.COMPLETED)


def test_a_job_whose_id_was_never_written_down_is_found(tmp_path):
    _, asked, run = lost_submission(tmp_path, created="2026-01-01T00:00:00.000+00:00")
    slow = make_bundle(tmp_path, stand_in("--seconds", "0.5"))
    launcher._copy(slow, run.path / "bundle")
    pid = local.launch(asked.argv, folder=run.attempt_dir(1), directory=run.path, variables=asked.environment)
    until(lambda: state.job_id(run.attempt_dir(1)))
    row = runs.status(run)
    assert (row.state, row.job_id) == (State.RUNNING, pid)
    assert runs.cancel(state.read_run(run.path)).state is State.CANCELLED


def test_a_submitter_killed_before_it_recorded_anything_is_no_obstacle(tmp_path):
    bundle = make_bundle(tmp_path, stand_in())
    (tmp_path / "runs/trial-01234567/attempts/1").mkdir(parents=True)
    run = submit(bundle, tmp_path)
    assert (run.latest.number, finished(run).state) == (2, State.COMPLETED)


def test_a_killed_job_is_not_taken_for_running(tmp_path):
    run = submit(make_bundle(tmp_path, stand_in("--seconds", "30")), tmp_path)
    leader = int(run.latest.job_id)
    said = run.attempt_dir(1) / "stdout.log"
    until(lambda: said.exists() and said.read_text())
    os.kill(leader, signal.SIGKILL)
    assert runs.status(run).state is State.RUNNING  # its driver still is
    for pid in list(local._members(leader, run.path, 1)):
        os.kill(pid, signal.SIGKILL)
    row = finished(run)
    assert (row.state, row.reason) == (State.FAILED, "killed, or the machine was restarted")


def test_a_process_with_the_same_number_is_not_the_job(tmp_path):
    _, _, run = lost_submission(tmp_path)
    run = state.change_attempt(run, 1, state=State.RUNNING, job_id=str(os.getpid()), process_start="1")
    assert runs.cancel(run).state is State.FAILED  # and this test goes on


def test_an_attempt_of_another_machine_is_unknown_here(tmp_path):
    _, _, run = lost_submission(tmp_path, host="elsewhere", state=State.RUNNING, job_id="1")
    row = runs.status(run)
    assert (row.state, row.reason) == (State.UNKNOWN, "it runs on `elsewhere`")
    assert state.read_run(run.path).latest.state is State.RUNNING


def test_a_secret_that_is_not_there_stops_the_submission(tmp_path, monkeypatch):
    cluster = {"environment": {"KEY": "${env:LTRL_TEST_KEY}"}}
    bundle = make_bundle(tmp_path, stand_in(), cluster=cluster)
    message = "the cluster profile passes on `LTRL_TEST_KEY`, which your environment does not have"
    assert refusal(lambda: submit(bundle, tmp_path)) == (Code.UNSET_REFERENCE, message)
    assert not (tmp_path / "runs").exists()
    monkeypatch.setenv("LTRL_TEST_KEY", "s3cret")
    run = submit(bundle, tmp_path)
    assert finished(run).state is State.COMPLETED
    assert "s3cret" not in "".join(p.read_text() for p in run.path.rglob("*") if p.is_file())


def test_a_path_that_submitit_would_rewrite_is_refused(tmp_path):
    project = tmp_path / "100%accurate"
    bundle = make_bundle(project, stand_in())
    assert refusal(lambda: submit(bundle, project))[0] is Code.INVALID_VALUE


def test_a_path_that_pythonpath_would_split_is_refused_for_a_job_with_a_payload(tmp_path):
    project = tmp_path / "a:b"
    assert launcher.request(make_bundle(project, stand_in()), project=project).attempt == 1
    bundle = make_bundle(project, stand_in(), spec="qwen30b_moe.yaml")
    code, message = refusal(lambda: launcher.request(bundle, project=project))
    assert (code, message.startswith("the path of this run must not have `:` in it")) == (Code.INVALID_VALUE, True)


def test_the_profile_decides_where_runs_are(tmp_path):
    bundle = make_bundle(tmp_path / "p", stand_in(), cluster={"runs_dir": str(tmp_path / "elsewhere")})
    run = submit(bundle, tmp_path / "p")
    assert run.path == tmp_path / "elsewhere" / "trial-01234567"
    assert finished(run).state is State.COMPLETED


@root_only
def test_a_full_disk_and_a_read_only_one_are_said(tmp_path):
    bundle = make_bundle(tmp_path / "p", stand_in(), cluster={"runs_dir": str(tmp_path / "disk" / "runs")})
    (tmp_path / "disk").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", tmp_path / "disk"], check=True)
    try:
        code, message = refusal(lambda: submit(bundle, tmp_path / "p"))
        assert (code, "no space left on device" in message) == (Code.UNWRITABLE, True)
        assert not list((tmp_path / "disk" / "runs").iterdir())
        subprocess.run(["mount", "-o", "remount,ro", tmp_path / "disk"], check=True)
        code, message = refusal(lambda: submit(bundle, tmp_path / "p"))
        assert (code, "read-only file system" in message) == (Code.UNWRITABLE, True)
    finally:
        subprocess.run(["umount", tmp_path / "disk"], check=True)


def test_the_time_limit_ends_the_driver_and_is_named(tmp_path):
    """The controller's signal 30 s before its own deadline, sent by hand: no test waits for a minute."""
    run = submit(make_bundle(tmp_path, stand_in("--seconds", "30")), tmp_path)
    until(lambda: (run.attempt_dir(1) / "stdout.log").exists() and (run.attempt_dir(1) / "stdout.log").read_text())
    script = next(
        p
        for p in local._members(int(run.latest.job_id), run.path, 1)
        if b"local.sh" in Path(f"/proc/{p}/cmdline").read_bytes()
    )
    os.kill(script, signal.SIGUSR2)
    row = finished(run)
    assert (row.state, row.reason) == (State.TIMEOUT, "the time limit was reached")


def test_a_docker_without_its_daemon_is_named_before_the_driver(tmp_path):
    said = "Cannot connect to the Docker daemon at unix:///nowhere. Is the docker daemon running?"
    (tmp_path / "bin").mkdir()
    if not shutil.which("docker"):
        (tmp_path / "bin" / "docker").write_text(f"#!/bin/bash\necho >&2 '{said}'\nexit 1\n")
        (tmp_path / "bin" / "docker").chmod(0o755)
    cluster = {
        "container": {"runtime": "docker", "image": "busybox"},
        "environment": {"DOCKER_HOST": "unix:///nowhere"},
        "setup": [f"PATH=$PATH:{shlex.quote(str(tmp_path / 'bin'))}"],
    }
    run = launcher.submit(make_bundle(tmp_path, cluster=cluster), project=tmp_path)
    row = finished(run)
    fix = "start its daemon, or choose another `container.runtime`: podman has none"
    assert (row.state, row.reason) == (State.FAILED, f"docker starts no container here: {said}; {fix}")
    assert not (run.attempt_dir(1) / "moments").exists()


def test_the_scheduler_is_not_asked_about_local_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    _, _, run = lost_submission(tmp_path)
    assert jobs.observe([run])[0].latest.state is State.SUBMITTING
