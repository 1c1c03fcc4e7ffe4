"""The model at work on every completion under way at once: those that end leave, waiting ones join between two tokens.

Prompts are padded on the left. Keys and values of joining rows are padded to the length of those that are there, where
the model's cache is plain (full attention); with another cache, waiting rows wait until the batch has ended.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ltrl_backends.local_engine.serving.sampling import Sampling, draw
from ltrl_backends.local_engine.serving.text import Text

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

__all__ = ["Batch", "Completion"]

PREFILL_TOKENS = 16_384
"""Padded prompt tokens that are read at once, one prompt at least; rows under way wait for so long."""


@dataclass(eq=False, slots=True)
class Completion:
    """One response to one prompt. Its callbacks are called from the batch's thread."""

    prompt: Sequence[int]
    sampling: Sampling
    generator: torch.Generator
    max_tokens: int
    text: Text
    on_text: Callable[[str], None]
    """Each next stretch of text."""
    on_end: Callable[[str, int], None]
    """`stop`, `length`, or `error: …`; and how many tokens were made."""
    is_cancelled: bool = False
    """Whether nobody waits for it any more."""
    num_tokens: int = field(default=0, init=False)


class Batch:
    """A thread of its own that owns a model; `add` may be called from any other."""

    def __init__(self, model: PreTrainedModel, *, end_tokens: frozenset[int], num_tokens: int, max_rows: int) -> None:
        self.model = model
        self.end_tokens = end_tokens
        self.num_tokens = num_tokens
        """Ids that the tokenizer knows; padding rows of the embedding are never drawn."""
        self.max_rows = max_rows
        self._changed = threading.Condition()
        self._waiting: deque[Completion] = deque()
        self._is_closed = False
        self._rows: list[Completion] = []
        self._last: list[int] = []
        """The newest token of each row, not yet in the cache."""
        self._cache: Any = None
        self._mask: Any = None
        """(rows, cached length), 0 where a row is padded."""
        self._thread = threading.Thread(target=self._run, name="model")
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether completions are worked on."""
        return self._thread.is_alive()

    @property
    def num_waiting(self) -> int:
        """Completions that have not begun."""
        return len(self._waiting)

    def add(self, *completions: Completion) -> None:
        """Puts completions in the queue."""
        with self._changed:
            self._waiting.extend(completions)
            self._changed.notify()

    def close(self) -> None:
        """Ends the thread when everything accepted is done."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        import torch

        with torch.inference_mode():
            while True:
                with self._changed:
                    while not (self._rows or self._waiting or self._is_closed):
                        self._changed.wait()
                    if not (self._rows or self._waiting):
                        return
                    joining = self._joining()
                try:
                    if joining:
                        self._join(joining)
                    else:
                        self._advance()
                except Exception as error:  # out of memory, say: what is under way fails, the server goes on
                    for row in {*self._rows, *joining}:
                        row.on_end(f"error: {error}", row.num_tokens)
                    self._rows, self._last, self._cache, self._mask = [], [], None, None

    def _joining(self) -> list[Completion]:
        """Waiting completions that there is room for now."""
        if self._rows and not self._is_plain:
            return []
        chosen: list[Completion] = []
        longest = 0
        while self._waiting and len(self._rows) + len(chosen) < self.max_rows:
            if self._waiting[0].is_cancelled:
                self._waiting.popleft()
                continue
            longest = max(longest, len(self._waiting[0].prompt))
            if chosen and longest * (len(chosen) + 1) > PREFILL_TOKENS:
                break
            chosen.append(self._waiting.popleft())
        return chosen

    @property
    def _is_plain(self) -> bool:
        from transformers.cache_utils import DynamicLayer

        return all(type(layer) is DynamicLayer for layer in self._cache.layers)

    def _join(self, joining: list[Completion]) -> None:
        import torch
        from transformers import DynamicCache

        longest = max(len(row.prompt) for row in joining)
        padding = [longest - len(row.prompt) for row in joining]
        ids = torch.tensor([[0] * pad + list(row.prompt) for pad, row in zip(padding, joining, strict=True)])
        mask = torch.tensor([[0] * pad + [1] * (longest - pad) for pad in padding])
        cache = DynamicCache(config=self.model.config)
        logits = self._forward(ids, mask, (mask.cumsum(1) - 1).clamp(min=0), cache)
        if self._rows:
            length = max(self._mask.shape[1], mask.shape[1])
            for layer, new in zip(self._cache.layers, cache.layers, strict=True):
                layer.keys = torch.cat([_padded(layer.keys, length), _padded(new.keys, length)])
                layer.values = torch.cat([_padded(layer.values, length), _padded(new.values, length)])
            mask = torch.nn.functional.pad(mask, (length - mask.shape[1], 0))
            before = torch.nn.functional.pad(self._mask, (length - self._mask.shape[1], 0))
            self._mask = torch.cat([before, mask])
        else:
            self._cache, self._mask = cache, mask
        there = len(self._rows)
        self._rows += joining
        self._last += [0] * len(joining)
        self._draw(range(there, len(self._rows)), logits)

    def _advance(self) -> None:
        import torch

        ids = torch.tensor([[token] for token in self._last])
        self._mask = torch.cat([self._mask, torch.ones_like(self._mask[:, :1])], dim=1)
        logits = self._forward(ids, self._mask, self._mask.sum(1, keepdim=True) - 1, self._cache)
        self._draw(range(len(self._rows)), logits)

    def _forward(self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: Any) -> torch.Tensor:
        """Logits of the last position, `(rows, vocabulary)`, on the CPU."""
        device = self.model.device
        logits = self.model(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            position_ids=positions.to(device),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits
        found: torch.Tensor = logits[:, -1, : self.num_tokens].cpu()
        return found

    def _draw(self, rows: range, logits: torch.Tensor) -> None:
        """The next token of some rows; those that end leave the batch."""
        over: set[int] = set()
        for number, of_row in zip(rows, logits, strict=True):
            row = self._rows[number]
            token = draw(of_row, row.sampling, row.generator)
            self._last[number] = token
            row.num_tokens += 1
            is_end = token in self.end_tokens
            piece = "" if is_end else row.text.add(token)
            reason = "stop" if is_end or row.text.is_stopped else "length" if row.num_tokens >= row.max_tokens else None
            if reason or row.is_cancelled:
                piece += row.text.end()
                over.add(number)
            if piece:
                row.on_text(piece)
            if number in over:
                row.on_end("stop" if row.text.is_stopped else reason or "stop", row.num_tokens)
        if over:
            self._keep([number for number in range(len(self._rows)) if number not in over])

    def _keep(self, numbers: list[int]) -> None:
        import torch

        self._rows = [self._rows[number] for number in numbers]
        self._last = [self._last[number] for number in numbers]
        if not numbers:
            self._cache = self._mask = None
            return
        self._cache.batch_select_indices(torch.tensor(numbers, device=self.model.device))
        self._mask = self._mask[numbers]
        if self._is_plain and (unused := int(self._mask.any(0).to(torch.uint8).argmax())):
            self._mask = self._mask[:, unused:]
            for layer in self._cache.layers:
                layer.keys, layer.values = layer.keys[:, :, unused:], layer.values[:, :, unused:]


def _padded(tensor: torch.Tensor, length: int) -> torch.Tensor:
    """Keys or values `(rows, heads, cached length, head size)`, padded on the left."""
    import torch

    return torch.nn.functional.pad(tensor, (0, 0, length - tensor.shape[2], 0))
