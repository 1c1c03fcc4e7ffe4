"""Following runs: their logs while they grow, their rows while they change, their ends."""

import json
import os
import pty
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
from fake_slurm import FakeSlurm
from launching import make_bundle, stand_in, until
from test_runs import cli, make_run, refusal, start, write_metrics

from ltrl import jobs, logs, runs, state
from ltrl import submit as launcher
from ltrl.errors import Code
from ltrl.state import Index, State

SLURM = {"executor": "slurm", "nodes": 1, "gpus_per_node": 8, "slurm": {"exclusive": False}}


@pytest.fixture(autouse=True)
def _own_state(monkeypatch, tmp_path):
    monkeypatch.setenv("LTRL_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    fake = FakeSlurm(tmp_path / "slurm")
    monkeypatch.setenv("PATH", fake.path)
    return fake


def submit(tmp_path, *arguments, name="trial"):
    return launcher.submit(make_bundle(tmp_path, stand_in(*arguments), cluster=SLURM, name=name), project=tmp_path)


def many_logs(tmp_path):
    run = make_run(tmp_path / "runs" / "r")
    texts = {
        "stdout.log": b"one\ntw\xff\n\x80three",
        "stderr.log": b"late\n",
        "job.log": b"job\n",
        "ray-head.log": b"head\n",
        "ray-worker-node10.log": b"ten\n",
        "ray-worker-node9.log": b"nine\n",
        "ray-logs/node9/raylet.log": b"raylet\n",
    }
    for name, text in texts.items():
        path = run.attempt_dir(1) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
    return run


def test_logs_are_chosen_by_role_and_rank(tmp_path):
    run = many_logs(tmp_path)

    def names(**options):
        return [(log.name, log.rank) for log in logs.log_files(run, **options)]

    assert names() == [("stdout.log", 0), ("stderr.log", 0)]
    assert names(role="worker") == [("ray-worker-node9.log", 1), ("ray-worker-node10.log", 2)]  # Slurm's order of nodes
    assert names(role="worker", rank=2) == [("ray-worker-node10.log", 2)]
    assert names(role="all", rank=1) == [("ray-worker-node9.log", 1), ("ray-logs/node9/raylet.log", 1)]
    assert len(names(role="all")) == 7
    assert refusal(lambda: names(role="worker", rank=3)) == (
        Code.NO_LOGS,
        "attempt 1 of `r` has no such log of rank 3, only of 1, 2",
    )


def test_bytes_that_are_no_text_are_marked_and_the_last_lines_are_enough(tmp_path):
    run = many_logs(tmp_path)
    assert [line.text for line in logs.read(run)] == ["one", "tw\ufffd", "\ufffdthree", "late"]
    assert [line.text for line in logs.read(run, last=1)] == ["\ufffdthree", "late"]
    assert [line.text for line in logs.follow(run, last=2)] == ["tw\ufffd", "\ufffdthree", "late"]
    shown = cli(tmp_path, "logs", "r", "-n", "1", "--role", "worker")
    assert (shown.returncode, shown.stdout) == (0, "ray-worker-node9.log: nine\nray-worker-node10.log: ten\n")


def test_a_directory_with_the_name_of_a_log_is_none(tmp_path):
    run = many_logs(tmp_path)
    (run.attempt_dir(1) / "stdout.log").unlink()
    (run.attempt_dir(1) / "stdout.log").mkdir()
    assert [line.text for line in logs.read(run)] == ["late"]


def test_there_is_no_attempt_0(tmp_path):
    run = many_logs(tmp_path)
    told = Code.UNKNOWN_RUN, "`r` has no attempt 0: it has 1"
    assert refusal(lambda: logs.log_files(run, attempt=0)) == told
    assert refusal(lambda: next(logs.follow(run, attempt=0))) == told


def test_logs_are_listed(tmp_path):
    many_logs(tmp_path)
    listed = json.loads(cli(tmp_path, "logs", "r", "--list", "--json").stdout)
    assert [(log["role"], log["rank"], log["name"], log["bytes"]) for log in listed][:3] == [
        ("driver", 0, "stdout.log", 14),
        ("driver", 0, "stderr.log", 5),
        ("job", 0, "job.log", 4),
    ]
    assert "ray-logs/node9/raylet.log" in cli(tmp_path, "logs", "r", "--list").stdout


def test_a_log_that_is_replaced_or_cut_is_followed_on(tmp_path):
    path = tmp_path / "a.log"
    tail = logs._Tail(path, None)

    def read():
        return list(tail.read(to_end=False))

    assert read() == []  # not there yet
    path.write_text("one\ntw")
    assert read() == ["one"]
    with path.open("a") as old:
        path.rename(tmp_path / "a.log.1")
        path.write_text("new\n")
        old.write("o\n")
    assert read() == ["two", "new"]
    path.write_text("")  # as `logrotate` does with `copytruncate`
    assert read() == []
    path.write_text("again\nlast")
    assert (read(), list(tail.read(to_end=True))) == (["again"], ["last"])


def test_following_goes_on_with_a_later_attempt(tmp_path):
    run = start(tmp_path, "--die-at", "3", "--seconds", "0.05")
    seen = logs.follow(run, every_s=0.02)
    first = next(seen)
    until(lambda: runs.status(state.read_run(run.path)).state is State.FAILED)
    launcher.submit(make_bundle(tmp_path, stand_in()), project=tmp_path)
    lines = [first, *seen]
    assert [line.text for line in lines if line.text.startswith("step") and line.file.attempt == 1] == [
        "step 1",
        "step 2",
        "step 3",
    ]
    assert [line.text for line in lines if line.text.startswith("step") and line.file.attempt == 2] == [
        "step 3",
        "step 4",
    ]


def test_gpu_hours_are_those_of_all_attempts(tmp_path):
    run = make_run(tmp_path / "r", final=State.FAILED)
    hours = {"started": "2026-01-01T00:00:00.000+00:00", "ended": "2026-01-01T01:30:00.000+00:00"}
    run = state.change_attempt(run, 1, gpus=32, **hours)
    second = replace(
        run.latest, number=2, gpus=16, started="2026-01-02T00:00:00.000+00:00", ended=None, state=State.PENDING
    )
    run = state.add_attempt(run, second)
    assert runs.row_of(run).gpu_hours == 48.0  # what waits holds nothing
    run = state.change_attempt(run, 2, state=State.FAILED, ended="2026-01-02T00:30:00.000+00:00")
    assert (runs.row_of(run).gpu_hours, runs.row_of(run).gpus) == (56.0, 16)


def test_an_attempt_knows_when_it_began_and_ended(slurm, tmp_path):
    run = submit(tmp_path, "--seconds", "0.3")
    until(lambda: runs.status(state.read_run(run.path)).state.is_finished)
    attempt = state.read_run(run.path).latest
    assert attempt.gpus == 8
    assert 1 <= state.seconds_between(attempt.started, attempt.ended) < 60
    assert runs.status(state.read_run(run.path)).gpu_hours > 0
    data = json.loads(cli(tmp_path, "status", run.id, "--json").stdout)
    assert [(a["number"], a["state"], a["seconds"] > 0) for a in data["attempts"]] == [(1, "COMPLETED", True)]


def test_a_job_that_used_its_time_and_was_forgotten_has_timed_out(slurm, tmp_path):
    slurm.set("hold")
    run = submit(tmp_path)
    folder = run.attempt_dir(1)
    (folder / "job_id").write_text("1\n")
    (folder / "exit_status").write_text("143\n")
    os.utime(folder / "job_id", (1_700_000_000, 1_700_000_000))
    slurm.set("forgotten")
    for seconds, expected in {1440 * 60 - 5: State.TIMEOUT, 1440 * 60 - 60: State.FAILED}.items():
        os.utime(folder / "exit_status", (1_700_000_000 + seconds, 1_700_000_000 + seconds))
        assert jobs._on_slurm(run, run.latest, jobs._Answer({})).state is expected


def test_waiting_runs_are_not_written_each_time_they_are_looked_at(slurm, tmp_path):
    slurm.set("hold")
    run = submit(tmp_path)
    runs.status(run)
    written = (run.attempt_dir(1) / "attempt.json").stat().st_mtime_ns
    record = json.loads((slurm.job(1) / "job.json").read_text())
    record["options"]["hold"] = ""
    (slurm.job(1) / "job.json").write_text(json.dumps(record))
    assert runs.status(state.read_run(run.path)).reason == "JobHeldUser"
    assert (run.attempt_dir(1) / "attempt.json").stat().st_mtime_ns == written


def test_several_runs_are_cancelled_in_one_call_and_told_one_by_one(slurm, tmp_path):
    slurm.set("hold")
    waiting = submit(tmp_path, "--seconds", "60", name="waiting")
    slurm.clear("hold")
    busy = submit(tmp_path, "--seconds", "60", name="busy")
    until((busy.attempt_dir(1) / "stdout.log").exists)
    slurm.calls()
    done = cli(tmp_path, "cancel", busy.id, waiting.id, waiting.id)
    assert done.returncode == 0
    assert sorted(line.split()[0] for line in done.stdout.splitlines()) == [busy.id, waiting.id]
    assert slurm.calls().count("scancel") == 1
    assert "was over already" in cli(tmp_path, "cancel", busy.id).stderr
    assert cli(tmp_path, "cancel", "--all").stderr == "nothing runs or waits here\n"


def test_all_runs_of_a_project_are_cancelled_and_no_other(slurm, tmp_path):
    slurm.set("hold")
    mine = [submit(tmp_path / "a", name=f"t{i}") for i in range(3)]
    other = submit(tmp_path / "b")
    done = cli(tmp_path / "a", "cancel", "--all", "--json")
    assert {row["state"] for row in json.loads(done.stdout)} == {"CANCELLED"}
    assert len(json.loads(done.stdout)) == len(mine)
    assert runs.status(other).state is State.PENDING
    assert cli(tmp_path / "a", "cancel", "--all", mine[0].id).returncode == 2


def test_a_cancel_that_slurm_does_not_hear_is_an_error_and_changes_nothing(slurm, tmp_path):
    slurm.set("hold")
    run = submit(tmp_path)
    slurm.set("down")
    done = cli(tmp_path, "cancel", run.id)
    assert (done.returncode, done.stdout) == (1, f"{run.id} UNKNOWN\n")
    assert f"error[LTRL053]: cannot cancel `{run.id}` (job 1): scancel: error:" in done.stderr
    assert state.read_run(run.path).latest.is_cancelled is False


def test_hundreds_of_runs_cost_one_squeue_and_one_sacct(slurm, tmp_path):
    slurm.set("accounting")
    for i in range(200):
        run = make_run(tmp_path / "runs" / f"r{i:04}", final=State.FAILED if i % 10 else State.RUNNING)
        if not i % 10:
            state.change_attempt(run, 1, executor="slurm", job_id=str(i + 1))
    runs.list_runs(tmp_path)
    slurm.calls()
    rows = runs.list_runs(tmp_path)
    assert slurm.calls() == ["squeue", "sacct"]
    assert (len(rows), [r.state for r in rows].count(State.UNKNOWN)) == (200, 20)


def test_older_runs_are_left_out_of_the_table_but_not_of_the_json(tmp_path):
    for i in range(60):
        make_run(tmp_path / "runs" / f"r{i:02}", created=f"2026-01-01T00:00:{i:02}.000+00:00")
    for path in (tmp_path / "runs").glob("*/run.json"):
        path.write_text(path.read_text().replace(f'"project": "{path.parent}"', f'"project": "{tmp_path}"'))
    shown = cli(tmp_path, "status", "-n", "5")
    assert [line.split()[0] for line in shown.stdout.splitlines() if " r" in line][1:] == [
        f"r{i}" for i in range(55, 60)
    ]
    assert shown.stderr == "older runs that are over and left out: 55; `-n 0` shows all\n"
    assert len(json.loads(cli(tmp_path, "status", "--json").stdout)) == 60


def test_watching_all_prints_a_line_for_each_change_where_there_is_no_terminal(slurm, tmp_path):
    submit(tmp_path, "--seconds", "0.2", name="a")
    submit(tmp_path, "--seconds", "0.2", name="b")
    shown = cli(tmp_path, "status", "--watch")
    assert shown.returncode == 0
    assert [line for line in shown.stderr.splitlines() if "COMPLETED" in line] == [
        "a-01234567: step 4/4, COMPLETED, reward 0.625",
        "b-01234567: step 4/4, COMPLETED, reward 0.625",
    ]


def test_watching_refreshes_in_place_on_a_terminal_and_control_c_ends_it_cleanly(slurm, tmp_path):
    slurm.set("hold")
    run = submit(tmp_path)
    leader, follower = pty.openpty()
    code = "import sys; from ltrl.cli import main; sys.argv = ['ltrl', 'status', '--watch']; main()"
    watcher = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        stdin=follower,
        stdout=follower,
        stderr=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "150"},
    )
    os.close(follower)
    shown = b""
    while shown.count(b"PENDING") < 2:
        shown += os.read(leader, 4096)
    assert b"\x1b[1A" in shown  # the cursor goes up: the table is drawn over the one before
    watcher.send_signal(signal.SIGINT)
    said = watcher.communicate()[1]
    os.close(leader)
    assert (watcher.returncode, said) == (0, b"")
    assert runs.status(run).state is State.PENDING


def test_the_index_is_rebuilt_from_directories(tmp_path):
    made = [
        make_run(tmp_path / place / f"r{i}").path for i, place in enumerate(["a/runs", "a/elsewhere/deep", "b/runs"])
    ]
    assert cli(tmp_path, "reindex", "a").stdout == "2 runs\n"
    assert set(Index().rows()) == set(made[:2])
    assert cli(tmp_path, "reindex", "b").stdout == "3 runs\n"  # what was known stays known
    Index().path.write_text("no database" * 1000)
    assert cli(tmp_path, "reindex", "a", "b").stdout == "3 runs\n"
    Index().path.write_text("no database" * 1000)
    assert {row.id for row in runs.list_runs(tmp_path / "a")} == {"r0"}  # by itself, from the project
    assert set(Index().rows()) == {made[0]}


def test_a_row_that_an_older_ltrl_kept_is_made_anew(tmp_path):
    run = make_run(tmp_path / "runs" / "r")
    write_metrics(run.path, 1, [1, 2])
    runs.list_runs(tmp_path)
    stamp, row = Index().rows()[run.path]
    Index().remember([(run.path, stamp.split(":", 1)[1], json.dumps({"id": "r", "state": "FAILED"}))])
    assert [r.state for r in runs.list_runs(tmp_path)] == [State.COMPLETED]
    assert Index().rows()[run.path] == (stamp, row)


def test_one_run_costs_one_question_too(slurm, tmp_path):
    slurm.set("hold")
    run = submit(tmp_path)
    for command in ("status", "why"):
        slurm.calls()
        assert cli(tmp_path, command, run.id).returncode == 0
        assert slurm.calls() == ["squeue"]
