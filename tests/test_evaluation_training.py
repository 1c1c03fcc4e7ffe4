"""The whole way: a model is trained, exported, served, measured, and is better than the one it began as."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.training
pytest.importorskip("trl")

ROOT = Path(__file__).resolve().parent.parent
LTRL = "import sys; sys.argv[0] = 'ltrl'; from ltrl.cli import main; main()"
HELD_OUT = str(ROOT / "specs/eval/quickstart.yaml")


def test_the_trained_model_beats_its_start_on_held_out_questions(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    environment = {**os.environ, "LTRL_STATE_DIR": str(tmp_path / "state"), "LTRL_CACHE_DIR": str(cache)}

    def ltrl(*words: str) -> str:
        argv = [sys.executable, "-c", LTRL, *words]
        done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    few = ["algorithm.steps=40", "validation.at_start=false", "validation.at_end=false", 'stages=["train", "export"]']
    ltrl("compile", str(ROOT / "specs/quickstart.yaml"), *(word for change in few for word in ("--set", change)))
    ltrl("submit", "--watch")
    [trained] = tmp_path.glob("**/stages/export/model")
    [start] = (path for path in (cache / "start-models").iterdir() if path.is_dir())
    for name, model in (("start", start), ("trained", trained)):
        ltrl("eval", HELD_OUT, "--model", str(model), "-o", name)
    found = {
        one["name"]: one for one in json.loads(ltrl("eval", "compare", "start", "trained", "--json"))["benchmarks"]
    }
    assert found["evidence"]["a"]["questions"] == found["answers"]["a"]["questions"] == 128
    assert found["evidence"]["a"]["high"] < found["evidence"]["b"]["low"], "the intervals do not overlap"
    assert found["evidence"]["p_holm"] < 0.001
    assert found["evidence"]["difference"]["low"] > 0.1
    assert found["answers"]["b"]["value"] >= found["answers"]["a"]["value"]
    answers = [(tmp_path / name / "answers.jsonl").read_text().count("\n") for name in ("start", "trained")]
    assert answers == [128, 128], "both measures are of the same answers, asked once"
