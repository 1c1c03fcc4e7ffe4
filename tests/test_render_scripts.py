"""Launch scripts: what is in them, that shellcheck likes them, and that nothing an author writes becomes a command."""

import json
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

import jinja2
import pytest
from launching import HOSTILE, make_plan, stand_in

from ltrl import render
from ltrl.backend import Stage
from ltrl.errors import Code, LtrlError
from ltrl.render import Sh, sh, sh_list

SHELLCHECK = Path(sysconfig.get_path("scripts"), "shellcheck")
"""From the test dependencies: no system package, and never skipped."""

SLURM = {"executor": "slurm", "nodes": 2, "gpus_per_node": 8, "minutes": 90}


def scripts(command=("true",), **options):
    return {a.path: a.text for a in render.scripts(make_plan(command, **options))}


def refused(**cluster):
    with pytest.raises(LtrlError) as caught:
        scripts(cluster=cluster)
    return [(d.code, d.message) for d in caught.value.diagnostics]


def test_a_template_refuses_text_that_is_not_quoted():
    environment = render._environment()
    with pytest.raises(TypeError, match="a str is no shell text: 'x'"):
        environment.from_string("{{ value }}").render(value="x")
    with pytest.raises(TypeError, match="a bool is no shell text"):
        environment.from_string("{{ value }}").render(value=True)
    with pytest.raises(TypeError, match="a str is no shell text"):
        environment.from_string("{{ a ~ b }}").render(a=sh("x"), b=sh("y"))
    with pytest.raises(jinja2.UndefinedError):
        environment.from_string("{{ missing }}").render()
    assert environment.from_string("{{ word }} {{ number }}").render(word=sh("a b"), number=7) == "'a b' 7"


def test_words_stay_words():
    assert sh("a'b") == "'a'\"'\"'b'"
    assert sh_list(["a b", 3, Sh('"$X"')]) == "'a b' 3 \"$X\""
    with pytest.raises(LtrlError) as caught:
        sh("a\0b")
    assert caught.value.diagnostics[0].code is Code.INVALID_VALUE


def test_a_slurm_job_asks_for_what_the_profile_says():
    slurm = {"partition": "gpu,big", "account": "a b", "qos": "q#1", "constraint": "h100&ib", "reservation": 'r"\\'}
    slurm |= {"gres": "gpu:h100", "switches": "1@2:00", "extra": ["-x node7", "--wckey='it is \"so\"'"]}
    header = [
        line for line in scripts(cluster={**SLURM, "slurm": slurm})["job.sbatch"].splitlines() if "#SBATCH" in line
    ]
    assert header == [
        "#SBATCH --job-name=trial",
        "#SBATCH --nodes=2",
        "#SBATCH --ntasks-per-node=1",
        "#SBATCH --time=90",
        "#SBATCH --open-mode=append",
        "#SBATCH --requeue",
        "#SBATCH --signal=B:USR2@1860",
        "#SBATCH --partition=gpu,big",
        '#SBATCH "--account=a b"',
        '#SBATCH "--qos=q#1"',
        '#SBATCH "--constraint=h100&ib"',
        '#SBATCH "--reservation=r\\"\\\\"',
        "#SBATCH --gres=gpu:h100:8",
        "#SBATCH --exclusive",
        "#SBATCH --mem=0",
        "#SBATCH --switches=1@2:00",
        "#SBATCH --exclude=node7",
        '#SBATCH "--wckey=it is \\"so\\""',
    ]


def test_a_local_bundle_has_one_script_and_a_ray_job_three():
    assert list(scripts()) == ["local.sh"]
    assert list(scripts(cluster=SLURM)) == ["local.sh", "job.sbatch"]
    assert list(scripts(cluster=SLURM, spec="qwen30b_moe.yaml")) == ["local.sh", "job.sbatch", "ray_node.sh"]


@pytest.mark.parametrize("field", ["partition", "account", "qos", "constraint", "reservation", "gres"])
def test_an_sbatch_option_cannot_hold_a_line_break(field):
    assert refused(**SLURM, slurm={field: "x\n#SBATCH --wrap=evil"}) == [
        (Code.INVALID_VALUE, f"`slurm.{field}` holds a line break or control character: `x\\n#SBATCH --wrap=evil`")
    ]


def test_every_mistake_of_a_profile_is_told_at_once():
    found = refused(
        **SLURM,
        slurm={"extra": ["hello", "--a='", "-x\r"]},
        container={"runtime": "docker", "image": "-v/:/x", "mounts": ["./data:/data", "/a,b:/c"]},
        setup=["echo \0"],
        environment={"A": "x\0"},
    )
    assert [message for _, message in found] == [
        "`hello` is not an option of sbatch",
        "`--a='` is not an option of sbatch: no closing quotation",
        "`slurm.extra.2` holds a line break or control character: `-x\\r`",
        "a `setup` line holds a NUL character",
        "`x\\x00` cannot be an environment variable",
        "`-v/:/x` is an option, not an image",
        "a mount is `/source:/target[:options]` with absolute paths without commas, not `./data:/data`",
        "a mount is `/source:/target[:options]` with absolute paths without commas, not `/a,b:/c`",
        "the container runtime `docker` does not go with `executor: slurm`",
    ]


CLUSTERS = {
    "local": {},
    "docker": {"gpus_per_node": 1, "container": {"runtime": "docker", "image": "img", "mounts": ["/a b:/c:ro"]}},
    "podman": {"gpus_per_node": 1, "container": {"runtime": "podman", "image": HOSTILE.replace("\n", "")}},
    "slurm": {**SLURM, "slurm": {"partition": "a'b $(x)", "extra": ['--wckey="a b"']}},
    "pyxis": {**SLURM, "container": {"runtime": "pyxis", "image": "nvcr.io#nvidia/x:1", "mounts": ["/a b:/c d:ro"]}},
    "apptainer": {**SLURM, "container": {"runtime": "apptainer", "image": "/x y.sif", "mounts": ["/a b:/c d:ro"]}},
}
COMMON = {
    "environment": {"TOLD": HOSTILE, "SECRET": "a ${env:TOKEN} b", "B": '${file:/a b}${env:C:-"$d`}'},
    "setup": ["export X=1", "if true; then :; fi"],
}


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_shellcheck_has_nothing_to_say(cluster, tmp_path):
    stages = (Stage("judge", ("x", HOSTILE), before_training=True, is_service=True), Stage("export", ("x", HOSTILE)))
    for spec in ("quickstart.yaml", "qwen30b_moe.yaml"):
        whole = {**CLUSTERS[cluster], **COMMON}
        for path, text in scripts(["python", HOSTILE, ""], cluster=whole, spec=spec, stages=stages).items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)
            checked = subprocess.run(
                [SHELLCHECK, "-s", "bash", tmp_path / path], capture_output=True, text=True, check=False
            )
            assert (path, checked.stdout) == (path, "")


def test_containers_are_started_as_their_runtimes_want():
    def started(name, script):
        text = scripts(["drive"], cluster=CLUSTERS[name], spec="qwen30b_moe.yaml")[script]
        return [
            line.strip()
            for line in text.splitlines()
            if "drive " in line or "--container" in line or "exec --nv" in line
        ]

    mounts = '--container-mounts="$LTRL_RUN_DIR":"$LTRL_RUN_DIR","$LTRL_PROJECT_DIR":"$LTRL_PROJECT_DIR"'
    assert started("pyxis", "job.sbatch") == [
        (
            'srun --nodes=1 --ntasks=1 --cpu-bind=none --nodelist="${hosts[i]}" '
            f"'--container-image=nvcr.io#nvidia/x:1' {mounts}',/a b:/c d:ro' "
            '--container-workdir="$LTRL_RUN_DIR" --no-container-mount-home \\'
        )
    ]
    assert started("apptainer", "job.sbatch") == [
        (
            'apptainer exec --nv --bind="$LTRL_RUN_DIR":"$LTRL_RUN_DIR" --bind="$LTRL_PROJECT_DIR":"$LTRL_PROJECT_DIR" '
            "'--bind=/a b:/c d:ro' --pwd=\"$LTRL_RUN_DIR\" '/x y.sif' "
            'bash "$LTRL_RUN_DIR/bundle/ray_node.sh" "$i" "$address" &'
        )
    ]
    assert started("docker", "local.sh") == [
        (
            'docker run --rm --init --cidfile="$attempt/container_id" --network=host --ipc=host '
            '--user="$(id -u):$(id -g)" --gpus=all --env=LTRL_RUN_DIR '
            "--env=LTRL_RUN_ID --env=LTRL_ATTEMPT --env=LTRL_PROJECT_DIR --env=WANDB_RUN_ID --env=WANDB_RESUME "
            '--volume="$LTRL_RUN_DIR":"$LTRL_RUN_DIR" --volume="$LTRL_PROJECT_DIR":"$LTRL_PROJECT_DIR" '
            "'--volume=/a b:/c:ro' --workdir=\"$LTRL_RUN_DIR\" img "
            'bash -c \'export PYTHONPATH="$LTRL_RUN_DIR"/bundle/payload.zip${PYTHONPATH:+":$PYTHONPATH"}; '
            'exec "$@"\' bash drive '
            '>>"$attempt/stdout.log" 2>>"$attempt/stderr.log" &'
        )
    ]


def run_local(directory: Path, command, *, variables=None, **cluster):
    """Runs `local.sh` as a person would by hand; returns its status and the attempt's directory."""
    run = directory / f"run {HOSTILE}".replace("\n", " ").replace("/", "")
    (run / "bundle").mkdir(parents=True)
    for path, text in scripts(command, cluster=cluster).items():
        (run / "bundle" / path).write_text(text)
    told = {"LTRL_RUN_DIR": str(run), "LTRL_ATTEMPT": "1", "LTRL_RUN_ID": "x", "LTRL_PROJECT_DIR": str(directory)}
    path = "/usr/bin:/bin"
    done = subprocess.run(
        ["bash", run / "bundle" / "local.sh"],
        env={"PATH": path, **told, **(variables or {})},
        cwd=directory,
        check=False,
    )
    assert not list(directory.rglob("PWNED"))
    return done.returncode, run / "attempts" / "1"


def test_hostile_text_reaches_the_driver_unchanged(tmp_path):
    status, attempt = run_local(
        tmp_path,
        [*stand_in(), HOSTILE, "", "-n"],
        variables={"TOKEN": HOSTILE},
        environment={"TOLD": HOSTILE, "SECRET": "a ${env:TOKEN} b"},
    )
    assert status == 2  # `-n` is an option that the driver does not know
    status, attempt = run_local(
        tmp_path / "again",
        [*stand_in(), HOSTILE, ""],
        variables={"TOKEN": HOSTILE},
        environment={"TOLD": HOSTILE, "SECRET": "a ${env:TOKEN} b"},
    )
    said = json.loads((attempt / "stdout.log").read_text().splitlines()[0])
    assert status == 0
    assert said["arguments"] == [HOSTILE, ""]
    assert (said["environment"]["TOLD"], said["environment"]["SECRET"]) == (HOSTILE, f"a {HOSTILE} b")
    assert said["cwd"] == str(attempt.parent.parent)
    assert (attempt / "exit_status").read_text() == "0\n"


def test_the_exit_status_and_the_first_cause_are_written_down(tmp_path):
    status, attempt = run_local(tmp_path, ["bash", "-c", "echo no >&2; exit 7"])
    assert status == 7
    assert (attempt / "exit_status").read_text() == "7\n"
    assert (attempt / "cause").read_text() == "the driver ended with status 7\n"
    assert (attempt / "stderr.log").read_text() == "no\nltrl: the driver ended with status 7\n"


def test_setup_lines_may_use_unset_variables_but_not_fail(tmp_path):
    status, attempt = run_local(tmp_path, ["bash", "-c", "echo $X"], setup=["export X=$UNSET_ANYWHERE$(echo set)"])
    assert (status, (attempt / "stdout.log").read_text()) == (0, "set\n")
    status, attempt = run_local(tmp_path / "2", ["true"], setup=["false", "touch never"])
    assert status == 1
    assert (attempt / "cause").read_text() == "the setup of the cluster profile ended with status 1\n"


def test_a_missing_secret_stops_the_job_before_the_driver(tmp_path):
    status, attempt = run_local(tmp_path, ["touch", "started"], environment={"KEY": "${env:NOT_THERE}"})
    assert status == 1
    assert "NOT_THERE" in (attempt / "stderr.log").read_text()
    assert not list(tmp_path.rglob("started"))


def test_references_are_looked_up_in_the_job(tmp_path):
    (tmp_path / "a 'key'").write_text(f"{HOSTILE}\n")
    environment = {
        "TOKEN": "${file:" + str(tmp_path / "a 'key'") + "}",
        "HOME_OF_MODELS": '/x/${env:NOT_THERE:-the "default" $HOME `id` \\}/y',
        "TAKEN": "${env:THERE:-not this}",
    }
    names = list(environment)
    told = [sys.executable, "-c", f"import os, json; print(json.dumps([os.environ[n] for n in {names}]))"]
    status, attempt = run_local(tmp_path, told, variables={"THERE": "this"}, environment=environment)
    assert status == 0, (attempt / "stderr.log").read_text()
    expected = [HOSTILE, '/x/the "default" $HOME `id` \\/y', "this"]
    assert json.loads((attempt / "stdout.log").read_text()) == expected


def test_a_secret_file_that_is_not_there_stops_the_job_before_the_driver(tmp_path):
    status, attempt = run_local(tmp_path, ["touch", "started"], environment={"KEY": "${file:/not/there}"})
    assert status == 1
    assert "/not/there" in (attempt / "stderr.log").read_text()
    assert not list(tmp_path.rglob("started"))


def test_the_payload_comes_before_what_the_container_or_the_setup_put_on_the_path(tmp_path):
    setup = {"setup": ["export PYTHONPATH=/site"]}
    run = tmp_path / "a b"
    (run / "bundle").mkdir(parents=True)
    local = scripts(["printenv", "PYTHONPATH"], cluster=setup, spec="qwen30b_moe.yaml")["local.sh"]
    (run / "bundle" / "local.sh").write_text(local)
    told = {"LTRL_RUN_DIR": str(run), "LTRL_PROJECT_DIR": "/p", "LTRL_ATTEMPT": "1", "PATH": "/usr/bin:/bin"}
    subprocess.run(["bash", run / "bundle" / "local.sh"], env=told, check=True)
    assert (run / "attempts/1/stdout.log").read_text() == f"{run}/bundle/payload.zip:/site\n"
    inside = tmp_path / "docker"  # starts the command as the container would, with the image's own variables
    shown = "while [[ $1 != img ]]; do shift; done\nexport PYTHONPATH=/image"
    inside.write_text(f'#!/bin/bash\n[[ $1 != version ]] || exit 0\n{shown}\n"${{@:2}}"\n')
    inside.chmod(0o755)
    docker = scripts(["printenv", "PYTHONPATH"], cluster=CLUSTERS["docker"], spec="qwen30b_moe.yaml")["local.sh"]
    (run / "bundle" / "local.sh").write_text(docker)
    told |= {"LTRL_ATTEMPT": "2", "PATH": f"{tmp_path}:/usr/bin:/bin"}
    subprocess.run(["bash", run / "bundle" / "local.sh"], env=told, check=True)
    assert (run / "attempts/2/stdout.log").read_text() == f"{run}/bundle/payload.zip:/image\n"


def test_mounts_are_looked_for_where_the_preflight_runs():
    def looked_for(name, script, spec):
        text = scripts(cluster=CLUSTERS[name], spec=spec)[script]
        return [
            word
            for line in text.splitlines()
            if "--nodes=2" in line
            for word in shlex.split(line.rstrip(") |{"))
            if "mount" in word
        ]

    assert looked_for("pyxis", "local.sh", "quickstart.yaml") == ["--mount=/c d"]  # the whole step is inside
    assert looked_for("apptainer", "local.sh", "quickstart.yaml") == ["--mount=/a b"]  # only the driver is
    assert looked_for("apptainer", "ray_node.sh", "qwen30b_moe.yaml") == ["--mount=/c d"]
