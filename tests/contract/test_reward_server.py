"""Rewards from a server, and a judge that is gone, in NeMo-RL's real `grpo_train`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from loopback_judge import Answer, loopback_judge
from test_training import GROUP, SHORT, compare, compiled, metric, start_model, trained

__all__ = ["start_model"]  # a fixture


@pytest.mark.parametrize("is_async", ["false", "true"])
def test_a_server_of_the_runs_own_gives_the_same_rewards(
    start_model: Path,
    tmp_path: Path,
    tell: Callable[[str], None],
    is_async: str,
) -> None:
    server = "reward.server={}"
    run = compiled(tmp_path / "served", start_model, *SHORT, server, f"rollout.async_engine={is_async}")
    trained(run)
    logs = run / "logs" / "exp_001"
    found = compare(run, logs)
    tell(f"rewards from a server, asynchronous {is_async}: {found}")
    assert (found.steps, found.responses, found.never_generated) == (3, 3 * 8 * GROUP, 0)
    assert found.worst_reward < 1e-6
    log = (logs / "reward_server.log").read_text()
    assert '"status": 200' in log
    assert '"Finished server process' in log
    assert not (logs / "reward_server.token").exists()


def test_a_judge_that_is_gone_stops_the_training_and_says_why(start_model: Path, tmp_path: Path) -> None:
    with loopback_judge(Answer(None, 429, body="daily quota exceeded, retry later")) as judge:
        section = f"{{backend: openai, model: judge, base_url: '{judge.base_url}', retries: 0, replies: 1}}"
        run = compiled(tmp_path / "outage", start_model, *SHORT, f"reward.judge={section}")
        argv = [sys.executable, "-m", "ltrl_backends.nemo_rl.rehearsal", "bundle/nemo_rl.yaml"]
        done = subprocess.run(argv, cwd=run, capture_output=True, text=True, check=False, timeout=400)
    assert done.returncode == 1
    assert "error[LTRL085]: " in done.stderr
    assert "HTTP 429: daily quota exceeded, retry later (1 try)" in done.stderr
    assert not (run / "checkpoints" / "step_3").exists()
    assert not (run / "logs" / "exp_001" / "metrics.jsonl").exists() or not metric(
        run / "logs" / "exp_001", "train/reward"
    )
