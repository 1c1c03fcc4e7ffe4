"""Exported models load elsewhere, answer, and say where they come from; converters' traps are mended."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml
from launching import SPECS, make_bundle, stand_in, until
from model_server import small_model

from ltrl import bundle as bundles
from ltrl import exported, runs, state
from ltrl import submit as launcher
from ltrl.backend import Stage
from ltrl.checkpoints import look
from ltrl.compile import compile_bundle
from ltrl.errors import LtrlError
from ltrl_backends.local_engine.export import export
from ltrl_backends.nemo_rl.export import command, convert

torch = pytest.importorskip("torch")

LTRL = "import sys; sys.argv[0] = 'ltrl'; from ltrl.cli import main; main()"
EXPORT = Stage("export", ("python", "-m", "ltrl_backends.nemo_rl.export", "../../checkpoints", "model"), minutes=5)
PROMPT = [{"role": "user", "content": "Ada knows Bo. Whom does Ada know?"}]

CONVERTER = '''\
"""What NeMo-RL's converter leaves: weights and `config.json` of the base model, and nothing else."""
import argparse, json, pathlib, shutil, sys
words = argparse.ArgumentParser()
for name in ("config", "megatron-ckpt-path", "dcp-ckpt-path", "hf-ckpt-path"):
    words.add_argument(f"--{name}")
given = words.parse_args(sys.argv[sys.argv.index("python") + 2 :])
out = pathlib.Path(given.hf_ckpt_path)
out.mkdir()  # FileExistsError, as the real one
(out.parent / "asked.json").write_text(json.dumps(sys.argv[1:]))
made = pathlib.Path(given.dcp_ckpt_path or given.megatron_ckpt_path).parents[2 if given.dcp_ckpt_path else 3] / "base"
for name in ("config.json", "model.safetensors"):
    shutil.copy(made / name, out)
'''


def ltrl(directory: Path, *arguments: object, **variables: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", LTRL, *map(str, arguments)],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **variables},
    )
    return done.returncode, done.stdout, done.stderr


def finished(run: state.Run) -> runs.Status:
    return until(lambda: row if (row := runs.status(state.read_run(run.path))).state.is_finished else None, 60)


def answer(model: Any, tokenizer: Any) -> str:
    form = {"add_generation_prompt": True, "return_dict": True, "return_tensors": "pt"}
    inputs = tokenizer.apply_chat_template(PROMPT, **form)
    return str(tokenizer.decode(model.generate(**inputs, max_new_tokens=12, do_sample=False)[0]))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> state.Run:
    """A run of the embedded engine whose checkpoint of step 2 holds a real model."""
    monkeypatch.setenv("LTRL_STATE_DIR", str(tmp_path / "state"))
    made = launcher.submit(make_bundle(tmp_path, stand_in()), project=tmp_path)
    finished(made)
    policy = made.path / "checkpoints" / "step_2" / "policy"
    _, tokenizer = small_model(policy / "weights")
    for left in (policy / "weights").glob("tok*"):
        left.unlink()
    (policy / "weights" / "chat_template.jinja").unlink(missing_ok=True)
    tokenizer.save_pretrained(policy / "tokenizer")
    info = {"total_steps": 2, "val:accuracy": 0.625}
    (policy.parent / "training_info.json").write_text(json.dumps(info))
    return made


def test_a_local_model_is_exported_loads_and_answers(run: state.Run, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    status, out, err = ltrl(tmp_path, "export", "trial", "out/model", "--to", "hf", "--step", 2)
    assert (status, out, err) == (0, "out/model\n", f"step 2 of `{run.id}`\n")
    model = tmp_path / "out" / "model"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["model"]
    saved = run.path / "checkpoints" / "step_2" / "policy"
    tokenizer = AutoTokenizer.from_pretrained(model)
    trained = AutoModelForCausalLM.from_pretrained(saved / "weights")
    said = answer(AutoModelForCausalLM.from_pretrained(model), tokenizer)
    assert said == answer(trained, AutoTokenizer.from_pretrained(saved / "tokenizer"))
    assert said.startswith(
        "<|im_start|>user\nAda knows Bo. Whom does Ada know?<|im_end|>\n<|im_start|>assistant\n<think>"
    )
    ends = json.loads((model / "generation_config.json").read_bytes())["eos_token_id"]
    assert ends == tokenizer.eos_token_id
    card = (model / "README.md").read_text()
    _, head, text = card.split("---\n", 2)
    assert yaml.safe_load(head)["library_name"] == "transformers"
    bundle = bundles.read(run.path / "bundle")
    for part in (
        f"| run | `{run.id}`, step 2 of 4 |",
        f"| fingerprint | `{bundle.fingerprint}` |",
        "| accuracy | 0.625 |",
        "| data `train` | `entity-chain`, sha256 of its options `",
    ):
        assert part in text
    whole = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    assert whole == {name: value for name, value in bundle.resolved["spec"].items() if value is not None}
    assert whole["algorithm"]["steps"] == 4  # 80 in the file
    status, _, err = ltrl(tmp_path, "export", "trial", "out/model", "--step", 2)
    assert (status, err) == (
        1,
        "error[LTRL076]: `out/model` is there already\nhint: another directory, or `--force`\n",
    )
    (tmp_path / "link").symlink_to("out/model")
    assert ltrl(tmp_path, "export", "trial", "link", "--step", 2, "--force")[0] == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["model"]
    assert (model / "README.md").read_text() == card


def test_an_export_replaces_nothing_but_an_export(run: state.Run, tmp_path: Path) -> None:
    home = f"runs/{run.id}"
    for place in ("empty/deep", "notes", "like-one/sub", "specs"):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
    (tmp_path / "notes" / "config.json").write_text("{}")
    (tmp_path / "notes" / "README.md").write_text("# Another model\n")
    (tmp_path / "file").touch()
    for name, text in (("config.json", "{}"), ("README.md", f"---\n{exported.TAGS}\n---\n")):
        (tmp_path / "like-one" / name).write_text(text)
    before = sorted(tmp_path.rglob("*"))
    taken = "error[LTRL012]: a model cannot take the place of `{}`: {} is there\n"
    owned = "error[LTRL012]: `{}` belongs to the run `" + run.id + "`\n"
    other = "error[LTRL076]: `{}` is there and is no exported model: an export replaces nothing else\n"
    hint = "hint: choose another directory, `models/NAME` say\n"
    for place, message in (
        (".", taken.format(".", "the working directory")),
        ("runs", taken.format("runs", "the run")),
        (home, taken.format(home, "the run")),
        *(
            (f"{home}/{name}", owned.format(f"{home}/{name}"))
            for name in ("checkpoints", "checkpoints/step_2", "logs/m")
        ),
        *((name, other.format(name)) for name in ("empty", "notes", "like-one", "file")),
    ):
        assert ltrl(tmp_path, "export", "trial", place, "--step", 2, "--force") == (1, "", message + hint)
    for words in ([], ["--force", "--dry-run"]):
        assert ltrl(tmp_path, "export", "trial", "notes", *words) == (1, "", other.format("notes") + hint)
    message = taken.format("..", "the working directory")
    assert ltrl(tmp_path / "specs", "export", "trial", "..", "--force") == (1, "", message + hint)
    message = taken.format(tmp_path, "the project")
    assert ltrl(tmp_path.parent, "export", run.path, tmp_path, "--force") == (1, "", message + hint)
    entry = look(run.path / "checkpoints" / "step_2")
    assert entry is not None
    made_of = exported.origin(run.path, entry, project=tmp_path)
    with pytest.raises(LtrlError, match="is no exported model"):  # the engines ask, too
        export(entry, tmp_path / "notes", made_of)
    with pytest.raises(LtrlError, match="is no exported model"):
        convert(entry, tmp_path / "notes", made_of, nemo_rl=tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_checkpoint_that_is_not_whole_is_not_exported(run: state.Run, tmp_path: Path) -> None:
    weights = run.path / "checkpoints" / "step_2" / "policy" / "weights" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    status, _, err = ltrl(tmp_path, "export", "trial", "out", "--step", 2)
    assert (status, err.startswith(f"error[LTRL051]: the checkpoint of step 2 of `{run.id}` is damaged: ")) == (1, True)
    assert not (tmp_path / "out").exists()
    status, _, err = ltrl(tmp_path, "export", "trial", "out", "--step", 4)  # without weights that anybody knows
    assert (status, "Traceback" in err) == (1, False)
    assert not (tmp_path / "out").exists()


def test_an_export_that_fails_leaves_the_one_before(run: state.Run, tmp_path: Path) -> None:
    def files() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    assert ltrl(tmp_path, "export", "trial", "out", "--step", 2)[0] == 0
    before = files()
    assert ltrl(tmp_path, "export", "trial", "out", "--step", 4, "--force")[0] == 1  # it has no weights
    assert files() == before
    assert not list(tmp_path.glob(".out*"))


def test_the_stage_exports_the_newest_checkpoint(run: state.Run, tmp_path: Path) -> None:
    (run.path / "checkpoints" / "step_4" / "training_info.json").write_text("{")  # damaged: not the newest any more
    place = run.path / "stages" / "export"
    place.mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-m", "ltrl_backends.local_engine.export", "../../checkpoints", "model"],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"step 2: {place}/model\n"), done.stderr
    assert (place / "model" / "README.md").is_file()


def nemo_rl(directory: Path) -> dict[str, str]:
    """A NeMo-RL whose converter is one that behaves like it, found through `uv`; variables for the job."""
    package = directory / "nemo" / "nemo_rl"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    tools = directory / "tools"
    tools.mkdir()
    (tools / "converter.py").write_text(CONVERTER)
    (tools / "uv").write_text(f'#!/bin/sh\nexec {sys.executable} {tools}/converter.py "$@"\n')
    (tools / "uv").chmod(0o755)
    return {"PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": str(package.parent)}


def checkpoint_of(run: Path, step: int, layout: str) -> Path:
    """A checkpoint in a layout of NeMo-RL: real shards, a real index."""
    from torch.distributed import checkpoint

    made = run / "checkpoints" / f"step_{step}"
    weights = made / "policy" / "weights" / ("iter_0000000" if layout == "megatron" else "")
    weights.mkdir(parents=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that there is one process
        checkpoint.save({"a": torch.ones(3)}, checkpoint_id=weights, no_dist=True)
    (weights / "metadata.json").write_text('{"sharded_backend": "torch_dist"}')
    (made / "config.yaml").write_text("policy: {}\n")
    (made / "training_info.json").write_text(json.dumps({"total_steps": step, "val:accuracy": 0.5}))
    return made


def test_a_nemo_rl_checkpoint_goes_through_its_converter_as_a_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import load_file

    for name, value in {**nemo_rl(tmp_path), "LTRL_STATE_DIR": str(tmp_path / "state")}.items():
        monkeypatch.setenv(name, value)
    bundle = make_bundle(tmp_path, ["true"], spec="deepseek8b.yaml", stages=(EXPORT,), cluster={"executor": "local"})
    project = tmp_path
    asked = launcher.make_request(bundle, project, tmp_path / "runs" / bundle.name)
    (tmp_path / "runs" / bundle.name).mkdir(parents=True)
    run = launcher.prepare_run(bundle, asked)
    made = checkpoint_of(run.path, 20, "megatron")
    tokens = made / "policy" / "tokenizer"
    model, tokenizer = small_model(run.path / "checkpoints" / "base")
    tokenizer.save_pretrained(tokens)
    checkpoint_of(run.path, 40, "megatron")
    status, out, err = ltrl(tmp_path, "export", run.id, "out", "--step", 20)
    assert (status, out) == (0, f"{run.id}/export\n"), err
    stage = state.read_run(run.path / "stages" / "export")
    row = finished(stage)
    log = (stage.attempt_dir(1) / "stdout.log").read_text()
    assert row.state is state.State.COMPLETED, log
    weights = made / "policy" / "weights" / "iter_0000000"
    assert json.loads((tmp_path / "asked.json").read_text()) == [
        "run",
        f"--directory={tmp_path}/nemo",
        "--extra",
        "mcore",
        "python",
        "examples/converters/convert_megatron_to_hf.py",
        f"--config={made}/config.yaml",
        f"--megatron-ckpt-path={weights}",
        f"--hf-ckpt-path={tmp_path}/.out.unfinished",
    ]
    exported = tmp_path / "out"
    config = json.loads((exported / "config.json").read_bytes())
    overrides = bundle.resolved["spec"]["model"]["overrides"]
    assert overrides  # long contexts by rope scaling, of which the converter knows nothing
    assert {key: config[key] for key in overrides} == overrides
    stops = bundle.resolved["model_card"]["stop_token_ids"]
    ends = json.loads((exported / "generation_config.json").read_bytes())["eos_token_id"]
    assert ends == [model.config.eos_token_id, *stops]
    assert (exported / "tokenizer.json").is_file()
    assert "step 20 of 4" in (exported / "README.md").read_text()
    assert load_file(exported / "model.safetensors").keys() == dict(model.state_dict()).keys() - {"lm_head.weight"}
    for said in ("config.json: ", "tokenizer: put beside the weights", "generation_config.json: ends at "):
        assert said in log


def test_each_layout_has_its_converter(tmp_path: Path) -> None:
    made = checkpoint_of(tmp_path, 7, "dcp")
    entry = look(made)
    assert entry is not None
    assert command(entry, Path("/out"), nemo_rl=Path("/opt/nemo-rl")) == [
        "uv",
        "run",
        "--directory=/opt/nemo-rl",
        "python",
        "examples/converters/convert_dcp_to_hf.py",
        f"--config={made}/config.yaml",
        f"--dcp-ckpt-path={made}/policy/weights",
        "--hf-ckpt-path=/out",
    ]
    other = tmp_path / "checkpoints" / "step_9"
    small_model(other / "policy" / "weights")
    (other / "training_info.json").write_text("{}")
    entry = look(other)
    assert entry is not None
    with pytest.raises(LtrlError, match="neither Megatron nor DCP weights"):
        command(entry, Path("/out"), nemo_rl=Path("/opt/nemo-rl"))


@pytest.mark.parametrize("spec", ["qwen4b.yaml", "qwen30b_moe.yaml"])
def test_a_bundle_without_the_stage_is_compiled_again_with_it(
    spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LTRL_STATE_DIR", str(tmp_path / "state"))
    bundle, _, _ = compile_bundle(SPECS / spec, out=tmp_path / "build" / "made", remember=False)
    asked = launcher.make_request(bundle, tmp_path, tmp_path / "runs" / bundle.name)
    (tmp_path / "runs" / bundle.name).mkdir(parents=True)
    run = launcher.prepare_run(bundle, asked)
    checkpoint_of(run.path, 20, "megatron")
    status, out, err = ltrl(tmp_path, "export", run.id, "runs/model", "--dry-run")
    assert status == 0, err
    assert out.startswith(f"# {run.path}/stages/export/bundle/job.sbatch\n")
    assert '#|   bash "$LTRL_RUN_DIR/bundle/local.sh" &' in out
    assert "#| #SBATCH --job-name=" in out
    before = hashlib.sha256((run.path / "bundle" / "ltrl.lock.json").read_bytes()).hexdigest()
    assert bundle.lock == json.loads((run.path / "bundle" / "ltrl.lock.json").read_bytes())
    assert before == hashlib.sha256((bundle.path / "ltrl.lock.json").read_bytes()).hexdigest()
