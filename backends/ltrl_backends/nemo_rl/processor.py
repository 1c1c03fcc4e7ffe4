"""From a row of `LtrlDataset` to what NeMo-RL samples from. Imported in the job only."""

from __future__ import annotations

from typing import Any

__all__ = ["process", "process_cut"]


def process(row: dict[str, Any], task_spec: Any, tokenizer: Any, max_length: int | None, index: int) -> dict[str, Any]:  # noqa: ARG001
    """NeMo-RL's `DatumSpec`: the prompt under the model's own chat template, and what its environment needs.

    A prompt that is too long is left out when the data is read; one that still is (a template that changed) takes no
    part in the loss.
    """
    text, ids = _prompt(row, tokenizer)
    fits = max_length is None or len(ids) <= max_length
    return _datum(row, text, ids if fits else ids[:4], index, fits=fits)


def process_cut(
    row: dict[str, Any],
    task_spec: Any,  # noqa: ARG001
    tokenizer: Any,
    max_length: int | None,
    index: int,
) -> dict[str, Any]:
    """The same for a rehearsal, whose prompts are short: one that is too long loses its middle."""
    import torch

    text, ids = _prompt(row, tokenizer)
    if max_length is not None and len(ids) > max_length:
        ids = torch.cat([ids[: max_length // 2], ids[len(ids) - (max_length - max_length // 2) :]])
        text = tokenizer.decode(ids)
    return _datum(row, text, ids, index, fits=True)


def _prompt(row: dict[str, Any], tokenizer: Any) -> tuple[str, Any]:
    text = tokenizer.apply_chat_template(row["messages"], tokenize=False, add_generation_prompt=True)
    return text, tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"][0]


def _datum(row: dict[str, Any], text: str, ids: Any, index: int, *, fits: bool) -> dict[str, Any]:
    return {
        "message_log": [{"role": "user", "content": text, "token_ids": ids}],
        "length": len(ids),
        "extra_env_info": dict(row["info"]),
        "loss_multiplier": 1.0 if fits else 0.0,
        "idx": index,
        "task_name": row["task_name"],
    }
