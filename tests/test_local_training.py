"""The embedded engine trains, is killed, resumes, and says clearly why it cannot go on.

The trainings are real and short; their start model is taught for a few updates only, so that they take seconds.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from loopback_judge import Answer, LoopbackJudge, loopback_judge

from ltrl import excerpts
from ltrl.backend import load
from ltrl.checkpoints import scan
from ltrl.rescore import Rule, score
from ltrl.rollouts import Samples, groups

pytestmark = pytest.mark.training
pytest.importorskip("trl")

STEPS = 6


REWARD = {"backend": "rubric", "judge": {"backend": "exact", "answer_pattern": "answer (.+)$"}}


def configure(directory: Path, **changes: Any) -> Path:
    """A run directory with the driver's configuration; `a__b` names key b of section a."""
    data = {"backend": "entity-chain", "samples": 24}
    config: dict[str, Any] = {
        "fingerprint": "f" * 64,
        "base": "tiny-qwen3",
        "network": {
            "num_layers": 2,
            "hidden_size": 32,
            "ffn_size": 64,
            "num_heads": 4,
            "num_kv_heads": 2,
            "head_dim": 16,
            "tied_embeddings": True,
            "rope_theta": 1000.0,
            "max_positions": 512,
        },
        "max_prompt_tokens": 128,
        "max_response_tokens": 16,
        "max_total_tokens": 144,
        "chat_format": "qwen3",
        "train": data,
        "validation_sets": {"chains": data | {"seed": 1, "samples": 6}},
        "shuffle": True,
        "reward": REWARD,
        "grpo": {
            "steps": STEPS,
            "prompts_per_step": 4,
            "group_size": 4,
            "seed": 0,
            "clip_low": 0.2,
            "clip_high": 0.28,
            "clip_dual": None,
            "objective": "clip",
            "ratio": "token",
            "loss_aggregation": "token",
            "kl_coefficient": 0.0,
            "divide_by_std": True,
            "mask_truncated": False,
            "temperature": 1.0,
            "top_p": 1.0,
            "top_k": None,
        },
        "optimizer": {
            "lr": 1e-3,
            "weight_decay": 0.1,
            "beta1": 0.9,
            "beta2": 0.98,
            "eps": 1e-8,
            "max_grad_norm": 1.0,
            "schedule": "cosine",
            "warmup_steps": 2,
            "min_lr": 1e-5,
        },
        "validation": {
            "every_steps": 3,
            "at_start": True,
            "at_end": True,
            "samples_per_prompt": 2,
            "samples_to_print": 1,
        },
        "checkpoint": {"every_steps": 2, "keep": None, "metric": None, "save_optimizer": True},
        "tensorboard": True,
        "write_rollouts": False,
        "threads": 1,
        "warm_start": {"batch_size": 4, "lookup_accuracy": 1e-9, "lookup_steps": 60, "answer_steps": 30},
        "collapse": {},
    }
    for path, value in changes.items():
        *sections, key = path.split("__")
        section = config
        for name in sections:
            section = section[name]
        section[key] = value
    (directory / "bundle").mkdir(parents=True, exist_ok=True)
    (directory / "bundle" / "local_engine.json").write_text(json.dumps(config), encoding="utf-8")
    return directory


def start(directory: Path, cache: Path, *, largest_file: int = resource.RLIM_INFINITY) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "ltrl_backends.local_engine", "bundle/local_engine.json"],
        cwd=directory,
        env=os.environ | {"LTRL_CACHE_DIR": str(cache)},
        stderr=subprocess.PIPE,
        text=True,
    )
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (largest_file, largest_file))
    return process


def run(directory: Path, cache: Path, *, largest_file: int = resource.RLIM_INFINITY) -> tuple[int, str]:
    process = start(directory, cache, largest_file=largest_file)
    _, stderr = process.communicate(timeout=300)
    return process.returncode, stderr


def metrics(directory: Path) -> dict[tuple[int, str], float]:
    """Every number but the times, by step and name; of a step measured twice, the later one."""
    found = {}
    for file in sorted(directory.glob("logs/exp_*/metrics.jsonl")):
        for line in file.read_text("utf-8").splitlines():
            values = json.loads(line)
            step = values.pop("step")
            found |= {(step, k): v for k, v in values.items() if not k.startswith("timing/")}
    return found


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """A run that nobody disturbed; another made the same start model at the same time."""
    directory, other = (configure(tmp_path_factory.mktemp(name)) for name in ("run", "other"))
    processes = [start(directory, cache), start(other, cache)]
    said = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert sum("start model: answering" in text for text in said) == 1
    assert metrics(directory) == metrics(other)
    return directory


def test_a_run_leaves_what_nemo_rl_leaves(undisturbed: Path) -> None:
    logs = undisturbed / "logs" / "exp_001"
    validated = [f"val_data_step{n}.jsonl" for n in (0, 3, 6)]
    assert names(logs) == ["excerpts.jsonl", "metrics.jsonl", "tensorboard", *validated]
    kept = list(excerpts.read(logs / excerpts.NAME))
    assert {one.step for one in kept if one.split == "train"} == set(range(1, 7))
    assert {one.step for one in kept if one.split == "validation"} == {0, 3, 6}
    assert all(one.question and one.label and one.rubrics and one.num_tokens for one in kept)
    assert names(undisturbed / "checkpoints") == ["step_2", "step_4", "step_6"]
    last = undisturbed / "checkpoints" / "step_6"
    assert names(last) == ["config.yaml", "policy", "sha256sums.txt", "training_info.json"]
    info = json.loads((last / "training_info.json").read_text("utf-8"))
    assert (info["total_steps"], info["consumed_samples"], info["current_epoch"], info["current_step"]) == (6, 24, 1, 0)
    numbers = metrics(undisturbed)
    assert info["val:accuracy"] == numbers[6, "validation/accuracy"] == numbers[6, "validation/chains/accuracy"]
    assert {step for step, name in numbers if name == "train/reward"} == set(range(1, 7))
    assert {step for step, name in numbers if name == "validation/accuracy"} == {0, 3, 6}
    rows = [json.loads(line) for line in (logs / "val_data_step6.jsonl").read_text("utf-8").splitlines()]
    assert len(rows) == 12
    assert [message["role"] for message in rows[0]["content"]] == ["user", "assistant"]
    section = load("reward", "rubric").Options.model_validate_json(json.dumps(REWARD))
    rule = Rule(section.model_dump_json(), "qwen3")
    again = [one for group in groups(logs / "val_data_step6.jsonl", Samples([])) for one in score(rule, group)]
    assert [one.reward for one in again] == [row["rewards"] for row in rows]
    assert [(one.score.outcome, one.score.rubric) for one in again] == [(row["outcome"], row["rubric"]) for row in rows]


def measured_lines(directory: Path) -> int:
    return sum(len(file.read_bytes().splitlines()) for file in directory.glob("logs/exp_*/metrics.jsonl"))


def test_killed_at_any_moment_it_ends_with_the_same_numbers(undisturbed: Path, cache: Path, tmp_path: Path) -> None:
    """While it loads, within a step, while it saves: the delays are random, the moments they begin at are not."""
    chance = random.Random(8)
    directory = configure(tmp_path)
    unfinished = directory / "checkpoints" / "tmp_step_4"
    moments: list[Callable[[int], bool]] = [
        lambda _: True,
        lambda lines: measured_lines(directory) > lines,
        lambda _: unfinished.exists(),
        lambda lines: measured_lines(directory) > lines,
    ]
    attempts = 0
    for has_come in moments:
        process = start(directory, cache)
        attempts += 1
        lines = measured_lines(directory)
        while process.poll() is None and not has_come(lines):
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.05 if unfinished.exists() else 0.5))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if process.returncode == 0:  # it was faster
            break
    code, said = run(directory, cache)
    assert code == 0, said
    assert attempts > 2
    assert metrics(directory) == metrics(undisturbed)
    for step in (2, 4, 6):
        for name in ("model.safetensors", "trainer_state.json"):
            file = f"checkpoints/step_{step}/policy/weights/{name}"
            ours, theirs = (without_times((d / file).read_bytes()) for d in (directory, undisturbed))
            assert ours == theirs, file
    assert [str(e.condition) for e in scan(directory / "checkpoints", deep=True)] == 3 * ["complete"]
    assert run(directory, cache) == (0, "nothing to do: step 6 of 6 is done\n")


def without_times(raw: bytes) -> bytes:
    """A trainer's state as it would be on any day; other files as they are."""
    if not raw.startswith(b"{\n"):
        return raw
    data = json.loads(raw)
    for entry in data["log_history"]:
        for name in [name for name in entry if "time" in name]:
            del entry[name]
    return json.dumps(data, sort_keys=True).encode()


def test_damage_makes_it_go_on_from_the_checkpoint_before(undisturbed: Path, cache: Path, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    shutil.copytree(undisturbed, directory)
    configure(directory, checkpoint__every_steps=3)  # it may change when a run is resumed
    for step in (4, 6):
        weights = directory / "checkpoints" / f"step_{step}" / "policy" / "weights" / "optimizer.pt"
        weights.write_bytes(weights.read_bytes()[:-100])
    code, said = run(directory, cache)
    assert code == 0, said
    assert "set aside: `step_6`, `policy/weights/optimizer.pt` is cut short\n" in said
    assert "resuming at step 2\n" in said
    assert metrics(directory) == metrics(undisturbed)
    assert names(directory / "checkpoints") == ["set-aside", "step_2", "step_3", "step_6"]


def test_bfloat16_is_of_the_arithmetic_alone(undisturbed: Path, cache: Path, tmp_path: Path) -> None:
    code, said = run(configure(tmp_path, precision="bfloat16", grpo__steps=2, validation__at_start=False), cache)
    assert code == 0, said
    exact, rounded = metrics(undisturbed), metrics(tmp_path)
    assert rounded[1, "train/approx_entropy"] != exact[1, "train/approx_entropy"]
    assert rounded[1, "train/approx_entropy"] == pytest.approx(exact[1, "train/approx_entropy"], rel=0.1)
    weights = tmp_path / "checkpoints" / "step_2" / "policy" / "weights" / "model.safetensors"
    raw = weights.read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    assert {tensor["dtype"] for name, tensor in header.items() if name != "__metadata__"} == {"F32"}


def test_a_gpu_that_is_not_there_is_said_at_once(cache: Path, tmp_path: Path) -> None:
    code, said = run(configure(tmp_path, device="cuda"), cache)
    assert code == 1
    assert said.startswith("error[LTRL024]: `engine.device: cuda`, but PyTorch sees no GPU here: ")
    assert "Traceback" not in said


def test_a_second_driver_in_the_same_directory_is_refused(undisturbed: Path, cache: Path) -> None:
    with (undisturbed / "driver.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, said = run(undisturbed, cache)
    assert code == 1
    assert said == (
        f"error[LTRL041]: another process is training in `{undisturbed}`\nhint: wait for it, or cancel it first\n"
    )


def test_the_checkpoint_of_another_experiment_is_refused(undisturbed: Path, cache: Path) -> None:
    before = (undisturbed / "bundle" / "local_engine.json").read_text("utf-8")
    configure(undisturbed, fingerprint="e" * 64)
    try:
        code, said = run(undisturbed, cache)
    finally:
        (undisturbed / "bundle" / "local_engine.json").write_text(before, encoding="utf-8")
    assert code == 1
    assert said == (
        f"error[LTRL043]: `{undisturbed}/checkpoints/step_6` belongs to another experiment: "
        "its fingerprint is ffffffff, this one's eeeeeeee\nhint: start it in a run directory of its own\n"
    )


def test_a_disk_that_takes_no_more_stops_the_run_and_keeps_its_checkpoints(cache: Path, tmp_path: Path) -> None:
    directory = configure(tmp_path, checkpoint__every_steps=1, tensorboard=False)
    assert run(configure(tmp_path, checkpoint__every_steps=1, grpo__steps=1), cache)[0] == 0
    configure(tmp_path, checkpoint__every_steps=1)
    code, said = run(directory, cache, largest_file=16384)  # bytes: metrics fit, weights do not
    assert code == 1
    assert f"error[LTRL032]: cannot write to `{directory}/checkpoints`: file too large\n" in said
    assert "Traceback" not in said
    assert names(directory / "checkpoints") == ["step_1"]
    assert run(directory, cache)[0] == 0
    assert names(directory / "checkpoints") == [f"step_{n}" for n in range(1, 7)]


def test_a_directory_that_cannot_be_written_is_named(cache: Path, tmp_path: Path) -> None:
    directory = configure(tmp_path)
    (directory / "checkpoints").write_text("a file is in the way", encoding="utf-8")
    code, said = run(directory, cache)
    assert code == 1
    assert f"error[LTRL032]: cannot write to `{directory}/checkpoints`" in said
    assert "Traceback" not in said


def test_prompts_that_are_all_too_long_are_refused(cache: Path, tmp_path: Path) -> None:
    code, said = run(configure(tmp_path, max_prompt_tokens=20), cache)
    assert code == 1
    assert "error[LTRL050]: none of the 24 prompts of `data.train` has at most 20 tokens, the shortest has" in said


def test_a_start_model_that_does_not_learn_is_refused(tmp_path: Path) -> None:
    directory = configure(tmp_path, warm_start={"batch_size": 4, "lookup_steps": 6})
    code, said = run(directory, tmp_path / "cache")
    assert code == 3
    assert "error[LTRL052]: the start model did not learn to look up links in 6 updates (" in said
    assert names(tmp_path / "cache" / "start-models") == [
        next((tmp_path / "cache" / "start-models").glob("*.lock")).name
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"grpo__objective": "cispo"},
        {"grpo__ratio": "sequence", "grpo__loss_aggregation": "sequence"},
        {"grpo__kl_coefficient": 0.01, "grpo__clip_dual": 3.0, "grpo__mask_truncated": True},
        {"optimizer__schedule": "linear", "optimizer__min_lr": 0.0, "write_rollouts": True, "grpo__top_k": 50},
    ],
)
def test_every_choice_the_engine_accepts_trains(changes: dict[str, Any], cache: Path, tmp_path: Path) -> None:
    code, said = run(configure(tmp_path, grpo__steps=2, **changes), cache)
    assert code == 0, said
    assert [step for step, name in metrics(tmp_path) if name == "train/loss"] == [1, 2]


def judged_by(server: LoopbackJudge, **outage: Any) -> dict[str, Any]:
    """Changes that have a judge decide about every response, however poor."""
    judge = {"backend": "openai", "model": "judge", "base_url": server.base_url, "retries": 0, "replies": 1}
    reward = {"backend": "rubric", "judge": judge, "truncated": "score", "outage": outage}
    return {"reward": reward, "chat_format": "plain", "validation__at_start": False, "tensorboard": False}


def test_a_dead_judge_stops_the_run_before_it_trains_on_noise(cache: Path, tmp_path: Path) -> None:
    with loopback_judge(Answer(None, 429, body="daily quota exceeded, retry later")) as server:
        code, said = run(configure(tmp_path, **judged_by(server)), cache)
    assert code == 1
    *_, error, hint = said.rstrip().splitlines()
    assert error == (
        "error[LTRL085]: 16 of 16 responses of this step are unjudged, `reward.outage.max_unjudged` 0.25 allows 4; "
        "16 of them: HTTP 429: daily quota exceeded, retry later (1 try)"
    )
    assert hint.startswith("hint: when the judge answers again, submit again")
    assert metrics(tmp_path) == {}


def test_what_no_judge_judged_teaches_nothing(cache: Path, tmp_path: Path) -> None:
    with loopback_judge(Answer(None, 400, body="no")) as server:
        code, said = run(configure(tmp_path, **judged_by(server, max_unjudged=1.0), grpo__steps=2), cache)
    assert code == 0, said
    found = metrics(tmp_path)
    steps = [
        {name: found[step, f"train/{name}"] for name in ("unjudged_rate", "grad_norm", "global_valid_seqs", "loss")}
        for step in (1, 2)
    ]
    assert steps == 2 * [{"unjudged_rate": 1.0, "grad_norm": 0.0, "global_valid_seqs": 0.0, "loss": 0.0}]


def test_a_few_lost_verdicts_are_masked_and_the_run_goes_on(cache: Path, tmp_path: Path) -> None:
    def script(number: int, _: dict[str, Any]) -> Answer:
        return Answer(None, 500, body="ill") if number < 3 else Answer(f"correct: {'yes' if number % 2 else 'no'}")

    with loopback_judge(script=script) as server:
        code, said = run(configure(tmp_path, **judged_by(server), grpo__steps=2), cache)
    assert code == 0, said
    found = metrics(tmp_path)
    assert 0 < found[1, "train/unjudged_rate"] <= 0.25
    assert found[1, "train/global_valid_seqs"] == 16 * (1 - found[1, "train/unjudged_rate"])
    assert found[1, "train/grad_norm"] > 0
    assert found[2, "train/unjudged_rate"] == 0


def test_rewards_from_a_server_are_those_of_the_engine_itself(undisturbed: Path, cache: Path, tmp_path: Path) -> None:
    judge = {"backend": "exact", "answer_pattern": "answer (.+)$"}
    code, said = run(configure(tmp_path, reward={"backend": "rubric", "judge": judge, "server": {}}), cache)
    assert code == 0, said
    assert metrics(tmp_path) == metrics(undisturbed)
    log = (tmp_path / "logs" / "reward_server.log").read_text("utf-8")
    assert '"status": 200' in log
    assert '"Finished server process' in log
