"""What the tests of `ltrl diff` share: projects, repositories and the command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LTRL = "import sys; sys.argv[0] = 'ltrl'; from ltrl.cli import main; main()"
SPEC = """\
kind: experiment
name: small
model:
  base: tiny-qwen3
  context: {prompt: 128, response: 17}
data:
  train: {backend: entity-chain, samples: 640}
reward: {backend: rubric, judge: exact, eta: 0.3}
algorithm: {steps: 80, prompts_per_step: 8}
optimizer: {lr: 7e-4}
engine: {name: local}
"""


def project(folder: Path, **specs: str) -> Path:
    """A directory with the shipped cluster profiles and the given specs."""
    shutil.copytree(ROOT / "specs" / "clusters", folder / "specs" / "clusters")
    for name, text in specs.items():
        (folder / "specs" / f"{name}.yaml").write_text(text)
    return folder


def ltrl(*arguments: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-W", "error", "-c", LTRL, *map(str, arguments)]
    return subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False, env={**os.environ, **environment})


def git(*arguments: str, cwd: Path, **environment: str) -> str:
    """What a git command prints; it has no configuration but that of the repository."""
    alone = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, "GIT_PAGER": "cat"}
    who = ("-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", *who, *arguments], cwd=cwd, capture_output=True, text=True, check=False,
        env={**os.environ, **alone, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def repository(folder: Path, **specs: str) -> Path:
    """A project under version control with one commit."""
    project(folder, **specs)
    git("init", "-q", "-b", "main", cwd=folder)
    commit(folder, "first")
    return folder


def commit(folder: Path, message: str) -> str:
    """Commits everything; the commit's name."""
    git("add", "-A", cwd=folder)
    git("commit", "-q", "-m", message, cwd=folder)
    return git("rev-parse", "HEAD", cwd=folder).strip()
