"""Which sample is asked when: every step's prompts, decided before the first step."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ltrl.errors import Code, fail
from ltrl.samples import Sample

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["chat", "measure", "prompt_order"]


def chat(sample: Sample) -> list[dict[str, str]]:
    """The sample's messages in the form chat templates take."""
    return [{"role": role, "content": content} for role, content in sample.messages]


def measure(samples: Sequence[Sample], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens of each prompt, chat template included."""
    texts = [tokenizer.apply_chat_template(chat(s), add_generation_prompt=True, tokenize=False) for s in samples]
    return [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]] if texts else []


def prompt_order(num_samples: int, *, prompts_per_step: int, num_steps: int, seed: int, shuffle: bool) -> list[int]:
    """The sample of each prompt of each step, in order.

    Every epoch passes over all samples, in an order of its own if shuffled; what does not fill a step is left out, so
    that no step asks a sample twice. Nothing depends on where a run was resumed.
    """
    steps_per_epoch = num_samples // prompts_per_step
    if steps_per_epoch == 0:
        message = f"`data.train` has {num_samples} samples, fewer than the {prompts_per_step} prompts of a step"
        raise fail(Code.BAD_DATA, message, hint="lower `algorithm.prompts_per_step`")
    order: list[int] = []
    for epoch in range(-(-num_steps // steps_per_epoch)):
        samples = list(range(num_samples))
        if shuffle:
            random.Random(f"{seed} {epoch}").shuffle(samples)
        order += samples[: steps_per_epoch * prompts_per_step]
    return order[: num_steps * prompts_per_step]
