"""Everything that is wrong with files of records, found before a GPU is booked.

Errors would stop a run or spoil what it measures; everything else is a doubt that a person should look at.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ltrl import lint
from ltrl.data.contamination import NEAR, Seen, shared
from ltrl.data.facts import Facts, Looks
from ltrl.data.near import near
from ltrl.data.scan import scan
from ltrl.data.tokens import Counter
from ltrl.errors import Code
from ltrl.names import close_to

__all__ = ["ERRORS", "KINDS", "Finding", "Report", "check", "unknown_kind"]

KINDS: Mapping[str, str] = {
    **{kind: text for kind, text in lint.KINDS.items() if kind in lint.ERRORS},
    "refused": "prompts longer than the context, which the spec refuses",
    "empty": "files without a record that can be trained on",
    "nothing-fits": "files without a prompt that fits the context",
    "contaminated": "questions that an evaluation set asks too",
    "overlong": "prompts longer than the context",
    "near-contaminated": "questions nearly the same as one of an evaluation set",
    "same-evidence": "answers whose gold documents an evaluation set has too",
    "gold-absent": "gold documents that the prompt does not have",
    "gold-cut": "gold documents whose end the prompt does not have",
    "not-compared": "evaluation sets that are not on this machine",
    "shared-gold": "records with gold documents that an evaluation set has too",
    "no-gold": "records with documents, none of them gold",
    "unasked": "prompts without the question",
    "unbacked": "entities that no gold document names",
    "same-prompt": "prompts that come twice",
    "near-question": "questions nearly the same as another",
    **{kind: text for kind, text in lint.KINDS.items() if kind not in lint.ERRORS},
}
"""Every kind of finding, what it counts, gravest first."""

ERRORS: frozenset[str] = frozenset({*lint.ERRORS, "refused", "empty", "nothing-fits", "contaminated"})


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a record."""

    kind: str
    file: str
    line: int
    """Line or row of the record; 0 for the file as a whole."""
    field: str
    """Dotted path in the record; empty for the record as a whole."""
    message: str
    hint: str | None
    is_error: bool

    @property
    def code(self) -> Code:
        """The code of the mistake."""
        return Code.BAD_DATA if self.is_error else Code.DOUBTFUL_DATA


@dataclass
class Report:
    """What became of a check."""

    looks: Looks
    limit: int
    """Findings that are kept; all are counted."""
    allowed: Collection[str] = ()
    """Kinds that are no errors here."""
    num_records: int = 0
    usable: collections.Counter[Path] = field(default_factory=collections.Counter)
    """Records of each file that can be trained on."""
    counts: collections.Counter[str] = field(default_factory=collections.Counter)
    lengths: list[int] = field(default_factory=list)
    """Tokens of each usable prompt."""
    num_overlong: int = 0
    num_shortened: int = 0
    """Of the overlong, those that fit without some of their documents."""
    evaluation: dict[str, int] = field(default_factory=dict)
    """Records of each evaluation set that was compared with."""
    evaluation_gold: dict[str, int] = field(default_factory=dict)
    """Their gold documents; 0 where it lists none, and so none was compared."""
    _errors: list[Finding] = field(default_factory=list)
    _doubts: list[Finding] = field(default_factory=list)

    @property
    def num_usable(self) -> int:
        """Records that can be trained on."""
        return self.usable.total()

    @property
    def findings(self) -> list[Finding]:
        """Errors first, each in the order of the files, at most `limit`."""
        return sorted([*self._errors, *self._doubts], key=lambda f: not f.is_error)[: self.limit]

    @property
    def num_errors(self) -> int:
        """Findings with which a run should not start."""
        return sum(count for kind, count in self.counts.items() if self.is_error(kind))

    @property
    def num_trained(self) -> int:
        """Records that a run would use."""
        policy = self.looks.policy
        left_out = self.num_overlong - (self.num_shortened if policy == "drop-documents" else 0)
        return self.num_usable - left_out

    def is_error(self, kind: str) -> bool:
        """Whether findings of a kind stop a run here."""
        return kind in ERRORS and kind not in self.allowed

    def add(self, kind: str, file: Path, line: int, message: str, *, path: str = "", hint: str | None = None) -> None:
        """Counts a finding, and keeps it while there is room."""
        self.counts[kind] += 1
        kept = self._errors if self.is_error(kind) else self._doubts
        if len(kept) < self.limit:
            kept.append(Finding(kind, str(file), line, path, message, hint, self.is_error(kind)))


def check(
    files: Sequence[Path],
    looks: Looks,
    *,
    evaluation: Mapping[str, Path] | None = None,
    jobs: int = 1,
    limit: int = 50,
    allowed: Collection[str] = (),
    advance: Callable[[Path, Facts], None] = lambda *_: None,
) -> Report:
    """Reads files of training records and says what is wrong; `evaluation` gives sets that they should not meet.

    Raises LtrlError where a file cannot be read on. `advance` is told of each record.
    """
    looks = replace(looks, gold=bool(evaluation))
    report = Report(looks, limit, allowed)
    seen: list[Seen] = []
    prompts: dict[bytes, str] = {}
    questions: dict[bytes, str] = {}
    for path in files:
        ids: dict[str, int] = {}
        before = report.num_usable, report.num_trained, report.num_records
        for found in scan(path, looks, jobs=jobs):
            advance(path, found)
            _record(report, path, found)
            if not found.problems:
                _repeated(report, path, found, ids, (prompts, questions))
                seen.append(Seen.of(path, found))
        if report.num_usable == before[0]:
            read = report.num_records - before[2]
            message = f"none of its {read:,} records can be used" if read else "the file has no record"
            report.add("empty", path, 0, message)
        elif report.num_trained == before[1] and looks.policy != "error":
            message = f"no prompt has at most {looks.longest:,} tokens, the shortest has {min(report.lengths):,}"
            report.add("nothing-fits", path, 0, message, hint="raise `model.context.prompt`")
    first = {one.question: one for one in reversed(seen)}
    unlike = [one for one in seen if first[one.question] is one]
    for place, other, share in near([one.shingles for one in unlike], threshold=NEAR):
        message = f"the question is {share:.0%} that of {unlike[other]}"
        report.add("near-question", unlike[place].file, unlike[place].number, message, path=_QUESTION)
    for name, path in (evaluation or {}).items():
        own = {p.resolve() for p in files}
        if path.resolve() in own:
            message = f"this very file is the evaluation set `{name}`"
            report.add("contaminated", path, 0, message, hint="what is measured on it is what was trained on")
            continue
        if not path.exists():
            message = f"the evaluation set `{name}` is not here: nobody knows whether the data have its questions"
            report.add("not-compared", path, 0, message)
            continue
        light = Looks(Counter(None), rubric=False, gold=True)
        held_out = []
        for found in scan(path, light, jobs=jobs):
            advance(path, found)
            if not found.problems:
                held_out.append(Seen.of(path, found))
        report.evaluation[name] = len(held_out)
        report.evaluation_gold[name] = sum(len(one.gold) for one in held_out)
        for one in shared(seen, held_out, name):
            report.add(one.kind, one.record.file, one.record.number, one.message, path=one.field)
    return report


def unknown_kind(kinds: Collection[str]) -> str | None:
    """What is wrong with the names of kinds that are given; None when nothing is."""
    for kind in kinds:
        if kind not in KINDS:
            return f"unknown kind `{kind}`; {close_to(kind, tuple(KINDS)) or 'known: ' + ', '.join(KINDS)}"
    return None


_QUESTION = "metadata.extra_reward_info.question"
_PROMPT = "input_messages"


def _record(report: Report, path: Path, found: Facts) -> None:
    """What one record shows by itself."""
    report.num_records += 1
    for problem in found.problems:
        report.add("unusable", path, found.number, problem.message, path=problem.field, hint=problem.hint)
    if found.problems:
        return
    report.usable[path] += 1
    report.lengths.append(found.num_tokens)
    for doubt in found.doubts:
        report.add(doubt.kind, path, found.number, doubt.message, path=doubt.field, hint=doubt.hint)
    longest, policy = report.looks.longest, report.looks.policy
    if longest is None or not found.is_overlong(longest):
        return
    report.num_overlong += 1
    report.num_shortened += found.is_shortened
    about = "" if report.looks.counter.is_exact else "about "
    message = f"the prompt has {about}{found.num_tokens:,} tokens, {found.num_tokens - longest:,} too many"
    match policy:
        case "error":
            report.add("refused", path, found.number, message, path=_PROMPT, hint="`overlong: error` stops the run")
        case "skip":
            report.add("overlong", path, found.number, f"{message}: it is left out", path=_PROMPT)
        case "drop-documents":
            fate = "some of its documents are dropped" if found.is_shortened else "it is left out"
            why = "" if found.is_shortened or found.tiers else " (its documents are not known)"
            report.add("overlong", path, found.number, f"{message}: {fate}{why}", path=_PROMPT)


def _repeated(
    report: Report,
    path: Path,
    found: Facts,
    ids: dict[str, int],
    seen: tuple[dict[bytes, str], dict[bytes, str]],
) -> None:
    """What it has in common with records before it; `seen` holds their prompts and questions."""
    prompts, questions = seen
    here = f"{path}:{found.number}"
    if (line := ids.setdefault(found.id, found.number)) != found.number:
        hint = "ids name groups of responses: make them unique"
        message = f"the id `{found.id}` is that of line {line}"
        report.add("same-id", path, found.number, message, path="metadata.id", hint=hint)
    same_prompt = prompts.setdefault(found.prompt_digest, here)
    same_question = questions.setdefault(found.question_digest, here)
    if same_prompt != here:
        report.add("same-prompt", path, found.number, f"the prompt is that of {same_prompt}", path=_PROMPT)
    elif same_question != here:
        report.add("same-question", path, found.number, f"the question is that of {same_question}", path=_QUESTION)
