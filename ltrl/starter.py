"""A first spec for a model, a machine and data: short, explained line by line, and sure to fit."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ltrl import catalog, plan, source
from ltrl.backend import Choice, backends, create, load
from ltrl.catalog import ModelCard
from ltrl.compile import resolved_document
from ltrl.dump import dump, tokens
from ltrl.errors import Code, LtrlError, Source, fail
from ltrl.source import Keys

__all__ = ["Machine", "Starter", "starter"]

LONGEST = 160 * 1024
"""Tokens of a first spec's longest sequence: the paper's."""
SHORTEST = 4 * 1024
"""A first spec that has no room for so many tokens is none for long contexts."""
SMALL = 145
"""Tokens of a sequence on a machine without GPUs: those of specs/quickstart.yaml."""
RECORDS = "longtrace"
"""The data backend for a file, where it is installed: it reads the records of `ltrl data build` and of LongTraceRL."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a run is to take place."""

    nodes: int = 1
    gpus_per_node: int = 8
    """0 for a machine without GPUs."""
    gpu_memory_gb: float = 80.0


@dataclass(frozen=True, slots=True)
class Starter:
    """The texts of a spec and of its cluster profile, which `ltrl check` accepts together."""

    spec: str
    cluster: str


def starter(name: str, *, model: str, machine: Machine, data: str, project: Path, out: Path | None = None) -> Starter:
    """A commented spec whose layout the planner has chosen, with the longest context that fits.

    `data` is the name of a data backend that needs no options, or the path of a file; `out` is the file that the spec
    is for, by which mistakes name it. Raises LtrlError for a model that is not known and for one that does not fit even
    with a short context.
    """
    card = catalog.find(model, project=project)
    engine = _engine("ray" if machine.gpus_per_node else "process")
    profile = _profile(machine)
    problem: LtrlError | None = None
    section = _data(data)
    for prompt, response, tensor in _choices(card, machine.gpus_per_node):
        spec: dict[str, Any] = {
            "kind": "experiment",
            "name": name,
            "model": {"base": model, "context": {"prompt": tokens(prompt), "response": tokens(response)}},
            "data": {"train": section},
            **_method(machine.gpus_per_node > 0, tensor),
            "engine": {"name": engine},
        }
        sources = Source(str(out or name), dump(spec)), Source("cluster", dump(profile))
        documents = [source.parse(one) for one in sources]
        try:
            planned = plan.plan(
                resolved_document(documents[0], project=project, cluster=documents[1], cluster_name=name)
            )
        except LtrlError as error:
            problem = error
            continue
        notes = dict(_ABOVE)
        if planned.memory:
            layout, left = planned.layout, planned.memory.headroom / 2**30
            sizes = {"tensor": layout.tp, "pipeline": layout.pp, "context": layout.cp}
            spec["parallelism"] = sizes | ({"expert": layout.ep} if card.num_experts else {})
            spec["engine"] = spec.pop("engine")  # last, as in the reference
            notes[("parallelism",)] = (
                f"The first layout that fits, {left:.0f} GiB of each GPU to spare; `ltrl plan --search` lists others."
            )
        return Starter(dump(spec, notes=_behind(spec), above=notes), dump(profile, notes=_OF_CLUSTER))
    assert problem is not None
    raise problem


def _choices(card: ModelCard, gpus: int) -> Iterator[tuple[int, int, int]]:
    """Prompt and response from the longest down, each with rollout engines of one GPU up to a whole node."""
    total = min(LONGEST if gpus else SMALL, card.max_positions)
    shortest = min(SHORTEST if gpus else SMALL, card.max_positions)
    while total >= shortest:
        response = 1 << ((total // 5).bit_length() - 1) if gpus else total - 128
        prompt = (total - response) // 1024 * 1024 or total - response
        for tensor in (size for size in (1, 2, 4, 8) if size <= max(1, gpus)):
            yield prompt, response, tensor
        total //= 2


def _method(is_large: bool, tensor: int) -> dict[str, Any]:
    """Reward, algorithm, optimizer and rollouts: the paper's, or those of the embedded engine's small model."""
    if not is_large:
        return {
            "reward": {"backend": "rubric", "judge": {"backend": "exact", "answer_pattern": "answer (.+)$"}},
            "algorithm": {"steps": 80, "prompts_per_step": 8},
            "optimizer": {"lr": 7e-4, "warmup_steps": 5},
        }
    correction = {"kind": "icepop", "low": 0.5, "high": 2.0}
    return {
        "reward": {"backend": "rubric", "judge": "exact"},
        "algorithm": {"steps": 200, "prompts_per_step": 16, "importance_correction": correction},
        "optimizer": {"lr": 2e-6},
        "rollout": {"parallelism": {"tensor": tensor}},
    }


def _engine(runtime: str) -> str:
    """The first engine that runs in this way."""
    for info in backends():
        if info.kind == "engine" and create(Choice("engine", "name").choose(info.name)).runtime == runtime:
            return info.name
    raise fail(Code.UNKNOWN_BACKEND, f"no engine is installed that runs as `{runtime}`")


def _data(said: str) -> dict[str, Any]:
    """The section for a backend's name or a file's path."""
    found = [info.name for info in backends() if info.kind == "data"]
    if said in found:
        section = {"backend": said}
        try:
            load("data", said).Options.model_validate_json(json.dumps(section))
        except ValidationError:
            raise fail(
                Code.MISSING_FIELD, f"the data backend `{said}` needs options", hint="name a file instead"
            ) from None
        return section
    for name in sorted(found, key=lambda name: name != RECORDS):
        fields = load("data", name).Options.model_fields
        if "path" in fields and fields["path"].is_required():
            return {"backend": name, "path": said}
    raise fail(Code.UNKNOWN_BACKEND, "no data backend is installed that reads files")


def _profile(machine: Machine) -> dict[str, Any]:
    profile: dict[str, Any] = {"kind": "cluster", "executor": "slurm" if machine.gpus_per_node else "local"}
    if machine.gpus_per_node:
        profile |= {"nodes": machine.nodes, "gpus_per_node": machine.gpus_per_node}
        profile |= {"gpu_memory_gb": machine.gpu_memory_gb, "minutes": 1440}
        profile["container"] = {"runtime": "pyxis", "image": "nvcr.io#nvidia/nemo-rl:v0.7.0"}
    return profile


_ABOVE: dict[Keys, str] = {
    ("model", "context"): "Longest prompt and response in tokens, 1k = 1024; longer prompts are left out and counted.",
    ("data",): "Relative paths start at the project, the folder that holds `specs`.",
    ("reward",): (
        "A right answer is worth 0.7, and up to 0.3 more for the evidence it names; a wrong one 0.\n"
        "The judge `exact` compares with the label. A model as judge, at any OpenAI-compatible endpoint:\n"
        "judge: {backend: openai, base_url: http://HOST:8000/v1, model: NAME}"
    ),
    ("algorithm",): "GRPO; `ltrl fields algorithm` lists what can be set.",
    ("rollout",): "GPUs of one rollout engine; engines fill the machines.",
}


def _behind(spec: Mapping[str, Any]) -> dict[Keys, str]:
    """Notes behind values."""
    notes: dict[Keys, str] = {
        ("model", "base"): "a Hugging Face id, or a directory with a config.json",
        ("algorithm", "steps"): "one step is one batch of rollouts and one update",
        ("algorithm", "prompts_per_step"): "with 8 responses each, the default",
        ("optimizer", "lr"): "Adam, constant",
    }
    if "importance_correction" in spec["algorithm"]:
        notes[("algorithm", "importance_correction")] = "for tokens that sampling and training see differently"
    return notes


_OF_CLUSTER: dict[Keys, str] = {
    ("gpu_memory_gb",): "of one GPU, in GiB",
    ("minutes",): "of one job; a run that is submitted again goes on where it was",
}
