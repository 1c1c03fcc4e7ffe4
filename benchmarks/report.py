"""What a report costs: the time to make the page of a long run, and its size.

    python benchmarks/report.py [DIRECTORY]

Runs have 200 steps of NeMo-RL's 60 numbers, four kept responses a step and 128 of each of 20 validations, 30,000
characters each; with a DIRECTORY the runs and the page stay there.
"""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from ltrl import compile, excerpts, state
from ltrl.excerpts import Excerpt
from ltrl.state import Attempt, Run, State

SPECS = Path(__file__).resolve().parent.parent / "specs"
LTRL = "import sys; sys.argv[0] = 'ltrl'; from ltrl.cli import main; main()"
STEPS, SAMPLES = 200, 128
ENTITIES = ("Ada Lovelace", "Charles Babbage", "Analytical Engine")


def make(project: Path, name: str, *, sets: tuple[str, ...] = (), seed: int = 0) -> Path:
    """A run that looks like a real one, of a bundle that is real."""
    rng = random.Random(seed)
    sets = (f"name={name}", *sets)
    made, *_ = compile.compile_bundle(
        SPECS / "quickstart.yaml", cluster="local", sets=sets, out=project / "build" / name
    )
    path = project / "runs" / name
    path.mkdir(parents=True)
    (path / "bundle").symlink_to(made.path)
    run = Run(path, name, made.name, made.fingerprint, "local", STEPS, str(project), state.now())
    state.create_run(run)
    state.add_attempt(state.read_run(path), Attempt(1, State.COMPLETED, "local", "local", 60, "host", state.now()))
    (path / "checkpoints/step_200").mkdir(parents=True)
    (path / "checkpoints/step_200/training_info.json").write_text('{"total_steps": 200, "val:accuracy": 0.7}')
    logs = path / "logs/exp_001"
    logs.mkdir(parents=True)
    with (logs / "metrics.jsonl").open("w") as file:
        for step in range(1, STEPS + 1):
            file.write(json.dumps({"step": step, **numbers(step / STEPS, rng)}) + "\n")
            excerpts.append(logs, step, [response(i, step, rng, "train") for i in range(excerpts.PER_STEP)])
            if step % 10 == 0:
                figures = {"accuracy": 0.3 + step / 500, "rubric": 0.5, "chains/accuracy": 0.3 + step / 500}
                record = {f"validation/{tag}": value for tag, value in figures.items()}
                file.write(json.dumps({"step": step, **record}) + "\n")
                excerpts.append(logs, step, [response(i, step, rng, "validation") for i in range(SAMPLES)])
    return path


def numbers(done: float, rng: random.Random) -> dict[str, float]:
    def near(value: float) -> float:
        return value * rng.gauss(1, 0.05)

    train = {
        "reward": near(0.4 + 0.5 * done), "outcome": near(0.5 + 0.4 * done), "rubric": near(0.2 + 0.7 * done),
        "group/all_one": 0.3 * done, "group/all_zero": 0.2 * (1 - done), "group/mixed": 0.8 - 0.1 * done,
        "mean_gen_tokens_per_sample": near(9000), "max_gen_tokens_per_sample": 32000, "truncation_rate": near(0.1),
        "ill_formed_rate": near(0.05), "unjudged_rate": 0.01, "grad_norm": near(0.3), "approx_entropy": near(0.5),
        "gen_kl_error": near(0.001), "is_oob_ratio": near(0.003), "total_num_tokens": 12_800_000,
    }  # fmt: skip
    timing = {"total_step_time": near(90), "generation": near(50), "policy_training": near(30)}
    more = {f"performance/number_{i}": rng.random() for i in range(60 - len(train) - len(timing))}
    return {
        **{f"train/{tag}": value for tag, value in train.items()},
        **{f"timing/train/{tag}": value for tag, value in timing.items()},
        **more,
    }


def response(number: int, step: int, rng: random.Random, split: str) -> Excerpt:
    is_right = rng.random() < 0.3 + step / 500
    named = rng.sample(ENTITIES, rng.randint(0, 3))
    words = ["the", "document", "says", "that", "a", "letter", "of", "1843", "names", *named]
    text = " ".join(rng.choices(words, k=5000))
    return Excerpt(
        split="train" if split == "train" else "validation", set="" if split == "train" else "chains",
        sample=f"sample-{number}", question=f"Who wrote the first program, asked for the {number}th time?",
        label="Ada Lovelace", rubrics=ENTITIES, response=f"<think>\n{text}\n</think>\n\n{' '.join(named)}",
        status="completed", reward=float(is_right), outcome=float(is_right), rubric=len(named) / 3,
        parts={"length": 0.5}, judge="The answer names the same person as the label. CORRECT",
        num_tokens=rng.randint(2000, 32000),
    )  # fmt: skip


def measure(here: Path, *names: str) -> None:
    page = here / "report.html"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-c", LTRL, "report", *names, "-o", str(page)], cwd=here, check=True, stdout=subprocess.DEVNULL
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    took = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"page of {len(names)} runs: {took:.2f} s of CPU, {page.stat().st_size / 1e6:.1f} MB")


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        here = Path(sys.argv[1] if len(sys.argv) > 1 else scratch).absolute()
        (here / "specs").mkdir(parents=True, exist_ok=True)
        os.environ["LTRL_STATE_DIR"] = str(here / "state")
        make(here, "rubric")
        make(here, "outcome", sets=("reward.backend=outcome",), seed=1)
        measure(here, "rubric")
        measure(here, "rubric", "outcome")


if __name__ == "__main__":
    main()
