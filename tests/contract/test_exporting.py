"""NeMo-RL's own converters on checkpoints in their layouts: what they leave undone is mended, and the model loads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import yaml
from model_server import small_model
from test_export import checkpoint_of
from transformers import AutoModelForCausalLM, AutoTokenizer

from ltrl import bundle as bundles
from ltrl.compile import compile_bundle

ROOT = Path(__file__).resolve().parents[2]


MEGATRON = {
    "bridge/__init__.py": """
import json, pathlib, shutil
class AutoBridge:
    @classmethod
    def from_hf_pretrained(cls, name, *, trust_remote_code, **overrides):
        made = cls()
        made.name, made.overrides = name, overrides
        return made
    def load_megatron_model(self, path, *, skip_temp_dist_context):
        assert (pathlib.Path(path) / "metadata.json").is_file()
        return [path]
    def save_hf_pretrained(self, model, path, *, strict):
        out = pathlib.Path(path)
        out.mkdir()
        for name in ("config.json", "model.safetensors"):
            shutil.copy(pathlib.Path(self.name) / name, out)
        told = {"base": self.name, "overrides": self.overrides, "checkpoint": model[0], "strict": strict}
        out.with_name("told.json").write_text(json.dumps(told))
""",
    "bridge/training/model_load_save.py": """
from contextlib import contextmanager
@contextmanager
def temporary_distributed_context(backend):
    assert backend == "gloo"  # on a CPU
    yield
""",
    "core/rerun_state_machine.py": "def destroy_rerun_state_machine(): pass",
    "core/tensor_parallel.py": "def model_parallel_cuda_manual_seed(seed): pass",
    "core/transformer.py": "class ModuleSpec: pass",
}
"""What NeMo-RL's own converter calls of Megatron, which needs a GPU to be installed."""


def job(run: Path, directory: Path, *paths: Path) -> subprocess.CompletedProcess[str]:
    """The stage of a run, where `uv run … python SCRIPT …` is this environment, which has what the converters need."""
    tools = directory / "tools"
    tools.mkdir()
    uv = f'cd "${{2#--directory=}}"; while [ "$1" != python ]; do shift; done; shift; exec {sys.executable} "$@"'
    (tools / "uv").write_text(f"#!/bin/sh\n{uv}\n")
    (tools / "uv").chmod(0o755)
    place = run / "stages" / "export"
    place.mkdir(parents=True)
    python = os.pathsep.join([*map(str, paths), os.environ["PYTHONPATH"]])
    path = {"PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": python, "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, "-m", "ltrl_backends.nemo_rl.export", "../../checkpoints", "model"],
        cwd=place,
        env={**os.environ, **path},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_megatron_converter_gets_what_it_reads(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "trial"
    bundle, _, _ = compile_bundle(ROOT / "specs" / "qwen4b.yaml", out=run / "bundle", remember=False)
    base = tmp_path / "base"
    small_model(base)
    step = checkpoint_of(run, 20, "megatron")
    config = yaml.safe_load((bundle.path / "nemo_rl.yaml").read_text())  # as NeMo-RL writes it into a checkpoint
    config["policy"] |= {"model_name": str(base)}
    config["policy"]["tokenizer"]["name"] = str(base)
    (step / "config.yaml").write_text(yaml.safe_dump(config))
    _, tokenizer = small_model(tmp_path / "other")
    tokenizer.save_pretrained(step / "policy" / "tokenizer")
    for name, text in MEGATRON.items():
        path = tmp_path / "site" / "megatron" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    done = job(run, tmp_path, tmp_path / "site")
    assert done.returncode == 0, done.stderr
    place = run / "stages" / "export" / "model"
    assert done.stdout.endswith(f"step 20: {place}/step_20\n")
    assert json.loads((place / "told.json").read_text()) == {
        "base": str(base),
        "overrides": {},
        "checkpoint": str(step / "policy" / "weights" / "iter_0000000"),
        "strict": True,
    }
    AutoModelForCausalLM.from_pretrained(place / "step_20")
    assert AutoTokenizer.from_pretrained(place / "step_20").chat_template == tokenizer.chat_template


def test_the_dcp_converter_makes_a_model_that_loads(tmp_path: Path) -> None:
    import torch
    from torch.distributed import checkpoint

    run = tmp_path / "runs" / "trial"
    bundle, _, _ = compile_bundle(ROOT / "specs" / "qwen4b.yaml", out=run / "bundle", remember=False)
    base = tmp_path / "base"
    model, tokenizer = small_model(base)
    with torch.no_grad():
        model.model.embed_tokens.weight.add_(1.0)  # trained: not the base model's weights
    step = run / "checkpoints" / "step_20"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that there is one process
        checkpoint.save({"model": model.state_dict()}, checkpoint_id=step / "policy" / "weights", no_dist=True)
    tokenizer.save_pretrained(step / "policy" / "tokenizer")
    policy = {"model_name": str(base), "tokenizer": {"name": str(base)}, "hf_config_overrides": {}}
    (step / "config.yaml").write_text(yaml.safe_dump({"policy": policy}))
    (step / "training_info.json").write_text(json.dumps({"total_steps": 20, "val:accuracy": 0.5}))
    done = job(run, tmp_path)
    assert done.returncode == 0, done.stderr
    exported = run / "stages" / "export" / "model" / "step_20"
    again = AutoModelForCausalLM.from_pretrained(exported)
    assert torch.equal(again.model.embed_tokens.weight, model.model.embed_tokens.weight)
    assert AutoTokenizer.from_pretrained(exported).chat_template == tokenizer.chat_template
    ends = json.loads((exported / "generation_config.json").read_bytes())["eos_token_id"]
    stops = bundles.read(bundle.path).resolved["model_card"]["stop_token_ids"]
    assert set(stops) <= {*(ends if isinstance(ends, list) else [ends])}
    assert "| accuracy | 0.5 |" in (exported / "README.md").read_text()
