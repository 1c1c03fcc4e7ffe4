"""Runs on a terminal, drawn again and again until a key says that it is enough; plain lines where there is none."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from ltrl.cli.show import out
from ltrl.cli.show.watch.frame import frame, headline

if TYPE_CHECKING:
    from types import FrameType

    from ltrl.live import Live, Observer

__all__ = ["on_lines", "on_screen", "once"]

LOOK_S = 0.2
"""How often keys and the size of the terminal are looked at."""

FIRST_PIECE = 256 * 1024
PIECE = 4 * 2**20
"""Bytes of each file that are read between two pictures at most: a long history never holds up the screen."""

CATCH_UP_S = 0.05
"""Between two looks at a run whose history is still being read."""

NEXT = (b"\t", b"\x1b[B", b"\x1b[C", b"j", b"l", b"n")
BEFORE = (b"\x1b[Z", b"\x1b[A", b"\x1b[D", b"k", b"h", b"p")
LEAVE = (b"q", b"Q", b"\x03", b"\x04")


def on_screen(watched: Sequence[Live], observer: Observer, *, every_s: float) -> None:
    """Draws until `q` or Ctrl-C; whatever happens, the terminal is given back as it was, also while Ctrl-Z holds it."""
    from rich.console import Console, Group
    from rich.live import Live as Screen

    console = Console(highlight=False)
    ascii_ = not console.encoding.lower().startswith("utf")
    selected, due = 0, 0.0
    shown: object = None
    with (
        _keys() as (pressed, keys),
        _signals() as told,
        Screen(console=console, screen=True, auto_refresh=False) as screen,
    ):
        while True:
            if told:  # Ctrl-Z, or the shell has had the terminal meanwhile
                screen.stop()
                keys(False)
                if signal.SIGTSTP in told:
                    _stop()
                told.clear()
                keys(True)
                screen.start()
                shown = None
            if time.monotonic() >= due:
                is_new = [live.update(limit=PIECE if shown else FIRST_PIECE) for live in watched]
                due = time.monotonic() + (CATCH_UP_S if any(is_new) else every_s)
            console.size = width, height = _size()  # COLUMNS, which rich asks first, outlives a resize
            lines = frame(
                watched, selected=selected, width=width, height=height, trouble=observer.trouble, ascii_=ascii_
            )
            if (drawn := (width, height, lines)) != shown:
                screen.update(Group(*lines), refresh=True)
                shown = drawn
                if observer.ident is None:  # not started yet, and only now: the first picture waits for nobody
                    observer.start()
            key = pressed(max(0.0, min(LOOK_S, due - time.monotonic())))
            if key in LEAVE:
                return
            if key in NEXT or key in BEFORE:
                selected = (selected + (1 if key in NEXT else -1)) % len(watched)


def on_lines(watched: Sequence[Live], observer: Observer, *, every_s: float) -> None:
    """Writes a line for each change that matters, until all runs are over."""
    told: dict[str, tuple[object, ...]] = {}
    due = 0.0
    while True:
        if time.monotonic() >= due:
            observer.ask()
            due = time.monotonic() + observer.pause_s
        for live in watched:
            live.update()
            row = live.status
            validated = live.metrics.validation.steps[-1] if live.metrics.validation.steps else None
            marks = (row.state, row.step // 10, row.last_checkpoint, validated, live.stall is not None, live.is_gone)
            if told.get(row.path) != marks:
                out(headline(live), flush=True)
                told[row.path] = marks
        if all(live.status.state.is_finished or live.is_gone for live in watched):
            return
        time.sleep(every_s)


def once(watched: Sequence[Live], *, width: int, height: int) -> None:
    """Prints one picture of each run, as it would stand on a screen."""
    from rich.console import Console

    console = Console(highlight=False, width=width)
    ascii_ = not console.encoding.lower().startswith("utf")
    for live in watched:
        for line in frame([live], selected=0, width=width, height=height, ascii_=ascii_)[:-1]:
            line.rstrip()
            console.print(line, no_wrap=True, crop=True)


def _size() -> tuple[int, int]:
    """Columns and lines of the terminal now."""
    with suppress(OSError):
        columns, lines = os.get_terminal_size(sys.stdout.fileno())
        return columns or 80, lines or 24
    return 80, 24


def _stop() -> None:
    """As Ctrl-Z stops any program, until it is continued; not where there is no shell that could do so."""
    ours = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
    signal.raise_signal(signal.SIGTSTP)
    signal.signal(signal.SIGTSTP, ours)


@contextmanager
def _keys() -> Iterator[tuple[Callable[[float], bytes], Callable[[bool], None]]]:
    """A function that waits for a key, without a keyboard it only waits; and one that takes the keyboard or gives it
    back.
    """
    if not sys.stdin.isatty():

        def wait(seconds: float) -> bytes:
            time.sleep(seconds)
            return b""

        yield wait, lambda _: None
        return
    import termios
    import tty

    handle = sys.stdin.fileno()
    before = termios.tcgetattr(handle)

    def pressed(seconds: float) -> bytes:
        ready, _, _ = select.select([handle], [], [], seconds)
        if not ready:
            return b""
        read = os.read(handle, 32)
        return read or b"\x04"  # the terminal is gone

    def take(is_ours: bool) -> None:
        if is_ours:
            tty.setcbreak(handle)
        else:
            with suppress(termios.error):
                termios.tcsetattr(handle, termios.TCSADRAIN, before)

    try:
        take(True)
        yield pressed, take
    finally:
        take(False)


@contextmanager
def _signals() -> Iterator[set[int]]:
    """Collects signals about the terminal; one to end does so by way of every `finally`, which gives it back."""
    told: set[int] = set()

    def leave(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    def note(number: int, _: FrameType | None) -> None:
        told.add(number)

    wanted = {signal.SIGTERM: leave, signal.SIGHUP: leave, signal.SIGTSTP: note, signal.SIGCONT: note}
    before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    try:
        yield told
    except KeyboardInterrupt:
        pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
