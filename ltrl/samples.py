"""The training record: a question over documents, its answer and the evidence that leads there.

The JSON form is LongTraceRL's (`source, input_messages, label, metadata.extra_reward_info`); what ltrl adds stands
under `metadata` in keys of its own, so that files go both ways.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Passage", "Sample"]

Tier = Literal["gold", "tier-1", "tier-2"]


@dataclass(frozen=True, slots=True)
class Passage:
    """One document of a prompt."""

    id: str
    text: str
    tier: Tier
    """`gold`: on the path to the answer; `tier-1`: opened by the agent, not cited; `tier-2`: seen, never opened."""
    title: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """A prompt with what is needed to score its responses."""

    id: str
    """Unique within its data set; the group of one prompt's responses carries it."""
    messages: tuple[tuple[str, str], ...]
    """(role, content) of each message, the documents and the question included."""
    question: str
    label: str
    """The right answer."""
    rubrics: tuple[str, ...]
    """Gold entities; for `dataset_name: longrlvr` the ids of gold chunks as decimal strings."""
    dataset_name: str = "longqa"
    source: str = "longqa"
    passages: tuple[Passage, ...] = ()
    """The documents of the prompt in their order, where known."""
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Other names of rubric entities, by entity; `metadata.aliases` of the record."""

    def to_json(self) -> dict[str, Any]:
        """The record as LongTraceRL writes it; `from_json` gives this sample back."""
        metadata: dict[str, Any] = {
            "id": self.id,
            "extra_reward_info": {
                "question": self.question,
                "rubrics": list(self.rubrics),
                "dataset_name": self.dataset_name,
            },
        }
        if self.passages:
            metadata["documents"] = [
                {"id": p.id, "title": p.title, "tier": p.tier, "text": p.text} for p in self.passages
            ]
        if self.aliases:
            metadata["aliases"] = {entity: list(names) for entity, names in self.aliases.items()}
        return {
            "source": self.source,
            "input_messages": [{"role": role, "content": content} for role, content in self.messages],
            "label": self.label,
            "metadata": metadata,
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any], *, default_id: str) -> Sample:
        """The sample in a LongTraceRL record; `default_id` names one that has no `metadata.id`.

        Raises ValueError, KeyError or TypeError saying what is missing or of the wrong type; callers know which line
        of which file it was.
        """
        metadata = record["metadata"]
        info = metadata["extra_reward_info"]
        messages = tuple((str(m["role"]), m["content"]) for m in record["input_messages"])
        rubrics = info["rubrics"]
        if not messages or not all(isinstance(content, str) and content for _, content in messages):
            raise ValueError("`input_messages` needs at least one message, each with text as its content")
        if not isinstance(record["label"], str):
            raise TypeError("`label` is not a string")
        if not isinstance(rubrics, list):
            raise TypeError("`metadata.extra_reward_info.rubrics` is not a list")
        named = tuple(str(r) for r in rubrics)
        return cls(
            id=str(metadata.get("id", default_id)),
            messages=messages,
            question=str(info["question"]),
            label=record["label"],
            rubrics=named,
            dataset_name=str(info["dataset_name"]),
            source=str(record["source"]),
            passages=tuple(
                Passage(str(d["id"]), str(d["text"]), d["tier"], str(d.get("title", "")))
                for d in metadata.get("documents", ())
            ),
            aliases=_aliases(metadata.get("aliases", {}), named),
        )


def _aliases(found: Any, entities: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    if not isinstance(found, dict) or not all(isinstance(names, list) for names in found.values()):
        raise TypeError("`metadata.aliases` is not an object of lists")
    for entity, names in found.items():
        if entity not in entities:
            raise ValueError(f"`metadata.aliases` has `{entity}`, which is no entity of the rubric")
        if not all(isinstance(name, str) for name in names):
            raise TypeError(f"`metadata.aliases` of `{entity}` has a name that is not text")
    return {entity: tuple(names) for entity, names in found.items()}
