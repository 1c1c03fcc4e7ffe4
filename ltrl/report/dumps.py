"""Responses as NeMo-RL itself writes them down, `train_data_step{N}.jsonl` and `val_data_step{N}.jsonl`, for people.

A run whose driver was NeMo-RL's own has no others. At 160K tokens such a file has a gigabyte, with the arrays of every
token: some files are looked into, evenly spread over the run, and of each the beginning.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ltrl.excerpts import PER_SET, Excerpt, Split, choose, shortened
from ltrl.rollouts import texts

__all__ = ["dumped"]

FILES = 12
"""That are looked into, of each kind."""

PIECE = 6 * 2**20
"""Bytes that are read of a file; a longer first record whole, up to `LONGEST`."""

LONGEST = 64 * 2**20

QUESTION = 600
"""Characters of a prompt's end, where the question is."""

_NAMES: dict[Split, re.Pattern[str]] = {
    "train": re.compile(r"train_data_step(\d+)\.jsonl"),
    "validation": re.compile(r"val_data_step(\d+)\.jsonl"),
}


def dumped(directory: Path) -> Iterator[Excerpt]:
    """A few responses of the steps of one start of the driver; what cannot be read is passed over."""
    for split, name in _NAMES.items():
        found = {int(m[1]): path for path in directory.glob("*_data_step*.jsonl") if (m := name.fullmatch(path.name))}
        for step in _spread(sorted(found)):
            rows = list(_rows(found[step], split, step))
            rewards = [row.reward for row in rows]
            yield from (
                rows[:PER_SET]
                if split == "validation"
                else (rows[i] for i in sorted(choose(rewards, group_size=_group_size(rows))))
            )


def _spread(steps: Sequence[int]) -> list[int]:
    if len(steps) <= FILES:
        return list(steps)
    return [steps[i * (len(steps) - 1) // (FILES - 1)] for i in range(FILES)]


def _group_size(rows: Sequence[Excerpt]) -> int:
    """Responses to one prompt are neighbours."""
    return next((i for i, row in enumerate(rows) if row.sample != rows[0].sample), len(rows) or 1)


def _rows(path: Path, split: Split, step: int) -> Iterator[Excerpt]:
    for line in _lines(path):
        try:
            record: Any = json.loads(line)
            found = texts(record) if isinstance(record, dict) else None
        except (ValueError, RecursionError):
            continue
        prompt, response = found or ("", None)
        if response is None:  # its generation failed
            continue
        reward = _first(record.get("rewards"))
        yield Excerpt(
            split=split,
            step=step,
            sample=hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()[:12],
            question=prompt if len(prompt) <= QUESTION else f"… {prompt[-QUESTION:]}",
            response=shortened(response),
            reward=reward,
            outcome=reward if split == "validation" else None,
        )


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while file.tell() < PIECE and (line := file.readline(LONGEST)).endswith(b"\n"):
                yield line
    except OSError:
        return


def _first(rewards: Any) -> float | None:
    """NeMo-RL writes batches of one: `[0.5]`."""
    while isinstance(rewards, list) and rewards:
        rewards = rewards[0]
    return float(rewards) if isinstance(rewards, int | float) else None
