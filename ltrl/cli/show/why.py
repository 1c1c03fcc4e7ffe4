"""Why a run ended, on the screen."""

from __future__ import annotations

import textwrap
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltrl.cli.show import duration, out, printable, relative, table
from ltrl.cli.show.status import clock

if TYPE_CHECKING:
    from ltrl.evidence import Diagnosis
    from ltrl.why import Cause

__all__ = ["why", "why_json"]


def why(found: Diagnosis, run: Path) -> None:
    """Prints the first cause, what to change, and what else was seen."""
    at = f", last checkpoint of step {found.step}" if found.step is not None else ""
    reason = f" ({printable(found.reason)})" if found.reason else ""
    out(f"{found.run}, attempt {found.attempt}: {found.state}{reason}{at}")
    signature = found.waits or (found.causes[0].signature if found.causes else None)
    if found.causes:
        first = found.causes[0]
        out("")
        kind = "first cause" if found.state.is_finished else "it has not ended; trouble since its last step"
        out(f"{kind}: {printable(first.title)}" + (f" [{signature.id}]" if signature else ""))
        out(f"  --> {_place(first, run)}, {clock(first.time.isoformat())}")
        width = len(str(first.excerpt[-1][0])) if first.line else 0
        for number, text in first.excerpt:
            mark = ">" if number == first.line else " "
            out(f" {mark}{number:{width}} | {printable(text)[:200]}" if first.line else f"   | {printable(text)}")
    elif found.waits:
        out(f"\n{found.waits.title} [{found.waits.id}]")
    elif not found.state.is_finished or found.state == "COMPLETED":
        out("\nnothing has gone wrong that its logs would show")
    else:
        out("\nno cause is to be found in its logs")
    if signature:
        for text in (signature.why, signature.do):
            out(textwrap.fill(text, 120, initial_indent="  ", subsequent_indent="  "))
    if found.before:
        out(f"  here: `ltrl why {found.before}`")
    if found.change:
        table(
            ("change", "now", "written at", "line"),
            [(line.field, _value(line.value), line.place, line.text) for line in found.change],
        )
    if others := found.causes[1:]:
        out("then:")
        first_time = found.causes[0].time
        for cause in others:
            out(f"  {_later(cause.time, first_time)}: {printable(cause.title)}, {_place(cause, run)}")


def why_json(found: Diagnosis, run: Path) -> dict[str, Any]:
    """The same for programs."""
    return {
        "run": found.run,
        "attempt": found.attempt,
        "state": found.state,
        "reason": found.reason,
        "step": found.step,
        "causes": [
            {
                "id": cause.signature.id if cause.signature else None,
                "title": cause.title,
                "why": cause.signature.why if cause.signature else None,
                "do": cause.signature.do if cause.signature else None,
                "file": str(run / cause.log) if cause.line else None,
                "line": cause.line or None,
                "time": cause.time.isoformat(timespec="milliseconds"),
                "excerpt": [{"line": number, "text": text} for number, text in cause.excerpt],
            }
            for cause in found.causes
        ],
        "waits": asdict(found.waits) if found.waits else None,
        "before": found.before,
        "change": [asdict(line) for line in found.change],
    }


def _place(cause: Cause, run: Path) -> str:
    return f"{relative(run / cause.log)}:{cause.line}" if cause.line else cause.log


def _later(time: datetime, first: datetime) -> str:
    seconds = (time - first).total_seconds()
    return (
        f"{duration(abs(seconds))} {'later' if seconds >= 0 else 'before'}" if abs(seconds) >= 1 else "at the same time"
    )


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return str(value.get("backend") or value.get("name") or "…")
    return "not set" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
