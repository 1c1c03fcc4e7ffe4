"""Time and questions that `ltrl status` of many runs costs.

    python benchmarks/status.py [RUNS]

Runs are real run directories. The scheduler is the mock one (`ltrl.mock`), whose `squeue` is a shell script that reads
files of every job, and a real Slurm, that of `tests/slurm`, where it can be brought up (root, packages slurm-wlm
and munge): there the open runs are the held tasks of an array. Calls are counted on the mock one.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from slurm import cluster

from ltrl import mock, runs, state
from ltrl.state import Attempt, Run, State

NUM_RUNS = 1000
LTRL = "import sys; sys.argv[0] = 'ltrl'; from ltrl.cli import main; main()"


def make(project: Path, number: int, final: State, clients: Path | None, job_id: str) -> None:
    """A run of 200 steps with three checkpoints."""
    path = project / "runs" / f"run-{number:05}"
    path.mkdir(parents=True)
    created = state.now()
    state.create_run(Run(path, path.name, "bench", "0" * 64, "nemo-rl", 200, str(project), created))
    attempt = Attempt(1, final, "slurm", "mock", 1440, "host", created, gpus=32, clients=clients and str(clients),
                      job_id=job_id, started=created)  # fmt: skip
    state.add_attempt(state.read_run(path), attempt)
    for step in (20, 40, 60):
        (path / "checkpoints" / f"step_{step}").mkdir(parents=True)
        (path / "checkpoints" / f"step_{step}" / "training_info.json").write_text(json.dumps({"total_steps": step}))
    (path / "logs" / "exp_001").mkdir(parents=True)
    lines = [{"step": s, "train/reward": 0.5, "timing/train/total_step_time": 90.0} for s in range(1, 61)]
    (path / "logs" / "exp_001" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def on_mock(num_runs: int, num_open: int) -> tuple[float, float, list[str]]:
    """Seconds in a process that has it loaded, seconds of the whole command, clients called."""
    with tempfile.TemporaryDirectory() as directory:
        here = Path(directory)
        clients = mock.install(here / "mock")
        for i in range(num_runs):
            is_open = i >= num_runs - num_open
            make(here, i, State.RUNNING if is_open else State.FAILED, clients, str(i + 1))
            if is_open:
                job = here / "mock" / "jobs" / str(i + 1)
                job.mkdir()
                (job / "state").write_text("RUNNING\n")
                (job / "start").write_text("2026-01-01T00:00:00\n")
        calls = here / "mock" / "calls"
        inside, whole = measure(here, num_runs, before=lambda: calls.write_text(""))
        return inside, whole, calls.read_text().split()


def on_slurm(num_runs: int, num_open: int) -> tuple[float, float, list[str]]:
    """As `on_mock`, of the Slurm whose clients are on the PATH."""
    with tempfile.TemporaryDirectory() as directory:
        here = Path(directory)
        array = ["sbatch", "--parsable", "--hold", f"--array=0-{num_open - 1}", "--output=/dev/null", "--wrap=true"]
        number = subprocess.run(array, check=True, capture_output=True, text=True).stdout.strip() if num_open else "0"
        first = num_runs - num_open
        for i in range(num_runs):
            make(here, i, State.PENDING if i >= first else State.FAILED, None, f"{number}_{i - first}")
        inside, whole = measure(here, num_runs)
        subprocess.run(["scancel", "--state=PENDING"], check=True, capture_output=True)
        return inside, whole, []


def measure(here: Path, num_runs: int, before: Callable[[], object] = lambda: None) -> tuple[float, float]:
    """Medians; `before` is called before each."""
    os.environ["LTRL_STATE_DIR"] = str(here / "state")
    (here / "specs").mkdir()
    runs.list_runs(here)  # the first look at finished runs fills the index
    inside, whole = [], []
    for _ in range(5):
        before()
        began = time.perf_counter()
        assert len(runs.list_runs(here)) == num_runs
        inside.append(time.perf_counter() - began)
    for _ in range(5):
        before()
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", LTRL, "status"], cwd=here, check=True, capture_output=True)
        whole.append(time.perf_counter() - began)
    return statistics.median(inside), statistics.median(whole)


def main() -> None:
    num_runs = int(sys.argv[1]) if len(sys.argv) > 1 else NUM_RUNS
    print("| Slurm | runs | of them open | rows (s) | `ltrl status` (s) | scheduler calls |\n|---|---|---|---|---|---|")

    def table(name: str, measured: Callable[[int, int], tuple[float, float, list[str]]]) -> None:
        for num_open in (0, num_runs // 50, num_runs):
            inside, whole, calls = measured(num_runs, num_open)
            print(
                f"| {name} | {num_runs:,} | {num_open:,} | {inside:.3f} | {whole:.3f} | {', '.join(calls)} |",
                flush=True,
            )

    table("mock", on_mock)
    if os.geteuid() == 0 and shutil.which("slurmctld") and shutil.which("munged"):
        with tempfile.TemporaryDirectory() as top, cluster(Path(top)):
            table("real", on_slurm)


if __name__ == "__main__":
    main()
