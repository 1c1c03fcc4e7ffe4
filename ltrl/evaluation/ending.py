"""An evaluation that is told to end: what it has is on disk already, what it started ends with it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["ends_well"]


@contextmanager
def ends_well() -> Iterator[None]:
    """Makes SIGTERM unwind the process, as Ctrl-C does, so that a server which it started is ended too."""

    def end(number: int, _: FrameType | None) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
