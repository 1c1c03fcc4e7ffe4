"""Scores, and what becomes of them in a group.

Everything that scores a response goes through here: the embedded engine, the environment inside NeMo-RL, the reward
server and offline re-scoring. Nothing here touches the network or the disk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ltrl import deferred
from ltrl.scoring.group import GroupKind, Payments, advantages, group_kind, group_rewards, payments
from ltrl.scoring.judged import EntityReward, JudgedReward, Text, entity_recall, score_responses, scored_text, zeroed
from ltrl.scoring.response import (
    CHAT_FORMATS,
    ChatFormat,
    chat_format,
    chat_format_owner,
    chat_formats,
    is_chat_format,
    parse_response,
)
from ltrl.scoring.score import (
    Hit,
    JudgeRequest,
    MatcherName,
    Normalisation,
    Response,
    Scope,
    Score,
    ScoreRequest,
    Status,
    Usage,
    Verdict,
)

if TYPE_CHECKING:
    from ltrl.scoring.match import Matcher, ReferenceMatcher, WordsMatcher, is_findable, matcher, recall
    from ltrl.scoring.reference import normalize
    from ltrl.scoring.words import tokens
else:  # their patterns take longer to compile than a spec to check
    __getattr__ = deferred.names(
        __name__,
        {
            "match": ("Matcher", "ReferenceMatcher", "WordsMatcher", "is_findable", "matcher", "recall"),
            "reference": ("normalize",),
            "words": ("tokens",),
        },
    )

__all__ = [
    "CHAT_FORMATS",
    "ChatFormat",
    "EntityReward",
    "GroupKind",
    "Hit",
    "JudgeRequest",
    "JudgedReward",
    "Matcher",
    "MatcherName",
    "Normalisation",
    "Payments",
    "ReferenceMatcher",
    "Response",
    "Scope",
    "Score",
    "ScoreRequest",
    "Status",
    "Text",
    "Usage",
    "Verdict",
    "WordsMatcher",
    "advantages",
    "chat_format",
    "chat_format_owner",
    "chat_formats",
    "entity_recall",
    "group_kind",
    "group_rewards",
    "is_chat_format",
    "is_findable",
    "matcher",
    "normalize",
    "parse_response",
    "payments",
    "recall",
    "score_responses",
    "scored_text",
    "tokens",
    "zeroed",
]
