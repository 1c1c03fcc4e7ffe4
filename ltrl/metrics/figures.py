"""What is measured at a training step, by the names that ltrl uses everywhere, and the tags it is read from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["FIGURES", "Figure", "FigureName"]

FigureName = Literal[
    "reward",
    "outcome",
    "rubric",
    "all_one",
    "all_zero",
    "mixed",
    "prompt_tokens",
    "response_tokens",
    "longest_response_tokens",
    "truncated",
    "ill_formed",
    "unjudged",
    "kl",
    "rollout_kl",
    "ratio",
    "out_of_band",
    "logprob_error",
    "entropy",
    "loss",
    "grad_norm",
    "lr",
    "seconds",
    "generation_seconds",
    "reward_seconds",
    "training_seconds",
    "checkpoint_seconds",
    "tokens",
    "tokens_per_second",
]

Unit = Literal["", "share", "tokens", "s", "tokens/s"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One column of the table of steps."""

    name: FigureName
    title: str
    """What a person calls it."""
    unit: Unit
    tags: tuple[str, ...]
    """Tags of the engines, the first that is there counts; without `train/`."""
    meaning: str


def _figure(name: FigureName, title: str, unit: Unit, tags: str, meaning: str) -> tuple[FigureName, Figure]:
    return name, Figure(name, title, unit, tuple(tags.split()), meaning)


FIGURES: dict[FigureName, Figure] = dict(
    (
        _figure("reward", "reward", "", "reward", "mean of what the responses were paid"),
        _figure("outcome", "accuracy", "share", "outcome", "judged responses whose answer is right"),
        _figure("rubric", "evidence recall", "share", "rubric", "rubric entities that the responses name"),
        _figure("all_one", "groups all right", "share", "group/all_one", "groups paid in full: nothing to learn from"),
        _figure(
            "all_zero", "groups all wrong", "share", "group/all_zero", "groups paid nothing: nothing to learn from"
        ),
        _figure("mixed", "mixed groups", "share", "group/mixed", "groups that differ, which the policy learns from"),
        _figure("prompt_tokens", "prompt length", "tokens", "mean_prompt_length", "mean over the step"),
        _figure("response_tokens", "response length", "tokens", "mean_gen_tokens_per_sample", "mean over the step"),
        _figure("longest_response_tokens", "longest response", "tokens", "max_gen_tokens_per_sample", "of the step's"),
        _figure("truncated", "cut at the limit", "share", "truncation_rate", "responses without an end"),
        _figure("ill_formed", "ill-formed", "share", "ill_formed_rate", "responses that break the format"),
        _figure("unjudged", "unjudged", "share", "unjudged_rate", "responses that no judge told right from wrong"),
        _figure("kl", "KL to the start model", "", "kl_penalty", "of the policy; 0 where it is not penalised"),
        _figure("rollout_kl", "KL rollout to trainer", "", "gen_kl_error", "disagreement of the two on probabilities"),
        _figure("ratio", "policy ratio", "", "probs_ratio", "mean of new to old probabilities"),
        _figure("out_of_band", "ratios out of band", "share", "is_oob_ratio", "tokens that IcePop or TIS leaves out"),
        _figure("logprob_error", "log-probability error", "", "token_mult_prob_error", "1 is none; above 1.05 is bad"),
        _figure("entropy", "entropy", "", "approx_entropy", "of the policy, in nats a token"),
        _figure("loss", "loss", "", "loss", "of the policy"),
        _figure("grad_norm", "gradient norm", "", "grad_norm", "before clipping"),
        _figure("lr", "learning rate", "", "lr", "of the step"),
        _figure("seconds", "step time", "s", "timing/train/total_step_time", "whole step"),
        _figure(
            "generation_seconds",
            "generation",
            "s",
            "timing/train/generation timing/train/exposed_generation",
            "of the step time",
        ),
        _figure("reward_seconds", "scoring", "s", "timing/train/reward_calculation", "of the step time"),
        _figure("training_seconds", "training", "s", "timing/train/policy_training", "of the step time"),
        _figure("checkpoint_seconds", "checkpoint", "s", "timing/train/checkpointing", "of the step time"),
        _figure("tokens", "tokens", "tokens", "total_num_tokens", "prompts and responses of the step"),
        _figure("tokens_per_second", "throughput", "tokens/s", "", "tokens by step time"),
    )
)
"""Every figure by name, in the order they are shown."""
