"""Responses that an engine keeps for people: a few of each training step, those of validation sets, with their scores.

`logs/exp_NNN/excerpts.jsonl`, one JSON object a line, holds what a person asks about a response: what was asked, the
right answer, the response itself, how it was scored and what the judge said. Its size is bounded: at most
20 MB of training responses in 200 steps, and 1.5 MB for each set at each validation.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

__all__ = ["NAME", "PER_SET", "PER_STEP", "Excerpt", "append", "choose", "read", "shortened"]

NAME = "excerpts.jsonl"

PER_STEP = 4
"""Training responses that are kept of a step."""

PER_SET = 64
"""Validation responses that are kept of each set each time, to the same prompts every time."""

HEAD, TAIL = 4_000, 20_000
"""Characters of a response that are kept of its beginning and its end, where the answer is."""

Split = Literal["train", "validation"]


@dataclass(frozen=True, slots=True)
class Excerpt:
    """One response. Figures that an engine does not tell are None."""

    split: Split
    sample: str = ""
    """Id of the sample; equal ones answer the same prompt."""
    question: str = ""
    label: str = ""
    """The right answer."""
    response: str = ""
    step: int = -1
    set: str = ""
    """Validation set."""
    rubrics: tuple[str, ...] = ()
    aliases: Mapping[str, Sequence[str]] = field(default_factory=dict)
    status: str = ""
    """`completed`, `truncated` or `aborted`."""
    reward: float | None = None
    outcome: float | None = None
    rubric: float | None = None
    zeroed: str = ""
    parts: Mapping[str, float] = field(default_factory=dict)
    judge: str = ""
    """The judge's own words, or why there are none."""
    num_tokens: int | None = None
    """Of the response."""


def choose(rewards: Sequence[float | None], *, group_size: int) -> list[int]:
    """Which responses of a step to keep: the best and the worst of the first group that differs and of all."""
    judged = [i for i, reward in enumerate(rewards) if reward is not None]
    if not judged:
        return list(range(min(PER_STEP, len(rewards))))

    def ends(among: Sequence[int]) -> list[int]:
        def paid(index: int) -> float:
            reward = rewards[index]
            return -1.0 if reward is None else reward

        return [max(among, key=paid), min(among, key=paid)]

    chosen: list[int] = []
    for start in range(0, len(rewards), group_size):
        group = [i for i in range(start, min(start + group_size, len(rewards))) if rewards[i] is not None]
        if len({rewards[i] for i in group}) > 1:
            chosen += ends(group)
            break
    chosen += ends(judged)
    chosen += [i for i, reward in enumerate(rewards) if reward is None][:1]
    return list(dict.fromkeys(chosen))[:PER_STEP]


def shortened(text: str) -> str:
    """A response as it is kept: the middle of a long one is left out, and says so."""
    left_out = len(text) - HEAD - TAIL
    if left_out <= 0:
        return text
    return f"{text[:HEAD]}\n\n[… {left_out:,} characters are not kept …]\n\n{text[-TAIL:]}"


def append(directory: Path, step: int, found: Iterable[Excerpt]) -> None:
    """Adds the responses of a step to those in a directory."""
    rows = ({**asdict(one), "step": step, "response": shortened(one.response)} for one in found)
    text = "".join(json.dumps({k: v for k, v in row.items() if v not in ("", None, (), {})}) + "\n" for row in rows)
    if text:
        with (directory / NAME).open("a", encoding="utf-8") as file:
            file.write(text)


def read(path: Path) -> Iterator[Excerpt]:
    """The responses in a file, one after the other; lines that are none are passed over."""
    names = {f.name for f in fields(Excerpt)}
    try:
        with path.open("rb") as file:
            for line in file:
                try:
                    record: Any = json.loads(line)
                    found = Excerpt(**{name: value for name, value in record.items() if name in names})
                except (ValueError, TypeError, AttributeError, RecursionError):
                    continue
                if isinstance(found.response, str) and isinstance(found.step, int) and found.step >= 0:
                    yield found
    except OSError:
        return
