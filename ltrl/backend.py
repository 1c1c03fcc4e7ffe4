"""The plugin surface: what a backend is, how it is named, found and checked.

A backend is a class that a distribution publishes in the entry-point group `ltrl.backends` under the name
`<kind>.<name>`:

    [project.entry-points."ltrl.backends"]
    "reward.length" = "my_package.length:LengthReward"

The kind is part of the entry point's name so that `ltrl backends` can list every backend without importing any.
"""

from __future__ import annotations

import difflib
import importlib.util
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol, runtime_checkable

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError, core_schema

from ltrl.errors import Code, Diagnostic, LtrlError, fail
from ltrl.references import Secret

if TYPE_CHECKING:
    from pathlib import Path

    from ltrl.errors import Position
    from ltrl.memory import EngineSettings, Layout
    from ltrl.plan import Artifact, Plan
    from ltrl.resolve import Resolved
    from ltrl.samples import Sample
    from ltrl.scoring import JudgeRequest, Score, ScoreRequest, Verdict
    from ltrl.script import Script
    from ltrl.source import Document

__all__ = [
    "API",
    "GROUP",
    "KINDS",
    "BackendInfo",
    "Choice",
    "DataBackend",
    "DataChoice",
    "DataSection",
    "EngineBackend",
    "EngineCheck",
    "EngineChoice",
    "EngineKey",
    "EngineSection",
    "Explains",
    "Fidelity",
    "Grade",
    "ImportRow",
    "Imported",
    "Importing",
    "Imports",
    "JudgeBackend",
    "JudgeChoice",
    "JudgeSection",
    "Model",
    "Note",
    "Outage",
    "Relaunch",
    "RewardBackend",
    "RewardChoice",
    "RewardSection",
    "RewardServer",
    "Stage",
    "StagedEngineBackend",
    "backends",
    "create",
    "load",
    "missing_modules",
    "named",
]

API = 1
"""Version of this surface; a backend states the one it was written for as `api`."""

GROUP = "ltrl.backends"


class Grade(Enum):
    """What a change of a field means for a run that exists."""

    NEW_RUN = "new-run"
    """Changes what is learned: hashed into the fingerprint, a resume is refused."""
    RELAUNCH = "relaunch"
    """Changes how the job runs, not what it learns."""
    NOTE = "note"
    """Changes nothing but a description."""


Relaunch = Grade.RELAUNCH
Note = Grade.NOTE


class Model(BaseModel):
    """Base of every model a spec is made of: no unknown keys, no coercion, frozen, documented by its docstrings."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        use_attribute_docstrings=True,
        defer_build=True,  # only what a document needs is built, and nested models once
        allow_inf_nan=False,
        hide_input_in_errors=True,  # what is wrong may be a secret
        validate_default=False,
    )


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
    """One that runs already, `http://rewards:8700`; by default the job starts its own beside the driver."""
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
    def _token_needs_url(self) -> RewardServer:
        if self.token is not None and self.url is None:
            raise ValueError("`token` goes with `url`: the job makes its own server's token itself")
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


class JudgeSection(_Section):
    """Who decides whether an answer is right; the base of every judge backend's `Options`."""


class DataSection(_Section):
    """Where samples come from; the base of every data backend's `Options`."""


class EngineSection(Model):
    """What trains the model; the base of every engine backend's `Options`."""

    name: str
    """Name of the engine; `ltrl backends` lists those installed."""


@dataclass(frozen=True)
class Choice:
    """Makes a field accept the section of any installed backend of a kind and hold that backend's `Options`.

    A bare name stands for a section with nothing else: `judge: exact`.
    """

    kind: str
    tag: str = "backend"

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.choose,
            serialization=core_schema.plain_serializer_function_ser_schema(lambda value: value.model_dump(mode="json")),
        )

    def choose(self, value: Any) -> Model:
        """The options in a section, checked by the backend that it names."""
        if isinstance(value, Model):
            return value
        if isinstance(value, str):
            value = {self.tag: value}
        if not isinstance(value, dict):
            told = {"kind": self.kind, "hint": _known(self.kind, "")}
            raise PydanticCustomError("section", "the name of a {kind} backend or its section", told)
        name = value.get(self.tag)
        if self.tag not in value:
            raise _error_at(self.tag, "missing", value, hint=_known(self.kind, ""))
        if not isinstance(name, str):
            raise _error_at(self.tag, "string_type", name, hint=_known(self.kind, ""))
        try:
            options: type[Model] = load(self.kind, name).Options
        except LtrlError as error:  # pydantic adds where the section stands; `spec` turns it back into a diagnostic
            found = error.diagnostics[0]
            raise _error_at(self.tag, found.code, name, found.message, found.hint) from None
        return options.model_validate_json(json.dumps(value))

    def __get_pydantic_json_schema__(self, *_: Any) -> dict[str, Any]:
        # `ltrl.schema` writes the options of every backend of the kind out once: one may hold another of its kind.
        return {"$backend": self.kind}


def _error_at(key: str, kind: str, value: object, message: str = "", hint: str | None = None) -> ValidationError:
    problem = PydanticCustomError(kind, "{message}", {"message": message, "hint": hint})
    return ValidationError.from_exception_data("section", [InitErrorDetails(type=problem, loc=(key,), input=value)])


RewardChoice = Annotated[RewardSection, Choice("reward")]
JudgeChoice = Annotated[JudgeSection, Choice("judge")]
DataChoice = Annotated[DataSection, Choice("data")]
EngineChoice = Annotated[EngineSection, Choice("engine", tag="name")]


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


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of a run beside its training: a job of its own, that starts when the one before it has succeeded."""

    name: str
    """As specs name it in `stages`."""
    command: tuple[str, ...]
    """Its argument vector. The working directory is `stages/NAME` of the run directory, so that the bundle is in
    `../../bundle` and the checkpoints are in `../../checkpoints`; exit status 0 means that it succeeded."""
    before_training: bool = False
    """Whether it comes before the training or after it."""
    runtime: Literal["process", "ray"] = "process"
    """As the engine's own `runtime`."""
    nodes: int = 1
    """Machines, unless the cluster profile says otherwise."""
    gpus_per_node: int = 0
    """GPUs in each, unless the cluster profile says otherwise."""
    minutes: int = 60
    """Wall time, unless the cluster profile says otherwise."""


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
        """What of its options decides the memory a training needs; empty for an engine without GPUs."""
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


@dataclass(frozen=True, slots=True)
class EngineKey:
    """One key of an engine's configuration, and what it comes from."""

    key: str
    """Dotted."""
    value: Any
    field: str = ""
    """Dotted path of the spec's field, below `cluster.` of the profile's; empty for what no field decides."""
    why: str = ""
    """What the field's name does not say."""


@dataclass(frozen=True, slots=True)
class EngineCheck:
    """One condition that an engine puts on a spec."""

    id: str
    """As its diagnostics name it: `nemo-rl:P4`."""
    condition: str
    """What must hold."""
    source: str
    """Where it would go wrong otherwise."""
    fields: frozenset[str]
    """Dotted paths of the fields that it looked at."""


@runtime_checkable
class Explains(Protocol):
    """What an engine may offer beside, for `ltrl explain`: how its configuration comes about."""

    def keys(self, resolved: Resolved, layout: Layout | None) -> Iterable[EngineKey]:
        """Every key of its configuration; without a layout, none that depends on it. Pure."""
        ...

    def checks(self, resolved: Resolved, layout: Layout | None) -> Iterable[EngineCheck]:
        """The conditions that `check` and `check_layout` look at, with what they read of this very spec. Pure."""
        ...


Fidelity = Literal["exact", "closest", "not expressible"]


@dataclass(frozen=True, slots=True)
class ImportRow:
    """One setting of a foreign launcher's file, and what becomes of it."""

    setting: str
    """As the file has it: `--eps-clip 0.2`, `grpo.seed: 42`."""
    grade: Fidelity
    field: str = ""
    """Dotted path of the spec's field; empty where none stands for it."""
    value: Any = None
    """What the field gets."""
    key: str = ""
    """The engine's own key; empty where there is none."""
    note: str = ""
    """Why it is not exact, and what happens instead."""
    position: Position | None = None


@dataclass(frozen=True, slots=True)
class Imported:
    """A foreign launcher's file in the words of a spec."""

    fields: Mapping[tuple[str, ...], Any]
    """Values by the path of their field; those of the cluster profile below `cluster`."""
    rows: tuple[ImportRow, ...]
    """Every setting of the file, in its order: nothing is dropped silently."""
    diagnostics: tuple[Diagnostic, ...] = ()
    """Defects of the file."""


@dataclass(frozen=True, slots=True)
class Importing:
    """What an engine may ask while it reads a foreign file."""

    models: tuple[str, ...]
    """Names of the models that are known."""
    resolve: Callable[[Mapping[tuple[str, ...], Any]], Resolved]
    """A spec with these fields and stand-ins for what it lacks; raises LtrlError when they contradict each other."""
    load: Callable[[Path], Document]
    """A YAML file as a document."""
    layer: Callable[[Document, Document], Document]
    """A document with another's values over it."""


@runtime_checkable
class Imports(Protocol):
    """What an engine may offer beside, for `ltrl import`: reading the files of other launchers."""

    @staticmethod
    def import_script(script: Script, importing: Importing) -> Imported | None:
        """The run that a shell script starts; None for a script that starts none that is known here."""
        ...

    @staticmethod
    def import_config(document: Document, importing: Importing) -> Imported | None:
        """The run that a configuration describes; None for one that is not of this engine."""
        ...


KINDS: dict[str, type] = {
    "data": DataBackend,
    "engine": EngineBackend,
    "judge": JudgeBackend,
    "reward": RewardBackend,
}
"""Every kind of backend with the protocol it must have."""


@dataclass(frozen=True, slots=True, order=True)
class BackendInfo:
    """What is known of an installed backend without importing it."""

    kind: str
    name: str
    distribution: str
    version: str
    target: str
    """`module:attribute`"""


@cache
def backends() -> tuple[BackendInfo, ...]:
    """Every installed backend, sorted by kind and name; imports none."""
    found = []
    for entry in metadata.entry_points(group=GROUP):
        kind, _, name = entry.name.partition(".")
        distribution = entry.dist
        assert distribution is not None  # only entry points made by hand have none
        found.append(BackendInfo(kind, name, distribution.name, distribution.version, entry.value))
    return tuple(sorted(set(found)))


@cache
def load(kind: str, name: str) -> Any:
    """The class of a backend; raises LtrlError when there is none, when two claim the name, or when it cannot load."""
    claims = [info for info in backends() if (info.kind, info.name) == (kind, name)]
    if not claims:
        raise fail(Code.UNKNOWN_BACKEND, f"unknown {kind} backend `{name}`", hint=_known(kind, name))
    if len(claims) > 1:
        owners = " and ".join(f"`{info.distribution}` {info.version}" for info in claims)
        raise fail(Code.BROKEN_BACKEND, f"the {kind} backend `{name}` is claimed by {owners}", hint="uninstall one")
    info = claims[0]
    try:
        backend = metadata.EntryPoint(f"{kind}.{name}", info.target, GROUP).load()
    except (ImportError, AttributeError) as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        hint = f"is `{missing}` installed?" if missing else f"reinstall `{info.distribution}`"
        message = f"the {kind} backend `{name}` of `{info.distribution}` {info.version} does not load: {error}"
        raise fail(Code.BROKEN_BACKEND, message, hint=hint) from error
    if getattr(backend, "api", None) != API:
        message = f"the {kind} backend `{name}` of `{info.distribution}` {info.version} is for another ltrl: "
        written_for = getattr(backend, "api", "not stated")
        raise fail(Code.BROKEN_BACKEND, f"{message}its `api` is {written_for}, this is {API}")
    absent = sorted(a for a in ("Options", *_methods(kind)) if not hasattr(backend, a))
    if absent:
        raise fail(
            Code.BROKEN_BACKEND, f"the {kind} backend `{name}` of `{info.distribution}` lacks {', '.join(absent)}"
        )
    return backend


def create(section: Model) -> Any:
    """The backend that a section names, made with that section's options."""
    chosen = named(section)
    assert chosen is not None, "not the section of a backend"
    return load(*chosen)(section)


def missing_modules(modules: Sequence[str], *, extra: str, of: str) -> Diagnostic | None:
    """What to install before `of` can run on this machine; None when every module is here."""
    lacking = [name for name in modules if importlib.util.find_spec(name) is None]
    if not lacking:
        return None
    listed = ", ".join(f"`{name}`" for name in lacking)
    message = f"{of} needs {listed}, not installed here"
    return Diagnostic(Code.MISSING_EXTRA, message, hint=f"pip install 'ltrl[{extra}]'")


def named(section: Model) -> tuple[str, str] | None:
    """(kind, name) of the backend that a section chooses; None for a model that is no such section."""
    match section:
        case RewardSection():
            return "reward", section.backend
        case JudgeSection():
            return "judge", section.backend
        case DataSection():
            return "data", section.backend
        case EngineSection():
            return "engine", section.name
        case _:
            return None


def _methods(kind: str) -> list[str]:
    return [
        m
        for m, f in vars(KINDS[kind]).items()
        if callable(f) and (not m.startswith("_") or m in ("__iter__", "__len__"))
    ]


def _known(kind: str, name: str) -> str:
    names = sorted({info.name for info in backends() if info.kind == kind})
    close = difflib.get_close_matches(name, names, n=1)
    listed = ", ".join(f"`{n}`" for n in names) or "none"
    return (f"did you mean `{close[0]}`? " if close else "") + f"installed {kind} backends: {listed}"
