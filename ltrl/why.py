"""Why a run ended: the first cause among what the scheduler, the driver and the ranks left.

The earliest wins, not the loudest. What a rank says because another one went away (`follows`) counts only when nothing
else is found around that time, and an error after which a step was still finished has been survived.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cache
from importlib import resources
from itertools import accumulate, islice
from typing import Any

import yaml

__all__ = ["Cause", "Log", "Signature", "causes", "pending", "signatures"]

FOLLOWS_WITHIN = timedelta(minutes=10)
"""NCCL gives up after 10 minutes, Slurm notices a lost node after 5: their default time limits."""

CONTEXT = (4, 3)
"""Lines of an excerpt before and after the one that counts."""

NEAR = (60, 20)
"""Lines before and after in which `near` must match: a traceback above, its rest below."""

STAMP_LINES = 400
"""How far from a line its time is looked for."""


@dataclass(frozen=True, slots=True)
class Signature:
    """What a known mishap looks like, and what changes it."""

    id: str
    title: str
    why: str
    do: str
    fields: tuple[str, ...]
    """Of the spec, or below `cluster.` of the cluster profile; the likeliest first."""
    match: tuple[str, ...] = ()
    """Regular expressions of which one is in the line."""
    near: str | None = None
    """What must be around it."""
    state: tuple[str, ...] = ()
    """What the scheduler calls it."""
    reason: str | None = None
    """What is then in the recorded reason of the end."""
    waits: str | None = None
    """The scheduler's reason why a job is pending."""
    follows: bool = False
    """Whether it is seen when something else has gone wrong elsewhere."""


@dataclass(frozen=True, slots=True)
class Log:
    """A log of an attempt, or the end of one."""

    name: str
    text: str
    modified: datetime
    """When its last line was written."""
    skipped: int = 0
    """Lines before `text`."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Something that went wrong, where it is written and when that was."""

    signature: Signature | None
    """None for an error that is not known."""
    title: str
    log: str
    line: int
    """From 1; 0 when the scheduler says it."""
    time: datetime
    excerpt: tuple[tuple[int, str], ...] = ()
    """Lines around it with their numbers."""


@cache
def signatures() -> tuple[Signature, ...]:
    """All known mishaps, special ones before general ones."""
    text = (resources.files("ltrl") / "signatures.yaml").read_text(encoding="utf-8")
    entries: list[dict[str, Any]] = yaml.load(text, Loader=yaml.CSafeLoader)
    return tuple(Signature(**{name: _frozen(value) for name, value in entry.items()}) for entry in entries)


def causes(
    logs: Iterable[Log],
    *,
    state: str,
    reason: str = "",
    ended: datetime,
    progress: datetime | None = None,
    said: Log | None = None,
) -> tuple[Cause, ...]:
    """What went wrong in an attempt, the first cause first and each kind once.

    `state`, `reason` and `ended` are the scheduler's; `progress` is when the last step was finished; `said` is what the
    job's scripts call the cause, which counts when nothing else is found.
    """
    logs = list(logs)
    since = progress or datetime.min.replace(tzinfo=UTC)
    found = [c for log in logs for c in _known(log, since)]
    if s := _ended(state, reason):
        found.append(Cause(s, s.title, "the scheduler", 0, ended, ((0, f"{state}: {reason}" if reason else state),)))
    if state == "FAILED" and all(c.signature and c.signature.follows for c in found):
        explained = {(c.log, c.line) for c in found}
        found += [c for log in logs for c in _unknown(log, since) if (c.log, c.line) not in explained]
    if said and said.text.strip() and not found:
        found = [*_known(said, since)] or [_Page(said).cause(0, title=said.text.split("\n")[0])]
    by_kind: dict[str, Cause] = {}
    for cause in sorted(found, key=_precedence):
        by_kind.setdefault(cause.signature.id if cause.signature else cause.title, cause)
    return tuple(by_kind.values())


def pending(reason: str) -> Signature | None:
    """What a scheduler's reason for not starting a job means."""
    return next((s for s in signatures() if s.waits and re.fullmatch(s.waits, reason)), None)


def _ended(state: str, reason: str) -> Signature | None:
    """What the scheduler's word for the end of a job means."""
    known = (s for s in signatures() if state in s.state)
    return next((s for s in known if s.reason is None or re.search(s.reason, reason)), None)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _precedence(cause: Cause) -> datetime:
    follows = cause.signature is not None and cause.signature.follows
    return cause.time + FOLLOWS_WITHIN if follows else cause.time


def _known(log: Log, since: datetime) -> Iterator[Cause]:
    """The first line of each kind of mishap in a log that was written after a time."""
    page: _Page | None = None
    taken: set[int] = set()
    for signature in signatures():
        for start in sorted(m.start() for p in signature.match for m in _pattern(p).finditer(log.text)):
            page = page or _Page(log)
            number = page.line_at(start)
            if number in taken or not _is_near(signature, page.lines, number) or page.time(number) <= since:
                continue
            taken.add(number)
            yield page.cause(number, signature=signature)
            break


def _unknown(log: Log, since: datetime) -> Iterator[Cause]:
    """The exceptions in a log that were written after a time, and what ltrl's own scripts say."""
    page: _Page | None = None
    for found in islice(UNKNOWN.finditer(log.text), MAX_UNKNOWN):
        page = page or _Page(log)
        number = page.line_at(found.start("said"))
        if page.time(number) > since:
            yield page.cause(number, title=found["said"].strip())


MAX_UNKNOWN = 20
"""Of each log."""

UNKNOWN = re.compile(
    r"^(?:\([^)\n]*\) |\[[^\]\n]*\][: ]*)*"
    r"(?P<said>[\w.]*(?:Error|Exception|Interrupt|Exit)\b: ?.+|(?:[Ff]atal|FATAL)\b.+|ltrl: .+ ended with status .+)",
    re.MULTILINE,
)
"""How Python and others begin the line that says what went wrong; Ray and torch put who said it before."""


def _is_near(signature: Signature, lines: Sequence[str], number: int) -> bool:
    if signature.near is None:
        return True
    before, after = NEAR
    around = "\n".join(lines[max(0, number - before) : number + after + 1])
    return _pattern(signature.near).search(around) is not None


@cache
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.MULTILINE)


class _Page:
    """The lines of a log, and when they were written, as far as they or the lines around them say."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.lines = log.text.split("\n")
        self.starts = [0, *accumulate(len(line) + 1 for line in self.lines)]
        self.zone: tzinfo | None = None
        first = max(0, len(self.lines) - STAMP_LINES)
        last = next((t for i in range(len(self.lines) - 1, first - 1, -1) if (t := self._read(i))), None)
        if last is not None:
            # a container counts in UTC on a machine that does not: its file was written when its last line says
            as_utc = last.replace(tzinfo=UTC)
            near = timedelta(seconds=90)
            self.zone = UTC if abs(as_utc - log.modified) < near < abs(last - log.modified) else None

    def line_at(self, offset: int) -> int:
        """The line, from 0, that a character of the text is in."""
        return bisect_right(self.starts, offset) - 1

    def time(self, number: int) -> datetime:
        """The line's own time, or else that of the next line that has one: it was written before."""
        for i in range(number, min(len(self.lines), number + STAMP_LINES)):
            if time := self._read(i):
                return min(time, self.log.modified)
        return self.log.modified

    def cause(self, number: int, *, signature: Signature | None = None, title: str = "") -> Cause:
        """What a line says."""
        before, after = CONTEXT
        around = range(max(0, number - before), min(len(self.lines), number + after + 1))
        shown = [i for i in around if i != len(self.lines) - 1 or self.lines[i]]
        excerpt = tuple((self.log.skipped + i + 1, self.lines[i]) for i in shown)
        named = signature.title if signature else title
        return Cause(signature, named, self.log.name, self.log.skipped + number + 1, self.time(number), excerpt)

    def _read(self, number: int) -> datetime | None:
        text = self.lines[number][:200]
        try:
            if m := FULL.search(text):
                text = f"{m[1]}-{m[2]}-{m[3]}T{m[4]}:{m[5]}:{m[6]}.{(m[7] or '0')[:6]:0<6}{m[8] or ''}"
                return self._placed(text.replace("Z", "+00:00"))
            if m := SHORT.search(text):
                text = f"{m[1]}-{m[2]}T{m[3]}:{m[4]}:{m[5]}.{(m[6] or '0')[:6]:0<6}"
                time = self._placed(f"{self.log.modified.year}-{text}")
                is_of_last_year = time > self.log.modified + timedelta(days=2)
                return self._placed(f"{self.log.modified.year - 1}-{text}") if is_of_last_year else time
        except ValueError:  # no time after all
            pass
        return None

    def _placed(self, text: str) -> datetime:
        time = datetime.fromisoformat(text)
        return time.replace(tzinfo=self.zone) if self.zone and time.tzinfo is None else time.astimezone()


FULL = re.compile(r"\b(20\d\d)[-/](\d\d)[-/](\d\d)[T ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?(Z|[+-]\d\d:\d\d)?")
"""`2026-01-31 12:34:56,789`, `2026-01-31T12:34:56.789+01:00`: Python, Ray, Slurm."""

SHORT = re.compile(r"\b(?:[IWEF])?(\d\d)-?(\d\d) (\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?")
"""`INFO 01-31 12:34:56` of vLLM, `E0131 12:34:56.789` of torch and glog."""
