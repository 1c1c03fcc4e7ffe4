"""What a data file contains goes into bundles, and a run does not go on with something else."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from launching import SPECS, make_bundle, stand_in, until

from ltrl import lineage, runs, state
from ltrl import submit as launcher
from ltrl.cli import main
from ltrl.compile import compile_bundle
from ltrl.data import digest
from ltrl.diff.pairs import compare
from ltrl.diff.sides import Choices
from ltrl.errors import Code, LtrlError

RECORD = {
    "source": "longqa",
    "input_messages": [{"role": "user", "content": "The MAXXI is in Rome. Where is the museum?"}],
    "label": "Rome",
    "metadata": {
        "extra_reward_info": {"question": "Where is the museum?", "rubrics": ["MAXXI"], "dataset_name": "longqa"}
    },
}


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A spec whose training data are here, and whose validation data are not."""
    shutil.copytree(SPECS, tmp_path / "specs")
    (tmp_path / "data" / "longtracerl").mkdir(parents=True)
    (tmp_path / "data" / "longtracerl" / "data.jsonl").write_text(json.dumps(RECORD) + "\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "specs" / "qwen4b.yaml"


def data_check(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["ltrl", "data", "check", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def manifest(spec: Path, name: str) -> Any:
    made, _, _ = compile_bundle(spec, out=spec.parent.parent / name)
    return made.lock["data"]


def test_the_manifest_says_what_is_in_the_data_that_were_checked(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, unknown = "data/longtracerl/data.jsonl", {"sha256": None, "bytes": None, "records": None}
    validation = {"data.validation.aa-lcr": {"data/longtracerl/aa_lcr.jsonl": unknown}}
    assert manifest(spec, "a") == {"data.train": {train: unknown}, **validation}
    assert data_check(monkeypatch, "--spec", "specs/qwen4b.yaml") == 0
    data = (spec.parent.parent / train).read_bytes()
    known = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "records": 1}
    assert manifest(spec, "b") == {"data.train": {train: known}, **validation}
    (spec.parent.parent / train).write_bytes(data + data)  # nobody has looked at it since
    assert manifest(spec, "c") == {"data.train": {train: unknown}, **validation}


def test_diff_notices_changed_data(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = spec.parent.parent / "data" / "longtracerl" / "data.jsonl"
    data_check(monkeypatch, str(path))
    compile_bundle(spec, out=Path("bundle"))
    assert compare("bundle", str(spec), Choices()).is_same
    path.write_text(json.dumps(RECORD | {"label": "Milan"}) + "\n")
    data_check(monkeypatch, str(path))
    found = compare("bundle", str(spec), Choices())
    [change] = found.compiled
    assert (change.section, change.path, change.grade.value) == ("data files", "data/longtracerl/data.jsonl", "new-run")
    assert (found.resume.answer, found.rewards.answer) == ("no", "with care")
    assert found.resume.words == "the training data hold something else now: `data/longtracerl/data.jsonl`"


def test_a_run_does_not_go_on_with_other_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LTRL_STATE_DIR", str(tmp_path / "state"))
    path = tmp_path / "data.jsonl"
    path.write_text("first\n")
    digest.record(path, digest.measure(path))
    made = make_bundle(tmp_path, stand_in("--die-at", "3"), data={"data.train": {"data.jsonl": digest.known(path)}})
    run = launcher.submit(made, project=tmp_path)
    until(lambda: runs.status(state.read_run(run.path)).state.is_finished)
    lineage.check(state.read_run(run.path), made)
    lineage.check(state.read_run(run.path), make_bundle(tmp_path / "other"))  # knows nothing of its data
    path.write_text("second\n")
    lineage.check(state.read_run(run.path), made)  # nobody has looked at it yet
    digest.record(path, digest.measure(path))
    with pytest.raises(LtrlError) as caught:
        lineage.check(state.read_run(run.path), made)
    [said] = caught.value.diagnostics
    first, second = (hashlib.sha256(text).hexdigest()[:12] for text in (b"first\n", b"second\n"))
    assert said.code is Code.RESUME_REFUSED
    assert said.message == f"`{run.id}` learned from something else: `data.jsonl` {first} → {second}"


def test_a_note_that_does_not_fit_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text("{}\n")
    found = digest.measure(path, records=1)
    digest.record(path, found)
    assert digest.known(path) == found
    os.utime(path, ns=(0, found.modified_ns + 1))
    assert digest.known(path) is None
    for broken in ("", "[]", '{"sha256": 1}', "{"):
        digest.digest_file(path).write_text(broken)
        assert digest.known(path) is None


def test_a_directory_that_takes_no_note_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps(RECORD) + "\n")
    digest.digest_file(path).mkdir()
    assert data_check(monkeypatch, str(path)) == 0
    assert f"bundles will not know what is in `{path}`" in capsys.readouterr().err
