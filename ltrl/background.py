"""An event loop that threads without one can wait for."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

__all__ = ["BackgroundLoop"]

T = TypeVar("T")


class BackgroundLoop:
    """One event loop in a thread of its own, started by the first call; ends with the object at the latest."""

    def __init__(self, name: str, *, at_end: Callable[[], Awaitable[None]]) -> None:
        """`at_end` runs in the loop when all is over; it must not hold on to this object."""
        self._name = name
        self._at_end = at_end
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What a coroutine returns or raises; any number of threads may wait at once."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=_run, args=(self._loop,), name=self._name, daemon=True)
                self._thread.start()
                # Does not wait: the garbage collector may run this in the loop's own thread.
                self._finalizer = weakref.finalize(self, _end, self._loop, self._at_end)
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        """Ends the loop and its thread."""
        if self._thread is not None:
            self._finalizer()
            self._thread.join()


def _run(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()


def _end(loop: asyncio.AbstractEventLoop, at_end: Callable[[], Awaitable[None]]) -> None:
    async def end() -> None:
        try:
            await at_end()
        finally:
            loop.stop()

    loop.call_soon_threadsafe(lambda: loop.create_task(end()))
