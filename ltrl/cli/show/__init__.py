"""Everything that is printed: data to stdout, everything else to stderr."""

from __future__ import annotations

import itertools
import json
import math
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from ltrl.backend import Stage
    from ltrl.catalog import ModelCard
    from ltrl.errors import Diagnostic, Position
    from ltrl.memory import Layout, MemoryEstimate
    from ltrl.plan import Plan, TrainingData
    from ltrl.report import RunReport

__all__ = [
    "cells",
    "diagnostics",
    "diagnostics_json",
    "duration",
    "json_",
    "layouts",
    "layouts_json",
    "model_card",
    "note",
    "out",
    "plan",
    "printable",
    "relative",
    "report_json",
    "reports",
    "table",
]

GIB = 2**30

WIDTH = 160
"""Of a table that goes elsewhere than to a terminal."""

MAX_NODES = 16
"""Nodes that are drawn: a screen of them."""

MAX_LINE = 160
"""Characters of a source line that are shown; longer ones are cut around the caret."""


def out(text: str, *, flush: bool = False) -> None:
    """Prints a result, at once if someone waits for it."""
    sys.stdout.write(text + "\n")
    if flush:
        sys.stdout.flush()


def note(text: str) -> None:
    """Tells the person something that is not the result."""
    sys.stderr.write(text + "\n")


def json_(data: Any) -> None:
    """Prints a result for programs; paths as text, and numbers that JSON does not have, NaN and infinity, as null."""
    out(json.dumps(_plain(data), indent=2, ensure_ascii=False, allow_nan=False))


def _plain(data: Any) -> Any:
    match data:
        case dict():
            return {key: _plain(value) for key, value in data.items()}
        case list() | tuple():
            return [_plain(item) for item in data]
        case float() if not math.isfinite(data):
            return None
        case Path():
            return str(data)
        case _:
            return data


def model_card(card: ModelCard) -> None:
    """Prints what is known of a model."""
    experts = f"{card.num_experts}, {card.experts_per_token} for each token" if card.num_experts else "none"
    active = f", {card.num_active_parameters:,} for each token" if card.num_experts else ""
    table(
        ("", card.name),
        [
            ("architecture", card.architecture),
            ("parameters", f"{card.num_parameters:,}{active}"),
            ("layers x hidden size", f"{card.num_layers} x {card.hidden_size}"),
            ("attention heads", f"{card.num_heads}, {card.num_kv_heads} of keys and values, {card.head_dim} wide"),
            ("experts", experts),
            ("vocabulary", f"{card.vocab_size:,}"),
            ("longest context", f"{card.max_positions:,} tokens"),
            ("stop tokens", ", ".join(map(str, card.stop_token_ids)) or "none"),
            ("response format", card.chat_format),
        ],
    )


def relative(path: Path) -> str:
    """A path as one would type it from here."""
    shorter = os.path.relpath(path)
    return shorter if len(shorter) < len(str(path)) else str(path)


def table(
    headers: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    title: str = "",
    to: IO[str] | None = None,
    folds_names_only: bool = False,
) -> None:
    """Prints a table; cells that are numbers are aligned to the right, of the first column alone folded if told so."""
    file = to or sys.stdout
    listed = [[printable(str(cell)) for cell in row] for row in rows]
    is_screen = file.isatty()
    drawn = _drawn(headers, listed, strong=is_screen)
    columns = shutil.get_terminal_size().columns if is_screen else WIDTH
    fits = _cells(title) <= len(drawn[-1]) <= columns
    if fits and "FORCE_COLOR" not in os.environ and not (is_screen and (title or os.environ.get("TERM") == "dumb")):
        above = [title + " " * (len(drawn[-1]) - _cells(title))] if title else []
        file.write("".join(f"{line}\n" for line in above + drawn))
        return
    from rich.console import Console

    console = Console(file=file, width=None if is_screen else WIDTH, highlight=False)
    console.print(cells(headers, listed, title=title, folds_names_only=folds_names_only))


def _drawn(headers: Sequence[str], rows: Sequence[Sequence[str]], *, strong: bool) -> list[str]:
    """The lines of a table as rich draws it where nothing is folded, in a tenth of the time; the last is blank."""
    columns = [[header, *(row[i] for row in rows)] for i, header in enumerate(headers)]
    least = 1 if len(columns) == 1 else 0
    widths = [max(least, *map(_cells, column)) for column in columns]
    right = [_is_numeric(column[1:]) for column in columns]

    def line(row: Sequence[str], *, bold: bool = False) -> str:
        padded = []
        for text, width, is_right in zip(row, widths, right, strict=True):
            blank = " " * (width - _cells(text))
            shown = f"\033[1m{text}\033[0m" if bold and text else text
            padded.append(blank + shown if is_right else shown + blank)
        return f" {'   '.join(padded)} "

    whole = sum(widths) + 3 * len(widths) - 1
    rule = f" {'─' * (whole - 2)} "
    return [" " * whole, line(headers, bold=strong), rule, *map(line, rows), " " * whole]


def cells(
    headers: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "", folds_names_only: bool = False
) -> Table:
    """A table that is not printed yet."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    listed = [[str(cell) for cell in row] for row in rows]
    drawn = Table(box=SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for i, header in enumerate(headers):
        drawn.add_column(
            header,
            justify="right" if _is_numeric([row[i] for row in listed]) else "left",
            overflow="fold",
            no_wrap=folds_names_only and i > 0,
        )
    for row in listed:
        drawn.add_row(*(Text(printable(cell)) for cell in row))
    return drawn


def diagnostics(found: Iterable[Diagnostic]) -> None:
    """Prints mistakes with the lines they are in."""
    colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    sys.stderr.write("\n\n".join(_diagnostic(d, colour=colour) for d in found) + "\n")


def diagnostics_json(found: Iterable[Diagnostic]) -> list[dict[str, Any]]:
    """Mistakes for programs."""
    return [
        {
            "code": d.code,
            "severity": d.severity,
            "message": d.message,
            "file": d.position.source.name if d.position else None,
            "line": d.position.line if d.position else None,
            "column": d.position.column if d.position else None,
            "width": d.position.width if d.position else None,
            "hint": d.hint,
        }
        for d in found
    ]


def plan(planned: Plan, data: TrainingData) -> None:
    """Prints what a run will do."""
    from ltrl.cli.show.container import container_rows

    resolved, layout, batches, launch = planned.resolved, planned.layout, planned.batches, planned.launch
    lengths, card = resolved.lengths, resolved.card
    sizes = f"tp {layout.tp}, pp {layout.pp}, cp {layout.cp}, dp {layout.dp}"
    if layout.ep > 1 or layout.etp > 1:
        sizes += f", ep {layout.ep}, etp {layout.etp}"
    machines = f"{launch.nodes} x {launch.gpus_per_node} GPUs" if launch.gpus_per_node else f"{launch.nodes} x CPU"
    more = "at least " if resolved.spec.algorithm.dynamic_sampling else ""
    rows = [
        ("model", f"{resolved.spec.model.base}, {card.num_parameters:,} parameters"),
        ("context", f"{lengths.prompt:,} prompt + {lengths.response:,} response, {lengths.total:,} in all"),
        ("engine", resolved.engine.name),
        ("cluster", f"{resolved.cluster_name} ({launch.executor}): {machines}, {launch.minutes} minutes"),
        *container_rows(resolved.cluster.container, resolved.origins),
        ("layout", sizes if launch.gpus_per_node else "one process"),
        (
            "batch",
            f"{batches.prompts_per_step} prompts x {batches.group_size} responses, {batches.updates_per_step} update"
            + ("s a step" if batches.updates_per_step > 1 else " a step"),
        ),
        *_microbatches(planned),
        ("tokens", f"at most {batches.max_tokens_per_step:,} a step"),
        ("steps", f"{resolved.spec.algorithm.steps}, {more}{data.num_prompts:,} prompts"),
        (
            "epochs",
            f"{more}{data.epochs:.2f} of {data.num_samples:,} samples" if data.epochs else f"unknown: {data.reason}",
        ),
        ("GPU-hours", f"{launch.gpu_hours:,} at most" if launch.gpus_per_node else "none"),
        *((f"stage `{stage.name}`", _stage(stage)) for stage in planned.stages),
        ("fingerprint", resolved.fingerprint[:16]),
    ]
    table(("", planned.name), rows)
    if planned.memory:
        _ranks(planned)
        _memory(planned.memory)


def _stage(stage: Stage) -> str:
    of_each = {0: "CPU", 1: "1 GPU"}.get(stage.gpus_per_node, f"{stage.gpus_per_node} GPUs")
    hours = stage.nodes * stage.gpus_per_node * stage.minutes / 60
    cost = f", {hours:g} GPU-hours at most" if hours else ""
    image = f"; image {stage.image}" if stage.image else ""
    return f"{stage.nodes} x {of_each}, {stage.minutes} minutes{cost}{image}"


def _microbatches(planned: Plan) -> Iterator[tuple[str, str]]:
    cut, layout, card = planned.microbatches, planned.layout, planned.resolved.card
    if cut:
        where = f" on each of {layout.dp} replicas" if layout.dp > 1 else ""
        yield "microbatches", f"at most {cut.max_per_step:,} a step{where}, one for each response of full length"
    if cut and layout.pp > 1:
        yield "pipeline", f"{layout.pp} stages, each waits for {cut.pipeline_idle:.1%} of an update or more"
    if cut and card.num_experts:
        copies = f"{layout.expert_dp} cop" + ("ies" if layout.expert_dp > 1 else "y")
        yield (
            "experts",
            f"{card.num_experts} in {layout.ep} groups of {card.num_experts // layout.ep}, {copies} of each",
        )


def _ranks(planned: Plan) -> None:
    """The drawing: a row for each node, a cell for each GPU. Axes of size 1 are left out."""
    layout = planned.layout
    axes = [a for a in ("tp", "cp", "dp", "pp", "ep", "etp") if getattr(layout, a) > 1] or ["dp"]
    nodes = [list(row) for _, row in itertools.groupby(planned.ranks, key=lambda r: r.node)]
    rows = [
        (f"node {row[0].node}", *(" ".join(f"{a}{getattr(r, a)}" for a in axes) for r in row))
        for row in nodes[:MAX_NODES]
    ]
    table(("rank of", *(f"GPU {gpu}" for gpu in range(layout.gpus_per_node))), rows)
    if len(nodes) > MAX_NODES:
        out(f"nodes {MAX_NODES} to {len(nodes) - 1} go on in the same order")
    if (rollout := planned.launch.nodes - layout.nodes) > 0:
        out(f"{rollout} more nodes only generate")


def _memory(estimate: MemoryEstimate) -> None:
    for phase in (*estimate.phases, estimate.host, estimate.disk):
        low, high = (f"{end / GIB:,.1f}" for end in phase.band)
        judged = f" of {phase.capacity / GIB:,.0f} GiB: {phase.verdict}" if phase.capacity else ""
        total = ("total", f"{phase.total / GIB:,.2f}", f"{low} to {high}{judged}", "")
        rows = [(t.name, f"{t.bytes / GIB:,.2f}", t.formula, t.source) for t in phase.terms if t.bytes]
        table((phase.name, f"GiB per {phase.per}", "how", "source"), [*rows, total])
    out(
        f"{estimate.verdict}: {estimate.headroom / GIB:.1f} GiB per GPU remain in the fullest phase "
        f"({estimate.worst.name}); {estimate.num_engines} rollout engines, each with room for "
        f"{estimate.sequences_per_engine} full-length sequences at a time"
    )


def layouts(found: Sequence[tuple[Layout, MemoryEstimate]], limit: int = 20) -> None:
    """Prints layouts with what remains of the memory, best first."""
    rows = [
        (x.tp, x.pp, x.cp, x.ep, x.etp, x.dp, e.verdict, f"{e.headroom / GIB:.1f}", e.worst.name)
        for x, e in found[:limit]
    ]
    table(("tp", "pp", "cp", "ep", "etp", "dp", "verdict", "GiB left per GPU", "fullest phase"), rows)
    if len(found) > limit:
        note(f"{len(found) - limit} more")


def layouts_json(found: Sequence[tuple[Layout, MemoryEstimate]]) -> list[dict[str, Any]]:
    """Layouts for programs, best first."""
    return [
        {**asdict(layout), "verdict": e.verdict, "headroom_bytes_per_gpu": e.headroom, "fullest_phase": e.worst.name}
        for layout, e in found
    ]


def duration(seconds: float) -> str:
    """A time as one says it: `2 min 05 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def reports(found: Sequence[RunReport], curves: Sequence[tuple[str, str]]) -> None:
    """Prints the figures of runs, one table for all, and their curves."""
    rows = []
    for report in found:
        for i, (what, tag) in enumerate(curves):
            first, last = report.change(tag)
            rows.append((report.name if i == 0 else "", what, _figure(first), _figure(last), report.curve(tag)))
        first, last = report.validation_change()
        if first is not None:
            rows.append(("", "validation accuracy", _figure(first), _figure(last), ""))
        steps = f"{report.metrics.last_step}/{report.num_steps} steps in {report.seconds:.0f} s"
        rows.append((f"paid for: {report.reward_backend}", steps, "", "", ""))
    table(("run", "", "first 10", "last 10", "course, 0 to 1"), rows)


def report_json(report: RunReport) -> dict[str, Any]:
    """A report for programs."""
    return {
        "run": report.name,
        "reward": report.reward_backend,
        "steps": report.metrics.last_step,
        "step_target": report.num_steps,
        "seconds": round(report.seconds, 3),
        "first_10": {tag: report.change(tag)[0] for tag in ("reward", "outcome", "rubric")},
        "last_10": {tag: report.change(tag)[1] for tag in ("reward", "outcome", "rubric")},
        "validation": {str(step): dict(values) for step, values in report.metrics.validation.items()},
    }


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _diagnostic(diagnostic: Diagnostic, *, colour: bool) -> str:
    def paint(code: str, text: str) -> str:
        return f"\033[{code}m{text}\033[0m" if colour else text

    strong = "1;31" if diagnostic.severity == "error" else "1;33"
    head = paint(strong, f"{diagnostic.severity}[{diagnostic.code}]")
    lines = [f"{head}: {printable(diagnostic.message)}"]
    if diagnostic.position:
        lines += _excerpt(diagnostic.position, paint(strong, "^" * _width(diagnostic.position)))
    for what, position in diagnostic.related:
        lines += [f"note: {what}", *_excerpt(position, "-" * _width(position))]
    if diagnostic.hint:
        lines.append(paint("1", "hint") + f": {printable(diagnostic.hint)}")
    return "\n".join(lines)


def _excerpt(position: Position, marker: str) -> list[str]:
    line = printable(position.line_text)
    start = position.column - 1
    cut = max(0, start - MAX_LINE // 2)
    line = ("…" if cut else "") + line[cut : cut + MAX_LINE] + ("…" if len(line) > cut + MAX_LINE else "")
    indent = _cells(line[: start - cut + (1 if cut else 0)])
    number = str(position.line)
    margin = " " * len(number)
    return [
        f"  --> {printable(position.source.name)}:{position.line}:{position.column}",
        f" {margin} |",
        f" {number} | {line}",
        f" {margin} | {' ' * indent}{marker}",
    ]


def _width(position: Position) -> int:
    line = printable(position.line_text)
    marked = line[position.column - 1 : position.column - 1 + min(position.width, MAX_LINE // 2)]
    return max(1, _cells(marked))


def _cells(text: str) -> int:
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def printable(text: str) -> str:
    """The text with tabs as one space and control characters visible, so that it cannot steer the terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c == "\t" else "�" for c in text)


def _is_numeric(column: Sequence[str]) -> bool:
    return bool(column) and all(map(_is_number, column))


def _is_number(cell: str) -> bool:
    return cell in ("", "-") or cell.replace(",", "").replace(".", "", 1).replace("%", "").lstrip("<+-").isdigit()
