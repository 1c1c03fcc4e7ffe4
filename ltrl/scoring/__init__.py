"""Scores, and what becomes of them in a group.

Everything that scores a response goes through here: the embedded engine, the environment inside NeMo-RL, the reward
server and offline re-scoring. Nothing here touches the network or the disk.
"""

from ltrl.scoring.fold import Folded, fold
from ltrl.scoring.group import GroupKind, Payments, advantages, group_kind, group_rewards, payments
from ltrl.scoring.judged import EntityReward, JudgedReward, Text, entity_recall, score_responses, scored_text, zeroed
from ltrl.scoring.match import Matcher, MatcherName, ReferenceMatcher, WordsMatcher, is_findable, matcher, recall
from ltrl.scoring.reference import normalize
from ltrl.scoring.response import CHAT_FORMATS, ChatFormat, chat_format, chat_format_owner, chat_formats, parse_response
from ltrl.scoring.score import (
    Hit,
    JudgeRequest,
    Normalisation,
    Response,
    Scope,
    Score,
    ScoreRequest,
    Status,
    Verdict,
)
from ltrl.scoring.words import tokens

__all__ = [
    "CHAT_FORMATS",
    "ChatFormat",
    "EntityReward",
    "Folded",
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
    "Verdict",
    "WordsMatcher",
    "advantages",
    "chat_format",
    "chat_format_owner",
    "chat_formats",
    "entity_recall",
    "fold",
    "group_kind",
    "group_rewards",
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
