"""The NeMo-RL configuration of a spec: complete, nothing unknown, the same bytes everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ltrl.backend import create
from ltrl.compile import prepare
from ltrl.errors import LtrlError
from ltrl.plan import Plan
from ltrl_backends.nemo_rl import config
from ltrl_backends.nemo_rl.checks.keys import leaves
from ltrl_backends.nemo_rl.database import database, fits, versions
from ltrl_backends.nemo_rl.fidelity import ROWS, Row, fidelity_markdown
from ltrl_backends.nemo_rl.yaml import scalar

ROOT = Path(__file__).resolve().parent.parent
GOLDENS = Path(__file__).with_name("goldens")
SPECS = ["qwen4b", "deepseek8b", "qwen30b_moe"]


def planned(name: str, *sets: str) -> Plan:
    return prepare(ROOT / "specs" / f"{name}.yaml", sets=sets)


def file_of(plan: Plan) -> str:
    [artifact] = create(plan.resolved.engine).artifacts(plan)
    assert artifact.path == "nemo_rl.yaml"
    return artifact.text


def value(found: dict[str, Any], key: str) -> Any:
    for step in key.split("."):
        found = found[step]
    return found


@pytest.mark.parametrize("name", SPECS)
def test_file_is_the_golden(name: str) -> None:
    golden = GOLDENS / f"{name}.nemo_rl.yaml"
    text = file_of(planned(name))
    if os.environ.get("LTRL_UPDATE_GOLDENS") == "1":
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("version", versions())
def test_every_key_is_known_has_its_type_and_none_is_missing(name: str, version: str) -> None:
    plan = planned(name, f"engine={{name: nemo-rl, version: {version}}}")
    found, keys = config.settings(plan.resolved, plan.layout), database(version)
    assert [s.key for s in found if s.key not in keys] == []
    wrong = [
        (s.key, s.value, keys[s.key].type) for s in found if keys.get(s.key) and not fits(s.value, keys[s.key].type)
    ]
    assert wrong == []
    assert list(keys.missing(set(leaves(found)))) == []


@pytest.mark.parametrize("name", SPECS)
def test_file_reads_back_as_the_configuration(name: str) -> None:
    plan = planned(name)
    read = yaml.safe_load(file_of(plan))
    wanted = config.config(plan)
    for env in (block for block in wanted["env"].values() if isinstance(block, dict)):
        assert env["reward"]["judge"]["api_key"] == "${env:JUDGE_API_KEY}"
        env["reward"]["judge"]["api_key"] = r"\${env:JUDGE_API_KEY}"  # OmegaConf takes the backslash away
    assert read == wanted


def test_every_line_says_where_it_comes_from() -> None:
    plan = planned("qwen30b_moe")
    known = {
        "engine",
        "parallelism",
        "reward",
        "logging",
        *(f"cluster.{n}" for n in ("nodes", "gpus_per_node", "minutes")),
    }
    spec = plan.resolved.spec.model_dump()
    for setting in config.settings(plan.resolved, plan.layout):
        assert setting.field or setting.why, setting.key
        if setting.field in known or not setting.field:
            continue
        place: Any = spec
        for step in setting.field.split("."):
            place = place.get(step) if isinstance(place, dict) else None
            if place is None:  # a section that is off, such as `algorithm.asynchronous`
                break
        else:
            continue
        assert setting.field.split(".")[0] in spec, setting.field


@pytest.mark.parametrize(
    ("sets", "expected"),
    [
        (("algorithm.objective=reinforce",), {"loss_fn.disable_ppo_ratio": True}),
        (("algorithm.objective=cispo",), {"loss_fn.use_cispo": True}),
        (
            ("algorithm.ratio=sequence", "algorithm.loss_aggregation=sequence"),
            {"loss_fn.sequence_level_importance_ratios": True, "loss_fn.token_level_loss": False},
        ),
        (
            ("algorithm.advantage.divide_by_std=false",),
            {"grpo.normalize_rewards": False, "grpo.adv_estimator.normalize_rewards": False},
        ),
        (
            ("algorithm.kl={coefficient: 0.01, estimator: k2, in_reward: true}",),
            {
                "loss_fn.reference_policy_kl_penalty": 0.01,
                "loss_fn.reference_policy_kl_type": "k2",
                "loss_fn.use_kl_in_reward": True,
                "grpo.skip_reference_policy_logprobs_calculation": False,
            },
        ),
        (
            ("algorithm.importance_correction={kind: full}",),
            {"loss_fn.use_importance_sampling_correction": True, "loss_fn.truncated_importance_sampling_type": None},
        ),
        (
            ("algorithm.dynamic_sampling={max_batches: 4, batch_multiplier: 1.5}",),
            {
                "grpo.use_dynamic_sampling": True,
                "grpo.dynamic_sampling_max_gen_batches": 4,
                "grpo.batch_multiplier": 1.5,
            },
        ),
        (("algorithm.truncated=mask",), {"grpo.overlong_filtering": True}),
        (("algorithm.on_policy=true",), {"loss_fn.force_on_policy_ratio": True}),
        (
            (
                "algorithm.asynchronous={max_age_steps: 2, in_flight_updates: true}",
                "rollout={async_engine: true, nodes: 2, parallelism: {tensor: 8}}",
                "parallelism={tensor: 4, context: 4, expert: 8}",
            ),
            {
                "grpo.async_grpo.enabled": True,
                "grpo.async_grpo.max_trajectory_age_steps": 2,
                "policy.generation.colocated.enabled": False,
                "policy.generation.colocated.resources.num_nodes": 2,
                "policy.generation.colocated.resources.gpus_per_node": 8,
                "policy.offload_optimizer_for_logprob": True,
                "cluster.num_nodes": 4,
            },
        ),
        (
            ("optimizer={lr: 1e-5, schedule: cosine, min_lr: 1e-6, warmup_steps: 10}",),
            {
                "policy.megatron_cfg.optimizer.min_lr": 1e-6,
                "policy.megatron_cfg.scheduler.lr_decay_style": "cosine",
                "policy.megatron_cfg.scheduler.lr_warmup_iters": 10,
            },
        ),
        (
            ("data.validation={}",),
            {"data.validation": None, "grpo.val_period": 0, "grpo.val_at_start": False, "grpo.val_at_end": False},
        ),
        (
            ("model.context.prompt=100k", "model.context.response=10k"),
            {"policy.sequence_packing.train_mb_tokens": 112640},
        ),
        (("model.context={prompt: 1000, response: 100}",), {"policy.sequence_packing.train_mb_tokens": 1120}),
        (
            ("logging={rollouts: true, wandb: {project: p, entity: e}}",),
            {
                "env.should_log_nemo_gym_responses": False,
                "logger.wandb": {"project": "p", "name": "qwen30b-moe-longtrace", "entity": "e"},
            },
        ),
        (
            ("checkpoint={keep: 2, metric: 'val:accuracy', every_steps: 20}",),
            {"checkpointing.keep_top_k": 2, "checkpointing.metric_name": "val:accuracy"},
        ),
        (
            ("checkpoint={keep: 2, metric: 'train:loss'}",),
            {"checkpointing.metric_name": "train:loss", "checkpointing.higher_is_better": False},
        ),
        (
            ("checkpoint={keep: 2, keep_every: 40}",),
            {"checkpointing.keep_top_k": config.ALL, "checkpointing.ltrl": {"keep": 2, "keep_every": 40}},
        ),
        (("cluster.minutes=90",), {"checkpointing.checkpoint_must_save_by": "00:00:45:00"}),
        (
            ("engine={name: nemo-rl, recompute: selective, logprob_chunk_size: null}",),
            {"policy.megatron_cfg.recompute_granularity": "selective", "policy.megatron_cfg.defer_fp32_logits": False},
        ),
        (("rollout={stop_token_ids: [7], parallelism: {tensor: 8}}",), {"policy.generation.stop_token_ids": [7]}),
    ],
    ids=lambda v: v[0].split("=")[0] if isinstance(v, tuple) else "",
)
def test_field_becomes_its_keys(sets: tuple[str, ...], expected: dict[str, Any]) -> None:
    found = config.config(planned("qwen30b_moe", *sets))
    assert {key: value(found, key) for key in expected} == expected


def test_several_validation_sets_have_tasks_and_environments_of_their_own() -> None:
    sets = "data.validation={a: {backend: longtrace, path: a.jsonl}, b.c: {backend: longtrace, path: b.jsonl}}"
    found = config.config(planned("qwen4b", sets))
    assert [s["env_name"] for s in found["data"]["validation"]] == ["ltrl_validation_a", "ltrl_validation_b.c"]
    assert set(found["env"]) == {
        "should_log_nemo_gym_responses",
        "ltrl_train",
        "ltrl_validation_a",
        "ltrl_validation_b.c",
    }
    plan = planned("qwen4b", sets)
    assert yaml.safe_load(file_of(plan))["data"]["validation"] == found["data"]["validation"]


def test_overrides_stand_in_their_blocks() -> None:
    engine = (
        "engine={name: nemo-rl, overrides: {policy.refit_buffer_size_gb: 2, "
        "policy.generation.vllm_kwargs.max_num_seqs: 64, policy.megatron_cfg: {empty_unused_memory_level: 1}, "
        "policy.generation.vllm_kwargs: {enable_chunked_prefill: true}}}"
    )
    plan = planned("qwen30b_moe", engine)
    found = config.config(plan)
    assert found["policy"]["refit_buffer_size_gb"] == 2
    assert found["policy"]["megatron_cfg"]["empty_unused_memory_level"] == 1
    assert found["policy"]["generation"]["vllm_kwargs"] == {
        "moe_backend": "triton",
        "max_num_seqs": 64,
        "enable_chunked_prefill": True,
    }
    lines = file_of(plan).splitlines()
    assert "  refit_buffer_size_gb: 2  # engine.overrides" in lines
    assert yaml.safe_load(file_of(plan))["policy"]["generation"]["vllm_kwargs"]["max_num_seqs"] == 64


def test_an_older_version_gets_the_keys_it_has() -> None:
    old = config.config(planned("qwen30b_moe", "engine={name: nemo-rl, version: 0.6.0}"))
    new = config.config(planned("qwen30b_moe"))
    assert "use_cispo" not in old["loss_fn"]
    assert "clear_memory_caches_before_refit" not in old["policy"]["megatron_cfg"]
    for section in ("grpo", "checkpointing", "data", "logger", "cluster"):
        gone = {"advantage_clip_low", "advantage_clip_high"}
        assert old[section] == {k: v for k, v in new[section].items() if k not in gone}


@pytest.mark.parametrize(
    ("given", "written"),
    [
        (2e-6, "2.0e-06"),
        (1e-8, "1.0e-08"),
        (1.5e20, "1.5e+20"),
        (1e16, "1.0e+16"),
        (0.1, "0.1"),
        (1.0, "1.0"),
        (None, "null"),
        (True, "true"),
        ("no", '"no"'),
        ("a: b # c", '"a: b # c"'),
        ('ünï \t"quoted"\\', '"\\u00fcn\\u00ef \\t\\"quoted\\"\\\\"'),
        ([1, "a"], '[1, "a"]'),
        ({"a b": 1, "on": {}}, '{"a b": 1, "on": {}}'),
    ],
)
def test_scalar_is_read_back_by_pyyaml(given: object, written: str) -> None:
    assert scalar(given) == written
    assert yaml.safe_load(written) == given
    assert type(yaml.safe_load(written)) is type(given)


def test_interpolation_is_kept_from_omegaconf() -> None:
    assert scalar("${env:KEY}") == '"\\\\${env:KEY}"'
    assert yaml.safe_load(scalar(r"\${x}")) == r"\\\${x}"


def test_compiling_loads_nothing_heavy() -> None:
    heavy = "torch", "ray", "transformers", "nemo_rl", "omegaconf", "vllm"
    code = (
        "import sys\nfrom pathlib import Path\nfrom ltrl.backend import create\nfrom ltrl.compile import prepare\n"
        f"p = prepare(Path({str(ROOT / 'specs' / 'qwen30b_moe.yaml')!r}))\ncreate(p.resolved.engine).artifacts(p)\n"
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_planned_layout_that_breaks_a_rule_is_refused() -> None:
    from dataclasses import replace

    plan = planned("qwen30b_moe")
    broken = replace(plan, layout=replace(plan.layout, ep=24))
    with pytest.raises(LtrlError, match="experts do not divide"):
        create(plan.resolved.engine).artifacts(broken)


def test_database_knows_what_it_says() -> None:
    assert versions() == ("0.6.0", "0.7.0")
    keys = database("0.7.0")
    assert keys["policy.megatron_cfg.tensor_model_parallel_size"].required == "enabled"
    assert keys["grpo.num_prompts_per_step"].default == 32
    assert keys["policy.offload_optimizer_for_logprob"].required == "runtime"
    assert keys["policy.offload_optimizer_for_logprob"].read[0].startswith("nemo_rl/models/megatron/setup.py:")
    assert "policy.generation.vllm_kwargs.max_num_seqs" in keys
    assert "policy.generation.vllm_cfg.max_num_seqs" not in keys
    assert (
        keys.close("policy.megatron_cfg.tensor_model_paralel_size") == "policy.megatron_cfg.tensor_model_parallel_size"
    )
    assert keys.close("max_model_len") == "policy.generation.vllm_cfg.max_model_len"
    assert database("0.6.0").get("policy.router_replay.enabled") is None


@pytest.mark.parametrize("row", ROWS, ids=lambda r: r.flag.split(" ")[0])
def test_fidelity_table_tells_the_truth(row: Row) -> None:
    plan = planned("qwen30b_moe")
    if row.key and not row.flag.startswith("8B"):
        assert value(config.config(plan), row.key) == row.value
    if row.field and " " not in row.field and not row.flag.startswith("8B"):
        place: Any = plan.resolved.spec.model_dump()
        for step in row.field.split("."):
            place = place[step]
    assert bool(row.note) or row.grade == "exact"


def test_fidelity_page_has_every_row() -> None:
    page = fidelity_markdown()
    assert page.count("\n| ") == len(ROWS) + 1
