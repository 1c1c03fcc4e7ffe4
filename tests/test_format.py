"""`ltrl fmt`: one form, every comment kept, the meaning untouched."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ltrl.compile import prepare
from ltrl.errors import LtrlError, Source
from ltrl.format import format_text
from ltrl.source import parse

ROOT = Path(__file__).resolve().parent.parent
LTRL = "import sys; sys.argv[0] = 'ltrl'; from ltrl.cli import main; main()"
SHIPPED = sorted((ROOT / "specs").rglob("*.yaml"))


def formatted(text: str) -> str:
    return format_text(Source("spec.yaml", text))


def ltrl(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-W", "error", "-c", LTRL, *map(str, arguments)]
    return subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False)


UGLY, TIDY = (text.replace("·", " ") for text in ("""\
# top comment

name: x
kind: experiment   #the kind


# about the optimizer
optimizer:
    # why so low
    lr: 2e-6     # lr
    betas:   [ 0.9,0.98 ]
model:
      context: { response: 32768,   prompt: 131072 }   # sizes
      # the base
      base:   Qwen/Qwen3-4B-Thinking-2507
      # inside model, at its end
# about data
data:
   train:
      path: a
      backend: longtrace
   validation: {}
description: >-
    folded text
      here··


    more
reward: {backend: outcome,
   judge: exact}
algorithm: {steps: 3}
extends:
- a.yaml
- b.yaml   # second
engine:
   name: nemo-rl
   overrides:
      policy.x: |
         literal···
         # not a comment
# tail
""", """\
# top comment

kind: experiment  # the kind
extends:
  - a.yaml
  - b.yaml  # second
name: x
description: >-
    folded text
      here··


    more
model:
  # the base
  base: Qwen/Qwen3-4B-Thinking-2507
  context: {prompt: 128k, response: 32k}  # sizes
  # inside model, at its end
# about data
data:
  train:
    backend: longtrace
    path: a
  validation: {}
reward: {backend: outcome, judge: exact}
algorithm: {steps: 3}

# about the optimizer
optimizer:
  # why so low
  lr: 2e-6  # lr
  betas: [0.9, 0.98]
engine:
  name: nemo-rl
  overrides:
    policy.x: |
       literal···
       # not a comment
# tail
"""))  # fmt: skip


def test_a_file_gets_its_one_form() -> None:
    assert formatted(UGLY) == TIDY
    assert formatted(TIDY) == TIDY


@pytest.mark.parametrize("spec", SHIPPED, ids=lambda p: p.stem)
def test_shipped_files_have_it(spec: Path) -> None:
    assert formatted(spec.read_text()) == spec.read_text()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model:\n  context: {prompt: 131072}\n", "model:\n  context: {prompt: 128k}\n"),
        ("model:\n  context: {prompt: 1048576}\n", "model:\n  context: {prompt: 1m}\n"),
        ("model:\n  context: {prompt: 32000}\n", "model:\n  context: {prompt: 32000}\n"),
        ("model:\n  context: {prompt: '131072'}\n", "model:\n  context: {prompt: '131072'}\n"),
        ("algorithm: {steps: 1024}\n", "algorithm: {steps: 1024}\n"),
        ("engine: {name: nemo-rl, overrides: {b: 1, a: 2}}\n", "engine: {name: nemo-rl, overrides: {b: 1, a: 2}}\n"),
        ("algorithm: {nope: 1, steps: 2}\n", "algorithm: {steps: 2, nope: 1}\n"),
        ("\ufeffname: a\r\nkind: experiment\r\n", "kind: experiment\nname: a\n"),
        ("name: a", "name: a\n"),
        ("minutes: 1\nkind: cluster\nexecutor: slurm\n", "kind: cluster\nexecutor: slurm\nminutes: 1\n"),
        ("kind: other\nb: 1\na:   2\n", "kind: other\nb: 1\na: 2\n"),
    ],
)
def test_units_order_and_line_ends(text: str, expected: str) -> None:
    assert formatted(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "model: &m {base: x}\nkind: experiment\nreward: *m\n",
        "name: |+\n  a\n\n\nkind: experiment\n",
        "kind: experiment\nname: |\n  a",
        "? kind\n: experiment\nname: a\n",
        "{name: a, kind: experiment}\n",
    ],
)
def test_files_whose_form_carries_meaning_stay_as_they_are(text: str) -> None:
    assert formatted(text) == text


def test_formatting_changes_no_fingerprint(tmp_path: Path) -> None:
    for spec in (ROOT / "specs").glob("*.yaml"):
        lines = spec.read_text().replace("128k", "131072").splitlines()
        messy = tmp_path / "specs" / spec.name
        messy.parent.mkdir(exist_ok=True)
        messy.write_text("\n\n\n".join(line.replace("  #", "     #") for line in lines))
        (tmp_path / "tidy.yaml").write_text(formatted(messy.read_text()))
        cluster = None if spec.stem == "quickstart" else str(ROOT / "specs/clusters/slurm.yaml")
        after = prepare(tmp_path / "tidy.yaml", cluster=cluster).resolved.fingerprint
        assert after == prepare(spec).resolved.fingerprint


COMMENTS = st.sampled_from(["", "  # note", "   #note", "  # a: b"])
ABOVE = st.sampled_from(["", "", "# above\n", "\n", "\n\n# above\n\n", "#! x\n", "    # deep\n"])
SCALARS = st.sampled_from(
    [
        *["1", "131072", "text", '"a # b"', "'it''s'", "null", "", "2e-6", "[1, 2]", "{b: 1,a: 2}", "[ a,b ,]", "a#b"],
        *["[a,\n      b]", "{backend: x,  # c\n      z: 1}", '"two\n      lines"', "|\n{i}  a\n\n\n{i}   b"],
        ">-\n{i}  x\n{i}  y",
    ]
)
NAMES = ["kind", "name", "model", "data", "reward", "prompt", "context", "base", "zzz", "train", '"quoted"', "b-c"]


@st.composite
def documents(draw: st.DrawFn, indent: int = 0, depth: int = 0) -> str:
    step = draw(st.sampled_from([1, 2, 4]))
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=5, unique=True))
    lines = []
    for name in names:
        pad = " " * indent
        lead = draw(ABOVE)
        lines.append("".join(pad + line if line.strip() else line for line in lead.splitlines(keepends=True)))
        if depth < 3 and draw(st.booleans()):
            inner = draw(documents(indent=indent + step, depth=depth + 1))
            lines.append(f"{pad}{name}:{draw(COMMENTS)}\n{inner}")
        elif draw(st.integers(0, 4)) == 0:
            values = draw(st.lists(st.sampled_from(["a", "1", "[x,y]"]), min_size=1, max_size=3))
            items = "".join(f"{pad}- {value}{draw(COMMENTS)}\n" for value in values)
            lines.append(f"{pad}{name}:\n{items}")
        else:
            value = draw(SCALARS).replace("{i}", pad)
            comment = draw(COMMENTS) if "\n" not in value else ""
            lines.append(f"{pad}{name}: {value}{comment}\n")
    return "".join(lines)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(documents(), st.sampled_from(["", "# tail\n", "\n\n", "    # deep tail\n"]))
def test_the_form_is_stable_and_the_meaning_the_same(text: str, tail: str) -> None:
    text += tail
    try:
        before = parse(Source("a", text)).data
    except LtrlError:
        return
    once = formatted(text)  # asserts on its own that no comment is lost
    assert formatted(once) == once
    after = parse(Source("a", once)).data

    def lengths(data: object) -> object:
        if isinstance(data, dict):
            return {k: lengths(v) for k, v in data.items()}
        return 131072 if data == "128k" else data

    assert lengths(after) == lengths(before)
    assert all(line == line.rstrip() for line in once.splitlines() if "|" not in once and ">" not in once)


def test_files_are_named_and_written_in_one_step(tmp_path: Path) -> None:
    (tmp_path / "ugly.yaml").write_text(UGLY)
    (tmp_path / "tidy.yaml").write_text(TIDY)
    (tmp_path / "ugly.yaml").chmod(0o640)
    (tmp_path / "link.yaml").symlink_to("ugly.yaml")
    done = ltrl("fmt", "ugly.yaml", "tidy.yaml", "--check", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (1, "ugly.yaml\n", "")
    assert (tmp_path / "ugly.yaml").read_text() == UGLY
    done = ltrl("fmt", "link.yaml", "tidy.yaml", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "link.yaml\n", "")
    assert (tmp_path / "ugly.yaml").read_text() == TIDY
    assert (tmp_path / "link.yaml").is_symlink()
    assert (tmp_path / "ugly.yaml").stat().st_mode & 0o777 == 0o640
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link.yaml", "tidy.yaml", "ugly.yaml"]
    done = ltrl("fmt", "ugly.yaml", "--check", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_broken_files_are_refused_as_everywhere_and_the_others_formatted(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("kind: experiment\nname: [a\n")
    (tmp_path / "twice.yaml").write_text("name: a\nname: b\n")
    (tmp_path / "good.yaml").write_text("name:   a\n")
    done = ltrl("fmt", "broken.yaml", "twice.yaml", "good.yaml", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == "good.yaml\n"
    assert done.stderr.count("error[") == 2
    assert "error[LTRL003]" in done.stderr
    assert "error[LTRL004]: `name` is written twice" in done.stderr
    assert (tmp_path / "broken.yaml").read_text() == "kind: experiment\nname: [a\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name:   a\n")
    tmp_path.chmod(0o555)
    try:
        assert "error[LTRL032]" in ltrl("fmt", "a.yaml", cwd=tmp_path).stderr
    finally:
        tmp_path.chmod(0o755)
