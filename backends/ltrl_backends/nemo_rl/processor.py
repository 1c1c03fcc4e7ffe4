"""From a row of `LtrlDataset` to what NeMo-RL samples from. Imported in the job only."""

from __future__ import annotations

from typing import Any

__all__ = ["process"]


def process(row: dict[str, Any], task_spec: Any, tokenizer: Any, max_length: int | None, index: int) -> dict[str, Any]:  # noqa: ARG001
    """NeMo-RL's `DatumSpec`: the prompt under the model's own chat template, and what its environment needs.

    A prompt that is too long is left out when the data is read; one that still is (a template that changed) takes no
    part in the loss.
    """
    text = tokenizer.apply_chat_template(row["messages"], tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"][0]
    fits = max_length is None or len(ids) <= max_length
    if not fits:
        ids = ids[:4]
    return {
        "message_log": [{"role": "user", "content": text, "token_ids": ids}],
        "length": len(ids),
        "extra_env_info": dict(row["info"]),
        "loss_multiplier": 1.0 if fits else 0.0,
        "idx": index,
        "task_name": row["task_name"],
    }
