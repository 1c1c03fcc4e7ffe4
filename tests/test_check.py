"""`ltrl check` for programs: JSON, SARIF, GitHub's workflow commands, and pre-commit."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.parse
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from ltrl.check import check

ROOT = Path(__file__).resolve().parent.parent
SPECS = ROOT / "specs"
LTRL = "import sys; sys.argv[0] = 'ltrl'; from ltrl.cli import main; main()"
BROKEN = (SPECS / "quickstart.yaml").read_text() + "rollout: {temprature: 100%, top_p: 2}\nname: again, and again\n"

# What SARIF 2.1.0 asks of the parts that we write (OASIS, sections 3.13 to 3.34).
POSITIVE = {"type": "integer", "minimum": 1}
SARIF: dict[str, Any] = {
    "type": "object",
    "required": ["version", "runs"],
    "properties": {
        "$schema": {"type": "string", "format": "uri"},
        "version": {"const": "2.1.0"},
        "runs": {"type": "array", "items": {"$ref": "#/$defs/run"}},
    },
    "additionalProperties": False,
    "$defs": {
        "run": {
            "type": "object",
            "required": ["tool", "results"],
            "properties": {
                "tool": {
                    "type": "object",
                    "required": ["driver"],
                    "properties": {"driver": {"$ref": "#/$defs/driver"}},
                    "additionalProperties": False,
                },
                "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                "results": {"type": "array", "items": {"$ref": "#/$defs/result"}},
            },
            "additionalProperties": False,
        },
        "driver": {
            "type": "object",
            "required": ["name"],
            "properties": {
                "name": {"type": "string"},
                "semanticVersion": {"type": "string"},
                "rules": {
                    "type": "array",
                    "uniqueItems": True,
                    "items": {
                        "type": "object",
                        "required": ["id"],
                        "properties": {
                            "id": {"type": "string"},
                            "name": {"type": "string"},
                            "shortDescription": {"$ref": "#/$defs/message"},
                        },
                        "additionalProperties": False,
                    },
                },
            },
            "additionalProperties": False,
        },
        "message": {
            "type": "object",
            "required": ["text"],
            "properties": {"text": {"type": "string", "minLength": 1}},
            "additionalProperties": False,
        },
        "location": {
            "type": "object",
            "properties": {
                "id": {"type": "integer", "minimum": 0},
                "message": {"$ref": "#/$defs/message"},
                "physicalLocation": {
                    "type": "object",
                    "required": ["artifactLocation"],
                    "properties": {
                        "artifactLocation": {
                            "type": "object",
                            "properties": {"uri": {"type": "string"}, "uriBaseId": {"type": "string"}},
                            "additionalProperties": False,
                        },
                        "region": {
                            "type": "object",
                            "required": ["startLine"],
                            "properties": {"startLine": POSITIVE, "startColumn": POSITIVE, "endColumn": POSITIVE},
                            "additionalProperties": False,
                        },
                    },
                    "additionalProperties": False,
                },
                "logicalLocations": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {"fullyQualifiedName": {"type": "string"}, "kind": {"type": "string"}},
                        "additionalProperties": False,
                    },
                },
            },
            "additionalProperties": False,
        },
        "result": {
            "type": "object",
            "required": ["message"],
            "properties": {
                "ruleId": {"type": "string"},
                "ruleIndex": {"type": "integer", "minimum": 0},
                "level": {"enum": ["none", "note", "warning", "error"]},
                "message": {"$ref": "#/$defs/message"},
                "locations": {"type": "array", "items": {"$ref": "#/$defs/location"}},
                "relatedLocations": {"type": "array", "items": {"$ref": "#/$defs/location"}},
            },
            "additionalProperties": False,
        },
    },
}


def ltrl(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-c", LTRL, *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "120"}
    return subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False, env=environment)


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A project with a broken spec whose name needs care in every format."""
    (tmp_path / "a b, c%.yaml").write_text(BROKEN)
    return tmp_path


def test_sarif_has_a_rule_for_each_code_and_a_result_for_each_mistake(broken: Path) -> None:
    done = ltrl("check", "a b, c%.yaml", "--set", "algorithm.stepz=3", "--sarif", cwd=broken)
    assert (done.returncode, done.stderr) == (1, "")
    log = json.loads(done.stdout)
    jsonschema.Draft202012Validator(SARIF).validate(log)
    [run] = log["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert rules == ["LTRL004", "LTRL012", "LTRL014"]
    assert all(rules[result["ruleIndex"]] == result["ruleId"] for result in run["results"])
    by_message = {result["message"]["text"].splitlines()[0]: result for result in run["results"]}
    found = by_message["unknown field `temprature` in `rollout`"]
    where = found["locations"][0]["physicalLocation"]
    assert urllib.parse.unquote(where["artifactLocation"]["uri"]) == "a b, c%.yaml"
    assert " " not in where["artifactLocation"]["uri"]
    line = BROKEN.splitlines()[where["region"]["startLine"] - 1]
    assert line[where["region"]["startColumn"] - 1 : where["region"]["endColumn"] - 1] == "temprature"
    [argument] = by_message["unknown field `stepz` in `algorithm`"]["locations"]
    assert argument == {"logicalLocations": [{"fullyQualifiedName": "algorithm.stepz=3", "kind": "argument"}]}
    twice = next(r for r in run["results"] if r["ruleId"] == "LTRL004")
    assert twice["relatedLocations"][0]["message"] == {"text": "first written here"}


def test_sarif_of_good_specs_is_an_empty_log(tmp_path: Path) -> None:
    done = ltrl("check", SPECS / "quickstart.yaml", "--sarif", cwd=tmp_path)
    log = json.loads(done.stdout)
    jsonschema.Draft202012Validator(SARIF).validate(log)
    assert (done.returncode, log["runs"][0]["results"]) == (0, [])


def test_workflow_commands_say_file_line_and_column_as_github_reads_them(broken: Path) -> None:
    done = ltrl("check", "a b, c%.yaml", "--set", "algorithm.stepz=3", "--github", cwd=broken)
    assert (done.returncode, done.stderr) == (1, "")
    commands = []
    for line in done.stdout.splitlines():
        match = re.fullmatch(r"::(error|warning) ([^:]*)::(.*)", line)
        assert match, line
        properties = dict(pair.split("=", 1) for pair in match[2].split(","))
        commands.append((match[1], {k: unescaped(v) for k, v in properties.items()}, unescaped(match[3])))
    number = len(BROKEN.splitlines()) - 1
    place = {"title": "LTRL014", "file": "a b, c%.yaml", "line": str(number), "col": "11", "endColumn": "21"}
    message = "unknown field `temprature` in `rollout`\nhint: did you mean `temperature`?"
    assert ("error", place, message) in commands
    said = [text for _, properties, text in commands if "file" not in properties]
    assert said == ["unknown field `stepz` in `algorithm`\nhint: did you mean `steps`?\nin `--set algorithm.stepz=3`"]


def unescaped(text: str) -> str:
    """What GitHub's runner makes of a command (actions/runner, `ActionCommand.UnescapeData`)."""
    for escape, character in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        text = text.replace(escape, character)
    return text


def test_a_warning_is_no_mistake(tmp_path: Path) -> None:
    layout = "parallelism={tensor: 1, pipeline: 1, context: 1, expert: 1}"
    for option in ("--json", "--github", "--sarif"):
        done = ltrl("check", SPECS / "qwen30b_moe.yaml", "--set", layout, option, cwd=tmp_path)
        assert done.returncode == 0
        assert "LTRL025" in done.stdout


def test_two_formats_at_once_are_wrong_usage(tmp_path: Path) -> None:
    assert ltrl("check", SPECS / "quickstart.yaml", "--json", "--sarif", cwd=tmp_path).returncode == 2


def test_the_hook_checks_many_files_of_all_kinds_in_one_call(tmp_path: Path) -> None:
    [hook] = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert (hook["id"], hook["language"], hook["types"]) == ("ltrl-check", "python", ["yaml"])
    program, *arguments = hook["entry"].split()
    assert program == "ltrl"
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = [ROOT / f for f in listed.splitlines() if re.search(hook["files"], f) and f.endswith((".yaml", ".yml"))]
    assert SPECS / "clusters" / "slurm.yaml" in files
    done = ltrl(*arguments, *files, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "".join(f"{file}: ok\n" for file in files)
    (tmp_path / "broken.yaml").write_text("kind: cluster\nexecutor: slurn\n")
    done = ltrl(*arguments, *files, "broken.yaml", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("error[")) == (1, 1)


def test_a_mistake_that_specs_share_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text((SPECS / "quickstart.yaml").read_text() + "rolout: {}\n")
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text("extends: base.yaml\n")
    done = ltrl("check", "a.yaml", "b.yaml", cwd=tmp_path)
    assert done.stderr.count("error[LTRL014]") == 1


def test_the_time_for_many_specs_grows_with_their_number(tmp_path: Path) -> None:
    text = (SPECS / "qwen30b_moe.yaml").read_text()
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "clusters").symlink_to(SPECS / "clusters")
    paths = [tmp_path / "specs" / f"{i}.yaml" for i in range(60)]
    for i, path in enumerate(paths):
        path.write_text(text.replace("name: qwen30b", f"name: n{i}").replace("steps: 200", f"steps: {200 + i}"))
    assert check(paths[0]) == ()  # loads what is loaded once

    def seconds(number: int) -> float:
        start = time.process_time()
        for path in paths[:number]:
            assert check(path) == ()
        return time.process_time() - start

    few, many = min(seconds(15) for _ in range(3)), min(seconds(60) for _ in range(2))
    assert many < 4 * few * 1.6
