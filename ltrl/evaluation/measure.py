"""A measurement from its spec to its results: the model is asked where it is served, or served for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ltrl.evaluation.asking import Target
from ltrl.evaluation.lengths import Lengths
from ltrl.evaluation.results import Sample
from ltrl.evaluation.run import Progress, evaluate
from ltrl.evaluation.serving import served
from ltrl.evaluation.spec import Endpoint, EvalSection
from ltrl.evaluation.weights import identity

__all__ = ["Measurement", "measure"]

SERVER_LOG = "server.log"


@dataclass(frozen=True)
class Measurement:
    """Everything an evaluation needs."""

    name: str
    section: EvalSection
    base: str
    """The model: a directory, or a Hugging Face id."""
    revision: str | None
    prompt: int
    """Longest prompt, in tokens."""
    response: int
    total: int
    chat_format: str
    """Never `auto`."""
    endpoint: Endpoint | None = None
    """Where it is served already."""
    served_as: str | None = None
    """What requests and results call it; by default what the endpoint calls it, or `base`."""


def measure(found: Measurement, out: Path, *, on_progress: Progress = lambda *_: None) -> list[Sample]:
    """Evaluates a model and writes the results to a directory; what is there already is not asked again.

    Returns the samples without their texts. Raises what `evaluate` and `served` raise.
    """
    base = found.base
    here = Path(os.environ.get("LTRL_PROJECT_DIR", ""), base)
    if here.is_dir():
        base = str(here.resolve())
    with _target(found, base, out) as target:
        prices = found.endpoint and found.endpoint.prices
        return evaluate(
            found.section,
            target,
            name=found.name,
            chat_format=found.chat_format,
            lengths=Lengths(base, revision=found.revision, longest=found.total - found.response),
            out=out,
            on_progress=on_progress,
            prices=prices.model_dump() if prices else None,
        )


@contextmanager
def _target(found: Measurement, base: str, out: Path) -> Iterator[Target]:
    section, endpoint = found.section, found.endpoint
    name = (endpoint and endpoint.model) or found.served_as or found.base
    whose = identity(Path(base)) if Path(base).is_dir() else f"{base}@{found.revision or ''}"

    def target(url: str, key: str | None = None) -> Target:
        return Target(
            base_url=url,
            model=name,
            identity=f"{whose} as {endpoint.model}" if endpoint and endpoint.model else whose,
            sampling=section.sampling,
            requests=section.requests,
            response=found.response,
            total=found.total,
            api_key=key,
        )

    if endpoint is not None:
        yield target(endpoint.base_url, endpoint.api_key)
        return
    with served(
        base, section.serve, name=name, revision=found.revision, total=found.total, log=out / SERVER_LOG
    ) as url:
        yield target(url)
