"""Scores, and what becomes of them in a group.

Everything that scores a response goes through here: the embedded engine, the environment inside NeMo-RL, the reward
server and offline re-scoring. Nothing here touches the network or the disk.
"""

from ltrl.scoring.fold import Folded, fold
from ltrl.scoring.group import GroupKind, advantages, group_kind, group_rewards
from ltrl.scoring.judged import EntityReward, JudgedReward, entity_recall, score_responses, scored_text, zeroed
from ltrl.scoring.match import Matcher, MatcherName, ReferenceMatcher, WordsMatcher, matcher, recall
from ltrl.scoring.reference import normalize
from ltrl.scoring.response import ChatFormat, chat_format, chat_formats, parse_response, register_chat_format
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
    "ReferenceMatcher",
    "Response",
    "Scope",
    "Score",
    "ScoreRequest",
    "Status",
    "Verdict",
    "WordsMatcher",
    "advantages",
    "chat_format",
    "chat_formats",
    "entity_recall",
    "fold",
    "group_kind",
    "group_rewards",
    "matcher",
    "normalize",
    "parse_response",
    "recall",
    "register_chat_format",
    "score_responses",
    "scored_text",
    "tokens",
    "zeroed",
]
