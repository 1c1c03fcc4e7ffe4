"""An evaluation as a job of its own: what it asks for, what is refused before it is sent, and what works on its run."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from fake_slurm import FakeSlurm
from launching import HOSTILE, SPECS, until
from loopback_judge import Answer, loopback_judge
from small_evaluation import knows
from test_checkpoints import save
from test_eval_stage import EVAL, GOLDENS
from test_render_scripts import SHELLCHECK
from test_runs import make_run

from ltrl import bundle, runs, state, submit
from ltrl.check import check
from ltrl.cli import main
from ltrl.cli.which import model as which_model
from ltrl.errors import Code, LtrlError
from ltrl.eval_job import compile_evaluation
from ltrl.evaluation.results import read
from ltrl.state import State

CONTAINER = {"runtime": "pyxis", "image": "nemo.sqsh"}
SLURM = {"executor": "slurm", "nodes": 4, "gpus_per_node": 8, "slurm": {"partition": "gpu"}}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a model in `exported`, one spec of an evaluation, and the profile `gpus`."""
    (tmp_path / "specs" / "clusters").mkdir(parents=True)
    write_model(tmp_path / "exported")
    write_spec(tmp_path)
    write_profile(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LTRL_STATE_DIR", str(tmp_path / "state"))
    return tmp_path


def write_model(directory: Path, positions: int = 1024) -> None:
    directory.mkdir(parents=True)
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "vocab_size": 300, "head_dim": 16}
    shape |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": positions}
    config = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "tie_word_embeddings": True, **shape}
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "model.safetensors").write_bytes(b"weights")


def write_profile(project: Path, **fields: Any) -> None:
    profile = {"kind": "cluster", **SLURM, **fields}
    (project / "specs" / "clusters" / "gpus.yaml").write_text(json.dumps(profile))


def write_spec(project: Path, base: str = "exported", serve: str = "{tensor: 2, minutes: 90}", more: str = "") -> Path:
    path = project / "specs" / "trial.yaml"
    path.write_text(f"""\
kind: evaluation
name: trial
model:
  base: {base}
  chat_format: qwen3
  context: {{prompt: 512, response: 16}}
benchmarks:
  needles: {{backend: ruler, lengths: [256], questions: 2}}
serve: {serve}
{more}""")
    return path


def compiled(project: Path, *sets: str, cluster: str = "gpus", model: tuple[str, str | None] | None = None) -> Any:
    return compile_evaluation(project / "specs" / "trial.yaml", cluster=cluster, model=model, sets=sets)[0]


def endpoint(project: Path, url: str) -> None:
    """Makes the spec ask an endpoint."""
    spec = write_spec(project, base="served")
    text = spec.read_text().replace("serve: {tensor: 2, minutes: 90}", f'endpoint: {{base_url: "{url}"}}')
    text = text.replace("questions: 2", "questions: 6, tasks: [single]").replace("qwen3", "plain")
    spec.write_text(f"{text}requests: {{concurrency: 2, backoff_seconds: 0.01}}\n")


def told(project: Path, *sets: str, **options: Any) -> list[tuple[str, str, str, str | None]]:
    with pytest.raises(LtrlError) as caught:
        compiled(project, *sets, **options)
    places = [(d.position, d) for d in caught.value.diagnostics]
    return [
        (d.code, f"{Path(p.source.name).name}:{p.line}:{p.column}" if p else "", d.message, d.hint) for p, d in places
    ]


def cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A command, in this process: starting Python takes longer than it does."""
    words = ["ltrl", *arguments]
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as said:
        patch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as end:
            main()
    return subprocess.CompletedProcess(words, int(end.value.code or 0), out.getvalue(), said.getvalue())


def test_its_bundle_is_golden_and_shellcheck_has_nothing_to_say(project: Path, tmp_path: Path) -> None:
    write_profile(project, container=CONTAINER)
    write_spec(project, serve="{tensor: 2, minutes: 90, image: 'vllm/vllm-openai:v0.11.0'}")
    made = compiled(project)
    assert sorted(made.lock["files"]) == [
        "cluster.yaml", "eval.json", "job.sbatch", "local.sh", "payload.zip", "plan.json", "resolved.json", "spec.yaml",
    ]  # fmt: skip
    for path in ("job.sbatch", "local.sh"):
        golden = GOLDENS / f"evaluation.{path}"
        if os.environ.get("LTRL_UPDATE_GOLDENS"):
            golden.write_text(made.read(path))
        assert made.read(path) == golden.read_text()
        words = [SHELLCHECK, "-s", "bash", made.path / path]
        assert subprocess.run(words, capture_output=True, text=True, check=False).stdout == ""
    launch = made.plan["launch"]
    assert (launch["gpus_per_node"], launch["minutes"], launch["gpu_hours"]) == (2, 90, 3.0)
    config = json.loads(made.read("eval.json"))
    assert config["model"] == {"base": "exported", "revision": None, "served_as": None}
    assert (config["name"], config["prompt"], config["total"], config["endpoint"]) == ("trial", 512, 528, None)
    assert made.lock["backends"]["benchmark.ruler"]["distribution"] == "ltrl"
    image = made.resolved["cluster"]["container"]["image"]
    assert made.lock["container"]["image"] == image == "vllm/vllm-openai:v0.11.0"
    assert made.resolved["origins"]["cluster.container.image"] == "trial.yaml:9"


def test_equal_inputs_give_equal_bytes_and_weights_make_a_run(project: Path) -> None:
    first = compiled(project)
    assert compiled(project).lock == first.lock
    assert compiled(project, "serve.minutes=7", "requests.concurrency=3", "max_missing=0.5").name == first.name
    assert compiled(project, "sampling.samples=2").name != first.name
    (project / "exported" / "model.safetensors").write_bytes(b"WEIGHTS")
    assert compiled(project).name != first.name


def test_the_model_of_the_command_line_takes_the_place_of_the_spec_s(project: Path, tmp_path: Path) -> None:
    write_model(project / "runs" / "a-run" / "stages" / "export" / "model" / "step_40")
    made = compiled(project, model=("runs/a-run/stages/export/model", "a-run"))
    config = json.loads(made.read("eval.json"))
    assert config["model"] == {
        "base": "runs/a-run/stages/export/model/step_40", "revision": None, "served_as": "a-run",
    }  # fmt: skip


def test_a_step_of_a_run_is_the_export_of_that_step(project: Path) -> None:
    run = make_run(project / "runs" / "a-run", steps=2)
    state.create_run(dataclasses.replace(run, engine="nemo-rl"))
    exports = run.path / "stages" / "export" / "model"
    for step in (1, 2):
        save(run.path / "checkpoints", step)
        write_model(exports / f"step_{step}")
    assert which_model("a-run", project=project) == (f"{exports}/step_2", "a-run")
    assert which_model("a-run@1", project=project) == (f"{exports}/step_1", "a-run@1")
    (exports / "step_1" / "config.json").unlink()
    with pytest.raises(LtrlError) as caught:
        which_model("a-run@1", project=project)
    [found] = caught.value.diagnostics
    assert (found.message, found.hint) == (
        "step 1 of `a-run` is not exported", "`ltrl export a-run@1 DIR`, then `--model DIR`",
    )  # fmt: skip


def test_an_endpoint_needs_no_gpu_and_its_key_stays_a_reference(project: Path) -> None:
    spec = write_spec(project, base="served")
    endpoint = 'endpoint: {base_url: "http://model:8000/v1", api_key: "${env:MODEL_KEY}"}'
    spec.write_text(spec.read_text().replace("serve: {tensor: 2, minutes: 90}", endpoint))
    made = compiled(project)
    assert "--gres" not in made.read("job.sbatch")
    assert json.loads(made.read("eval.json"))["endpoint"]["api_key"] == "${env:MODEL_KEY}"


def test_an_experiment_with_eval_is_measured_as_well(project: Path) -> None:
    sets = [f"eval={json.dumps(EVAL)}", "model.context.prompt=512", "model.context.response=16"]
    made, _, _ = compile_evaluation(
        SPECS / "quickstart.yaml",
        cluster=str(project / "specs/clusters/gpus.yaml"),
        model=("exported", None),
        sets=sets,
    )
    assert made.plan["launch"]["gpus_per_node"] == 2
    assert json.loads(made.read("eval.json"))["model"]["base"] == str(project / "exported")
    too_many = [sets[0].replace('"tensor": 2', '"tensor": 9'), *sets[1:]]
    with pytest.raises(LtrlError, match="needs 9 GPUs on one node"):
        compile_evaluation(
            SPECS / "quickstart.yaml",
            cluster=str(project / "specs/clusters/gpus.yaml"),
            model=("exported", None),
            sets=too_many,
        )


@pytest.mark.parametrize(
    ("sets", "options", "expected"),
    [
        (
            [],
            {"model": ("runs/none", None)},
            ("LTRL020", "--model:1:1", "there is no model directory `runs/none`",
             "`ltrl eval SPEC --model` takes an exported directory, or a run that has one (`ltrl export RUN`)"),
        ),
        (
            [],
            {"model": ("specs", None)},
            ("LTRL051", "--model:1:1", "`{project}/specs` holds no model",
             "an export has a `config.json`, or `step_N` with one"),
        ),
        (
            [],
            {"cluster": "gpu"},
            ("LTRL023", "--cluster:1:1", "no cluster profile `gpu`",
             "did you mean `gpus`? profiles here: `gpus`, `local`, `mock`"),
        ),
        (
            ["cluster.gpus_per_node=1"],
            {},
            ("LTRL022", "trial.yaml:9:17", "`serve.tensor: 2` needs 2 GPUs on one node, where `gpus` has 1",
             "at most 1"),
        ),
        (
            ['cluster.stages={"eval": {"gpus_per_node": 0}}'],
            {},
            ("LTRL022", "trial.yaml:9:17", "`serve.tensor: 2` needs 2 GPUs on one node, where `gpus` has 0",
             "`--cluster` names a profile with GPUs; `serve.engine: local` needs none"),
        ),
        (
            ["cluster.executor=local"],
            {},
            ("LTRL012", "gpus.yaml:1:83", "`slurm` options do nothing with `executor: local`",
             "write `executor: slurm` or leave the section out"),
        ),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_at_its_place(
    project: Path, sets: list[str], options: dict[str, Any], expected: tuple[str, ...]
) -> None:
    (project / "runs").mkdir()
    code, place, message, hint = expected
    assert (code, place, message.format(project=project), hint) in told(project, *sets, **options)


def test_texts_longer_than_the_model_takes_are_refused_where_they_stand(project: Path) -> None:
    long = "model.context.prompt=1009"
    [(code, _, message, hint)] = told(project, long)
    assert (code, message) == (
        Code.CONTEXT_TOO_LONG, "a context of 1025 tokens is longer than the 1024 positions of `exported`",
    )  # fmt: skip
    assert hint is not None
    assert hint.startswith("make prompt + response at most 1024, or extend the model where it is served")
    compiled(project, long, 'serve.options=["--hf-overrides", "{}"]')
    spec = project / "specs" / "trial.yaml"
    spec.write_text(spec.read_text().replace("prompt: 512", "prompt: 1009"))
    assert told(project)[0][1] == "trial.yaml:6:12"


def test_mistakes_of_spec_and_profile_are_told_together(project: Path) -> None:
    write_spec(project, base="/models/none", serve="{tensor: 9}")
    write_profile(project, container=CONTAINER)
    assert [(code, place) for code, place, _, _ in told(project)] == [
        ("LTRL020", "trial.yaml:4:9"),
        ("LTRL022", "trial.yaml:9:17"),
    ]
    assert [code for code, *_ in told(project, "sampling.sample=2", cluster="none")] == ["LTRL023", "LTRL014"]


def test_a_check_on_a_cluster_says_what_its_job_would_be_refused_for(project: Path) -> None:
    spec = project / "specs" / "trial.yaml"
    assert check(spec, cluster="gpus") == ()
    assert check(spec, sets=["serve.tensor=9"]) == ()
    [found] = check(spec, cluster="gpus", sets=["serve.tensor=9"])
    assert found.position is not None
    assert (found.code, found.position.label, found.message) == (
        Code.LAYOUT, "--set serve.tensor=9:1", "`serve.tensor: 9` needs 9 GPUs on one node, where `gpus` has 8",
    )  # fmt: skip


def test_a_model_that_the_container_would_not_see_is_refused(project: Path, tmp_path_factory: Any) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    write_model(elsewhere / "model")
    write_spec(project, base=str(elsewhere / "model"))
    compiled(project)
    write_profile(project, container=CONTAINER)
    assert told(project) == [
        ("LTRL020", "trial.yaml:4:9", f"the container of the cluster profile does not see `{elsewhere}/model`",
         f"name it, or a directory around it, in the profile's `shared_paths`: `[{elsewhere}]`"),
    ]  # fmt: skip
    write_profile(project, container=CONTAINER, shared_paths=[str(elsewhere)])
    assert json.loads(compiled(project).read("eval.json"))["model"]["base"] == f"{elsewhere}/model"


def test_no_name_of_a_model_is_a_command(project: Path) -> None:
    write_model(project / HOSTILE.replace("/", ""))
    made = compiled(project, model=(HOSTILE.replace("/", ""), None))
    assert json.loads(made.read("eval.json"))["model"]["base"] == HOSTILE.replace("/", "")
    for path in ("job.sbatch", "local.sh"):
        assert "PWNED" not in made.read(path)


@pytest.fixture
def slurm(project: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    fake = FakeSlurm(project / "slurm")
    monkeypatch.setenv("PATH", fake.path)
    return fake


def ended(run: state.Run, wanted: State) -> state.Run:
    until(lambda: (row := runs.status(state.read_run(run.path))).state.is_finished and row, 30)
    run = state.read_run(run.path)
    assert run.latest
    assert run.latest.state is wanted, (run.attempt_dir(run.latest.number) / "stderr.log").read_text()
    return run


def test_a_job_that_reaches_its_time_limit_goes_on_without_asking_twice(project: Path, slurm: FakeSlurm) -> None:
    before = 3

    def script(number: int, request: dict[str, Any]) -> Answer:
        is_slow = number >= before and not slurm.job(2).exists()
        return Answer("x", delay=60.0) if is_slow else knows(number, request)

    with loopback_judge(script=script) as server:
        endpoint(project, server.base_url)
        run = submit.submit(compiled(project), project=project)
        assert run.is_evaluation
        log = run.path / "results" / "answers.jsonl"
        until(lambda: log.exists() and len(log.read_text().splitlines()) >= before, 30)
        until(lambda: len(server.requests) > before)
        with pytest.raises(LtrlError, match="has an attempt that is not over"):
            submit.submit(compiled(project), project=project)
        slurm.send(1, "timeout")
        run = ended(run, State.TIMEOUT)
        done = cli("resume", run.id)
        assert done.returncode == 0, done.stderr
        run = ended(run, State.COMPLETED)
    asked = [json.dumps(request["messages"]) for request in server.requests]
    assert len(set(asked)) == 6
    assert all(asked.count(prompt) == 1 for prompt in asked[:before])
    assert [a.state for a in run.attempts] == [State.TIMEOUT, State.COMPLETED]
    assert [s.score for s in read(run.path / "results")] == [1.0] * 6
    assert "needles" in cli("eval", "show", run.id).stdout
    same = cli("eval", "compare", run.id, str(run.path))
    assert same.returncode == 0, same.stderr
    beside = submit.submit(compiled(project), project=project, fresh=True)
    assert "could be any of" in cli("eval", "show", run.id[:-1]).stderr
    ended(beside, State.FAILED)  # its endpoint is gone by now
    why = cli("why", beside.id)
    assert "nobody answers at" in why.stdout
    with pytest.raises(LtrlError) as complete:
        submit.request(compiled(project), project=project)
    assert complete.value.diagnostics[0].hint == f"`ltrl eval show {run.id}` shows its results"


def test_its_run_goes_on_as_it_was_and_is_no_training(project: Path, slurm: FakeSlurm) -> None:
    slurm.set("hold")
    made = compiled(project)
    [asked] = submit.requests(made, project=project)
    assert (asked.reserve, asked.minutes, asked.gpus) == (None, 90, 2)
    assert not (project / "runs").exists()
    run = submit.submit(made, project=project)
    assert (run.steps, run.path) == (0, project / "runs" / made.name)
    runs.cancel(run)
    longer = compiled(project, "serve.minutes=180")
    again = submit.submit(longer, project=project)
    assert again.latest
    assert (again.path, len(again.attempts), again.latest.minutes) == (run.path, 2, 180)
    runs.cancel(again)
    with pytest.raises(LtrlError, match=r"measures something else: `sampling\.samples` 1 → 2"):
        submit.submit(compiled(project, "sampling.samples=2"), project=project, run=again)
    for words in (
        ["checkpoints"],
        ["report"],
        ["rollback", "--step", "1"],
        ["diff", run.id],
        ["compare"],
        ["serve", "model"],
    ):
        done = cli(*words, run.id)
        assert (done.returncode, done.stdout) == (1, "")
        assert f"error[LTRL013]: `{run.id}` is an evaluation: " in done.stderr
    for words in (["status"], ["why"], ["logs"]):
        assert cli(*words, run.id).returncode == 0


def test_the_command_shows_its_request_and_says_what_goes_together(project: Path) -> None:
    spec = str(project / "specs" / "trial.yaml")
    shown = cli("eval", spec, "--cluster", "gpus", "--dry-run")
    assert shown.returncode == 0, shown.stderr
    assert "nothing is launched: this would be a new run, 90 minutes at most on `gpus`" in shown.stderr
    assert "#| #SBATCH --gres=gpu:2" in shown.stdout
    assert not (project / "runs").exists()
    for words, text in (
        (["--cluster", "gpus", "-o", "here"], "-o and --html go with an evaluation here"),
        (["--dry-run"], "go with --cluster"),
    ):
        refused = cli("eval", spec, *words)
        assert refused.returncode == 2
        assert text in " ".join(refused.stderr.replace("│", " ").split())
    hinted = cli("submit", spec)
    assert "`ltrl eval FILE`, with `--cluster NAME` as a job of its own" in hinted.stderr
    made = bundle.read(next((project / "build").glob("trial-*")))
    assert cli("submit", str(made.path), "--dry-run").stdout == shown.stdout
    assert "is the bundle of an evaluation" in cli("diff", str(made.path), spec).stderr
