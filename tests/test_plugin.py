"""A stranger's package beside the wheel, in a clean environment: what docs/plugins.md says, done."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from ltrl.payload import pack
from ltrl_backends.nemo_rl.container import CONTAINER

ROOT = Path(__file__).resolve().parent.parent


def block(language: str, page: str = "plugins.md") -> str:
    text = (ROOT / "docs" / page).read_text()
    [found] = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    return found


def run(*argv: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [str(a) for a in argv]
    return subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel of ltrl, what it depends on, and the package of docs/plugins.md."""
    here = tmp_path_factory.mktemp("clean")
    plugin = here / "plugin"
    plugin.mkdir()
    (plugin / "terse_reward.py").write_text(block("python"))
    (plugin / "pyproject.toml").write_text(block("toml"))
    benchmark = here / "benchmark"
    benchmark.mkdir()
    (benchmark / "last_words.py").write_text(block("python", "evaluation.md"))
    (benchmark / "pyproject.toml").write_text(block("toml", "evaluation.md"))
    built = run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", here / "dist", ROOT, cwd=here)
    assert built.returncode == 0, built.stderr
    venv.create(here / "env", with_pip=True)
    [wheel] = (here / "dist").glob("ltrl-*.whl")
    constraints = ROOT / "constraints.txt"
    pip = [here / "env/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    installed = run(*pip, "--constraint", constraints, wheel, plugin, benchmark, cwd=here)
    assert installed.returncode == 0, installed.stderr
    return here


def test_a_foreign_reward_is_used_by_name(clean: Path) -> None:
    ltrl = clean / "env/bin/ltrl"
    change = ["--set", "reward.backend=terse", "--set", "reward.per_character=0.01"]
    made = run(ltrl, "compile", ROOT / "specs/quickstart.yaml", *change, "--json", cwd=clean)
    assert made.returncode == 0, made.stderr
    lock = json.loads(made.stdout)
    assert lock["backends"]["reward.terse"] == {"distribution": "terse-reward", "version": "1.0"}
    assert "the embedded engine needs" in made.stderr
    assert "pip install 'ltrl[local]'" in made.stderr
    listed = json.loads(run(ltrl, "backends", "--json", cwd=clean).stdout)
    assert [b["distribution"] for b in listed if b["name"] == "terse"] == ["terse-reward"]
    schema = run(ltrl, "schema", cwd=clean).stdout
    assert "Taken off for each character of the answer." in schema


def test_its_options_are_checked_like_our_own(clean: Path) -> None:
    change = ["--set", "reward.backend=terse", "--set", "reward.per_caracter=0.01"]
    failed = run(clean / "env/bin/ltrl", "check", ROOT / "specs/quickstart.yaml", *change, cwd=clean)
    assert failed.returncode == 1
    assert failed.stdout == ""
    assert failed.stderr == (
        "error[LTRL014]: unknown field `per_caracter` in `reward`\n"
        "  --> --set:1:8\n"
        "   |\n"
        " 1 | reward.per_caracter=0.01\n"
        "   |        ^^^^^^^^^^^^\n"
        "hint: did you mean `per_character`?\n"
    )


def test_it_scores(clean: Path) -> None:
    code = """
from ltrl.backend import load
from ltrl.scoring import ScoreRequest, parse_response
Terse = load("reward", "terse")
reward = Terse(Terse.Options.model_validate({"backend": "terse", "per_character": 0.01}))
texts = ["<think>\\n t\\n</think>\\n\\nDuro", "<think>\\n t\\n</think>\\n\\nBado"]
parsed = [parse_response(t + "<|im_end|>", chat_format="qwen3") for t in texts]
requests = [ScoreRequest("g", "q", "Duro", ("Kime",), response) for response in parsed]
print(reward.rewards(reward.score(requests)))
"""
    done = run(clean / "env/bin/python", "-c", code, cwd=clean)
    assert (done.stdout, done.stderr) == ("[0.96, 0.0]\n", "")


def test_a_foreign_benchmark_of_forty_lines_asks_and_grades(clean: Path) -> None:
    assert len(block("python", "evaluation.md").splitlines()) <= 40
    spec = clean / "eval.yaml"
    spec.write_text(
        "kind: evaluation\nname: mine\nmodel: {base: m, chat_format: plain, context: {prompt: 4k, response: 64}}\n"
        "benchmarks:\n  mine: {backend: last-words, words: 20, sampels: 2}\n"
    )
    failed = run(clean / "env/bin/ltrl", "check", spec, cwd=clean)
    assert failed.returncode == 1
    assert "unknown field `sampels` in `benchmarks.mine`" in failed.stderr
    assert "eval.yaml:5:42" in failed.stderr
    spec.write_text(spec.read_text().replace("sampels", "samples"))
    assert run(clean / "env/bin/ltrl", "check", spec, cwd=clean).returncode == 0
    code = """
from ltrl.backend import load
from ltrl.benchmark import Answered
LastWords = load("benchmark", "last-words")
made = LastWords(LastWords.Options.model_validate({"backend": "last-words", "words": 20}))
first, *rest = made
print(len(rest), [o.score for o in made.grade([Answered(first, f"They are {first.label}."), Answered(first, "?")])])
"""
    done = run(clean / "env/bin/python", "-c", code, cwd=clean)
    assert (done.stdout, done.stderr) == ("49 [1.0, 0.0]\n", "")


def test_the_wheel_installs_no_generic_name(clean: Path) -> None:
    [site] = (clean / "env/lib").glob("python3.*/site-packages")
    for generic in ("backends", "templates", "specs", "tests", "tools"):
        assert not (site / generic).exists()
    assert (site / "ltrl_templates/slurm").is_dir()


def test_it_travels_in_a_bundle_to_a_job_that_has_neither_it_nor_ltrl(clean: Path) -> None:
    ltrl, spec = clean / "env/bin/ltrl", ROOT / "specs/qwen30b_moe.yaml"
    plain = run(ltrl, "compile", spec, "-o", "plain", cwd=clean)
    assert plain.returncode == 0, plain.stderr
    from_editable = pack((), provided=CONTAINER)[0].data
    assert (clean / "plain/payload.zip").read_bytes() == from_editable  # and this one is installed from a wheel
    made = run(ltrl, "compile", spec, "--set", "reward.backend=terse", "-o", "with", cwd=clean)
    assert made.returncode == 0, made.stderr
    job = clean / "job"
    venv.create(job, with_pip=True)
    pip = [job / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    installed = run(*pip, "--constraint", ROOT / "constraints.txt", "pydantic", "PyYAML", cwd=clean)
    assert installed.returncode == 0, installed.stderr
    code = "from ltrl.backend import backends, load; from ltrl_backends.nemo_rl import driver, dataset\n"
    code += "load('reward', 'rubric')\n"
    code += "print(load('reward', 'terse').__module__, sorted({b.distribution for b in backends()}))"
    environment = {"PYTHONPATH": str(clean / "with/payload.zip")}
    argv = [job / "bin/python", "-c", code]
    done = subprocess.run(argv, cwd=job, env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("terse_reward ['ltrl', 'terse-reward']\n", "")
