"""Time from the shell's point of view, and of many specs in one process, beside peers; medians of interleaved runs.

    python benchmarks/cli.py [RUNS] [--peers DIR]

Floor: the same interpreter doing nothing. With `--peers`, each peer is installed into an environment of its own below
DIR, if it is not there yet (minutes and 600 MB); without, those that are there are measured.
"""

from __future__ import annotations

import argparse
import gc
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LTRL = "import sys; sys.argv[0] = 'ltrl'; from ltrl.cli import main; main()"
HYDRA = (
    "from hydra import compose, initialize_config_dir as at\nwith at(sys.argv[1], version_base=None): compose('config')"
)
MANY_HYDRA = """
import sys, time
from hydra import compose, initialize_config_dir as at
start = time.perf_counter()
with at(sys.argv[1], version_base=None):
    for step in range(int(sys.argv[2])):
        compose('config', overrides=[f'grpo.max_num_steps={step + 1}'])
print(time.perf_counter() - start)
"""
PEERS = {
    "hydra": ["hydra-core==1.3.8"],
    "nemo-run": ["nemo_run", "leptonai==0.26.6"],  # a newer leptonai has no `leptonai.api.v0`
    "torchx": ["torchx"],
}
"""What each peer's environment gets from the package index."""
SIZES = (100, 300, 1000)


def seconds(argv: Sequence[str], cwd: str) -> float:
    start = time.perf_counter()
    subprocess.run(argv, cwd=cwd, check=True, capture_output=True)
    return time.perf_counter() - start


def install(folder: Path) -> None:
    for name, wanted in PEERS.items():
        if not (folder / name).is_dir():
            venv.create(folder / name, with_pip=True)
            subprocess.run([folder / name / "bin" / "pip", "install", "--quiet", *wanted], check=True)


def interleaved(jobs: dict[str, Callable[[], float]], runs: int) -> dict[str, list[float]]:
    """Times of each job, one after another in every round; the first round, which warms caches, does not count."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(runs + 1):
        for name, job in jobs.items():
            times[name].append(job())
    return {name: values[1:] for name, values in times.items()}


def processes(here: str, peers: Path | None) -> dict[str, list[str]]:
    """Whole processes, by what they do."""
    spec, python = str(ROOT / "specs" / "qwen30b_moe.yaml"), [sys.executable, "-c"]
    found = {
        "floor: `python -c pass`": [*python, "pass"],
        "`ltrl --help`": [*python, LTRL, "--help"],
        "`ltrl check qwen30b_moe`": [*python, LTRL, "check", spec],
        "`ltrl explain qwen30b_moe algorithm.clip.high`": [*python, LTRL, "explain", spec, "algorithm.clip.high"],
        "`ltrl compile qwen30b_moe`": [*python, LTRL, "compile", spec, "-o", "bundle", "--replace"],
    }
    for name, arguments in {
        "hydra": ["bin/python", "-c", "import sys; " + HYDRA, here],
        "torchx": ["bin/torchx", "--help"],
        "nemo-run": ["bin/nemo", "--help"],
    }.items():
        program = (peers or Path()) / name / arguments[0]
        if peers and program.exists():
            what = "composes the compiled keys, checks nothing" if name == "hydra" else "`--help`"
            found[f"peer: {name} {version(peers / name, name)} {what}"] = [str(program), *arguments[1:]]
    return found


def version(environment: Path, name: str) -> str:
    """Of the package that an environment is for."""
    package = PEERS[name][0].partition("=")[0]
    code = f"from importlib.metadata import version; print(version('{package}'))"
    return subprocess.run(
        [environment / "bin" / "python", "-c", code], check=True, capture_output=True, text=True
    ).stdout.strip()


def many(here: Path, peers: Path | None) -> dict[str, Callable[[], float]]:
    """Many specs in one process, by what is done."""
    from ltrl.compile import compile_bundle, prepare

    shutil.copytree(ROOT / "specs", here / "many" / "specs")
    text = (ROOT / "specs" / "qwen30b_moe.yaml").read_text()
    specs = [here / "many" / "specs" / f"s{i}.yaml" for i in range(max(SIZES))]
    for i, spec in enumerate(specs):
        spec.write_text(text.replace("steps: 200", f"steps: {i + 1}"))

    def timed(work: Callable[[Path], object], found: Sequence[Path]) -> float:
        gc.collect()
        start = time.perf_counter()
        for spec in found:
            work(spec)
        return time.perf_counter() - start

    def compiled(spec: Path) -> None:
        compile_bundle(spec, out=here / "bundles" / spec.stem, replace=True)

    jobs: dict[str, Callable[[], float]] = {
        f"check {n:,} specs": lambda n=n: timed(prepare, specs[:n])  # type: ignore[misc]
        for n in SIZES
    }
    jobs["compile 100 specs"] = lambda: timed(compiled, specs[:100])
    hydra = (peers or Path()) / "hydra" / "bin" / "python"
    if peers and hydra.exists():
        argv = [str(hydra), "-c", MANY_HYDRA, str(here), "100"]
        run = lambda: float(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)  # noqa: E731
        jobs["peer: hydra composes 100 configurations, checks nothing"] = run
    return jobs


def table(title: str, times: dict[str, list[float]], floor: float | None) -> None:
    runs = len(next(iter(times.values())))
    extra = " over the floor (s) |" if floor is not None else ""
    print(f"| {title} | median of {runs} (s) | min | max |{extra}\n|---|---|---|---|{'---|' if extra else ''}")
    for name, values in times.items():
        median = statistics.median(values)
        more = f" {median - floor:+.3f} |" if floor is not None else ""
        print(f"| {name} | {median:.3f} | {min(values):.3f} | {max(values):.3f} |{more}")
    print()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", nargs="?", type=int, default=15)
    parser.add_argument("--peers", type=Path)
    options = parser.parse_args()
    if options.peers:
        install(options.peers)
    with tempfile.TemporaryDirectory() as here:
        spec = str(ROOT / "specs" / "qwen30b_moe.yaml")
        subprocess.run([sys.executable, "-c", LTRL, "compile", spec, "-o", "peer"], cwd=here, check=True)
        (Path(here) / "config.yaml").write_text((Path(here) / "peer" / "nemo_rl.yaml").read_text())
        commands = processes(here, options.peers)
        jobs = {name: (lambda argv=argv: seconds(argv, here)) for name, argv in commands.items()}  # type: ignore[misc]
        times = interleaved(jobs, options.runs)
        table("command", times, statistics.median(times["floor: `python -c pass`"]))
        table("in one process", interleaved(many(Path(here), options.peers), max(1, options.runs // 5)), None)
        print(f"load while measuring: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
