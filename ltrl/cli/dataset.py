"""Commands that make data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ltrl.cli.specs import Json, Overlays, Sets

__all__ = ["build", "import_"]


def build(
    spec: Annotated[Path, typer.Argument(metavar="SPEC", help="A file of `kind: dataset`.")],
    overlay: Overlays = None,
    set_: Sets = None,
    jobs: Annotated[
        int | None, typer.Option("-j", "--jobs", metavar="N", min=1, help="Threads; by default one for each CPU.")
    ] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Tell no progress.")] = False,
    as_json: Json = False,
) -> None:
    """Build a data set from a corpus. One that was stopped goes on where it was; the result is the same."""
    import os

    from ltrl import project, source
    from ltrl.cli import show
    from ltrl.compile import as_in_a_job
    from ltrl.data import digest
    from ltrl.dataset.build import build as make
    from ltrl.dataset.model import Dataset
    from ltrl.dataset.progress import Progress
    from ltrl.parse import parse

    dataset = parse(source.load(spec, overlays=overlay or (), sets=set_ or ()), Dataset)
    home = project.root(spec.parent)
    workers = jobs or len(os.sched_getaffinity(0))
    with as_in_a_job(home):
        built = make(dataset, project=home, workers=workers, progress=Progress(is_quiet=quiet))
    records = built.path / "data.jsonl"
    if digest.known(records) is None:
        written = built.card["files"][records.name]
        modified_ns = records.stat().st_mtime_ns
        digest.record(records, digest.Digest(written["sha256"], written["bytes"], modified_ns, dataset.records))
    if as_json:
        show.json_({"path": str(records), "is_new": built.is_new, "card": built.card})
        return
    tokens = built.card["figures"]["tokens"]
    state = "built" if built.is_new else "unchanged"
    show.note(
        f"{state}: {dataset.records} records of {tokens['min']} to {tokens['max']} tokens; "
        f"their card: {show.relative(built.path / 'card.md')}"
    )
    show.out(show.relative(records))


def import_(
    logs: Annotated[list[Path], typer.Argument(metavar="LOG...", help="JSON Lines: one log of messages a line.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="Trajectories are written here.")],
    documents: Annotated[
        Path | None, typer.Option("--documents", metavar="FILE", help="And the documents of the logs here.")
    ] = None,
    tools: Annotated[
        list[str] | None,
        typer.Option("--tool", metavar="NAME=ACTION", help="A tool is search, open, cite or answer."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")] = False,
) -> None:
    """Make trajectories of other agents' logs (OpenAI-style tool calls), for `agent: {backend: file}`."""
    import json

    from ltrl.cli import show
    from ltrl.dataset.messages import ACTIONS, trajectory
    from ltrl.errors import Code, Diagnostic, LtrlError, raise_if_any, unreadable
    from ltrl.writing import refuse_existing, write

    known = {**ACTIONS}
    for tool in tools or ():
        name, _, action = tool.rpartition("=")
        if not name or action not in ("search", "open", "cite", "answer"):
            raise typer.BadParameter(f"`{tool}` is not NAME=ACTION; actions are search, open, cite and answer")
        known[name] = action  # type: ignore[assignment]
    refuse_existing([out, *([documents] if documents else [])], force=force)
    made: list[str] = []
    seen: dict[str, tuple[str, str]] = {}
    broken: list[Diagnostic] = []
    for log in logs:
        try:
            lines = log.read_bytes().splitlines()
        except OSError as error:
            raise LtrlError(unreadable(error, f"`{log}`")) from None
        for number, line in enumerate(lines, 1):
            try:
                found, shown = trajectory(json.loads(line), actions=known, default_id=f"{log.stem}-{number}")
            except (ValueError, RecursionError) as error:
                said = "not JSON" if isinstance(error, json.JSONDecodeError | UnicodeDecodeError) else str(error)
                hint = "`--tool NAME=search` says what it does" if "tool `" in said else None
                broken.append(Diagnostic(Code.BAD_DATA, f"{log}:{number}: {said}", hint=hint))
                continue
            made.append(json.dumps(found.to_json(), ensure_ascii=False) + "\n")
            for id, page in shown.items():  # of one that some saw and one opened, the whole text
                seen[id] = max(seen.get(id, page), page, key=lambda known: len(known[1]))
    raise_if_any(broken)
    write(out, "".join(made))
    if documents:
        rows = ({"id": id, "title": title, "text": text} for id, (title, text) in seen.items() if text)
        write(documents, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    show.note(f"{len(made)} trajectories, {len(seen)} documents")
    show.out(show.relative(out))
