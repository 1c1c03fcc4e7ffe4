"""`kind: evaluation` and an experiment's `eval`: mistakes at their places, nothing imported without need."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from ltrl import source
from ltrl.check import check
from ltrl.errors import LtrlError
from ltrl.evaluation.subject import measurement, written
from ltrl.schema import schema

ROOT = Path(__file__).resolve().parent.parent

SPEC = """\
kind: evaluation
name: tiny
model:
  base: served
  chat_format: plain
  context: {prompt: 4k, response: 256}
endpoint: {base_url: "http://127.0.0.1:1/v1"}
benchmarks:
  needles: {backend: ruler, lengths: [1k], questions: 2}
"""


def spec(tmp_path: Path, text: str = SPEC) -> Path:
    path = tmp_path / "eval.yaml"
    path.write_text(text)
    return path


def told(path: Path) -> list[tuple[str, int, int, str, str | None]]:
    found = check(path)
    return [
        (d.code, d.position.line if d.position else 0, d.position.column if d.position else 0, d.message, d.hint)
        for d in found
    ]


def test_a_spec_says_all_that_is_measured(tmp_path: Path) -> None:
    found = measurement(written(spec(tmp_path)))
    assert (found.name, found.base, found.chat_format) == ("tiny", "served", "plain")
    assert (found.prompt, found.response, found.total) == (4096, 256, 4352)
    assert found.section.sampling.model_dump() == {
        "samples": 1, "temperature": 0.6, "top_p": 0.95, "top_k": 20, "seed": 0,
    }  # fmt: skip
    assert check(spec(tmp_path)) == ()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            ("questions: 2", "question: 2"),
            ("LTRL014", 9, 44, "unknown field `question` in `benchmarks.needles`", "did you mean `questions`?"),
        ),
        (
            ("backend: ruler", "backend: rulr"),
            ("LTRL015", 9, 22, "unknown benchmark backend `rulr`",
             ("did you mean `ruler`? installed benchmark backends: `aa-lcr`, `frames`, `longbench-v2`, `longreason`, "
             "`mrcr`, `ruler`, `samples`")),
        ),
        (
            ("plain", "plian"),
            ("LTRL012", 5, 16, "unknown chat format `plian`", "did you mean `plain`?"),
        ),
        (
            ("chat_format: plain", "chat_format: auto"),
            ("LTRL020", 4, 9, "unknown model `served`", None),
        ),
        (
            ("response: 256", "response: 256, total: 4k"),
            ("LTRL012", 6, 47, "`context.total` is 4096, less than prompt 4096 + response 256",
             "leave `total` out: it is the sum by default"),
        ),
        (
            ("name: tiny", "name: tiny\nserve: {tensor: 2}"),
            ("LTRL012", 3, 8, "`serve` does nothing with `endpoint`: leave one of them out", None),
        ),
    ],
)  # fmt: skip
def test_mistakes_are_told_at_their_place(
    tmp_path: Path, change: tuple[str, str], expected: tuple[str, int, int, str, str | None]
) -> None:
    [found] = told(spec(tmp_path, SPEC.replace(*change)))
    assert found[:3] == expected[:3]
    assert found[3].startswith(expected[3])
    assert expected[4] is None or found[4] == expected[4]


def test_the_eval_of_an_experiment_is_checked_like_any_section(tmp_path: Path) -> None:
    text = (ROOT / "specs/quickstart.yaml").read_text()
    path = spec(tmp_path, text + "eval:\n  benchmarks:\n    held: {backend: samples, data: entity-chain, measur: x}\n")
    [found] = told(path)
    line = len(text.splitlines()) + 3
    assert found[:4] == ("LTRL014", line, 50, "unknown field `measur` in `eval.benchmarks.held`")
    assert found[4] == "did you mean `measure`?"
    with pytest.raises(LtrlError, match="this experiment has no `eval`"):
        measurement(written(ROOT / "specs/quickstart.yaml"))


def test_a_spec_without_an_evaluation_imports_none_of_it() -> None:
    code = (
        "import sys; from ltrl.check import check; from pathlib import Path\n"
        f"assert check(Path({str(ROOT / 'specs/quickstart.yaml')!r})) == ()\n"
        "print([m for m in sys.modules if m.startswith(('ltrl.evaluation', 'ltrl.benchmark', 'numpy', 'httpx'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_schema_knows_evaluations(tmp_path: Path) -> None:
    validator = jsonschema.Draft202012Validator(schema("evaluation"))
    good = yaml.safe_load(SPEC)
    assert list(validator.iter_errors(good)) == []
    bad = json.loads(json.dumps(good))
    bad["benchmarks"]["needles"]["question"] = 2
    assert len(list(validator.iter_errors(bad))) == 1
    experiment = dict(source.load(ROOT / "specs/quickstart.yaml").data)
    of_experiment = jsonschema.Draft202012Validator(schema("experiment"))
    assert list(of_experiment.iter_errors({**experiment, "eval": {"benchmarks": good["benchmarks"]}})) == []
    assert len(list(of_experiment.iter_errors({**experiment, "eval": {"benchmarks": bad["benchmarks"]}}))) == 1
