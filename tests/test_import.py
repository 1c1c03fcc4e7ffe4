"""`ltrl import`: other launchers' files as specs, with nothing dropped silently."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from ltrl.backend import create
from ltrl.compile import prepare
from ltrl.errors import LtrlError, Source
from ltrl.importing import import_file
from ltrl.script import parse
from ltrl_backends.nemo_rl.fidelity import ROWS
from ltrl_backends.nemo_rl.imports import by_hand, flags
from ltrl_backends.nemo_rl.imports import script as importer

ROOT = Path(__file__).resolve().parent.parent
FILES = ROOT / "tests" / "imports"
GOLDENS = ROOT / "tests" / "goldens"
LTRL = "import sys; sys.argv[0] = 'ltrl'; from ltrl.cli import main; main()"
GPU_SPECS = ["qwen4b", "deepseek8b", "qwen30b_moe"]
SCRIPTS = ["train-moe-30b", "train-dense-4b", "train-deepseek-8b"]


def ltrl(*arguments: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-W", "error", "-c", LTRL, *map(str, arguments)]
    return subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False, env={**os.environ, **environment})


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "specs", tmp_path / "specs")
    shutil.copytree(FILES, tmp_path / "imports")
    return tmp_path


def config_of(spec: Path, **options: str) -> dict[str, object]:
    planned = prepare(spec, **options)  # type: ignore[arg-type]
    [artifact] = create(planned.resolved.engine).artifacts(planned)
    return yaml.safe_load(artifact.text)  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", GPU_SPECS)
@pytest.mark.parametrize("change", ["", "parallelism=auto", "rollout.nodes=2", "algorithm.clip.dual=3.0"])
def test_a_compiled_configuration_comes_back_as_a_spec_that_compiles_to_it(
    project: Path, name: str, change: str
) -> None:
    spec = project / "specs" / f"{name}.yaml"
    sets = [s for s in (change, "parallelism.pipeline=1" if change == "rollout.nodes=2" else "") if s]
    planned = prepare(spec, sets=sets)
    [artifact] = create(planned.resolved.engine).artifacts(planned)
    (project / "compiled.yaml").write_text(artifact.text)
    draft = import_file(project / "compiled.yaml", name="back", project=project)
    assert [row for row in draft.imported.rows if row.grade != "exact"] == []
    assert draft.is_complete
    (project / "specs" / "back.yaml").write_text(draft.spec)
    (project / "specs" / "clusters" / "back.yaml").write_text(draft.cluster)
    assert config_of(project / "specs" / "back.yaml", cluster="back") == yaml.safe_load(artifact.text)


@pytest.mark.parametrize("name", [*SCRIPTS, "nemo-child"])
def test_file_becomes_the_golden(project: Path, name: str) -> None:
    [file] = (project / "imports").glob(f"{name}.*")
    done = ltrl("import", Path("imports") / file.name, "--all", cwd=project, COLUMNS="160")
    text = f"status {done.returncode}\n{done.stdout}---\n{done.stderr}"
    text = "\n".join(line.rstrip() for line in text.splitlines()) + "\n"
    golden = GOLDENS / f"import.{name}.txt"
    if os.environ.get("LTRL_UPDATE_GOLDENS") == "1":
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_flag_of_a_script_has_a_row(name: str) -> None:
    script = parse(Source(str(FILES / f"{name}.sh"), (FILES / f"{name}.sh").read_text()))
    given = {
        word.text.partition("=")[0]
        for command in script.commands
        for word in command.words
        if word.text.startswith("--") and "train.py" in [w.text for w in command.words]
        and [w.text for w in command.words].index("train.py") < command.words.index(word)
    }  # fmt: skip
    draft = import_file(FILES / f"{name}.sh", project=ROOT)
    listed = {row.setting.split(" ")[0] for row in draft.imported.rows}
    assert given - listed == set()
    assert len(given) > 20


def test_every_flag_of_the_table_of_fidelity_is_read() -> None:
    named = {word for row in ROWS if not row.flag.startswith("(") for word in row.flag.split() if word.startswith("--")}
    named = {word.rstrip(",") for word in named}
    read = {*flags.FLAGS, *flags.IGNORED, *flags.MODEL_FLAGS, *by_hand.BY_HAND, *importer._LATER}
    assert named - read == set()


def test_the_script_of_the_paper_gives_the_shipped_spec_but_for_what_the_table_names(project: Path) -> None:
    judge = yaml.safe_load((project / "specs/qwen30b_moe.yaml").read_text())["reward"]["judge"]
    done = ltrl(
        "import", "imports/train-moe-30b.sh", "-o", "specs/paper.yaml", "--name", "paper",
        "--set", f"reward.judge={json.dumps(judge)}", "--set", "model.context={prompt: 128k, response: 32k}",
        cwd=project,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("specs/paper.yaml\n")
    ours = config_of(project / "specs/qwen30b_moe.yaml")
    theirs = config_of(project / "specs/paper.yaml", cluster="paper")

    def flat(tree: object, path: str = "") -> dict[str, object]:
        if not isinstance(tree, dict) or not tree:
            return {path: tree}
        return {k: v for name, inner in tree.items() for k, v in flat(inner, f"{path}.{name}").items()}

    left, right = flat(ours), flat(theirs)
    differing = {
        key: (left.get(key), right.get(key)) for key in left.keys() | right.keys() if left.get(key) != right.get(key)
    }
    assert differing == {
        ".policy.generation.stop_token_ids": ([151645, 151643], [151643, 151645]),
        ".policy.megatron_cfg.attention_backend": (None, "flash"),
        ".policy.megatron_cfg.distributed_data_parallel_config.grad_reduce_in_fp32": (False, True),
        ".policy.megatron_cfg.moe_router_dtype": ("fp64", "fp32"),
        ".data.train.section.path": ("data/longtracerl/data.jsonl", "data/train.jsonl"),
        ".data.validation.section.path": ("data/longtracerl/aa_lcr.jsonl", "data/aa_lcr.jsonl"),
        ".logger.wandb": ({}, None),
        ".logger.wandb.entity": (None, "long-context"),
        ".logger.wandb.name": (None, "paper"),
        ".logger.wandb.project": (None, "longtrace"),
        ".logger.wandb_enabled": (False, True),
    }


def test_a_secret_in_a_script_appears_in_nothing_that_is_made_of_it(project: Path) -> None:
    secret = "0123456789abcdef0123456789abcdef01234567"
    script = project / "imports" / "train-deepseek-8b.sh"
    assert secret in script.read_text()
    environment = json.dumps({"env_vars": {"JUDGE_API_KEY": secret}})
    leaking = script.read_text().replace("--load", f"--wandb-key {secret} --use-wandb --load")
    script.write_text(f"{leaking}ray job submit --runtime-env-json='{environment}' -- python3 train.py --lr 1\n")
    for extra in ([], ["--json"], ["--all"], ["-o", "specs/x.yaml"]):
        done = ltrl("import", "imports/train-deepseek-8b.sh", *extra, cwd=project)
        assert secret not in done.stdout + done.stderr
        assert "JUDGE_API_KEY" in done.stdout + done.stderr
    for file in (project / "specs").rglob("*.yaml"):
        assert secret not in file.read_text()


def test_files_that_are_there_are_not_overwritten_unasked(project: Path) -> None:
    before = (project / "specs" / "qwen4b.yaml").read_text()
    done = ltrl("import", "imports/train-dense-4b.sh", "-o", "specs/qwen4b.yaml", cwd=project)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error[LTRL076]: `specs/qwen4b.yaml` exists\nhint: `--force` overwrites it\n"
    assert (project / "specs" / "qwen4b.yaml").read_text() == before
    assert (
        ltrl("import", "imports/train-dense-4b.sh", "-o", "specs/qwen4b.yaml", "--force", cwd=project).returncode == 0
    )
    assert ltrl("check", "specs/qwen4b.yaml", "--cluster", "train-dense-4b", cwd=project).returncode == 0


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("broken-quote.sh", "error[LTRL077]: not a shell script: this cannot be read\n  --> broken-quote.sh:3:7\n"),
        ("no-training.sh", "error[LTRL077]: `no-training.sh` is not imported: no command of it starts a training"),
        ("not-nemo.yaml", "error[LTRL077]: `not-nemo.yaml` is not imported: no installed engine knows it\n"),
        ("absent.sh", "error[LTRL001]: cannot read `absent.sh`: no such file or directory\n"),
    ],
)
def test_a_file_that_is_none_is_refused(file: str, expected: str) -> None:
    done = ltrl("import", file, cwd=FILES)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(expected)


def test_a_script_is_read_and_never_run(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    (tmp_path / "run.sh").write_text(
        f"touch {witness}\nX=$(touch {witness})\n: `touch {witness}` $((1 + $(touch {witness} | wc -l)))\n"
        f"trap 'touch {witness}' EXIT\neval \"touch {witness}\"\nsource <(touch {witness}; echo)\n"
        f"python3 train.py --lr $(touch {witness}; echo 1) --hf-checkpoint Qwen/Qwen3-4B\n"
    )
    import_file(tmp_path / "run.sh", project=tmp_path)
    assert not witness.exists()


def test_variables_arrays_defaults_and_sourced_files_are_filled_in(tmp_path: Path) -> None:
    (tmp_path / "more.sh").write_text("MORE=(--from-more 1)\n")
    text = (
        'HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"\nsource "$HERE/more.sh"\nA=1\nB="${A}2"\nB+=3\n'
        'ARGS=(--a $A  # why\n  --b "$B c" \'$A\' --d=${D:-4}\n)\nARGS+=(--e "${UNSET}")\n'
        'for x in one two; do echo "$x"; done\nif true; then C=5; fi\ncat <<EOF\n--not-a-flag\nEOF\n'
        'python train.py "${ARGS[@]}" ${MORE[*]} \\\n  --c $C ${NONE[@]} "a\\"b" \\$x\n'
    )
    script = parse(Source(str(tmp_path / "run.sh"), text))
    assert script.problems == []
    assert [word.text for word in script.commands[-1].words] == [
        "python", "train.py", "--a", "1", "--b", "123 c", "$A", "--d=4", "--e", "${UNSET}", "--from-more", "1",
        "--c", "5", "${NONE[@]}", 'a"b', "$x",
    ]  # fmt: skip
    assert [word.unknown for word in script.commands[-1].words if word.unknown] == [("${UNSET}",), ("${NONE[@]}",)]
    assert str(script.commands[-1].words[5].position).endswith("run.sh:7:7")


@pytest.mark.parametrize(
    ("lines", "is_open"),
    [
        ("if [ $BIG = 1 ]; then A+=(--seed 32)\nelse A+=(--seed 64); fi\n", True),
        ("if [ $BIG = 1 ]; then A+=(--seed 32)\nelif x; then A+=(--seed 64); fi\n", True),
        ("case $BIG in 1) A+=(--seed 32);;\n*) A+=(--seed 64);; esac\n", True),
        ("A+=(--seed 32)\n[ $BIG = 1 ] && A+=(--seed 64)\n", True),
        ("if [ $BIG = 1 ]; then A+=(--seed 32); fi\nA+=(--seed 64)\n", False),
        ("if [ $BIG = 1 ]; then A+=(--seed 32)\nA+=(--seed 64); fi\n", False),
    ],
)
def test_a_flag_of_another_branch_is_not_called_overwritten(tmp_path: Path, lines: str, is_open: bool) -> None:
    command = 'if true; then python3 train.py --hf-checkpoint Qwen/Qwen3-4B "${A[@]}"; fi\n'
    (tmp_path / "run.sh").write_text(f"set -e\n{lines}{command}")
    found = import_file(tmp_path / "run.sh", project=tmp_path)
    rows = [(row.setting, row.grade, row.note) for row in found.imported.rows if "--seed" in row.setting]
    said = [d.message for d in found.diagnostics if "--seed" in d.message]
    if is_open:
        assert rows == [
            ("--seed 32", "closest", "the script decides when it runs; `--seed 64` was taken"),
            ("--seed 64", "closest", "the script decides when it runs; line 2 says `--seed 32`"),
        ]
        assert said == ["the script decides when it runs between `--seed 32` and `--seed 64`; the second was taken"]
    else:
        assert rows == [("--seed 32", "not expressible", "given again at line 3"), ("--seed 64", "exact", "")]
        assert said == ["`--seed 32` has no effect: line 3 says `--seed 64`"]


def test_a_script_that_sources_itself_or_a_device_ends(tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_text(
        "source ./run.sh\nsource run.sh\nsource /dev/zero\nsource /dev/null/x\npython train.py --lr 1e-6\n"
    )
    said = [d.message for d in import_file(tmp_path / "run.sh", project=tmp_path).diagnostics]
    assert [m.removeprefix("the file that is sourced here is not read: ") for m in said[:4]] == [
        "`./run.sh` leads back to itself",
        "`run.sh` leads back to itself",
        "`/dev/zero` is no file",
        "cannot read `/dev/null/x`: not a directory",
    ]


def test_what_only_a_run_could_tell_is_named_with_its_field(project: Path) -> None:
    found = json.loads(ltrl("import", "imports/train-deepseek-8b.sh", "--json", cwd=project).stdout)
    [row] = [row for row in found["rows"] if row["setting"] == "--lr ${LEARNING_RATE}"]
    assert (row["grade"], row["field"]) == ("not expressible", "optimizer.lr")
    assert row["note"] == "`${LEARNING_RATE}` is known only when the script runs"
    assert found["is_complete"] is False
    done = ltrl("import", "imports/train-deepseek-8b.sh", "--set", "optimizer.lr=1e-6", cwd=project)
    assert "missing field" not in done.stderr
    assert "lr: 1e-6" in done.stdout


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${b.c}", 3), ("${.sibling}", 5), ("${mul:${b.c}, 4}", 12), ("${div:10, 4}", 2.5), ("${div:8,4}", 2),
        ("${max:1,2}", 2), ("x-${b.c}-y", "x-3-y"), ("\\${b.c}", "${b.c}"), ("${b}", {"c": 3}), ("${d}", 12),
        ("${mul:2}", "${mul:2}"), ("${div:1}", "${div:1}"), ("${max:1}", "${max:1}"), ("${mul:1,2,3}", "${mul:1,2,3}"),
        ("${add:1,2,3}", 6), ("${oc.env:HOME}", "${oc.env:HOME}"), ("${nowhere}", "${nowhere}"), ("${loop}", "${loop}"),
    ],
)  # fmt: skip
def test_interpolations_are_worked_out_or_stay(text: str, value: object) -> None:
    from ltrl.source import parse as document_of
    from ltrl_backends.nemo_rl.imports.interpolation import interpolated

    source = f"a: {{x: {json.dumps(text)}, sibling: 5}}\nb: {{c: 3}}\nd: '${{mul:${{b.c}},4}}'\nloop: '${{loop}}'\n"
    document = document_of(Source("c.yaml", source))
    said: list[str] = []
    found = interpolated(document.data, document.at, lambda d: said.append(d.message))
    assert found["a"]["x"] == value
    assert any(f"`{text}`" in message for message in said) == (value == text)


def test_mistakes_are_told_at_the_file_that_is_written(project: Path) -> None:
    done = ltrl("import", "imports/nemo-child.yaml", "-o", "specs/m.yaml", cwd=project)
    assert done.returncode == 1
    assert set(re.findall(r"--> specs/(\S+?):", done.stderr)) == {"m.yaml"}


def test_a_validation_period_below_zero_is_none(project: Path) -> None:
    config = yaml.safe_load((FILES / "nemo-parent.yaml").read_text())
    config["grpo"]["val_period"] = -1
    (project / "off.yaml").write_text(yaml.safe_dump(config))
    found = import_file(project / "off.yaml", project=project)
    [row] = [row for row in found.imported.rows if row.key == "grpo.val_period"]
    assert (row.grade, row.value, row.note) == ("exact", 0, "below 0 as 0: never")


def test_what_could_not_be_compared_is_not_called_inexpressible(project: Path) -> None:
    config = yaml.safe_load((FILES / "nemo-parent.yaml").read_text())
    config["policy"]["model_name"] = "me/unheard-of"
    (project / "unknown.yaml").write_text(yaml.safe_dump(config))
    done = ltrl("import", "unknown.yaml", "--json", cwd=project)
    found = json.loads(done.stdout)
    assert {row["grade"] for row in found["rows"]} == {"not compared"}
    assert [row["value"] for row in found["rows"] if row["field"] == "model.base"] == ["me/unheard-of"]
    [why] = [d["message"] for d in found["diagnostics"] if "cannot be compared" in d["message"]]
    assert why.endswith("unknown model `me/unheard-of`")
    done = ltrl("import", "unknown.yaml", cwd=project)
    count = len(found["rows"])
    assert f"\n{count} settings: 0 exact, 0 closest, 0 not expressible, {count} not compared" in done.stderr


@pytest.mark.parametrize("value", ["abc", "", "0", "-1", "1.5", "1e400", "{a: b", "'", "\\", "${X}", "$(x)", "é€"])
def test_no_value_of_a_flag_is_a_bug(tmp_path: Path, value: str) -> None:
    text = (FILES / "train-dense-4b.sh").read_text()
    names = sorted(set(re.findall(r"--[a-z0-9-]+", text)) | set(flags.FLAGS) | set(by_hand.BY_HAND) | importer._LATER)
    quoted = value if value.startswith("$") else shlex.quote(value)
    given = " ".join(f"{name} {quoted}" for name in names if name != "--hf-checkpoint")
    (tmp_path / "run.sh").write_text(f"set -e\npython3 train.py --hf-checkpoint Qwen/Qwen3-4B {given}\n")
    draft = import_file(tmp_path / "run.sh", project=tmp_path)
    assert {row.setting.split(" ")[0] for row in draft.imported.rows} >= set(names)


def test_no_value_of_a_configuration_is_a_bug(tmp_path: Path) -> None:
    parent = (FILES / "nemo-parent.yaml").read_text()
    for odd in ("3", "text", "[1, {a: 2}]", "{a: {b: c}}", "null", "true", "''", '"${x"', '"${mul:a,b}"', "1.5", "-1"):
        for block in ("policy", "grpo", "policy.megatron_cfg", "data", "env", "logger", "checkpointing"):
            (tmp_path / "parent.yaml").write_text(parent)
            steps = block.split(".")
            text = "\n".join(f"{'  ' * i}{step}:" for i, step in enumerate(steps)) + f" {odd}\n"
            (tmp_path / "child.yaml").write_text(f"defaults: parent.yaml\n{text}")
            with suppress(LtrlError):
                import_file(tmp_path / "child.yaml", project=tmp_path)
        leaves = "\n".join(re.sub(r": [^:{]+$", f": {odd}", line) for line in parent.splitlines())
        (tmp_path / "leaves.yaml").write_text(leaves + "\n")
        with suppress(LtrlError):
            import_file(tmp_path / "leaves.yaml", project=tmp_path)
