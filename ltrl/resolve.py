"""From what an author wrote to a description with nothing left open, each value with its origin."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ltrl.backend import EngineSection, Grade
from ltrl.backend.models import graded
from ltrl.catalog import ModelCard
from ltrl.errors import Code, Diagnostic, Position, fail, raise_if_any
from ltrl.names import close_to
from ltrl.scoring import chat_formats, is_chat_format
from ltrl.source import Document, Keys, walk
from ltrl.spec import ClusterProfile, Experiment

__all__ = ["Lengths", "Resolved", "derived", "origins", "positions", "resolve"]


@dataclass(frozen=True, slots=True)
class Lengths:
    """Longest texts of a run, in tokens."""

    prompt: int
    response: int
    total: int


@dataclass(frozen=True)
class Resolved:
    """A spec together with everything it refers to."""

    spec: Experiment
    card: ModelCard
    lengths: Lengths
    chat_format: str
    """Name of the response format, never `auto`."""
    cluster: ClusterProfile
    cluster_name: str
    fingerprint: str
    """SHA-256, in hex, of every field that changes what is learned."""
    document: Document
    cluster_document: Document | None
    """None for the built-in profile `local`."""

    @property
    def engine(self) -> EngineSection:
        """The chosen training system's options."""
        return self.spec.engine

    def at(self, path: str) -> Position:
        """Where a field, given by its dotted path, was written, or the nearest thing around it.

        Paths below `cluster.` are those of the cluster profile.
        """
        keys: Keys = tuple(int(step) if step.isdecimal() else step for step in path.split("."))
        if keys[0] == "cluster" and self.cluster_document:
            return self.cluster_document.at(keys[1:])
        return self.document.at(keys)

    @property
    def positions(self) -> dict[str, Position | None]:
        """Where the value of each field was written; None for one that was not."""
        found = dict(positions(self.spec.model_dump(mode="json"), self.document, ""))
        if self.cluster_document:
            found |= positions(self.cluster.model_dump(mode="json"), self.cluster_document, "cluster.")
        return found

    @property
    def origins(self) -> dict[str, str]:
        """Where the value of each field comes from: `file:line`, `default`, `model card`."""
        found = dict(origins(self.spec.model_dump(mode="json"), self.document))
        if self.spec.model.chat_format == "auto":
            found["model.chat_format"] = "model card"
        if self.cluster_document:
            found |= origins(self.cluster.model_dump(mode="json"), self.cluster_document, "cluster.")
        return found

    def to_json(self) -> dict[str, Any]:
        """Everything, as the bundle's `resolved.json` holds it."""
        return {
            "fingerprint": self.fingerprint,
            "spec": self.spec.model_dump(mode="json"),
            "lengths": {"prompt": self.lengths.prompt, "response": self.lengths.response, "total": self.lengths.total},
            "chat_format": self.chat_format,
            "model_card": asdict(self.card),
            "cluster": {"name": self.cluster_name, **self.cluster.model_dump(mode="json")},
            "origins": self.origins,
        }


def resolve(
    spec: Experiment,
    document: Document,
    *,
    card: ModelCard,
    cluster: ClusterProfile,
    cluster_name: str,
    cluster_document: Document | None = None,
) -> Resolved:
    """The spec with its references filled in; raises LtrlError with everything that contradicts itself."""
    context = spec.model.context
    total = context.total or context.prompt + context.response
    chat_format = card.chat_format if spec.model.chat_format == "auto" else spec.model.chat_format
    if not is_chat_format(chat_format):
        named = ", ".join(f"`{known}`" for known in ("auto", *chat_formats()))
        place = document.at(("model", "chat_format"))
        hint = close_to(chat_format, ("auto", *chat_formats())) or f"installed: {named}"
        raise fail(Code.INVALID_VALUE, f"unknown chat format `{chat_format}`", place, hint=hint)
    resolved = Resolved(
        spec=spec,
        card=card,
        lengths=Lengths(context.prompt, context.response, total),
        chat_format=chat_format,
        cluster=cluster,
        cluster_name=cluster_name,
        fingerprint=_fingerprint(spec, card),
        document=document,
        cluster_document=cluster_document,
    )
    raise_if_any(_contradictions(resolved))
    return resolved


def derived(spec: Mapping[str, Any], card: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """For each field that may be left open: how that is written, and the value that it stands for.

    By dotted path; spec and card are those of `Resolved.to_json`. Writing the value out changes nothing.
    """
    context, algorithm = spec["model"]["context"], spec["algorithm"]
    found = {
        "model.context.total": (None, context["prompt"] + context["response"]),
        "model.chat_format": ("auto", card["chat_format"]),
        "algorithm.batch_size": (None, algorithm["prompts_per_step"] * algorithm["group_size"]),
        "rollout.stop_token_ids": (None, list(card["stop_token_ids"])),
    }
    if spec["optimizer"]["schedule"] != "constant":
        found["optimizer.min_lr"] = (None, 0.0)
    return found


def positions(dump: Mapping[str, Any], document: Document, prefix: str = "") -> Iterator[tuple[str, Position | None]]:
    """(dotted path, where it was written) of every leaf of a model's dump; None for one that was not."""
    for path, _ in walk(dump):
        yield prefix + ".".join(str(step) for step in path), document.written(path)


def origins(dump: Mapping[str, Any], document: Document, prefix: str = "") -> Iterator[tuple[str, str]]:
    """(dotted path, where its value comes from) of every leaf of a model's dump: `file:line`, `default`."""
    for path, value in walk(dump):
        told = "default"
        if found := document.read(path):
            position, raw = found
            told = position.label
            if isinstance(raw, str) and raw != value and "${" in raw:
                told += f", from {raw}"
        yield prefix + ".".join(map(str, path)), told


def _fingerprint(spec: Experiment, card: ModelCard) -> str:
    learned = {path: value for path, grade, value in graded(spec) if grade is Grade.NEW_RUN}
    for path, (open_, value) in derived(spec.model_dump(mode="json"), asdict(card)).items():
        written = learned[path]
        if (list(written) if isinstance(written, tuple) else written) == value:
            learned[path] = open_
    return hashlib.sha256(json.dumps(learned, sort_keys=True).encode()).hexdigest()


def _contradictions(resolved: Resolved) -> Iterable[Diagnostic]:
    spec, lengths = resolved.spec, resolved.lengths
    context = spec.model.context
    if lengths.prompt + lengths.response > lengths.total:
        yield Diagnostic(
            Code.INVALID_VALUE,
            f"`context.total` is {lengths.total}, less than prompt {lengths.prompt} + response {lengths.response} = "
            f"{lengths.prompt + lengths.response}",
            resolved.at("model.context.total"),
            "leave `total` out: it is the sum by default",
        )
    longest = resolved.card.max_positions
    if lengths.total > longest:
        field = "model.context.total" if context.total else "model.context"
        yield Diagnostic(
            Code.CONTEXT_TOO_LONG,
            f"a context of {lengths.total} tokens is longer than the {longest} positions of `{spec.model.base}`",
            resolved.at(field),
            f"make prompt + response at most {longest}, or extend the model with `model.overrides` "
            "(`max_position_embeddings` and `rope_scaling`)",
        )
    clip = spec.algorithm.advantage
    if clip.clip_low is not None and clip.clip_high is not None and clip.clip_low > clip.clip_high:
        yield Diagnostic(
            Code.INVALID_VALUE,
            f"`advantage.clip_low` {clip.clip_low:g} is above `clip_high` {clip.clip_high:g}",
            resolved.at("algorithm.advantage.clip_low"),
            "lower `clip_low` or raise `clip_high`",
        )
    samples = spec.algorithm.prompts_per_step * spec.algorithm.group_size
    batch = spec.algorithm.batch_size
    if batch is not None and samples % batch:
        yield Diagnostic(
            Code.INVALID_VALUE,
            f"a step's {spec.algorithm.prompts_per_step} prompts x {spec.algorithm.group_size} responses = {samples} "
            f"samples do not divide into updates of {batch}",
            resolved.at("algorithm.batch_size"),
            "leave `batch_size` out: one update per step is the default",
        )
    cluster = resolved.cluster
    if cluster.gpus_per_node and (spec.rollout.nodes or 0) >= cluster.nodes:
        yield Diagnostic(
            Code.LAYOUT,
            f"`rollout.nodes` takes {spec.rollout.nodes} of the cluster's {cluster.nodes} nodes, none is left to train",
            resolved.at("rollout.nodes"),
            "leave nodes to train, or leave `rollout.nodes` out: training and generation then take turns",
        )
