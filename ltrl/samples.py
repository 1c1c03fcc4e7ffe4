"""The training record: a question over documents, its answer and the evidence that leads there.

The JSON form is LongTraceRL's (`source, input_messages, label, metadata.extra_reward_info`); what ltrl adds stands
under `metadata` in keys of its own, so that files go both ways.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from ltrl.trajectories import Trajectory

__all__ = ["Passage", "Provenance", "Sample", "Tier"]

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
class Provenance:
    """How a sample was built; `metadata.provenance` of the record."""

    dataset: str
    """Name of the data set's spec."""
    corpus: str
    """SHA-256 of the corpus that it was built from."""
    path: tuple[str, ...]
    """Ids of the pages of the walk, the page with the answer last."""
    seed: int
    """Seed of everything random in this record."""
    strategy: str
    """How the documents beside the gold ones were chosen."""
    tokenizer: str
    """What counted the tokens: its name and, for a file, its hash."""
    num_tokens: int
    """Length of the prompt's text, without the chat template."""


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
    trajectory: Trajectory | None = None
    """How the agent answered the question, where known; `metadata.trajectory` of the record."""
    provenance: Provenance | None = None
    """How it was built, where known."""

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
        if self.trajectory:
            metadata["trajectory"] = self.trajectory.to_json()
        if self.provenance:
            metadata["provenance"] = asdict(self.provenance) | {"path": list(self.provenance.path)}
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
        messages = tuple(
            (_text(m["role"], f"input_messages[{place}].role"), m["content"])
            for place, m in enumerate(record["input_messages"])
        )
        if not messages or not all(isinstance(content, str) and content for _, content in messages):
            raise ValueError("`input_messages` needs at least one message, each with text as its content")
        if not isinstance(record["label"], str):
            raise TypeError("`label` is not a string")
        dataset_name = _text(info["dataset_name"], "metadata.extra_reward_info.dataset_name")
        named = _rubrics(info["rubrics"], are_chunks=dataset_name == "longrlvr")
        return cls(
            id=_id(metadata.get("id", default_id)),
            messages=messages,
            question=_text(info["question"], "metadata.extra_reward_info.question"),
            label=record["label"],
            rubrics=named,
            dataset_name=dataset_name,
            source=_text(record["source"], "source"),
            passages=tuple(
                _passage(d, f"metadata.documents[{place}]") for place, d in enumerate(metadata.get("documents", ()))
            ),
            aliases=_aliases(metadata.get("aliases", {}), named),
            trajectory=_trajectory(metadata.get("trajectory")),
            provenance=_provenance(metadata.get("provenance")),
        )


def _text(found: Any, name: str) -> str:
    if not isinstance(found, str):
        raise TypeError(f"`{name}` is not text")
    return found


def _id(found: Any) -> str:
    if not isinstance(found, str | int | float):
        raise TypeError("`metadata.id` is neither text nor a number")
    return str(found)


def _rubrics(found: Any, *, are_chunks: bool) -> tuple[str, ...]:
    name = "metadata.extra_reward_info.rubrics"
    if not isinstance(found, list):
        raise TypeError(f"`{name}` is not a list")
    for place, item in enumerate(found):
        is_number = isinstance(item, int) and not isinstance(item, bool)
        if not (isinstance(item, str) or (is_number and are_chunks)):
            numbers = "; numbers are chunks, which take `dataset_name: longrlvr`" if is_number else ""
            raise TypeError(f"`{name}[{place}]` is not text{numbers}")
    return tuple(map(str, found))


def _passage(found: Any, name: str) -> Passage:
    return Passage(
        id=_text(found["id"], f"{name}.id"),
        text=_text(found["text"], f"{name}.text"),
        tier=found["tier"],
        title=_text(found.get("title", ""), f"{name}.title"),
    )


def _trajectory(found: Any) -> Trajectory | None:
    if found is None:
        return None
    try:
        return Trajectory.from_json(found)
    except ValueError as error:
        raise ValueError(f"`metadata.trajectory`: {error}") from None


def _provenance(found: Any) -> Provenance | None:
    if found is None:
        return None
    if not isinstance(found, dict):
        raise TypeError("`metadata.provenance` is not an object")
    for field_ in fields(Provenance):
        kind, said = {
            "path": (list, "a list"),
            "seed": (int, "a whole number"),
            "num_tokens": (int, "a whole number"),
        }.get(field_.name, (str, "text"))
        if not isinstance(found.get(field_.name), kind):
            raise TypeError(f"`metadata.provenance.{field_.name}` is not {said}")
    known = {f.name: found[f.name] for f in fields(Provenance)}
    return Provenance(**{**known, "path": tuple(map(str, found["path"]))})


def _aliases(found: Any, entities: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    if not isinstance(found, dict) or not all(isinstance(names, list) for names in found.values()):
        raise TypeError("`metadata.aliases` is not an object of lists")
    for entity, names in found.items():
        if entity not in entities:
            raise ValueError(f"`metadata.aliases` has `{entity}`, which is no entity of the rubric")
        if not all(isinstance(name, str) for name in names):
            raise TypeError(f"`metadata.aliases` of `{entity}` has a name that is not text")
    return {entity: tuple(names) for entity, names in found.items()}
