"""Sequence lengths, alignment and packing."""

from __future__ import annotations

from collections.abc import Iterator

from ltrl.errors import Code
from ltrl_backends.nemo_rl.checks.rule import MEGATRON, Conf, Problem, rule

ALIGN = "policy.make_sequence_length_divisible_by"
ALGORITHMS = ("concatenative", "first_fit_decreasing", "first_fit_shuffle", "modified_first_fit_decreasing")
MAX_LENGTH = "policy.generation.vllm_cfg.max_model_len"


@rule(
    "L1",
    "make_sequence_length_divisible_by is a multiple of (2 x cp if cp > 1) x (tp if sequence parallel)",
    "nemo_rl/models/megatron/data.py:1126",
)
def _(c: Conf) -> Iterator[Problem]:
    context = 2 * c.cp if c.cp > 1 else 1
    tensor = c.tp if c.tp > 1 and c[f"{MEGATRON}.sequence_parallel"] else 1
    if c[ALIGN] % (context * tensor):
        yield Problem(
            c.at(ALIGN),
            f"`{ALIGN}` {c[ALIGN]} is no multiple of {context * tensor} = {f'2 x cp {c.cp}' if c.cp > 1 else '1'} x "
            f"{f'tp {c.tp}' if tensor > 1 else '1'}",
            f"leave it out: it is {context * tensor} then",
        )


@rule(
    "L3",
    "a bin of packed sequences holds one of full length, aligned",
    "nemo_rl/data/packing/algorithms.py:254 (in the middle of training)",
)
def _(c: Conf) -> Iterator[Problem]:
    if not c["policy.sequence_packing.enabled"]:
        return
    needed = -(-c.total // c[ALIGN]) * c[ALIGN]
    for name in ("train_mb_tokens", "logprob_mb_tokens"):
        key = f"policy.sequence_packing.{name}"
        if c[key] is not None and c[key] < needed:
            yield Problem(
                c.at(key),
                f"`{key}` {c[key]} holds no sequence of {c.total} tokens, {needed} when aligned to {c[ALIGN]}",
                f"leave it out: it is {needed} then",
            )


@rule("L4", "the packing algorithm is one of " + ", ".join(ALGORITHMS), "nemo_rl/data/packing/algorithms.py:685")
def _(c: Conf) -> Iterator[Problem]:
    key = "policy.sequence_packing.algorithm"
    if str(c[key]).lower() not in ALGORITHMS:
        yield Problem(c.at(key), f"`{key}` is `{c[key]}`", "one of " + ", ".join(f"`{a}`" for a in ALGORITHMS))


@rule(
    "L7",
    "dynamic batching: a microbatch holds one sequence of full length, rounded up",
    "nemo_rl/distributed/batched_data_dict.py:655",
)
def _(c: Conf) -> Iterator[Problem]:
    block = "policy.dynamic_batching"
    if not c[f"{block}.enabled"]:
        return
    rounding = c[f"{block}.sequence_length_round"] or 1
    needed = -(-c.total // rounding) * rounding
    for name in ("train_mb_tokens", "logprob_mb_tokens"):
        size = c[f"{block}.{name}"]
        if size is not None and size < needed:
            yield Problem(
                c.at(f"{block}.{name}"),
                f"`{block}.{name}` {size} holds no sequence of {c.total} tokens, {needed} when rounded to {rounding}",
                f"`{block}.{name}: {needed}`",
            )


@rule("L8", "vLLM's max_model_len is at most max_total_sequence_length", "nemo_rl/experience/rollouts.py:736")
def _(c: Conf) -> Iterator[Problem]:
    if c[MAX_LENGTH] > c.total:
        yield Problem(
            c.at(MAX_LENGTH),
            f"vLLM may generate up to `{MAX_LENGTH}` {c[MAX_LENGTH]} tokens, the rollout takes {c.total} "
            f"({c.word('policy.max_total_sequence_length')})",
            f"leave it out: it is {c.total} then",
        )


@rule(
    "L11",
    "vLLM's max_model_len holds the longest prompt and response",
    "nemo_rl/models/generation/vllm/vllm_worker_async.py:1051 (an empty response that counts as complete)",
)
def _(c: Conf) -> Iterator[Problem]:
    prompt, response = c["data.max_input_seq_length"], c["policy.generation.max_new_tokens"]
    if c[MAX_LENGTH] < prompt + response:
        yield Problem(
            c.at(MAX_LENGTH),
            f"`{MAX_LENGTH}` {c[MAX_LENGTH]} is less than prompt {prompt} + response {response} = {prompt + response}: "
            "long prompts would leave no room to answer",
            f"leave it out: it is {c.total} then",
        )


@rule(
    "L12", "vLLM's max_model_len is at most the model's positions", "vLLM 0.20 ModelConfig", code=Code.CONTEXT_TOO_LONG
)
def _(c: Conf) -> Iterator[Problem]:
    longest = c.card.max_positions
    allowed = c.cluster.environment.get("VLLM_ALLOW_LONG_MAX_MODEL_LEN") == "1"
    if c[MAX_LENGTH] > longest and not allowed:
        yield Problem(
            c.at(MAX_LENGTH),
            f"vLLM refuses {c[MAX_LENGTH]} tokens: `{c.card.name}` has {longest} positions",
            f"prompt + response of at most {longest}, or extend the model with `model.overrides`",
        )


@rule(
    "L14",
    "no top_p or top_k while training on long sequences: log-probabilities are then computed in float32 and unchunked",
    "nemo_rl/distributed/model_utils.py:1589",
    severity="warning",
)
def _(c: Conf) -> Iterator[Problem]:
    filters = [k for k in ("policy.generation.top_p", "policy.generation.top_k") if c[k] not in (None, 1.0, -1)]
    if filters and c["policy.logprob_chunk_size"]:
        tokens, words = -(-c.total // c.cp), -(-c.card.vocab_size // c.tp)
        size = tokens * words * 4 / 2**30
        yield Problem(
            c.at(filters[0]),
            f"{c.said(filters[0])} switches chunking off: float32 logits of {c.total} tokens / cp {c.cp} x "
            f"{c.card.vocab_size} words / tp {c.tp} are {tokens} x {words} x 4 bytes = "
            f"{size:.1f} GiB a GPU, several times over",
            f"leave `{filters[0].removeprefix('policy.generation.')}` out",
        )


@rule("L15", "with top_p or top_k: logprob_chunk_size is a multiple of tp", "nemo_rl/distributed/model_utils.py:555")
def _(c: Conf) -> Iterator[Problem]:
    filtered = c["policy.generation.top_p"] != 1.0 or c["policy.generation.top_k"] not in (None, -1)
    size = c["policy.logprob_chunk_size"]
    if filtered and size and size * c["policy.logprob_batch_size"] % c.tp:
        yield Problem(
            c.at("policy.logprob_chunk_size"),
            f"`engine.logprob_chunk_size` {size} does not divide over tp {c.tp}, as sampling with top_p or top_k needs",
            f"`logprob_chunk_size: {-(-size // c.tp) * c.tp}`",
        )
