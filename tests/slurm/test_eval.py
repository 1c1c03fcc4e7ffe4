"""The stage `eval` on a real Slurm: the export is served on a node, measured, and the server is gone."""

import json
import os
import sys

import pytest
from launching import make_plan, stand_in, until
from starting import finished
from test_eval_stage import EVAL, is_alive
from test_eval_stage import stand_in as stand_in_vllm

from ltrl import bundle, render, state, submit
from ltrl.backend import Stage
from ltrl.evaluation.results import read
from ltrl.plan import Artifact
from ltrl.state import State

pytestmark = pytest.mark.slurm


def test_a_trained_model_is_measured_in_a_job_of_its_own(slurm, tmp_path):
    from model_server import small_model

    tools = stand_in_vllm(tmp_path)
    small_model(tmp_path / "exported", context=1024)
    path = os.pathsep.join([str(tools), os.path.dirname(sys.executable), os.environ["PATH"]])
    cluster = {"executor": "slurm", "minutes": 5, "environment": {"PATH": path, "HF_HUB_OFFLINE": "1"}}
    words = ("python", "-m", "ltrl.evaluation", "../../bundle/eval.json", "../export/model", "results")
    stages = (
        Stage("export", ("cp", "-r", str(tmp_path / "exported"), "model"), minutes=5),
        Stage("eval", words, needs=("export",), minutes=5),
    )
    planned = make_plan(stand_in(), cluster=cluster, stages=stages)
    section = EVAL | {"serve": {"startup_minutes": 3}}
    config = {"name": "trial", "prompt": 512, "response": 16, "total": 528, "chat_format": "qwen3", "eval": section}
    (tmp_path / "specs").mkdir()
    files = bundle.artifacts(planned, (*render.scripts(planned), Artifact("eval.json", json.dumps(config))))
    made, _ = bundle.write(files, tmp_path / "build" / "trial")
    run = submit.submit(made, project=tmp_path)
    measured = state.read_run(run.path / "stages" / "eval")
    row = finished(measured, 240)
    assert (row.state, row.reason) == (State.COMPLETED, None)
    assert len(list(read(measured.path / "results"))) == 8
    until(lambda: not is_alive(json.loads((tmp_path / "words.json").read_text())["pid"]), 30)
