"""What a cluster profile may ask of Slurm, and what is said of a wrong one."""

import os
import stat
from pathlib import Path

import pytest
from launching import HOSTILE, make_plan
from test_cli import ltrl

from ltrl import render, sbatch
from ltrl.compile import checked_profile
from ltrl.errors import Code, LtrlError, Source
from ltrl.source import parse


def profile(text):
    return checked_profile(parse(Source("p.yaml", f"kind: cluster\nexecutor: slurm\n{text}", "p.yaml")))


def refused(text):
    with pytest.raises(LtrlError) as caught:
        profile(text)
    return [(str(d.position), d.code, d.message, d.hint) for d in caught.value.diagnostics]


def options(**request):
    script = {a.path: a.text for a in render.scripts(make_plan(["true"], cluster={**NODES, "slurm": request}))}
    lines = [line.removeprefix("#SBATCH ") for line in script["job.sbatch"].splitlines() if line.startswith("#SBATCH")]
    return lines[7:]  # behind those that every job has


NODES = {"executor": "slurm", "nodes": 4, "gpus_per_node": 8}


@pytest.fixture
def sbatch_here(tmp_path, monkeypatch):
    """A site's own sbatch, with an option of a plugin."""
    path = tmp_path / "bin" / "sbatch"
    path.parent.mkdir()
    path.write_text(
        "#!/bin/bash\nfor word; do case $word in\n--help | --wckey=* | --site-colour=*) ;;\n"
        "--nice=x) echo 'sbatch: error: Invalid value \"x\" for --nice.' >&2; exit 1 ;;\n"
        "*) echo \"sbatch: unrecognized option '$word'\" >&2; echo 'Try \"sbatch --help\"' >&2; exit 1 ;;\n"
        "esac; done\n"
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")
    return path


@pytest.fixture
def no_sbatch(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--switch=1", "--switch=1"),
        ("--nice", "--nice"),
        ("--nice 5", "--nice=5"),
        ("-H", "--hold"),
        ("-x node7", "--exclude=node7"),
        ("-xnode7", "--exclude=node7"),
        ("-x=node7", "--exclude=node7"),
        ("--wckey='a b'", "--wckey=a b"),
        ("--wckey=", "--wckey="),
    ],
)
def test_short_and_long_forms_are_one_option(line, expected):
    assert str(sbatch.option(line)) == expected


@pytest.mark.parametrize("name", sorted(sbatch.OURS))
def test_what_ltrl_sets_is_refused_in_both_forms(name):
    short = next((f"-{letter}" for letter, long in sbatch.SHORT.items() if long == name), f"--{name}")
    for line in (f"--{name}=1", f"{short} 1"):
        with pytest.raises(ValueError, match="is set by ltrl itself") as caught:
            sbatch.option(line)
        assert caught.value.args[1]  # says what to do


def test_the_options_of_the_profile_become_lines_of_the_script():
    request = {"cpus_per_node": 96, "memory": "900G", "segment": 2, "switches": "1@12:00:00", "gres": None}
    assert options(**request, extra=["--nice 5"]) == [
        "--exclusive", "--mem=900G", "--cpus-per-task=96", "--segment=2", "--switches=1@12:00:00", "--nice=5",
    ]  # fmt: skip
    assert options(gres="gpu:h100", exclusive=False) == ["--gres=gpu:h100:8"]


def test_every_step_gets_the_options_of_the_site():
    request = {"cpus_per_node": 96, "step_options": ["--mpi=none", "--wckey='a b'"]}
    text = render.scripts(make_plan(["true"], cluster={**NODES, "slurm": request}))[1].text
    [line] = [line for line in text.splitlines() if line.startswith("srun ")]
    assert line == "srun --nodes=1 --ntasks=1 --cpu-bind=none --cpus-per-task=96 --mpi=none '--wckey=a b' \\"


def test_shared_paths_are_mounted_where_they_are():
    container = {"runtime": "pyxis", "image": "x", "mounts": ["/scratch:/fast", "/old:/models:ro"]}
    cluster = {**NODES, "container": container, "shared_paths": ["/data sets", "/models"]}
    [line] = [
        x for x in render.scripts(make_plan(["true"], cluster=cluster))[1].text.splitlines() if "--container" in x
    ]
    assert ",/scratch:/fast,/old:/models:ro,/data sets:/data sets'" in line  # its own mount of /models goes first


def test_options_that_sbatch_does_not_know_are_told_where_they_stand(no_sbatch):
    text = "slurm:\n  extra:\n    - --swiches=1\n    - -Z\n    - --nodes=3\n    - hello\n"
    assert refused(text) == [
        ("p.yaml:5:7", Code.SBATCH_OPTION, "sbatch has no option `--swiches`", "did you mean `--switches`?"),
        ("p.yaml:6:7", Code.SBATCH_OPTION, "sbatch has no option `-Z`", None),
        ("p.yaml:7:7", Code.SBATCH_OPTION, "`--nodes` is set by ltrl itself", "write `nodes`"),
        (
            "p.yaml:8:7", Code.SBATCH_OPTION, "`hello` is not an option of sbatch",
            "write it as on the command line: `--switches=1`",
        ),
    ]  # fmt: skip


def test_the_sbatch_of_this_machine_knows_its_plugins_and_its_values(sbatch_here):
    assert profile("slurm: {extra: [--site-colour=red]}").slurm.extra == ("--site-colour=red",)
    assert refused("slurm: {extra: [--nice=x, --hint=nomultithread, --wckey=a]}") == [
        ("p.yaml:3:17", Code.SBATCH_OPTION, 'sbatch refuses `--nice=x`: Invalid value "x" for --nice.', None),
        (
            "p.yaml:3:27",
            Code.SBATCH_OPTION,
            "sbatch refuses `--hint=nomultithread`: unrecognized option '--hint=nomultithread'",
            None,
        ),
    ]


def test_an_sbatch_without_a_configuration_leaves_the_list_to_decide(sbatch_here):
    sbatch_here.write_text(
        "#!/bin/bash\necho 'sbatch: fatal: Could not establish a configuration source' >&2; exit 1\n"
    )
    assert profile("slurm: {extra: [--hint=nomultithread]}").slurm.extra == ("--hint=nomultithread",)
    assert refused("slurm: {extra: [--site-colour=red]}")[0][2] == "sbatch has no option `--site-colour`"


def test_a_profile_without_extra_options_asks_nobody(sbatch_here):
    sbatch_here.write_text("#!/bin/bash\ntouch ${0%/*}/asked\n")
    profile("slurm: {partition: gpu}")
    assert not (sbatch_here.parent / "asked").exists()


def test_secrets_are_references():
    assert refused(
        "environment:\n  WANDB_API_KEY: abc\n  HF_TOKEN: ${env:HF_TOKEN}\n  TOKENIZERS_PARALLELISM: x\n"
    ) == [
        (
            "p.yaml:4:18",
            Code.SECRET,
            "the secret `environment.WANDB_API_KEY` is written out here",
            "write a reference, `${env:NAME}` or `${file:PATH}`; and replace the key if others could read the file",
        )
    ]


def test_gres_segments_and_paths_are_checked():
    text = "nodes: 4\nshared_paths: [data, '/a:b']\nslurm: {gres: 'gpu:h100:8', segment: 3}\n"
    assert [(where, message) for where, _, message, _ in refused(text)] == [
        ("p.yaml:4:16", "a shared path is absolute and has no `:` or `,` in it, unlike `data`"),
        ("p.yaml:4:22", "a shared path is absolute and has no `:` or `,` in it, unlike `/a:b`"),
        ("p.yaml:5:15", "`gpu:h100:8` is no name of a GPU"),
        ("p.yaml:5:38", "segments of 3 do not divide `nodes: 4`"),
    ]


def test_hostile_text_stays_text_in_every_field(tmp_path):
    """The lines are read back as sbatch reads them: one option each, in double quotes."""
    value = HOSTILE.replace("\n", " ")
    request = dict.fromkeys(("partition", "account", "qos", "constraint", "reservation"), value)
    found = options(**request, gres=None, exclusive=False)
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    assert found == [f'"--{name}={escaped}"' for name in request]


def test_check_takes_cluster_profiles_too(tmp_path: Path):
    (tmp_path / "site.yaml").write_text("kind: cluster\nexecutor: slurm\nslurm: {segment: 2}\n")
    done = ltrl("check", "site.yaml", cwd=tmp_path)
    assert (done.returncode, "segments of 2 do not divide `nodes: 1`" in done.stderr) == (1, True)
    (tmp_path / "site.yaml").write_text("kind: cluster\nexecutor: slurm\n")
    assert ltrl("check", "site.yaml", cwd=tmp_path).stdout == "site.yaml: ok\n"
