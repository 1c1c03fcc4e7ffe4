"""The parts of a spec that name a backend: what all backends of a kind have in common."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints, model_validator

from ltrl.backend.models import Model, Relaunch
from ltrl.references import Secret

__all__ = [
    "BenchmarkSection",
    "DataSection",
    "EngineSection",
    "JudgeSection",
    "Outage",
    "Overlong",
    "OverlongQuestion",
    "Prices",
    "RewardSection",
    "RewardServer",
    "StageSection",
    "named",
]


class _Section(Model):
    """A part of a spec that names a backend; its other keys are that backend's own."""

    backend: str
    """Name of the backend; `ltrl backends` lists those installed."""


class Outage(Model):
    """What is done about responses that no judge told right from wrong."""

    policy: Literal["mask", "retry"] = "mask"
    """`mask`: they are left out of the loss; `retry`: the step waits and asks for them again, then masks the rest."""
    retry_minutes: Annotated[float, Field(gt=0)] = 30.0
    """How long `retry` goes on."""
    retry_seconds: Annotated[float, Field(gt=0)] = 30.0
    """The wait before each further asking of `retry`."""
    max_unjudged: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Largest share of a step's responses that may be left out; more stops the run and says why they are unjudged."""


class RewardServer(Model):
    """A reward server that scores in the engine's place: `ltrl serve reward` with this very reward."""

    url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s/]+$")] | None = None
    """One that runs already, `http://rewards:8700`; by default the run's own: the stage `reward-server`, or without it
    a process beside the driver."""
    address: str | None = None
    """A file that says where one is that may move, as the stage `reward-server` writes it (`service.json`); read again
    whenever the server does not answer."""
    token: Secret | None = None
    """Where its token is found when the job runs: `${env:NAME}` or `${file:PATH}`; only with `url`."""
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Where one of the job's own listens; by default any free port."""
    workers: Annotated[int, Field(ge=1, le=256)] = 2
    """Processes of one of the job's own."""
    concurrency: Annotated[int, Field(ge=1, le=4096)] = 128
    """Requests of one environment under way at once; further ones wait."""
    timeout_seconds: Annotated[float, Field(gt=0)] = 3600.0
    """Longest wait for one reply; it spans the judge's own tries."""
    patience_seconds: Annotated[float, Field(ge=0)] = 120.0
    """How long a server may be away before responses are left unjudged."""

    @model_validator(mode="after")
    def _one_way_to_find_it(self) -> RewardServer:
        if self.token is not None and self.url is None:
            raise ValueError("`token` goes with `url`: the job makes its own server's token itself")
        if self.url is not None and self.address is not None:
            raise ValueError("`url` and `address` both say where the server is")
        return self


class RewardSection(_Section):
    """How a response becomes a reward; the base of every reward backend's `Options`."""

    def doubts(self) -> Iterable[tuple[str, str, str]]:
        """(field, what is wrong, what to do) of options that are allowed but hardly meant; compiling warns of them."""
        return ()

    outage: Annotated[Outage, Relaunch] = Outage()
    """Responses without a verdict."""
    server: Annotated[RewardServer | None, Relaunch] = None
    """Score in a server instead of in the engine's own processes."""


class Prices(Model):
    """What an endpoint costs, in any one currency."""

    prompt: Annotated[float, Field(ge=0)]
    """A million tokens of prompts."""
    response: Annotated[float, Field(ge=0)]
    """A million tokens of responses."""


class JudgeSection(_Section):
    """Who decides whether an answer is right; the base of every judge backend's `Options`."""


Overlong = Literal["skip", "drop-documents", "error"]
"""What is done about prompts that are longer than `model.context.prompt`."""


class DataSection(_Section):
    """Where samples come from; the base of every data backend's `Options`."""

    overlong: Overlong = "skip"
    """Prompts longer than `model.context.prompt`: `skip` leaves them out, `drop-documents` takes documents out that the
    question does not need until they fit (tier 2 first, gold never), `error` stops the run."""


OverlongQuestion = Literal["skip", "wrong", "cut-middle"]
"""What is done about a question whose prompt is too long: it is no part of the figures, wrong, or cut."""


class BenchmarkSection(_Section):
    """A measure of a model; the base of every benchmark backend's `Options`."""

    limit: Annotated[int, Field(ge=1)] | None = None
    """Ask so many questions only, always the same random ones; by default every one."""
    samples: Annotated[int, Field(ge=1)] | None = None
    """Answers to each question, in place of `sampling.samples`."""
    overlong: OverlongQuestion | None = None
    """What is done about prompts that are too long, in place of the evaluation's `overlong`."""


class EngineSection(Model):
    """What trains the model; the base of every engine backend's `Options`."""

    name: str
    """Name of the engine; `ltrl backends` lists those installed."""


class StageSection(_Section):
    """A stage of building a data set; the base of what `ltrl.dataset.kinds` has for each kind of stage."""

    kind: ClassVar[str]
    """Kind of its backend."""


def named(section: Model) -> tuple[str, str] | None:
    """(kind, name) of the backend that a section chooses; None for a model that is no such section."""
    match section:
        case RewardSection():
            return "reward", section.backend
        case JudgeSection():
            return "judge", section.backend
        case DataSection():
            return "data", section.backend
        case BenchmarkSection():
            return "benchmark", section.backend
        case EngineSection():
            return "engine", section.name
        case StageSection():
            return section.kind, section.backend
        case _:
            return None
