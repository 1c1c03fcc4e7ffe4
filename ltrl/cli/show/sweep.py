"""Views of sweeps: what a submission did, the cells, and runs beside each other."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ltrl.cli import show
from ltrl.stages import TRAIN

if TYPE_CHECKING:
    from ltrl.array import Array, CellRun, CellStatus, Submission, Sweep
    from ltrl.compare import Comparison
    from ltrl.plan import Plan

__all__ = ["array", "cells", "cells_json", "comparison", "comparison_json", "counts", "plans", "submission"]


def plans(found: Iterable[Plan], values: Iterable[Mapping[str, Any]]) -> None:
    """Prints the cells of a sweep before anything is launched."""
    listed = list(found)
    rows = [
        (p.resolved.spec.name, ", ".join(f"{path}={_value(v)}" for path, v in own.items()), p.resolved.fingerprint[:8])
        for p, own in zip(listed, values, strict=True)
    ]
    show.table(("cell", "what is set", "fingerprint"), rows)
    hours = sum(p.launch.gpu_hours for p in listed)
    show.out(f"{len(listed)} runs" + (f", {hours:,.0f} GPU-hours at most" if hours else ""))


def submission(done: Submission) -> None:
    """Tells what a submission did."""
    sweep = done.sweep.id
    if done.launched:
        show.note(f"submitted: {len(done.launched)} runs; `ltrl status {sweep}` shows them")
    if done.waiting:
        show.note(f"started: {len(done.waiting)} runs take turns here; `ltrl status {sweep}` shows them")
    if not (done.launched or done.waiting):
        show.note("nothing to launch")
    for what, names in (("going on", done.running), ("complete", done.complete)):
        if names:
            show.note(f"left alone: {len(names)} {what}")
    if done.failed:
        show.note(f"left alone: {len(done.failed)} failed; `--resume-failed` launches them again")
    if dropped := sum(not cell.is_in_spec for cell in done.sweep.cells):
        show.note(f"left alone: {dropped} no longer in the spec; `ltrl status {sweep}` shows them, too")


def array(asked: Array) -> None:
    """Prints an array job that would be submitted."""
    import shlex

    show.note(f"nothing is launched: this would be an array job of {len(asked.requests)} runs")
    for i, one in enumerate(asked.requests):
        show.note(f"  task {i}: attempt {one.attempt} in {show.relative(one.run_dir)}")
    show.out(shlex.join(asked.argv))
    show.out(f"# {asked.script}:\n{asked.text.rstrip()}")


def cells(sweep: Sweep, found: Mapping[str, CellStatus]) -> None:
    """Prints every cell: how its training does, and its state in the first stage that has not succeeded."""
    table = []
    for cell in sweep.cells:
        status = found[cell.path.name]
        row, training = status.row, status.stages.get(TRAIN)
        said = ["" if cell.is_in_spec else "no longer in the spec", (row and row.reason) or ""]
        table.append(
            (
                cell.name,
                _state(sweep, status),
                f"{training.step}/{training.steps}" if training else "-",
                "-" if training is None or training.reward is None else f"{training.reward:.3f}",
                str(row.attempt) if row else "-",
                (row and row.job_id) or "-",
                "; ".join(filter(None, said)),
            )
        )
    show.table(("cell", "state", "step", "reward", "attempts", "job", ""), table)
    show.out(counts(sweep, found))


def counts(sweep: Sweep, found: Mapping[str, CellStatus]) -> str:
    """How many cells are in which state: `17 COMPLETED, 3 FAILED in export`."""
    states = Counter(_state(sweep, found[cell.path.name]) for cell in sweep.cells)
    return ", ".join(f"{number} {state}" for state, number in states.most_common())


def cells_json(sweep: Sweep, found: Mapping[str, CellStatus]) -> dict[str, Any]:
    """A sweep for programs."""

    def cell_json(cell: CellRun) -> dict[str, Any]:
        status = found[cell.path.name]
        stages = {name: row.to_json() if row else None for name, row in status.stages.items()}
        return {
            "name": cell.name,
            "values": dict(cell.values),
            "is_in_spec": cell.is_in_spec,
            "run": stages.get(TRAIN),
            "stage": status.stage,
            "state": status.row.state if status.row else _without_run(sweep),
            "stages": stages,
        }

    return {"sweep": sweep.id, "path": str(sweep.path), "cells": [cell_json(cell) for cell in sweep.cells]}


def comparison(found: Comparison) -> None:
    """Prints runs beside each other, the best first."""
    short = {path: path.rpartition(".")[2] for path in found.fields}
    twice = {name for name, number in Counter(short.values()).items() if number > 1}
    headers = [path if short[path] in twice else short[path] for path in found.fields]
    rows = [
        (
            row.run,
            *(_value(row.values[path]) if path in row.values else "-" for path in found.fields),
            row.state,
            f"{row.step}/{row.steps}",
            "-" if row.reward is None else f"{row.reward:.3f}",
            "-" if row.accuracy is None else f"{row.accuracy:.3f}",
        )
        for row in found.rows
    ]
    show.table(("run", *headers, "state", "step", "reward", "accuracy"), rows)


def comparison_json(found: Comparison) -> dict[str, Any]:
    """Runs beside each other, for programs."""
    from dataclasses import asdict

    return {"fields": list(found.fields), "runs": [{**asdict(row), "values": dict(row.values)} for row in found.rows]}


def _state(sweep: Sweep, status: CellStatus) -> str:
    """The state of a cell, with the stage that it is the state of unless that is the training or the end."""
    said = str(status.row.state) if status.row else _without_run(sweep)
    return said if status.is_complete or status.stage == TRAIN else f"{said} in {status.stage}"


def _without_run(sweep: Sweep) -> str:
    return "WAITING" if sweep.is_led else "NOT LAUNCHED"


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
