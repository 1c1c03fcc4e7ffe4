"""Writes the generated pages, tables and JSON schemas under docs/, or says which are out of step (`--check`)."""

from __future__ import annotations

import ast
import inspect
import itertools
import json
import sys
from pathlib import Path

from ltrl import slurm, why
from ltrl.backend import KINDS, Grade, Model, backends, load
from ltrl.dataset.model import Dataset
from ltrl.evaluation.spec import Evaluation
from ltrl.fields import of_model
from ltrl.metrics import FIGURES
from ltrl.pages import pages_markdown
from ltrl.schema import schema
from ltrl.spec import ClusterProfile, Experiment
from ltrl.state import State

DOCS = Path(__file__).resolve().parent.parent / "docs"


def pages() -> dict[str, str]:
    """The text of every generated file by its name under docs/."""
    from ltrl_backends.nemo_rl import checks, fidelity

    return {
        "ltrl.schema.json": json.dumps(schema("experiment"), indent=2) + "\n",
        "evaluation.schema.json": json.dumps(schema("evaluation"), indent=2) + "\n",
        "cluster.schema.json": json.dumps(schema("cluster"), indent=2) + "\n",
        "dataset.schema.json": json.dumps(schema("dataset"), indent=2) + "\n",
        "spec.md": _reference(),
        "errors.md": pages_markdown(),
        "checks.md": checks.checks_markdown(),
        "fidelity.md": fidelity.fidelity_markdown(),
        "following-runs.md": _filled(
            "following-runs.md", states=_states(), figures=_figures(), signatures=_signatures()
        ),
    }


def _filled(page: str, **parts: list[str]) -> str:
    """A page written by hand, with what stands between its `begin` and `end` marks made anew."""
    text = (DOCS / page).read_text()
    for name, lines in parts.items():
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        before, _, rest = text.partition(begin)
        text = "\n".join([f"{before}{begin}", "", *lines, "", f"{end}{rest.partition(end)[2]}"])
    return text


def _states() -> list[str]:
    body = ast.parse(inspect.getsource(State)).body[0].body  # type: ignore[attr-defined]
    lines = ["| state | meaning | Slurm calls it |", "|---|---|---|"]
    for assigned, said in itertools.pairwise(body):
        if isinstance(assigned, ast.Assign):
            name = assigned.targets[0].id  # type: ignore[attr-defined]
            words = ", ".join(f"`{word}`" for word, state in slurm.STATES.items() if state == name) or "-"
            lines.append(f"| `{name}` | {said.value.value} | {words} |")
    return lines


def _figures() -> list[str]:
    lines = ["| figure | in words | unit | tags of the engines | which is |", "|---|---|---|---|---|"]
    for name, figure in FIGURES.items():
        tags = ", ".join(f"`{tag}`" for tag in figure.tags) or "-"
        lines.append(f"| `{name}` | {figure.title} | {figure.unit or '-'} | {tags} | {figure.meaning} |")
    return lines


def _signatures() -> list[str]:
    lines = ["| signature | what it means | change |", "|---|---|---|"]
    for signature in why.signatures():
        fields = ", ".join(f"`{field}`" for field in signature.fields)
        waits_only = signature.waits and not signature.state
        kind = " (while it waits)" if waits_only else " (follows from something else)" if signature.follows else ""
        lines.append(f"| `{signature.id}`{kind} | {signature.title}. {signature.why} {signature.do} | {fields} |")
    return lines


def _reference() -> str:
    lines = [
        "# Reference of spec files",
        "",
        "Generated from the models by `make docs`. A grade says what changing a field means for a run that exists:",
        "`new-run` changes what is learned, `relaunch` how the job runs, `note` nothing but a description.",
        "",
        "## `kind: experiment`",
        "",
        *_fields(Experiment, Grade.NEW_RUN),
        "",
        "## `kind: evaluation`",
        "",
        "Its fields from `benchmarks` to `serve` are those of an experiment's `eval`.",
        "",
        *_fields(Evaluation, Grade.RELAUNCH),
        "",
        "## `kind: cluster`",
        "",
        *_fields(ClusterProfile, Grade.RELAUNCH),
        "",
        "## `kind: dataset`",
        "",
        *_fields(Dataset, Grade.NEW_RUN),
    ]
    for kind in KINDS:
        lines += ["", f"## {kind} backends"]
        for info in backends():
            if info.kind == kind and info.distribution == "ltrl":
                options = load(kind, info.name).Options
                lines += [
                    "",
                    f"### `{info.name}`",
                    "",
                    _first(options.__doc__),
                    "",
                    *_fields(options, Grade.NEW_RUN),
                ]
    return "\n".join(lines) + "\n"


def _fields(model: type[Model], grade: Grade) -> list[str]:
    header = ["| field | type | default | grade | meaning |", "|---|---|---|---|---|"]
    rows = (
        (
            f"`{f.path}`",
            f.type,
            f"`{f.default}`" if f.default not in ("", "none", "required") else f.default,
            f.grade.value,
            f.doc,
        )
        for f in of_model(model, grade=grade)
    )
    return header + [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]


def _first(text: str | None) -> str:
    return " ".join((text or "").strip().split())


def main() -> int:
    """Writes what differs; with `--check` only names it and fails."""
    stale = [name for name, text in pages().items() if not (DOCS / name).is_file() or (DOCS / name).read_text() != text]
    if "--check" in sys.argv[1:]:
        for name in stale:
            print(f"docs/{name} is out of step: run `make docs`")
        return 1 if stale else 0
    for name in stale:
        (DOCS / name).write_text(pages()[name])
        print(f"docs/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
