"""Text of a completion as its tokens come."""

from __future__ import annotations

from collections.abc import Callable, Sequence

__all__ = ["Text"]

UNFINISHED = "\ufffd"
"""What a tokenizer makes of bytes that do not end a character yet."""


class Text:
    """Tokens in, words out: whole characters only, and nothing that may still turn out to be a stop string."""

    def __init__(self, decode: Callable[[Sequence[int]], str], stop: Sequence[str] = ()) -> None:
        self.decode = decode
        self.stop = tuple(stop)
        self.is_stopped = False
        """Whether a stop string came; neither it nor what follows is part of the text."""
        self._ids: list[int] = []
        # what is decoded again with each token is only the newest stretch: tokenizers join words over its borders
        self._start = self._read = 0
        self._held = ""

    def add(self, token: int) -> str:
        """What is certain after one more token."""
        self._ids.append(token)
        known = self.decode(self._ids[self._start : self._read])
        now = self.decode(self._ids[self._start :])
        if len(now) <= len(known) or now.endswith(UNFINISHED):
            return ""
        self._start, self._read = self._read, len(self._ids)
        return self._release(now[len(known) :])

    def end(self) -> str:
        """What was held back, when no more tokens come."""
        if self.is_stopped:
            return ""
        known = self.decode(self._ids[self._start : self._read])
        rest = self._release(self.decode(self._ids[self._start :])[len(known) :])
        held, self._held = self._held, ""
        return rest if self.is_stopped else rest + held

    def _release(self, piece: str) -> str:
        self._held += piece
        found = [at for at in map(self._held.find, self.stop) if at >= 0]
        if found:
            self.is_stopped = True
            said, self._held = self._held[: min(found)], ""
            return said
        keep = max((_overlap(self._held, stop) for stop in self.stop), default=0)
        cut = len(self._held) - keep
        said, self._held = self._held[:cut], self._held[cut:]
        return said


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of a text that a stop string begins with."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
