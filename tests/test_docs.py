"""What README and docs tell people to type works as written."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ltrl.compile import prepare

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LTRL = "import sys; sys.argv[0] = 'ltrl'; from ltrl.cli import main; main()"


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    lines = [line for page in PAGES for text in blocks(page, "sh") for line in text.splitlines()]
    return [line.split("  #")[0].strip() for line in lines if line.startswith("ltrl ")]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a project of one's own has."""
    here = tmp_path_factory.mktemp("project")
    for name in ("specs", "examples"):
        shutil.copytree(ROOT / name, here / name)
    who = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    for words in (["init", "-q", "-b", "main"], ["add", "-A"], [*who, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *words], cwd=here, check=True)
    return here


def test_the_readme_is_one_screen_and_names_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 70
    assert "make demo" in text
    assert "make test" in text


def test_commands_of_the_pages_work_in_their_order(project: Path) -> None:
    found = commands()
    assert "ltrl compile specs/qwen30b_moe.yaml" in found
    assert "ltrl submit --cluster slurm --dry-run" in found
    assert "ltrl status" in found
    environment = {**os.environ, "LTRL_STATE_DIR": str(project / "state"), "LTRL_CONFIG_DIR": str(project / "config")}
    for command in found:
        words = command.split()[1:]
        if any(word.partition("@")[0] == "RUN" for word in words):  # needs a run: its command exists
            words = [*words[: 2 if words[0] == "serve" else 1], "--help"]
        if words[0] == "eval" and words[1].endswith(".yaml") and "--dry-run" not in words:
            words[0] = "check"  # it asks the hub and a server: its spec can be checked
        if words[0] == "serve" and "--help" not in words:
            assert_serves(project, words)
            continue
        done = subprocess.run(
            [sys.executable, "-c", LTRL, *words],
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        fine = {"diff": (0, 2), "doctor": (0, 1)}.get(words[0], (0,))  # there is a difference, something is missing
        assert done.returncode in fine, f"{command}\n{done.stderr}"


def assert_serves(project: Path, words: list[str]) -> None:
    """Starts a command that ends when it is told to, on a port that is free here."""
    process = subprocess.Popen(
        [sys.executable, "-c", LTRL, *words, "--port", "0"],
        cwd=project,
        env={**os.environ, "LTRL_REWARD_TOKEN": "from the page"},
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stderr is not None
        assert "is served on" in process.stderr.readline()
        process.terminate()
    assert process.returncode == 0


def test_the_spec_in_the_readme_compiles(tmp_path: Path) -> None:
    [text] = blocks(ROOT / "README.md", "yaml")
    shutil.copytree(ROOT / "specs" / "clusters", tmp_path / "specs" / "clusters")
    (tmp_path / "specs" / "readme.yaml").write_text(text)
    assert yaml.safe_load(text)["name"] == prepare(tmp_path / "specs" / "readme.yaml").resolved.spec.name


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_no_tracked_text_names_a_machine() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        path = ROOT / name
        if path.suffix == ".jsonl" or not path.is_file():
            continue
        found = re.search(r"/root/\.pyenv|/home/\w+/|pypi\.org/simple", path.read_text(errors="replace"))
        assert found is None or name.startswith("tests/"), f"{name}: {found}"
