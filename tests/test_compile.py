"""From a spec on disk to a bundle: whole or not at all, and the same bytes everywhere."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ltrl import bundle, project
from ltrl.backend import create
from ltrl.compile import compile_bundle, prepare
from ltrl.errors import Code, LtrlError

ROOT = Path(__file__).resolve().parent.parent
QUICKSTART = ROOT / "specs" / "quickstart.yaml"
SHIPPED = sorted((ROOT / "specs").glob("*.yaml"))


def contents(directory: Path) -> dict[str, bytes]:
    return {p.relative_to(directory).as_posix(): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def only_mistake(error: LtrlError) -> tuple[Code, str, str | None]:
    [found] = error.diagnostics
    return found.code, found.message, found.hint


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("spec", SHIPPED, ids=lambda p: p.stem)
def test_shipped_specs_compile_are_short_and_say_nothing_twice(spec: Path) -> None:
    made, planned, is_new = compile_bundle(spec)
    assert is_new
    assert made.name == planned.name == f"{planned.resolved.spec.name}-{made.fingerprint[:8]}"
    assert made.path == Path.cwd() / "build" / made.name
    assert len(spec.read_text().splitlines()) <= 60
    for path, position in planned.resolved.document.values.items():
        name = ".".join(map(str, path))
        if name and name in planned.resolved.origins and path != ("kind",):
            assert not is_default(planned.resolved.spec, path), f"{name} at {position} is the default"


def is_default(model: object, path: tuple[str | int, ...]) -> bool:
    from ltrl.backend import Model

    *around, name = path
    for step in around:
        model = model[step] if isinstance(model, dict | tuple) else getattr(model, str(step))
    if not isinstance(model, Model):
        return False
    info = type(model).model_fields[str(name)]
    return not info.is_required() and getattr(model, str(name)) == info.get_default(call_default_factory=True)


def test_a_bundle_holds_the_spec_as_written_and_what_follows_from_it() -> None:
    made, planned, _ = compile_bundle(QUICKSTART, sets=["algorithm.steps=7"])
    derived = ["local.sh", "local_engine.json", "plan.json", "resolved.json"]
    assert sorted(made.lock["files"]) == ["cluster.yaml", *derived, "spec.yaml"]
    assert (made.path / "spec.yaml").read_bytes() == QUICKSTART.read_bytes()
    assert made.plan["steps"] == 7
    assert made.resolved["origins"]["algorithm.steps"] == "--set algorithm.steps=7:1"
    assert made.resolved["origins"]["model.base"].startswith("quickstart.yaml:")
    assert made.resolved["origins"]["algorithm.clip.high"] == "default"
    assert made.lock["backends"]["reward.rubric"]["distribution"] == "ltrl"
    assert planned.resolved.fingerprint == made.fingerprint


def test_equal_inputs_give_equal_bytes_from_any_directory_in_any_process(tmp_path: Path) -> None:
    made, _, _ = compile_bundle(QUICKSTART, sets=["algorithm.steps=7"], out=tmp_path / "here")
    elsewhere = tmp_path / "copy" / "of" / "it"
    shutil.copytree(ROOT / "specs", elsewhere / "specs")
    code = "import sys; from ltrl.cli import main; sys.argv[0] = 'ltrl'; main()"
    arguments = ["compile", "quickstart.yaml", "--set", "algorithm.steps=7", "-o", str(tmp_path / "there")]
    environment = {**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "LC_ALL": "C", "USER": "someone"}
    subprocess.run([sys.executable, "-c", code, *arguments], cwd=elsewhere / "specs", env=environment, check=True)
    assert contents(tmp_path / "there") == contents(made.path)


def test_the_fingerprint_follows_what_is_learned_and_nothing_else() -> None:
    plain = prepare(QUICKSTART).resolved.fingerprint
    same = [
        "name=other",
        "checkpoint.every_steps=5",
        "logging.tensorboard=false",
        "algorithm.group_size=8",
        "cluster.minutes=5",
    ]
    for change in same:
        assert prepare(QUICKSTART, sets=[change]).resolved.fingerprint == plain, change
    for change in ["reward.eta=0.2", "algorithm.seed=1", "reward.backend=outcome", "data.train.samples=99"]:
        assert prepare(QUICKSTART, sets=[change]).resolved.fingerprint != plain, change


def test_a_failed_compile_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(LtrlError):
        compile_bundle(QUICKSTART, sets=["model.context.total=9"])
    assert list(tmp_path.iterdir()) == []


def test_an_equal_bundle_is_left_alone_and_a_different_one_is_not_overwritten() -> None:
    compile_bundle(QUICKSTART)
    assert compile_bundle(QUICKSTART)[2] is False
    with pytest.raises(LtrlError) as caught:
        compile_bundle(QUICKSTART, sets=["checkpoint.every_steps=5"])
    code, message, hint = only_mistake(caught.value)
    assert code is Code.BUNDLE_EXISTS
    assert message.endswith("holds a different bundle")
    assert hint == "`--replace` overwrites it, `-o DIR` writes elsewhere"
    made, _, is_new = compile_bundle(QUICKSTART, sets=["checkpoint.every_steps=5"], replace=True)
    assert is_new
    assert made.resolved["spec"]["checkpoint"]["every_steps"] == 5
    assert sorted(p.name for p in Path("build").iterdir()) == [".last", made.name]


def test_somebody_elses_directory_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("…")
    with pytest.raises(LtrlError, match="holds something else"):
        compile_bundle(QUICKSTART, out=tmp_path / "mine")
    assert contents(tmp_path / "mine") == {"thesis.tex": "…".encode()}


def test_an_unwritable_place_is_said_and_left_clean(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LtrlError) as caught:
        compile_bundle(QUICKSTART, out=tmp_path / "file" / "bundle")
    assert only_mistake(caught.value)[0] is Code.UNWRITABLE


def test_a_bundle_that_was_edited_is_refused() -> None:
    made, _, _ = compile_bundle(QUICKSTART)
    (made.path / "local.sh").write_text("rm -rf /\n")
    with pytest.raises(LtrlError, match=r"was edited after it was compiled: `local\.sh`"):
        bundle.read(made.path)


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"files": 3}', '{"files": {"gone": "0"}}'])
def test_what_is_no_bundle_is_refused(tmp_path: Path, damage: str) -> None:
    (tmp_path / "b").mkdir()
    if damage:
        (tmp_path / "b" / bundle.LOCK).write_text(damage)
    with pytest.raises(LtrlError) as caught:
        bundle.read(tmp_path / "b")
    assert only_mistake(caught.value)[0] is Code.NOT_A_BUNDLE


def test_the_last_bundle_of_a_directory_is_remembered() -> None:
    with pytest.raises(LtrlError, match="no bundle has been compiled in this directory"):
        project.last_bundle()
    made, _, _ = compile_bundle(QUICKSTART)
    compile_bundle(QUICKSTART, sets=["algorithm.steps=3"], out=Path("elsewhere"))
    assert project.last_bundle() == made.path


def test_cluster_profiles_come_from_the_project_then_from_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LTRL_CONFIG_DIR", str(tmp_path / "config"))
    (tmp_path / "config" / "clusters").mkdir(parents=True)
    (tmp_path / "specs" / "clusters").mkdir(parents=True)
    (tmp_path / "specs" / "q.yaml").write_bytes(QUICKSTART.read_bytes())
    mine = tmp_path / "config" / "clusters" / "mine.yaml"
    mine.write_text("kind: cluster\nexecutor: local\nminutes: 7\n")
    assert prepare(tmp_path / "specs" / "q.yaml", cluster="mine").launch.minutes == 7
    (tmp_path / "specs" / "clusters" / "mine.yaml").write_text("kind: cluster\nexecutor: local\nminutes: 9\n")
    assert prepare(tmp_path / "specs" / "q.yaml", cluster="mine").launch.minutes == 9
    assert prepare(tmp_path / "specs" / "q.yaml", cluster=str(mine)).launch.minutes == 7
    with pytest.raises(LtrlError) as caught:
        prepare(tmp_path / "specs" / "q.yaml", cluster="mien")
    assert only_mistake(caught.value) == (
        Code.UNKNOWN_CLUSTER,
        "no cluster profile `mien`",
        "did you mean `mine`? profiles here: `local`, `mine`, `mock`",
    )


def test_a_mistake_in_a_cluster_profile_is_said_at_its_line(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("kind: cluster\nexecutor: slurm\nslurm:\n  partion: gpu\n")
    with pytest.raises(LtrlError) as caught:
        prepare(QUICKSTART, cluster=str(tmp_path / "c.yaml"))
    [found] = caught.value.diagnostics
    assert (str(found.position), found.message, found.hint) == (
        f"{tmp_path / 'c.yaml'}:4:3",
        "unknown field `partion` in `slurm`",
        "did you mean `partition`?",
    )


def test_a_context_longer_than_the_models_is_refused_with_both_numbers() -> None:
    with pytest.raises(LtrlError) as caught:
        prepare(QUICKSTART, sets=["model.context.prompt=8k"])
    [found] = caught.value.diagnostics
    assert found.code is Code.CONTEXT_TOO_LONG
    total = 8192 + prepare(QUICKSTART).resolved.lengths.response
    assert found.message == f"a context of {total} tokens is longer than the 4096 positions of `tiny-qwen3`"


def test_an_unknown_model_is_said_where_it_is_named() -> None:
    with pytest.raises(LtrlError) as caught:
        prepare(QUICKSTART, sets=["model.base=Qwen/Qwen3-4B-Thinking-2506"])
    [found] = caught.value.diagnostics
    assert found.code is Code.UNKNOWN_MODEL
    assert found.position is not None
    assert found.position.source.name == "--set"
    assert found.hint is not None
    assert "Qwen/Qwen3-4B-Thinking-2507" in found.hint


def test_an_engine_whose_modules_are_missing_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = create(prepare(QUICKSTART).resolved.engine)
    assert engine.missing() is None
    monkeypatch.setattr("ltrl_backends.local_engine.engine.MODULES", ("torch", "no_such_module"))
    found = engine.missing()
    assert found is not None
    assert (found.code, found.message, found.hint) == (
        Code.MISSING_EXTRA,
        "the embedded engine needs `no_such_module`, not installed here",
        "pip install 'ltrl[local]'",
    )


def test_compiling_loads_no_heavy_module(tmp_path: Path) -> None:
    heavy = ["torch", "ray", "transformers", "trl", "nemo_rl", "submitit", "fastapi", "uvicorn", "tokenizers", "numpy"]
    code = f"""
import json, sys
from pathlib import Path
from ltrl.compile import compile_bundle
for spec in {[str(s) for s in SHIPPED]!r}:
    compile_bundle(Path(spec), out=Path({str(tmp_path)!r}) / Path(spec).stem)
print(json.dumps([m for m in {heavy!r} if m in sys.modules]))
"""
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert json.loads(run.stdout) == []
