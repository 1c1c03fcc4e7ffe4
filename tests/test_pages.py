"""The page of each code: what it shows is what happens."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ltrl.cli import main
from ltrl.errors import Code
from ltrl.pages import Page, page

ROOT = Path(__file__).resolve().parent.parent
LTRL = "import sys; sys.argv[0] = 'ltrl'; from ltrl.cli import main; main()"
ONLY_A_TRAINING_SHOWS = {
    *(Code.BAD_DATA, Code.BAD_CHECKPOINT, Code.TRAINING_COLLAPSED, Code.FORK_REFUSED),
    *(Code.JUDGE_OUTAGE, Code.SERVER_DOWN, Code.OTHER_REWARD, Code.TRACKER),
}
TOOLS = (
    *("bash", "mkdir", "touch", "sleep", "tail", "cat", "env", "date", "id", "hostname", "setsid", "mv", "rm"),
    *("ps", "git", "chmod"),
)
CHANGING = {r"\bjob \d+": "job 4711", r"\b(?=[a-f]*\d)[0-9a-f]{8}\b": "01234567"}
"""Numbers of processes, and fingerprints, which change with every new field."""


@pytest.fixture
def example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[Page], str]:
    """All that the example of a page prints, in a project with the shipped specs and without Slurm."""
    specs, tools = tmp_path / "specs", tmp_path / "tools"
    shutil.copytree(ROOT / "specs", specs)

    def in_this_process(page: Page) -> str:
        monkeypatch.chdir(specs)
        monkeypatch.setattr("sys.argv", shlex.split(page.commands))
        with pytest.raises(SystemExit):
            main()
        printed = capsys.readouterr()
        return printed.err + printed.out

    def in_a_shell(page: Page) -> str:
        tools.mkdir()
        for tool in TOOLS:
            if found := shutil.which(tool):
                (tools / tool).symlink_to(found)
        (tools / "python").symlink_to(sys.executable)
        (tools / "ltrl").write_text(f'#!{shutil.which("bash")}\nexec "{sys.executable}" -c "{LTRL}" "$@"\n')
        (tools / "ltrl").chmod(0o755)
        environment = {"PATH": str(tools), "HOME": str(tmp_path), "COLUMNS": "120"}
        environment |= {f"LTRL_{name}_DIR": str(tmp_path / name.lower()) for name in ("STATE", "CONFIG")}
        return subprocess.run(
            ["bash", "-c", page.commands],
            cwd=specs,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        ).stdout

    def run(page: Page) -> str:
        for name, text in page.files.items():
            (specs / name).parent.mkdir(exist_ok=True)
            (specs / name).write_text(text)
        is_one_check = re.fullmatch(r"ltrl check [^|>$]*\n", page.commands)
        printed = in_this_process(page) if is_one_check else in_a_shell(page)
        for pattern, shown in CHANGING.items():
            printed = re.sub(pattern, shown, printed.replace(str(tmp_path), "/project"))
        return printed

    return run


@pytest.mark.parametrize("code", Code)
def test_the_example_of_a_page_prints_what_the_page_shows(code: Code, example: Callable[[Page], str]) -> None:
    if code in ONLY_A_TRAINING_SHOWS:
        assert page(code).commands == ""
        return
    printed = example(page(code))
    assert f"[{code.value}]: " in printed
    if os.environ.get("LTRL_UPDATE_GOLDENS"):
        path = ROOT / "ltrl" / "codes" / f"{code.value}.md"
        path.write_text(
            re.sub(r"```text\n.*?```", lambda _: f"```text\n{printed}```", page(code).text, flags=re.DOTALL)
        )
    assert page(code).output == printed


def test_every_page_says_what_it_is_why_it_matters_and_what_to_do() -> None:
    for code in Code:
        text = page(code).text
        assert text.startswith(f"# {code.value}: {page(code).title}\n\n")
        assert 4 <= len(page(code).title) <= 60
        prose = [p for p in re.sub(r"```.*?```", "", text, flags=re.DOTALL).split("\n\n")[1:] if p.strip()]
        assert len(prose) >= 2, code
        assert all(p.strip().endswith((".", ":")) for p in prose), code


def test_there_is_no_page_without_a_code() -> None:
    assert {path.stem for path in (ROOT / "ltrl" / "codes").iterdir()} == {code.value for code in Code}
