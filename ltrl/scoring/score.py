"""What is scored, and what a score says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from ltrl.samples import Sample

__all__ = [
    "Hit",
    "JudgeRequest",
    "MatcherName",
    "Normalisation",
    "Response",
    "Scope",
    "Score",
    "ScoreRequest",
    "Status",
    "Usage",
    "Verdict",
]

MatcherName = Literal["words", "reference"]
Status = Literal["completed", "truncated", "aborted"]
Scope = Literal["positive-only", "negative-only", "all"]
Normalisation = Literal["group-max", "none"]


@dataclass(frozen=True, slots=True)
class Response:
    """One response of the policy, split into reasoning and answer as its chat format says."""

    reasoning: str | None
    content: str | None
    """The visible answer; None when it is empty or was cut before it began."""
    is_ill_formed: bool
    status: Status
    stop_token: str | None = None
    raw: str = ""
    """The text as generated, special tokens included."""
    ill_formed_reasons: tuple[str, ...] = ()
    """What makes it ill-formed, in LongTraceRL's words."""


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """A response with what it is scored against."""

    group: str
    """Id of the sample; responses of one prompt share it."""
    question: str
    label: str
    rubrics: tuple[str, ...]
    response: Response
    dataset_name: str = "longqa"
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Other names of rubric entities, by entity; any of them is a hit."""

    @classmethod
    def of(cls, sample: Sample, response: Response) -> ScoreRequest:
        """A response to a sample."""
        return cls(
            group=sample.id,
            question=sample.question,
            label=sample.label,
            rubrics=sample.rubrics,
            response=response,
            dataset_name=sample.dataset_name,
            aliases=sample.aliases,
        )


@dataclass(frozen=True, slots=True)
class JudgeRequest:
    """What a judge is shown."""

    question: str
    label: str
    response: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What asking an endpoint took."""

    replies: int = 0
    prompt_tokens: int = 0
    """As the endpoint counts them; one that does not count adds none."""
    response_tokens: int = 0
    cost: float | None = None
    """At the prices that it was asked with; None without any."""

    @classmethod
    def sum_of(cls, parts: Iterable[Usage | None]) -> Usage | None:
        """All of them together; None where nothing was asked."""
        known = [part for part in parts if part is not None]
        if not known:
            return None
        costs = [part.cost for part in known if part.cost is not None]
        return cls(
            sum(part.replies for part in known),
            sum(part.prompt_tokens for part in known),
            sum(part.response_tokens for part in known),
            sum(costs) if costs else None,
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judge said; `is_correct` is None when there was no usable answer, and `reason` says why."""

    is_correct: bool | None
    reason: str = ""
    words: str = ""
    """The judge's own reply, empty for a judge that is a rule."""
    usage: Usage | None = field(default=None, compare=False)
    """What it took; None where nobody was asked for it, or another verdict has it."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One rubric entity and where it was found."""

    entity: str
    spans: tuple[tuple[int, int], ...]
    """Character offsets [start, end) into the scored text; empty when not found."""


@dataclass(frozen=True, slots=True)
class Score:
    """One response's score before its group is known; it explains itself."""

    outcome: float | None
    """1.0 right, 0.0 wrong, None unjudged."""
    rubric: float
    """Share of the rubric found, in [0, 1]; 0.0 where no rubric is used."""
    verdict: Verdict | None = None
    """None when no judge was asked."""
    hits: tuple[Hit, ...] = ()
    zeroed: str = ""
    """Why everything is 0 without being judged: `truncated`, `aborted`, `ill-formed`, `empty`; or an empty string."""
    parts: dict[str, float] = field(default_factory=dict)
    """Further numbers a backend wants to see in the metrics, by name."""

    @property
    def is_judged(self) -> bool:
        """False when an outage left no verdict; such a sample is masked from the loss, never scored 0."""
        return self.outcome is not None

    @property
    def why(self) -> str:
        """Why the outcome is what it is, in a few words."""
        if self.zeroed:
            return f"not judged: {self.zeroed}"
        if self.verdict is None:
            return "no judge was asked"
        said = "unjudged" if self.outcome is None else "right" if self.outcome else "wrong"
        return f"{said}: {self.verdict.reason}" if self.verdict.reason else said

    @property
    def said(self) -> str:
        """The judge's words, else why there are none; empty where no judge was asked."""
        return "" if self.verdict is None else self.verdict.words or self.verdict.reason

    def to_json(self) -> dict[str, Any]:
        """Everything, for files and wires; `from_json` gives this score back."""
        verdict = self.verdict
        return {
            "outcome": self.outcome,
            "rubric": self.rubric,
            "zeroed": self.zeroed,
            "why": self.why,
            "verdict": verdict and {"is_correct": verdict.is_correct, "reason": verdict.reason, "words": verdict.words},
            "hits": [{"entity": hit.entity, "spans": [list(span) for span in hit.spans]} for hit in self.hits],
            "parts": dict(self.parts),
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Score:
        """The score that `to_json` wrote."""
        verdict = record["verdict"]
        return cls(
            outcome=record["outcome"],
            rubric=record["rubric"],
            verdict=verdict and Verdict(verdict["is_correct"], verdict["reason"], verdict["words"]),
            hits=tuple(Hit(hit["entity"], tuple((a, b) for a, b in hit["spans"])) for hit in record["hits"]),
            zeroed=record["zeroed"],
            parts=dict(record["parts"]),
        )
