"""The data set class that NeMo-RL loads by its dotted name: the spec's data section, row by row.

NeMo-RL hands it the mapping `data.train` or `data.validation` of the configuration as keyword arguments. Imported in
the job only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ltrl.backend import create, load
from ltrl.errors import Code, fail
from ltrl.samples import Sample

__all__ = ["LtrlDataset", "Row"]

Row = dict[str, Any]
CHUNK = 64
"""Prompts measured at once: the tokenizer works on them in parallel, and 64 of 500 KB bound the memory."""


class LtrlDataset:
    """Samples of a data backend as NeMo-RL wants them: an indexable `dataset` whose rows carry their `task_name`."""

    val_dataset = None
    preprocessor = None

    def __init__(
        self,
        *,
        task_name: str,
        section: Mapping[str, Any],
        repeat: int = 1,
        tokenizer: str | None = None,
        max_prompt_tokens: int | None = None,
        **_: Any,
    ) -> None:
        options = load("data", section["backend"]).Options.model_validate(dict(section), strict=False)
        samples = list(create(options))
        self.task_name = task_name
        self.num_left_out = 0
        if tokenizer is not None and max_prompt_tokens is not None:
            fitting = _that_fit(samples, tokenizer, max_prompt_tokens)
            self.num_left_out = len(samples) - len(fitting)
            samples = fitting
        if not samples:
            raise fail(Code.BAD_DATA, f"no sample of `{task_name}` has a prompt of at most {max_prompt_tokens} tokens")
        self.dataset = [row for sample in samples for row in [_row(sample, task_name)] * repeat]

    def set_task_spec(self, data_config: Mapping[str, Any]) -> None:
        """Called by NeMo-RL after construction."""
        from nemo_rl.data.interfaces import TaskDataSpec

        self.data_config = data_config
        self.task_spec = TaskDataSpec(task_name=self.task_name)

    def set_processor(self) -> None:
        """Called by NeMo-RL after construction: finds the function that turns a row into tokens."""
        from nemo_rl.data.processors import PROCESSOR_REGISTRY

        self.processor = PROCESSOR_REGISTRY[self.data_config["processor"]]


def _row(sample: Sample, task_name: str) -> Row:
    return {
        "task_name": task_name,
        "messages": [{"role": role, "content": content} for role, content in sample.messages],
        "info": {
            "uid": sample.id,
            "question": sample.question,
            "label": sample.label,
            "rubrics": list(sample.rubrics),
            "dataset_name": sample.dataset_name,
            "aliases": {entity: list(names) for entity, names in sample.aliases.items()},
        },
    }


def _that_fit(samples: Sequence[Sample], tokenizer_name: str, longest: int) -> list[Sample]:
    """The samples whose prompt, chat template included, has at most so many tokens."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_name, trust_remote_code=True)
    fitting: list[Sample] = []
    for start in range(0, len(samples), CHUNK):
        some = samples[start : start + CHUNK]
        texts = [_template(tokenizer, sample) for sample in some]
        lengths = map(len, tokenizer(texts, add_special_tokens=False)["input_ids"])
        fitting += [sample for sample, length in zip(some, lengths, strict=True) if length <= longest]
    return fitting


def _template(tokenizer: Any, sample: Sample) -> str:
    messages = [{"role": role, "content": content} for role, content in sample.messages]
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
