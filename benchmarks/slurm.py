"""Submitting to a real Slurm: ltrl beside plain sbatch, submitit's single jobs, and NeMo-Run if there is one.

    python benchmarks/slurm.py [JOBS] [ROUNDS]

Brings up the cluster of `tests/slurm` (root, and the packages slurm-wlm and munge) and takes it down. Jobs are held,
so that only their submission is measured; rounds are interleaved. NeMo-Run pins other versions of what ltrl needs:
install it in an environment of its own and name its Python in `NEMO_RUN_PYTHON`.
"""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
LTRL = "import sys; sys.argv[0] = 'ltrl'; from ltrl.cli import main; main()"
HELD = {"executor": "slurm", "minutes": 5, "slurm": {"exclusive": False, "extra": ["--hold"]}}
NEMO_RUN = """
import sys, time, nemo_run as run
executor = run.SlurmExecutor(account="a", partition="debug", nodes=1, ntasks_per_node=1, time="00:05:00",
    tunnel=run.LocalTunnel(job_dir=sys.argv[1]), additional_parameters={"hold": True}, packager=run.Packager(),
    container_image=None, mem=None, exclusive=None)
start = time.perf_counter()
for i in range(int(sys.argv[2])):
    with run.Experiment(f"e{i}") as experiment:
        experiment.add(run.Script(inline="true"), executor=executor)
        experiment.run(detach=True)
print("seconds:", time.perf_counter() - start)
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


def timed(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def sbatch(here: Path, number: int) -> float:
    script = here / "plain.sbatch"
    script.write_text("#!/bin/bash\n#SBATCH --hold --time=5 --output=/dev/null\ntrue\n")
    return timed(lambda: [subprocess.run(["sbatch", script], check=True, capture_output=True) for _ in range(number)])


def ltrl(here: Path, number: int) -> float:
    from launching import make_bundle

    from ltrl import submit

    bundles = [make_bundle(here, ["true"], cluster=HELD, name=f"b{i}") for i in range(number)]
    return timed(lambda: [submit.submit(bundle, project=here) for bundle in bundles])


def ltrl_process(here: Path, _number: int) -> float:
    from launching import make_bundle

    argv = [sys.executable, "-c", LTRL, "submit", make_bundle(here, ["true"], cluster=HELD).path]
    return timed(lambda: subprocess.run(argv, cwd=here, check=True, capture_output=True))


def ltrl_sweep(here: Path, number: int) -> float:
    from launching import make_sweep

    from ltrl import array

    cells = make_sweep(here, [["true"]] * number, cluster=HELD)
    return timed(lambda: array.submit(cells, project=here))


def ltrl_sweep_process(here: Path, number: int) -> float:
    """From the spec: compiled, checked and submitted."""
    (here / "specs").mkdir()
    shutil.copy(ROOT / "specs" / "quickstart.yaml", here / "specs")
    seeds = ", ".join(map(str, range(number)))
    (here / "specs" / "x.yaml").write_text(
        f"extends: quickstart.yaml\nname: x\nsweep: {{grid: {{algorithm.seed: [{seeds}]}}}}\n"
    )
    profile = here / "held.yaml"
    profile.write_text("kind: cluster\nexecutor: slurm\nminutes: 5\nslurm: {exclusive: false, extra: [--hold]}\n")
    argv = [sys.executable, "-c", LTRL, "submit", "specs/x.yaml", "--cluster", "./held.yaml"]
    return timed(lambda: subprocess.run(argv, cwd=here, check=True, capture_output=True))


def submitit_singles(here: Path, number: int) -> float:
    import submitit

    executor = submitit.AutoExecutor(folder=here / "submitit", cluster="slurm")
    executor.update_parameters(timeout_min=5, slurm_additional_parameters={"hold": True})
    return timed(lambda: [executor.submit(print, 1) for _ in range(number)])


def nemo_run(here: Path, number: int) -> float:
    python = os.environ["NEMO_RUN_PYTHON"]
    words = [python, "-c", NEMO_RUN, here / "experiments", str(number)]
    told = {**os.environ, "NEMORUN_HOME": str(here)}
    done = subprocess.run(words, env=told, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return float(re.findall(r"^seconds: (\S+)$", done.stdout, re.MULTILINE)[-1])  # between lines of its own


def main() -> None:
    jobs, rounds = (*map(int, sys.argv[1:3]), *(100, 3)[len(sys.argv) - 1 :])
    cases: list[tuple[str, Callable[[Path, int], float], int]] = [
        ("sbatch, 1 job", sbatch, 1),
        ("ltrl, 1 job, in Python", ltrl, 1),
        ("ltrl submit, 1 job, the whole process", ltrl_process, 1),
        ("submitit, 1 job, in Python", submitit_singles, 1),
        (f"sbatch, {jobs} jobs", sbatch, jobs),
        (f"ltrl, {jobs} jobs, in Python", ltrl, jobs),
        (f"submitit, {jobs} single jobs, in Python", submitit_singles, jobs),
        (f"ltrl, a sweep of {jobs} cells, in Python", ltrl_sweep, jobs),
        (f"ltrl submit, a sweep of {jobs} cells, the whole process", ltrl_sweep_process, jobs),
    ]
    if "NEMO_RUN_PYTHON" in os.environ:
        cases += [("nemo_run, 1 job, in Python", nemo_run, 1), (f"nemo_run, {jobs} jobs, in Python", nemo_run, jobs)]
    times: dict[str, list[float]] = {name: [] for name, *_ in cases}
    with tempfile.TemporaryDirectory() as top, cluster(Path(top)):
        for i in range(rounds + 1):  # the first round warms up
            for name, act, number in cases:
                here = Path(tempfile.mkdtemp(dir=top))
                os.environ["LTRL_STATE_DIR"] = str(here / "state")
                seconds = act(here, number)
                if i:
                    times[name].append(seconds)
            subprocess.run(["scancel", "--state=PENDING"], check=False, capture_output=True)
    print(f"| what | median of {rounds} (s) | min | max |\n|---|---|---|---|")
    for name, values in times.items():
        print(f"| {name} | {statistics.median(values):.3f} | {min(values):.3f} | {max(values):.3f} |")


if __name__ == "__main__":
    main()
