"""What rewards that ask a judge have in common: options, what is not judged at all, which text is scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from pydantic import Field

from ltrl.backend import JudgeBackend, JudgeChoice, RewardSection
from ltrl.errors import LtrlError, fail
from ltrl.scoring.score import Hit, JudgeRequest, MatcherName, Response, Score, ScoreRequest, Verdict

__all__ = [
    "EntityReward",
    "JudgedReward",
    "Part",
    "Text",
    "entity_recall",
    "score_responses",
    "scored_text",
    "zeroed",
]

Text = Literal["answer", "reasoning", "both"]
Handling = Literal["zero", "score"]


class JudgedReward(RewardSection):
    """Options of a reward that asks a judge, and which responses get 0 without one."""

    judge: JudgeChoice = Field(default="exact", validate_default=True)
    """Who decides whether the answer is right."""

    ill_formed: Handling = "zero"
    """A response that breaks its chat format: `zero`, or `score` its answer all the same."""
    truncated: Handling = "zero"
    """A response cut at the length limit: `zero`, or `score` the part of the answer that was written."""
    aborted: Handling = "zero"
    """A response that the rollout engine gave up: `zero`, or `score` the part of the answer that was written."""


class EntityReward(JudgedReward):
    """Options of a reward that also looks for entities."""

    matcher: MatcherName = "words"
    """How entities are found: `words`, whole words in every script; `reference`, LongTraceRL's substring match."""
    accents: Literal["ignore", "keep"] = "ignore"
    """Whether `Beyonce` is `Beyoncé`; only with `matcher: words`."""
    text: Text = "answer"
    """Where entities are looked for."""


def zeroed(response: Response, options: JudgedReward) -> str:
    """Why a response gets 0 without being judged, or an empty string; a response without an answer always does."""
    if response.status == "truncated" and (options.truncated == "zero" or not response.content):
        return "truncated"
    if response.status == "aborted" and (options.aborted == "zero" or not response.content):
        return "aborted"
    if response.is_ill_formed and (options.ill_formed == "zero" or not response.content):
        return "ill-formed"
    return "" if response.content else "empty"


def scored_text(response: Response, text: Text) -> str:
    """The part of a response in which entities are looked for; spans of hits count in it."""
    reasoning, answer = response.reasoning or "", response.content or ""
    match text:
        case "answer":
            return answer
        case "reasoning":
            return reasoning
        case "both":
            return f"{reasoning}\n\n{answer}"


Part = tuple[float, tuple[Hit, ...]]
"""A rubric's value for a response and the hits that explain it."""


def score_responses(
    requests: Sequence[ScoreRequest],
    options: JudgedReward,
    *,
    judge: JudgeBackend | None,
    rubric: Callable[[ScoreRequest], Part],
) -> list[Score]:
    """One score for each request, in their order; the judge is asked once for all that are not zeroed.

    Without a judge no outcome is known and every one counts as 0.
    """
    reasons = [zeroed(request.response, options) for request in requests]
    asked = [request for request, reason in zip(requests, reasons, strict=True) if not reason]
    parts = [rubric(request) for request in asked]
    verdicts: Sequence[Verdict | None] = [None] * len(asked)
    if judge is not None and asked:
        verdicts = judge.judge([JudgeRequest(r.question, r.label, r.response.content or "") for r in asked])
    judged = iter(zip(parts, verdicts, strict=True))
    return [Score(0.0, 0.0, zeroed=reason) if reason else _score(*next(judged)) for reason in reasons]


def _score(part: Part, verdict: Verdict | None) -> Score:
    rubric, hits = part
    if verdict is None:
        return Score(0.0, rubric, hits=hits)
    outcome = None if verdict.is_correct is None else float(verdict.is_correct)
    return Score(outcome, rubric, verdict, hits)


def entity_recall(options: EntityReward) -> Callable[[ScoreRequest], Part]:
    """The share of a request's entities that the scored part of its response names, with the hits."""
    from ltrl.scoring.match import matcher, recall

    find = matcher(options.matcher, ignore_accents=options.accents == "ignore")

    def part(request: ScoreRequest) -> Part:
        try:
            hits = find.hits(scored_text(request.response, options.text), request.rubrics, request.aliases)
        except LtrlError as error:  # the matcher knows no samples
            [found] = error.diagnostics
            message = f"{found.message}, in sample `{request.group}`"
            raise fail(found.code, message, hint=found.hint) from None
        return recall(hits), hits

    return part
