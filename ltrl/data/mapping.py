"""Records of other schemas, read as LongTraceRL's: which of their fields is what."""

from __future__ import annotations

from typing import Any

from ltrl.backend import Model

__all__ = ["Fields", "mapped"]


class Fields(Model):
    """Where a record keeps what a sample needs: the dotted path of each field; by default where LongTraceRL does."""

    messages: str = "input_messages"
    """The prompt: a list of messages with `role` and `content`, or a text, which the user says."""
    question: str = "metadata.extra_reward_info.question"
    """The question alone, for the judge."""
    label: str = "label"
    """The right answer: a text or a number."""
    rubrics: str | None = "metadata.extra_reward_info.rubrics"
    """The list of gold entities; null for data without any."""
    id: str | None = "metadata.id"
    """What tells records apart; by default the line where a record has none."""
    documents: str | None = "metadata.documents"
    """The list of documents, each with `id`, `text`, `tier` and `title`; null for data that list none."""
    dataset_name: str = "longqa"
    """What all records are taken for; `longrlvr` has numbers of chunks as rubrics."""


def mapped(record: Any, fields: Fields) -> Any:
    """The record in LongTraceRL's schema; what is not there stays away, and what is no record stays as it is."""
    if not isinstance(record, dict):
        return record
    own = record.get("metadata")
    kept = {key: own[key] for key in ("aliases", "trajectory", "provenance") if isinstance(own, dict) and key in own}
    label, messages = _at(record, fields.label), _at(record, fields.messages)
    rubrics = _at(record, fields.rubrics) if fields.rubrics else []
    is_number = isinstance(label, int | float) and not isinstance(label, bool)
    info = {"question": _at(record, fields.question), "rubrics": rubrics, "dataset_name": fields.dataset_name}
    metadata = {**kept, "extra_reward_info": info}
    for key, path in (("id", fields.id), ("documents", fields.documents)):
        if path and (value := _at(record, path)) is not None:
            metadata[key] = value
    return {
        "source": record.get("source", fields.dataset_name),
        "input_messages": [{"role": "user", "content": messages}] if isinstance(messages, str) else messages,
        "label": str(label) if is_number else label,
        "metadata": metadata,
    }


def _at(record: Any, path: str) -> Any:
    """What stands at a dotted path; None where nothing does."""
    for step in path.split("."):
        record = record.get(step) if isinstance(record, dict) else None
    return record
