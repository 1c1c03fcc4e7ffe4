"""What is printed of evaluations: progress, figures with their intervals, comparisons."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from ltrl.cli import show
from ltrl.words import counted

if TYPE_CHECKING:
    from ltrl.evaluation.comparison import Compared
    from ltrl.evaluation.statistics import Estimate
    from ltrl.evaluation.summary import Counts, Summary

__all__ = ["chance", "comparison", "interval", "passed", "percent", "progress", "spent", "summary"]

_FEW_QUESTIONS = 200
_LINE_SECONDS = 60.0
_BESIDE_BAR = 38
"""Characters that `12,345/12,345 answers, 12:34:56 left` takes."""
_LEAST_NAME, _BETWEEN = 12, 3
"""Characters of a terminal: for names, which are folded, and between columns."""


@contextmanager
def progress(name: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar in a terminal with the time that remains, a line a minute elsewhere."""
    if not sys.stderr.isatty():
        yield _lines(name)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    room = console.width - len(name) - _BESIDE_BAR
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=max(4, min(40, room))),
        MofNCompleteColumn(),
        TextColumn("answers,"),
        TimeRemainingColumn(compact=True),
        TextColumn("left"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _lines(name: str) -> Callable[[int, int | None], None]:
    started = last = time.monotonic()
    first: list[int] = []

    def tell(done: int, total: int | None) -> None:
        nonlocal last
        first[:] = first or [done]
        now = time.monotonic()
        if now - last < _LINE_SECONDS:
            return
        last = now
        left = ""
        if total is not None and done > first[0]:
            seconds = (now - started) / (done - first[0]) * (total - done)
            left = f", about {show.duration(seconds)} left"
        show.note(f"{name}: {done:,}{f' of {total:,}' if total else ''} answers{left}")

    return tell


def summary(where: Path, found: Sequence[Summary], *, as_json: bool) -> None:
    """Prints the figures of an evaluation; scores as percentages."""
    from ltrl.evaluation.results import HEAD, SAMPLES, read_head

    head = read_head(where)
    if as_json:
        show.json_({"model": head.model, "results": str(where), "benchmarks": [one.to_json() for one in found]})
        return
    rows = []
    for one in found:
        rows.append(_row(one.name, one))
        for split, parts in one.parts.items():
            rows += [_row(f"  {split}: {name}", part) for name, part in parts.items()]
    headers = ("", "questions", "score", "95% interval", "±", "pass@k", *_COUNTS)
    shown = [i for i, header in enumerate(headers) if i < 5 or any(row[i] not in ("", "0") for row in rows)]
    _table([headers[i] for i in shown], [[row[i] for i in shown] for row in rows], title=f"{head.name}: {head.model}")
    for note in spent(found, head.prices):
        show.note(note)
    for one in found:
        for note in _notes(one):
            show.note(note)
    if head.lengths == "estimated":
        show.note("lengths of prompts are estimates: the model's tokenizer is not here")
    show.note(f"every answer: {show.relative(where / SAMPLES)}; what was measured: {HEAD}")


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "") -> None:
    """Prints a table without the columns on its right that a terminal has no room for; numbers are never broken."""
    shown = len(headers)
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        names, *sizes = (max(map(len, column)) for column in zip(headers, *rows, strict=True))
        room = width - 2 - min(names, max(_LEAST_NAME, width // 4))
        shown = 1 + sum(taken <= room for taken in accumulate(size + _BETWEEN for size in sizes))
    show.table(headers[:shown], [row[:shown] for row in rows], title=title, folds_names_only=True)
    if shown < len(headers):
        show.note(f"no room in this terminal for: {', '.join(headers[shown:])}; `--json` has all")


def spent(found: Sequence[Summary], prices: Mapping[str, float] | None) -> Iterator[str]:
    """What the model and the judges took: tokens, and their cost where it is known."""
    from ltrl.scoring import Usage

    prompt, response = (sum(getattr(one.counts, f"{what}_tokens") for one in found) for what in ("prompt", "response"))
    cost = (prompt * prices["prompt"] + response * prices["response"]) / 1e6 if prices else None
    yield _tokens(prompt, response, cost) if prompt or response else "the endpoint counts no tokens"
    judges = Usage.sum_of(one.counts.judge for one in found)
    if judges is not None:
        replies = f"{judges.replies:,} {'reply' if judges.replies == 1 else 'replies'}"
        yield f"judges: {replies}, {_tokens(judges.prompt_tokens, judges.response_tokens, judges.cost)}"


def _tokens(prompt: int, response: int, cost: float | None) -> str:
    counted = f"{prompt:,} tokens of prompts, {response:,} of responses"
    return counted if cost is None else f"{counted}: {cost:,.2f}"


_COUNTS = ("too long", "cut", "missing", "truncated", "ill-formed")


def _row(name: str, one: Summary) -> tuple[str, ...]:
    counts: Counts = one.counts
    score = one.score
    numbers = (counts.too_long, counts.cut, counts.missing, counts.truncated, counts.ill_formed)
    return (
        name,
        str(score.num_questions if score else 0),
        percent(score.value) if score else "-",
        interval(score) if score else "-",
        percent(score.half_width) if score else "-",
        passed(one),
        *map(str, numbers),
    )


def passed(one: Summary) -> str:
    """pass@k of the largest k, with that k: `58.3 @4`; nothing where there is none."""
    most = max(one.pass_at, default=0)
    return f"{percent(one.pass_at[most].value)} @{most}" if most else ""


def _notes(one: Summary) -> Iterator[str]:
    score, counts = one.score, one.counts
    if score and score.num_questions <= _FEW_QUESTIONS:
        clusters = f" in {score.num_clusters} clusters" if score.num_clusters != score.num_questions else ""
        yield (
            f"{one.name}: {score.num_questions} questions{clusters} leave ± {percent(score.half_width)} points; "
            "`ltrl eval compare` of two models on the same questions is sharper"
        )
    if one.refusal:
        yield one.refusal
    if counts.missing:
        what = "answer is" if counts.missing == 1 else "answers are"
        yield f"{one.name}: {counts.missing} {what} missing, not wrong; the same command asks again"


def comparison(found: Sequence[Compared], names: tuple[str, str], *, as_json: bool) -> None:
    """Prints how two models differ, in points of 100."""
    if as_json:
        show.json_({"a": names[0], "b": names[1], "benchmarks": [one.to_json() for one in found]})
        return
    table = []
    for one in found:
        table.append(_compared(one.name, one, chance(one.p_holm)))
        for split, parts in one.parts.items():
            table += [_compared(f"  {split}: {name}", part, "") for name, part in parts.items()]
    headers = ("", "questions", "a", "b", "b - a", "95% interval", "p", "p (Holm)", "better", "worse", "unpaired")
    _table(headers, table)
    for side, name in zip("ab", names, strict=True):
        show.note(f"{side}: {name}")
    for one in found:
        if one.num_different:
            show.note(
                f"{one.name}: left out for another text or right answer under the same id: "
                f"{counted(one.num_different, 'question')}"
            )
        estimate, word = one.difference.estimate, "better" if one.difference.estimate.value > 0 else "worse"
        said = f"b is {word}" if one.is_significant else "no difference that these questions can show"
        show.note(
            f"{one.name}: {said}; {100 * estimate.value:+.1f} ({interval(estimate)}) points, p {chance(one.p_holm)}"
        )


def _compared(name: str, one: Compared, p_holm: str) -> tuple[str, ...]:
    found = one.difference
    return (
        name,
        str(one.a.num_questions),
        percent(one.a.value),
        percent(one.b.value),
        f"{100 * found.estimate.value:+.1f}",
        interval(found.estimate),
        chance(found.p_value),
        p_holm,
        str(found.num_better),
        str(found.num_worse),
        str(one.num_unpaired),
    )


def percent(share: float) -> str:
    """A share of 1 as points of 100."""
    return f"{100 * share:.1f}"


def chance(p: float) -> str:
    """A p value with three digits; never 0, which no permutation test can say."""
    return f"{p:.3f}" if p >= 0.0005 else "<0.001"


def interval(estimate: Estimate) -> str:
    """An interval in points of 100."""
    return f"{percent(estimate.low)} to {percent(estimate.high)}"
