"""Time of `ltrl diff` from the shell's point of view: whole processes, cold, medians of interleaved runs.

    python benchmarks/diff.py [RUNS]

Floor: the same interpreter doing nothing. `ltrl check` of one spec says what reading, checking and planning take.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LTRL = "import sys; sys.argv[0] = 'ltrl'; from ltrl.cli import main; main()"
WHO = ["-c", "user.name=Benchmark", "-c", "user.email=benchmark@example.org"]


def seconds(argv: list[str], cwd: str) -> float:
    start = time.perf_counter()
    done = subprocess.run(argv, cwd=cwd, check=False, capture_output=True)
    assert done.returncode in (0, 2), done.stderr.decode()
    return time.perf_counter() - start


def repository(folder: str, specs: int) -> None:
    """One commit with many specs, and a working tree in which each says another seed."""
    text = (ROOT / "specs" / "quickstart.yaml").read_text()
    (Path(folder) / "specs").mkdir()
    for i in range(specs):
        (Path(folder) / "specs" / f"{i}.yaml").write_text(text)
    for words in (["init", "-q"], ["add", "-A"], [*WHO, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *words], cwd=folder, check=True)
    for i in range(specs):
        (Path(folder) / "specs" / f"{i}.yaml").write_text(text.replace("steps: 80", f"steps: 80\n  seed: {i}"))


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    small, large = (str(ROOT / "specs" / f"{name}.yaml") for name in ("qwen4b", "qwen30b_moe"))
    with tempfile.TemporaryDirectory() as here:
        repository(here, 100)
        python = [sys.executable, "-c"]
        commands = {
            "floor: python -c pass": [*python, "pass"],
            "ltrl check qwen4b": [*python, LTRL, "check", small],
            "ltrl diff qwen4b qwen30b_moe": [*python, LTRL, "diff", small, large],
            "the same, Markdown": [*python, LTRL, "diff", small, large, "--format", "markdown"],
            "the same, JSON": [*python, LTRL, "diff", small, large, "--json"],
            "ltrl diff --git HEAD, 100 specs that all differ": [*python, LTRL, "diff", "--git", "HEAD", "--json"],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for argv in commands.values():  # once to warm the disk cache and the bytecode
            seconds(argv, here)
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
