"""Shell completion, in the shells themselves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
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


SHELLS = ("fish", "tmux", "zsh")
needs = {name: pytest.mark.skipif(not shutil.which(name), reason=f"needs {name}") for name in SHELLS}


@needs["fish"]
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ltrl comp", ["compare", "compile"]),
        ("ltrl check specs/q", ["specs/quickstart.yaml", "specs/qwen30b_moe.yaml", "specs/qwen4b.yaml"]),
        ("ltrl plan specs/qwen4b.yaml --set optimizer.l", ["optimizer.lr="]),
        ("ltrl cluster s", ["show"]),
    ],
)
def test_fish_offers_what_can_stand_there(project: Path, line: str, expected: list[str]) -> None:
    code = f"_LTRL_COMPLETE=source_fish ltrl | source; complete --do-complete '{line}'"
    done = run(project, "fish", "--no-config", "-c", code, HOME=str(project))
    assert done.stderr == ""
    assert sorted(offer.partition("\t")[0] for offer in done.stdout.splitlines()) == expected


@needs["zsh"]
@needs["tmux"]
def test_zsh_completes_at_its_prompt(project: Path) -> None:
    (project / ".zshrc").write_text(
        "PS1='> '\nautoload -U compinit && compinit -u -D\nsource <(_LTRL_COMPLETE=source_zsh ltrl)\n"
    )
    socket = f"ltrl-{os.getpid()}-{time.monotonic_ns()}"
    tmux = ("tmux", "-u", "-L", socket, "-f", os.devnull)
    try:
        run(project, *tmux, "new-session", "-d", "-x", "110", "-y", "30", "zsh -d", ZDOTDIR=str(project))
        for typed, shown in (
            ("ltrl expl", "> ltrl explain"),
            ("ltrl comp", "compile"),
            ("ltrl check specs/deep", "> ltrl check specs/deepseek8b.yaml"),
            ("ltrl plan specs/qwen4b.yaml --set optimizer.l", "> ltrl plan specs/qwen4b.yaml --set optimizer.lr="),
        ):
            run(project, *tmux, "send-keys", "C-u", typed, "Tab")
            deadline = time.monotonic() + 60
            while shown not in (screen := run(project, *tmux, "capture-pane", "-p").stdout):
                assert time.monotonic() < deadline, f"{shown!r} not in\n{screen}"
                time.sleep(0.05)
    finally:
        run(project, *tmux, "kill-server")
