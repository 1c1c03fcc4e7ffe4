"""Batches and what they must divide into."""

from __future__ import annotations

from collections.abc import Iterator

from ltrl_backends.nemo_rl.checks.rule import MEGATRON, Conf, Problem, nearest, rule

BATCH = "policy.train_global_batch_size"
BDD = "nemo_rl/distributed/batched_data_dict.py"


@rule(
    "B2",
    "several dataloaders: num_prompts_per_step is a multiple of num_prompts_per_dataloader",
    "nemo_rl/algorithms/grpo.py:349",
)
def _(c: Conf) -> Iterator[Problem]:
    if c["data.use_multiple_dataloader"]:
        prompts, each = c["grpo.num_prompts_per_step"], c["data.num_prompts_per_dataloader"]
        if not each or prompts % each:
            key = "data.num_prompts_per_dataloader" if each else "data.use_multiple_dataloader"
            yield Problem(
                c.at(key),
                f"several dataloaders take {each or 'an unknown number of'} prompts each, which does not divide the "
                f"{prompts} of {c.word('grpo.num_prompts_per_step')}",
                "leave `data.use_multiple_dataloader` out: a spec has one training set",
            )


@rule("B4", "train_global_batch_size is a multiple of the data parallel size", f"{BDD}:399")
def _(c: Conf) -> Iterator[Problem]:
    batch, dp = c[BATCH], c.dp
    if batch % dp:
        choice = nearest(batch, (n for n in range(dp, c.samples + 1, dp) if c.samples % n == 0))
        better = f"`algorithm.batch_size: {choice}`" if choice else f"a number of prompts x responses that {dp} divides"
        yield Problem(
            c.at(BATCH),
            f"an update of {batch} responses does not divide over dp {dp} = {c.gpus_of_training} / (tp {c.tp} x "
            f"pp {c.pp} x cp {c.cp})",
            better,
        )


@rule("B5", "num_prompts_per_step x num_generations_per_prompt is a multiple of the data parallel size", f"{BDD}:399")
def _(c: Conf) -> Iterator[Problem]:
    prompts, group, dp = c.spec.algorithm.prompts_per_step, c.spec.algorithm.group_size, c.dp
    if prompts * group % dp:
        choice = nearest(prompts, (n for n in range(1, prompts + dp + 1) if n * group % dp == 0))
        yield Problem(
            c.at("grpo.num_prompts_per_step"),
            f"{prompts} prompts x {group} responses = {prompts * group} do not divide over dp {dp} = "
            f"{c.gpus_of_training} / (tp {c.tp} x pp {c.pp} x cp {c.cp})",
            f"`algorithm.prompts_per_step: {choice}`",
        )


@rule("B6", "without packing: the batch of a data parallel rank is a multiple of the micro batch", f"{BDD}:831")
def _(c: Conf) -> Iterator[Problem]:
    if c["policy.sequence_packing.enabled"] or c["policy.dynamic_batching.enabled"]:
        return
    for size, whole in (("policy.train_micro_batch_size", c[BATCH]), ("policy.logprob_batch_size", c.samples)):
        if whole % c.dp == 0 and whole // c.dp % c[size]:
            own = whole // c.dp
            choice = nearest(c[size], (n for n in range(1, own + 1) if own % n == 0))
            yield Problem(
                c.at(size),
                f"{whole} responses over dp {c.dp} are {own} a rank, not a multiple of {c.said(size)}",
                f"`{size}: {choice}`, or packing",
            )


@rule(
    "B10",
    "val_batch_size >= 1, and max_val_samples // val_batch_size >= 1, else validation measures nothing and reports "
    "accuracy 0",
    "nemo_rl/algorithms/grpo.py:3164",
)
def _(c: Conf) -> Iterator[Problem]:
    most, batch = c["grpo.max_val_samples"], c["grpo.val_batch_size"]
    if batch is not None and batch < 1:
        yield Problem(
            c.at("grpo.val_batch_size"),
            f"`grpo.val_batch_size` is {batch}, and validation divides by it",
            "leave it out: ltrl measures whole sets",
        )
    elif most is not None and batch is not None and most // batch < 1:
        key = "grpo.max_val_samples" if c.is_override("grpo.max_val_samples") else "grpo.val_batch_size"
        yield Problem(
            c.at(key),
            f"`grpo.max_val_samples` {most} // `grpo.val_batch_size` {batch} = 0 batches: nothing would be measured",
            "leave both out: ltrl measures whole sets",
        )


@rule("B11", "val_batch_size and max_val_samples are numbers", "nemo_rl/algorithms/grpo.py:3164 (TypeError)")
def _(c: Conf) -> Iterator[Problem]:
    for key in ("grpo.val_batch_size", "grpo.max_val_samples"):
        if c[key] is None:
            yield Problem(c.at(key), f"`{key}` null works only with NeMo-Gym", "leave it out: ltrl measures whole sets")


@rule("B14", "force_on_policy_ratio: one update per step", "nemo_rl/algorithms/grpo.py:429")
def _(c: Conf) -> Iterator[Problem]:
    if c["loss_fn.force_on_policy_ratio"] and c[BATCH] != c.samples:
        yield Problem(
            c.at("loss_fn.force_on_policy_ratio"),
            f"`algorithm.on_policy` takes the ratio as 1, but {c.samples} responses in updates of {c[BATCH]} make "
            f"{c.samples // c[BATCH]} updates a step, and only the first is on policy",
            f"leave `algorithm.batch_size` out (it is {c.samples} then), or `on_policy: false`",
        )


@rule(
    "P5",
    "tensor parallel size >= 4: train_micro_batch_size equals logprob_batch_size",
    "nemo_rl/models/policy/lm_policy.py:178",
)
def _(c: Conf) -> Iterator[Problem]:
    train, logprob = "policy.train_micro_batch_size", "policy.logprob_batch_size"
    exempt = c["loss_fn.force_on_policy_ratio"] or "NRL_IGNORE_TP_ACCURACY_CHECK" in c.cluster.environment
    if c.tp >= 4 and c[train] != c[logprob] and not exempt:
        key = train if c.is_override(train) else logprob
        yield Problem(
            c.at(key),
            f"with {c.said(f'{MEGATRON}.tensor_model_parallel_size')} batches of different size give different "
            f"log-probabilities: `{train}` is {c[train]}, `{logprob}` {c[logprob]}",
            f"give both the value {c[train]}, or at most `parallelism.tensor: 2`",
        )
