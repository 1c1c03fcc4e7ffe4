"""What a backend of each kind must be able to do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

from ltrl.backend.sections import BenchmarkSection, DataSection, EngineSection, JudgeSection, RewardSection

if TYPE_CHECKING:
    from pathlib import Path

    from ltrl.benchmark import Answered, Outcome, Question
    from ltrl.errors import Diagnostic
    from ltrl.memory import EngineSettings, Layout
    from ltrl.plan import Artifact, Plan
    from ltrl.resolve import Resolved
    from ltrl.samples import Sample
    from ltrl.scoring import JudgeRequest, Score, ScoreRequest, Verdict

__all__ = [
    "BenchmarkBackend",
    "CountsQuestions",
    "DataBackend",
    "EngineBackend",
    "JudgeBackend",
    "ReadsFiles",
    "RewardBackend",
    "Stage",
    "StagedEngineBackend",
]


class RewardBackend(Protocol):
    """Turns responses into rewards, in two steps: each response on its own, then each group of one prompt."""

    api: ClassVar[int]
    Options: ClassVar[type[RewardSection]]

    def __init__(self, options: Any) -> None: ...

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        """One score for each request, in their order.

        Never raises because a judge failed: such a score is unjudged. Called with any number of requests.
        """
        ...

    def rewards(self, group: Sequence[Score]) -> list[float | None]:
        """The rewards of one prompt's scores, in their order; None for one that is unjudged. Pure."""
        ...


class JudgeBackend(Protocol):
    """Decides whether an answer is right."""

    api: ClassVar[int]
    Options: ClassVar[type[JudgeSection]]

    def __init__(self, options: Any) -> None: ...

    def judge(self, requests: Sequence[JudgeRequest]) -> list[Verdict]:
        """One verdict for each request, in their order; a failure is a verdict without an answer, no exception."""
        ...


@runtime_checkable
class ReadsFiles(Protocol):
    """What a data backend may offer beside: the files that its samples come from."""

    files: Mapping[str, Path]
    """By the name that bundles give them, which knows no machine; they need not exist on this one."""


class DataBackend(Protocol):
    """A source of samples."""

    api: ClassVar[int]
    Options: ClassVar[type[DataSection]]

    def __init__(self, options: Any) -> None: ...

    def __iter__(self) -> Iterator[Sample]:
        """Every sample, in an order that depends on nothing but the options.

        Raises LtrlError with code BAD_DATA for a record that cannot be used.
        """
        ...

    def __len__(self) -> int:
        """How many samples there are, without preparing them all; raises LtrlError when that cannot be known."""
        ...


class BenchmarkBackend(Protocol):
    """Questions with known answers, and the metric that compares."""

    api: ClassVar[int]
    Options: ClassVar[type[BenchmarkSection]]

    def __init__(self, options: Any) -> None: ...

    def __iter__(self) -> Iterator[Question]:
        """Every question, in an order that depends on nothing but the options and the data; read as it goes.

        Raises LtrlError with code BAD_DATA for a record that cannot be used.
        """
        ...

    def grade(self, answers: Sequence[Answered]) -> list[Outcome]:
        """The outcome of each answer, in their order. A judge that fails leaves outcomes without a score.

        With an option of type `JudgeChoice` it is given the answers one by one as they come, by several threads.
        """
        ...


@runtime_checkable
class CountsQuestions(Protocol):
    """What a benchmark may offer beside: how long it is before its questions are read, for the time that remains."""

    def num_questions(self) -> int:
        """How many questions there are at most, quickly; raises LtrlError where they cannot be read."""
        ...


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of a run beside its training: a job of its own, that starts when the one before it has succeeded.

    A *service* runs beside the training instead, from before its start to its end, however that comes. It listens and
    tells `ltrl.service.publish` where; the training starts when `URL/readyz` answers with 200, and its driver finds the
    service with `ltrl.service.address`.
    """

    name: str
    """As specs name it in `stages`."""
    command: tuple[str, ...]
    """Its argument vector. The working directory is `stages/NAME` of the run directory, so that the bundle is in
    `../../bundle` and the checkpoints are in `../../checkpoints`; exit status 0 means that it succeeded."""
    before_training: bool = False
    """Whether it comes before the training or after it."""
    is_service: bool = False
    """Whether it runs beside the training; it comes before it, then, and needs `runtime="process"`."""
    needs: tuple[str, ...] = ()
    """Stages whose results it uses; a spec that has it must have them too, before it."""
    runtime: Literal["process", "ray"] = "process"
    """As the engine's own `runtime`."""
    nodes: int = 1
    """Machines, unless the cluster profile says otherwise."""
    gpus_per_node: int = 0
    """GPUs in each, unless the cluster profile says otherwise."""
    minutes: int = 60
    """Wall time, unless the cluster profile says otherwise; a service that reaches it is started again."""
    cpus_per_node: int | None = None
    """CPUs of each machine, unless the cluster profile says otherwise; None asks for what the profile asks for."""
    memory: str | None = None
    """Memory of each machine (`16G`), which it then shares with other jobs; None asks for what the profile asks for."""
    partition: str | None = None
    """Partition of the cluster; None takes that of the profile, which is where one is named."""
    image: str | None = None
    """Image of its container; None takes that of the profile, which also says whether there is a container."""

    def __post_init__(self) -> None:
        if self.is_service and (self.runtime != "process" or not self.before_training):
            raise ValueError(f"the service `{self.name}` must come before the training and run without Ray")


class EngineBackend(Protocol):
    """Compiles a plan into the files and the command of one training system."""

    api: ClassVar[int]
    Options: ClassVar[type[EngineSection]]
    rehearsal: ClassVar[tuple[str, ...]]
    """What `ltrl rehearse` sets in a spec (`engine.device=cpu`) to try it on this machine; empty for an engine that
    cannot be tried so.
    """

    def __init__(self, options: Any) -> None: ...

    @property
    def default_cluster(self) -> str:
        """Name of the cluster profile used when the user chooses none."""
        ...

    @property
    def runtime(self) -> Literal["process", "ray"]:
        """What the driver runs in: a process of its own, or a Ray cluster over all nodes that the job script starts."""
        ...

    @property
    def provided(self) -> frozenset[str] | None:
        """Distributions, by normalized name, that are there where the driver runs. All else that a job imports travels
        in its bundle. None: the driver runs in the Python that compiled it, and nothing travels.
        """
        ...

    def adapted(self, resolved: Resolved) -> Resolved:
        """The run as this engine is going to run it, which everything after this sees; most engines change nothing."""
        ...

    def missing(self) -> Diagnostic | None:
        """What has to be installed before the driver can run on this machine; None when everything is here."""
        ...

    def check(self, resolved: Resolved) -> Iterable[Diagnostic]:
        """Everything in the spec that this engine would refuse or ignore."""
        ...

    def check_layout(self, resolved: Resolved, layout: Layout) -> Iterable[Diagnostic]:
        """Everything that this engine would refuse if the model were spread over the GPUs in this way."""
        ...

    def memory_settings(self) -> EngineSettings:
        """What of its options decides the memory a training needs; empty: no memory is planned."""
        ...

    def artifacts(self, plan: Plan) -> tuple[Artifact, ...]:
        """The engine's own files, by path inside the bundle. Pure."""
        ...

    def command(self, plan: Plan) -> tuple[str, ...]:
        """The driver's argument vector; its working directory is the run directory, the bundle is in `bundle/`."""
        ...


class StagedEngineBackend(EngineBackend, Protocol):
    """An engine that offers more than training."""

    def stages(self, plan: Plan) -> tuple[Stage, ...]:
        """Everything that it offers beside the training, in the order in which it runs."""
        ...
