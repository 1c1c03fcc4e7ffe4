"""Shell completion, in the shells themselves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ltrl.state import Index

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project, and a folder on the PATH that has `ltrl`."""
    here = tmp_path_factory.mktemp("completion")
    shutil.copytree(ROOT / "specs", here / "specs")
    (here / "bin").mkdir()
    command = here / "bin" / "ltrl"
    command.write_text(f"#!{sys.executable}\nimport sys\nfrom ltrl.cli import main\nsys.argv[0] = 'ltrl'\nmain()\n")
    command.chmod(0o755)
    return here


def offered(project: Path, *words: str, shell: str = "bash") -> list[str]:
    """What pressing the tab key offers behind the last word."""
    listed = " ".join(f"'{word}'" for word in words)
    code = (
        "source <(_LTRL_COMPLETE=source_bash ltrl)\n"
        f"COMP_WORDS=({listed}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMPREPLY=()\n"
        "_ltrl_completion ltrl; printf '%s\\n' \"${COMPREPLY[@]}\"\n"
    )
    done = run(project, "bash", "--norc", "-c", code)
    assert done.stderr == ""
    return done.stdout.split()


def run(project: Path, *argv: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{project / 'bin'}:{os.environ['PATH']}", **more}
    return subprocess.run(argv, cwd=project, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("ltrl", "comp"), ["compile", "compare"]),
        (("ltrl", "check", "--ov"), ["--overlay"]),
        (("ltrl", "check", "spe"), [
            "specs/deepseek8b.yaml", "specs/quickstart.yaml", "specs/qwen30b_moe.yaml", "specs/qwen4b.yaml",
        ]),
        (("ltrl", "check", "specs/q"), ["specs/quickstart.yaml", "specs/qwen30b_moe.yaml", "specs/qwen4b.yaml"]),
        (("ltrl", "fmt", "specs/clusters/s"), ["specs/clusters/slurm.yaml"]),
        (("ltrl", "plan", "specs/qwen4b.yaml", "--cluster", ""), ["local", "slurm"]),
        (("ltrl", "submit", "--cluster", "s"), ["slurm"]),
        (("ltrl", "plan", "specs/qwen4b.yaml", "--set", "optimizer.l"), ["optimizer.lr="]),
        (("ltrl", "explain", "specs/qwen4b.yaml", "algorithm.clip."), [
            "algorithm.clip.dual", "algorithm.clip.high", "algorithm.clip.low",
        ]),
        (("ltrl", "explain", "specs/qwen4b.yaml", "data.validation."), [
            "data.validation.aa-lcr", "data.validation.aa-lcr.backend", "data.validation.aa-lcr.limit",
            "data.validation.aa-lcr.nameless", "data.validation.aa-lcr.overlong", "data.validation.aa-lcr.path",
        ]),
        (("ltrl", "explain", "absent.yaml", "reward.e"), ["reward.eta"]),
        (("ltrl", "fields", "optimizer.b"), ["optimizer.betas"]),
        (("ltrl", "check", "nothing/here"), []),
    ],
)  # fmt: skip
def test_bash_offers_what_can_stand_there(project: Path, words: tuple[str, ...], expected: list[str]) -> None:
    assert offered(project, *words) == expected


def test_bash_offers_runs(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LTRL_STATE_DIR", str(project / "state"))
    for name in ("small-1", "small-2", "large-1"):
        Index().add(project / "runs" / name)
    for command in ("status", "logs", "cancel", "report"):
        assert offered(project, "ltrl", command, "sm") == ["small-1", "small-2"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_of_its_shell(project: Path, shell: str) -> None:
    script = run(project, "ltrl", _LTRL_COMPLETE=f"source_{shell}").stdout
    assert "_LTRL_COMPLETE" in script
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (project / f"completion.{shell}").write_text(script)
    done = run(project, shell, "-n", f"completion.{shell}")
    assert (done.returncode, done.stderr) == (0, "")
