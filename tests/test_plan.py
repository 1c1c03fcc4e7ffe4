"""The plan: which layout is chosen, which rank each GPU has, how a step is cut up, how often the data are seen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ltrl import compile, plan
from ltrl.errors import Code, LtrlError

ROOT = Path(__file__).resolve().parent.parent
MOE = ROOT / "specs" / "qwen30b_moe.yaml"
LTRL = "import sys; sys.argv[0] = 'ltrl'; from ltrl.cli import main; main()"

UNEQUAL = "engine={name: nemo-rl, overrides: {policy.logprob_batch_size: 2}}"
"""NeMo-RL refuses tp >= 4 when the batches of training and of log-probabilities differ."""


def ltrl(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-c", LTRL, *map(str, arguments)]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)


def test_search_lists_only_layouts_that_the_engine_accepts() -> None:
    every = plan.search(compile.resolved(MOE))
    assert {layout.tp for layout, _ in every} == {1, 2, 4}
    accepted = plan.search(compile.resolved(MOE, sets=[UNEQUAL]))
    assert accepted == [found for found in every if found[0].tp < 4]
    listed = json.loads(ltrl("plan", MOE, "--set", UNEQUAL, "--search", "--json").stdout)
    names = ("tp", "pp", "cp", "ep", "etp", "dp", "nodes", "gpus_per_node")
    assert [plan.Layout(**{n: row[n] for n in names}) for row in listed] == [layout for layout, _ in accepted]


def test_a_layout_left_to_the_planner_is_one_that_the_engine_accepts() -> None:
    chosen = compile.prepare(MOE, sets=[UNEQUAL, "parallelism=auto"]).layout
    assert chosen == plan.search(compile.resolved(MOE, sets=[UNEQUAL]))[0][0]


def test_search_says_what_the_engine_refuses_in_any_layout() -> None:
    with pytest.raises(LtrlError, match=r"`checkpoint\.metric`") as caught:
        plan.search(compile.resolved(MOE, sets=["checkpoint.metric=accuracy", "parallelism.context=3"]))
    assert len(caught.value.diagnostics) == 1  # the spec's own layout, which divides nothing, is not asked about


def test_without_gpus_there_is_no_layout_to_search() -> None:
    assert plan.search(compile.resolved(ROOT / "specs" / "quickstart.yaml")) == []


def test_a_run_on_nemo_rl_0_6_0_is_planned_without_chunks_in_its_loss() -> None:
    old, new = (compile.prepare(MOE, sets=[f"engine={{name: nemo-rl, version: {v}}}"]) for v in ("0.6.0", "0.7.0"))
    assert old.memory is not None
    assert new.memory is not None
    assert old.memory.training.total > new.memory.training.total
    assert old.memory.logprob == new.memory.logprob


def test_more_steps_than_a_machine_can_count_are_planned() -> None:
    steps = 10**29
    assert compile.prepare(MOE, sets=[f"algorithm.steps={steps}", "checkpoint.keep=2"]).to_json()["steps"] == steps


def test_a_seed_that_numpy_does_not_take_is_refused() -> None:
    with pytest.raises(LtrlError, match=r"`algorithm\.seed` is `4294967296`, expected less than 4294967296"):
        compile.prepare(MOE, sets=["algorithm.seed=4294967296"])


def test_what_does_not_fit_is_pointed_at_where_the_hint_changes_it() -> None:
    (one,) = compile.prepare(ROOT / "specs" / "qwen4b.yaml", sets=["rollout.gpu_memory=1"]).warnings
    assert one.code is Code.MEMORY
    assert one.hint is not None
    assert one.hint.startswith("the smallest change that fits: `rollout.gpu_memory` 1 -> ")
    assert one.position == compile.resolved(ROOT / "specs" / "qwen4b.yaml", sets=["rollout.gpu_memory=1"]).at(
        "rollout.gpu_memory"
    )


def groups(ranks: tuple[plan.Rank, ...], *same: str) -> list[list[int]]:
    """Ranks that agree in some places, as lists in their order."""
    found: dict[tuple[int, ...], list[int]] = {}
    for one in ranks:
        found.setdefault(tuple(getattr(one, name) for name in same), []).append(one.rank)
    return sorted(found.values())


def test_ranks_are_those_of_megatron_s_own_example() -> None:
    # Megatron-Core, parallel_state.py, docstring of initialize_model_parallel: 16 GPUs in two boxes, tp 2, pp 4
    ranks = plan._ranks(plan.Layout(tp=2, pp=4, cp=1, ep=1, etp=1, dp=2, nodes=2, gpus_per_node=8))
    pairs = [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 11], [12, 13], [14, 15]]
    assert groups(ranks, "pp", "dp", "cp") == pairs
    assert groups(ranks, "pp", "tp", "cp") == [[0, 2], [1, 3], [4, 6], [5, 7], [8, 10], [9, 11], [12, 14], [13, 15]]
    assert groups(ranks, "tp", "dp", "cp") == [[0, 4, 8, 12], [1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15]]
    assert [(r.node, r.gpu) for r in ranks] == [(i // 8, i % 8) for i in range(16)]


def test_ranks_are_nemo_rl_s_reshaped_world() -> None:
    numpy = pytest.importorskip("numpy")
    ranks = plan._ranks(plan.Layout(tp=2, pp=2, cp=4, ep=4, etp=1, dp=2, nodes=4, gpus_per_node=8))
    world = numpy.arange(32).reshape(2, -1, 4, 2)  # lm_policy.py: pp, dp, cp, tp
    assert all(world[r.pp, r.dp, r.cp, r.tp] == r.rank for r in ranks)
    assert groups(ranks, "pp", "expert_dp", "etp") == [list(range(i, i + 4)) for i in range(0, 32, 4)]
    assert groups(ranks, "pp", "ep", "etp")[0] == [0, 4, 8, 12]  # copies of one share of the experts


def test_a_step_is_cut_into_at_most_one_microbatch_for_each_response() -> None:
    sets = ["algorithm.batch_size=64", "parallelism={tensor: 4, pipeline: 2, context: 2, expert: 16}"]
    planned = compile.prepare(MOE, sets=sets)
    assert planned.layout.dp == 2
    assert planned.microbatches == plan.Microbatches(
        responses_per_replica=32, max_per_step=64, pipeline_idle=round(1 / 33, 4)
    )
    local = compile.prepare(ROOT / "specs" / "quickstart.yaml")
    assert (local.microbatches, local.ranks) == (None, ())


def test_epochs_are_counted_where_the_data_are_and_unknown_elsewhere(tmp_path: Path) -> None:
    planned = compile.prepare(MOE)
    missing = compile.training_data(planned, project=tmp_path)
    reason = "cannot read the data file `data/longtracerl/data.jsonl`: no such file or directory"
    assert (missing, missing.epochs) == (plan.TrainingData(3200, None, reason), None)
    (tmp_path / "data" / "longtracerl").mkdir(parents=True)
    (tmp_path / "data" / "longtracerl" / "data.jsonl").write_text("{}\n" * 800)
    found = compile.training_data(planned, project=tmp_path)
    assert (found, found.epochs) == (plan.TrainingData(3200, 800), 4.0)
    assert "LTRL_PROJECT_DIR" not in os.environ


def test_a_bundle_does_not_depend_on_where_the_data_are() -> None:
    assert "data" not in compile.prepare(MOE).to_json()


def test_the_whole_plan_is_as_it_was() -> None:
    done = ltrl("plan", "specs/qwen30b_moe.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    golden = Path(__file__).parent / "goldens" / "qwen30b_moe.plan.txt"
    if os.environ.get("LTRL_UPDATE_GOLDENS") == "1":
        golden.write_text(done.stdout, encoding="utf-8")
    assert done.stdout == golden.read_text(encoding="utf-8")


def test_the_plan_for_programs_says_what_the_printed_one_does() -> None:
    data = json.loads(ltrl("plan", "specs/qwen30b_moe.yaml", "--json").stdout)
    assert data["microbatches"] == {"responses_per_replica": 128, "max_per_step": 128, "pipeline_idle": 0.0078}
    assert data["data"]["num_prompts"] == 3200
    assert len(data["ranks"]) == 32
    assert data["ranks"][21] == {
        "rank": 21, "node": 2, "gpu": 5, "tp": 1, "cp": 1, "dp": 0, "pp": 1, "etp": 0, "ep": 5, "expert_dp": 0,
    }  # fmt: skip


def test_weights_that_pay_nobody_are_warned_of_at_their_line() -> None:
    spec = ROOT / "specs" / "quickstart.yaml"
    planned = compile.prepare(spec, sets=["reward={backend: rubric, eta: 1.0}"])
    [found] = [w for w in planned.warnings if w.code is Code.POINTLESS_REWARD]
    assert found.message == "with `eta: 1` no judge is asked and `scope: positive-only` pays nobody: every reward is 0"
    assert found.severity == "warning"
    assert found.position is not None
    assert found.position.source.text[found.position.column - 1 :].startswith("1.0}")
    planned = compile.prepare(spec, sets=["reward={backend: rubric, eta: 1.0, scope: all}"])
    assert not [w for w in planned.warnings if w.code is Code.POINTLESS_REWARD]


def test_a_chat_format_that_nobody_brings_is_refused() -> None:
    with pytest.raises(LtrlError, match="unknown chat format `chatml`") as caught:
        compile.prepare(ROOT / "specs" / "quickstart.yaml", sets=["model.chat_format=chatml"])
    assert caught.value.diagnostics[0].hint == "installed: `auto`, `deepseek-r1`, `plain`, `qwen3`"
