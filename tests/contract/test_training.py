"""Our driver trains the quickstart task with NeMo-RL's real `setup`, `grpo_train` and `async_grpo_train`, on a CPU."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import yaml
from loopback_judge import loopback_judge

from ltrl import excerpts
from ltrl.backend import create, load
from ltrl.compile import compile_bundle, prepare
from ltrl.scoring import Score, ScoreRequest, advantages, parse_response
from ltrl_backends.nemo_rl.rehearsal.checkout import VARIABLE, version_of

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
VERSION = version_of(Path(os.environ.get(VARIABLE, ""))) or "0.7.0"
GROUP = 8
SPEC = r"""
kind: experiment
name: rehearsal
model: {base: %s, context: {prompt: 128, response: 18}, chat_format: qwen3}
data:
  train: {backend: entity-chain, samples: 640}
  validation:
    chains: {backend: entity-chain, samples: 64, seed: 1}
    short: {backend: entity-chain, samples: 16, seed: 2, hops: 2}
reward: {backend: rubric, judge: {backend: exact, answer_pattern: "answer (\\S+)$"}}
algorithm: {steps: 24, prompts_per_step: 8, importance_correction: {kind: icepop, low: 0.5, high: 2.0}}
optimizer: {lr: 7e-4}
validation: {every_steps: 12, samples_per_prompt: 2}
checkpoint: {every_steps: 12}
logging: {rollouts: true}
parallelism: {}
engine: {name: nemo-rl, version: %s, device: cpu, rehearsal: {steps: 24}}
"""
SHORT = ("algorithm.steps=3", "validation={every_steps: 3, at_start: false}", "data.validation.chains.samples=8")


@pytest.fixture(scope="session")
def start_model() -> Path:
    """The quickstart's start model, made by the embedded engine (a minute) unless the user's cache has it."""
    from ltrl_backends.local_engine import warm_start
    from ltrl_backends.local_engine.settings import Settings

    plan = prepare(ROOT / "specs" / "quickstart.yaml")
    [artifact] = create(plan.resolved.engine).artifacts(plan)
    settings = Settings.model_validate_json(artifact.text)
    assert settings.network is not None
    data: Any = create(plan.resolved.spec.data.train)
    return warm_start.start_model(data, settings.warm_start, settings.network, threads=settings.threads, report=print)


def compiled(directory: Path, model: Path, *sets: str) -> Path:
    """A run directory with the bundle of `SPEC`."""
    directory.mkdir(parents=True)
    spec = directory / "spec.yaml"
    spec.write_text(SPEC % (model, VERSION))
    compile_bundle(spec, sets=sets, out=directory / "bundle")
    return directory


def trained(run: Path, *command: str) -> str:
    """Runs the driver in a run directory as a job does; returns what it printed."""
    command = command or ("-m", "ltrl_backends.nemo_rl.rehearsal")
    argv = [sys.executable, *command, "bundle/nemo_rl.yaml"]
    done = subprocess.run(argv, cwd=run, capture_output=True, text=True, check=False, timeout=400)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout + done.stderr


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def steps_in(logs: Path) -> dict[int, list[dict[str, Any]]]:
    """NeMo-RL's own record of each training step, response by response."""
    found = {int(re.findall(r"\d+", path.stem)[-1]): lines(path) for path in logs.glob("train_data_step*.jsonl")}
    return dict(sorted(found.items()))


def metric(logs: Path, name: str) -> list[float]:
    return [line[name] for line in lines(logs / "metrics.jsonl") if name in line]


@dataclass
class Compared:
    """A run's rewards and advantages beside those of `ltrl.scoring` for the same texts."""

    steps: int = 0
    responses: int = 0
    mixed_groups: int = 0
    never_generated: int = 0
    worst_reward: float = 0.0
    worst_advantage: float = 0.0


def compare(run: Path, logs: Path) -> Compared:
    """Scores every recorded response anew, from its text."""
    config = yaml.safe_load((run / "bundle" / "nemo_rl.yaml").read_text())
    environment = config["env"]["ltrl_train"]
    reward = create(load("reward", "rubric").Options.model_validate(environment["reward"], strict=False))
    section = config["data"]["train"]["section"]
    samples = list(create(load("data", section["backend"]).Options.model_validate(section, strict=False)))
    found = Compared()
    for rows in steps_in(logs).values():
        found.steps += 1
        for start in range(0, len(rows), GROUP):
            group = rows[start : start + GROUP]
            texts = [plain(row["content"]) for row in group]
            [prompt] = {text[0] for text in texts}
            [sample] = [s for s in samples if s.messages[-1][1] in prompt]
            scores = []
            for text in texts:
                if len(text) < 3:  # prompt, response, the environment's word: NeMo-RL swallowed a failure
                    scores.append(Score(None, 0.0))
                    continue
                response = parse_response(text[1], chat_format=environment["chat_format"])
                if response.status == "aborted":
                    response = parse_response(text[1], chat_format=environment["chat_format"], is_truncated=True)
                request = (sample.id, sample.question, sample.label, sample.rubrics, response, sample.dataset_name)
                scores += reward.score([ScoreRequest(*request)])
            wanted = reward.rewards(scores)
            known = {r for r in wanted if r is not None}
            found.mixed_groups += len(known) > 1
            # Of equal rewards NeMo-RL makes 0, where the reference divides a rounding error by 1e-6.
            estimates = advantages(wanted) if len(known) > 1 else [None if r is None else 0.0 for r in wanted]
            for row, want, estimate in zip(group, wanted, estimates, strict=True):
                found.responses += 1
                if want is None or estimate is None:
                    found.never_generated += 1
                    assert plain(row["sample_loss_mask"]) == 0
                    continue
                assert plain(row["sample_loss_mask"]) == 1
                if "rewards" in row:
                    found.worst_reward = max(found.worst_reward, abs(plain(row["rewards"]) - want))
                pairs = zip(plain(row["advantages"]), plain(row["token_loss_mask"]), strict=True)
                worst = max(abs(advantage - estimate) for advantage, is_response in pairs if is_response)
                found.worst_advantage = max(found.worst_advantage, worst)
    return found


def plain(value: Any) -> Any:
    """A row's value, which NeMo-RL writes as a list of one."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


@pytest.fixture(scope="module")
def whole_run(start_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 steps with synchronous rollouts, the file as compiled."""
    run = compiled(tmp_path_factory.mktemp("runs") / "whole", start_model)
    output = trained(run)
    assert "Max number of steps has been reached" in output
    return run


def test_reward_rises_in_the_real_training_loop(whole_run: Path, tell: Callable[[str], None]) -> None:
    rewards = metric(whole_run / "logs" / "exp_001", "train/reward")
    tell(f"reward of each step: {' '.join(f'{reward:.2f}' for reward in rewards)}")
    assert len(rewards) == 24
    assert fmean(rewards[-6:]) > fmean(rewards[:6]) + 0.05


def test_every_reward_and_advantage_is_that_of_ltrl_scoring(whole_run: Path, tell: Callable[[str], None]) -> None:
    found = compare(whole_run, whole_run / "logs" / "exp_001")
    tell(f"synchronous: {found}")
    assert (found.steps, found.responses, found.never_generated) == (24, 24 * 8 * GROUP, 0)
    assert found.mixed_groups > 100
    assert found.worst_reward < 1e-6
    assert found.worst_advantage < 1e-4


def test_each_validation_set_is_measured_at_its_steps(whole_run: Path, tell: Callable[[str], None]) -> None:
    logs = whole_run / "logs" / "exp_001"
    measured = [line for line in lines(logs / "metrics.jsonl") if "validation/accuracy" in line]
    tell("accuracy: " + ", ".join(f"{line['validation/accuracy']:.3f} at step {line['step']}" for line in measured))
    assert [line["step"] for line in measured] == [0, 12, 24]
    for line in measured:
        sets = (line["validation/chains/accuracy"] * 64 + line["validation/short/accuracy"] * 16) / 80
        assert line["validation/accuracy"] == pytest.approx(sets)
        rows = lines(logs / f"val_data_step{line['step']}.jsonl")
        assert len(rows) == 160
        assert fmean(plain(row["rewards"]) for row in rows) == pytest.approx(line["validation/accuracy"])


def test_responses_are_kept_for_people_with_what_was_asked_and_how_they_were_scored(whole_run: Path) -> None:
    kept = list(excerpts.read(whole_run / "logs" / "exp_001" / excerpts.NAME))
    validated = Counter((one.step, one.set) for one in kept if one.split == "validation")
    sets = {"chains": excerpts.PER_SET, "short": 32}
    assert validated == {(step, name): number for step in (0, 12, 24) for name, number in sets.items()}
    trained_on = Counter(one.step for one in kept if one.split == "train")
    assert set(trained_on) == set(range(1, 25))
    assert max(trained_on.values()) <= excerpts.PER_STEP
    assert all(one.sample and one.question and one.label and one.rubrics and one.response for one in kept)


def test_checkpoints_are_complete_and_tell_their_step(whole_run: Path) -> None:
    kept = sorted((whole_run / "checkpoints").iterdir(), key=lambda path: path.name)
    assert [path.name for path in kept] == ["step_12", "step_24"]
    for checkpoint, step in zip(kept, (12, 24), strict=True):
        told = json.loads((checkpoint / "training_info.json").read_text())
        assert (told["total_steps"], told["consumed_samples"]) == (step, step * 8)
        parts = {"config.yaml", "policy", "train_dataloader.pt", "training_info.json"}
        assert {path.name for path in checkpoint.iterdir()} == parts
        assert {path.name for path in (checkpoint / "policy").iterdir()} == {"weights", "optimizer", "tokenizer"}


def test_a_second_start_resumes_at_the_last_checkpoint(
    whole_run: Path, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    run = tmp_path / "resumed"
    shutil.copytree(whole_run, run)
    shutil.rmtree(run / "checkpoints" / "step_24")  # the first start was killed at step 23
    trained(run)
    before, after = steps_in(run / "logs" / "exp_001"), steps_in(run / "logs" / "exp_002")
    assert list(after) == list(range(13, 25))
    for step, rows in after.items():  # the same prompts in the same order as without the interruption
        assert [plain(row["content"])[0] for row in rows] == [plain(row["content"])[0] for row in before[step]]
    assert (run / "checkpoints" / "step_24").is_dir()
    found = compare(run, run / "logs" / "exp_002")
    tell(f"resumed at step 12: {found}")
    assert found.worst_advantage < 1e-4
    first = [line["step"] for line in lines(run / "logs" / "exp_002" / "metrics.jsonl")]
    assert first[0] == 13


def test_asynchronous_rollouts_mask_what_the_engine_lost(
    start_model: Path, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    run = compiled(tmp_path / "async-rollouts", start_model, *SHORT, "rollout.async_engine=true")
    output = trained(run, str(HERE / "failing_engine.py"))
    assert "the engine died, as the test wants" in output
    found = compare(run, run / "logs" / "exp_001")
    tell(f"asynchronous rollouts, engine failing: {found}")
    assert (found.steps, found.responses) == (3, 3 * 8 * GROUP)
    assert 15 <= found.never_generated <= 35
    assert found.worst_advantage < 1e-4
    [measured] = metric(run / "logs" / "exp_001", "validation/unjudged_rate")
    assert 0 < measured < 0.5


def test_asynchronous_training_on_nodes_of_its_own(
    start_model: Path, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    overlap = ("rollout={nodes: 1, async_engine: true}", "algorithm.asynchronous={max_age_steps: 1}")
    run = compiled(tmp_path / "async-training", start_model, *SHORT, *overlap)
    output = trained(run)
    assert "AsyncTrajectoryCollector" in output
    found = compare(run, run / "logs" / "exp_001")
    tell(f"asynchronous training: {found}")
    assert (found.steps, found.responses, found.never_generated) == (3, 3 * 8 * GROUP, 0)
    assert found.mixed_groups > 10
    assert found.worst_advantage < 1e-4
    assert (run / "checkpoints" / "step_3" / "training_info.json").is_file()


def test_a_shipped_spec_is_rehearsed_with_its_own_judge(tmp_path: Path, tell: Callable[[str], None]) -> None:
    """`ltrl rehearse` as a user calls it: the 30B model at 160K tokens, prompts of 100 kB, a real endpoint."""
    shutil.copytree(ROOT / "specs", tmp_path / "specs")
    text = " ".join(f"Section {i}: the USS Maddox sailed along the coast." for i in range(2000))
    info = {"question": "Which resolution followed?", "rubrics": ["USS Maddox"], "dataset_name": "longqa"}
    for name, count in (("data", 40), ("aa_lcr", 10)):
        path = tmp_path / "data" / "longtracerl" / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            for i in range(count):
                prompt = f"Answer from the documents.\n\n{text}\n\nQuestion {i}: Which resolution followed?"
                row = {"source": "longqa", "input_messages": [{"role": "user", "content": prompt}], "label": "Tonkin"}
                file.write(json.dumps({**row, "metadata": {"extra_reward_info": {**info, "uid": str(i)}}}) + "\n")
    code = "import sys; from ltrl.cli import main; sys.argv = ['ltrl', *sys.argv[1:]]; main()"
    with loopback_judge() as judge:
        sets = [f"reward.judge.base_url={judge.base_url}", "engine.rehearsal.steps=2", f"engine.version={VERSION}"]
        argv = [sys.executable, "-c", code, "rehearse", "specs/qwen30b_moe.yaml"]
        argv += [word for each in sets for word in ("--set", each)]
        environment = {**os.environ, "JUDGE_API_KEY": "of-the-test"}
        done = subprocess.run(
            argv, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=400, env=environment
        )
        asked = len(judge.requests)
    [run] = (tmp_path / "runs").iterdir()
    assert done.returncode == 0, done.stderr + (run / "attempts" / "1" / "stderr.log").read_text()[-3000:]
    assert json.loads((run / "model" / "config.json").read_text())["model_type"] == "qwen3_moe"
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["ltrl-experiment.json", "step_1", "step_2"]
    logs = run / "logs" / "exp_001"
    assert metric(logs, "train/unjudged_rate") == [0.0, 0.0]
    assert 0 < fmean(metric(logs, "train/outcome")) < 1  # every second response of the random model ends in an answer
    tell(f"qwen30b_moe rehearsed: 2 steps of 128 responses, {asked} questions to the judge (equal ones asked once)")


def test_a_mistake_of_the_users_ends_the_job_in_one_sentence(start_model: Path, tmp_path: Path) -> None:
    run = compiled(tmp_path / "too-few", start_model, *SHORT, "data.train.samples=4")
    argv = [sys.executable, "-m", "ltrl_backends.nemo_rl.rehearsal", "bundle/nemo_rl.yaml"]
    done = subprocess.run(argv, cwd=run, capture_output=True, text=True, check=False, env=dict(os.environ), timeout=200)
    assert done.returncode == 1
    assert "error[LTRL050]: the training data has 4 samples whose prompts fit, a step takes 8\n" in done.stderr
