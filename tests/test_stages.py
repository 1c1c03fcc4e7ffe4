"""Stages of a run: which there are, what they get, and the exports of the built-in engines."""

import json
import re
import subprocess
import sys

import pytest
from launching import SPECS, make_bundle, make_plan

from ltrl import compile, plan, render
from ltrl import submit as launcher
from ltrl.backend import Stage
from ltrl.cli import launch, show
from ltrl.errors import Code, LtrlError
from ltrl_backends.nemo_rl.export import main


def planned(stages, *sets, cluster=None, spec="quickstart.yaml"):
    asked = [f"stages={json.dumps(stages)}", *sets]
    return compile.prepare(SPECS / spec, sets=asked, cluster=cluster)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (["convert", "train"], "`local` has no stage `convert`"),
        (["train", "train"], "the stage `train` is named twice"),
        (["export", "train"], "the stage `train` comes before `export`"),
        ([], "`stages` has 0 items, expected at least 1"),
    ],
)
def test_stages_that_an_engine_does_not_have_are_refused_where_they_stand(stages, message):
    with pytest.raises(LtrlError) as caught:
        planned(stages)
    [found] = caught.value.diagnostics
    assert found.message == message
    assert found.position is not None
    if found.code is Code.STAGE:
        assert found.hint == "its stages, in order: `reward-server`, `train`, `export`"


def test_a_stage_gets_what_the_profile_says_or_what_its_engine_thinks(tmp_path):
    assert [(s.name, s.minutes, s.nodes) for s in planned(["train", "export"]).stages] == [("export", 10, 1)]
    profile = tmp_path / "p.yaml"
    profile.write_text("kind: cluster\nexecutor: local\nstages: {export: {minutes: 3}, other: {nodes: 9}}\n")
    made = planned(["train", "export"], cluster=str(profile))
    assert [(s.name, s.minutes) for s in made.stages] == [("export", 3)]
    assert made.to_json()["stages"] == ["train", "export"]
    assert planned(["train"]).resolved.fingerprint == made.resolved.fingerprint


def test_the_scripts_of_a_stage_ask_for_its_own_machines_and_see_the_run():
    stage = Stage("export", ("python", "a b"), nodes=1, gpus_per_node=2, minutes=7)
    container = {"runtime": "pyxis", "image": "x"}
    slurm = {"segment": 2}
    cluster = {"executor": "slurm", "nodes": 4, "gpus_per_node": 8, "container": container, "slurm": slurm}
    made = make_plan(["true"], cluster=cluster, stages=(stage,), spec="qwen30b_moe.yaml")
    files = {a.path: a.text for a in render.scripts(made)}
    own = ["stages/export/job.sbatch", "stages/export/local.sh"]
    assert sorted(files) == ["job.sbatch", "local.sh", "ray_node.sh", *own]
    job = files["stages/export/job.sbatch"]
    assert [line for line in job.splitlines() if line.startswith("#SBATCH")] == [
        "#SBATCH --job-name=trial-export",
        "#SBATCH --nodes=1",
        "#SBATCH --ntasks-per-node=1",
        "#SBATCH --time=7",
        "#SBATCH --open-mode=append",
        "#SBATCH --requeue",
        "#SBATCH --gres=gpu:2",
        "#SBATCH --exclusive",
        "#SBATCH --mem=0",
    ]
    assert '--container-mounts="${LTRL_RUN_DIR%/stages/*}":"${LTRL_RUN_DIR%/stages/*}",' in job
    assert '--container-workdir="$LTRL_RUN_DIR"' in job
    local = files["stages/export/local.sh"]
    assert "python 'a b'" in local
    assert 'export PYTHONPATH="$LTRL_RUN_DIR"/../../bundle/payload.zip' in local


def test_a_stage_in_a_container_sees_the_run_it_belongs_to(tmp_path):
    """The words are run, with a stand-in for docker that tells its mounts."""
    stage = Stage("export", ("true",))
    cluster = {"container": {"runtime": "docker", "image": "img"}}
    bundle = make_bundle(tmp_path, cluster=cluster, stages=(stage,))
    docker = tmp_path / "docker"
    docker.write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    docker.chmod(0o755)
    run = tmp_path / "stages" / "a run"  # `stages` in the project's own path is left alone
    (run / "stages" / "export").mkdir(parents=True)
    told = {"LTRL_RUN_DIR": f"{run}/stages/export", "LTRL_PROJECT_DIR": "/p", "LTRL_ATTEMPT": "1"}
    told |= {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    subprocess.run(["bash", bundle.path / "stages" / "export" / "local.sh"], env=told, check=True)
    said = (run / "stages/export/attempts/1/stdout.log").read_text().splitlines()
    assert f"--volume={run}:{run}" in said
    assert f"--workdir={run}/stages/export" in said


def test_the_image_of_a_stage_is_in_the_manifest_the_plan_and_a_dry_run(tmp_path, capsys):
    other = f"repo/other@sha256:{'0' * 64}"
    stages = (Stage("export", ("true",), gpus_per_node=2, minutes=90, image=other), Stage("eval", ("true",)))
    cluster = {"container": {"runtime": "docker", "image": "img:1"}}
    bundle = make_bundle(tmp_path, cluster=cluster, stages=stages)
    assert bundle.lock["container"] == {"runtime": "docker", "image": "img:1", "digest": None}
    assert bundle.lock["stage_containers"] == {
        "export": {"runtime": "docker", "image": other, "digest": other.partition("@")[2]}
    }
    for asked in launcher.requests(bundle, project=tmp_path):
        launch.show_request(asked, bundle)
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("container ")]
    own = "container docker, img:1; no digest in its name"
    assert said == [own, f"container docker, {other}", own]
    show.plan(make_plan(["true"], cluster=cluster, stages=stages), plan.TrainingData(4, None, "away"))
    drawn = capsys.readouterr().out
    assert re.search(rf"stage `export` +1 x 2 GPUs, 90 minutes, 3 GPU-hours at most; image {other}", drawn)
    assert re.search(r"stage `eval` +1 x CPU, 60 minutes *$", drawn, re.MULTILINE)


def test_a_stage_is_a_plugins_own():
    assert plan._stages(planned(["train"]).resolved, (Stage("anything", ("x",)),)) == ()
    spec = planned(["train"]).resolved
    spec = spec.__class__(**{**vars(spec), "spec": spec.spec.model_copy(update={"stages": ("train", "anything")})})
    assert [s.name for s in plan._stages(spec, (Stage("anything", ("x",)),))] == ["anything"]


def test_nothing_to_export_is_said(tmp_path, capsys, monkeypatch):
    package = tmp_path / "site" / "nemo_rl"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert main([str(tmp_path), str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err == f"error[LTRL051]: `{tmp_path}` has no complete checkpoint\n"
    done = subprocess.run(
        [sys.executable, "-m", "ltrl_backends.nemo_rl.export", tmp_path, "out"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (
        1,
        "error[LTRL017]: NeMo-RL is not installed here: `export` runs in its container\n",
    )


def test_a_model_that_would_be_lost_with_its_container_is_not_converted(tmp_path):
    profile = tmp_path / "p.yaml"
    text = "kind: cluster\nexecutor: slurm\nnodes: 4\ngpus_per_node: 8\ncontainer: {runtime: pyxis, image: x}\n"
    profile.write_text(text)
    with pytest.raises(LtrlError) as caught:
        planned(["convert", "train"], cluster=str(profile), spec="qwen30b_moe.yaml")
    [found] = caught.value.diagnostics
    assert found.message.startswith("the stage `convert` would leave the model in its container")
    profile.write_text(f"{text}environment: {{HF_HOME: /shared/hf}}\nshared_paths: [/shared]\n")
    made = planned(["convert", "train"], cluster=str(profile), spec="qwen30b_moe.yaml")
    assert [(stage.name, stage.gpus_per_node) for stage in made.stages] == [("convert", 1)]
