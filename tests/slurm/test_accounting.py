"""How runs end on a real Slurm, as its accounting, its controller, or nobody but their own files tell."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import give_up_soon
from launching import hold, make_bundle, release, stand_in, until

from ltrl import evidence, jobs, runs, slurm, state
from ltrl import submit as launcher
from ltrl.errors import LtrlError
from ltrl.state import Run, State

PROGRAMS = ("slurmctld", "slurmd", "munged", "slurmdbd", "mariadbd")

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(
        os.geteuid() != 0 or not all(map(shutil.which, PROGRAMS)),
        reason="needs root and the packages slurm-wlm, munge, slurmdbd and mariadb-server-core",
    ),
]
HERE = Path(__file__).parent
PATIENCE_S = 600.0

CONFIGURATION = "PreemptType=preempt/partition_prio;PreemptMode=CANCEL;PartitionName=urgent Nodes=ALL PriorityTier=9"


@dataclass
class Cluster:
    """A cluster with or without accounting."""

    prefix: Path
    clients: Path
    has_accounting: bool
    first_id: int = 1

    def call(self, *words: str) -> str:
        """What a command on the cluster prints."""
        return subprocess.run([self.prefix / "enter", *words], check=True, capture_output=True, text=True).stdout

    def up(self) -> None:
        """Starts it, or what is not running of it."""
        accounting = "acct=dbd" if self.has_accounting else "acct=none"
        words = [
            HERE / "up.sh",
            self.prefix,
            "nodes=4",
            "gpus=8",
            "netns=1",
            accounting,
            f"extra={CONFIGURATION};FirstJobId={self.first_id}",
        ]
        subprocess.run(["bash", *words], check=True, capture_output=True)

    def forget(self) -> None:
        """Makes slurmctld forget all jobs, as it does some minutes after their end (MinJobAge)."""
        with self.without_controller():
            for path in (self.prefix / "spool" / "ctld").glob("job_state*"):
                path.unlink()
            self.first_id = 1000  # or ids that the accounting knows would come again
        until(lambda: not self.call("squeue", "--noheader", "--states=all").strip(), PATIENCE_S)

    @contextmanager
    def without_controller(self) -> Iterator[None]:
        """Ends slurmctld, and starts it again afterwards."""
        file = self.prefix / "run" / "slurmctld.pid"
        pid = int(file.read_text())
        os.kill(pid, 15)
        until(
            lambda: not Path(f"/proc/{pid}/cmdline").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes(),
            PATIENCE_S,
        )
        file.unlink()
        give_up_soon(self.prefix)
        try:
            yield
        finally:
            self.up()


@pytest.fixture(scope="module", params=[True, False], ids=["accounting", "no-accounting"])
def cluster(request):
    prefix = Path(tempfile.mkdtemp(prefix="ltrl-", dir="/tmp"))  # short, for the sake of its sockets
    made = Cluster(prefix, prefix / "clients", request.param)
    try:
        made.up()
        made.clients.mkdir()
        for name in ("sbatch", "squeue", "scancel", "sacct"):
            client = made.clients / name
            client.write_text(f'#!/bin/bash\necho {name} >>{prefix}/calls\nexec {prefix}/enter {name} "$@"\n')
            client.chmod(0o755)
        yield made
    finally:
        subprocess.run(["bash", HERE / "down.sh", prefix, "--purge"], check=False, capture_output=True)
        shutil.rmtree(prefix, ignore_errors=True)


@pytest.fixture(autouse=True)
def _own_state(monkeypatch, tmp_path):
    monkeypatch.setenv("LTRL_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("PYTEST_CURRENT_TEST")


def start(cluster: Cluster, project: Path, *command: str, minutes: int = 10, **request) -> Run:
    profile = {
        "executor": "slurm",
        "nodes": 1,
        "gpus_per_node": 8,
        "minutes": minutes,
        "restarts": {"how": "none"},
        "slurm": {"clients": str(cluster.clients), **request},
    }
    bundle = make_bundle(project, command or stand_in("--seconds", "60"), cluster=profile)
    return launcher.submit(bundle, project=project)


def row(run: Run) -> runs.Status:
    return runs.status(state.read_run(run.path))


def in_state(run: Run, wanted: State, seconds: float = PATIENCE_S) -> runs.Status:
    return until(lambda: (found := row(run)).state is wanted and found, seconds)


def copies(found: dict[State, Run], directory: Path) -> dict[State, Run]:
    """The same runs, looked at by someone who has not seen how they ended."""
    made = {}
    for name, run in found.items():
        shutil.copytree(run.path, directory / name / run.id)
        made[name] = state.read_run(directory / name / run.id)
    return made


def test_every_end_is_told_apart_and_stays_so_when_the_controller_forgets(cluster, tmp_path):
    slow = start(cluster, tmp_path / "timeout", minutes=1)
    failed = start(cluster, tmp_path / "failed", "bash", "-c", "exit 7")
    lost = start(cluster, tmp_path / "lost", extra=["--nodelist=node2"])
    preempted = start(cluster, tmp_path / "preempted", extra=["--nodelist=node3"])
    cancelled = start(cluster, tmp_path / "cancelled")
    done = start(cluster, tmp_path / "done", *stand_in())
    for run in (slow, lost, preempted):
        until((run.attempt_dir(1) / "stdout.log").exists, PATIENCE_S)
    cluster.call("scancel", str(cancelled.latest.job_id))  # by someone else, not through ltrl
    urgent = start(cluster, tmp_path / "urgent", *stand_in(), partition="urgent", extra=["--nodelist=node3"])
    cluster.call("scontrol", "update", "NodeName=node2", "State=DOWN", "Reason=test")
    expected = {
        State.TIMEOUT: slow,
        State.FAILED: failed,
        State.NODE_FAIL: lost,
        State.PREEMPTED: preempted,
        State.CANCELLED: cancelled,
        State.COMPLETED: done,
    }
    until(lambda: not cluster.call("squeue", "--noheader").strip(), PATIENCE_S)
    unseen = copies(expected, tmp_path / "later")
    seen = {wanted: row(run).state for wanted, run in expected.items()}
    assert seen == {wanted: wanted for wanted in expected}
    assert row(urgent).state is State.COMPLETED
    names = {wanted: evidence.explain(state.read_run(run.path)).causes for wanted, run in expected.items()}
    assert [
        names[wanted][0].signature.id for wanted in (State.TIMEOUT, State.NODE_FAIL, State.PREEMPTED, State.CANCELLED)
    ] == ["walltime", "node-failure", "preemption", "cancelled"]
    timed_out = state.read_run(slow.path).latest
    assert timed_out.gpus == 8
    ran = state.seconds_between(timed_out.started, timed_out.ended)
    assert ran > 50  # Slurm counts in seconds, and starts before the script
    assert row(slow).gpu_hours == pytest.approx(8 * ran / 3600, rel=0.01)
    cluster.forget()
    (cluster.prefix / "calls").write_text("")
    observed = {wanted: jobs.observe([run])[0].latest.state for wanted, run in unseen.items()}
    if cluster.has_accounting:
        assert observed == {wanted: wanted for wanted in expected}
    else:  # what the jobs themselves wrote down: whoever told them to end did not say why
        assert observed == {
            State.TIMEOUT: State.TIMEOUT,
            State.FAILED: State.FAILED,
            State.NODE_FAIL: State.FAILED,
            State.PREEMPTED: State.FAILED,
            State.CANCELLED: State.FAILED,
            State.COMPLETED: State.COMPLETED,
        }


def test_a_controller_that_is_down_makes_no_run_finished(cluster, tmp_path):
    hold(tmp_path / "a" / "runs" / "trial-01234567", 1)  # it goes on for as long as we look
    running = start(cluster, tmp_path / "a", *stand_in())
    until((running.attempt_dir(1) / "stdout.log").exists, PATIENCE_S)  # its step is there
    with cluster.without_controller():
        down = row(running)
        assert (down.state, "Unable to contact slurm controller" in down.reason) == (State.UNKNOWN, True)
        assert not state.read_run(running.path).latest.state.is_finished
        with pytest.raises(LtrlError, match="Unable to contact slurm controller"):
            runs.cancel(running)
        assert state.read_run(running.path).latest.is_cancelled is False
    release(running.path)
    assert in_state(running, State.COMPLETED).step == 4


def test_a_waiting_job_says_why_and_until_when_and_is_cancelled(cluster, tmp_path):
    nodes = [start(cluster, tmp_path / f"full{i}", minutes=5) for i in range(4)]
    waiting = start(cluster, tmp_path / "waiting")
    held = until(lambda: (found := row(waiting)).expected_start and found, PATIENCE_S)
    assert (held.state, held.reason in ("Resources", "Priority")) == (State.PENDING, True)
    assert evidence.explain(jobs.observe([waiting])[0]).waits is not None
    ahead = state.seconds_between(state.now(), held.expected_start)
    assert 120 < ahead < 320  # when the first of the others must have ended
    (cluster.prefix / "calls").write_text("")
    assert runs.cancel_all([waiting, *nodes])[1] == []
    assert (cluster.prefix / "calls").read_text().split().count("scancel") == 1
    for run in (waiting, *nodes):
        in_state(run, State.CANCELLED)
    again, trouble = runs.cancel_all([waiting, *nodes])  # once more is fine
    assert ({found.state for found in again}, trouble) == ({State.CANCELLED}, [])


def test_tasks_of_an_array_are_known_by_both_their_ids_and_the_array_s_mark(cluster, tmp_path):
    script = tmp_path / "array.sh"
    script.write_text('#!/bin/bash\nprintf \'%s\' "$SLURM_JOB_ID" >"$SLURM_ARRAY_TASK_ID"\nsleep 60\n')
    words = ("--parsable", "--array=0-3%2", "--comment=sweep", "--output=/dev/null", f"--chdir={tmp_path}")
    array = cluster.call("sbatch", *words, str(script)).strip()
    until(lambda: all((tmp_path / name).exists() for name in "01"), PATIENCE_S)
    raw = until((tmp_path / "0").read_text)
    ids = [f"{array}_{i}" for i in range(4)]
    found = slurm.jobs([*ids, raw], clients=cluster.clients)
    assert {name: job.state for name, job in found.items()} == {
        **dict.fromkeys([ids[0], ids[1], raw], State.RUNNING),
        **dict.fromkeys(ids[2:], State.PENDING),
    }
    assert (found[raw].id, found[ids[3]].reason) == (ids[0], "JobArrayTaskLimit")
    assert set(slurm.jobs([], ["sweep_0", "sweep_3"], clients=cluster.clients)) == {"sweep_0", "sweep_3"}
    slurm.cancel(ids[1:], clients=cluster.clients)
    until(lambda: slurm.jobs(ids[3:], clients=cluster.clients)[ids[3]].state is State.CANCELLED, PATIENCE_S)
    slurm.cancel(ids, clients=cluster.clients)
    slurm.cancel(ids, clients=cluster.clients)  # once more is fine
    assert slurm.jobs(["999999"], clients=cluster.clients) == {}


def test_a_thousand_runs_cost_two_questions(cluster, tmp_path):
    running = start(cluster, tmp_path / "live")
    in_state(running, State.RUNNING)
    for i in range(1000):
        path = tmp_path / "live" / "runs" / f"old-{i:04}"
        path.mkdir()
        made = Run(
            path, path.name, "old", "0" * 64, "local", 4, str(tmp_path / "live"), f"2026-01-01T00:00:00.{i:03}+00:00"
        )
        state.create_run(made)
        over = state.Attempt(1, State.RUNNING if i % 50 == 0 else State.FAILED, "slurm", "c", 60, "h", made.created,
                             clients=str(cluster.clients), job_id=str(100_000 + i))  # fmt: skip
        state.add_attempt(made, over)
    runs.list_runs(tmp_path / "live")
    (cluster.prefix / "calls").write_text("")
    rows = runs.list_runs(tmp_path / "live")
    assert (cluster.prefix / "calls").read_text().split() == ["squeue", "sacct"]
    assert [r.state for r in rows].count(State.UNKNOWN) == 20
    assert (len(rows), rows[-1].state) == (1001, State.RUNNING)
    runs.cancel(running)
