"""Evaluations on a real Slurm, as a stage and as a job of their own: served on a node, measured, the server gone."""

import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from launching import make_plan, stand_in, until
from starting import client, finished
from test_eval_job import write_model
from test_eval_stage import EVAL
from test_eval_stage import stand_in as stand_in_vllm

from ltrl import bundle, render, runs, state, submit
from ltrl.backend import Stage
from ltrl.eval_job import compile_evaluation
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
    row = finished(measured, 600)
    assert (row.state, row.reason) == (State.COMPLETED, None)
    assert len(list(read(measured.path / "results"))) == 8
    assert (tmp_path / "words.json").exists()
    until(lambda: not processes(measured, "serve"), 300)


def processes(run, *words):
    """Those of a job of a run with words in their command, by their numbers here: nodes count on their own."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            said = (entry / "cmdline").read_bytes().split(b"\0")
            if all(word.encode() in said for word in words):
                told = (entry / "environ").read_bytes().split(b"\0")
                found += [int(entry.name)] if f"LTRL_RUN_DIR={run.path}".encode() in told else []
    return found


PROFILE = {"kind": "cluster", "executor": "slurm", "gpus_per_node": 8, "slurm": {"exclusive": False}}


def evaluation(project, path, *, serve, questions=2, **profile):
    """The bundle of an evaluation of the model in `exported`, served by what is called `vllm` on a path."""
    (project / "specs" / "clusters").mkdir(parents=True, exist_ok=True)
    spec = {
        "kind": "evaluation",
        "name": "trial",
        "model": {"base": "exported", "chat_format": "plain", "context": {"prompt": 900, "response": 8}},
        "benchmarks": {"needles": {"backend": "ruler", "tasks": ["single"], "lengths": [256], "questions": questions}},
        "sampling": {"top_k": None},
        "requests": {"concurrency": 1, "backoff_seconds": 0.1},
        "serve": serve,
    }
    (project / "specs" / "trial.yaml").write_text(json.dumps(spec))
    cluster = PROFILE | {"environment": {"PATH": path, "HF_HUB_OFFLINE": "1"}} | profile
    (project / "specs" / "clusters" / "site.yaml").write_text(json.dumps(cluster))
    return compile_evaluation(project / "specs" / "trial.yaml", cluster="site", out=project / "build" / "trial")[0]


def test_an_evaluation_is_a_job_of_its_own_that_serves_and_measures(slurm, tmp_path):
    from model_server import small_model

    tools = stand_in_vllm(tmp_path)
    small_model(tmp_path / "exported", context=1024)
    path = os.pathsep.join([str(tools), os.path.dirname(sys.executable), os.environ["PATH"]])
    made = evaluation(tmp_path, path, serve={"tensor": 2, "startup_minutes": 3, "minutes": 5})
    run = submit.submit(made, project=tmp_path)
    asked = client("scontrol", "show", "job", run.latest.job_id)
    assert "gpu:2" in asked
    assert "TimeLimit=00:05:00" in asked
    row = finished(run, 600)
    assert (row.state, row.reason, row.gpus) == (State.COMPLETED, None, 2)
    assert len(list(read(run.path / "results"))) == 2
    noted = json.loads((tmp_path / "words.json").read_text())
    assert noted["words"][1] == str(tmp_path / "exported")
    assert noted["words"][8:12] == ["--tensor-parallel-size", "2", "--max-model-len", "908"]
    until(lambda: not processes(run, "serve"), 300)


VLLM = """#!{python}
import json, sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

given = dict(zip(sys.argv[3::2], sys.argv[4::2]))
log, may_end = Path({log!r}), Path({go!r})

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def reply(self, data):
        body = json.dumps(data).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.reply({{"data": [{{"id": given["--served-model-name"]}}]}})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        number = len(log.read_text().splitlines()) if log.exists() else 0
        if number >= 3 and not may_end.exists():
            time.sleep(600)
        with log.open("a") as file:
            file.write(json.dumps(asked["messages"]) + "\\n")
        message = {{"role": "assistant", "content": "7"}}
        self.reply({{"choices": [{{"index": 0, "message": message, "finish_reason": "stop"}}]}})

HTTPServer(("127.0.0.1", int(given["--port"])), Handler).serve_forever()
"""


@pytest.mark.parametrize("end", ["cancelled", "killed"])
def test_a_job_that_is_ended_goes_on_and_asks_no_answered_question_again(slurm, tmp_path, end):
    """Its server answers three questions and then hangs until a second attempt is made."""
    (tmp_path / "tools").mkdir()
    server, log = tmp_path / "tools" / "vllm", tmp_path / "answered"
    server.write_text(VLLM.format(python=sys.executable, log=str(log), go=str(tmp_path / "go")))
    server.chmod(0o755)
    write_model(tmp_path / "exported")
    path = os.pathsep.join([str(tmp_path / "tools"), os.path.dirname(sys.executable), os.environ["PATH"]])
    made = evaluation(tmp_path, path, serve={"minutes": 5}, questions=6)
    run = submit.submit(made, project=tmp_path)
    kept = run.path / "results" / "answers.jsonl"
    until(lambda: kept.exists() and kept.read_text().count("\n") == 3, 300)
    [served] = processes(run, "serve")
    if end == "killed":
        [asking] = processes(run, "ltrl.evaluation")
        os.kill(asking, signal.SIGKILL)
    else:
        runs.cancel(state.read_run(run.path))
    row = finished(run, 300)
    if end == "killed":
        with suppress(ProcessLookupError):  # Slurm does that where it has cgroups
            os.kill(served, signal.SIGKILL)
        assert (row.state, row.reason) == (
            State.FAILED, "the driver was killed (SIGKILL), most likely for lack of memory",
        )  # fmt: skip
    else:
        assert (row.state, row.reason) == (State.CANCELLED, "cancelled")
    until(lambda: not processes(run, "serve"), 300)
    (tmp_path / "go").touch()
    again = submit.submit(made, project=tmp_path, run=run)
    row = finished(again, 600)
    assert (row.state, row.attempt) == (State.COMPLETED, 2)
    answered = log.read_text().splitlines()
    assert len(answered) == len(set(answered)) == 6
    assert len(list(read(run.path / "results"))) == 6
