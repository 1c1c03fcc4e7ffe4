"""Saved rollouts: responses as the engines write them down, one JSON object a line.

    content   the messages of an episode with `role` and `content`; or its texts, prompt and response first
    prompt, response   instead of `content`, two texts
    sample    id of the sample; responses to one sample are neighbours in the file and make a group
    label, rubrics, question, aliases, dataset_name   what to score against, in place of the spec's data
    status    `completed`, `truncated` or `aborted`; by default a response without a stop token was truncated

Whatever else a record holds is left alone. `train_data_step{N}.jsonl` and `val_data_step{N}.jsonl` of NeMo-RL have
`content` only: the sample is found among the spec's data by the end of its prompt.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, get_args

from ltrl.errors import Code, LtrlError, Position, Source, fail, unreadable
from ltrl.samples import Sample
from ltrl.scoring import Status

__all__ = ["Group", "Rollout", "Samples", "groups", "read", "size", "texts"]

_TAIL = 128
"""Characters at the end of a prompt that tell samples apart nearly always; the rest is compared by hash."""
_LONGEST_CLOSING = 400
"""Characters that a chat template may put behind the last message."""
_SHOWN = 120


@dataclass(frozen=True, slots=True)
class Rollout:
    """One saved response."""

    file: str
    line: int
    end: int
    """Bytes of the file up to the end of its line."""
    prompt: str
    text: str | None
    """The response as generated, special tokens included; None for one that was lost, as NeMo-RL writes it down."""
    sample: str | None
    status: Status | None
    record: dict[str, Any]
    """What it brings of the sample: `label`, `rubrics`, `question`, `aliases`, `dataset_name`."""

    @property
    def position(self) -> Position:
        """Its line; what stands there is too long to show."""
        return _position(self.file, self.line, "…")


@dataclass(frozen=True, slots=True)
class Group:
    """The responses to one prompt."""

    file: str
    sample: Sample
    rollouts: tuple[Rollout, ...]
    """Without prompts: groups go to other processes, and a prompt may have half a megabyte."""
    num_lost: int = 0
    """Responses that the engine lost; training masks them, and so they have no part in the group."""


class Samples:
    """The samples of a spec by id and by the end of their prompts; read when first asked."""

    def __init__(self, sources: Iterable[Callable[[], Iterable[Sample]]]) -> None:
        self._sources = sources
        self._by_id: dict[str, Sample] | None = None
        self._by_tail: dict[str, list[tuple[int, bytes, Sample]]] = {}
        self._closing = 0  # length of the last closing found: the next prompt has the same

    def find(self, rollout: Rollout) -> Sample | None:
        """The sample that a response answers, without its texts; None where there is none."""
        if self._by_id is None:
            self._by_id = {}
            for source in self._sources:
                for sample in source():
                    self._add(sample)
        if rollout.sample is not None:
            return self._by_id.get(rollout.sample)
        for closing in (self._closing, *range(_LONGEST_CLOSING)):
            end = len(rollout.prompt) - closing
            for length, digest, sample in self._by_tail.get(rollout.prompt[max(0, end - _TAIL) : end], ()):
                if length <= end and _digest(rollout.prompt[end - length : end]) == digest:
                    self._closing = closing
                    return sample
        return None

    def _add(self, sample: Sample) -> None:
        assert self._by_id is not None
        prompt = sample.messages[-1][1]
        slim = replace(sample, messages=(), passages=())
        self._by_id[sample.id] = slim
        self._by_tail.setdefault(prompt[-_TAIL:], []).append((len(prompt), _digest(prompt), slim))


def read(path: Path) -> Iterator[Rollout]:
    """The responses in a file, line by line; raises BAD_ROLLOUTS with the line that is none."""
    end = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                end += len(line)
                if line.strip():
                    yield _rollout(path, number, line, end)
    except OSError as error:
        raise LtrlError(unreadable(error, f"the rollouts `{path}`")) from None


def texts(record: dict[str, Any]) -> tuple[str, str | None] | None:
    """The prompt, its last message where it has several, and the response; None for no record of a response."""
    match record:
        case {"response": str(text)}:
            asked = record.get("prompt", "")
            return (asked, text) if isinstance(asked, str) else None
        case {"content": [[*messages]] | [*messages]} if messages:  # NeMo-RL writes batches of one
            content = messages
        case _:
            return None
    if all(isinstance(message, str) for message in content):
        return content[0], content[1] if len(content) > 1 else None  # what the environment said comes after
    prompt: str = ""
    response: str | None = None
    for message in content:
        match message:
            case {"role": "assistant", "content": str(text)}:
                response = text
            case {"role": "user", "content": str(text)} if response is None:
                prompt = text
            case {"role": str(), "content": str()}:
                pass
            case _:
                return None
    return prompt, response


def size(path: Path) -> int:
    """Bytes of a file of rollouts; raises LtrlError where there is none, and for a directory."""
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        return path.stat().st_size
    except OSError as error:
        raise LtrlError(unreadable(error, f"the rollouts `{path}`")) from None


def groups(path: Path, samples: Samples) -> Iterator[Group]:
    """The groups of a file in its order; raises BAD_ROLLOUTS where one comes back after another began."""
    ended: dict[str, int] = {}
    for key, members in groupby(read(path), key=_key):
        whole = tuple(members)
        first = whole[0]
        if key in ended:
            message = f"the responses to `{first.sample or 'this prompt'}` went on until line {ended[key]}"
            hint = "responses to one prompt are neighbours; keep each step in a file of its own"
            raise fail(Code.BAD_ROLLOUTS, message, first.position, hint=hint)
        ended[key] = whole[-1].line
        if rollouts := tuple(replace(r, prompt="", record={}) for r in whole if r.text is not None):
            yield Group(str(path), _sample(first, samples, key), rollouts, len(whole) - len(rollouts))


def _key(rollout: Rollout) -> str:
    return rollout.sample if rollout.sample is not None else f"prompt {_digest(rollout.prompt).hex()[:16]}"


def _sample(rollout: Rollout, samples: Samples, key: str) -> Sample:
    record = rollout.record
    if "label" in record and "rubrics" in record:
        info = {"question": "", "dataset_name": "longqa"} | {
            name: record[name] for name in ("question", "rubrics", "dataset_name") if name in record
        }
        whole = {
            "source": "rollouts",
            "input_messages": [{"role": "user", "content": rollout.prompt or "?"}],
            "label": record["label"],
            "metadata": {"id": key, "extra_reward_info": info, "aliases": record.get("aliases", {})},
        }
        try:
            return replace(Sample.from_json(whole, default_id=key), messages=())
        except (ValueError, TypeError) as error:
            raise fail(Code.BAD_ROLLOUTS, str(error), rollout.position) from None
    found = samples.find(rollout)
    if found is None:
        what = f"no sample `{rollout.sample}`" if rollout.sample is not None else "no sample with this prompt"
        hint = "name the spec that the responses were sampled with, or add `label` and `rubrics` to each record"
        raise fail(Code.BAD_ROLLOUTS, f"the spec's data have {what}", rollout.position, hint=hint)
    return found


def _rollout(path: Path, number: int, line: bytes, end: int) -> Rollout:
    text = line.decode("utf-8", "replace").strip()
    shown = text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"

    def bad(message: str) -> LtrlError:
        return fail(Code.BAD_ROLLOUTS, message, _position(str(path), number, shown))

    try:
        record = json.loads(line)
    except ValueError as error:
        raise bad(f"this is not JSON: {error}") from None
    except RecursionError:
        raise bad("this is not a record: too many lists or objects inside each other") from None
    if not isinstance(record, dict):
        raise bad("a record is a JSON object")
    found = texts(record)
    if found is None:
        raise bad("the record has no messages in `content`, and no `response`")
    status = record.get("status")
    if status is not None and status not in get_args(Status):
        raise bad(f"`status` is `{status}`, expected one of {', '.join(f'`{s}`' for s in get_args(Status))}")
    sample = record.get("sample")
    kept = {k: record[k] for k in ("label", "rubrics", "question", "aliases", "dataset_name") if k in record}
    return Rollout(str(path), number, end, *found, None if sample is None else str(sample), status, kept)


def _position(file: str, line: int, text: str) -> Position:
    return Position(Source(file, "\n" * (line - 1) + text), line, 1, len(text))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
