"""Saved rollouts scored again: by the reward backend and the group transform of training, without the engine."""

from __future__ import annotations

import fcntl
import hashlib
import heapq
import json
import multiprocessing
import os
import stat
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from ltrl.backend import create, load
from ltrl.errors import Code, LtrlError, fail, unreadable
from ltrl.rollouts import Group, Rollout
from ltrl.scoring import (
    EntityReward,
    Hit,
    Response,
    Score,
    ScoreRequest,
    Text,
    advantages,
    group_kind,
    matcher,
    parse_response,
    scored_text,
)

__all__ = [
    "Comparison",
    "Explained",
    "Mark",
    "Pair",
    "Rule",
    "Scored",
    "Scores",
    "Summary",
    "compare",
    "differences",
    "explain",
    "in_order",
    "request",
    "score",
]

FORMAT = 2
_MARK = "ltrl_scores"
_BEGINNING = f'{{"{_MARK}": '.encode()


@dataclass(frozen=True, slots=True)
class Rule:
    """What of a spec decides a reward and its advantage; goes to other processes."""

    reward: str
    """The reward section, as JSON."""
    chat_format: str
    divide_by_std: bool = True
    leave_one_out: bool = False

    def to_json(self) -> dict[str, Any]:
        """The same for the head of a file of scores."""
        return {**asdict(self), "reward": json.loads(self.reward)}


def differences(a: Rule, b: Rule) -> list[tuple[str, str, str]]:
    """Options that two rules do not share, each with both values."""
    first, second = dict(_leaves(a.to_json())), dict(_leaves(b.to_json()))
    names = [name for name in {**first, **second} if first.get(name) != second.get(name)]
    return [(name, first.get(name, "-"), second.get(name, "-")) for name in names]


def _leaves(options: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in options.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value)


@dataclass(frozen=True, slots=True)
class Scored:
    """A response with everything that came of it."""

    file: str
    line: int
    sample: str
    number: int
    """In its group, from 1."""
    of: int
    """Size of its group."""
    reward: float | None
    """None when unjudged."""
    advantage: float | None
    score: Score

    @property
    def id(self) -> str:
        """Its name: `<sample>#<number>`."""
        return f"{self.sample}#{self.number}"

    def to_json(self) -> dict[str, Any]:
        """Its line in a file of scores; `from_json` gives it back."""
        return {name: getattr(self, name) for name in _SCALARS} | self.score.to_json()

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Scored:
        """The scored response of a line."""
        return cls(**{name: record[name] for name in _SCALARS}, score=Score.from_json(record))


_SCALARS = ("file", "line", "sample", "number", "of", "reward", "advantage")


def request(rule: Rule, group: Group, rollout: Rollout) -> ScoreRequest:
    """What the reward backend is asked about a saved response."""
    assert rollout.text is not None  # `groups` leaves lost ones out
    response = parse_response(
        rollout.text,
        chat_format=rule.chat_format,
        is_truncated=rollout.status == "truncated",
        is_aborted=rollout.status == "aborted",
        unstopped="truncated",
    )
    return ScoreRequest.of(group.sample, response)


def score(rule: Rule, group: Group) -> list[Scored]:
    """A group's responses, scored; the judge is asked about all of them at once."""
    backend = _backend(rule.reward)
    try:
        scores = backend.score([request(rule, group, rollout) for rollout in group.rollouts])
    except LtrlError as error:
        found = error.diagnostics[0]
        raise fail(found.code, found.message, found.position or group.rollouts[0].position, hint=found.hint) from None
    rewards = backend.rewards(scores)
    found_advantages = advantages(rewards, divide_by_std=rule.divide_by_std, leave_one_out=rule.leave_one_out)
    rows = zip(group.rollouts, rewards, found_advantages, scores, strict=True)
    return [
        Scored(group.file, rollout.line, group.sample.id, number, len(scores), reward, advantage, one)
        for number, (rollout, reward, advantage, one) in enumerate(rows, 1)
    ]


@cache
def _backend(section: str) -> Any:
    """The reward of a section, made once in each process."""
    found = json.loads(section)
    return create(load("reward", found["backend"]).Options.model_validate_json(section))


@dataclass(frozen=True, slots=True)
class Explained:
    """A scored response with all that a person wants to see of it."""

    scored: Scored
    request: ScoreRequest
    hits: tuple[Hit, ...]
    """Every place of every entity, where scoring stops at the first."""
    marks: Mapping[str, tuple[Mark, ...]]
    """Places by part of the response: `reasoning`, `answer`."""


Mark = tuple[int, int, int]
"""First character, last + 1, and the number of the entity, from 1."""


def explain(rule: Rule, group: Group) -> list[Explained]:
    """A group's responses with where they name what."""
    found = json.loads(rule.reward)
    options = load("reward", found["backend"]).Options.model_validate_json(rule.reward)
    where: Text = getattr(options, "text", "answer")
    explained = []
    for rollout, scored in zip(group.rollouts, score(rule, group), strict=True):
        asked = request(rule, group, rollout)
        hits = scored.score.hits
        if isinstance(options, EntityReward) and hits:
            find = matcher(options.matcher, ignore_accents=options.accents == "ignore")
            text = scored_text(asked.response, where)
            hits = find.hits(text, asked.rubrics, asked.aliases, every=True)
        explained.append(Explained(scored, asked, hits, _marks(hits, asked.response, where)))
    return explained


def _marks(hits: Sequence[Hit], response: Response, where: Text) -> dict[str, tuple[Mark, ...]]:
    reasoning, answer = response.reasoning or "", response.content or ""
    starts = {"answer": 0} if where == "answer" else {"reasoning": 0}
    if where == "both":
        starts["answer"] = len(scored_text(response, where)) - len(answer)
    marks = {}
    for part, start in starts.items():
        end = start + len(answer if part == "answer" else reasoning)
        spans = [(a, b, number) for number, hit in enumerate(hits, 1) for a, b in hit.spans]
        marks[part] = tuple(
            (max(a, start) - start, min(b, end) - start, n) for a, b, n in spans if a < end and b > start
        )
    return marks


def in_order(rules: Sequence[Rule], found: Iterable[Group], *, jobs: int) -> Iterator[tuple[Group, list[list[Scored]]]]:
    """Every group with its scores under each rule, in the order of the groups; `jobs` processes work a little ahead."""
    if jobs == 1:
        for group in found:
            yield group, _under_each(rules, group)
        return
    ahead: deque[tuple[Group, Future[list[list[Scored]]]]] = deque()
    spawn = multiprocessing.get_context("spawn")  # a judge's threads do not survive a fork
    with ProcessPoolExecutor(jobs, mp_context=spawn) as pool:
        try:
            for group in found:
                ahead.append((group, pool.submit(_under_each, rules, group)))
                if len(ahead) >= 4 * jobs:
                    first, future = ahead.popleft()
                    yield first, future.result()
            for first, future in ahead:
                yield first, future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _under_each(rules: Sequence[Rule], group: Group) -> list[list[Scored]]:
    return [score(rule, group) for rule in rules]


class Scores:
    """A file of scores that can be left off at any moment and gone on with; one process at a time has it open.

    The first line says what was scored how; then one line for each response, whole groups in the order of the files
    scored, each with a digest of what its group's scores depend on. What a killed process left of a group is cut off,
    and the group is scored again.
    """

    def __init__(self, path: Path, rule: Rule, files: Sequence[Path], *, replace: bool = False) -> None:
        self.path = path
        self._replace = replace
        head = {_MARK: FORMAT, **rule.to_json(), "files": {str(f): f.stat().st_size for f in files}}
        self._head = _lines([head])

    def __enter__(self) -> Scores:
        """Opens the file, and begins it where it has no scores.

        Raises OTHER_SCORES when it holds something else, UNWRITABLE, and RUN_BUSY while another process has it open.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("ab", buffering=0)
        except OSError as error:
            raise self._unwritable(error) from None
        try:
            self._begin()
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def resume(self, found: Iterator[Group]) -> Iterator[tuple[Group, list[Scored]]]:
        """The groups scored already, taken from those to score; raises OTHER_SCORES where they are not the same.

        Exhaust it before `add`.
        """
        if not self._can_resume:
            return
        members: list[Scored] = []
        with self._read() as file:
            whole = len(file.readline())
            for number, line in enumerate(iter(file.readline, b""), 2):
                if not line.endswith(b"\n"):
                    break
                one, digest = self._scored(line, number, len(members) + 1)
                members.append(one)
                if one.number < one.of:
                    continue
                group = next(found, None)
                if group is None or digest != _digest(group) or not _are_of(members, group):
                    first = number + 1 - len(members)
                    changed = "the rollouts or the spec's data have changed"
                    raise self._other(f"`{self.path}` holds other scores from line {first} on: {changed}")
                yield group, members
                members, whole = [], file.tell()
        self._cut(whole)

    def add(self, group: Group, scored: Sequence[Scored]) -> None:
        """Writes a group's scores down."""
        digest = _digest(group)
        self._append(_lines(one.to_json() | {"digest": digest} for one in scored))

    def _begin(self) -> None:
        self._can_resume = stat.S_ISREG(os.fstat(self._file.fileno()).st_mode)  # not `/dev/null`, nor a pipe
        if not self._can_resume:
            self._append(self._head)
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            hint = "wait for it, or write elsewhere: `-o FILE`"
            raise fail(Code.RUN_BUSY, f"another process scores into `{self.path}`", hint=hint) from None
        except OSError as error:
            raise self._unwritable(error) from None
        with self._read() as file:
            start = file.read(len(self._head))
            file.seek(0)
            is_ours = start.startswith(_BEGINNING)
            head = file.readline() if is_ours else start
        if self._head.startswith(head) and head != self._head:  # empty, or killed before its head was written
            is_ours = self._replace = True
        if not is_ours:
            raise fail(Code.OTHER_SCORES, f"`{self.path}` holds no scores", hint="`-o FILE` writes elsewhere")
        if self._replace:
            self._cut(0)
            self._append(self._head)
        elif (found := _json(head)) != json.loads(self._head):
            if isinstance(found, dict) and found[_MARK] != FORMAT:
                raise self._other(f"`{self.path}` was written by another version of ltrl")
            raise self._other(f"`{self.path}` holds the scores of other responses or by another reward")

    def _scored(self, line: bytes, number: int, expected: int) -> tuple[Scored, object]:
        """The scored response of a line, the `expected`-th of its group, and its digest."""
        record = _json(line)
        try:
            one = Scored.from_json(record)
            if one.number == expected <= one.of:
                return one, record.get("digest")
        except (KeyError, TypeError, ValueError, AttributeError):
            pass
        raise self._other(f"line {number} of `{self.path}` is not the score that belongs there")

    def _other(self, message: str) -> LtrlError:
        return fail(Code.OTHER_SCORES, message, hint="`-o FILE` writes elsewhere, `--replace` starts over")

    def _unwritable(self, error: OSError) -> LtrlError:
        reason = (error.strerror or str(error)).lower()
        return fail(Code.UNWRITABLE, f"cannot write the scores `{self.path}`: {reason}")

    def _read(self) -> BinaryIO:
        try:
            return self.path.open("rb")
        except OSError as error:
            raise LtrlError(unreadable(error, f"the scores `{self.path}`")) from None

    def _cut(self, size: int) -> None:
        try:
            self._file.truncate(size)
        except OSError as error:
            raise self._unwritable(error) from None

    def _append(self, lines: bytes) -> None:
        left = memoryview(lines)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise self._unwritable(error) from None


def _lines(records: Iterable[Mapping[str, Any]]) -> bytes:
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    return text.encode("utf-8", "backslashreplace")


def _json(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _are_of(scored: Sequence[Scored], group: Group) -> bool:
    """Whether the scores say that they are those of a group."""
    places = [(group.file, rollout.line, group.sample.id) for rollout in group.rollouts]
    return [(one.file, one.line, one.sample) for one in scored] == places


def _digest(group: Group) -> str:
    """A hash of what the scores of a group depend on, beside the rule."""
    sample = group.sample
    against = [sample.question, sample.label, sample.rubrics, dict(sample.aliases), sample.dataset_name]
    said = [(rollout.status, rollout.text) for rollout in group.rollouts]
    return hashlib.sha256(json.dumps([against, said], sort_keys=True).encode()).hexdigest()[:32]


class Summary:
    """What came of many responses, counted as they come."""

    def __init__(self) -> None:
        self.num_groups = 0
        self.num_lost = 0
        """Responses that were never generated; whoever reads the rollouts counts them."""
        self.counts: Counter[str] = Counter()
        self._reward = self._rubric = 0.0

    def add(self, group: Sequence[Scored]) -> None:
        """Counts a group."""
        self.num_groups += 1
        self.counts[group_kind([one.reward for one in group])] += 1
        for one in group:
            outcome = one.score.outcome
            self.counts["responses"] += 1
            self.counts[one.score.zeroed or ("unjudged" if outcome is None else "right" if outcome else "wrong")] += 1
            self._rubric += one.score.rubric
            self._reward += one.reward or 0.0

    @property
    def reward(self) -> float | None:
        """Mean reward of the judged responses."""
        judged = self.counts["responses"] - self.counts["unjudged"]
        return self._reward / judged if judged else None

    @property
    def rubric(self) -> float | None:
        """Mean share of the rubric that responses name."""
        return self._rubric / self.counts["responses"] if self.counts["responses"] else None

    def to_json(self) -> dict[str, Any]:
        """The same for programs."""
        return {
            "groups": self.num_groups,
            "lost": self.num_lost,
            "reward": self.reward,
            "rubric": self.rubric,
            **self.counts,
        }


@dataclass(frozen=True, slots=True)
class Pair:
    """One response under two rules."""

    a: Scored
    b: Scored
    rank_a: int | None
    """Place in its group by reward, 1 the best, equals share one; None when unjudged."""
    rank_b: int | None

    @property
    def flips(self) -> bool:
        """Whether what one rule encourages the other discourages."""
        return (self.a.advantage or 0.0) * (self.b.advantage or 0.0) < 0

    @property
    def difference(self) -> float:
        """How far the advantages are apart."""
        return abs((self.b.advantage or 0.0) - (self.a.advantage or 0.0))

    @property
    def entities(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Entities that only the first rule finds, and those that only the second does."""
        a, b = ([hit.entity for hit in one.score.hits if hit.spans] for one in (self.a, self.b))
        return tuple(e for e in dict.fromkeys(a) if e not in b), tuple(e for e in dict.fromkeys(b) if e not in a)

    def to_json(self) -> dict[str, Any]:
        """The same for programs."""
        only_a, only_b = self.entities
        sides = {
            side: {"reward": one.reward, "advantage": one.advantage, "rank": rank, "outcome": one.score.outcome}
            | {"rubric": one.score.rubric, "why": one.score.why, "only": list(only)}
            for side, one, rank, only in (("a", self.a, self.rank_a, only_a), ("b", self.b, self.rank_b, only_b))
        }
        return {"file": self.a.file, "line": self.a.line, "id": self.a.id, "flips": self.flips, **sides}


class Comparison:
    """How two rules differ over many responses; keeps those they differ most about."""

    def __init__(self, *, keep: int) -> None:
        self.a, self.b = Summary(), Summary()
        self.counts: Counter[str] = Counter()
        self._keep = keep
        self._most: list[tuple[float, int, Pair]] = []
        self._num_pushed = 0

    def add(self, pairs: Sequence[Pair]) -> None:
        """Counts a group."""
        self.a.add([pair.a for pair in pairs])
        self.b.add([pair.b for pair in pairs])
        self.counts["groups whose order changes"] += any(pair.rank_a != pair.rank_b for pair in pairs)
        for pair in pairs:
            self.counts["rewards that differ"] += pair.a.reward != pair.b.reward
            self.counts["outcomes that differ"] += pair.a.score.outcome != pair.b.score.outcome
            self.counts["responses that name other entities"] += pair.entities != ((), ())
            self.counts["ranks that change"] += pair.rank_a != pair.rank_b
            self.counts["advantages that change sign"] += pair.flips
            if pair.difference or pair.a.reward != pair.b.reward:
                self._num_pushed += 1  # among equals the first counts, and pairs are never compared
                heapq.heappush(self._most, (pair.difference, -self._num_pushed, pair))
                if len(self._most) > self._keep:
                    heapq.heappop(self._most)

    @property
    def most(self) -> list[Pair]:
        """The responses whose advantages are furthest apart, those first."""
        return [pair for *_, pair in sorted(self._most, key=lambda item: item[:2], reverse=True)]


def compare(a: Sequence[Scored], b: Sequence[Scored]) -> list[Pair]:
    """A group's responses under two rules."""
    ranks = zip(_ranks(a), _ranks(b), strict=True)
    return [Pair(one, other, *rank) for one, other, rank in zip(a, b, ranks, strict=True)]


def _ranks(group: Sequence[Scored]) -> list[int | None]:
    known = [one.reward for one in group if one.reward is not None]
    return [None if one.reward is None else 1 + sum(r > one.reward for r in known) for one in group]
