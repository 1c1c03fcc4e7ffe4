"""Going on with a run and forking it, as a person types it."""

import json
import os
import subprocess
import sys

import pytest
from launching import make_bundle, stand_in, until

from ltrl import runs, state
from ltrl import submit as launcher

LTRL = "import sys; sys.argv[0] = 'ltrl'; from ltrl.cli import main; main()"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run that failed at step 3 of 4, after a checkpoint at step 2."""
    monkeypatch.setenv("LTRL_STATE_DIR", str(tmp_path / "state"))
    made = launcher.submit(make_bundle(tmp_path, stand_in("--die-at", "3")), project=tmp_path)
    until(lambda: runs.status(state.read_run(made.path)).state.is_finished)
    return made


def ltrl(directory, *arguments):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", LTRL, *map(str, arguments)],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "160"},
    )
    return done.returncode, done.stdout, done.stderr


def test_a_run_is_resumed_with_its_own_bundle(run, tmp_path):
    status, out, err = ltrl(tmp_path, "resume", "trial", "--dry-run")
    told = "nothing is launched: this would be attempt 2 of an existing run, from the checkpoint of step 2"
    assert (status, err.startswith(told)) == (0, True)
    assert f"# {run.path}/bundle/local.sh" in out
    status, out, err = ltrl(tmp_path, "resume", "trial", "--watch")
    assert (status, state.read_run(run.path).latest.number) == (0, 2)
    told = (
        f"`{run.id}` is complete: nothing to do; `ltrl submit SPEC --fresh` starts it anew in a directory of its own\n"
    )
    assert ltrl(tmp_path, "resume", "trial") == (0, f"{run.id}\n", told)
    status, _, err = ltrl(tmp_path, "resume", "trial", "--set", "cluster.minutes=5")
    assert (status, err) == (
        1,
        "error[LTRL007]: the run's bundle is compiled already\nhint: name the spec: `ltrl resume trial SPEC …`\n",
    )


def test_a_changed_bundle_resumes_when_only_the_launch_changed(run, tmp_path):
    other = make_bundle(tmp_path / "other", stand_in(), cluster={"minutes": 7})
    assert ltrl(tmp_path, "resume", run.id, other.path)[0] == 0
    assert state.read_run(run.path).latest.minutes == 7
    until(lambda: runs.status(state.read_run(run.path)).state.is_finished)
    other = make_bundle(tmp_path / "another", stand_in(), steps=9, fingerprint="e" * 64)
    status, _, err = ltrl(tmp_path, "resume", run.id, other.path)
    fork = f"`ltrl submit SPEC --fork {run.id}@4` begins a new run with its weights"
    message = f"error[LTRL043]: `{run.id}` learned from something else: `algorithm.steps` 4 → 9"
    assert (status, err) == (1, f"{message}\nhint: {fork}, `--fresh` one from the beginning\n")


def test_a_fork_names_its_run_and_its_step(run, tmp_path):
    bundle = make_bundle(tmp_path / "other", stand_in(steps=6), steps=6, name="next", fingerprint="e" * 64)
    status, _, err = ltrl(tmp_path, "submit", bundle.path, "--fork", "trial@2", "--dry-run", "--json")
    assert status == 0
    status, out, err = ltrl(tmp_path, "submit", bundle.path, "--fork", "trial@2")
    assert (status, out) == (0, "next-eeeeeeee\n")
    assert "submitted: from step 2 of `trial-01234567`, job " in err
    made = state.read_run(tmp_path / "other" / "runs" / "next-eeeeeeee")
    until(lambda: runs.status(state.read_run(made.path)).state.is_finished)
    assert made.forked_from == f"{run.path}@2"
    status, _, err = ltrl(tmp_path, "submit", bundle.path, "--fork", "trial@two")
    assert (status, err) == (
        1,
        "error[LTRL045]: `two` is no step\nhint: write `RUN@STEP` or `RUN`\n",
    )


@pytest.mark.parametrize("words", [[], ["--dry-run"], ["--test-only"]])
def test_a_fork_that_cannot_work_is_refused_however_it_is_asked_for(words, run, tmp_path):
    bundle = make_bundle(tmp_path / "other", stand_in(steps=2), steps=2, name="next", fingerprint="e" * 64)
    status, out, err = ltrl(tmp_path, "submit", bundle.path, "--fork", "trial@2", *words)
    message = "error[LTRL044]: the checkpoint is of step 2, the target is step 2: nothing is left"
    assert (status, out, err) == (1, "", f"{message}\nhint: a larger `algorithm.steps`\n")
    assert not (tmp_path / "other" / "runs" / "next-eeeeeeee").exists()


def test_what_the_nodes_were_found_to_have_is_in_the_status(run, tmp_path):
    directory = run.attempt_dir(1) / "preflight"
    directory.mkdir()
    for node, used, is_ok in (("node1", "3 MiB", True), ("node2", "61440 MiB", False)):
        checks = [
            {"name": "GPUs", "found": "8", "wanted": "8", "is_ok": True},
            {"name": "GPU memory in use", "found": used, "wanted": "at most 2048 MiB", "is_ok": is_ok},
        ]
        (directory / f"{node}.json").write_text(json.dumps({"node": node, "checks": checks, "seconds": 0.1}))
    status, out, _ = ltrl(tmp_path, "status", "trial")
    assert status == 0
    table = [line.split() for line in out.splitlines() if line.strip().startswith("node")]
    assert table == [
        ["node", "of", "attempt", "1", "GPUs", "GPU", "memory", "in", "use"],
        ["node2", "8", "NO:", "61440", "MiB,", "not", "at", "most", "2048", "MiB"],
        ["node1", "8", "3", "MiB"],
    ]
