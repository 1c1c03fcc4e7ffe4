"""Submissions that are killed, raced and repeated: nothing is lost, nothing is submitted twice.

A forked submitter kills itself just before its n-th change of the disk or its n-th process, for every n there is.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from fake_slurm import FakeSlurm
from launching import make_bundle, make_sweep, stand_in

from ltrl import array, jobs, mock, runs, state
from ltrl import submit as launcher
from ltrl.errors import Code, LtrlError
from ltrl.state import Index, State

CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.copyfile", "sqlite3.connect", "subprocess.Popen")
"""Audit events of Python that stand for a change; also `open` for writing."""


SLURM = {"executor": "slurm", "slurm": {"exclusive": False}}


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    fake = FakeSlurm(tmp_path / "slurm")
    fake.set("hold")
    monkeypatch.setenv("PATH", fake.path)
    monkeypatch.setenv("LTRL_STATE_DIR", str(tmp_path / "state"))
    return fake


def make(project: Path, name: str = "trial"):
    return make_bundle(project, stand_in(), cluster=SLURM, name=name)


def forked(act: Callable[[], object]) -> int:
    """Starts what is done in a process of its own; its status is 0, or 9 for a user's mistake."""
    if pid := os.fork():
        return pid
    status = 70
    try:
        act()
        status = 0
    except LtrlError as error:
        status = 9 if error.diagnostics[0].code is Code.RUN_BUSY else 10
    finally:
        os._exit(status)


def ended(pid: int) -> int:
    """How such a process ended; negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed_at(number: int, act: Callable[[], object]) -> bool:
    """Does something in a process that is killed before its n-th change; whether it came to that."""

    def count() -> None:
        left = [number]

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
            if event in CHANGES or writes:
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        act()

    status = ended(forked(count))
    assert status in (0, -signal.SIGKILL), status
    return status != 0


def submitted(slurm: FakeSlurm) -> dict[str, str]:
    """Every job that Slurm has, by its mark."""
    return {job.get("comment"): job.id for job in mock.jobs(slurm.directory)}


def settled(bundle, project: Path) -> state.Run:
    """Submits again, as a person does who saw the first one die."""
    with suppress(LtrlError):
        return launcher.submit(bundle, project=project)
    run = state.read_run(project / "runs" / bundle.name)
    if runs.status(run).state is State.SUBMITTING:  # given up after a while
        return launcher.submit(bundle, project=project)
    return run


@pytest.mark.parametrize("is_resume", [False, True], ids=["a new run", "a later attempt"])
def test_a_submission_killed_between_any_two_writes_loses_nothing_and_doubles_nothing(
    slurm, tmp_path, monkeypatch, is_resume
):
    monkeypatch.setattr(jobs, "INTERRUPTED_S", 0.0)
    number = 0
    while True:
        number += 1
        project = tmp_path / str(number)
        bundle = make(project)
        if is_resume:
            first = launcher.submit(bundle, project=project)
            slurm.send(first.latest.job_id, "cancel")
        before = set(submitted(slurm))
        if not killed_at(number, lambda bundle=bundle, project=project: launcher.submit(bundle, project=project)):
            break
        run = settled(bundle, project)
        after = set(submitted(slurm)) - before
        assert len(after) == 1, number
        row = runs.status(run)
        assert (row.state, row.job_id) == (State.PENDING, submitted(slurm)[after.pop()]), number
        assert row.path in {found.path for found in runs.list_runs(project)}, number
        assert list(run.path.glob(".bundle*")) == [], number
    assert number > 20  # so many changes there are
    assert len(submitted(slurm)) == len(mock.jobs(slurm.directory))


def test_a_sweep_killed_between_two_writes_runs_each_cell_once(slurm, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "INTERRUPTED_S", 0.0)
    for number in itertools.count(3, step=9):  # every change there is takes a minute
        project = tmp_path / str(number)
        cells = make_sweep(project, [stand_in()] * 2, cluster=SLURM)
        before = {job.id for job in mock.jobs(slurm.directory)}
        if not killed_at(number, lambda cells=cells, project=project: array.submit(cells, project=project)):
            break
        array.submit(cells, project=project)  # finds what was launched, or launches what was not begun
        array.submit(cells, project=project, resume_failed=True)  # and what was begun and given up
        found = runs.statuses(cell.run for cell in array.read(project / "runs" / cells.id).cells)
        after = {job.id for job in mock.jobs(slurm.directory)} - before
        assert len(after) == 2, number
        assert {(row.state, row.job_id) for row in found} == {(State.PENDING, job) for job in after}, number
    assert number > 50  # so many changes there are


def test_ten_who_submit_the_same_start_one_job(slurm, tmp_path):
    bundle = make(tmp_path)
    statuses = sorted(map(ended, [forked(lambda: launcher.submit(bundle, project=tmp_path)) for _ in range(10)]))
    assert statuses == [0] + [9] * 9
    assert len(mock.jobs(slurm.directory)) == 1
    assert len(state.read_run(tmp_path / "runs" / bundle.name).attempts) == 1


def test_ten_who_submit_different_specs_start_ten_jobs_and_all_are_known(slurm, tmp_path):
    bundles = [make(tmp_path, name=f"trial{i}") for i in range(10)]
    pids = [forked(lambda bundle=bundle: launcher.submit(bundle, project=tmp_path)) for bundle in bundles]
    assert list(map(ended, pids)) == [0] * 10
    assert len(submitted(slurm)) == len(mock.jobs(slurm.directory)) == 10
    assert set(Index().rows()) == {tmp_path / "runs" / bundle.name for bundle in bundles}
    assert {row.job_id for row in runs.list_runs(tmp_path)} == set(submitted(slurm).values())


def test_a_submission_and_a_cancel_at_once_leave_a_run_that_is_one_or_the_other(slurm, tmp_path):
    bundle = make(tmp_path)
    run = launcher.submit(bundle, project=tmp_path)
    pids = [forked(lambda: runs.cancel(state.read_run(run.path))) for _ in range(3)]
    pids += [forked(lambda: launcher.submit(bundle, project=tmp_path)) for _ in range(3)]
    assert set(map(ended, pids)) <= {0, 9}
    row = runs.status(state.read_run(run.path))
    waiting = [job.id for job in mock.jobs(slurm.directory) if not job.is_over]
    assert waiting == ([row.job_id] if row.state is State.PENDING else [])


def test_a_submission_that_timed_out_but_was_taken_is_found(slurm, tmp_path):
    (slurm.directory / "bin" / "sbatch").rename(slurm.directory / "bin" / "real")
    (slurm.directory / "bin" / "sbatch").write_text(
        f'#!/bin/sh\n{slurm.directory}/bin/real "$@" >/dev/null\n'
        'echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation" >&2; exit 1\n'
    )
    (slurm.directory / "bin" / "sbatch").chmod(0o755)
    bundle = make(tmp_path)
    with pytest.raises(LtrlError) as caught:
        launcher.submit(bundle, project=tmp_path)
    assert caught.value.diagnostics[0].code is Code.SUBMIT_UNCERTAIN
    row = runs.status(state.read_run(tmp_path / "runs" / bundle.name))
    assert (row.state, row.job_id) == (State.PENDING, "1")


def test_runs_of_the_same_name_elsewhere_are_not_taken_for_each_other(slurm, tmp_path):
    mine, other = make(tmp_path / "a"), make(tmp_path / "b")
    launcher.submit(other, project=tmp_path / "b")
    slurm.set("die_after_sbatch")
    assert ended(forked(lambda: launcher.submit(mine, project=tmp_path / "a"))) == -signal.SIGKILL
    row = runs.status(state.read_run(tmp_path / "a" / "runs" / mine.name))
    assert (row.state, row.job_id) == (State.PENDING, "2")
