"""How a job's time is divided, and where each number is from."""

from __future__ import annotations

from ltrl.cli import show
from ltrl.walltime import REST_SECONDS, Reserve

__all__ = ["show_reserve"]


def show_reserve(reserve: Reserve, set_up_seconds: float | None) -> None:
    """Tells when the job is told to stop, and why then."""
    show.note(
        f"told to save and stop {show.duration(reserve.signal_seconds)} before its end: "
        f"a step of {show.duration(reserve.step_seconds)} ({reserve.step_from}), "
        f"a checkpoint of {show.duration(reserve.save_seconds)} ({reserve.save_from}), "
        f"{REST_SECONDS} s for the rest"
    )
    if set_up_seconds is not None:
        show.note(f"set-up took {show.duration(set_up_seconds)} in the last attempt")
