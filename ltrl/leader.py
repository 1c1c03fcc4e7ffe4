"""The process that launches jobs in turns: `python -m ltrl.leader DIRECTORY`."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

from ltrl import bundle, jobs, state, turns
from ltrl.errors import Code, LtrlError
from ltrl.stages import stage_dir
from ltrl.submit import is_service, launch_stage
from ltrl.turns import Orders, Turn

__all__ = ["lead"]

PAUSE_S = 0.2
"""Between two looks at the jobs: they are processes of this machine."""

PATIENCE_S = 10.0
"""How long a run may be held by somebody who submits or cancels it."""


def lead(orders: Orders) -> None:
    """Launches every job of every chain when it is its turn; returns when all are over, or after a SIGTERM.

    A chain ends at its first job that does not succeed.
    """
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))  # no job is left half launched
    waiting = [list(chain) for chain in orders.chains]
    running: list[tuple[Turn, list[Turn]]] = []
    while (waiting or running) and not stopped:
        while waiting and len(running) < orders.at_once and not stopped:
            first, *others = waiting.pop(0)
            if not _launch(first, orders):
                continue
            if _is_service(first):  # it runs beside what follows, and ends by itself
                waiting.insert(0, others)
            else:
                running.append((first, others))
        for turn, others in list(running):
            (run,) = jobs.observe([state.read_run(_directory(turn))])
            if run.latest and not run.latest.state.is_finished:
                continue
            running.remove((turn, others))
            if others and run.is_complete:
                waiting.insert(0, others)
        time.sleep(PAUSE_S)


def _launch(turn: Turn, orders: Orders) -> bool:
    """Whether a job runs now; one that cannot be launched is told in the log, and the next has its turn."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            found = bundle.read(Path(turn.bundle))
            launch_stage(found, project=Path(orders.project), run_dir=Path(turn.run_dir), stage=turn.stage)
        except LtrlError as error:
            if error.diagnostics[0].code is Code.RUN_BUSY and time.monotonic() < deadline:
                time.sleep(PAUSE_S)
                continue
            sys.stderr.write(f"{turn.run_dir} {turn.stage}: {error}\n")
            return False
        return True


def _is_service(turn: Turn) -> bool:
    return is_service(bundle.read(Path(turn.bundle)), turn.stage)


def _directory(turn: Turn) -> Path:
    return stage_dir(Path(turn.run_dir), turn.stage)


if __name__ == "__main__":
    lead(turns.read(Path(sys.argv[1])))
