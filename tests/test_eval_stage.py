"""The stage `eval`: what it asks for, and its real script with a `vllm` that is ltrl's own model server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from launching import SPECS, until
from model_server import small_model
from small_evaluation import is_alive
from test_render_scripts import SHELLCHECK

from ltrl import compile, render
from ltrl.errors import LtrlError
from ltrl.evaluation.results import read, read_head
from ltrl.evaluation.serving import command
from ltrl.evaluation.spec import Serve

GOLDENS = Path(__file__).parent / "goldens"
LTRL = "import sys; sys.argv[0] = 'ltrl'; from ltrl.cli import main; main()"
EVAL: dict[str, Any] = {
    "benchmarks": {
        "held-out": {
            "backend": "samples",
            "data": {
                "backend": "entity-chain", "seed": 7, "samples": 4, "hops": 2, "chains": 2, "strays": 0, "entities": 8,
            },
        }
    },
    "sampling": {"samples": 2, "temperature": 1.0, "top_p": 1.0, "top_k": None},
    "serve": {"tensor": 2, "minutes": 90, "startup_minutes": 2, "options": ["--enable-expert-parallel"]},
    "requests": {"concurrency": 4},
}  # fmt: skip


def sets(**serve: Any) -> list[str]:
    section = EVAL | {"serve": EVAL["serve"] | serve}
    length = ["model.context.prompt=512", "model.context.response=16", "model.overrides.max_position_embeddings=1024"]
    return ['stages=["train", "export", "eval"]', f"eval={json.dumps(section)}", *length]


def profile(tmp_path: Path, **fields: Any) -> str:
    path = tmp_path / "profile.yaml"
    path.write_text(json.dumps({"kind": "cluster", "executor": "local", **fields}))
    return str(path)


def stand_in(tmp_path: Path, *, before: str = "") -> Path:
    """A directory with a `vllm` that notes its words and is the embedded engine's server."""
    tools = tmp_path / "tools"
    tools.mkdir()
    program = f"""#!{sys.executable}
import json, os, sys
{before}
words = sys.argv[1:]
given = dict(zip(words[2::2], words[3::2]))
with open({str(tmp_path / "words.json")!r}, "w") as file:
    json.dump({{"words": words, "pid": os.getpid()}}, file)
assert words[0] == "serve", words
serve = ["serve", "model", words[1], "--name", given["--served-model-name"], "--port", given["--port"]]
os.execv({sys.executable!r}, [{sys.executable!r}, "-c", {LTRL!r}, *serve, "--threads", "1"])
"""
    (tools / "vllm").write_text(program)
    (tools / "vllm").chmod(0o755)
    return tools


def test_the_stage_asks_for_the_gpus_of_its_server_and_needs_an_export(tmp_path: Path) -> None:
    planned = compile.prepare(SPECS / "quickstart.yaml", sets=sets())
    [export, stage] = planned.stages
    assert export.name == "export"
    assert (stage.name, stage.gpus_per_node, stage.minutes, stage.needs) == ("eval", 2, 90, ("export",))
    assert stage.command == (
        "python", "-m", "ltrl.evaluation", "../../bundle/eval.json", "../export/model", "results",
    )  # fmt: skip
    local = compile.prepare(SPECS / "quickstart.yaml", sets=sets(engine="local", tensor=1, options=[]))
    assert local.stages[-1].gpus_per_node == 0
    with_eval, without = (compile.prepare(SPECS / "quickstart.yaml", sets=given) for given in ([sets()[1]], []))
    assert with_eval.resolved.fingerprint == without.resolved.fingerprint
    with pytest.raises(LtrlError, match="the stage `eval` needs `export`"):
        compile.prepare(SPECS / "quickstart.yaml", sets=[*sets(), 'stages=["train", "eval"]'])
    with pytest.raises(LtrlError, match="`local` has no stage `eval`"):
        compile.prepare(SPECS / "quickstart.yaml", sets=['stages=["train", "export", "eval"]'])


def test_the_job_script_is_golden_and_shellcheck_has_nothing_to_say(tmp_path: Path) -> None:
    container = {"runtime": "pyxis", "image": "nemo.sqsh"}
    cluster = profile(
        tmp_path, executor="slurm", nodes=4, gpus_per_node=8, container=container, slurm={"partition": "gpu"}
    )
    image = sets(image="vllm/vllm-openai:v0.11.0", program=["uv", "run", "vllm"])
    planned = compile.prepare(SPECS / "qwen4b.yaml", sets=image, cluster=cluster)
    scripts = {a.path: a.text for a in render.scripts(planned) if a.path.startswith("stages/eval/")}
    assert sorted(scripts) == ["stages/eval/job.sbatch", "stages/eval/local.sh"]
    for path, text in scripts.items():
        name = f"qwen4b.eval.{Path(path).name}"
        if os.environ.get("LTRL_UPDATE_GOLDENS"):
            (GOLDENS / name).write_text(text)
        assert text == (GOLDENS / name).read_text()
        (tmp_path / name).write_text(text)
        checked = subprocess.run(
            [SHELLCHECK, "-s", "bash", tmp_path / name], capture_output=True, text=True, check=False
        )
        assert checked.stdout == ""
    assert "--container-image=vllm/vllm-openai:v0.11.0" in scripts["stages/eval/job.sbatch"]
    made, _, _ = compile.compile_bundle(SPECS / "qwen4b.yaml", sets=image, cluster=cluster, out=tmp_path / "bundle")
    config = json.loads((made.path / "eval.json").read_text())
    assert (config["name"], config["prompt"], config["total"]) == ("qwen4b-longtrace", 512, 528)
    assert config["eval"]["serve"]["program"] == ["uv", "run", "vllm"]


def test_vllm_is_told_model_parallelism_length_and_options() -> None:
    serve = Serve(tensor=4, gpu_memory=0.85, options=("--enable-expert-parallel",))
    words = command("/m/step_200", serve, name="qwen30b", revision=None, total=163840, port=8123)
    assert words == [
        "vllm", "serve", "/m/step_200", "--served-model-name", "qwen30b", "--host", "127.0.0.1", "--port", "8123",
        "--tensor-parallel-size", "4", "--max-model-len", "163840", "--gpu-memory-utilization", "0.85",
        "--enable-expert-parallel",
    ]  # fmt: skip


def a_run(tmp_path: Path, *, with_weights: bool = True) -> tuple[Path, dict[str, str]]:
    """A run directory with a bundle and an exported model, and what the job's script finds in its environment."""
    made, _, _ = compile.compile_bundle(SPECS / "quickstart.yaml", sets=sets(), out=tmp_path / "bundle")
    run = tmp_path / "run"
    (run / "stages" / "eval").mkdir(parents=True)
    (run / "bundle").symlink_to(made.path)
    model = run / "stages" / "export" / "model"
    if with_weights:
        small_model(model, context=1024)
    else:
        model.mkdir(parents=True)
        (model / "config.json").write_text("{}")
    told = {
        "LTRL_RUN_DIR": f"{run}/stages/eval",
        "LTRL_RUN_ID": "run/eval",
        "LTRL_PROJECT_DIR": str(tmp_path),
        "LTRL_ATTEMPT": "1",
        "HOME": str(tmp_path),
        "HF_HUB_OFFLINE": "1",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }
    return run, told


@pytest.mark.training
def test_the_real_script_serves_the_export_measures_it_and_ends_the_server(tmp_path: Path) -> None:
    run, told = a_run(tmp_path)
    told["PATH"] = f"{stand_in(tmp_path)}{os.pathsep}{told['PATH']}"
    script = run / "bundle/stages/eval/local.sh"
    done = subprocess.run(["bash", script], cwd=run / "stages/eval", env=told, check=False)
    log = run / "stages/eval/attempts/1/stderr.log"
    assert done.returncode == 0, log.read_text()
    results = run / "stages/eval/results"
    samples = list(read(results))
    assert len(samples) == 8
    assert {s.status for s in samples} == {"graded"}
    head = read_head(results)
    assert (head.name, head.model, head.lengths) == ("quickstart", "quickstart", "exact")
    assert head.identity.startswith("sha256:")
    noted = json.loads((tmp_path / "words.json").read_text())
    assert noted["words"][:3] == ["serve", str(run / "stages/export/model"), "--served-model-name"]
    assert noted["words"][8:] == [
        "--tensor-parallel-size", "2", "--max-model-len", "528", "--gpu-memory-utilization", "0.9",
        "--enable-expert-parallel",
    ]  # fmt: skip
    assert not is_alive(noted["pid"])
    assert "held-out: " in (run / "stages/eval/attempts/1/stdout.log").read_text()


def test_a_server_that_ends_while_it_loads_is_told_with_its_last_words(tmp_path: Path) -> None:
    run, told = a_run(tmp_path, with_weights=False)
    tools = stand_in(tmp_path, before="sys.exit('CUDA out of memory')")
    told["PATH"] = f"{tools}{os.pathsep}{told['PATH']}"
    done = subprocess.run(["bash", run / "bundle/stages/eval/local.sh"], cwd=run / "stages/eval", env=told, check=False)
    assert done.returncode == 1
    assert (
        "error[LTRL063]: the server ended with status 1 before it answered; its last lines: CUDA out of memory"
        in (run / "stages/eval/attempts/1/stderr.log").read_text()
    )


def test_a_job_that_is_told_to_end_takes_its_server_along(tmp_path: Path) -> None:
    run, told = a_run(tmp_path, with_weights=False)
    tools = stand_in(tmp_path)
    # It never answers, and has a child, as vLLM has: both must be gone.
    (tools / "vllm").write_text(
        f"#!/bin/bash\nsleep 1000 &\nprintf '[%s, %s]' $$ $! >{tmp_path}/pids.draft\n"
        f"mv {tmp_path}/pids.draft {tmp_path}/pids\nwait\n"
    )
    told["PATH"] = f"{tools}{os.pathsep}{told['PATH']}"
    job = subprocess.Popen(["bash", run / "bundle/stages/eval/local.sh"], cwd=run / "stages/eval", env=told)
    until((tmp_path / "pids").exists, 60)
    pids = json.loads((tmp_path / "pids").read_text())
    assert all(map(is_alive, pids))
    job.send_signal(signal.SIGTERM)
    assert job.wait(60) == 143
    deadline = time.monotonic() + 10
    while any(map(is_alive, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
