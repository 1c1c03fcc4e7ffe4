"""Following runs and ending them."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from launching import make_bundle, stand_in, until

from ltrl import compare, local, logs, runs, state
from ltrl import submit as launcher
from ltrl.errors import Code, LtrlError
from ltrl.metrics.reader import STEP_TIME
from ltrl.state import Attempt, Index, Run, State


@pytest.fixture(autouse=True)
def _own_state(monkeypatch, tmp_path):
    monkeypatch.setenv("LTRL_STATE_DIR", str(tmp_path / "state"))


def start(tmp_path, *arguments, **options):
    return launcher.submit(make_bundle(tmp_path, stand_in(*arguments), **options), project=tmp_path)


def make_run(path: Path, *, final=State.COMPLETED, created="2026-01-01T00:00:00.000+00:00", steps=100) -> Run:
    path.mkdir(parents=True)
    state.create_run(Run(path, path.name, "trial-01234567", "0" * 64, "local", steps, str(path), created))
    attempt = Attempt(1, final, "local", "local", 60, local.hostname(), created, job_id="1", process_start="0")
    return state.add_attempt(state.read_run(path), attempt)


def write_metrics(run: Path, start_number: int, steps, seconds=2.0):
    directory = run / "logs" / f"exp_{start_number:03}"
    directory.mkdir(parents=True)
    lines = [{"step": 0, "validation/accuracy": 0.1}]
    lines += [{"step": s, "train/reward": s / 10, "timing/train/total_step_time": seconds} for s in steps]
    (directory / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 99, "tra')


def refusal(act):
    with pytest.raises(LtrlError) as caught:
        act()
    return caught.value.diagnostics[0].code, str(caught.value)


def test_a_row_counts_every_step_once(tmp_path):
    run = make_run(tmp_path / "r", final=State.RUNNING)
    write_metrics(run.path, 1, range(1, 38))
    write_metrics(run.path, 2, range(21, 31), seconds=3.0)
    row = runs.row_of(run)
    assert (row.step, row.steps, row.reward, row.eta_seconds) == (30, 100, 2.55, 210.0)
    (run.path / "logs" / "exp_003").mkdir()  # a start that has not measured anything
    assert runs.row_of(run).step == 30


def test_a_long_history_is_read_from_its_end(tmp_path):
    run = make_run(tmp_path / "r", steps=9000)
    write_metrics(run.path, 1, range(1, 8001))
    assert (run.path / "logs/exp_001/metrics.jsonl").stat().st_size > runs.TAIL_BYTES
    row = runs.row_of(run)
    assert (row.step, round(row.reward, 6)) == (8000, 799.55)


def test_figures_that_are_no_numbers_are_left_out(tmp_path):
    run = make_run(tmp_path / "r", final=State.RUNNING)
    write_metrics(run.path, 1, range(1, 4))
    path = run.path / "logs/exp_001/metrics.jsonl"
    bad = ('"x"', "[1]", "true", "null", "NaN", "1e400", "1" + "0" * 400)
    lines = [f'{{"step": {4 + i}, "train/reward": {v}, "{STEP_TIME}": {v}}}\n' for i, v in enumerate(bad)]
    lines += [f'{{"step": {step}, "train/reward": 9}}\n' for step in ("true", "-1", "1e2", "9" * 30)]
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1] + lines))
    row = runs.row_of(run)
    assert (row.step, row.reward, row.eta_seconds) == (10, pytest.approx(0.2), 180.0)


def test_a_run_is_found_by_its_name_its_beginning_or_its_path(tmp_path):
    for i, name in enumerate(["alpha-1", "alpha-2", "beta-1"]):
        make_run(tmp_path / "runs" / name, created=f"2026-01-0{i + 1}T00:00:00.000+00:00")

    def find(name):
        return runs.find_run(name, project=tmp_path).id

    assert [find(n) for n in (None, "beta", "alpha-1", str(tmp_path / "runs/alpha-2"))] == [
        "beta-1",
        "beta-1",
        "alpha-1",
        "alpha-2",
    ]
    assert refusal(lambda: find("alpha")) == (Code.UNKNOWN_RUN, "`alpha` could be any of `alpha-1`, `alpha-2`")
    assert refusal(lambda: find("gamma")) == (Code.UNKNOWN_RUN, "no run is called `gamma`")
    assert refusal(lambda: find("/nowhere/x"))[0] is Code.UNKNOWN_RUN


def test_no_runs_is_told_as_such(tmp_path):
    assert runs.list_runs(tmp_path) == ()
    assert refusal(lambda: runs.find_run(None, project=tmp_path)) == (Code.UNKNOWN_RUN, "there are no runs yet")


def test_a_lost_index_fills_up_again_and_gone_runs_leave_it(tmp_path):
    made = [make_run(tmp_path / "runs" / f"r{i}").path for i in range(3)]
    assert [r.id for r in runs.list_runs(tmp_path)] == ["r0", "r1", "r2"]
    elsewhere = tmp_path / "another" / "project"
    assert [r.id for r in runs.list_runs(elsewhere)] == ["r0", "r1", "r2"]
    Index().path.unlink()
    assert runs.list_runs(elsewhere) == ()
    assert len(runs.list_runs(tmp_path)) == 3
    subprocess.run(["rm", "-r", made[0]], check=True)
    assert [r.id for r in runs.list_runs(tmp_path)] == ["r1", "r2"]
    assert made[0] not in Index().rows()


def test_a_damaged_run_hides_no_other(tmp_path):
    sound, broken, torn = (make_run(tmp_path / "runs" / name, final=State.RUNNING) for name in ("a", "b", "c"))
    (broken.path / "run.json").write_text("{")
    (torn.path / "attempts/1/attempt.json").write_text('{"number": 1}')
    rows = {row.id: row for row in runs.list_runs(tmp_path)}
    assert [rows[name].state for name in "bc"] == [State.UNKNOWN] * 2
    assert "b/run.json` is damaged" in rows["b"].reason
    assert "attempts/1/attempt.json` is damaged" in rows["c"].reason
    assert [row.is_open for row in rows.values()] == [False] * 3  # the job of `a` is not there
    assert runs.find_run(None, project=tmp_path).id == sound.id
    assert len(list(runs.watch_all(tmp_path, everywhere=True, every_s=0.01))) == 1
    subprocess.run(["rm", "-r", sound.path], check=True)
    code, message = refusal(lambda: runs.find_run(None, project=tmp_path))
    assert code is Code.UNKNOWN_RUN
    assert "b/run.json" in message


def test_runs_go_with_their_project(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    run = make_run(old / "runs" / "r")
    (old / "specs").mkdir()
    data = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps({**data, "project": str(old)}))
    assert [row.id for row in runs.list_runs(old, everywhere=False)] == ["r"]
    old.rename(new)
    [row] = runs.list_runs(new, everywhere=False)
    assert (row.path, row.project) == (str(new / "runs" / "r"), str(new))


def test_a_bundle_without_a_spec_cannot_be_compared(tmp_path):
    run = make_run(tmp_path / "r")
    (run.path / "bundle").mkdir()
    for text in ("[1]", '{"spec": 3}', "{"):
        (run.path / "bundle" / "resolved.json").write_text(text)
        code, message = refusal(lambda: compare.compare([runs.row_of(run)]))
        assert (code, message.startswith("the bundle of `r` cannot be read: ")) == (Code.NOT_A_BUNDLE, True)


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_a_run_out_of_reach_is_left_out_and_not_forgotten(tmp_path):
    near, far = (make_run(tmp_path / project / "runs" / project).path for project in ("near", "far"))
    Index().add(near, far)
    for path in (tmp_path, *tmp_path.parents):  # pytest keeps its folders to their owner
        if path.stat().st_mode & 0o777 == 0o700:
            path.chmod(0o711)
    subprocess.run(["chmod", "-R", "a+rwX", tmp_path], check=True)
    far.parent.chmod(0o700)
    os.seteuid(65534)
    try:
        seen = runs.list_runs(tmp_path)
    finally:
        os.seteuid(0)
    assert [row.id for row in seen] == ["near"]
    assert [row.id for row in runs.list_runs(tmp_path)] == ["far", "near"]


def test_200_runs_are_listed_at_once(tmp_path):
    for i in range(200):
        write_metrics(make_run(tmp_path / "runs" / f"r{i:03}").path, 1, range(1, 20))
    first = runs.list_runs(tmp_path)
    began = time.perf_counter()
    again = runs.list_runs(tmp_path)
    seconds = time.perf_counter() - began
    assert (len(again), again) == (200, first)
    assert seconds < 0.5


def test_a_finished_run_that_goes_on_is_looked_at_again(tmp_path):
    run = start(tmp_path, "--die-at", "3")
    until(lambda: runs.list_runs(tmp_path)[0].state is State.FAILED)
    runs.list_runs(tmp_path)
    launcher.submit(make_bundle(tmp_path, stand_in("--seconds", "0.3")), project=tmp_path)
    assert runs.list_runs(tmp_path)[0].state is State.RUNNING
    until(lambda: runs.list_runs(tmp_path)[0].state is State.COMPLETED)
    assert run.id == runs.list_runs(tmp_path)[0].id


def test_cancel_ends_the_job_with_its_children_and_nothing_else(tmp_path):
    mine = start(tmp_path / "a", "--seconds", "30", "--child")
    other = start(tmp_path / "b", "--seconds", "30")
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    session = int(mine.latest.job_id)
    members = until(lambda: len(found := list(local._members(session, mine.path, 1))) == 4 and found)
    row = runs.cancel(mine)
    assert (row.state, row.reason) == (State.CANCELLED, "cancelled")
    assert [pid for pid in members if local.start_of(pid)] == []
    assert bystander.poll() is None
    assert runs.status(other).state is State.RUNNING
    bystander.kill()
    bystander.wait()
    assert runs.cancel(state.read_run(other.path)).state is State.CANCELLED
    assert runs.cancel(state.read_run(other.path)).state is State.CANCELLED  # once more is fine


def test_a_driver_that_will_not_end_is_killed(tmp_path, monkeypatch):
    stubborn = ["bash", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done"]
    run = launcher.submit(make_bundle(tmp_path, stubborn), project=tmp_path)
    until(lambda: (p := run.attempt_dir(1) / "stdout.log").exists() and p.read_text() == "up\n")
    local.end(int(run.latest.job_id), run.latest.process_start, run.path, 1, patience_s=0.5)
    until(lambda: not local.is_alive(int(run.latest.job_id), run.latest.process_start, run.path, 1))
    assert until(lambda: runs.status(state.read_run(run.path)).state) in (State.FAILED, State.CANCELLED)


def test_logs_are_read_and_followed(tmp_path):
    run = start(tmp_path, "--seconds", "0.2")
    lines = [line.text for line in logs.follow(run, every_s=0.05)]
    assert lines[1:] == ["step 1", "step 2", "step 3", "step 4"]
    assert [line.text for line in logs.read(run)] == lines
    assert {line.file.name for line in logs.read(run, role="all")} == {"stdout.log"}
    assert refusal(lambda: logs.log_files(run, attempt=7)) == (
        Code.UNKNOWN_RUN,
        f"`{run.id}` has no attempt 7: it has 1",
    )


def test_a_job_that_dies_before_its_driver_shows_why(tmp_path):
    run = start(tmp_path, cluster={"setup": ["echo no such module >&2; false"]})
    row = until(lambda: (r := runs.status(state.read_run(run.path))).state.is_finished and r)
    assert row.reason == "the setup of the cluster profile ended with status 1"
    assert "no such module" in [line.text for line in logs.read(run)]


def test_watching_ends_with_the_run(tmp_path):
    run = start(tmp_path, "--seconds", "0.1")
    rows = list(runs.watch(run, every_s=0.05))
    assert rows[0].state is State.RUNNING
    assert (rows[-1].state, rows[-1].step) == (State.COMPLETED, 4)
    assert [r.step for r in rows] == sorted(r.step for r in rows)


def test_two_who_look_at_an_end_write_it_once_each_at_most(tmp_path):
    run = start(tmp_path)
    until(lambda: state.exit_status(run.attempt_dir(1)) is not None)
    threads = [threading.Thread(target=lambda: runs.status(state.read_run(run.path))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert state.read_run(run.path).latest.state is State.COMPLETED


def cli(directory, *arguments, **variables):
    code = "import sys; from ltrl.cli import main; sys.argv[0] = 'ltrl'; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=directory,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_commands_from_submit_to_cancel(tmp_path):
    bundle = make_bundle(tmp_path, stand_in("--die-at", "3"))
    (tmp_path / "build" / ".last").write_text(f"{bundle.name}\n")
    shown = cli(tmp_path, "submit", "--dry-run")
    assert (shown.returncode, "export LTRL_ATTEMPT=1" in shown.stdout, (tmp_path / "runs").exists()) == (0, True, False)
    failed = cli(tmp_path, "submit", "--watch")
    assert failed.returncode == 3
    assert failed.stderr.startswith("bundle compiled last here: build/trial-01234567\n")
    assert failed.stderr.splitlines()[-2:] == [
        "trial-01234567: step 3/4, FAILED, reward 0.500, the driver ended with status 1",
        "`ltrl why trial-01234567` tells the first cause",
    ]
    again = cli(tmp_path, "submit", str(bundle.path), "--watch", "--json")
    assert (again.returncode, json.loads(again.stdout)["state"]) == (0, "COMPLETED")
    again = cli(tmp_path, "submit", "--watch")
    assert (again.returncode, "`trial-01234567` is complete: nothing to do" in again.stderr) == (0, True)
    (row,) = json.loads(cli(tmp_path, "status", "--json").stdout)
    assert (row["id"], row["state"], row["step"], row["attempt"]) == ("trial-01234567", "COMPLETED", 4, 2)
    assert "COMPLETED" in cli(tmp_path, "status").stdout
    assert "4 of 4" in cli(tmp_path, "status", "trial").stdout
    assert cli(tmp_path, "logs", "trial", "--attempt", "1").stdout.splitlines()[1:4] == ["step 1", "step 2", "step 3"]
    over = cli(tmp_path, "cancel")
    assert (over.returncode, over.stdout) == (0, "trial-01234567 COMPLETED\n")


def test_control_c_of_a_watch_leaves_the_run_running(tmp_path):
    make_bundle(tmp_path, stand_in("--seconds", "1"))
    (tmp_path / "build" / ".last").write_text("trial-01234567\n")
    code = "import sys; from ltrl.cli import main; sys.argv = ['ltrl', 'submit', '--watch']; main()"
    watcher = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    with watcher:
        until(lambda: list(tmp_path.glob("runs/*/logs/exp_001")), 60)
        hold = tmp_path / "runs" / "trial-01234567" / "hold"
        hold.touch()  # however slow we are, it is not over
        time.sleep(0.3)
        os.killpg(watcher.pid, signal.SIGINT)
        assert watcher.stderr
        said = watcher.stderr.read()
        assert watcher.wait() == 0
    assert "`trial-01234567` goes on" in said
    hold.unlink()
    run = state.read_run(tmp_path / "runs" / "trial-01234567")
    assert until(lambda: (r := runs.status(run)).state.is_finished and r).state is State.COMPLETED
