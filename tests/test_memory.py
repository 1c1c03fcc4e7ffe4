"""Does it fit: agreement with Megatron-LM's estimator, and what must hold for any model."""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltrl.catalog import ModelCard, card_from_config, find
from ltrl.memory import (
    EngineSizes,
    Layout,
    MemoryEstimate,
    Settings,
    Term,
    estimate,
    obstacles,
    search,
    smallest_change,
)
from ltrl.spec import RolloutParallelism

GIB = 2**30
CONTEXT = 131072 + 32768
SMALL, DISTILL, MIXTURE = (
    "Qwen/Qwen3-4B-Thinking-2507",
    "deepseek-ai/DeepSeek-R1-0528-Qwen3-8B",
    "Qwen/Qwen3-30B-A3B-Thinking-2507",
)


def card(name: str) -> ModelCard:
    return find(name, project=Path(__file__).parent)


def layout(tp: int = 1, pp: int = 1, cp: int = 1, ep: int = 1, *, nodes: int = 4, gpus: int = 8) -> Layout:
    return Layout(tp, pp, cp, ep, 1, nodes * gpus // (tp * pp * cp), nodes, gpus)


def shipped(model: str, sizes: Layout, **changes: Any) -> MemoryEstimate:
    usual: Settings = {
        "context_total": CONTEXT,
        "gpu_memory_gb": 80.0,
        "rollout": EngineSizes(tensor=8),
        "gpu_memory_share": 0.7,
    }
    return estimate(card(model), sizes, **{**usual, **changes})


def term(terms: tuple[Term, ...], name: str) -> Term:
    (found,) = (t for t in terms if t.name == name)
    return found


def state_bytes(found: MemoryEstimate) -> int:
    return sum(term(found.training.terms, name).bytes for name in ("weights", "gradients", "optimizer states"))


# Agreement with Megatron-LM's megatron/training/theoretical_memory_usage.py (main, d98e8a64): bf16 weights, fp32
# gradients and 12 B of optimizer per parameter and data-parallel rank, 6 + 12 / dp bytes in all.


def megatron(model: ModelCard, sizes: Layout, context: int = 4096) -> MemoryEstimate:
    return estimate(
        model,
        sizes,
        context_total=context,
        gpu_memory_gb=80.0,
        gradients_in_fp32=True,
        precision_aware_optimizer=False,
        recompute="none",
        fused_kernels=True,
    )


def test_weights_and_optimizer_of_llama_8b_equal_megatrons() -> None:
    # attention 2 x 4096^2 x (1 + 8/32) = 41,943,040, feed-forward 3 x 4096 x 14336 = 176,160,768, norms 2 x 4096
    # one rank of tp 2: 32 x (41,943,040 + 176,160,768) / 2 = 3,489,660,928
    #   + both embedding matrices 2 x 128256 x 4096 / 2 = 525,336,576
    #   + replicated 32 x 8192 + 4096 = 266,240
    # = 4,015,263,744 parameters x (6 + 12 / dp 16) B
    found = megatron(card("meta-llama/Llama-3.1-8B"), layout(tp=2))
    assert state_bytes(found) == 4_015_263_744 * 6.75 == 27_103_030_272


def test_weights_and_optimizer_of_llama_70b_equal_megatrons_with_a_pipeline() -> None:
    # attention 2 x 8192^2 x (1 + 8/64) = 150,994,944, feed-forward 3 x 8192 x 28672 = 704,643,072, norms 2 x 8192
    # tp 8, pp 4: 80 / 4 x 855,638,016 / 8 = 2,139,095,040, one embedding matrix 128256 x 8192 / 8 = 131,334,144
    # and replicated (80 x 16384 + 8192) / 4 = 329,728: 2,270,758,912 parameters x (6 + 12 / dp 1) B.
    # Megatron spreads the last norm's 8192 weights over the stages; the first stage, the fullest here, has none of it.
    found = megatron(card("meta-llama/Llama-3.1-70B"), layout(tp=8, pp=4))
    assert "first stage" in term(found.training.terms, "weights").formula
    assert state_bytes(found) == (2_270_758_912 - 8192 // 4) * 18


def test_weights_and_optimizer_of_mixtral_equal_megatrons() -> None:
    # one node, tp 2, ep 4: attention 32 x 41,943,040 / 2 = 671,088,640, embeddings 2 x 32000 x 4096 / 2 = 131,072,000,
    # replicated 32 x (2 x 4096 + router 8 x 4096) + 4096 = 1,314,816: 803,475,456 x (6 + 12 / dp 4) B
    # experts 32 x 8 x 176,160,768 / 4 = 11,274,289,152 x (6 + 12 / expert dp 2) B
    found = megatron(card("mistralai/Mixtral-8x7B-v0.1"), layout(tp=2, ep=4, nodes=1))
    assert state_bytes(found) == 803_475_456 * 9 + 11_274_289_152 * 12 == 142_522_748_928


def test_activations_without_recomputation_equal_megatrons_but_for_known_parts() -> None:
    # Llama-2-7B has one key head per query head, as Megatron's formula assumes: tokens x h x (18 + 4 f / h) per layer,
    # over tp. Of the 18, 2 are the masks of dropout, which RL has not; a gated layer keeps gate, up and product (6 f)
    # instead of 4 f; flash attention keeps 4 B of softmax statistics per head.
    llama = card_from_config(
        {
            "model_type": "llama",
            "num_hidden_layers": 32,
            "hidden_size": 4096,
            "intermediate_size": 11008,
            "num_attention_heads": 32,
            "num_key_value_heads": 32,
            "vocab_size": 32000,
            "max_position_embeddings": 4096,
        },
        "meta-llama/Llama-2-7b-hf",
    )
    assert llama.num_parameters == 6_738_415_616
    by_megatron = 32 * 4096 * (18 * 4096 + 4 * 11008) // 4
    known = 32 * 4096 * (-2 * 4096 + 2 * 11008 + 4 * 32) // 4
    found = megatron(llama, layout(tp=4))
    assert term(found.training.terms, "activations kept for backward").bytes == by_megatron + known
    assert by_megatron == 3_858_759_680
    assert known / by_megatron == pytest.approx(0.118, abs=0.001)


# Worked by hand for the shipped specs


def test_logits_equal_those_worked_by_hand() -> None:
    # 3.4: 40,960 tokens x 37,984 columns x 2 B = 3.1 GB in bf16 with cp 4 and tp 4; 12.4 GB with tp 1
    found = shipped(DISTILL, layout(tp=4, pp=2, cp=4))
    logits = term(found.logprob.terms, "logits")
    assert logits.formula == (
        "last stage: 163,840 tokens / cp 4 x 37,984 logits x 2 B + chunk of 2,048 x 37,984 x 16 B"
    )
    assert logits.bytes == 40_960 * 37_984 * 2 + 2048 * 37_984 * 16 + 40_960 * 4096 * 2
    assert round(40_960 * 37_984 * 2 / 1e9, 1) == 3.1


def test_cache_per_token_equals_that_worked_by_hand() -> None:
    # 7.4: 24 KB a token and GPU for 30B-A3B at tp 8, where 4 key and value heads are copied; 18 KB for the dense ones
    found = {name: shipped(name, layout(tp=4, pp=2, cp=4)) for name in (SMALL, DISTILL, MIXTURE)}
    assert {name: e.kv_bytes_per_token for name, e in found.items()} == {
        SMALL: 18 * 1024,
        DISTILL: 18 * 1024,
        MIXTURE: 24 * 1024,
    }


def test_cache_of_latent_attention_is_the_compressed_vector() -> None:
    found = estimate(card("deepseek-ai/DeepSeek-V3"), layout(tp=8), context_total=4096, gpu_memory_gb=80.0)
    assert found.kv_bytes_per_token == 61 * (512 + 64) * 2


def test_optimizer_is_sharded_over_context_ranks_and_expert_replicas() -> None:
    # 3.4: on 32 GPUs with tp 4, pp 2, cp 4, ep 16 dense weights are sharded 32 ways, experts ep x pp = 32 ways
    found = shipped(MIXTURE, layout(4, 2, 4, 16))
    experts = 48 * 128 * 3 * 2048 * 768 // 32
    assert term(found.training.terms, "optimizer states").formula == (
        f"(197,435,392 / (dp 1 x cp 4) + {experts:,} / expert dp 1) x 10 B"
    )


# The shipped experiments


@pytest.mark.parametrize(
    ("name", "expert", "sequences"),
    [(SMALL, 1, 18), (DISTILL, 1, 18), (MIXTURE, 16, 12)],
)
def test_shipped_layout_fits(name: str, expert: int, sequences: int) -> None:
    sizes = layout(tp=4, pp=2, cp=4, ep=expert)
    assert obstacles(card(name), sizes) == ()
    found = shipped(name, sizes)
    assert found.verdict == "fits"
    assert found.fits
    assert found.sequences_per_engine == sequences
    assert found.num_engines == 4
    assert 0 < found.headroom < 80 * GIB


@pytest.mark.parametrize("name", [SMALL, DISTILL, MIXTURE])
def test_one_gpu_does_not_hold_the_context(name: str) -> None:
    found = shipped(name, layout())
    assert found.verdict == "does not fit"
    assert not found.fits
    assert found.worst is found.training
    assert found.headroom < -100 * GIB


def test_estimate_of_the_8b_in_full() -> None:
    found = shipped(DISTILL, layout(tp=4, pp=2, cp=4))
    assert {t.name: t.bytes for t in found.training.terms} == {
        "weights": 1_023_959_552 * 2,
        "gradients": 1_023_959_552 * 2,
        "optimizer states": 1_023_959_552 // 4 * 10,
        "layer inputs kept for recomputation": 163_840 // 16 * 18 * 4096 * 2,
        "logits and loss": 37_984 * (40_960 * 6 + 2048 * 28) + 40_960 * 4096 * 2,
        "rotary tables": 163_840 * 128 * 8,
        "Megatron process": 3 * GIB,
        "rollout engine asleep": 4 * GIB,
    }
    assert {t.name: t.bytes for t in found.disk.terms} == {
        "weights": 8_190_735_360 * 2,
        "optimizer states": 8_190_735_360 * 12,
        "converted start model": 8_190_735_360 * 2,
    }


def test_spec_section_serves_as_engine_sizes() -> None:
    as_spec = shipped(DISTILL, layout(4, 2, 4), rollout=RolloutParallelism(tensor=8))
    assert as_spec == shipped(DISTILL, layout(4, 2, 4))


# What each setting does


def kept(recompute: Literal["full", "selective", "none"]) -> int:
    return shipped(DISTILL, layout(tp=4, pp=2, cp=4), recompute=recompute).training.total


def test_recomputation_saves_memory() -> None:
    assert kept("full") < kept("selective") < kept("none")


def test_logits_in_one_piece_need_more() -> None:
    sizes = layout(tp=4, pp=2, cp=4)
    chunked, whole = shipped(DISTILL, sizes), shipped(DISTILL, sizes, logprob_chunk=None)
    assert chunked.training.total < whole.training.total
    assert chunked.logprob.total < whole.logprob.total


def test_filtered_sampling_defeats_the_chunks_of_the_loss() -> None:
    sizes = layout(tp=4, pp=2, cp=4)
    filtered = shipped(DISTILL, sizes, filtered_sampling=True)
    assert filtered.training.total > shipped(DISTILL, sizes, logprob_chunk=None).training.total
    assert "chunk" not in term(filtered.training.terms, "logits and loss").formula


def test_a_loss_without_chunks_needs_as_much_as_one_in_one_piece() -> None:
    sizes = layout(tp=4, pp=2, cp=4)
    chunked, old = shipped(DISTILL, sizes), shipped(DISTILL, sizes, loss_in_chunks=False)
    assert old.logprob == chunked.logprob
    assert old.training.total == shipped(DISTILL, sizes, logprob_chunk=None).training.total > chunked.training.total
    assert term(old.training.terms, "logits and loss").source.startswith("NeMo-RL v0.6.0 ")


def test_separate_rollout_nodes_leave_the_trainer_alone() -> None:
    sizes = layout(tp=4, pp=2, cp=4)
    together, apart = shipped(DISTILL, sizes), shipped(DISTILL, sizes, colocated=False, rollout_gpus=64)
    assert together.training.total - apart.training.total == 4 * GIB
    assert "optimizer states" in {t.name for t in apart.logprob.terms}
    assert "optimizer states" not in {t.name for t in together.logprob.terms}
    assert "Megatron process" not in {t.name for t in apart.rollout.terms}
    assert (together.num_engines, apart.num_engines) == (4, 8)
    assert apart.host.total < together.host.total


def test_reference_model_and_node_memory_are_counted() -> None:
    sizes = layout(tp=4, pp=2, cp=4)
    without = shipped(DISTILL, sizes, host_memory_gb=64.0)
    assert without.verdict == "does not fit"
    assert without.host.headroom is not None
    assert without.host.headroom < 0
    with_reference = shipped(DISTILL, sizes, reference_model=True)
    assert with_reference.host.total - without.host.total == 2 * 8 * 1_023_959_552 * 2


def test_checkpoints_fill_the_disk() -> None:
    once = shipped(DISTILL, layout(4, 2, 4))
    ten = shipped(DISTILL, layout(4, 2, 4), checkpoints_kept=10, save_optimizer=False)
    assert once.disk.total == 8_190_735_360 * 16
    assert ten.disk.total == 8_190_735_360 * 22
    assert ten.disk.headroom is None


def test_engine_without_room_for_one_sequence_does_not_fit() -> None:
    found = shipped(MIXTURE, layout(4, 2, 4, 16), rollout=EngineSizes(tensor=1), gpu_memory_share=0.8)
    assert found.sequences_per_engine == 0
    assert found.rollout.verdict == "fits"
    assert found.verdict == "does not fit"


def test_fixed_refit_buffer_is_taken() -> None:
    found = shipped(DISTILL, layout(4, 2, 4), refit_buffer_gb=4.0)
    assert term(found.refit.terms, "refit buffer").bytes == 4 * GIB + 2 * 151_936 * 4096 * 2


def test_verdict_is_tight_when_only_the_upper_end_is_too_large() -> None:
    found = shipped(DISTILL, layout(4, 2, 4))
    low, high = found.training.band
    assert low < found.training.total < high
    phase = dataclasses.replace(found.training, capacity=found.training.total)
    assert phase.verdict == "tight"
    assert dataclasses.replace(phase, capacity=phase.total - 1).verdict == "does not fit"
    assert dataclasses.replace(phase, capacity=high).verdict == "fits"
    assert dataclasses.replace(found, training=phase).verdict == "tight"


# Layouts


def test_obstacles_name_the_arithmetic() -> None:
    moe = card(MIXTURE)
    assert obstacles(moe, Layout(8, 5, 1, 24, 5, 1, 4, 8)) == (
        "the number of GPUs (32) is no multiple of tp 8 x pp 5 x cp 1 (40)",
        "the number of layers (48) is no multiple of pp (5)",
        "the number of key and value heads (4) is no multiple of tp (8)",
        "the number of experts (128) is no multiple of ep (24)",
        "the inner width of an expert (768) is no multiple of etp (5)",
        "the number of GPUs (32) is no multiple of etp 5 x ep 24 x pp 5 (600)",
    )
    assert obstacles(moe, Layout(2, 1, 1, 1, 1, 1, 4, 8)) == ("dp is 1, but 32 GPUs / 2 are 16",)
    assert obstacles(card(DISTILL), layout(ep=2)) == ("ep 2 x etp 1 for a model without experts",)


@pytest.mark.parametrize("name", [SMALL, DISTILL, MIXTURE])
def test_search_lists_valid_layouts_best_first(name: str) -> None:
    found = search(
        card(name),
        32,
        8,
        batch_size=128,
        context_total=CONTEXT,
        gpu_memory_gb=80.0,
        rollout=EngineSizes(tensor=8),
        gpu_memory_share=0.7,
    )
    assert len({sizes for sizes, _ in found}) == len(found)
    assert all(obstacles(card(name), sizes) == () and sizes.tp <= 8 for sizes, _ in found)
    ranks = [{"fits": 0, "tight": 1, "does not fit": 2}[e.verdict] for _, e in found]
    assert ranks == sorted(ranks)
    assert ranks[0] == 0
    assert {sizes.pp for sizes, e in found[:5]} == {1}
    shortages = [e.headroom for _, e in found if not e.fits]
    assert shortages == sorted(shortages, reverse=True)
    for sizes, e in found[:3]:
        assert e == shipped(name, sizes)


def test_search_keeps_to_the_batch() -> None:
    found = search(card(SMALL), 32, 8, batch_size=4, context_total=1024, gpu_memory_gb=80.0)
    assert {sizes.dp for sizes, _ in found} == {1, 2, 4}


def test_search_finds_nothing_where_nothing_divides() -> None:
    assert search(card(SMALL), 32, 8, batch_size=3, context_total=1024, gpu_memory_gb=80.0)[0][0].dp == 1


def test_layout_that_fits_needs_no_change() -> None:
    usual: Settings = {"context_total": CONTEXT, "gpu_memory_gb": 80.0, "rollout": EngineSizes(tensor=8)}
    assert smallest_change(card(DISTILL), layout(4, 2, 4), **usual) is None


@pytest.mark.parametrize(
    ("name", "sizes", "changes", "what"),
    [
        (SMALL, layout(), {}, "`parallelism.tensor` 1 -> 4"),
        (DISTILL, layout(tp=2, pp=2), {}, "`parallelism.context` 1 -> 2"),
        (MIXTURE, layout(), {}, "`parallelism.context` 1 -> 8, `parallelism.pipeline` 1 -> 4"),
        (
            DISTILL,
            layout(tp=4, pp=2, cp=4),
            {"rollout": EngineSizes(tensor=1), "gpu_memory_share": 0.4},
            "`rollout.parallelism.tensor` 1 -> 2",
        ),
        (DISTILL, layout(tp=4, pp=2, cp=4), {"gpu_memory_share": 1.0}, "`rollout.gpu_memory` 1 -> 0.9"),
        (DISTILL, layout(tp=4, cp=2), {"recompute": "none"}, "`engine.recompute` none -> full"),
        (DISTILL, layout(tp=2, cp=4), {"logprob_chunk": None}, "`engine.logprob_chunk_size` null -> 2048"),
        (
            "Qwen/Qwen2.5-72B-Instruct",
            layout(tp=8, nodes=1),
            {},
            "`nodes` of the cluster 1 -> 4, `parallelism.context` 1 -> 4",
        ),
    ],
)
def test_smallest_change_makes_it_fit(name: str, sizes: Layout, changes: Settings, what: str) -> None:
    usual: Settings = {"context_total": CONTEXT, "gpu_memory_gb": 80.0, "rollout": EngineSizes(tensor=8)}
    chosen: Settings = {**usual, **changes}
    assert not estimate(card(name), sizes, **chosen).fits
    change = smallest_change(card(name), sizes, batch_size=128, **chosen)
    assert change is not None
    assert change.what == what
    assert change.estimate.fits
    assert change.estimate == estimate(card(name), change.layout, **change.settings)
    assert obstacles(card(name), change.layout) == ()


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"filtered_sampling": True}, "`parallelism.context` 4 -> 8, `parallelism.pipeline` 2 -> 1"),
        ({"gpu_memory_share": 0.92}, "`rollout.gpu_memory` 0.92 -> 0.9"),
    ],
)
def test_a_tight_layout_is_told_what_fits_without_doubt(changes: Settings, what: str) -> None:
    usual: Settings = {"context_total": CONTEXT, "gpu_memory_gb": 80.0, "rollout": EngineSizes(tensor=8)}
    chosen: Settings = {**usual, **changes}
    assert estimate(card(MIXTURE), layout(4, 2, 4, 16), **chosen).verdict == "tight"
    change = smallest_change(card(MIXTURE), layout(4, 2, 4, 16), batch_size=128, **chosen)
    assert change is not None
    assert change.what == what
    assert change.estimate.verdict == "fits"


def test_shorter_context_is_the_last_resort() -> None:
    change = smallest_change(
        # no share of one GPU caches a million tokens at 128 KiB each
        card("meta-llama/Llama-3.1-8B"),
        layout(nodes=1, gpus=1),
        context_total=2**20,
        gpu_memory_gb=140.0,
    )
    assert change is not None
    assert change.what.startswith("`model.context` 1,048,576 -> ")
    assert change.settings["context_total"] % 4096 == 0
    longer: Settings = {**change.settings, "context_total": change.settings["context_total"] + 4096}
    assert not estimate(card("meta-llama/Llama-3.1-8B"), change.layout, **longer).fits


def test_nothing_helps_a_hopeless_model() -> None:
    tiny: Settings = {"context_total": 4096, "gpu_memory_gb": 4.0}
    assert smallest_change(card("meta-llama/Llama-3.1-405B"), layout(nodes=1, gpus=1), **tiny) is None


def test_an_estimate_takes_milliseconds() -> None:
    model, sizes = card(MIXTURE), layout(4, 2, 4, 16)
    started = time.perf_counter()
    for _ in range(50):
        estimate(model, sizes, context_total=CONTEXT, gpu_memory_gb=80.0)
    assert (time.perf_counter() - started) / 50 < 0.005


# Properties

powers = st.sampled_from([1, 2, 4, 8])
contexts = st.integers(1024, 2**20)
recomputations = st.sampled_from(["full", "selective", "none"])
chunks = st.sampled_from([None, 512, 2048])


@st.composite
def models(draw: st.DrawFn) -> ModelCard:
    """Shapes that any tp up to 8 and any pp up to 8 divide."""
    heads, kv_heads = draw(st.sampled_from([(8, 8), (16, 8), (32, 8), (64, 16)]))
    experts = draw(st.sampled_from([0, 0, 8, 64]))
    return ModelCard(
        name="drawn",
        architecture="Qwen3ForCausalLM",
        num_layers=8 * draw(st.integers(1, 12)),
        hidden_size=256 * draw(st.integers(1, 32)),
        ffn_size=256 * draw(st.integers(1, 100)),
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=draw(st.sampled_from([64, 128])),
        vocab_size=draw(st.integers(1000, 200_000)),
        tied_embeddings=draw(st.booleans()),
        qk_norm=draw(st.booleans()),
        attention_bias=draw(st.booleans()),
        num_experts=experts,
        experts_per_token=min(experts, draw(st.integers(1, 8))),
        expert_ffn_size=64 * draw(st.integers(1, 32)) if experts else 0,
        max_positions=2**20,
        rope_theta=1e6,
        rope_scaling=None,
        stop_token_ids=(0,),
        chat_format="plain",
    )


def activations(found: MemoryEstimate) -> int:
    fixed = {"weights", "gradients", "optimizer states", "Megatron process", "rollout engine asleep"}
    return sum(t.bytes for t in found.training.terms if t.name not in fixed)


def chosen(context: int, recompute: str, chunk: int | None) -> Settings:
    assert recompute in ("full", "selective", "none")
    return {
        "context_total": context,
        "gpu_memory_gb": 80.0,
        "recompute": recompute,  # type: ignore[typeddict-item]  # a drawn text
        "logprob_chunk": chunk,
    }


@given(models(), powers, powers, powers, contexts, recomputations, chunks)
@settings(max_examples=150, deadline=None)
def test_totals_are_sums_and_bands_enclose_them(
    model: ModelCard, tp: int, pp: int, cp: int, context: int, recompute: str, chunk: int | None
) -> None:
    found = estimate(model, layout(tp, pp, cp, nodes=64), **chosen(context, recompute, chunk))
    for phase in (*found.phases, found.host, found.disk):
        assert phase.total == sum(t.bytes for t in phase.terms)
        assert all(t.bytes >= 0 and t.formula and t.source for t in phase.terms)
        low, high = phase.band
        assert 0 <= low <= phase.total <= high
    assert found.headroom == min(phase.headroom or 0 for phase in found.phases)


@given(models(), st.sampled_from([1, 2, 4]), powers, powers, contexts)
@settings(max_examples=150, deadline=None)
def test_more_tensor_parallelism_never_needs_more_weight_memory(
    model: ModelCard, tp: int, pp: int, cp: int, context: int
) -> None:
    few, many = (
        estimate(model, layout(size, pp, cp, nodes=64), **chosen(context, "full", 2048)) for size in (tp, 2 * tp)
    )
    assert term(many.refit.terms, "weights").bytes <= term(few.refit.terms, "weights").bytes


@given(models(), powers, st.sampled_from([1, 2, 4]), contexts)
@settings(max_examples=150, deadline=None)
def test_more_pipeline_stages_never_need_more_weight_memory(model: ModelCard, tp: int, pp: int, context: int) -> None:
    # a tied embedding matrix is kept on both ends of a pipeline, and without one only once
    few, many = (estimate(model, layout(tp, size, nodes=64), **chosen(context, "full", 2048)) for size in (pp, 2 * pp))
    assert term(many.refit.terms, "weights").bytes <= term(few.refit.terms, "weights").bytes


@given(models(), powers, powers, st.sampled_from([1, 2, 4]), contexts, recomputations, chunks)
@settings(max_examples=150, deadline=None)
def test_more_context_parallelism_never_needs_more_activation_memory(
    model: ModelCard, tp: int, pp: int, cp: int, context: int, recompute: str, chunk: int | None
) -> None:
    few, many = (
        estimate(model, layout(tp, pp, size, nodes=64), **chosen(context, recompute, chunk)) for size in (cp, 2 * cp)
    )
    # the rotary tables hold every position; padding to a larger multiple may add some
    spare = term(many.training.terms, "rotary tables").bytes - term(few.training.terms, "rotary tables").bytes
    assert activations(many) <= activations(few) + max(0, spare)


@given(models(), powers, powers, powers, contexts, st.integers(0, 2**18), recomputations, chunks)
@settings(max_examples=150, deadline=None)
def test_longer_context_never_needs_fewer_bytes(
    model: ModelCard, tp: int, pp: int, cp: int, context: int, more: int, recompute: str, chunk: int | None
) -> None:
    sizes = layout(tp, pp, cp, nodes=64)
    short, long = (estimate(model, sizes, **chosen(n, recompute, chunk)) for n in (context, context + more))
    for before, after in zip((*short.phases, short.host), (*long.phases, long.host), strict=True):
        assert before.total <= after.total
    assert short.sequences_per_engine >= long.sequences_per_engine


@given(models(), powers, powers)
@settings(max_examples=150, deadline=None)
def test_all_ranks_together_hold_every_weight(model: ModelCard, tp: int, pp: int) -> None:
    found = estimate(model, layout(tp, pp, nodes=64), context_total=4096, gpu_memory_gb=80.0)
    assert term(found.refit.terms, "weights").bytes * tp * pp >= 2 * model.num_parameters


@given(models(), powers, powers, contexts)
@settings(max_examples=100, deadline=None)
def test_recomputation_never_needs_more(model: ModelCard, tp: int, cp: int, context: int) -> None:
    # (with one layer per stage there would be nothing to win: its input comes on top of the layer computed again)
    full, selective, none = (
        estimate(model, layout(tp, 1, cp, nodes=64), **chosen(context, how, 2048)).training.total
        for how in ("full", "selective", "none")
    )
    assert full <= selective <= none


@given(st.sampled_from([SMALL, DISTILL, MIXTURE]), st.sampled_from([8, 16, 32, 64]), contexts)
@settings(max_examples=25, deadline=None)
def test_search_agrees_with_the_estimate(name: str, gpus: int, context: int) -> None:
    found = search(card(name), gpus, 8, context_total=context, gpu_memory_gb=80.0)
    assert found
    for sizes, e in found[:2]:
        assert e == estimate(card(name), sizes, context_total=context, gpu_memory_gb=80.0)
        assert math.prod((sizes.tp, sizes.pp, sizes.cp, sizes.dp)) == gpus
