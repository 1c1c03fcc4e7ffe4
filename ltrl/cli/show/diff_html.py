"""Comparisons as one HTML page that needs nothing else: light and dark, wide and narrow."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING

from ltrl.cli.show import printable
from ltrl.cli.show.diff_text import (
    LEGEND,
    both,
    count,
    counted,
    figures_counted,
    fold,
    hidden,
    number,
    ratio,
    script,
    sections,
    summary,
    title,
    verdicts,
)

if TYPE_CHECKING:
    from ltrl.diff import Change, Diff, Figure
    from ltrl.diff.pairs import Comparison

__all__ = ["STYLE", "articles", "html"]

_LINE = re.compile(r"(:\d+)+$")
"""Line and column at the end of a position; they are read as one, and stay on one line."""

STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --soft: #60656c; --line: #d9dce0; --paper: #fff; --tint: #f6f7f8;
  --old: #b3261e; --new: #18794e; --warn: #915907; }
@media (prefers-color-scheme: dark) { :root { --ink: #edeef0; --soft: #a4a9b0; --line: #363a3f; --paper: #111315;
  --tint: #1a1d20; --old: #ff9592; --new: #3dd68c; --warn: #ffca16; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0 auto;
  max-width: 76rem; padding: 1.5rem; overflow-wrap: anywhere; }
h1 { font-size: 1.1rem; color: var(--soft); font-weight: 500; margin: 0 0 1rem; }
h2 { font-size: 1.35rem; line-height: 1.3; margin: 2.5rem 0 1rem; }
h1 + article h2 { margin-top: 0; }
code, .value { font: 0.9em/1.45 ui-monospace, monospace; }
.verdicts { display: grid; gap: 0.75rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr));
  padding: 0; margin: 0 0 1.25rem; }
.verdict { background: var(--tint); border-left: 4px solid var(--soft); padding: 0.75rem 1rem; }
.verdict p { margin: 0; } .verdict .asked { color: var(--soft); }
.verdict.no { border-color: var(--old); } .verdict.with-care { border-color: var(--warn); }
.verdict.yes { border-color: var(--new); }
details { border-top: 1px solid var(--line); padding: 0.25rem 0; }
summary { cursor: pointer; padding: 0.5rem 0; font-weight: 600; } summary span { color: var(--soft); font-weight: 400; }
table { border-collapse: collapse; width: 100%; margin-bottom: 1rem; }
th { text-align: left; color: var(--soft); font-weight: 500; font-size: 0.85rem; }
th, td { padding: 0.45rem 1rem 0.45rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.old .value { color: var(--old); } td.new .value { color: var(--new); }
td:first-child { min-width: 11rem; overflow-wrap: break-word; }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
.place, .soft { color: var(--soft); font-size: 0.85rem; display: block; }
.line { display: inline-block; }
.grade { font-size: 0.8rem; border: 1px solid; border-radius: 0.75rem; padding: 0 0.5rem; white-space: nowrap; }
.grade.new-run { color: var(--old); } .grade.relaunch { color: var(--warn); } .grade.note { color: var(--soft); }
h3 { font-size: 0.95rem; margin: 0.75rem 0 0.25rem; }
pre { font: 0.85em/1.45 ui-monospace, monospace; overflow-x: auto; background: var(--tint); padding: 0.5rem; }
pre .old { color: var(--old); } pre .new { color: var(--new); }
.value { white-space: pre-wrap; }
@media (max-width: 44rem) { body { padding: 1rem; } thead { display: none; }
  table, tbody, tr, td { display: block; } tr { border-bottom: 1px solid var(--line); padding: 0.5rem 0; }
  td { border: 0; padding: 0.1rem 0; } td:empty { display: none; }
  td[data-name]::before { content: attr(data-name) " "; color: var(--soft); font-size: 0.8rem; } }
"""


def html(found: Comparison, *, layers: Sequence[str] = ()) -> str:
    """The whole page."""
    kept = tuple(layers) or ("spec", "consequences", "compiled")
    body = "\n".join(line for one in found.diffs for line in articles(one, kept))
    wrong = "\n".join(
        f"<p class='verdict no'>{_text(str(d.position or ''))} {_text(d.message)}</p>" for d in found.mistakes
    )
    name = _text(title(found.diffs[0]) if len(found.diffs) == 1 else summary(found))
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name}</title>
<style>{STYLE}</style>
<body>
<h1>ltrl diff: {_text(summary(found))}</h1>
{body}
{wrong}
</body>
</html>
"""


def articles(one: Diff, layers: Sequence[str]) -> Iterator[str]:
    """The part of a page that is about one comparison; `STYLE` makes it look right."""
    yield f"<article><h2>{_text(title(one))}</h2>"
    if one.is_same:
        yield "<p>no change</p></article>"
        return
    if one.old is None or one.new is None:
        yield f"<p>{_prose(one.resume.words)}</p>"
    yield "<div class='verdicts'>"
    for question, verdict in verdicts(one):
        kind = verdict.answer.replace(" ", "-")
        yield f"<div class='verdict {kind}'><p class='asked'>{question}</p>"
        yield f"<p><b>{verdict.answer}</b>: {_prose(verdict.words)}</p></div>"
    yield "</div>"
    if "spec" in layers:
        yield _opened("Spec", counted(one.spec), is_open=one.new is not None)
        yield from _spec(one.spec)
        yield "</details>"
    if one.figures and "consequences" in layers:
        yield _opened("Consequences", figures_counted(one.figures))
        yield from _figures(one.figures)
        yield "</details>"
    if one.compiled and "compiled" in layers:
        yield _opened("Compiled", count(len(one.compiled), "change", "changes"), is_open="compiled" in layers[:1])
        yield from _compiled(one.compiled)
        yield "</details>"
    yield "</article>"


def _opened(name: str, about: str, *, is_open: bool = True) -> str:
    return f"<details{' open' if is_open else ''}><summary>{name} <span>{_text(about)}</span></summary>"


def _spec(changes: Sequence[Change]) -> Iterator[str]:
    found = fold(changes, every=False)
    yield _header("field", "before", "after", "grade", "what it means")
    for change in found.shown:
        old, new = both(change)
        order = "order: " if change.kind == "order" else ""
        yield (
            f"<tr><td><code>{_text(change.path)}</code></td>"
            f"{_cell('old', old, _place(change.old_position, change), order)}"
            f"{_cell('new', new, _place(change.new_position, change), order)}"
            f"<td><span class='grade {change.grade.value}'>{change.grade.value}</span></td>"
            f"<td>{_prose(change.consequence or change.meaning)}</td></tr>"
        )
    yield f"</tbody></table><p class='soft'>{_text(LEGEND)}</p>"
    if found.hidden:
        yield f"<details><summary><span>{_text(hidden(found).partition(':')[0])}</span></summary>"
        yield _header("field", "before", "after", "grade")
        for change in found.hidden:
            old, new = both(change)
            yield (
                f"<tr><td><code>{_text(change.path)}</code></td>{_cell('old', old)}{_cell('new', new)}"
                f"<td><span class='grade {change.grade.value}'>{change.grade.value}</span></td></tr>"
            )
        yield "</tbody></table></details>"


def _figures(figures: Sequence[Figure]) -> Iterator[str]:
    changed = [figure for figure in figures if figure.is_changed]
    same = [figure for figure in figures if not figure.is_changed]
    if changed:
        yield _header("figure", "before", "after", "", "which is")
        for figure in changed:
            old, new = (_text(number(figure, item)) for item in (figure.old, figure.new))
            yield (
                f"<tr><td>{_text(figure.name)}</td>"
                f"<td class='number' data-name='before'>{old}</td><td class='number' data-name='after'>{new}</td>"
                f"<td class='number'>{_text(ratio(figure))}</td><td>{_prose(figure.meaning)}</td></tr>"
            )
        yield "</tbody></table>"
    if same:
        yield f"<details><summary><span>{count(len(same), 'stays', 'stay')} the same</span></summary>"
        yield _header("figure", "before and after", "which is")
        for figure in same:
            text = "unknown" if figure.new is None else _text(number(figure, figure.new))
            name, meaning = _text(figure.name), _prose(figure.meaning)
            yield f"<tr><td>{name}</td><td class='number'>{text}</td><td>{meaning}</td></tr>"
        yield "</tbody></table></details>"


def _compiled(changes: Sequence[Change]) -> Iterator[str]:
    for name, found in sections(changes).items():
        yield f"<h3>{_text(name)}</h3>"
        for change in found:
            if hunk := script(change):
                spans = "".join(f"<span class='{'old' if x[0] == '-' else 'new'}'>{_text(x)}\n</span>" for x in hunk)
                yield f"<p class='soft'>{_text(change.path)}</p><pre>{spans}</pre>"
        if all(script(change) for change in found):
            continue
        yield _header("key", "before", "after", "comes from")
        for change in (change for change in found if not script(change)):
            old, new = both(change)
            cause = f"<code>{_text(change.cause)}</code>" if change.cause else ""
            cells = f"{_cell('old', old)}{_cell('new', new)}<td>{cause}</td>"
            yield f"<tr><td><code>{_text(change.path)}</code></td>{cells}</tr>"
        yield "</tbody></table>"


def _header(*names: str) -> str:
    return f"<table><thead><tr>{''.join(f'<th>{name}</th>' for name in names)}</tr></thead><tbody>"


def _cell(side: str, text: str, place: str = "", before: str = "") -> str:
    marked = _LINE.sub(r"<span class='line'>\g<0></span>", _text(place))
    where = f"<span class='place'>{marked}</span>" if place else ""
    name = {"old": "before", "new": "after"}[side]
    return f"<td class='{side}' data-name='{name}'>{before}<span class='value'>{_text(text)}</span>{where}</td>"


def _place(position: str | None, change: Change) -> str:
    return position or ("default" if change.kind == "changed" else "")


def _prose(text: str) -> str:
    """Words of ours; what stands between backticks is code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return _text(text)
    return "".join(f"<code>{_text(part)}</code>" if i % 2 else _text(part) for i, part in enumerate(parts))


def _text(text: str) -> str:
    return escape(printable(text))
