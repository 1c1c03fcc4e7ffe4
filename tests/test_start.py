"""What a command loads: the time of a cold start is mostly that of importing, so that every module here has a price.

A module that is new in a list needs a reason; one that a command needs for some specs only is imported where it is
used. `LTRL_UPDATE_GOLDENS=1` writes the lists anew.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SPEC = "specs/qwen30b_moe.yaml"
OURS = ("ltrl", "ltrl_backends", "ltrl_templates")
LIGHT = {"annotated_doc", "annotated_types", "pydantic", "pydantic_core", "shellingham", "typer", "typing_extensions"}
LIGHT |= {"typing_inspection", "yaml"}
SLOW = ("asyncio", "concurrent", "http", "logging", "multiprocessing", "sqlite3", "ssl", "xml")
LOADED = """
import sys
before = set(sys.modules)
sys.argv[0] = 'ltrl'
from ltrl.cli import main
try:
    main()
finally:
    sys.stdout = sys.stderr
    print(*sorted(set(sys.modules) - before), sep='\\n')
"""


def loaded(*arguments: str | Path) -> list[str]:
    """The modules that a command loads, but those of the interpreter's own start."""
    argv = [sys.executable, "-c", LOADED, *map(str, arguments)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
    return [line for line in done.stderr.splitlines() if line and " " not in line]


def others(modules: list[str]) -> set[str]:
    """Packages of other people among modules."""
    tops = {module.partition(".")[0] for module in modules} - {"_yaml", "cython_runtime"}
    return {top for top in tops - {*OURS, *sys.stdlib_module_names} if not top.startswith(("_cython", "_sysconfig"))}


@pytest.mark.parametrize(
    ("command", "more"), [("check", set()), ("compile", {"jinja2", "markupsafe"})], ids=["check", "compile"]
)
def test_a_command_loads_these_modules(tmp_path: Path, command: str, more: set[str]) -> None:
    found = loaded(command, SPEC, *(["-o", str(tmp_path / "bundle")] if command == "compile" else []))
    ours = [module for module in found if module.partition(".")[0] in OURS]
    golden = Path(__file__).parent / "goldens" / f"loaded_by_{command}.txt"
    if os.environ.get("LTRL_UPDATE_GOLDENS") == "1":
        golden.write_text("\n".join(ours) + "\n")
    assert ours == golden.read_text().splitlines()
    assert others(found) == LIGHT | more
    if command == "check":
        assert sorted(set(SLOW) & set(found)) == []


def test_help_loads_the_commands_and_nothing_else() -> None:
    found = loaded("--help")
    ours = {module for module in found if module.partition(".")[0] in OURS}
    assert {module for module in ours if not module.startswith("ltrl.cli")} <= {"ltrl", "ltrl.errors", "ltrl.deferred"}
    assert others(found) == {"annotated_doc", "shellingham", "typer"}
