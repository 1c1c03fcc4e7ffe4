"""What differs in the files that the job reads: keys of configurations, the Slurm request, environment, scripts."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from ltrl.backend import Grade
from ltrl.diff.fields import hidden, mask, shown_path
from ltrl.diff.model import Change, Side, worst
from ltrl.diff.trees import ABSENT, Edit, edits
from ltrl.errors import LtrlError, Source
from ltrl.source import Document, Keys, parse
from ltrl.spec import SlurmRequest

__all__ = ["DATA", "compiled"]

SLURM, ENVIRONMENT, CODE, DATA = "Slurm request", "environment", "code", "data files"
WHOLE = "the whole file"
_OF_REQUEST = {
    "--job-name": "name",
    "--nodes": "cluster.nodes",
    "--time": "cluster.minutes",
    "--signal": "cluster.minutes",
    **{f"--{name}": f"cluster.slurm.{name}" for name in SlurmRequest.model_fields},
}
"""The field behind an option."""
_SBATCH = re.compile(r"#SBATCH (--?[\w-]+)[= ]?(.*)")
_FIELD = re.compile(r"#\s*([a-z_]\w*(?:\.[\w-]+)*)")


def compiled(old: Side, new: Side, spec: Sequence[Change]) -> tuple[Change, ...]:
    """Every difference in what is compiled; `spec` are the changes of fields that it may come from."""
    grade = worst(change.grade for change in spec) or Grade.RELAUNCH
    of_job = Grade.RELAUNCH if grade is Grade.NEW_RUN else grade
    found: list[tuple[str, Edit, Change | None, Grade]] = []
    for name in (*old.files, *(name for name in new.files if name not in old.files)):
        before, after = old.files.get(name), new.files.get(name)
        if before == after:
            continue
        if before is None or after is None:
            whole = (ABSENT if text is None else f"{len(text.splitlines())} lines" for text in (before, after))
            found += ((name, replace(edit, path=(WHOLE,)), None, grade) for edit in edits(*whole))
        elif (first := _Keys.of(name, before)) and (second := _Keys.of(name, after)):
            for edit in edits(first.data, second.data):
                cause = first.cause(edit.old_at, spec) or second.cause(edit.new_at, spec)
                found.append((name, edit, cause, cause.grade if cause else grade))
        else:
            found += (
                (name, edit, None, of_job) for edit in _lines(_script(before, old, new), _script(after, old, new))
            )
    tables = [(SLURM, _request(old), _request(new)), (ENVIRONMENT, _environment(old), _environment(new))]
    if old.code and new.code:
        tables.append((CODE, old.code, new.code))
    for section, first_, second_ in tables:
        for edit in edits(dict(first_), dict(second_)):
            field = _OF_REQUEST.get(str(edit.path[0])) if section == SLURM else f"cluster.environment.{edit.path[0]}"
            cause = next((change for change in spec if change.path == field), None)
            found.append((section, edit, cause, cause.grade if cause else of_job))
    found += _contents(old, new)
    secrets = hidden(old) | hidden(new)
    return tuple(
        Change(
            path=mask(shown_path(edit.path), secrets),
            kind=edit.kind,
            old=mask(edit.old, secrets),
            new=mask(edit.new, secrets),
            old_position=None,
            new_position=None,
            grade=graded,
            section=section,
            cause=cause.path if cause else "",
        )
        for section, edit, cause, graded in found
    )


class _Keys:
    """A configuration file with the fields that its comments name; comments are the compiler's own."""

    def __init__(self, document: Document) -> None:
        self.data, self._document = document.data, document
        self._lines = document.sources[0].text.splitlines()

    @staticmethod
    def of(name: str, text: str) -> _Keys | None:
        """None for a file that is not one of keys."""
        try:
            if name.endswith(".json"):
                return _Keys(Document(json.loads(text), (Source(name, text),)))
            return _Keys(parse(Source(name, text))) if name.endswith(".yaml") else None
        except (ValueError, LtrlError):  # a file of an engine that is no YAML of ours: its lines are compared
            return None

    def cause(self, path: Keys, spec: Sequence[Change]) -> Change | None:
        """The changed field that a key comes from."""
        for end in range(len(path), 0, -1):
            key, value = (table.get(path[:end]) for table in (self._document.keys, self._document.values))
            if key and value:
                last = value if value.line == key.line else key
                comment = _FIELD.search(self._lines[last.line - 1][last.column - 1 + last.width :])
                field = comment[1] if comment else ""
                for change in spec:
                    if field and (
                        f"{change.path}.".startswith(f"{field}.") or f"{field}.".startswith(f"{change.path}.")
                    ):
                        return change
        return None


def _contents(old: Side, new: Side) -> Iterator[tuple[str, Edit, None, Grade]]:
    """Files that either side reads at the same place and that hold something else."""
    for field in old.data:
        for path in old.data[field].keys() & new.data.get(field, {}).keys():
            hashes = (old.data[field][path][:12], new.data[field][path][:12])
            grade = Grade.NEW_RUN if field == "data.train" else Grade.RELAUNCH
            yield from ((DATA, replace(edit, path=(path,)), None, grade) for edit in edits(*hashes))


def _request(side: Side) -> Mapping[str, str]:
    """Options of the Slurm request by name."""
    lines = side.files.get("job.sbatch", "").splitlines()
    return {found[1]: found[2] or "set" for line in lines if (found := _SBATCH.match(line))}


def _environment(side: Side) -> Mapping[str, str]:
    return side.resolved["cluster"].get("environment") or {}


def _script(text: str, old: Side, new: Side) -> list[tuple[int, str]]:
    """(number, line) of a script without the Slurm request and the variables, which are compared on their own."""
    names = {**_environment(old), **_environment(new)}
    exported = re.compile(rf"(export )?({'|'.join(map(re.escape, names))})(=|$)") if names else None
    numbered = enumerate(text.splitlines(), 1)
    return [(i, line) for i, line in numbered if not _SBATCH.match(line) and not (exported and exported.match(line))]


def _lines(old: list[tuple[int, str]], new: list[tuple[int, str]]) -> Iterator[Edit]:
    """Stretches of lines that differ, each at its number in the new script, or at that of the line behind it."""
    texts = [line for _, line in old], [line for _, line in new]
    for kind, i, j, m, n in difflib.SequenceMatcher(None, *texts, autojunk=False).get_opcodes():
        if kind != "equal":
            before, after = ("\n".join(lines) if lines else ABSENT for lines in (texts[0][i:j], texts[1][m:n]))
            number = new[m][0] if m < len(new) else len(new) + 1
            yield from (replace(edit, path=(f"line {number}",)) for edit in edits(before, after))
