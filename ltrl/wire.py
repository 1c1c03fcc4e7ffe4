"""What a reward server and its clients say to each other: `POST /v1/score`, in JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Annotated, Literal

from pydantic import Field

from ltrl.backend import Grade, Model, RewardSection
from ltrl.backend.models import graded
from ltrl.scoring import Hit, Response, Score, ScoreRequest, Verdict

__all__ = ["Candidate", "Group", "Ready", "ScoreBatch", "ScoreReply", "Scored", "ScoredGroup", "reward_id"]


class Candidate(Model):
    """One response of the policy, split as its chat format says."""

    content: str | None = None
    """The visible answer; null when it is empty or was cut before it began."""
    reasoning: str | None = None
    """What precedes the answer."""
    status: Literal["completed", "truncated", "aborted"] = "completed"
    """Whether it ended by itself, was cut at the length limit, or was given up."""
    is_ill_formed: bool = False
    """Whether it breaks its chat format."""


class Group(Model):
    """A prompt's responses with what they are scored against."""

    id: str
    """Id of the sample."""
    question: str
    """What was asked, without the documents."""
    label: str
    """The right answer."""
    rubrics: tuple[str, ...] = ()
    """Entities of the evidence, or chunk numbers for the reward `longrlvr`."""
    aliases: dict[str, tuple[str, ...]] = {}
    """Other names of entities, by entity."""
    dataset_name: str = "longqa"
    """Kind of data, as the sample states it."""
    responses: Annotated[tuple[Candidate, ...], Field(min_length=1)]
    """The responses; rewards are those of a whole group, so that all of a prompt's belong here."""

    def requests(self) -> list[ScoreRequest]:
        """One for each response."""
        return [
            ScoreRequest(
                group=self.id,
                question=self.question,
                label=self.label,
                rubrics=self.rubrics,
                response=Response(r.reasoning, r.content, is_ill_formed=r.is_ill_formed, status=r.status),
                dataset_name=self.dataset_name,
                aliases=self.aliases,
            )
            for r in self.responses
        ]


class ScoreBatch(Model):
    """What `/v1/score` is asked: whole groups."""

    groups: Annotated[tuple[Group, ...], Field(min_length=1)]
    """The groups."""

    @classmethod
    def of(cls, requests: Iterable[ScoreRequest]) -> ScoreBatch:
        """The batch of some requests; neighbours of one sample are a group."""

        def sample(r: ScoreRequest) -> tuple[object, ...]:
            return r.group, r.question, r.label, r.rubrics, r.dataset_name, sorted(r.aliases.items())

        groups = []
        for _, members in groupby(requests, key=sample):
            found = list(members)
            first, responses = found[0], [r.response for r in found]
            groups.append(
                Group(
                    id=first.group,
                    question=first.question,
                    label=first.label,
                    rubrics=first.rubrics,
                    aliases=dict(first.aliases),
                    dataset_name=first.dataset_name,
                    responses=tuple(
                        Candidate(
                            content=r.content, reasoning=r.reasoning, status=r.status, is_ill_formed=r.is_ill_formed
                        )
                        for r in responses
                    ),
                )
            )
        return cls(groups=tuple(groups))


class Judgement(Model):
    """What the judge said."""

    is_correct: bool | None
    """Null when there was no usable answer."""
    reason: str = ""
    """Why there is none, or what a rule found."""
    words: str = ""
    """The judge's own reply."""


class Found(Model):
    """One entity and where it was found."""

    entity: str
    """The entity."""
    spans: tuple[tuple[int, int], ...] = ()
    """Character offsets [start, end) into the scored text; none when it was not found."""


class Scored(Model):
    """One response's score, and its reward within its group."""

    outcome: float | None
    """1 right, 0 wrong, null unjudged."""
    reward: float | None
    """Null when unjudged."""
    rubric: float
    """Share of the rubric found."""
    zeroed: str = ""
    """Why everything is 0 without being judged."""
    verdict: Judgement | None = None
    """Null when no judge was asked."""
    hits: tuple[Found, ...] = ()
    """The rubric's entities."""
    parts: dict[str, float] = {}
    """Further numbers of the reward backend."""

    @classmethod
    def of(cls, score: Score, reward: float | None) -> Scored:
        """A score in this form."""
        said = score.verdict
        verdict = (
            Judgement(is_correct=said.is_correct, reason=said.reason, words=said.words) if said is not None else None
        )
        return cls(
            outcome=score.outcome,
            reward=reward,
            rubric=score.rubric,
            zeroed=score.zeroed,
            verdict=verdict,
            hits=tuple(Found(entity=hit.entity, spans=hit.spans) for hit in score.hits),
            parts=dict(score.parts),
        )

    def score(self) -> Score:
        """The score again."""
        return Score(
            outcome=self.outcome,
            rubric=self.rubric,
            verdict=None if self.verdict is None else Verdict(**self.verdict.model_dump()),
            hits=tuple(Hit(hit.entity, hit.spans) for hit in self.hits),
            zeroed=self.zeroed,
            parts=dict(self.parts),
        )


class ScoredGroup(Model):
    """The scores of a group's responses, in their order."""

    id: str
    """Id of the sample."""
    responses: tuple[Scored, ...]
    """One for each response."""


class ScoreReply(Model):
    """What `/v1/score` answers."""

    groups: tuple[ScoredGroup, ...]
    """The groups, in their order."""

    def scores(self) -> Sequence[Score]:
        """Every score, in the order of the requests."""
        return [scored.score() for group in self.groups for scored in group.responses]


class Ready(Model):
    """What `/readyz` answers."""

    status: Literal["ready"]
    """That it takes requests."""
    name: str
    """Name of the spec it serves."""
    reward: str
    """Id of the reward; equal ids score equally."""
    version: str
    """Version of ltrl."""
    is_authorized: bool
    """Whether whoever asks would be answered elsewhere: has brought the token, if one is needed."""


def reward_id(section: RewardSection) -> str:
    """16 hex digits that stand for everything in a reward's section that decides a score."""
    decisive = {path: value for path, grade, value in graded(section) if grade is Grade.NEW_RUN}
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]
