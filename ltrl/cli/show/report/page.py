"""The page of a report: what was run, what came of it, and the data for its script."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from ltrl.cli.show import duration, printable
from ltrl.cli.show.diff_html import STYLE, articles
from ltrl.cli.show.report.data import page_data
from ltrl.cli.show.status import clock
from ltrl.errors import Code, fail

if TYPE_CHECKING:
    from ltrl.checkpoints import Entry
    from ltrl.diff import Diff
    from ltrl.report.story import Story

__all__ = ["page"]

HERE = Path(__file__).parent
COLOURS = ("var(--run-0)", "var(--run-1)", "var(--run-2)", "var(--run-3)", "var(--run-4)", "var(--run-5)")

SUMMARY = ("", "state", "steps", "engine", "reward", "accuracy", "evidence recall", "validation", "time in steps")


def page(stories: Sequence[Story], *, diffs: Sequence[Diff] = (), verdict: str | None = None) -> str:
    """The whole page; raises LtrlError where the plotting library is not installed."""
    plotly = _plotly()
    title = f"Report of {stories[0].run.id}" if len(stories) == 1 else f"Report of {len(stories)} runs"
    data = json.dumps(page_data(stories), ensure_ascii=True, separators=(",", ":")).replace("<", "\\u003c")
    style = STYLE + (HERE / "page.css").read_text("utf-8")
    script = (HERE / "page.js").read_text("utf-8")
    body = "\n".join(_body(stories, diffs, verdict))
    return f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_text(title)}</title>
<style>{style}</style></head>
<body>
<h1>ltrl report</h1>
{body}
<script type="application/json" id="data">{data}</script>
<script>{plotly}</script>
<script>{script}</script>
</body>
</html>
"""


def _plotly() -> str:
    """The plotting library's own script, without importing the 15,000 classes around it."""
    found = importlib.util.find_spec("plotly")
    if found is None or found.origin is None:
        message = "the page of a report needs plotly, which is not installed"
        raise fail(Code.MISSING_EXTRA, message, hint="pip install 'ltrl[report]'")
    return (Path(found.origin).parent / "package_data" / "plotly.min.js").read_text("utf-8")


def _body(stories: Sequence[Story], diffs: Sequence[Diff], verdict: str | None) -> Iterator[str]:
    heads = "".join(f"<th>{name or 'run'}</th>" for name in SUMMARY)
    rows = "".join(_summary(number, story) for number, story in enumerate(stories))
    yield f"<div class='scroll'><table class='runs'><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    yield "<p class='soft'>Means of the first and the last ten steps; validation accuracy: first and last.</p>"
    if verdict:
        yield f"<p class='verdict yes'>{_text(verdict)}</p>"
    yield "<h2>Curves</h2><p class='soft' id='about-curves'></p><div id='charts'></div>"
    yield "<h2>Validation</h2><div id='validation'></div>"
    yield from _validation(stories)
    yield "<h2>Responses</h2><div id='samples'></div>"
    if diffs:
        yield "<h2>What is different</h2>"
        for one in diffs:
            yield "\n".join(articles(one, ("spec", "consequences")))
    yield "<h2>Checkpoints, attempts and events</h2>"
    for story in stories:
        yield from _history(story, is_alone=len(stories) == 1)
    yield "<h2>What was run</h2>"
    for story in stories:
        yield from _run(story, is_alone=len(stories) == 1)


def _summary(number: int, story: Story) -> str:
    measured, run = story.metrics, story.run

    def change(tag: str) -> str:
        first, last = measured.mean(tag, first=10), measured.mean(tag, last=10)
        return "-" if first is None or last is None else f"{first:.3f} → {last:.3f}"

    validated = [v for v in measured.validation.column("accuracy") if v == v]  # noqa: PLR0124  # not NaN
    seconds = sum(v for v in measured.figure("seconds") if v == v)  # noqa: PLR0124
    state = str(run.latest.state) if run.latest else "never launched"
    cells = (
        f"<span class='dot' style='background:{COLOURS[number % len(COLOURS)]}'></span><b>{_text(run.id)}</b>",
        _text(state),
        f"{measured.last_step} of {run.steps}",
        _text(run.engine),
        change("reward"),
        change("outcome"),
        change("rubric"),
        f"{validated[0]:.3f} → {validated[-1]:.3f}" if validated else "-",
        duration(seconds) if seconds else "-",
    )
    inner = "".join(f"<td data-name='{name}'>{cell}</td>" for name, cell in zip(SUMMARY, cells, strict=True))
    return f"<tr>{inner}</tr>"


def _validation(stories: Sequence[Story]) -> Iterator[str]:
    rows = []
    for story in stories:
        table = story.metrics.validation
        if not table.steps:
            continue
        first, last = table[table.steps[0]], table[table.steps[-1]]
        sets = [tag.removesuffix("accuracy").rstrip("/") for tag in last if tag.rpartition("/")[2] == "accuracy"]
        sets = [name for name in sets if name or len(sets) != 2]  # one set: the same as all together
        for name in sets:
            prefix = f"{name}/" if name else ""
            figures = [tag for tag in last if tag.startswith(prefix) and "/" not in tag.removeprefix(prefix)]
            others = ", ".join(
                f"{tag.removeprefix(prefix)} {last[tag]:.3g}" for tag in figures if tag != f"{prefix}accuracy"
            )
            began = first.get(f"{prefix}accuracy")
            rows.append(
                (
                    story.run.id,
                    name or "all together",
                    f"{table.steps[-1]}",
                    "-" if began is None else f"{began:.3f}",
                    f"{last[f'{prefix}accuracy']:.3f}",
                    others,
                )
            )
    if rows:
        yield _table(("run", "set", "step", "accuracy at first", "accuracy now", "other figures now"), rows)
    else:
        yield "<p class='soft'>Nothing was validated.</p>"


def _history(story: Story, *, is_alone: bool) -> Iterator[str]:
    run = story.run
    if not is_alone:
        yield f"<h3>{_text(run.id)}</h3>"
    yield _opened("Checkpoints", str(len(story.checkpoints)), is_open=bool(story.checkpoints) and is_alone)
    names = ("step", "condition", "saved", "size", "validation", "what is wrong")
    yield _table(names, [_checkpoint(one) for one in story.checkpoints])
    yield "</details>"
    yield _opened("Attempts", str(len(run.attempts)), is_open=is_alone)
    yield _table(
        ("attempt", "state", "cluster", "job", "host", "created", "started", "ended", "GPUs", "reason"),
        [
            (
                str(a.number), str(a.state), a.cluster, a.job_id or "-", a.host, clock(a.created), clock(a.started),
                clock(a.ended), str(a.gpus), a.reason or "",
            )
            for a in run.attempts
        ],
    )  # fmt: skip
    yield "</details>"
    yield _opened("Events", str(len(story.events)), is_open=False)
    rows = [(clock(e.time), str(e.attempt), str(e.state), e.detail) for e in story.events]
    yield _table(("time", "attempt", "state", ""), rows)
    yield "</details>"


def _checkpoint(one: Entry) -> tuple[str, ...]:
    """Of several sets the accuracy of each, of one alone what all together say."""
    values = one.validation
    sets = {name.rpartition("/")[0] for name in values} - {""}
    shown = [name for name in values if "/" not in name or (len(sets) > 1 and name.endswith("/accuracy"))]
    figures = ", ".join(f"{name} {values[name]:.3f}" for name in shown or values)
    saved = datetime.fromtimestamp(one.written, UTC).isoformat() if one.written else None
    return str(one.step), one.condition, clock(saved), _bytes(one.bytes), figures or "-", "; ".join(one.problems)


def _run(story: Story, *, is_alone: bool) -> Iterator[str]:
    run, made = story.run, story.bundle
    if not is_alone:
        yield f"<h3>{_text(run.id)}</h3>"
    rows = [
        ("directory", str(run.path)),
        ("fingerprint", run.fingerprint),
        ("created", clock(run.created)),
        ("forked from", run.forked_from or ""),
        ("sweep", run.sweep or ""),
    ]
    if made is None:
        yield _table(("", ""), [row for row in rows if row[1]])
        yield "<p class='soft'>Its bundle is gone or was changed: the spec cannot be shown.</p>"
        return
    container = made.lock.get("container")
    rows += [
        ("ltrl", made.lock["ltrl"]),
        ("backends", ", ".join(f"{n} ({o['distribution']} {o['version']})" for n, o in made.lock["backends"].items())),
        ("container", json.dumps(container) if container else ""),
    ]
    yield _table(("", ""), [row for row in rows if row[1]])
    written = [row for row in story.spec if row[2] != "default"]
    yield _opened("Spec as written", f"{len(written)} values, and where each comes from", is_open=is_alone)
    yield _table(("field", "value", "from"), written, is_code=True)
    yield "</details>"
    defaults = [row for row in story.spec if row[2] == "default"]
    yield _opened("Defaults", f"{len(defaults)} values", is_open=False)
    yield _table(("field", "value", "from"), defaults, is_code=True)
    yield "</details>"
    yield _opened("Plan", "layout, batches, launch", is_open=False)
    yield f"<pre>{_text_lines(json.dumps(made.plan, indent=2))}</pre></details>"
    hashes = [*made.lock["sources"].items(), *made.lock["files"].items()]
    yield _opened("Files", f"{len(hashes)} with their SHA-256", is_open=False)
    yield _table(("file", "SHA-256"), hashes, is_code=True)
    yield "</details>"


def _opened(name: str, about: str, *, is_open: bool) -> str:
    return f"<details{' open' if is_open else ''}><summary>{_text(name)} <span>{_text(about)}</span></summary>"


def _table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, is_code: bool = False) -> str:
    listed = list(rows)
    if not listed:
        return "<p class='soft'>none</p>"
    head = "".join(f"<th>{_text(header)}</th>" for header in headers)
    mark = "value" if is_code else ""
    lines = []
    for row in listed:
        cells = "".join(
            f"<td data-name='{_text(header)}'><span class='{mark}'>{_text(cell)}</span></td>"
            for header, cell in zip(headers, row, strict=True)
        )
        lines.append(f"<tr>{cells}</tr>")
    return f"<div class='scroll'><table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"


def _bytes(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def _text(text: str) -> str:
    return escape(printable(text))


def _text_lines(text: str) -> str:
    return "\n".join(map(_text, text.split("\n")))
