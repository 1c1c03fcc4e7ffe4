"""Time and questions that `ltrl status` of many runs costs.

    python benchmarks/status.py [RUNS]

Runs are real run directories; the scheduler is the mock one (`ltrl.mock`), whose clients take longer to start than
Slurm's, and the real Slurm where there is one is asked in `tests/slurm/test_accounting.py`.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ltrl import mock, runs, state
from ltrl.state import Attempt, Run, State

NUM_RUNS = 1000
LTRL = "import sys; sys.argv[0] = 'ltrl'; from ltrl.cli import main; main()"


def make(project: Path, number: int, final: State, clients: Path) -> None:
    """A run of 200 steps with three checkpoints."""
    path = project / "runs" / f"run-{number:05}"
    path.mkdir(parents=True)
    created = state.now()
    state.create_run(Run(path, path.name, "bench", "0" * 64, "nemo-rl", 200, str(project), created))
    attempt = Attempt(1, final, "slurm", "mock", 1440, "host", created, gpus=32, clients=str(clients),
                      job_id=str(number + 1), started=created)  # fmt: skip
    state.add_attempt(state.read_run(path), attempt)
    for step in (20, 40, 60):
        (path / "checkpoints" / f"step_{step}").mkdir(parents=True)
        (path / "checkpoints" / f"step_{step}" / "training_info.json").write_text(json.dumps({"total_steps": step}))
    (path / "logs" / "exp_001").mkdir(parents=True)
    lines = [{"step": s, "train/reward": 0.5, "timing/train/total_step_time": 90.0} for s in range(1, 61)]
    (path / "logs" / "exp_001" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    job = clients.parent / "jobs" / str(number + 1)
    if final is State.RUNNING:
        job.mkdir()
        (job / "state").write_text("RUNNING\n")
        (job / "start").write_text("2026-01-01T00:00:00\n")


def measure(num_runs: int, num_open: int) -> tuple[float, float, list[str]]:
    """Seconds in a process that has it loaded, seconds of the whole command, clients called."""
    with tempfile.TemporaryDirectory() as directory:
        here = Path(directory)
        os.environ["LTRL_STATE_DIR"] = str(here / "state")
        clients = mock.install(here / "mock")
        (here / "specs").mkdir()
        for i in range(num_runs):
            make(here, i, State.RUNNING if i >= num_runs - num_open else State.FAILED, clients)
        runs.list_runs(here)  # the first look at finished runs fills the index
        (here / "mock" / "calls").write_text("")
        inside, whole = [], []
        for _ in range(5):
            began = time.perf_counter()
            assert len(runs.list_runs(here)) == num_runs
            inside.append(time.perf_counter() - began)
        calls = (here / "mock" / "calls").read_text().split()[:: len(inside)]
        for _ in range(3):
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", LTRL, "status"], cwd=here, check=True, capture_output=True)
            whole.append(time.perf_counter() - began)
    return statistics.median(inside), statistics.median(whole), calls


def main() -> None:
    num_runs = int(sys.argv[1]) if len(sys.argv) > 1 else NUM_RUNS
    print("| runs | of them open | rows (s) | `ltrl status` (s) | scheduler calls |\n|---|---|---|---|---|")
    for num_open in (0, num_runs // 50, num_runs):
        inside, whole, calls = measure(num_runs, num_open)
        print(f"| {num_runs:,} | {num_open:,} | {inside:.3f} | {whole:.3f} | {', '.join(calls) or 'none'} |")


if __name__ == "__main__":
    main()
