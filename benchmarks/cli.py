"""Time from the shell's point of view: whole processes, cold, medians of interleaved runs.

    python benchmarks/cli.py [RUNS]

Floor: the same interpreter doing nothing. Peer: Hydra composing a configuration of the same size, if it is installed.
"""

from __future__ import annotations

import importlib.util
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LTRL = "import sys; sys.argv[0] = 'ltrl'; from ltrl.cli import main; main()"
HYDRA = (
    "from hydra import compose, initialize_config_dir as at\nwith at(sys.argv[1], version_base=None): compose('config')"
)


def seconds(argv: list[str], cwd: str) -> float:
    start = time.perf_counter()
    subprocess.run(argv, cwd=cwd, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    spec = str(ROOT / "specs" / "qwen30b_moe.yaml")
    with tempfile.TemporaryDirectory() as here:
        python = [sys.executable, "-c"]
        commands = {
            "floor: python -c pass": [*python, "pass"],
            "ltrl --help": [*python, LTRL, "--help"],
            "ltrl check qwen30b_moe": [*python, LTRL, "check", spec],
            "ltrl compile qwen30b_moe": [*python, LTRL, "compile", spec, "-o", "bundle", "--replace"],
        }
        if importlib.util.find_spec("hydra"):
            config = subprocess.run([*python, LTRL, "compile", spec, "-o", "peer"], cwd=here, check=True)
            assert config.returncode == 0
            (Path(here) / "config.yaml").write_text((Path(here) / "peer" / "nemo_rl.yaml").read_text())
            commands["peer: hydra compose, same keys"] = [*python, "import sys; " + HYDRA, here]
        times: dict[str, list[float]] = {name: [] for name in commands}
        for name, argv in commands.items():  # once to warm the disk cache and the bytecode
            seconds(argv, here)
            del name
        for _ in range(runs):
            for name, argv in commands.items():
                times[name].append(seconds(argv, here))
    floor = statistics.median(times["floor: python -c pass"])
    print(f"| command | median of {runs} (s) | min | max | over the floor (s) |\n|---|---|---|---|---|")
    for name, values in times.items():
        median = statistics.median(values)
        print(f"| {name} | {median:.3f} | {min(values):.3f} | {max(values):.3f} | {median - floor:+.3f} |")


if __name__ == "__main__":
    main()
