"""The data set class that NeMo-RL loads by its dotted name: the spec's data section, row by row.

NeMo-RL hands it the mapping `data.train` or `data.validation` of the configuration as keyword arguments. Imported in
the job only.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ltrl.backend import create, load
from ltrl.data.overlong import fit
from ltrl.samples import Sample

__all__ = ["LtrlDataset", "Row"]

Row = dict[str, Any]


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
        samples: Iterable[Sample] = create(options)
        self.task_name = task_name
        if tokenizer is not None and max_prompt_tokens is not None:
            fitted = fit(
                samples, _measure(tokenizer), longest=max_prompt_tokens, policy=options.overlong, name=task_name
            )
            if fitted.has_changed:
                sys.stderr.write(f"{task_name}: {fitted}; longer than {max_prompt_tokens} tokens\n")
            samples = fitted.samples
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
            "source": sample.source,
            "aliases": {entity: list(names) for entity, names in sample.aliases.items()},
        },
    }


def _measure(tokenizer_name: str) -> Callable[[Sequence[Sample]], list[int]]:
    """What counts the tokens of prompts, chat template included."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_name, trust_remote_code=True)

    def measure(samples: Sequence[Sample]) -> list[int]:
        texts = [_template(tokenizer, sample) for sample in samples]
        return [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]

    return measure


def _template(tokenizer: Any, sample: Sample) -> str:
    messages = [{"role": role, "content": content} for role, content in sample.messages]
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
