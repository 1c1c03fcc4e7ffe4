"""`POST /evaluate`: the protocol of LongTraceRL's reward server, so that a training with slime can use this one.

Matcher and judge are the spec's; eta, kind of data and scored text come with each request, as that client sends them.
Two answers differ on purpose: what cannot be read is 422 and names the field, where the reference says 500 and is asked
ten times more; and an answer that no judge judged is 503, where the reference says that it was wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from ltrl.backend import JudgeBackend, RewardSection, create, load
from ltrl.scoring import (
    EntityReward,
    JudgedReward,
    JudgeRequest,
    Response,
    Score,
    ScoreRequest,
    Verdict,
    group_rewards,
    matcher,
    recall,
)

__all__ = ["Evaluation", "Evaluator"]

_LONGRLVR = "longrlvr"
_OPEN, _CLOSE = "<think>", "</think>"


class _Wire(BaseModel):
    """Other fields are let through: the client sends everything that it knows of a sample."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)


class Message(_Wire):
    """One turn."""

    role: str
    """`assistant` for the policy's own."""
    content: Any = ""
    """What it says: a text where it is read."""
    reasoning_content: Any = ""
    """What it thought before: a text where it is read."""


class ExtraRewardInfo(_Wire):
    """What a sample is scored against, and how."""

    question: str | None = None
    """What was asked; the judge needs it."""
    rubrics: tuple[str | int, ...] = ()
    """Entities, or chunk numbers with `dataset_name: longrlvr`."""
    dataset_name: str = ""
    """`longrlvr` chooses its formula; every other name the rubric's."""
    rubric_reward_ratio: float
    """eta: below 1 the judge is asked, above 0 the rubric is looked for."""
    rubric_use_reasoning_content: bool | None = None
    """Look for the rubric in the reasoning."""
    rubric_use_content: bool | None = None
    """Look for the rubric in the answer."""

    @model_validator(mode="after")
    def _is_complete(self) -> ExtraRewardInfo:
        needed = {"question": self.rubric_reward_ratio < 1}
        needed |= dict.fromkeys(("rubric_use_reasoning_content", "rubric_use_content"), self.rubric_reward_ratio > 0)
        if missing := [name for name, is_needed in needed.items() if is_needed and getattr(self, name) is None]:
            listed = ", ".join(f"`{name}`" for name in missing)
            raise PydanticCustomError("missing", "{listed} missing with this rubric_reward_ratio", {"listed": listed})
        if self.dataset_name != _LONGRLVR and any(isinstance(entity, int) for entity in self.rubrics):
            raise PydanticCustomError("rubrics", "`rubrics` are texts unless `dataset_name` is longrlvr")
        return self


class Evaluation(_Wire):
    """A request."""

    label: str
    """The right answer."""
    history: tuple[Message, ...] | None = Field(default=None, min_length=1)
    """The conversation; the last turn is judged, and the rubric is looked for in every turn of the policy."""
    response: str | None = None
    """The policy's text, where there is no history."""
    extra_reward_info: ExtraRewardInfo
    """The rest."""

    @model_validator(mode="after")
    def _has_a_response(self) -> Evaluation:
        if self.history is None and self.response is None:
            raise PydanticCustomError("missing", "either `history` or `response` is required")
        return self

    @model_validator(mode="after")
    def _reads_texts(self) -> Evaluation:
        turns = self.turns()
        wrong = [
            InitErrorDetails(type="string_type", loc=("history", place, name), input=found)
            for place, name in dict.fromkeys(self._read())
            if not isinstance(found := getattr(turns[place], name), str)
        ]
        if wrong:
            raise ValidationError.from_exception_data(type(self).__name__, wrong)
        return self

    def turns(self) -> Sequence[Message]:
        """The conversation; a bare response is split at its first `</think>`."""
        if self.history is not None:
            return self.history
        text = self.response or ""
        if _CLOSE not in text:
            return [Message(role="assistant", content=text)]
        reasoning, _, content = text.partition(_CLOSE)
        return [Message(role="assistant", reasoning_content=reasoning.removeprefix(_OPEN), content=content)]

    def is_answered(self) -> bool:
        """Whether the policy has the last word; of another conversation nothing is read."""
        if self.history is None:
            return True
        last = self.history[-1]
        return last.role == "assistant" and "content" in last.model_fields_set

    def judged_text(self) -> str:
        """What the judge is shown, before it takes what follows the last `</think>`."""
        return str(self.response if self.history is None else self.history[-1].content)

    def scored_text(self) -> str:
        """Where the rubric is looked for."""
        turns = self.turns()
        return "".join(f"\n\n{getattr(turns[place], name).strip()}" for place, name in self._scored())

    def _scored(self) -> Iterator[tuple[int, str]]:
        """(turn, field) of every text that the rubric is looked for in."""
        info = self.extra_reward_info
        flags = {"reasoning_content": info.rubric_use_reasoning_content, "content": info.rubric_use_content}
        used = [name for name, is_used in flags.items() if is_used]
        for place, turn in enumerate(self.turns()):
            if turn.role == "assistant":
                yield from ((place, name) for name in used if name in turn.model_fields_set)

    def _read(self) -> Iterator[tuple[int, str]]:
        """(turn, field) of every text that is read."""
        if not self.is_answered():
            return
        if self.extra_reward_info.rubric_reward_ratio > 0:
            yield from self._scored()
        if self.extra_reward_info.rubric_reward_ratio < 1:
            yield len(self.turns()) - 1, "content"


class Evaluator:
    """Answers evaluations with a spec's matcher and judge."""

    def __init__(self, section: RewardSection) -> None:
        judge = section.judge if isinstance(section, JudgedReward) else None
        self._judge: JudgeBackend | None = create(judge) if judge is not None else None
        self._find = matcher("words")
        if isinstance(section, EntityReward):
            self._find = matcher(section.matcher, ignore_accents=section.accents == "ignore")
        # With eta 1 it asks no judge: what is left is the share of the chunks.
        self._chunks: Any = create(load("reward", _LONGRLVR).Options(backend=_LONGRLVR, eta=1.0))

    def evaluate(self, request: Evaluation) -> tuple[dict[str, float] | None, Verdict | None]:
        """The three rewards, and what the judge said; None when it said nothing. Raises LtrlError for a bad rubric."""
        info = request.extra_reward_info
        if not request.is_answered():
            return {"reward": 0.0, "outcome_reward": 0.0, "rubric_reward": 0.0}, None
        eta = info.rubric_reward_ratio
        rubric = self._rubric(request) if eta > 0 else 0.0
        verdict = None
        if eta < 1:
            verdict = self._verdict(JudgeRequest(info.question or "", request.label, request.judged_text()))
            if verdict.is_correct is None:
                return None, verdict
        outcome = float(verdict is not None and bool(verdict.is_correct))
        formula: Any = "longrlvr" if info.dataset_name == _LONGRLVR else "mix"
        score = Score(outcome, rubric)
        [reward] = group_rewards([score], eta=eta, scope="all", normalisation="none", formula=formula)
        assert reward is not None  # it is judged
        return {"reward": reward, "outcome_reward": outcome, "rubric_reward": rubric}, verdict

    def _verdict(self, request: JudgeRequest) -> Verdict:
        if self._judge is None:
            return Verdict(None, "the spec's reward has no judge")
        [verdict] = self._judge.judge([request])
        return verdict

    def _rubric(self, request: Evaluation) -> float:
        text, rubrics = request.scored_text(), tuple(map(str, request.extra_reward_info.rubrics))
        if request.extra_reward_info.dataset_name != _LONGRLVR:
            return recall(self._find.hits(text, rubrics))
        response = Response(None, text, is_ill_formed=False, status="completed")
        [score] = self._chunks.score([ScoreRequest("", "", request.label, rubrics, response, _LONGRLVR)])
        return float(score.rubric)
