"""What is printed and written about rewards: scores, comparisons, findings, one response with its hits."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from ltrl.cli import show
from ltrl.cli.show.marks import hue, marked, marked_html
from ltrl.cli.show.page import page, rows

if TYPE_CHECKING:
    from ltrl.lint import Finding
    from ltrl.rescore import Comparison, Explained, Pair, Summary
    from ltrl.rollouts import Group

__all__ = [
    "comparison",
    "comparison_page",
    "explained",
    "explained_page",
    "findings",
    "progress",
    "scores",
    "write",
]


@contextmanager
def progress(what: str, num_bytes: int) -> Iterator[Callable[[Group], None]]:
    """A bar over the bytes of the rollouts in a terminal, nothing elsewhere; told of each group that is done."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[about]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=num_bytes, about="")
        ends: dict[str, int] = {}

        def advance(group: Group) -> None:
            ends[group.file] = group.rollouts[-1].end
            bar.update(task, completed=sum(ends.values()), about=f"{group.file}:{group.rollouts[-1].line}")

        yield advance


def scores(summary: Summary, out: Path, *, as_json: bool) -> None:
    """Prints what came of rollouts, and where each one's score is."""
    if as_json:
        show.json_({"file": str(out), **summary.to_json()})
        return
    show.table(("", "rollouts"), [(name, value) for name, value in _figures(summary).items()])
    if unjudged := summary.counts["unjudged"]:
        show.note(f"{unjudged} responses have no reward: their judge gave no verdict; `--replace` asks again")
    show.note(f"scores: {show.relative(out)}")


def comparison(found: Comparison, options: Sequence[tuple[str, str, str]], *, as_json: bool) -> None:
    """Prints how two rewards differ: in their options, and in what they make of the responses."""
    if as_json:
        differ = dict(found.counts)
        most = [pair.to_json() for pair in found.most]
        show.json_({"options": options, "a": found.a.to_json(), "b": found.b.to_json(), "differ": differ, "most": most})
        return
    if options:
        show.table(("option", "a", "b"), options)
    a, b = _figures(found.a), _figures(found.b)
    show.table(("", "a", "b"), [(name, a.get(name, "0"), b.get(name, "0")) for name in {**a, **b}])
    show.table(("", "responses or groups"), list(found.counts.items()))
    if found.most:
        headers = ("response", "reward a", "b", "rank a", "b", "advantage a", "b", "", "why")
        show.table(headers, [_row(pair) for pair in found.most], title="advantages furthest apart")


def comparison_page(found: Comparison, options: Sequence[tuple[str, str, str]]) -> str:
    """The same as a page."""
    a, b = _figures(found.a), _figures(found.b)
    figures = [(escape(name), a.get(name, "0"), b.get(name, "0")) for name in {**a, **b}]
    counts = [(escape(name), str(count)) for name, count in found.counts.items()]
    most = []
    for pair in found.most:
        cells = [escape(cell) for cell in _row(pair)]
        for column, one in ((5, pair.a), (6, pair.b)):
            way = "up" if (one.advantage or 0) > 0 else "down" if (one.advantage or 0) < 0 else "faint"
            cells[column] = f'<span class="{way}">{cells[column]}</span>'
        most.append(tuple(cells))
    headers = ("response", "reward a", "b", "rank a", "b", "advantage a", "b", "", "why")
    return page(
        "Two rewards over the same responses",
        rows(("option", "a", "b"), [tuple(map(escape, option)) for option in options]),
        rows(("", "a", "b"), figures, numbers=frozenset({1, 2})),
        rows(("", "responses or groups"), counts, numbers=frozenset({1})),
        "<h2>Advantages furthest apart</h2>",
        rows(headers, most, numbers=frozenset(range(1, 7))),
    )


def findings(found: Sequence[Finding], counts: Mapping[str, int], num_records: int, *, as_json: bool) -> None:
    """Prints what is wrong with data: the findings to stderr, how many of each kind there are to stdout."""
    from ltrl.lint import KINDS

    if as_json:
        shown = [{**asdict(one), "is_error": one.is_error} for one in found]
        show.json_({"records": num_records, "counts": dict(counts), "findings": shown})
        return
    for one in found:
        severity = "error" if one.is_error else "warning"
        hint = f" ({one.hint})" if one.hint else ""
        place = f"{one.file}:{one.line}"
        show.note(show.printable(f"{place}: {severity}[{one.code}]: {one.message}{hint}"))
    listed = [(kind, counts[kind], KINDS[kind]) for kind in KINDS if counts.get(kind)]
    if listed:
        show.table(("kind", "findings", ""), listed)
    if (total := sum(counts.values())) > len(found):
        show.note(f"{total - len(found)} findings are not shown; `--limit {total}` shows all")
    show.out(f"{num_records} records, {total} findings")


def explained(found: Sequence[Explained], *, full: bool, as_json: bool) -> None:
    """Prints responses with what they were paid for; hits look like `[1:this]`, in colour in a terminal."""
    from rich.console import Console
    from rich.text import Text

    if as_json:
        show.json_([_json(one) for one in found])
        return
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False, soft_wrap=False)
    for one in found:
        scored, asked = one.scored, one.request
        console.rule(Text(f"{scored.id}, {scored.file}:{scored.line}"), align="left", characters="─")
        for name, value in _facts(one).items():
            console.print(Text(f"{name:<12}", "dim") + Text(show.printable(value)))
        show.table(("", "entity", "places"), [(n, e, p) for n, (e, p) in enumerate(_entities(one), 1)])
        for part, text in (("reasoning", asked.response.reasoning), ("answer", asked.response.content)):
            marks = one.marks.get(part, ())
            if text and (marks or full or part == "answer"):
                console.print(Text(part, "bold"))
                console.print(marked(text, marks, full=full))


def explained_page(found: Sequence[Explained]) -> str:
    """The same as a page, texts whole."""
    body = [f"<p>{escape(found[0].request.question)}</p><p class=faint>label: {escape(found[0].request.label)}</p>"]
    for one in found:
        response = one.request.response
        body.append(f"<h2>{escape(one.scored.id)}</h2>")
        facts = [(f'<span class="faint">{escape(n)}</span>', escape(v)) for n, v in _facts(one).items()]
        body.append(rows(("", ""), facts[2:]))
        entities = [
            (f'<mark style="--hue:{hue(n)}">{n}</mark>' if places else str(n), escape(entity), escape(places or "-"))
            for n, (entity, places) in enumerate(_entities(one), 1)
        ]
        body.append(rows(("", "entity", "places"), entities))
        for part, text in (("reasoning", response.reasoning), ("answer", response.content)):
            if text:
                body.append(f"<h3>{part}</h3><pre>{marked_html(text, one.marks.get(part, ()))}</pre>")
    return page(f"Score of {found[0].scored.id if len(found) == 1 else found[0].scored.sample}", *body)


def write(path: Path, text: str) -> None:
    """Writes a page and says where."""
    from ltrl.errors import Code, fail

    try:
        path.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise fail(Code.UNWRITABLE, f"cannot write `{path}`: {(error.strerror or str(error)).lower()}") from None
    show.note(f"page: {show.relative(path)}")


def _figures(summary: Summary) -> dict[str, str]:
    counts = summary.counts
    figures = {"groups": f"{summary.num_groups:,}", "responses": f"{counts['responses']:,}"}
    for name in ("right", "wrong", "unjudged", "truncated", "ill-formed", "aborted", "empty"):
        if counts[name]:
            figures[name] = f"{counts[name]:,}"
    if summary.num_lost:
        figures["lost by the engine"] = f"{summary.num_lost:,}"
    for name, value in (("mean reward", summary.reward), ("mean rubric", summary.rubric)):
        figures[name] = "-" if value is None else f"{value:.4f}"
    for name in ("all-one", "all-zero", "mixed"):
        if counts[name]:
            figures[f"groups {name}"] = f"{counts[name]:,}"
    return figures


def _row(pair: Pair) -> tuple[str, ...]:
    only_a, only_b = pair.entities
    why = [f"{one.score.why}" for one in (pair.a, pair.b)]
    said = [why[0] if why[0] == why[1] else " / ".join(why)]
    said += [f"only {side}: {', '.join(only)}" for side, only in (("a", only_a), ("b", only_b)) if only]
    return (
        f"{pair.a.id} line {pair.a.line}",
        _number(pair.a.reward),
        _number(pair.b.reward),
        str(pair.rank_a or "-"),
        str(pair.rank_b or "-"),
        _number(pair.a.advantage),
        _number(pair.b.advantage),
        "sign changes" if pair.flips else "",
        "; ".join(said),
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _facts(one: Explained) -> dict[str, str]:
    scored, asked = one.scored, one.request
    verdict, response = scored.score.verdict, asked.response
    facts = {"question": asked.question, "label": asked.label}
    facts["reward"] = f"{_number(scored.reward)}, advantage {_number(scored.advantage)} among {scored.of}"
    facts["outcome"] = f"{_number(scored.score.outcome)}, {scored.score.why}"
    facts["rubric"] = _number(scored.score.rubric)
    facts |= {name: f"{value:g}" for name, value in scored.score.parts.items()}
    facts["response"] = ", ".join((response.status, *response.ill_formed_reasons))
    if verdict and verdict.words:
        facts["judge said"] = verdict.words
    return facts


def _entities(one: Explained) -> list[tuple[str, str]]:
    """Each entity of the rubric with its places."""
    places = {hit.entity: ", ".join(f"{start}-{end}" for start, end in hit.spans[:6]) for hit in one.hits}
    more = {hit.entity: f" and {len(hit.spans) - 6} more" for hit in one.hits if len(hit.spans) > 6}
    return [(entity, places.get(entity, "") + more.get(entity, "")) for entity in one.request.rubrics]


def _json(one: Explained) -> dict[str, object]:
    response = one.request.response
    return {
        **one.scored.to_json(),
        "question": one.request.question,
        "label": one.request.label,
        "status": response.status,
        "ill_formed_reasons": list(response.ill_formed_reasons),
        "marks": {part: [list(mark) for mark in marks] for part, marks in one.marks.items()},
        "reasoning": response.reasoning,
        "answer": response.content,
    }
