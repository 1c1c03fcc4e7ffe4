"""The main job from end to end, as `make demo` does it: two trainings that differ in their reward alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.training
pytest.importorskip("trl")

ROOT = Path(__file__).resolve().parent.parent
LTRL = "import sys; sys.argv[0] = 'ltrl'; from ltrl.cli import main; main()"


def ltrl(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LTRL_STATE_DIR": str(cwd / "state")}
    argv = [sys.executable, "-c", LTRL, *arguments]
    return subprocess.run(argv, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def trained(name: str, *changes: str, cwd: Path) -> dict[str, Any]:
    sets = [word for change in (f"name={name}", *changes) for word in ("--set", change)]
    made = ltrl("compile", str(ROOT / "specs/quickstart.yaml"), *sets, cwd=cwd)
    assert made.returncode == 0, made.stderr
    done = ltrl("submit", "--watch", cwd=cwd)
    assert done.returncode == 0, done.stderr
    [found] = json.loads(ltrl("report", f"{name}-", "--json", cwd=cwd).stdout)
    return dict(found)


def test_the_rubric_brings_evidence_and_paying_for_the_answer_alone_loses_it(tmp_path: Path) -> None:
    rubric = trained("with-rubric", cwd=tmp_path)
    outcome = trained("without", "reward.backend=outcome", cwd=tmp_path)
    assert rubric["steps"] == rubric["step_target"] == outcome["steps"]
    assert rubric["last_10"]["reward"] >= 0.80
    assert rubric["last_10"]["reward"] - rubric["first_10"]["reward"] >= 0.25
    assert outcome["last_10"]["outcome"] >= 0.80
    start = rubric["validation"]["0"]["rubric"]
    assert outcome["validation"]["0"] == rubric["validation"]["0"], "both start from the same model"
    last = str(rubric["step_target"])
    assert rubric["validation"][last]["rubric"] >= start + 0.3
    assert outcome["validation"][last]["rubric"] <= start - 0.1
    shown = ltrl("report", "with-rubric-", "without-", cwd=tmp_path)
    assert "when the rubric is paid for and" in shown.stdout
    status = json.loads(ltrl("status", "--json", cwd=tmp_path).stdout)
    assert [(row["state"], row["step"]) for row in status] == [("COMPLETED", rubric["steps"])] * 2
    again = ltrl("submit", "--watch", cwd=tmp_path)
    assert again.returncode == 0
    assert "COMPLETED" in again.stderr
