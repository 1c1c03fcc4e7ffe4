"""What a spec and a cluster profile need of the machine that submits, and of one that trains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ltrl.references import find
from ltrl.resolve import Resolved
from ltrl.spec import ClusterProfile

__all__ = ["Endpoint", "Wanted", "wanted"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A model that is asked over HTTP."""

    base_url: str
    model: str
    api_key: str | None
    """Reference to the key."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is needed, each with what needs it."""

    cluster: ClusterProfile | None = None
    cluster_name: str = ""
    extras: Mapping[str, str] = field(default_factory=dict)
    """By name of the extra."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """By name of the variable."""
    endpoints: tuple[Endpoint, ...] = ()
    hub_model: str | None = None
    """A model that the training loads from the Hugging Face hub."""
    trains_here: bool = False

    @property
    def gpus(self) -> int:
        """GPUs that this machine must have."""
        return self.cluster.gpus_per_node if self.cluster and self.is_local else 0

    @property
    def is_local(self) -> bool:
        """Whether jobs run on this machine."""
        return self.cluster is not None and self.cluster.executor == "local"


def wanted(resolved: Resolved | None, cluster: ClusterProfile | None, cluster_name: str) -> Wanted:
    """What a spec with its cluster needs, or a cluster alone, or nothing but ltrl."""
    environment = {}
    for name, value in (cluster.environment if cluster else {}).items():
        for reference in find(value):
            if reference.kind == "env" and reference.default is None:
                environment[reference.name] = f"`environment.{name}` of `{cluster_name}`"
    if resolved is None:
        return Wanted(cluster, cluster_name, environment=environment)
    spec = resolved.spec
    is_local = cluster is not None and cluster.executor == "local"
    endpoints = tuple(_endpoints(spec.reward.model_dump(mode="json")))
    extras = {"local": "`engine: local`"} if spec.engine.name == "local" and is_local else {}
    if endpoints and is_local:
        extras["server"] = "the judge `openai`"
    if is_local and spec.engine.name == "local" and (spec.logging.wandb or spec.logging.mlflow):
        extras["tracking"] = "`logging`"
    for endpoint in endpoints:
        for reference in find(endpoint.api_key or ""):
            if reference.kind == "env" and reference.default is None:
                environment[reference.name] = "`reward.judge.api_key`"
    is_hub = not resolved.card.engine_made and not Path(spec.model.base).exists()
    return Wanted(
        cluster,
        cluster_name,
        extras,
        environment,
        endpoints,
        hub_model=spec.model.base if is_hub else None,
        trains_here=is_local,
    )


def _endpoints(section: Any) -> Iterator[Endpoint]:
    """Every judge with an address, those of a panel too."""
    if isinstance(section, Mapping):
        if isinstance(section.get("base_url"), str):
            yield Endpoint(section["base_url"], str(section.get("model", "")), section.get("api_key"))
        for value in section.values():
            yield from _endpoints(value)
    elif isinstance(section, list | tuple):
        for value in section:
            yield from _endpoints(value)
