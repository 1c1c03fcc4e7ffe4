"""The engine backend `local`: from a plan to the driver's configuration and command."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from ltrl.backend import EngineCheck, EngineKey, EngineSection, Stage, load, missing_modules
from ltrl.errors import Code, Diagnostic
from ltrl.reward_stage import reward_server
from ltrl_backends.local_engine.options import LocalEngineOptions
from ltrl_backends.local_engine.settings import FIELDS, settings

if TYPE_CHECKING:
    from pathlib import Path

    from ltrl.backend import ModelServer
    from ltrl.checkpoints import Entry
    from ltrl.exported import Origin
    from ltrl.memory import EngineSettings, Layout
    from ltrl.plan import Artifact, Plan
    from ltrl.resolve import Resolved

__all__ = ["LocalEngine", "missing"]

CONFIG = "local_engine.json"
MODULES = ("torch", "transformers", "trl", "datasets", "tokenizers", "tensorboard")


def missing() -> Diagnostic | None:
    """What to install before this engine can train here; None when everything is there."""
    return missing_modules(MODULES, extra="local", of="the embedded engine")


class LocalEngine:
    """The engine backend `local`."""

    api: ClassVar[int] = 1
    Options: ClassVar[type[EngineSection]] = LocalEngineOptions
    default_cluster: ClassVar[str] = "local"
    runtime: ClassVar[str] = "process"
    rehearsal: ClassVar[tuple[str, ...]] = ()
    provided: ClassVar[frozenset[str] | None] = None
    """It runs in the Python that compiles."""

    def __init__(self, options: LocalEngineOptions) -> None:
        self.options = options

    def adapted(self, resolved: Resolved) -> Resolved:
        """As it is written."""
        return resolved

    def missing(self) -> Diagnostic | None:
        """What to install before it can train here."""
        return missing()

    def check(self, resolved: Resolved) -> Iterable[Diagnostic]:
        """Everything in the spec that this engine would refuse or ignore."""
        for path, message, hint in _limits(resolved):
            yield Diagnostic(Code.ENGINE_LIMIT, f"`{path}`: {message}", resolved.at(path), hint)
        for path, message in _ignored(resolved):
            yield Diagnostic(Code.ENGINE_LIMIT, f"`{path}`: {message}", resolved.at(path), severity="warning")
        for tracker in ("wandb", "mlflow"):
            is_used = getattr(resolved.spec.logging, tracker) is not None
            path = f"logging.{tracker}"
            if is_used and (lacking := missing_modules((tracker,), extra="tracking", of=f"`{path}`")):
                yield replace(lacking, position=resolved.at(path), severity="warning")

    def check_layout(self, resolved: Resolved, layout: Layout) -> Iterable[Diagnostic]:  # noqa: ARG002
        """Nothing: it trains in one process."""
        return ()

    def memory_settings(self) -> EngineSettings:
        """Nothing: what it needs on its one GPU is not planned."""
        return {}

    def keys(self, resolved: Resolved, layout: Layout | None) -> Iterator[EngineKey]:  # noqa: ARG002
        """Every setting of the driver with the field that it comes from."""
        for name, value in settings(resolved).model_dump(mode="json").items():
            if name in ("grpo", "optimizer", "validation", "checkpoint"):
                for inner, one in value.items():
                    key = f"{name}.{inner}"
                    yield EngineKey(key, one, FIELDS.get(key, f"{FIELDS[name]}.{inner}"))
            else:
                yield EngineKey(name, value, FIELDS.get(name, ""))

    def checks(self, resolved: Resolved, layout: Layout | None) -> Iterable[EngineCheck]:  # noqa: ARG002
        """Nothing by name: what it cannot do, it says of each field."""
        return ()

    def artifacts(self, plan: Plan) -> tuple[Artifact, ...]:
        """The driver's configuration."""
        from ltrl.plan import Artifact

        return (Artifact(CONFIG, settings(plan.resolved).model_dump_json(indent=2) + "\n"),)

    def command(self, plan: Plan) -> tuple[str, ...]:  # noqa: ARG002  # the same for every plan
        """The driver's argument vector; the job's environment says which `python`."""
        return ("python", "-m", "ltrl_backends.local_engine", f"bundle/{CONFIG}")

    def stages(self, plan: Plan) -> tuple[Stage, ...]:
        """Rewards beside the training, and the export of the trained model; there is nothing to convert."""
        files = ("../../checkpoints", "model")
        return (
            reward_server(plan),
            Stage("export", ("python", "-m", "ltrl_backends.local_engine.export", *files), minutes=10),
        )

    @staticmethod
    def export(checkpoint: Entry, out: Path, made_of: Origin) -> None:
        """Puts the model of a checkpoint into a directory."""
        from ltrl_backends.local_engine.export import export

        export(checkpoint, out, made_of)

    @staticmethod
    def serve(model: Path, settings: ModelServer, *, on_listening: Callable[[str], None]) -> None:
        """Serves a checkpoint, or any model directory that `transformers` loads."""
        from ltrl_backends.local_engine.serving.serve import serve

        serve(model, settings, on_listening=on_listening)


def _limits(resolved: Resolved) -> Iterator[tuple[str, str, str | None]]:
    """(path, what is wrong, hint) of everything that cannot be done."""
    spec = resolved.spec
    algorithm, optimizer = spec.algorithm, spec.optimizer
    gpus = "the embedded engine trains in one process on one machine"
    samples = algorithm.prompts_per_step * algorithm.group_size
    for key in spec.model.overrides:
        if resolved.card.engine_made and key != "max_position_embeddings":
            yield "model.overrides", f"`{key}` of `{spec.model.base}` is fixed, the engine makes it that way", None
    source = spec.data.train.backend
    if resolved.card.engine_made and not hasattr(load("data", source), "answer_demonstrations"):
        message = f"`{source}` has no demonstrations to teach `{spec.model.base}`, which the engine makes itself"
        yield "data.train", message, "use the data backend `entity-chain`, or a model that exists as `model.base`"
    if algorithm.batch_size not in (None, samples):
        message = f"{algorithm.batch_size}, but a step of the embedded engine is one update of all {samples} responses"
        yield "algorithm.batch_size", message, "leave it out"
    if algorithm.objective == "reinforce":
        yield "algorithm.objective", "`reinforce` is not available in the embedded engine", "use `clip` or `cispo`"
    if algorithm.objective == "cispo" and algorithm.loss_aggregation == "sequence":
        yield "algorithm.loss_aggregation", "`sequence` is not available with `objective: cispo`", "use `token`"
    if algorithm.kl.coefficient and (algorithm.kl.in_reward or algorithm.kl.estimator != "k3"):
        yield "algorithm.kl", "only the `k3` estimator in the loss is available in the embedded engine", None
    if algorithm.advantage.leave_one_out:
        yield "algorithm.advantage.leave_one_out", "not available in the embedded engine", None
    for bound in ("clip_low", "clip_high"):
        if getattr(algorithm.advantage, bound) is not None:
            yield f"algorithm.advantage.{bound}", "not available in the embedded engine", None
    if algorithm.dynamic_sampling is not None:
        yield "algorithm.dynamic_sampling", "not available in the embedded engine", None
    if algorithm.asynchronous is not None:
        yield "algorithm.asynchronous", gpus, None
    if optimizer.schedule != "cosine" and optimizer.min_lr:
        yield "optimizer.min_lr", f"needs `schedule: cosine` in the embedded engine, not `{optimizer.schedule}`", None
    if spec.rollout.stop_token_ids is not None:
        message = "the embedded engine ends a response at the tokenizer's own end token"
        yield "rollout.stop_token_ids", message, "leave it out"
    if spec.rollout.nodes is not None:
        yield "rollout.nodes", gpus, "leave it out"
    if spec.parallelism is not None:
        sizes = spec.parallelism.model_dump()
        for name in (name for name, size in sizes.items() if size != 1):
            yield f"parallelism.{name}", f"{sizes[name]}, but {gpus}", "use `parallelism: auto`"
    gpus_asked = resolved.cluster.gpus_per_node
    if resolved.engine.device == "cuda" and gpus_asked != 1:  # type: ignore[attr-defined]
        message = f"`cuda` is one GPU, the cluster profile `{resolved.cluster_name}` asks for {gpus_asked} on a node"
        yield "engine.device", message, "`--set cluster.gpus_per_node=1`"
    if resolved.cluster.nodes != 1:
        yield "engine", f"{gpus}, the cluster profile `{resolved.cluster_name}` asks for {resolved.cluster.nodes}", None


def _ignored(resolved: Resolved) -> Iterator[tuple[str, str]]:
    """(path, why it has no effect)."""
    algorithm = resolved.spec.algorithm
    if algorithm.importance_correction.kind != "none":
        yield (
            "algorithm.importance_correction",
            "the embedded engine samples with the very model it trains, so that there is nothing to correct",
        )
