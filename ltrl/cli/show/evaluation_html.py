"""Pages of an evaluation: figures with their intervals, and every answer to look at, right, wrong or changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from ltrl.cli.show.evaluation import chance, interval, passed, percent, spent
from ltrl.cli.show.page import page, rows

if TYPE_CHECKING:
    from ltrl.evaluation.comparison import Compared
    from ltrl.evaluation.results import Head, Sample
    from ltrl.evaluation.statistics import Estimate
    from ltrl.evaluation.summary import Summary

__all__ = ["answers_page", "comparison_page", "page_of"]

MOST_ANSWERS = 2000
"""On one page; the rest is in the results."""
_MOST_CHARACTERS = 6000
"""Of one text, its end: that is where answers are."""

_STATES = {
    "right": "Right",
    "partly": "Partly",
    "wrong": "Wrong",
    "missing": "Missing",
    "improved": "Better with b",
    "worsened": "Worse with b",
    "same": "As good",
}
_STYLE = """
.bar { position: relative; display: inline-block; width: 12rem; height: .8rem; background: var(--panel);
  border-radius: 3px; vertical-align: middle }
.bar i { position: absolute; top: 0; bottom: 0; background: currentColor; opacity: .25; border-radius: 3px }
.bar b { position: absolute; top: -.1rem; bottom: -.1rem; width: 2px; background: currentColor }
.bar u { position: absolute; top: 0; bottom: 0; left: 50%; width: 1px; background: var(--line) }
fieldset { border: 0; padding: 0; margin: 1rem 0 }
fieldset label { display: inline-block; margin-right: 1.1rem; cursor: pointer }
details.answer { border-bottom: 1px solid var(--line); padding: .35rem 0 } details.answer > summary { cursor: pointer }
summary .state { display: inline-block; min-width: 7.5rem; font-weight: 600 }
.right .state, .improved .state { color: #1a7f37 } .wrong .state, .worsened .state { color: #cf222e }
.partly .state, .missing .state { color: #9a6700 } .same .state { color: var(--faint) }
.two { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem } .two pre { margin: .3rem 0 }
@media (max-width: 60rem) { .two { grid-template-columns: 1fr } }
@media (max-width: 44rem) { .bar { display: none } }
"""


def answers_page(head: Head, found: Sequence[Summary], samples: Iterable[Sample]) -> str:
    """The figures of an evaluation and its answers, those that are not right first to be chosen."""
    table = []
    for one in found:
        table.append(_figures(one.name, one))
        for split, parts in one.parts.items():
            table += [_figures(f"{split}: {name}", part, faint=True) for name, part in parts.items()]
    headers = ("", "questions", "score", "95% interval", "", "pass@k", "missing", "too long", "truncated")
    took = "<br>".join(escape(note) for note in spent(found, head.prices))
    return page(
        f"{head.name}: {head.model}",
        *_answers(
            [rows(headers, table, numbers=frozenset({1, 2, 5, 6, 7, 8})), f'<p class="faint">{took}</p>'],
            ((_state(sample), _one(sample)) for sample in samples),
            sum(one.counts.answers for one in found),
        ),
    )


def comparison_page(
    title: str, found: Sequence[Compared], pairs: Iterable[tuple[Sample, Sample]], names: tuple[str, str]
) -> str:
    """How two models differ, and their answers side by side."""
    table, total = [], 0
    for one in found:
        table.append(_differences(one.name, one))
        total += one.a.num_questions
        for split, parts in one.parts.items():
            table += [_differences(f"{split}: {name}", part, faint=True) for name, part in parts.items()]
    headers = ("", "questions", "a", "b", "b - a", "95% interval", "", "p", "p (Holm)", "better", "worse")
    about = f'<p class="faint">a: {escape(names[0])}<br>b: {escape(names[1])}</p>'
    head = [about, rows(headers, table, numbers=frozenset({1, 2, 3, 4, 7, 8, 9, 10}))]
    return page(title, *_answers(head, ((_change(a, b), _two(a, b)) for a, b in pairs), total))


def _answers(head: list[str], answers: Iterable[tuple[str, str]], total: int) -> Iterator[str]:
    """A style, what stands above, and the answers behind a choice of states that needs no script."""
    kept: list[tuple[str, str]] = []
    num = 0
    for num, one in enumerate(answers, 1):  # noqa: B007
        if len(kept) < MOST_ANSWERS:
            kept.append(one)
    states = [state for state in _STATES if any(state == found for found, _ in kept)]
    hidden = "\n".join(
        f"body:has(#show-{state}:checked) details.answer:not(.{state}) {{ display: none }}" for state in states
    )
    yield f"<style>{_STYLE}{hidden}</style>"
    yield from head
    yield "<h2>Answers</h2>"
    if num > len(kept):
        yield f'<p class="faint">The first {len(kept):,} of {num:,}; the results have all.</p>'
    choices = [("all", f"All ({len(kept):,})")]
    choices += [(state, f"{_STATES[state]} ({sum(s == state for s, _ in kept):,})") for state in states]
    yield (
        "<fieldset>"
        + "".join(
            f'<label><input type="radio" name="show" id="show-{state}"{" checked" if state == "all" else ""}> '
            f"{escape(text)}</label>"
            for state, text in choices
        )
        + "</fieldset>"
    )
    yield from (body for _, body in kept)
    if not total:
        yield '<p class="faint">There are none.</p>'


def _figures(name: str, one: Summary, *, faint: bool = False) -> tuple[str, ...]:
    score, counts = one.score, one.counts
    label = f'<span class="faint">&emsp;{escape(name)}</span>' if faint else f"<b>{escape(name)}</b>"
    numbers = (passed(one), *map(str, (counts.missing, counts.too_long, counts.truncated)))
    if score is None:
        return (label, "0", "-", "-", "", *numbers)
    return (label, str(score.num_questions), percent(score.value), interval(score), _bar(score), *numbers)


def _differences(name: str, one: Compared, *, faint: bool = False) -> tuple[str, ...]:
    label = f'<span class="faint">&emsp;{escape(name)}</span>' if faint else f"<b>{escape(name)}</b>"
    found = one.difference
    value = found.estimate.value
    kind = "faint" if not one.is_significant else "up" if value > 0 else "down"
    return (
        label,
        str(one.a.num_questions),
        percent(one.a.value),
        percent(one.b.value),
        f'<span class="{kind}">{100 * value:+.1f}</span>',
        interval(found.estimate),
        f'<span class="{kind}">{_bar(found.estimate, centred=True)}</span>',
        chance(found.p_value),
        "" if faint else chance(one.p_holm),
        str(found.num_better),
        str(found.num_worse),
    )


def _bar(estimate: Estimate, *, centred: bool = False) -> str:
    def place(value: float) -> float:
        return max(0.0, min(100.0, 50 + 50 * value if centred else 100 * value))

    low, high, value = place(estimate.low), place(estimate.high), place(estimate.value)
    middle = "<u></u>" if centred else ""
    return (
        f'<span class="bar">{middle}<i style="left:{low:.1f}%;width:{max(0.5, high - low):.1f}%"></i>'
        f'<b style="left:{min(99.0, value):.1f}%"></b></span>'
    )


def _state(sample: Sample) -> str:
    if sample.score is None:
        return "missing"
    return "right" if sample.score >= 1 else "partly" if sample.score > 0 else "wrong"


def _change(a: Sample, b: Sample) -> str:
    if a.score is None or b.score is None:
        return "missing"
    return "improved" if b.score > a.score else "worsened" if b.score < a.score else "same"


def _one(sample: Sample) -> str:
    return _detail(sample, _state(sample), _shown(sample))


def _two(a: Sample, b: Sample) -> str:
    score = "-" if a.score is None else f"{a.score:g}"
    both = f'<div class="two"><div><h3>a: {score}</h3>{_shown(a)}</div>'
    score = "-" if b.score is None else f"{b.score:g}"
    return _detail(b, _change(a, b), f"{both}<div><h3>b: {score}</h3>{_shown(b)}</div></div>")


def _detail(sample: Sample, state: str, body: str) -> str:
    number = f" #{sample.number}" if sample.number else ""
    what = " ".join(sample.text.split())
    what = what if len(what) <= 110 else what[:109] + "…"
    splits = ", ".join(f"{split}: {value}" for split, value in sample.splits.items())
    label = sample.label if len(sample.label) <= _MOST_CHARACTERS else sample.label[:_MOST_CHARACTERS] + "…"
    return (
        f'<details class="answer {state}"><summary><span class="state">{_STATES[state]}</span> '
        f'<span class="faint">{escape(sample.benchmark)} {escape(sample.question)}{number}</span> {escape(what)}'
        f"</summary>"
        f'<p class="faint">{escape(splits)}</p><h3>Question</h3><pre>{escape(sample.text)}</pre>'
        f"<h3>Right answer</h3><pre>{escape(label)}</pre>{body}</details>"
    )


def _shown(sample: Sample) -> str:
    facts = [f"score {sample.score:g}" if sample.score is not None else sample.status.replace("-", " ")]
    facts += [f"read as {sample.extracted}"] if sample.extracted else []
    facts += [sample.reason] if sample.reason else []
    facts += list(sample.ill_formed)
    facts += ["prompt without its middle"] if sample.is_cut else []
    if sample.response_tokens is not None:
        facts.append(f"{sample.prompt_tokens or 0:,} + {sample.response_tokens:,} tokens")
    if sample.judge is not None:
        facts.append(f"judge {sample.judge.prompt_tokens:,} + {sample.judge.response_tokens:,} tokens")
    answer = f"<h3>Answer</h3><pre>{escape(_end(sample.answer))}</pre>" if sample.answer is not None else ""
    reasoning = ""
    if sample.reasoning:
        reasoning = f"<details><summary>Reasoning</summary><pre>{escape(_end(sample.reasoning))}</pre></details>"
    return f'<p class="faint">{escape("; ".join(facts))}</p>{answer}{reasoning}'


def _end(text: str) -> str:
    if len(text) <= _MOST_CHARACTERS:
        return text
    return f"… {len(text) - _MOST_CHARACTERS:,} characters before this …\n{text[-_MOST_CHARACTERS:]}"


def page_of(results: Path) -> str:
    """The page of the results in a directory."""
    from ltrl.evaluation.results import read, read_head
    from ltrl.evaluation.summary import summaries

    head = read_head(results)
    figures = summaries(sample.without_texts for sample in read(results))
    return answers_page(head, figures, read(results))
