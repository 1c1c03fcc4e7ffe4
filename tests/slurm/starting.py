"""Jobs that the tests here start on a real Slurm, and what they look at."""

import json
import subprocess

from launching import hold, make_bundle, stand_in, until

from ltrl import runs, state
from ltrl import submit as launcher


def start(project, *arguments, command=None, spec="quickstart.yaml", held_at=None, **options):
    """A run; with `held_at` its driver waits before that step, see `launching.hold`."""
    restarts = {"step_minutes": 0.1, "save_minutes": 0.1, **options.pop("restarts", {})}
    cluster = {
        "executor": "slurm",
        "gpus_per_node": 8,
        "minutes": 10,
        "slurm": {"exclusive": False, **options.pop("slurm", {})},
        "restarts": restarts,
        "preflight": {"min_free_disk_gb": 0, **options.pop("preflight", {})},
        **options,
    }
    bundle = make_bundle(project, command or stand_in(*arguments), cluster=cluster, spec=spec)
    if held_at:
        hold(launcher.run_dir_of(bundle, project), held_at)
    return launcher.submit(bundle, project=project)


def now(run):
    return runs.status(state.read_run(run.path))


def finished(run, seconds=300.0):
    return until(lambda: (row := now(run)).state.is_finished and row, seconds)


def ends(run):
    """State and reason of every attempt."""
    return [(a.state, a.reason) for a in state.read_run(run.path).attempts]


def saved(run, step, seconds=300.0):
    until(lambda: (state.last_checkpoint(run.path) or 0) >= step, seconds)


def client(*words):
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def resumed_at(run, attempt):
    """The step that an attempt's driver went on from."""
    return json.loads((run.attempt_dir(attempt) / "stdout.log").read_text().splitlines()[0])["from"]
