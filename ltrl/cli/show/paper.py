"""The paper's table with our figures beside it: in the terminal, as Markdown, as a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING

from ltrl.cli.show.page import page, rows

if TYPE_CHECKING:
    from ltrl.evaluation.paper import Cell, Row

__all__ = ["html", "markdown"]

TITLE = "LongTraceRL, Table 1"
_HEADERS = ("AA-LCR", "MRCR", "FRAMES", "LongBench v2", "LongReason", "average")
_TRAININGS = {
    "base": "start model",
    "docqa": "DocQA",
    "loongrl": "LoongRL",
    "longrlvr": "LongRLVR",
    "grpo": "LongTraceRL, answer reward only",
    "longtracerl": "LongTraceRL",
}
_INTERVALS = """Figures are 0 to 100. Below each of ours: the difference from the paper's, and our 95 % interval over \
questions. Where that interval holds the paper's figure, the difference is no evidence of one; the paper gives no \
intervals of its own."""
_SETTINGS = """The paper does not publish which MRCR bins, LongBench v2 lengths, LongReason lengths, repetitions and \
judges it used (AA-LCR: 4 answers a question, temperature 0.6, top-p 0.95, top-k 20). `evaluation.json` of each \
result says ours."""
_NOTES = (_INTERVALS, _SETTINGS)


def markdown(found: Sequence[Row]) -> str:
    """The table in Markdown."""
    lines = [f"# {TITLE}", ""]
    for model, members in _by_model(found):
        lines += [f"## {model}", "", f"| | {' | '.join(_HEADERS)} |", "|---|" + "---:|" * len(_HEADERS)]
        for row in members:
            lines.append(f"| {_TRAININGS[row.training]}, paper | {' | '.join(_papers(row))} |")
            if row.results:
                lines.append(f"| **ours** (`{row.results}`) | {' | '.join(_ours(row))} |")
                lines.append(f"| difference | {' | '.join(_differences(row))} |")
        lines.append("")
    return "\n".join([*lines, *(line for note in _NOTES for line in (note, ""))])


def html(found: Sequence[Row]) -> str:
    """The table as a page."""
    body = []
    for model, members in _by_model(found):
        cells: list[tuple[str, ...]] = []
        for row in members:
            cells.append((f"{escape(_TRAININGS[row.training])}, paper", *_papers(row)))
            if row.results:
                about = f'<b>ours</b> <span class="faint">{escape(row.results)}</span>'
                cells.append((about, *(f"<b>{text}</b>" for text in _ours(row))))
                marks = [*(_mark(cell) for cell in row.cells), "faint"]
                told = zip(marks, _differences(row), strict=True)
                cells.append(
                    ('<span class="faint">difference</span>', *(f'<span class="{m}">{t}</span>' for m, t in told))
                )
        numbers = frozenset(range(1, len(_HEADERS) + 1))
        body += [f"<h2>{escape(model)}</h2>", rows(("", *_HEADERS), cells, numbers=numbers)]
    return page(TITLE, *body, *(f'<p class="faint">{escape(note)}</p>' for note in _NOTES))


def _by_model(found: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    from ltrl.evaluation.paper import MODELS

    for model, name in MODELS.items():
        yield name, [row for row in found if row.model == model]


def _papers(row: Row) -> list[str]:
    return [f"{figure:.1f}" for figure in (*(cell.paper for cell in row.cells), row.paper_average)]


def _ours(row: Row) -> list[str]:
    from ltrl.evaluation.paper import average

    figures = [100 * cell.ours.value if cell.ours else None for cell in row.cells]
    return ["-" if figure is None else f"{figure:.1f}" for figure in (*figures, average(figures))]


def _differences(row: Row) -> list[str]:
    from ltrl.evaluation.paper import average

    told = []
    for cell in row.cells:
        if cell.ours is None:
            told.append("-")
        else:
            told.append(f"{cell.difference:+.1f} ({100 * cell.ours.low:.1f} to {100 * cell.ours.high:.1f})")
    whole = average([100 * cell.ours.value if cell.ours else None for cell in row.cells])
    return [*told, "-" if whole is None else f"{whole - row.paper_average:+.1f}"]


def _mark(cell: Cell) -> str:
    if cell.is_inside or cell.difference is None:
        return "faint"
    return "up" if cell.difference > 0 else "down"
