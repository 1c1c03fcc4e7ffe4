"""One record in the terminal, and the list of a file's records."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING

from ltrl.cli import show
from ltrl.cli.show.marks import marked

if TYPE_CHECKING:
    from ltrl.data.view import Row, View

__all__ = ["TIERS", "facts", "listed", "record", "steps"]

TIERS = {"gold": "bold yellow", "tier-1": "red", "tier-2": "blue"}
"""Style of each tier in the terminal."""


FEW = 12
"""Documents of a step that are printed unless all are asked for."""


def listed(rows: Iterable[Row], *, limit: int, as_json: bool) -> None:
    """Prints the records of a file, the first `limit` of them."""
    if as_json:
        show.json_([asdict(row) for row in rows])
        return
    found = iter(rows)
    cells = [
        (
            row.line,
            row.id,
            _short(row.question or row.problem, 72),
            _short(row.label, 28),
            f"{row.num_characters:,}" if row.id else "-",
            " ".join(map(str, row.tiers)) if any(row.tiers) else "-",
            row.num_entities,
        )
        for row in islice(found, limit)
    ]
    show.table(("line", "id", "question", "answer", "characters", "gold, tiers", "entities"), cells)
    if rest := sum(1 for _ in found):
        show.note(f"{rest:,} more records; `--limit {rest + len(cells)}` shows all")


def record(found: View, *, full: bool, as_json: bool) -> None:
    """Prints one record: the documents' texts only if `full`."""
    if as_json:
        _json(found)
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 160, highlight=False)
    for name, value in facts(found).items():
        console.print(Text(f"{name:<11}", "dim") + Text(show.printable(value)))
    console.print(Text("question   ", "dim") + marked(found.question.text, found.question.marks, full=True))
    places = {
        n: [str(i) for i, (_, text) in enumerate(found.passages, 1) if n in text.entities]
        for n in range(1, len(found.sample.rubrics) + 1)
    }
    show.table(
        ("", "entity", "also", "documents"),
        [
            (n, entity, ", ".join(found.sample.aliases.get(entity, ())), _few(places[n]))
            for n, entity in enumerate(found.sample.rubrics, 1)
        ],
    )
    for kind, done, documents in steps(found):
        named = [Text(show.printable(name)) for name, _ in documents]
        tiers = [Text(tier or "not in the prompt", TIERS.get(tier, "dim")) for _, tier in documents]
        inline = named[0] + Text(" ") + tiers[0] if not done and len(named) == 1 else Text(show.printable(done))
        console.print(Text(f"{kind:<8}", "bold") + inline)
        shown = list(zip(named, tiers, strict=True)) if done or len(named) > 1 else []
        for line, tier in shown if full else shown[:FEW]:
            tier.pad_right(max(0, 18 - len(tier)))
            console.print(Text(" " * 9) + tier + line)
        if len(shown) > FEW and not full:
            console.print(Text(f"         and {len(shown) - FEW} more", "dim"))
    for place, (passage, text) in enumerate(found.passages, 1):
        names = f", names {', '.join(map(str, text.entities))}" if text.entities else ""
        head = Text(f"{place:>4} ") + Text(f"{passage.tier:<7}", TIERS[passage.tier])
        console.print(
            head + Text(show.printable(f"{passage.title or passage.id}, {len(text.text):,} characters{names}"))
        )
        if full:
            console.print(marked(text.text, text.marks, full=True))
    for role, text in found.frame:
        console.print(Text(role, "bold"))
        console.print(marked(text.text, text.marks, full=full))


def facts(found: View) -> dict[str, str]:
    """What is said of a record in a line each."""
    sample = found.sample
    said = {"record": f"{sample.id}, {found.file}:{found.line}", "answer": sample.label, "source": sample.source}
    said["length"] = f"{found.num_characters:,} characters, {len(sample.passages)} documents"
    if made := sample.provenance:
        said["length"] += f", {made.num_tokens:,} tokens by {made.tokenizer}"
        said["built"] = f"{made.dataset}, {made.strategy}, seed {made.seed}"
        said["walk"] = " → ".join(made.path)
    return said


def steps(found: View) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """(kind, what was done, documents with their tier) of each step of the agent; no tier: not in the prompt."""
    from ltrl.trajectories import Answer, Cite, Open, Search

    trajectory = found.sample.trajectory
    if trajectory is None:
        return []
    passages = {passage.id: passage for passage, _ in found.passages}

    def named(ids: Iterable[str]) -> list[tuple[str, str]]:
        return [((p.title or p.id, p.tier) if (p := passages.get(id_)) else (id_, "")) for id_ in ids]

    listed: list[tuple[str, str, list[tuple[str, str]]]] = []
    for step in trajectory.steps:
        match step:
            case Search():
                listed.append(("search", step.query, named(step.results)))
            case Open():
                [(name, tier)] = named([step.document])
                listed.append(("open", "", [(name, tier)]))
            case Cite():
                listed.append(("cite", "", named(step.documents)))
            case Answer():
                listed.append(("answer", step.text, []))
    return listed


def _json(found: View) -> None:
    show.json_(
        {
            "file": found.file,
            "line": found.line,
            "record": found.sample.to_json(),
            "entities": {
                str(place): list(text.entities) for place, (_, text) in enumerate(found.passages) if text.entities
            },
        }
    )


def _few(places: list[str]) -> str:
    return ", ".join(places[:FEW]) + (f" and {len(places) - FEW} more" if len(places) > FEW else "") or "-"


def _short(text: str, width: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 1]}…"
