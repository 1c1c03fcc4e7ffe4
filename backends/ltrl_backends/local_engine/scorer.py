"""From sampled token ids to rewards as every engine does it: `ltrl.scoring` parses, the reward backend scores."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ltrl import outage
from ltrl.samples import Sample
from ltrl.scoring import Response, Score, ScoreRequest, parse_response

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from ltrl.backend import Outage, RewardBackend

__all__ = ["Scored", "Scorer"]


@dataclass(frozen=True, slots=True)
class Scored:
    """One response with its score."""

    sample: Sample
    token_ids: tuple[int, ...]
    response: Response
    score: Score
    reward: float | None
    """None when unjudged."""


class Scorer:
    """Scores sampled responses, group by group."""

    def __init__(
        self,
        reward: RewardBackend,
        tokenizer: PreTrainedTokenizerBase,
        *,
        end_tokens: Set[int],
        chat_format: str,
        outage: Outage,
    ) -> None:
        self.reward = reward
        self.outage = outage
        self.tokenizer = tokenizer
        self.end_tokens = end_tokens
        self.chat_format = chat_format

    def score(
        self, samples: Sequence[Sample], completions: Sequence[Sequence[int]], *, group_size: int
    ) -> list[Scored]:
        """One scored response for each completion (token ids up to and with an end token), in their order.

        `samples` holds each response's sample; every `group_size` neighbours answer the same one. A completion without
        an end token was cut at the limit.
        """
        responses = [self._parse(ids) for ids in completions]
        scores = outage.score(self.reward, list(map(ScoreRequest.of, samples, responses)), self.outage)
        rewards: list[float | None] = []
        for start in range(0, len(scores), group_size):
            rewards += self.reward.rewards(scores[start : start + group_size])
        rows = zip(samples, map(tuple, completions), responses, scores, rewards, strict=True)
        return [Scored(*row) for row in rows]

    def _parse(self, ids: Sequence[int]) -> Response:
        is_truncated = not ids or ids[-1] not in self.end_tokens
        text = self.tokenizer.decode(list(ids), skip_special_tokens=False)
        assert isinstance(text, str)  # a list of ids gives one text
        return parse_response(text, chat_format=self.chat_format, is_truncated=is_truncated)
