"""A rehearsal without a GPU: what of a run becomes small and what stays, its model, and what it says when it cannot."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ltrl.backend import create
from ltrl.catalog import find
from ltrl.compile import prepare
from ltrl.errors import Code, LtrlError
from ltrl_backends.nemo_rl.rehearsal import checkout
from ltrl_backends.nemo_rl.rehearsal.shrink import model_json

ROOT = Path(__file__).resolve().parent.parent
SPECS = ("qwen4b", "deepseek8b", "qwen30b_moe")
REHEARSED = {
    "grpo.max_num_steps": 4,
    "grpo.max_num_epochs": 4,
    "grpo.val_period": 2,
    "grpo.max_val_samples": 128,
    "checkpointing.save_period": 2,
    "policy.model_name": "model",
    "policy.tokenizer.name": "model",
    "policy.max_total_sequence_length": 576,
    "policy.sequence_packing.train_mb_tokens": 576,
    "policy.sequence_packing.logprob_mb_tokens": 576,
    "policy.make_sequence_length_divisible_by": 1,
    "policy.megatron_cfg.tensor_model_parallel_size": 1,
    "policy.megatron_cfg.pipeline_model_parallel_size": 1,
    "policy.megatron_cfg.context_parallel_size": 1,
    "policy.megatron_cfg.expert_model_parallel_size": 1,
    "policy.megatron_cfg.sequence_parallel": False,
    "policy.megatron_cfg.scheduler.lr_decay_iters": 4,
    "policy.generation.max_new_tokens": 64,
    "policy.generation.vllm_cfg.tensor_parallel_size": 1,
    "policy.generation.vllm_cfg.enable_vllm_metrics_logger": False,
    "policy.generation.vllm_cfg.max_model_len": 576,
    "data.max_input_seq_length": 512,
    "cluster.num_nodes": 1,
    "cluster.gpus_per_node": 1,
}
ELSEWHERE = {"checkpointing.checkpoint_must_save_by", "data.train", "data.validation"}
"""Of the machine's time, and of the next test."""


def compiled(name: str, *sets: str) -> dict[str, Any]:
    plan = prepare(ROOT / "specs" / f"{name}.yaml", sets=sets)
    files = {a.path: a.text for a in create(plan.resolved.engine).artifacts(plan)}
    if sets:
        assert (set(files), plan.to_json()["steps"]) == ({"nemo_rl.yaml", "small_model.json"}, 4)
    return dict(yaml.safe_load(files["nemo_rl.yaml"]))


def rehearsed(name: str) -> dict[str, Any]:
    return compiled(name, "engine.device=cpu")


def leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Keys with their values; a data set is one value."""
    for name, inner in tree.items():
        if isinstance(inner, dict) and prefix + name not in ("data.train", "data.validation"):
            yield from leaves(inner, f"{prefix}{name}.")
        else:
            yield prefix + name, inner


@pytest.mark.parametrize("name", SPECS)
def test_model_lengths_steps_and_machines_are_small_and_nothing_else_changes(name: str) -> None:
    real, small = dict(leaves(compiled(name))), dict(leaves(rehearsed(name)))
    assert real.keys() == small.keys()
    changed = {key: now for key, now in small.items() if now != real[key]}
    ours = {key: now for key, now in REHEARSED.items() if now != real[key]}
    assert {key: now for key, now in changed.items() if key not in ELSEWHERE} == ours


def test_long_prompts_are_cut_rather_than_left_out() -> None:
    real, small = compiled("qwen30b_moe")["data"], rehearsed("qwen30b_moe")["data"]
    cut = {"processor": "ltrl_cut", "tokenizer": "model", "max_prompt_tokens": None}
    assert small["train"] == {**real["train"], **cut}
    assert small["validation"] == {**real["validation"], **cut, "repeat": 1}


def test_the_cutting_processor_keeps_both_ends() -> None:
    torch = pytest.importorskip("torch")
    from ltrl_backends.nemo_rl.processor import process, process_cut

    class Letters:
        def apply_chat_template(self, messages: Any, **_: Any) -> str:
            return str(messages[0]["content"])

        def __call__(self, text: str, **_: Any) -> Any:
            return {"input_ids": torch.tensor([[ord(c) for c in text]])}

        def decode(self, ids: Any) -> str:
            return "".join(map(chr, ids.tolist()))

    row = {"messages": [{"role": "user", "content": "0123456789"}], "info": {"uid": "1"}, "task_name": "t"}
    found = process_cut(row, None, Letters(), 5, 0)
    assert (found["message_log"][0]["content"], found["length"], found["loss_multiplier"]) == ("01789", 5, 1.0)
    assert process(row, None, Letters(), 5, 0)["loss_multiplier"] == 0.0
    whole = process_cut(row, None, Letters(), 10, 0)
    assert (whole["message_log"][0]["content"], whole["length"]) == ("0123456789", 10)


MODELS = (
    "Qwen/Qwen3-30B-A3B-Thinking-2507",
    "Qwen/Qwen2.5-7B-Instruct",
    "deepseek-ai/DeepSeek-R1-0528-Qwen3-8B",
    "deepseek-ai/DeepSeek-V3",
    "meta-llama/Llama-3.1-8B-Instruct",
    "mistralai/Mixtral-8x7B-Instruct-v0.1",
)


@pytest.mark.filterwarnings("ignore")  # transformers' own
@pytest.mark.parametrize("name", MODELS)
def test_the_small_model_has_the_architecture_of_the_base_model(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from ltrl_backends.nemo_rl.rehearsal import small_model

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    card = find(name, project=tmp_path)
    described = tmp_path / "small_model.json"
    described.write_text(model_json(card) or "")
    said = small_model.make(described, tmp_path / "model")
    assert f"with a tokenizer of bytes, because that of `{name}` is not here: " in said
    assert small_model.make(described, tmp_path / "model").endswith("made by an earlier attempt")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["architectures"] == [card.architecture]
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert sum(p.numel() for p in model.parameters()) < 1_000_000
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    ids = tokenizer("naïve 東京 <think>\n</think><|im_end|>", return_tensors="pt")["input_ids"]
    assert tokenizer.decode(ids[0]) == "naïve 東京 <think>\n</think><|im_end|>"
    with torch.no_grad():
        assert model(input_ids=ids).logits.shape == (1, ids.shape[1], len(tokenizer))


def test_a_model_that_is_small_already_is_taken_as_it_is() -> None:
    card = dataclasses.replace(find("Qwen/Qwen3-4B", project=ROOT), num_layers=1, hidden_size=64, vocab_size=512)
    assert card.num_parameters < 50_000_000
    assert model_json(card) is None


def fake_checkout(directory: Path, numbers: str) -> Path:
    (directory / "nemo_rl").mkdir(parents=True)
    lines = "".join(f"{n} = {v}\n" for n, v in zip(("MAJOR", "MINOR", "PATCH"), numbers.split("."), strict=True))
    (directory / "nemo_rl" / "package_info.py").write_text(lines)
    return directory


def test_what_a_rehearsal_needs_is_said_before_it_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clone = "git clone --depth 1 --branch v0.7.0 https://github.com/NVIDIA-NeMo/RL nemo-rl"
    clone += " && export NEMO_RL=$PWD/nemo-rl"

    def told(where: Path | None, modules: tuple[str, ...] = ()) -> tuple[Code, str, str | None] | None:
        monkeypatch.setattr(checkout, "MODULES", modules)
        if where is None:
            monkeypatch.delenv("NEMO_RL", raising=False)
        else:
            monkeypatch.setenv("NEMO_RL", str(where))
        found = checkout.missing("0.7.0")
        return found and (found.code, found.message, found.hint)

    old, wanted = fake_checkout(tmp_path / "old", "0.5.1"), fake_checkout(tmp_path / "new", "0.7.0")
    assert told(wanted) is None
    assert told(old) == (
        Code.MISSING_EXTRA,
        f"`$NEMO_RL` is NeMo-RL 0.5.1 at `{old}`, the spec wants `engine.version` 0.7.0",
        f"`{clone}`",
    )
    assert told(tmp_path) == (
        Code.MISSING_EXTRA,
        f"`$NEMO_RL` is `{tmp_path}`, which is no checkout of NeMo-RL",
        f"`{clone}`",
    )
    assert told(None) == (
        Code.MISSING_EXTRA,
        "a rehearsal runs NeMo-RL's own code, and `$NEMO_RL` does not say where it is",
        f"`{clone}`",
    )
    assert told(wanted, ("json", "no_such_module")) == (
        Code.MISSING_EXTRA,
        "a rehearsal with NeMo-RL needs `no_such_module`, not installed here",
        "pip install 'ltrl[rehearsal]'",
    )


def test_a_rehearsal_takes_no_gpus() -> None:
    with pytest.raises(LtrlError) as caught:
        prepare(ROOT / "specs" / "qwen4b.yaml", cluster="slurm", sets=["engine.device=cpu"])
    [found] = caught.value.diagnostics
    assert (found.code, found.message, found.hint) == (
        Code.ENGINE_LIMIT,
        "`engine.device: cpu` uses no GPU, the cluster profile `slurm` asks for 4 x 8 GPUs",
        "`--cluster local`, or `ltrl rehearse`",
    )


def test_the_embedded_engine_needs_no_rehearsal() -> None:
    code = "import sys; from ltrl.cli import main; sys.argv = ['ltrl', 'rehearse', 'specs/quickstart.yaml']; main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "\nerror[LTRL024]: the engine `local` needs no rehearsal: it runs on this machine as it is\n"
    )


STARTUP = checkout.STARTUP / "sitecustomize.py"


def test_modules_that_are_missing_are_stood_for_and_others_are_not() -> None:
    code = """
import sys, runpy
runpy.run_path(sys.argv[1])
import wandb, mlflow.tracking
print(isinstance(wandb.Histogram, type), hasattr(wandb, "__wrapped__"))
try:
    import no_such_module
except ModuleNotFoundError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-I", "-c", code, str(STARTUP)], capture_output=True, text=True, check=True)
    assert done.stdout == "True False\nNo module named 'no_such_module'\n"
