"""A secret is a reference until the job needs it: it is in nothing that ltrl writes or prints."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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
