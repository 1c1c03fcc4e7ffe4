"""The stage `convert` of NeMo-RL: what it calls, and that its result is whole or not there.

Megatron needs a GPU to be installed, so stand-ins with the signatures of NeMo-RL 0.7.0 take its place; what it decides
about paths is its own code in `make contract`.
"""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from ltrl_backends.nemo_rl import convert

STAND_INS = {
    "megatron/bridge/training/model_load_save.py": """
from contextlib import contextmanager
@contextmanager
def temporary_distributed_context(backend="gloo"):
    print("distributed:", backend)
    yield
""",
    "nemo_rl/models/megatron/setup.py": """
import os
def validate_model_paths(config):
    path = os.path.join(os.environ["NRL_MEGATRON_CHECKPOINT_DIR"], config["model_name"])
    return config["model_name"], path, os.path.exists(os.path.join(path, "iter_0000000"))
""",
    "nemo_rl/models/megatron/community_import.py": """
import json, os, pathlib
def import_model_from_hf_name(hf_model_name, output_path, megatron_config=None, **config_overrides):
    out = pathlib.Path(output_path, "iter_0000000")
    out.mkdir(parents=True)
    (out / "run_config.yaml").write_text(json.dumps([hf_model_name, megatron_config, config_overrides]))
    if os.environ.get("DIE"):
        raise SystemExit("killed")
    (out / ".metadata").touch()
""",
}

CALL = """
import sys
from pathlib import Path
from ltrl_backends.nemo_rl import convert, driver
policy = {"model_name": "org/model", "megatron_cfg": {"pipeline_dtype": "bfloat16"}, "hf_config_overrides": {"a": 1}}
driver.prepare = lambda path: {"policy": policy}
sys.exit(convert.main(["--here", "config.yaml"]))
"""


@pytest.fixture
def converted(tmp_path, monkeypatch):
    """Runs the conversion; returns its status and what it said."""
    for name, text in STAND_INS.items():
        path = tmp_path / "site" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    monkeypatch.setenv("NRL_MEGATRON_CHECKPOINT_DIR", str(tmp_path / "cache"))

    def run():
        done = subprocess.run([sys.executable, "-c", CALL], capture_output=True, text=True, check=False, cwd=tmp_path)
        return done.returncode, done.stdout.splitlines()

    return run


def test_the_model_is_converted_once_in_one_process(converted, tmp_path):
    target = tmp_path / "cache" / "org" / "model"
    assert converted() == (0, ["distributed: gloo", f"converted: {target}"])
    assert (target / "iter_0000000" / "run_config.yaml").read_text() == (
        '["org/model", {"tensor_model_parallel_size": 1, "pipeline_model_parallel_size": 1, '
        '"context_parallel_size": 1, "expert_tensor_parallel_size": 1, "expert_model_parallel_size": 1, '
        '"num_layers_in_first_pipeline_stage": null, "num_layers_in_last_pipeline_stage": null, '
        '"pipeline_dtype": "bfloat16", "sequence_parallel": false, "gradient_accumulation_fusion": false}, {"a": 1}]'
    )
    assert converted() == (0, [f"nothing to do: {target} is there"])
    assert [path.name for path in target.parent.iterdir()] == ["model"]


def test_a_conversion_that_dies_leaves_nothing_that_a_training_takes_for_a_model(converted, tmp_path, monkeypatch):
    target = tmp_path / "cache" / "org" / "model"
    monkeypatch.setenv("DIE", "1")
    assert converted()[0] == 1
    assert not target.exists()
    monkeypatch.delenv("DIE")
    (target / "iter_0000000").mkdir(parents=True)  # what one of NeMo-RL's own left that was interrupted
    assert converted() == (0, ["distributed: gloo", f"converted: {target}"])
    assert convert.is_whole(target)


def test_it_becomes_a_process_with_megatron_at_hand():
    words = convert.command(Path("/b/nemo_rl.yaml"), nemo_rl=Path("/opt/nemo-rl"))
    assert shlex.join(words) == (
        "uv run --extra mcore --directory=/opt/nemo-rl python -m ltrl_backends.nemo_rl.convert --here /b/nemo_rl.yaml"
    )


def test_without_nemo_rl_it_says_so(capsys):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [p for p in sys.path if not Path(p, "nemo_rl").exists()])
        assert convert.main(["config.yaml"]) == 1
    assert capsys.readouterr().err == "error[LTRL017]: NeMo-RL is not installed here: `convert` runs in its container\n"
