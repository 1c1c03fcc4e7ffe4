"""The archive of modules in a bundle, imported as a job does: by a Python that has no ltrl."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from ltrl import payload
from ltrl.compile import compile_bundle
from ltrl.errors import Code
from ltrl_backends.nemo_rl.container import CONTAINER

ROOT = Path(__file__).resolve().parent.parent
SPEC = ROOT / "specs" / "qwen30b_moe.yaml"


def packed(*distributions: str) -> dict[str, bytes]:
    archive, warnings = payload.pack(distributions, provided=CONTAINER)
    assert warnings == ()
    with zipfile.ZipFile(io.BytesIO(archive.data)) as file:
        return {name: file.read(name) for name in file.namelist()}


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The few packages of NeMo-RL's container that ltrl needs, in a folder of their own."""
    here = tmp_path_factory.mktemp("container")
    for name in ("pydantic", "pydantic-core", "PyYAML", "typing-extensions", "typing-inspection", "annotated-types"):
        distribution = metadata.distribution(name)
        for first in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            target = here / first
            if not target.exists():
                target.symlink_to(str(distribution.locate_file(first)))
    return here


def in_the_job(code: str, archive: Path, container: Path) -> subprocess.CompletedProcess[str]:
    """What code prints in a Python that sees the archive and the container's packages only."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(archive), str(container)])}
    return subprocess.run(
        [sys.executable, "-S", "-c", code],
        env=environment,
        cwd=container,
        capture_output=True,
        text=True,
        check=False,
    )


def install(site: Path, name: str, files: dict[str, str], *, requires: str = "", entry_points: str = "") -> None:
    """What pip leaves behind of a distribution."""
    folder = site / f"{name.replace('-', '_')}-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{requires}")
    (folder / "entry_points.txt").write_text(entry_points)
    for path, text in files.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(text)
    listed = [*files, *(f"{folder.name}/{p}" for p in ("METADATA", "entry_points.txt", "RECORD")), "../../bin/tool"]
    (folder / "RECORD").write_text("".join(f"{path},,\n" for path in listed))


def test_a_job_finds_every_backend_and_imports_the_driver_from_the_archive_alone(
    tmp_path: Path, container: Path
) -> None:
    made, planned, _ = compile_bundle(SPEC, out=tmp_path / "b")
    assert planned.launch.payload == "payload.zip"
    code = """
import json, sys
import ltrl
from ltrl.backend import backends, create, load
from ltrl.scoring import ScoreRequest, parse_response
from ltrl_backends.nemo_rl import config, dataset, driver, processor
from ltrl_backends.nemo_rl.database import database, versions
load("reward", "rubric"), load("data", "longtrace"), load("judge", "openai"), load("engine", "nemo-rl")
options = {"backend": "rubric", "judge": {"backend": "exact"}}
reward = create(load("reward", "rubric").Options.model_validate_json(json.dumps(options)))
response = parse_response("<think>\\nKime\\n</think>\\n\\nDuro<|im_end|>", chat_format="qwen3")
[score] = reward.score([ScoreRequest("g", "q", "Duro", ("Kime",), response)])
print(json.dumps({
    "from": ltrl.__file__, "outcome": score.outcome, "versions": versions(), "keys": len(list(database("0.7.0"))),
    "backends": len(backends()),
    "loaded": sorted({m.partition(".")[0] for m in sys.modules} & {"jinja2", "rich", "typer", "submitit", "httpx"}),
}))
"""
    done = in_the_job(code, made.path / "payload.zip", container)
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    assert said.pop("keys") > 400
    assert said == {
        "from": str(made.path / "payload.zip" / "ltrl" / "__init__.py"),
        "outcome": 1.0,
        "versions": ["0.6.0", "0.7.0"],
        "backends": len([e for e in metadata.entry_points(group="ltrl.backends") if e.dist and e.dist.name == "ltrl"]),
        "loaded": [],
    }


def test_what_the_archive_holds_is_python_s_source_and_data_and_says_nothing_of_this_machine() -> None:
    found = packed()
    folders = {name.partition("/")[0] for name in found}
    assert folders == {f"ltrl-{metadata.version('ltrl')}.dist-info", "ltrl", "ltrl_backends", "ltrl_templates"}
    assert not [name for name in found if "__pycache__" in name or name.endswith(".pyc")]
    assert list(found) == sorted(found)
    assert not [name for name, data in found.items() if str(ROOT).encode() in data]


def test_equal_sources_give_equal_bytes_from_any_directory(tmp_path: Path) -> None:
    here, _, _ = compile_bundle(SPEC, out=tmp_path / "here")
    code = "import sys; from ltrl.cli import main; sys.argv[0] = 'ltrl'; main()"
    environment = {**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "LC_ALL": "C", "USER": "someone"}
    arguments = ["compile", str(SPEC), "-o", str(tmp_path / "there")]
    subprocess.run([sys.executable, "-c", code, *arguments], cwd=tmp_path, env=environment, check=True)
    there = tmp_path / "there" / "payload.zip"
    assert there.read_bytes() == (here.path / "payload.zip").read_bytes()


def test_bytecode_and_an_editors_files_make_no_difference(tmp_path: Path) -> None:
    homes = {"ltrl": ROOT, "ltrl_backends": ROOT / "backends", "ltrl_templates": ROOT / "templates"}
    for package, home in homes.items():
        shutil.copytree(home / package, tmp_path / package)
    (tmp_path / "ltrl" / "__pycache__").mkdir(exist_ok=True)
    (tmp_path / "ltrl" / "__pycache__" / "plan.cpython-399.pyc").write_bytes(b"\0")
    (tmp_path / "ltrl" / ".plan.py.swp").write_bytes(b"\0")
    code = "import sys; from ltrl import payload; sys.stdout.buffer.write(payload.pack((), provided=())[0].data)"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    assert run.stdout == payload.pack((), provided=())[0].data


def test_a_plugin_travels_with_what_it_requires_and_the_container_lacks(
    tmp_path: Path, container: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    requires = "Requires-Dist: ltrl\nRequires-Dist: Word_List>=1\nRequires-Dist: pydantic\n"
    requires += "Requires-Dist: nothing-here; sys_platform == 'win32'\nRequires-Dist: jinja2; extra == 'pages'\n"
    terse = "from word_list import words\nfrom importlib import resources\n"
    terse += "class Terse:\n    api = 1\n    Options = score = rewards = None\n    __init__ = lambda self, o: None\n"
    terse += "    data = words, resources.files('terse').joinpath('data/a.txt').read_text()\n"
    points = "[ltrl.backends]\nreward.terse = terse.reward:Terse\n[console_scripts]\ntool = terse.reward:main\n"
    files = {"terse/__init__.py": "", "terse/reward.py": terse, "terse/data/a.txt": "x", "terse/__pycache__/a.pyc": ""}
    install(site, "terse-reward", files, requires=requires, entry_points=points)
    install(site, "word-list", {"word_list.py": "words = ['a']\n"})
    monkeypatch.syspath_prepend(str(site))
    alone = packed()
    both = packed("terse-reward")
    assert sorted(set(both) - set(alone)) == [
        "terse/__init__.py",
        "terse/data/a.txt",
        "terse/reward.py",
        "terse_reward-1.0.dist-info/METADATA",
        "terse_reward-1.0.dist-info/entry_points.txt",
        "word_list-1.0.dist-info/METADATA",
        "word_list-1.0.dist-info/entry_points.txt",
        "word_list.py",
    ]
    archive = tmp_path / "payload.zip"
    archive.write_bytes(payload.pack(["terse-reward"], provided=CONTAINER)[0].data)
    code = "from ltrl.backend import load, backends; print(load('reward', 'terse').data)"
    code += "; print([(b.distribution, b.version) for b in backends() if b.name == 'terse'])"
    done = in_the_job(code, archive, container)
    assert (done.stdout, done.stderr) == ("(['a'], 'x')\n[('terse-reward', '1.0')]\n", "")


def test_what_is_compiled_stays_behind_and_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "fast-words", {"fast_words/__init__.py": "", "fast_words/_c.abi3.so": ""})
    monkeypatch.syspath_prepend(str(tmp_path))
    archive, [warning] = payload.pack(["fast-words"], provided=CONTAINER)
    assert archive == payload.pack((), provided=CONTAINER)[0]
    assert (warning.code, warning.severity, warning.message, warning.hint) == (
        Code.PAYLOAD,
        "warning",
        "`fast-words` 1.0 does not travel with the job: `fast_words/_c.abi3.so` is compiled for this machine",
        "the image of the cluster profile must have it; pure Python travels in the bundle",
    )


def test_the_container_has_what_our_code_imports_in_a_job() -> None:
    used = {"pydantic", "pydantic-core", "pyyaml", "httpx", "platformdirs", "torch", "ray", "transformers", "omegaconf"}
    assert used <= CONTAINER


def test_an_engine_in_this_python_has_no_payload(tmp_path: Path) -> None:
    made, planned, _ = compile_bundle(ROOT / "specs" / "quickstart.yaml", out=tmp_path / "b")
    assert planned.launch.payload is None
    assert "payload.zip" not in made.lock["files"]
    assert "PYTHONPATH" not in made.read("local.sh")
