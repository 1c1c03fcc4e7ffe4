"""What is printed about data: findings, lengths against the context, figures."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ltrl.cli import show
from ltrl.dataset.plots import bins

if TYPE_CHECKING:
    from ltrl.data.check import Report
    from ltrl.data.facts import Facts
    from ltrl.data.hub import Fetched
    from ltrl.data.tokens import Counter

__all__ = ["fetched", "histogram", "reading", "report", "said"]

WIDTH = 40
"""Cells of the longest bar."""


@contextmanager
def reading(files: Sequence[Path]) -> Iterator[Callable[[Path, Facts], None]]:
    """A bar over the bytes of files in a terminal, nothing elsewhere; told of each record."""
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    total = sum(path.stat().st_size for path in files if path.is_file())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=total)
        yield lambda path, found: bar.update(task, advance=found.num_bytes, description=show.printable(path.name))


def report(found: Report, *, as_json: bool) -> None:
    """Prints what is wrong with data: findings to stderr, figures to stdout."""
    from ltrl.data.check import KINDS

    if as_json:
        _report_json(found)
        return
    findings = found.findings
    for one in findings:
        place = f"{one.file}:{one.line}" if one.line else one.file
        where = f" {one.field}" if one.field else ""
        hint = f" ({one.hint})" if one.hint else ""
        severity = "error" if one.is_error else "warning"
        show.note(show.printable(f"{place}:{where} {severity}[{one.code}]: {one.message}{hint}"))
    total = sum(found.counts.values())
    if total > len(findings):
        show.note(f"{total - len(findings):,} findings are not shown; `--limit {total}` shows all")
    if listed := [(kind, f"{found.counts[kind]:,}", KINDS[kind]) for kind in KINDS if found.counts[kind]]:
        show.table(("kind", "findings", ""), listed)
    if found.lengths:
        show.out(f"prompt lengths in tokens, {said(found.looks.counter)}")
        show.out(histogram(found.lengths, limit=found.looks.longest))
    longest, policy = found.looks.longest, found.looks.policy
    if longest is not None:
        over = f"{found.num_overlong:,} prompts are longer than the context's {longest:,} tokens"
        fates = {
            "skip": f"{found.num_overlong:,} are left out",
            "error": "the run stops at the first",
            "drop-documents": f"{found.num_shortened:,} lose documents, "
            f"{found.num_overlong - found.num_shortened:,} are left out",
        }
        show.out(over + (f" (`overlong: {policy}`: {fates[policy]})" if found.num_overlong else ""))
    for name, count in found.evaluation.items():
        gold = found.evaluation_gold[name]
        what = f"{gold:,} gold documents" if gold else "no documents, for it says of none that it is gold"
        show.out(f"compared with {count:,} questions of `{show.printable(name)}`, and {what}")
    used = f", {found.num_trained:,} would be trained on" if longest is not None else ""
    bad = f"{found.num_errors:,} errors, {total - found.num_errors:,} warnings" if total else "nothing wrong"
    show.out(f"{found.num_records:,} records{used}: {bad}")


def fetched(found: Sequence[Fetched], *, as_json: bool) -> None:
    """Prints where files are now, and what they are."""
    if as_json:
        show.json_([{**asdict(one), "path": str(one.path)} for one in found])
        return
    for one in found:
        rows = [("repo", one.repo), ("revision", one.commit), ("file", one.file), ("path", str(one.path))]
        show.table(("", "hf"), [*rows, ("size", f"{one.bytes:,} bytes"), ("SHA-256", one.sha256)])


def said(counter: Counter) -> str:
    """What counted tokens, in words."""
    from ltrl.data.tokens import CHARACTERS_PER_TOKEN

    if counter.tokenizer is None:
        whose = f" (no tokenizer of `{counter.model}` on this machine)" if counter.model else ""
        return f"estimated at {CHARACTERS_PER_TOKEN:g} characters each{whose}; `--tokenizer PATH` counts them"
    template = "with its chat template" if counter.template else "without a chat template: it has none"
    return f"counted by {show.relative(counter.tokenizer)}, {template}"


def histogram(values: Sequence[int], *, limit: int | None = None) -> str:
    """Bars of how many values lie between round bounds; those above the limit have a line of their own."""
    counted = bins([v for v in values if limit is None or v <= limit])
    if limit is not None:
        counted.append((f"over {limit:,}", sum(v > limit for v in values)))
    wide, most = max(len(name) for name, _ in counted), max(count for _, count in counted)
    return "\n".join(
        f"  {name:>{wide}}  {'█' * _cells(count, most)}{' ' if count else ''}{count:,}" for name, count in counted
    )


def _cells(count: int, most: int) -> int:
    return max(1, round(WIDTH * count / most)) if count else 0


def _report_json(found: Report) -> None:
    counter = found.looks.counter
    show.json_(
        {
            "records": found.num_records,
            "usable": found.num_usable,
            "errors": found.num_errors,
            "counts": dict(found.counts),
            "findings": [{**asdict(one), "code": one.code} for one in found.findings],
            "tokens": {
                "tokenizer": str(counter.tokenizer) if counter.tokenizer else None,
                "is_exact": counter.is_exact,
                "has_template": counter.template is not None,
                "total": sum(found.lengths),
                "longest": max(found.lengths, default=0),
            },
            "context": found.looks.longest,
            "overlong": {
                "policy": found.looks.policy,
                "prompts": found.num_overlong,
                "shortened": found.num_shortened,
            },
            "would_be_trained_on": found.num_trained if found.looks.longest is not None else None,
            "evaluation": found.evaluation,
            "evaluation_gold": found.evaluation_gold,
        }
    )
