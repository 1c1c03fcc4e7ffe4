"""A page of HTML that needs nothing but itself: light or dark as the reader's system is, readable on paper."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

__all__ = ["page", "rows"]

_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1c1e21; --faint: #6a6f76; --line: #d9dce0; --panel: #f5f6f8 }
@media (prefers-color-scheme: dark) {
  :root { --paper: #16181b; --ink: #e4e6e9; --faint: #9aa0a8; --line: #34383d; --panel: #1f2226 }
}
body { font: 15px/1.5 system-ui, sans-serif; background: var(--paper); color: var(--ink); max-width: 72rem;
  margin: 2rem auto; padding: 0 1.25rem }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin: 2.5rem 0 .5rem } h3 { font-size: .95rem; color: var(--faint) }
table { border-collapse: collapse; margin: .75rem 0; width: 100%; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .3rem .75rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top }
th { color: var(--faint); font-weight: 600 } td.number, th.number { text-align: right; white-space: nowrap }
@media (max-width: 44rem) { table { display: block; overflow-x: auto } }
.faint { color: var(--faint) } .up { color: #1a7f37 } .down { color: #cf222e }
@media (prefers-color-scheme: dark) { .up { color: #4ac26b } .down { color: #ff7b72 } }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--panel); border: 1px solid var(--line);
  border-radius: 6px; padding: .9rem 1rem; font: 13px/1.6 ui-monospace, monospace; max-height: 40rem; overflow: auto }
mark { color: inherit; border-radius: 3px; padding: 0 .15em; background: hsl(var(--hue) 80% 82%) }
mark sup { font-size: .7em; opacity: .75; margin-left: .15em }
@media (prefers-color-scheme: dark) { mark { background: hsl(var(--hue) 45% 28%) } }
@media print { pre { max-height: none } }
"""


def page(title: str, *body: str) -> str:
    """A whole page; the title is text, the body is HTML."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body><h1>{escape(title)}</h1>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def rows(headers: tuple[str, ...], cells: Sequence[tuple[str, ...]], *, numbers: frozenset[int] = frozenset()) -> str:
    """A table; headers are text, cells are HTML, the columns `numbers` are aligned to the right."""

    def tag(name: str, index: int, text: str) -> str:
        return f'<{name} class="number">{text}</{name}>' if index in numbers else f"<{name}>{text}</{name}>"

    head = "".join(tag("th", i, escape(header)) for i, header in enumerate(headers))
    lines = ("<tr>" + "".join(tag("td", i, cell) for i, cell in enumerate(row)) + "</tr>" for row in cells)
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>"
