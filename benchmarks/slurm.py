"""Submitting to a real Slurm, one job and many: ltrl beside plain sbatch (the floor), submitit, and NeMo-Run.

    python benchmarks/slurm.py [JOBS] [ROUNDS]

Brings up the cluster of `tests/slurm` (root, and the packages slurm-wlm and munge) and takes it down. Every row is a
whole process, from its start to its end, with what it starts; jobs are held, so that only their submission is measured;
rounds are interleaved, and nothing is deleted before the end: ext4 looks long for inodes among those just freed.
NeMo-Run pins other versions of what ltrl needs: install it in an environment of its own and name its Python in
`NEMO_RUN_PYTHON`; without that its rows are left out.
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LTRL = (sys.executable, "-c", "import sys; sys.argv[0] = 'ltrl'; from ltrl.cli import main; main()")
PROFILE = "kind: cluster\nexecutor: slurm\nminutes: 5\nslurm: {exclusive: false, extra: [--hold]}\n"
SUBMITIT = """
import sys, submitit
executor = submitit.AutoExecutor(folder="submitit", cluster="slurm")
executor.update_parameters(timeout_min=5, slurm_additional_parameters={"hold": True})
how, number = sys.argv[1], int(sys.argv[2])
executor.map_array(print, range(number)) if how == "array" else [executor.submit(print, i) for i in range(number)]
"""
NEMO_RUN = """
import os, sys, nemo_run as run
executor = run.SlurmExecutor(account="a", partition="debug", nodes=1, ntasks_per_node=1, time="00:05:00",
    tunnel=run.LocalTunnel(job_dir=os.path.join(os.getcwd(), "experiments")), additional_parameters={"hold": True},
    packager=run.Packager(), container_image=None, mem=None, exclusive=None)
with run.Experiment("e") as experiment:
    for i in range(int(sys.argv[1])):
        experiment.add(run.Script(inline="true"), executor=executor, name=f"e{i}")
    experiment.run(detach=True)
"""


@contextmanager
def cluster(here: Path) -> Iterator[None]:
    """A Slurm of one node, with its clients on the PATH."""
    prefix = Path(tempfile.mkdtemp(prefix="ltrl-", dir="/tmp"))
    scripts, bin_ = ROOT / "tests" / "slurm", here / "bin"
    bin_.mkdir()
    try:
        subprocess.run(["bash", scripts / "up.sh", prefix, "nodes=1", "iso=net"], check=True, capture_output=True)
        for name in ("sbatch", "srun", "squeue", "scancel", "scontrol", "sacct", "sinfo"):
            (bin_ / name).write_text(f'#!/bin/bash\nexec {prefix}/enter {shutil.which(name)} "$@"\n')
            (bin_ / name).chmod(0o755)
        os.environ["PATH"] = f"{bin_}{os.pathsep}{os.environ['PATH']}"
        yield
    finally:
        subprocess.run(["bash", scripts / "down.sh", prefix, "--purge"], check=False, capture_output=True)
        shutil.rmtree(prefix, ignore_errors=True)


def prepare(here: Path, jobs: int) -> None:
    """Puts into a directory what the commands start from."""
    (here / "specs").mkdir()
    shutil.copy(ROOT / "specs" / "quickstart.yaml", here / "specs" / "one.yaml")
    seeds = ", ".join(map(str, range(jobs)))
    sweep = f"extends: one.yaml\nname: many\nsweep: {{grid: {{algorithm.seed: [{seeds}]}}}}\n"
    (here / "specs" / "many.yaml").write_text(sweep)
    (here / "held.yaml").write_text(PROFILE)
    (here / "plain.sbatch").write_text("#!/bin/bash\n#SBATCH --hold --time=5 --output=/dev/null\ntrue\n")


def commands(jobs: int) -> dict[str, list[tuple[str, Sequence[str]]]]:
    """What is compared, by what is submitted; the first of each is the floor."""
    ours = ("--cluster", "./held.yaml")
    loop = ("bash", "-c", f"for ((i = 0; i < {jobs}; i++)); do sbatch plain.sbatch; done")
    submitit = (sys.executable, "-c", SUBMITIT)
    one: list[tuple[str, Sequence[str]]] = [
        ("floor: `sbatch`", ("sbatch", "plain.sbatch")),
        ("`ltrl submit`: compiled, checked, submitted", (*LTRL, "submit", "specs/one.yaml", *ours)),
        ("submitit", (*submitit, "single", "1")),
    ]
    many: list[tuple[str, Sequence[str]]] = [
        ("floor: `sbatch` in a loop", loop),
        ("one `sbatch --array`", ("sbatch", f"--array=0-{jobs - 1}", "plain.sbatch")),
        ("`ltrl submit` of a sweep: compiled, checked, one `sbatch`", (*LTRL, "submit", "specs/many.yaml", *ours)),
        ("submitit, an array", (*submitit, "array", str(jobs))),
        ("submitit, single jobs", (*submitit, "single", str(jobs))),
    ]
    if python := os.environ.get("NEMO_RUN_PYTHON"):
        one.append(("NeMo-Run", (python, "-c", NEMO_RUN, "1")))
        many.append(("NeMo-Run, one experiment", (python, "-c", NEMO_RUN, str(jobs))))
    return {"1 job": one, f"{jobs} jobs": many}


def measure(command: Sequence[str], here: Path, jobs: int) -> tuple[float, float]:
    """Seconds on the clock and of CPU that a command takes in a directory of its own."""
    prepare(here, jobs)
    told = {**os.environ, "LTRL_STATE_DIR": str(here / "state"), "NEMORUN_HOME": str(here)}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=here, env=told, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{command}\n{done.stdout}{done.stderr}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def waiting() -> int:
    """How many jobs wait in the cluster."""
    asked = subprocess.run(["squeue", "--noheader", "--array"], check=True, capture_output=True, text=True)
    return len(asked.stdout.splitlines())


def main() -> None:
    jobs, rounds = (*map(int, sys.argv[1:3]), *(100, 3)[len(sys.argv) - 1 :])
    taken: dict[tuple[str, str], list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as top, cluster(Path(top)):
        for i in range(rounds + 1):
            number = jobs if i else 2  # the first round warms up
            for what, group in commands(number).items():
                for name, command in group:
                    seconds = measure(command, Path(tempfile.mkdtemp(dir=top)), number)
                    if waiting() != int(what.split()[0]):
                        raise SystemExit(f"{name}: {waiting()} jobs wait, not {what}")
                    subprocess.run(["scancel", "--state=PENDING"], check=True, capture_output=True)
                    if i:
                        taken.setdefault((what, name), []).append(seconds)
    print(f"| what | seconds, median of {rounds} | CPU s, least | of the floor's CPU |\n|---|---|---|---|")
    floors: dict[str, float] = {}
    for (what, name), both in taken.items():
        wall, cpu = statistics.median(wall for wall, _ in both), min(cpu for _, cpu in both)
        ratio = cpu / floors.setdefault(what, cpu)
        times = f"{ratio:.0f}x" if ratio >= 10 else f"{ratio:.1f}x"
        print(f"| {what}, {name} | {wall:.2f} | {cpu:.2f} | {times} |")


if __name__ == "__main__":
    main()
