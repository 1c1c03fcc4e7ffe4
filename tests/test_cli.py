"""The command line as a person or a program meets it."""

from __future__ import annotations

import io
import json
import math
import os
import random
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from rich.console import Console

from ltrl.cli import show

ROOT = Path(__file__).resolve().parent.parent
QUICKSTART = ROOT / "specs" / "quickstart.yaml"
LTRL = "import sys; sys.argv[0] = 'ltrl'; from ltrl.cli import main; main()"


def ltrl(*arguments: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-W", "error", "-c", LTRL, *map(str, arguments)]
    return subprocess.run(
        argv, cwd=cwd, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "120", **environment}
    )


def test_help_names_every_command_and_loads_nothing_heavy(tmp_path: Path) -> None:
    done = ltrl("--help", cwd=tmp_path)
    assert done.returncode == 0
    for command in (
        "check",
        "plan",
        "compile",
        "diff",
        "submit",
        "submit",
        "resume",
        "status",
        "logs",
        "cancel",
        "why",
        "reindex",
        "mock",
        "report",
        "backends",
        "schema",
        "compare",
        "cluster",
    ):
        assert f"  {command} " in done.stdout
    code = "import sys\ntry:\n    import runpy; sys.argv = ['ltrl', '--help']; from ltrl.cli import main; main()\n"
    code += (
        "except SystemExit:\n    print(sorted({'pydantic', 'yaml', 'jinja2', 'submitit', 'torch'} & set(sys.modules)))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.splitlines()[-1] == "[]"


def test_a_mistake_is_shown_with_its_line_and_status_1(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(QUICKSTART.read_text() + "rollout:\n  temprature: 1.0\n")
    done = ltrl("check", "spec.yaml", cwd=tmp_path)
    line = len(QUICKSTART.read_text().splitlines()) + 2
    margin = " " * len(str(line))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "error[LTRL014]: unknown field `temprature` in `rollout`\n"
        f"  --> spec.yaml:{line}:3\n"
        f" {margin} |\n"
        f" {line} |   temprature: 1.0\n"
        f" {margin} |   ^^^^^^^^^^\n"
        "hint: did you mean `temperature`?\n"
    )


def test_mistakes_for_programs_are_json_on_stdout(tmp_path: Path) -> None:
    done = ltrl("check", QUICKSTART, "--set", "algorithm.stepz=3", "--json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert json.loads(done.stdout) == [
        {
            "code": "LTRL014",
            "severity": "error",
            "message": "unknown field `stepz` in `algorithm`",
            "file": "--set",
            "line": 1,
            "column": 11,
            "width": 5,
            "hint": "did you mean `steps`?",
        }
    ]


def test_wide_characters_keep_the_caret_in_place_and_escapes_do_not_reach_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(QUICKSTART.read_text() + '"中文\\e[31m": {x: 1}\n')
    done = ltrl("check", "spec.yaml", cwd=tmp_path)
    assert done.returncode == 1
    assert "\x1b" not in done.stderr
    assert "unknown field `中文�[31m` at the top level" in done.stderr
    line = len(QUICKSTART.read_text().splitlines()) + 1
    margin = " " * len(str(line))
    shown = f' {line} | "中文\\e[31m": {{x: 1}}\n {margin} | {"^" * 12}\n'  # each ideograph takes two cells
    assert shown in done.stderr


def test_several_specs_are_checked_at_once(tmp_path: Path) -> None:
    done = ltrl("check", QUICKSTART, ROOT / "specs" / "qwen4b.yaml", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout == f"{QUICKSTART}: ok\n{ROOT / 'specs' / 'qwen4b.yaml'}: ok\n"


def test_a_missing_spec_is_said_without_a_traceback(tmp_path: Path) -> None:
    done = ltrl("compile", "nothing.yaml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error[LTRL001]: cannot read `nothing.yaml`: no such file or directory\n"


def test_wrong_usage_has_status_2(tmp_path: Path) -> None:
    assert ltrl("compile", cwd=tmp_path).returncode == 2
    assert ltrl("compil", "x", cwd=tmp_path).returncode == 2


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    command = f'{sys.executable} -c "{LTRL}" schema | head -c 10'
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stderr == ""


@pytest.mark.parametrize("arguments", [["--version"], ["backends", "--json"], ["schema"]])
def test_a_full_disk_is_said_in_one_line(tmp_path: Path, arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-c", LTRL, *arguments]
        done = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "error[LTRL032]: cannot write the output: no space left on device\n")


def test_json_has_null_for_what_is_no_number(capsys: pytest.CaptureFixture[str]) -> None:
    show.json_({"a": math.nan, "b": [1.5, -math.inf, (math.inf,)], "c": "NaN"})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [1.5, None, [None]], "c": "NaN"}


def test_compile_prints_the_bundles_path_for_the_next_command(tmp_path: Path) -> None:
    done = ltrl("compile", QUICKSTART, cwd=tmp_path)
    assert done.returncode == 0
    path = done.stdout.strip()
    assert path.startswith("build/quickstart-")
    assert (tmp_path / path / "ltrl.lock.json").is_file()
    assert ltrl("compile", QUICKSTART, cwd=tmp_path).stderr.startswith("unchanged: ")


def test_plan_prints_its_numbers(tmp_path: Path) -> None:
    done = ltrl("plan", ROOT / "specs" / "qwen30b_moe.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for expected in ("30,532,122,624 parameters", "131,072 prompt + 32,768 response", "tp 4, pp 2, cp 4, dp 1, ep 16"):
        assert expected in done.stdout
    data = json.loads(ltrl("plan", ROOT / "specs" / "qwen30b_moe.yaml", "--json", cwd=tmp_path).stdout)
    assert data["layout"] == {"tp": 4, "pp": 2, "cp": 4, "ep": 16, "etp": 1, "dp": 1, "nodes": 4, "gpus_per_node": 8}
    assert data["batches"]["samples_per_step"] == 128


@pytest.mark.parametrize("kind", ["experiment", "cluster", "dataset"])
def test_the_schema_accepts_every_shipped_file(tmp_path: Path, kind: str) -> None:
    schema = json.loads(ltrl("schema", kind, cwd=tmp_path).stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    folder = ROOT / "specs" / {"experiment": "", "cluster": "clusters", "dataset": "data"}[kind]
    files = sorted(folder.glob("*.yaml"))
    assert files
    for path in files:
        jsonschema.validate(_numbers(yaml.safe_load(path.read_text())), schema)


def test_the_schema_refuses_what_check_refuses(tmp_path: Path) -> None:
    schema = json.loads(ltrl("schema", cwd=tmp_path).stdout)
    good = _numbers(yaml.safe_load(QUICKSTART.read_text()))
    for broken in (
        {**good, "stepz": 1},
        {**good, "engine": "locall"},
        {**good, "reward": {"backend": "rubric", "etaa": 1}},
        {**good, "algorithm": {**good["algorithm"], "group_size": 1}},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, schema)


def _numbers(data: object) -> dict[str, object]:
    """PyYAML reads `7e-4` as text; ltrl, like YAML 1.2, does not."""
    from ltrl.errors import Source
    from ltrl.source import parse

    return parse(Source("spec", yaml.safe_dump(data), "spec")).data


def test_generated_pages_are_in_step() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "docs.py", "--check"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_a_table_is_drawn_as_rich_draws_it() -> None:
    words = [
        "",
        "-",
        "12",
        "1,000.5",
        "12%",
        "some words",
        "日本",
        "x" * 60,
        "  a",
        "a  ",
        "[bold]x[/]",
        "\x1b[0m",
        "e\u0301",
    ]
    rng = random.Random(1)
    for _ in range(300):
        headers = [rng.choice(["", "run", "GPU-hours", "時間"]) for _ in range(rng.randint(1, 5))]
        rows = [[rng.choice(words) for _ in headers] for _ in range(rng.randint(0, 4))]
        title = rng.choice(["", "", "a title", "日"])
        drawn, expected = io.StringIO(), io.StringIO()
        show.table(headers, rows, title=title, to=drawn)
        Console(file=expected, width=show.WIDTH, highlight=False).print(show.cells(headers, rows, title=title))
        assert drawn.getvalue() == expected.getvalue()
