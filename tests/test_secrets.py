"""A secret is a reference until the job needs it: it is in nothing that ltrl writes or prints."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ltrl.leaks import leaks
from ltrl.references import keeps_a_secret, names_a_secret

ROOT = Path(__file__).resolve().parent.parent
LTRL = "import sys; sys.argv[0] = 'ltrl'; from ltrl.cli import main; main()"
SECRET = "the-secret-that-nobody-may-see"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose judge and whose cluster profile need a key."""
    shutil.copytree(ROOT / "specs", tmp_path / "specs")
    (tmp_path / "key").write_text(f"{SECRET}\n")
    profile = "kind: cluster\nexecutor: local\nenvironment:\n  JUDGE_API_KEY: ${env:JUDGE_API_KEY}\n"
    profile += f"  HF_TOKEN: ${{file:{tmp_path}/key}}\nsetup: [exit 9]\n"
    (tmp_path / "here.yaml").write_text(profile)
    return tmp_path


def ltrl(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "JUDGE_API_KEY": SECRET, "LTRL_STATE_DIR": str(cwd / "state")}
    argv = [sys.executable, "-c", LTRL, *arguments]
    return subprocess.run(argv, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_a_secret_is_in_no_file_of_a_bundle_and_in_nothing_printed(project: Path) -> None:
    for command in (
        ("check", "specs/qwen4b.yaml"),
        ("plan", "specs/qwen4b.yaml", "--json"),
        ("compile", "specs/qwen4b.yaml", "-o", "bundle"),
        ("compile", "specs/qwen4b.yaml", "-o", "again", "--json"),
        ("submit", "bundle", "--dry-run", "--json"),
    ):
        done = ltrl(*command, cwd=project)
        assert done.returncode == 0, done.stderr
        assert SECRET not in done.stdout + done.stderr
    files = [path for path in (project / "bundle").rglob("*") if path.is_file()]
    assert "${env:JUDGE_API_KEY}" in (project / "bundle" / "resolved.json").read_text()
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]


def test_a_secret_is_in_no_file_of_a_run(project: Path) -> None:
    done = ltrl("submit", "specs/quickstart.yaml", "--cluster", "./here.yaml", "--watch", cwd=project)
    assert done.returncode == 3, done.stderr  # the setup ends it before it trains
    assert SECRET not in done.stdout + done.stderr
    written = [path for top in ("runs", "build", "state") for path in (project / top).rglob("*") if path.is_file()]
    assert any(path.name == "cause" for path in written)
    assert not [path for path in written if SECRET.encode() in path.read_bytes()]
    for command in (("status",), ("report",), ("logs", "quickstart")):
        done = ltrl(*command, cwd=project)
        assert SECRET not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "is_variable", "is_key"),
    [
        ("PGPASSWORD", True, True), ("api_key", True, True), ("X-Api-Key", True, True), ("HFTOKEN", True, True),
        ("aws.secret_access_key", True, True), ("headers.Authorization", True, True), ("token", True, True),
        ("WANDB_KEY", True, False), ("eos_token", True, False), ("pad_token", True, False), ("input_key", True, False),
        ("MONKEY", False, False), ("max_tokens", False, False), ("stop_token_ids", False, False),
        ("tokenizer", False, False), ("num_tokens", False, False), ("secretary", False, False),
    ],
)  # fmt: skip
def test_a_name_says_whether_it_holds_a_secret(name: str, is_variable: bool, is_key: bool) -> None:
    assert (names_a_secret(name), keeps_a_secret(name, "hunter2")) == (is_variable, is_key)
    assert not any(keeps_a_secret(name, value) for value in ("EMPTY", "none", "<token>"))


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("# aws_secret_access_key = " + "abcdEFGH/+" * 4, "abcdEFGH/+" * 4),
        ("description: wandb login --relogin " + "a1b2c3d4e5" * 4, "a1b2c3d4e5" * 4),
        ('headers: {Authorization: "Bearer hunter2secret"}', "hunter2secret"),
        ("the standard bearer 18th-century flag", ""),
        ("the Bearer authentication, and `Bearer ${env:NAME}`", ""),
        ("revision: " + "a1b2c3d4e5" * 4, ""),
    ],
)
def test_a_secret_is_known_by_the_words_before_it(text: str, hidden: str) -> None:
    assert "".join(text[leak.start : leak.end] for leak in leaks(text)) == hidden


def test_a_secret_in_a_section_that_takes_any_key_is_refused_and_covered(project: Path) -> None:
    body = '{api_key: hunter2, headers: {authorization: "${env:HOME}"}, eos_token: "<|im_end|>", input_key: problem}'
    done = ltrl("check", "specs/qwen4b.yaml", "--set", f"reward.judge.extra_body={body}", cwd=project)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert errors[0] == "error[LTRL028]: the secret `reward.judge.extra_body.api_key` is written out here"
    assert errors[1].startswith(
        "error[LTRL029]: `reward.judge.extra_body.headers.authorization` is there to hold a secret"
    )
    assert len(errors) == 2
    assert "hunter2" not in done.stdout + done.stderr


def test_a_secret_in_a_variable_needs_no_underscore_in_its_name(project: Path) -> None:
    (project / "here.yaml").write_text(
        "kind: cluster\nexecutor: local\nenvironment: {PGPASSWORD: hunter2, HFTOKEN: hunter4, MONKEY: banana}\n"
    )
    done = ltrl("compile", "specs/quickstart.yaml", "--cluster", "./here.yaml", "-o", "bundle", cwd=project)
    assert [line for line in done.stderr.splitlines() if line.startswith("error")] == [
        "error[LTRL028]: the secret `environment.PGPASSWORD` is written out here",
        "error[LTRL028]: the secret `environment.HFTOKEN` is written out here",
    ]
    assert "hunter" not in done.stdout + done.stderr
    assert not (project / "bundle").exists()
