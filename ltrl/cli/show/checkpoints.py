"""The checkpoints of a run on the screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ltrl.cli.show import duration, note, relative, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ltrl.checkpoints import Entry, Rollback
    from ltrl.inventory import Forecast, Inventory, Kept
    from ltrl.state import Run

__all__ = ["inventory", "inventory_json", "pruning", "rollback_json", "size"]

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def size(num_bytes: int) -> str:
    """Bytes for a person: `4.2 GiB`."""
    value, unit = float(num_bytes), 0
    while value >= 1024 and unit < len(UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.0f} {UNITS[unit]}" if value >= 100 or unit == 0 else f"{value:.1f} {UNITS[unit]}"


def inventory(found: Inventory, run: Run, *, deep: bool) -> None:
    """Prints a line for each checkpoint, and what is to come."""
    if not found.kept and not found.aside:
        note(f"`{run.id}` has no checkpoints yet")
        return
    figures = sorted({name for one in found.kept for name in one.entry.validation if "/" not in name})[:2]
    headers = ("step", "age", "size", "", "layout", *figures, "attempt", "why")
    table(headers, (_row(one, figures) for one in found.kept), title=run.id)
    for path, num_bytes in found.aside:
        note(f"set aside: {relative(path)}, {size(num_bytes)}")
    if found.forecast:
        note(_forecast(found.forecast))
    if not deep:
        note("told from names, sizes and headers; `--verify` reads indices, archives and hashes")


def inventory_json(found: Inventory, run: Run) -> dict[str, Any]:
    """The same for programs."""
    forecast = found.forecast
    return {
        "run": run.id,
        "checkpoints": [_json(one) for one in found.kept],
        "set_aside": [{"path": str(path), "bytes": num_bytes} for path, num_bytes in found.aside],
        "forecast": None
        if forecast is None
        else {
            "bytes_each": forecast.bytes_each,
            "num_more": forecast.num_more,
            "more_bytes": forecast.more_bytes,
            "free_bytes": forecast.free_bytes,
            "full_at_step": forecast.full_at_step,
        },
    }


def pruning(going: Sequence[Entry], staying: dict[int, tuple[str, ...]], *, verb: str) -> None:
    """Prints what goes and why the others stay."""
    gone = {entry.step: entry for entry in going}
    rows = [
        (step, verb, size(gone[step].bytes)) if step in gone else (step, "stays", ", ".join(staying[step]))
        for step in staying
    ]
    table(("step", "", ""), rows)
    note(f"{len(going)} of {len(staying)} checkpoints, {size(sum(entry.bytes for entry in going))}")


def rollback_json(made: Rollback, run: Run) -> dict[str, Any]:
    """A rollback for programs."""
    where = run.path / "checkpoints" / made.place
    return {"run": run.id, "step": made.step, "moved": list(made.moved), "place": str(where)}


def _row(one: Kept, figures: Sequence[str]) -> tuple[object, ...]:
    entry = one.entry
    values = (f"{entry.validation[name]:.3f}" if name in entry.validation else "-" for name in figures)
    return (
        entry.step,
        duration(one.age_seconds) if entry.written else "-",
        size(entry.bytes) if entry.bytes else "-",
        str(entry.condition),
        entry.layout if entry.layout != "unknown" else "-",
        *values,
        one.attempt or "-",
        ", ".join(one.reasons or entry.problems) or "may go",
    )


def _json(one: Kept) -> dict[str, Any]:
    entry = one.entry
    return {
        "step": entry.step,
        "path": str(entry.directory),
        "condition": str(entry.condition),
        "problems": list(entry.problems),
        "layout": entry.layout,
        "bytes": entry.bytes,
        "files": entry.num_files,
        "age_seconds": round(one.age_seconds, 1),
        "validation": entry.validation,
        "attempt": one.attempt,
        "kept_because": list(one.reasons),
    }


def _forecast(forecast: Forecast) -> str:
    more = f"{forecast.num_more} more of {size(forecast.bytes_each)} by the last step: {size(forecast.more_bytes)}"
    free = f"{size(forecast.free_bytes)} are free"
    if forecast.full_at_step is None:
        return f"{more}, {free}"
    return f"{more}, but {free}: the disk is full at step {forecast.full_at_step}"
