"""Weights & Biases and MLflow: one run of theirs for all attempts of one of ours, without a network."""

from __future__ import annotations

import json
import subprocess
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_local_training import configure, run

from ltrl.backend import create
from ltrl.compile import prepare
from ltrl.errors import Code, LtrlError
from ltrl.render import scripts
from ltrl_backends.local_engine.metrics import Metrics
from ltrl_backends.local_engine.settings import Settings, settings
from ltrl_backends.local_engine.trackers import trackers

ROOT = Path(__file__).resolve().parent.parent
WANDB = {"project": "chains", "mode": "offline"}


def mlflow(here: Path) -> dict[str, str]:
    """A store by its whole path: MLflow keeps connections by address, and these tests are one process."""
    return {"experiment": "chains", "tracking_uri": f"sqlite:///{here}/logs/mlflow.db"}


@pytest.fixture(autouse=True)
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONFIG", "CACHE", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "wandb"))
    for name in ("WANDB_API_KEY", "WANDB_MODE", "MLFLOW_TRACKING_URI", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("WANDB_RUN_ID", "quickstart-1")
    monkeypatch.setenv("WANDB_RESUME", "allow")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("mlflow")
    pytest.importorskip("wandb")
    directory = tmp_path / "quickstart-1"
    directory.mkdir()
    monkeypatch.chdir(directory)
    return directory


def quickstart(**logging: Any) -> Settings:
    sets = [f"logging.{name}={json.dumps(value)}" for name, value in logging.items()]
    return settings(prepare(ROOT / "specs" / "quickstart.yaml", sets=sets).resolved)


def attempt(wanted: Settings, directory: Path, *steps: int) -> list[str]:
    """One start of the driver, as far as metrics go; what it says."""
    said: list[str] = []
    with Metrics(directory / "logs") as metrics:
        metrics.trackers.extend(trackers(wanted, directory, metrics.directory, say=said.append))
        for step in steps:
            metrics.write(step, {"train/reward": step / 10, "train/rubric": float("nan")})
    return said


def mlflow_runs(uri: str) -> list[tuple[Any, list[tuple[int, float]]]]:
    """Every run of the experiment `chains` with its rewards by step."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("chains")
    found = client.search_runs([experiment.experiment_id])
    return [(r, [(m.step, m.value) for m in client.get_metric_history(r.info.run_id, "train/reward")]) for r in found]


def test_all_attempts_report_to_one_mlflow_run(here: Path) -> None:
    wanted = quickstart(mlflow=mlflow(here), tensorboard=False)
    assert attempt(wanted, here, 1, 2) == []
    assert attempt(wanted.model_copy(update={"threads": 7}), here, 3) == []  # a second value of a parameter
    [(run, rewards)] = mlflow_runs(mlflow(here)["tracking_uri"])
    assert (run.info.run_name, run.info.status, run.data.tags["ltrl.run"]) == ("quickstart", "FINISHED", "quickstart-1")
    assert rewards == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert run.data.params["grpo.steps"] == str(wanted.grpo.steps)
    assert (here / "mlflow_run_id").read_text() == f"{run.info.run_id}\n"


def test_an_mlflow_run_that_was_deleted_is_made_anew(here: Path) -> None:
    from mlflow import MlflowClient

    wanted = quickstart(mlflow=mlflow(here), tensorboard=False)
    attempt(wanted, here, 1)
    first = (here / "mlflow_run_id").read_text().strip()
    MlflowClient(mlflow(here)["tracking_uri"]).delete_run(first)
    attempt(wanted, here, 2)
    [(run, rewards)] = mlflow_runs(mlflow(here)["tracking_uri"])
    assert (run.info.run_id != first, rewards) == (True, [(2, 0.2)])


def test_the_environment_says_where_mlflow_is(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"sqlite:///{here}/elsewhere.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    attempt(quickstart(mlflow=mlflow(here), tensorboard=False), here, 1)
    assert len(mlflow_runs(uri)) == 1
    assert not (here / "logs" / "mlflow.db").exists()


def test_an_mlflow_that_does_not_answer_is_told_before_training(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret-word@127.0.0.1:9")
    with pytest.raises(LtrlError, match=r"MLflow at `http://.*` does not take the run: ") as caught:
        attempt(quickstart(mlflow=mlflow(here), tensorboard=False), here)
    assert caught.value.diagnostics[0].code == Code.TRACKER
    assert "secret-word" not in str(caught.value)


def test_an_mlflow_that_fails_later_ends_the_tracking_only(here: Path) -> None:
    wanted = quickstart(mlflow=mlflow(here), tensorboard=False)
    said: list[str] = []
    with Metrics(here / "logs") as metrics:
        metrics.trackers.extend(trackers(wanted, here, metrics.directory, say=said.append))
        (here / "logs" / "mlflow.db").unlink()
        metrics.write(1, {"train/reward": 0.1})
    assert (metrics.directory / "metrics.jsonl").read_text() == '{"step": 1, "train/reward": 0.1}\n'
    assert said[0].startswith("MLflow did not take step 1, metrics.jsonl has it: ")


def test_all_attempts_report_to_one_run_of_weights_and_biases(here: Path) -> None:
    wanted = quickstart(wandb=WANDB, tensorboard=False)
    attempt(wanted, here, 1, 2)
    attempt(wanted, here, 3)
    runs = sorted(here.glob("logs/exp_*/wandb/wandb/offline-run-*"))
    assert [(r.parts[-4], r.name.partition("-quickstart")[2]) for r in runs] == [("exp_001", "-1"), ("exp_002", "-1")]
    assert len(list(here.glob("logs/exp_*/wandb/wandb/offline-run-*/*.wandb"))) == 2


def test_a_missing_key_is_told_before_training(here: Path) -> None:
    with pytest.raises(LtrlError) as caught:
        attempt(quickstart(wandb={"project": "chains"}, tensorboard=False), here)
    (found,) = caught.value.diagnostics
    assert (found.code, found.message.partition(":")[0]) == (Code.TRACKER, "Weights & Biases does not take the run")
    assert "WANDB_API_KEY" in str(found.hint)


def test_every_attempt_of_a_job_finds_the_same_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_RUN_ID")
    script = resources.files("ltrl_templates").joinpath("tracking.sh").read_text("utf-8") + "echo $WANDB_RUN_ID\n"
    monkeypatch.setenv("LTRL_RUN_ID", "quickstart-1")
    first, second = (
        subprocess.run(["bash", "-euc", script], cwd=tmp_path, text=True, capture_output=True, check=True).stdout
        for _ in range(2)
    )
    assert first == second
    assert first.startswith("quickstart-1-")


@pytest.mark.parametrize(("spec", "cluster"), [("quickstart", "local"), ("qwen4b", "slurm")])
def test_an_offline_run_is_offline_in_every_job(spec: str, cluster: str) -> None:
    def lines(mode: str) -> list[str]:
        sets = [f"logging.wandb={{project: chains, mode: {mode}}}"]
        plan = prepare(ROOT / "specs" / f"{spec}.yaml", cluster=cluster, sets=sets)
        return [line for artifact in scripts(plan) for line in artifact.text.splitlines() if "WANDB_MODE" in line]

    assert set(lines("offline")) == {"export WANDB_MODE", "WANDB_MODE=offline"}
    assert lines("online") == []


def test_nemo_rl_is_given_its_own_keys() -> None:
    def logger(value: str) -> dict[str, Any]:
        plan = prepare(ROOT / "specs" / "qwen4b.yaml", sets=[f"logging={value}"])
        (text,) = (a.text for a in create(plan.resolved.engine).artifacts(plan) if a.path == "nemo_rl.yaml")
        found = yaml.safe_load(text)["logger"]
        return {key: found.get(key) for key in ("mlflow_enabled", "mlflow", "monitor_gpus")}

    assert logger("{tensorboard: false, mlflow: {experiment: chains}}") == {
        "mlflow_enabled": True,
        "mlflow": {
            "experiment_name": "chains",
            "run_name": "qwen4b-longtrace",
            "tracking_uri": "sqlite:///logs/mlflow.db",
        },
        "monitor_gpus": True,
    }
    assert logger("{tensorboard: false}") == {"mlflow_enabled": False, "mlflow": None, "monitor_gpus": False}


@pytest.mark.training
def test_a_training_that_goes_on_reports_to_the_same_runs(here: Path, tmp_path: Path) -> None:
    pytest.importorskip("trl")
    shown = {"wandb": WANDB, "mlflow": {"experiment": "chains"}, "run_name": "tracked", "validation_sets": {}}
    for steps in (2, 4):
        code, said = run(configure(here, grpo__steps=steps, **shown), tmp_path / "cache")
        assert code == 0, said
    [(run_, rewards)] = mlflow_runs(mlflow(here)["tracking_uri"])
    assert ([step for step, _ in rewards], run_.info.run_name) == ([1, 2, 3, 4], "tracked")
    assert len(list(here.glob("logs/exp_*/wandb/wandb/offline-run-*-quickstart-1"))) == 2
