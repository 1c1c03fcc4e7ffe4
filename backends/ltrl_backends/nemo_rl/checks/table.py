"""The checks as a page, and why the other conditions that NeMo-RL has cannot be broken."""

from __future__ import annotations

from ltrl_backends.nemo_rl.checks.rule import RULES

__all__ = ["ELSEWHERE", "checks_markdown"]

ELSEWHERE: dict[str, str] = {
    "B1": "a spec has `batch_multiplier` only inside `dynamic_sampling`",
    "B3": "refused for every engine: `algorithm.batch_size` divides prompts x responses",
    "B7": "the same condition as B5",
    "B8": "no condition: generation batches may be uneven",
    "B9": "without a validation set nothing is measured",
    "B12": "the driver counts the data before it takes a GPU",
    "B13": "`max_num_epochs` is the number of steps, and an epoch has at least one",
    "B15": "`dynamic_sampling.max_batches` is at least 1",
    "I1": "every bounded kind switches the correction on",
    "I2": "`importance_correction.kind` names only these",
    "I10": "`clip.dual` is more than 1",
    "I11": "the reference pass is skipped exactly when the penalty is 0",
    "I14": "K2: a field whose key the version lacks is refused",
    "P23": "at run time: the job keeps converted checkpoints on shared storage",
    "P25": "P1: DTensor cannot be switched on",
    "P27": "at run time: the container's transformers",
    "P28": "K1: optimizer and scheduler have no other keys",
    "L2": "no condition: packed rows are padded to it",
    "L5": "no condition with packing",
    "L6": "no condition: with a pipeline every microbatch costs a full one",
    "L9": "no condition: what counts as truncated",
    "L10": "vLLM keeps to max_model_len",
    "L13": "over-long samples are left out when the data is read",
    "R1": "`adv_estimator.name` is grpo",
    "R2": "`adv_estimator.name` is grpo",
    "V4": "the spec's own ranges of `top_p` and `top_k`",
    "V5": "all keys are written",
    "V10": "K4: NeMo-RL writes it",
    "V12": "how the driver calls it",
    "V13": "stop tokens come from the model card",
    "C1": "no reward model takes nodes",
    "C2": "refused for every engine: `rollout.nodes` leaves nodes to train",
    "C3": "refused for every engine: `rollout.nodes` leaves nodes to train",
    "C4": "at run time: Ray's CPUs",
    "C5": "at run time: placement retries",
    "C8": "job script and configuration come from one cluster profile",
    "A7": "A6: no NeMo-Gym",
    "A8": "A6: no HTTP server is exposed",
    "A9": "`adv_estimator.name` is grpo",
    "E1": "the driver registers the environments",
    "E2": "each environment has its block",
    "E3": "the driver registers the actors",
    "E4": "the driver registers the processor",
    "E5": "the data set class comes with the job",
    "E6": "no prompt files",
    "E7": "the driver names the environments of a list of sets",
    "E8": "every set has a task of its own",
    "E9": "training rewards have two columns, validation rewards one, and the two never meet in a batch",
}
"""Conditions that no check looks at, with the reason."""


def checks_markdown() -> str:
    """The page `docs/checks.md`."""
    lines = [
        "# What is checked before a NeMo-RL job is queued",
        "",
        "Generated from the checks themselves by `make docs`; do not edit. Each line is a condition that NeMo-RL,",
        "Megatron-Core or vLLM puts on a configuration; the third column says where they would stop, often minutes",
        "into an allocation (lines of NeMo-RL 0.7.0). A diagnostic names its check as `nemo-rl:ID`.",
        "",
        "| check | condition | where it would have failed | kind |",
        "|---|---|---|---|",
    ]
    lines += [f"| {c.id} | {_cell(c.condition)} | {_cell(c.source)} | {c.severity}, {c.code} |" for c in RULES]
    lines += ["", "## Conditions that a spec cannot break", "", "| condition | because |", "|---|---|"]
    lines += [f"| {name} | {_cell(reason)} |" for name, reason in ELSEWHERE.items()]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
