"""The mock Slurm: its jobs are real, its ends are those that Slurm tells apart."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from launching import until
from test_runs import cli

from ltrl import mock

SPECS = Path(__file__).parent.parent / "specs"


class Played:
    """A mock Slurm below a directory, used through its clients."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clients = mock.install(directory)
        (directory / "minute").write_text("1")

    def call(self, *words: str, check: bool = True) -> str:
        done = subprocess.run([self.clients / words[0], *words[1:]], cwd=self.directory, check=False,
                              capture_output=True, text=True)  # fmt: skip
        assert not check or done.returncode == 0, done.stderr
        return done.stdout if check else done.stderr

    def sbatch(self, body: str, *options: str) -> str:
        script = self.directory / "script.sh"
        script.write_text(f"#!/bin/bash\n{body}\n")
        return self.call("sbatch", "--parsable", "--output=%j.log", *options, str(script)).strip()

    def states(self) -> dict[str, str]:
        return dict(line.split("|") for line in self.call("squeue", "--states=all", "--format=%i|%T").splitlines())

    def reason(self, job: str) -> str:
        return self.call("squeue", "--states=all", f"--jobs={job}", "--format=%r").strip()

    def state(self, job: str, wanted: str) -> str:
        return until(lambda: (found := self.states()[job]) == wanted and found)

    def log(self, job: str) -> str:
        return (self.directory / f"{job}.log").read_text()


@pytest.fixture
def played(tmp_path):
    return Played(tmp_path / "a b")


def test_a_job_runs_with_its_environment_and_its_status_is_its_end(played):
    good = played.sbatch('echo "$SLURM_JOB_ID $SLURM_JOB_NODELIST"; srun --nodes=1 echo step')
    bad = played.sbatch("exit 3", "--time=5")
    assert (played.state(good, "COMPLETED"), played.state(bad, "FAILED")) == ("COMPLETED", "FAILED")
    assert played.log(good) == "1 localhost\nstep\n"


def test_a_job_that_asks_to_be_requeued_and_ends_starts_again(played):
    body = 'echo "start ${SLURM_RESTART_COUNT:-0}"; (( ${SLURM_RESTART_COUNT:-0} )) && exit\n'
    body += 'scontrol requeue "$SLURM_JOB_ID"; exit 1'
    jobs = [played.sbatch(body, "--requeue", "--open-mode=append") for _ in range(4)]
    assert [played.state(job, "COMPLETED") for job in jobs] == ["COMPLETED"] * 4
    assert {played.log(job) for job in jobs} == {"start 0\nstart 1\n"}


def test_an_array_has_a_limit_and_a_state_for_each_task(played):
    gate = played.directory / "gate"
    said = 'echo "task $SLURM_ARRAY_TASK_ID of $SLURM_ARRAY_JOB_ID"; (( SLURM_ARRAY_TASK_ID != 2 ))'
    job = played.sbatch(f"until [[ -e '{gate}' ]]; do sleep 0.02; done; {said}", "--array=0-3%1")
    assert [played.reason(f"{job}_{i}") for i in range(4)] == ["None", *["JobArrayTaskLimit"] * 3]
    gate.touch()
    until(lambda: set(played.states().values()) == {"COMPLETED", "FAILED"})
    assert [name for name, word in played.states().items() if word == "FAILED"] == [f"{job}_2"]
    assert played.log("3") == "task 2 of 1\n"
    assert played.sbatch("true") == "5"  # after the numbers of the tasks


def test_dependencies_are_kept(played):
    gate = played.directory / "gate"
    first = played.sbatch(f"until [[ -e '{gate}' ]]; do sleep 0.05; done; exit 1")
    after = played.sbatch("true", f"--dependency=afterok:{first}")
    other = played.sbatch("true", f"--dependency=afterany:{first}")
    hopeless = played.sbatch("true", f"--dependency=afterok:{first}", "--kill-on-invalid-dep=yes")
    assert played.reason(after) == "Dependency"
    gate.touch()
    played.state(other, "COMPLETED")
    assert (played.reason(after), played.states()[after]) == ("DependencyNeverSatisfied", "PENDING")
    assert played.states()[hopeless] == "CANCELLED"


def test_a_time_limit_signals_first_and_then_ends_the_job(played):
    body = "trap 'echo warned' USR1; trap 'echo told; exit 9' TERM; echo up; while :; do sleep 0.02; done"
    job = played.sbatch(body, "--time=2", "--signal=B:USR1@1")
    played.state(job, "TIMEOUT")
    assert [line for line in played.log(job).splitlines() if line != "Terminated"] == ["up", "warned", "told"]


@pytest.mark.parametrize(
    ("event", "word"),
    [("oom", "OUT_OF_MEMORY"), ("preempt", "PREEMPTED"), ("node-fail", "NODE_FAIL"), ("timeout", "TIMEOUT")],
)
def test_events_end_a_job_as_slurm_calls_it(played, event, word):
    job = played.sbatch("echo up; sleep 60 & sleep 60")
    until(lambda: (played.directory / f"{job}.log").exists() and played.log(job))
    mock.send(played.directory, job, event)
    played.state(job, word)
    with pytest.raises(LookupError, match=f"job {job} is over: {word}"):
        mock.send(played.directory, job, event)


def test_nothing_but_a_cancellation_ends_a_job_that_has_not_started(played):
    mock.switch(played.directory, "hold", on=True)
    job = played.sbatch("true", "--requeue")
    for event in set(mock.EVENTS) - {"cancel"}:
        with pytest.raises(LookupError, match=f"job {job} has not started: Priority"):
            mock.send(played.directory, job, event)
    assert played.states()[job] == "PENDING"
    mock.send(played.directory, job, "cancel")
    assert played.states()[job] == "CANCELLED"


def test_a_preempted_job_starts_again_when_it_may(played):
    job = played.sbatch(
        "echo start ${SLURM_RESTART_COUNT:-0}; [[ ${SLURM_RESTART_COUNT:-0} == 1 ]] || sleep 60", "--requeue"
    )
    until(lambda: (played.directory / f"{job}.log").exists() and played.log(job))
    mock.send(played.directory, job, "preempt")
    played.state(job, "COMPLETED")
    assert [line for line in played.log(job).splitlines() if "start" in line] == ["start 0", "start 1"]


def test_what_is_held_down_or_unknown_is_said_as_slurm_says_it(played):
    mock.switch(played.directory, "hold", on=True)
    job = played.sbatch("true")
    assert (played.states()[job], played.reason(job)) == ("PENDING", "Priority")
    mock.switch(played.directory, "down", on=True)
    assert "Unable to contact slurm controller" in played.call("squeue", check=False)
    assert "Unable to contact slurm controller" in played.call("sbatch", "x", check=False)
    mock.switch(played.directory, "down", on=False)
    assert "Invalid job id specified" in played.call("scancel", "77", check=False)
    assert (
        played.call("sacct", "--jobs=1", "--format=JobID,State", check=False)
        == "Slurm accounting storage is disabled\n"
    )
    mock.switch(played.directory, "hold", on=False)
    played.state(job, "COMPLETED")
    mock.switch(played.directory, "accounting", on=True)
    assert played.call("sacct", f"--jobs={job}", "--format=JobID,State") == f"{job}|COMPLETED\n"


def test_a_job_whose_leader_is_killed_is_a_failed_node_s(played):
    job = played.sbatch("echo $PPID; exec sleep 60")
    leader = int(until(lambda: (played.directory / f"{job}.log").exists() and played.log(job)))
    os.kill(leader, 9)
    played.state(job, "NODE_FAIL")
    os.kill(int((played.directory / "jobs" / job / "pid").read_text()), 9)


def test_node_lists_are_spelled_out(played):
    assert played.call("scontrol", "show", "hostnames", "node[1-2,09-10],login").split() == [
        "node1", "node2", "node09", "node10", "login",
    ]  # fmt: skip


def test_a_user_tries_the_whole_way(tmp_path, monkeypatch):
    monkeypatch.setenv("LTRL_STATE_DIR", str(tmp_path / "state"))
    (tmp_path / "specs").symlink_to(SPECS)
    assert cli(tmp_path, "mock", "hold").returncode == 0
    done = cli(tmp_path, "submit", "specs/quickstart.yaml", "--cluster", "mock")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        0,
        "submitted: job 1 on `mock`; `ltrl logs -f` follows it",
    )
    assert "other jobs are before it in the line [waits-for-priority]" in cli(tmp_path, "why").stdout
    cli(tmp_path, "mock", "release")
    until(lambda: json.loads(cli(tmp_path, "status", "--json").stdout)[0]["state"] == "RUNNING")
    assert cli(tmp_path, "mock", "timeout").returncode == 0
    until(lambda: json.loads(cli(tmp_path, "status", "--json").stdout)[0]["state"] == "TIMEOUT")
    assert "first cause: the job's time was up [walltime]" in cli(tmp_path, "why").stdout
    refused = cli(tmp_path, "mock", "oom")
    assert (refused.returncode, refused.stderr) == (1, "error[LTRL055]: job 1 is over: TIMEOUT\n")
