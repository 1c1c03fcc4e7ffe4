"""NeMo-RL's own converter on a checkpoint in its layout: what it leaves undone is mended, and the model loads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import yaml
from model_server import small_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from ltrl import bundle as bundles
from ltrl.compile import compile_bundle

ROOT = Path(__file__).resolve().parents[2]


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
    tools = tmp_path / "tools"
    tools.mkdir()
    # `uv run --directory=D python SCRIPT …` in this environment, which has what the converter needs
    (tools / "uv").write_text(f'#!/bin/sh\ncd "${{2#--directory=}}" && shift 3 && exec {sys.executable} "$@"\n')
    (tools / "uv").chmod(0o755)
    place = run / "stages" / "export"
    place.mkdir(parents=True)
    nemo_rl = os.environ["NEMO_RL"]
    path = {"PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": nemo_rl, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "ltrl_backends.nemo_rl.export", "../../checkpoints", "model"],
        cwd=place,
        env={**os.environ, **path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    exported = place / "model" / "step_20"
    again = AutoModelForCausalLM.from_pretrained(exported)
    assert torch.equal(again.model.embed_tokens.weight, model.model.embed_tokens.weight)
    assert AutoTokenizer.from_pretrained(exported).chat_template == tokenizer.chat_template
    ends = json.loads((exported / "generation_config.json").read_bytes())["eos_token_id"]
    stops = bundles.read(bundle.path).resolved["model_card"]["stop_token_ids"]
    assert set(stops) <= {*(ends if isinstance(ends, list) else [ends])}
    assert "| accuracy | 0.5 |" in (exported / "README.md").read_text()
