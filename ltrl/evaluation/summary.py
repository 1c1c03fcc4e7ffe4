"""What the samples of an evaluation come to: each benchmark, and each part of its splits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ltrl.evaluation.results import Sample, scores, splits
from ltrl.evaluation.statistics import Estimate, mean, pass_at
from ltrl.scoring import Usage

__all__ = ["Counts", "Summary", "summaries"]


@dataclass
class Counts:
    """How many answers there are of what kind."""

    answers: int = 0
    graded: int = 0
    too_long: int = 0
    refused: int = 0
    """Those too long ones that fit the context, but not the server's."""
    cut: int = 0
    """Asked without the middle of their prompts."""
    unanswered: int = 0
    unjudged: int = 0
    truncated: int = 0
    """Cut at the longest response."""
    ill_formed: int = 0
    prompt_tokens: int = 0
    response_tokens: int = 0
    judge: Usage | None = None
    """What judges took; None where none was asked."""

    def add(self, sample: Sample) -> None:
        """Counts a sample."""
        self.answers += 1
        self.graded += sample.score is not None
        self.too_long += sample.status == "too-long"
        self.refused += sample.is_refused
        self.cut += sample.is_cut
        self.unanswered += sample.status == "unanswered"
        self.unjudged += sample.status == "unjudged"
        self.truncated += sample.finish_reason == "length"
        self.ill_formed += bool(sample.ill_formed)
        self.prompt_tokens += sample.prompt_tokens or 0
        self.response_tokens += sample.response_tokens or 0
        self.judge = Usage.sum_of((self.judge, sample.judge))

    @property
    def missing(self) -> int:
        """Those that lack because something failed."""
        return self.unanswered + self.unjudged


@dataclass(frozen=True)
class Summary:
    """One benchmark, or one part of it."""

    name: str
    counts: Counts
    score: Estimate | None
    """avg@k: mean over questions of the mean of their answers; None where nothing is graded."""
    pass_at: Mapping[int, Estimate] = field(default_factory=dict)
    """By k, in powers of two and the number of answers; of metrics that know right and wrong."""
    parts: Mapping[str, Mapping[str, Summary]] = field(default_factory=dict)
    """By split and part."""

    @property
    def refusal(self) -> str:
        """A warning of prompts that the server refused; empty without any."""
        if not self.counts.refused:
            return ""
        return (
            f"warning: {self.name}: the server refused {self.counts.refused:,} of {self.counts.answers:,} prompts, "
            "which fit the spec's context, as too long: its longest questions are not measured; serve the model with "
            "that context"
        )

    def to_json(self) -> dict[str, Any]:
        """The same for programs."""
        return {
            "name": self.name,
            "score": self.score and self.score.to_json(),
            "pass_at": {str(k): one.to_json() for k, one in self.pass_at.items()},
            "counts": asdict(self.counts),
            "parts": {
                split: {name: part.to_json() for name, part in parts.items()} for split, parts in self.parts.items()
            },
        }


def summaries(samples: Iterable[Sample]) -> list[Summary]:
    """A summary of each benchmark, in the order of the samples."""
    found: dict[str, list[Sample]] = {}
    for sample in samples:
        found.setdefault(sample.benchmark, []).append(sample)
    return [_summary(name, members, with_parts=True) for name, members in found.items()]


def _summary(name: str, samples: list[Sample], *, with_parts: bool) -> Summary:
    counts = Counts()
    for sample in samples:
        counts.add(sample)
    questions = list(scores(samples).values())
    most = max((len(q.values) for q in questions), default=0)
    is_binary = all(value in (0.0, 1.0) for q in questions for value in q.values)
    wanted = sorted({k for k in (*(2**i for i in range(1, 12)), most) if 1 < k <= most}) if is_binary else []
    chances = {k: one for k in wanted if (one := pass_at(k, questions)) is not None}
    parts: dict[str, dict[str, Summary]] = {}
    if with_parts:
        for split, names in splits(samples).items():
            inside: dict[str, list[Sample]] = {part: [] for part in names}
            for sample in samples:
                if split in sample.splits:
                    inside[sample.splits[split]].append(sample)
            if len(inside) > 1:
                parts[split] = {part: _summary(part, members, with_parts=False) for part, members in inside.items()}
    return Summary(name, counts, mean(questions), chances, parts)
