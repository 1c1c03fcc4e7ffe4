"""How long prompts are, and what is done about those that are too long."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ltrl.backend import OverlongQuestion
from ltrl.benchmark import Question

__all__ = ["Fitted", "Lengths"]

_CHARACTERS_PER_TOKEN = 4.0
"""Of English text under the tokenizers of today, roughly; only where the model's own is not at hand."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A question as it is asked."""

    question: Question
    num_tokens: int | None
    """Of its messages, without those of the chat template; None where they are not counted exactly."""
    is_cut: bool = False


class Lengths:
    """Counts tokens with the model's own tokenizer; estimates them where there is none."""

    def __init__(self, base: str, *, revision: str | None, longest: int) -> None:
        """`base` is a directory or a Hugging Face id; `longest` counts a prompt's tokens."""
        self._base, self._revision = base, revision
        self._longest = longest

    @property
    def is_exact(self) -> bool:
        """Whether the model's tokenizer counts."""
        return self._tokenizer is not None

    def fitted(self, question: Question, policy: OverlongQuestion) -> Fitted | None:
        """The question as it is asked, cut if the policy says so; None for one that is too long."""
        num_bytes = sum(len(content.encode("utf-8", "replace")) for _, content in question.messages)
        if num_bytes <= self._longest:  # a token has a byte at least
            return Fitted(question, None)
        num_tokens = self._count(question.messages)
        if num_tokens <= self._longest:
            return Fitted(question, num_tokens if self.is_exact else None)
        if policy != "cut-middle":
            return None
        cut = _without_middle(question, num_tokens - self._longest, self._halves)
        return Fitted(cut, None, is_cut=True)

    def _count(self, messages: Sequence[tuple[str, str]]) -> int:
        if self._tokenizer is None:
            return round(sum(len(content) for _, content in messages) / _CHARACTERS_PER_TOKEN)
        return sum(len(self._tokenizer.encode(content, add_special_tokens=False).ids) for _, content in messages)

    def _halves(self, text: str, excess: int) -> str:
        """A text without so many tokens of its middle."""
        tokenizer = self._tokenizer
        if tokenizer is None:
            kept = max(0, len(text) - int(excess * _CHARACTERS_PER_TOKEN))
            return text[: kept - kept // 2] + text[len(text) - kept // 2 :]
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        kept = max(0, len(ids) - excess)
        first, last = ids[: kept - kept // 2], ids[len(ids) - kept // 2 :]
        return str(tokenizer.decode(first)) + str(tokenizer.decode(last))

    @cached_property
    def _tokenizer(self) -> Any:
        """The `tokenizers.Tokenizer` of the model; None where it cannot be had."""
        try:
            from tokenizers import Tokenizer

            file = Path(self._base) / "tokenizer.json"
            if file.is_file():
                return Tokenizer.from_file(str(file))
            if Path(self._base).is_dir() or "/" not in self._base:
                return None
            from huggingface_hub import hf_hub_download, logging

            logging.set_verbosity_error()  # retries without a network; the estimate is told in the results
            return Tokenizer.from_file(hf_hub_download(self._base, "tokenizer.json", revision=self._revision))
        except Exception:  # their own kinds of errors, by version
            return None


def _without_middle(question: Question, excess: int, halves: Callable[[str, int], str]) -> Question:
    """The question with its longest message cut in the middle, as LongBench v2 cuts its one message."""
    place = max(range(len(question.messages)), key=lambda i: len(question.messages[i][1]))
    messages = list(question.messages)
    role, content = messages[place]
    messages[place] = (role, halves(content, excess))
    return replace(question, messages=tuple(messages))
