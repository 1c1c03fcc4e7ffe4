"""Run directories and their index: nothing is lost when a write is cut short, refused or raced."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from ltrl import state
from ltrl.disk import Writes
from ltrl.errors import Code, LtrlError
from ltrl.state import Attempt, Event, Index, Run, State

ATTEMPT = Attempt(1, State.SUBMITTING, "local", "local", 60, "host", "2026-01-01T00:00:00.000+00:00")
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small file system")


def make_run(path: Path) -> Run:
    path.mkdir(parents=True)
    state.create_run(Run(path, path.name, "trial-01234567", "0" * 64, "local", 4, "/project ü", state.now()))
    return state.read_run(path)


def code_of(caught) -> Code:
    return caught.value.diagnostics[0].code


def test_a_run_is_read_back_as_it_was_written(tmp_path):
    run = state.add_attempt(make_run(tmp_path / "r"), ATTEMPT)
    run = state.change_attempt(run, 1, state=State.RUNNING, job_id="17")
    run = state.add_attempt(run, replace(ATTEMPT, number=2))
    assert state.read_run(run.path) == run
    assert [(a.number, a.state, a.job_id) for a in run.attempts] == [
        (1, State.RUNNING, "17"),
        (2, State.SUBMITTING, None),
    ]
    assert [(e.attempt, e.state) for e in state.events(run.path)] == [
        (1, State.SUBMITTING),
        (1, State.RUNNING),
        (2, State.SUBMITTING),
    ]
    assert json.loads((run.path / "run.json").read_text())["format"] == 1


def test_only_one_of_two_gets_a_number(tmp_path):
    run = make_run(tmp_path / "r")
    state.add_attempt(run, ATTEMPT)
    with pytest.raises(LtrlError) as caught:
        state.add_attempt(run, ATTEMPT)
    assert code_of(caught) is Code.RUN_BUSY


def test_an_attempt_that_was_never_recorded_keeps_its_number(tmp_path):
    run = make_run(tmp_path / "r")
    (run.path / "attempts" / "1").mkdir(parents=True)
    assert state.read_run(run.path).attempts == ()
    assert state.next_number(run.path) == 2


def test_a_torn_event_costs_itself_only(tmp_path):
    run = state.add_attempt(make_run(tmp_path / "r"), ATTEMPT)
    with (run.path / "events.jsonl").open("ab") as file:
        file.write(b'{"time": "2026-01-01T00:')
    state.change_attempt(run, 1, state=State.RUNNING)
    found = state.events(run.path)
    assert [e.state for e in found] == [State.SUBMITTING, State.RUNNING]
    assert isinstance(found[0], Event)


def test_events_that_cannot_be_read_are_none(tmp_path):
    (tmp_path / "events.jsonl").mkdir()
    assert state.events(tmp_path) == ()


@pytest.mark.parametrize(
    ("file", "name", "value", "message"),
    [
        ("run.json", "steps", "x", "`steps` cannot be 'x'"),
        ("attempts/1/attempt.json", "gpus", None, "`gpus` cannot be None"),
        ("attempts/1/attempt.json", "started", "soon", "Invalid isoformat string: 'soon'"),
        ("attempts/1/attempt.json", "ended", "2026-01-01", "`ended` has no time zone"),
    ],
)
def test_a_record_with_a_value_that_cannot_be_is_damaged(tmp_path, file, name, value, message):
    run = state.add_attempt(make_run(tmp_path / "r"), ATTEMPT)
    path = run.path / file
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))
    with pytest.raises(LtrlError) as caught:
        state.read_run(run.path)
    assert (code_of(caught), str(caught.value)) == (Code.UNKNOWN_RUN, f"`{path}` is damaged: {message}")


def test_what_is_no_run_is_called_so(tmp_path):
    for make in (lambda p: p.mkdir(), lambda p: (p.mkdir(), (p / "run.json").write_text('{"format": 1}'))):
        make(tmp_path / "x")
        with pytest.raises(LtrlError) as caught:
            state.read_run(tmp_path / "x")
        assert code_of(caught) is Code.UNKNOWN_RUN
        shutil.rmtree(tmp_path / "x")


def test_a_held_run_is_busy_for_others_and_free_after_a_kill(tmp_path):
    run = make_run(tmp_path / "r")
    hold = (
        f"from pathlib import Path; import time; from ltrl import state\nwith state.locked(Path({str(run.path)!r})):\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", f"{hold} print('held', flush=True); time.sleep(60)"], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout
    with holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(LtrlError) as caught, state.locked(run.path):
            pass
        assert code_of(caught) is Code.RUN_BUSY
        holder.kill()
    with state.locked(run.path):
        pass


@root_only
def test_a_full_disk_is_said_and_spoils_nothing(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], check=True)
    try:
        run = state.add_attempt(make_run(disk / "r"), ATTEMPT)
        with pytest.raises(OSError, match="No space left"), (disk / "big").open("wb") as file:
            file.write(b"x" * 2**20)
        with pytest.raises(LtrlError) as caught:
            state.change_attempt(run, 1, state=State.RUNNING)
        assert code_of(caught) is Code.UNWRITABLE
        assert "no space left on device" in str(caught.value)
        assert state.read_run(run.path) == run
        assert not list(run.path.rglob(".*.json.*"))
        (disk / "big").unlink()
        state.change_attempt(run, 1, state=State.RUNNING)
        assert [e.state for e in state.events(run.path)] == [State.SUBMITTING, State.RUNNING]
    finally:
        subprocess.run(["umount", disk], check=True)


def test_changes_of_many_runs_are_made_together_or_not_at_all(tmp_path):
    made = [state.add_attempt(make_run(tmp_path / str(i)), ATTEMPT) for i in range(3)]
    with Writes() as writes:
        for run in made:
            state.change_attempt(run, 1, state=State.RUNNING, writes=writes)
        assert [state.read_run(run.path) for run in made] == made
    assert [state.read_run(run.path).latest.state for run in made] == [State.RUNNING] * 3

    def interrupted():
        with Writes() as writes:
            state.change_attempt(made[0], 1, state=State.FAILED, writes=writes)
            (tmp_path / "gone").unlink()

    with pytest.raises(FileNotFoundError):
        interrupted()
    assert state.read_run(made[0].path).latest.state is State.RUNNING
    assert [[e.state for e in state.events(run.path)] for run in made] == [[State.SUBMITTING, State.RUNNING]] * 3
    assert not list(tmp_path.rglob(".*.json.*"))


@root_only
def test_a_read_only_directory_is_said(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", disk], check=True)
    try:
        run = make_run(disk / "r")
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        for write in (lambda: state.add_attempt(run, ATTEMPT), lambda: state.locked(run.path).__enter__()):
            with pytest.raises(LtrlError) as caught:
                write()
            assert code_of(caught) is Code.UNWRITABLE
        index = Index(disk / "state" / "runs.sqlite")  # only saves time: no complaint
        index.add(run.path)
        assert index.rows() == {}
    finally:
        subprocess.run(["umount", disk], check=True)


def test_the_checkpoint_that_counts_is_the_newest_complete_one(tmp_path):
    assert state.last_checkpoint(tmp_path) is None
    for name, info in {
        "step_2": '{"total_steps": 2}',
        "step_10": '{"total_steps": 10}',
        "step_11": "",
        "tmp_step_12": "{}",
        "step_13": "null",
        "step_14": "[1]",
        "step_15": '"a"',
        "step_16": '{"total_steps": 1e400}',
        "step_17": '{"total_steps": true}',
    }.items():
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
        if info:
            (tmp_path / "checkpoints" / name / "training_info.json").write_text(info)
    assert state.last_checkpoint(tmp_path) == 10


def test_the_index_is_made_anew_from_run_directories(tmp_path):
    runs = [make_run(tmp_path / "runs" / f"r{i}").path for i in range(3)]
    index = Index(tmp_path / "state" / "runs.sqlite")
    for run in runs:
        index.add(run)
    index.remember([(runs[0], "1:1", "{}")])
    assert index.rows() == {runs[0]: ("1:1", "{}"), runs[1]: ("", ""), runs[2]: ("", "")}
    index.forget(runs[:1])
    assert set(index.rows()) == set(runs[1:])
    index.path.unlink()
    assert index.rows() == {}
    assert index.rebuild([tmp_path / "runs"]) == 3
    assert set(index.rows()) == set(runs)


def test_a_damaged_index_is_replaced(tmp_path):
    index = Index(tmp_path / "runs.sqlite")
    index.path.write_text("this is no database, and long enough to be looked at as one" * 100)
    assert index.rows() == {}
    index.add(tmp_path / "a")
    index.add(tmp_path / "a")
    assert index.rows() == {tmp_path / "a": ("", "")}


def test_ten_writers_lose_nothing(tmp_path):
    index = Index(tmp_path / "runs.sqlite")
    threads = [threading.Thread(target=index.add, args=(tmp_path / str(i),)) for i in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(index.rows()) == 10
    with sqlite3.connect(index.path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    connection.close()


def test_the_index_is_in_the_state_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("LTRL_STATE_DIR", str(tmp_path))
    assert Index().path == tmp_path / "runs.sqlite"


def test_an_attempt_that_a_job_made_to_go_on_is_one_without_any_submitter(tmp_path):
    first = replace(ATTEMPT, executor="slurm", state=State.RUNNING, job_id="17")
    run = state.add_attempt(make_run(tmp_path / "r"), first)
    for number, mark in ((2, "17"), (3, None)):  # the third was never announced
        directory = run.attempt_dir(number)
        directory.mkdir()
        if mark:
            (directory / "job_id").write_text(f"{mark}\n")
            (directory / "continues").write_text("1\n")
    found = state.read_run(run.path).attempts
    assert found == (first, replace(first, number=2, state=State.PENDING, created=found[1].created))
    run = state.change_attempt(state.read_run(run.path), 2, state=State.RUNNING)
    assert state.read_run(run.path) == run
