"""Views of sweeps: what a submission did, the cells, and runs beside each other."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ltrl.cli import show

if TYPE_CHECKING:
    from ltrl.array import Array, CellRun, Submission, Sweep
    from ltrl.compare import Comparison
    from ltrl.plan import Plan
    from ltrl.runs import Status

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


def array(asked: Array) -> None:
    """Prints an array job that would be submitted."""
    import shlex

    show.note(f"nothing is launched: this would be an array job of {len(asked.requests)} runs")
    for i, one in enumerate(asked.requests):
        show.note(f"  task {i}: attempt {one.attempt} in {show.relative(one.run_dir)}")
    show.out(shlex.join(asked.argv))
    show.out(f"# {asked.script}:\n{asked.text.rstrip()}")


def cells(sweep: Sweep, rows: Mapping[str, Status]) -> None:
    """Prints every cell with how its run does."""
    table = []
    for cell in sweep.cells:
        row = rows.get(cell.path.name)
        if row is None:
            table.append((cell.name, _without_run(sweep), "-", "-", "-", "-", ""))
            continue
        reward = "-" if row.reward is None else f"{row.reward:.3f}"
        step = f"{row.step}/{row.steps}"
        table.append((cell.name, str(row.state), step, reward, str(row.attempt), row.job_id or "-", row.reason or ""))
    show.table(("cell", "state", "step", "reward", "attempts", "job", ""), table)
    show.out(counts(sweep, rows))


def counts(sweep: Sweep, rows: Mapping[str, Status]) -> str:
    """How many cells are in which state: `17 COMPLETED, 3 FAILED`."""
    states = Counter(str(rows[c.path.name].state) if c.path.name in rows else _without_run(sweep) for c in sweep.cells)
    return ", ".join(f"{number} {state}" for state, number in states.most_common())


def cells_json(sweep: Sweep, rows: Mapping[str, Status]) -> dict[str, Any]:
    """A sweep for programs."""

    def cell_json(cell: CellRun) -> dict[str, Any]:
        row = rows.get(cell.path.name)
        return {
            "name": cell.name,
            "values": dict(cell.values),
            "run": row.to_json() if row else None,
            "state": row.state if row else _without_run(sweep),
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


def _without_run(sweep: Sweep) -> str:
    return "WAITING" if sweep.is_led else "NOT LAUNCHED"


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
