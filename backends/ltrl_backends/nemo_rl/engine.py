"""The engine backend `nemo-rl`: from a plan to NeMo-RL's configuration and the driver's command."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, Literal

from ltrl.backend import EngineSection, Stage
from ltrl_backends.nemo_rl.container import CONTAINER
from ltrl_backends.nemo_rl.options import NemoRLOptions

if TYPE_CHECKING:
    from ltrl.backend import EngineCheck, EngineKey, Imported, Importing
    from ltrl.errors import Diagnostic
    from ltrl.memory import EngineSettings, Layout
    from ltrl.plan import Artifact, Plan
    from ltrl.resolve import Resolved
    from ltrl.script import Script
    from ltrl.source import Document

__all__ = ["CONFIG", "SMALL_MODEL", "NemoRL"]

CONFIG = "nemo_rl.yaml"
SMALL_MODEL = "small_model.json"


class NemoRL:
    """The engine backend `nemo-rl`."""

    api: ClassVar[int] = 1
    Options: ClassVar[type[EngineSection]] = NemoRLOptions
    rehearsal: ClassVar[tuple[str, ...]] = ("engine.device=cpu",)

    def __init__(self, options: NemoRLOptions) -> None:
        self.options = options
        on_gpus = options.device == "gpu"
        self.default_cluster = "slurm" if on_gpus else "local"
        self.runtime: Literal["process", "ray"] = "ray" if on_gpus else "process"
        """On GPUs the job script starts a Ray cluster before the driver; a rehearsal has one of its own."""
        self.provided = CONTAINER if on_gpus else None

    def adapted(self, resolved: Resolved) -> Resolved:
        """On GPUs as it is written, on a CPU small."""
        if self.options.device == "gpu":
            return resolved
        from ltrl_backends.nemo_rl.rehearsal.shrink import small

        return small(resolved, self.options.rehearsal)

    def missing(self) -> Diagnostic | None:
        """On GPUs nothing: the container has it all."""
        if self.options.device == "gpu":
            return None
        from ltrl_backends.nemo_rl.rehearsal.checkout import missing

        return missing(self.options.version)

    def check(self, resolved: Resolved) -> Iterable[Diagnostic]:
        """Everything in the spec that NeMo-RL would refuse or ignore."""
        from ltrl_backends.nemo_rl.checks import check

        if self.options.device == "gpu":
            return check(resolved)
        if resolved.cluster.gpus_per_node:
            return [_no_gpu_wanted(resolved)]
        from ltrl_backends.nemo_rl.rehearsal.shrink import UNSPLIT, one_gpu_a_node

        return check(one_gpu_a_node(resolved), UNSPLIT)

    def check_layout(self, resolved: Resolved, layout: Layout) -> Iterable[Diagnostic]:
        """Everything in the spec that NeMo-RL would refuse or ignore with this layout."""
        from ltrl_backends.nemo_rl.checks import check

        return check(resolved, layout)

    def keys(self, resolved: Resolved, layout: Layout | None) -> Iterable[EngineKey]:
        """Every key of NeMo-RL's configuration with the field that it comes from."""
        from ltrl.backend import EngineKey
        from ltrl_backends.nemo_rl.config import settings

        return (EngineKey(s.key, s.value, s.field, s.why) for s in settings(resolved, layout))

    def checks(self, resolved: Resolved, layout: Layout | None) -> Iterable[EngineCheck]:
        """The conditions of NeMo-RL with the fields of this spec that they look at."""
        from ltrl_backends.nemo_rl.checks import CHECKS
        from ltrl_backends.nemo_rl.checks.reads import reads

        return reads(CHECKS, resolved, layout)

    @staticmethod
    def import_script(script: Script, importing: Importing) -> Imported | None:
        """The run that a launch script of slime starts."""
        from ltrl_backends.nemo_rl.imports import import_script

        return import_script(script, importing)

    @staticmethod
    def import_config(document: Document, importing: Importing) -> Imported | None:
        """The run that a NeMo-RL GRPO configuration describes."""
        from ltrl_backends.nemo_rl.imports import import_config

        return import_config(document, importing)

    def memory_settings(self) -> EngineSettings:
        """Recomputation, chunks and kernels."""
        options = self.options
        return {
            "recompute": options.recompute,
            "logprob_chunk": options.logprob_chunk_size,
            "loss_in_chunks": options.version != "0.6.0",
            "fused_kernels": options.fused_kernels,
        }

    def artifacts(self, plan: Plan) -> tuple[Artifact, ...]:
        """NeMo-RL's configuration; raises LtrlError when the planned layout breaks one of its rules."""
        from ltrl.errors import raise_if_any
        from ltrl.plan import Artifact
        from ltrl_backends.nemo_rl.checks import check
        from ltrl_backends.nemo_rl.config import dump

        if self.options.device == "gpu":
            raise_if_any(check(plan.resolved, plan.layout))
            return (Artifact(CONFIG, dump(plan.resolved, plan.layout)),)
        from ltrl_backends.nemo_rl.rehearsal.shrink import UNSPLIT, model_json, one_gpu_a_node

        files = [Artifact(CONFIG, dump(one_gpu_a_node(plan.resolved), UNSPLIT))]
        if described := model_json(plan.resolved.card):
            files.append(Artifact(SMALL_MODEL, described))
        return tuple(files)

    def command(self, plan: Plan) -> tuple[str, ...]:  # noqa: ARG002
        """The driver's argument vector."""
        module = "driver" if self.options.device == "gpu" else "rehearsal"
        return ("python", "-m", f"ltrl_backends.nemo_rl.{module}", f"bundle/{CONFIG}")

    def stages(self, plan: Plan) -> tuple[Stage, ...]:
        """The start model in Megatron's form, rewards beside the training, the trained model in Hugging Face's form."""
        from ltrl.errors import LtrlError
        from ltrl.reward_stage import reward_server

        if "convert" in plan.resolved.spec.stages and (lost := _converted_in_vain(plan.resolved)):
            raise LtrlError(lost)
        convert = ("python", "-m", "ltrl_backends.nemo_rl.convert", f"../../bundle/{CONFIG}")
        export = ("python", "-m", "ltrl_backends.nemo_rl.export", "../../checkpoints", "model")
        return (
            Stage("convert", convert, before_training=True, gpus_per_node=1, minutes=120),
            reward_server(plan),
            Stage("export", export, minutes=120),
        )


def _converted_in_vain(resolved: Resolved) -> Diagnostic | None:
    """What is wrong when the training would not find the converted model: it would lie in the container."""
    from ltrl.errors import Code, Diagnostic

    if resolved.cluster.container is None or {"NRL_MEGATRON_CHECKPOINT_DIR", "HF_HOME"} & {
        *resolved.cluster.environment
    }:
        return None
    return Diagnostic(
        Code.STAGE,
        "the stage `convert` would leave the model in its container: neither `NRL_MEGATRON_CHECKPOINT_DIR` nor "
        f"`HF_HOME` is in the `environment` of the cluster profile `{resolved.cluster_name}`",
        resolved.at(f"stages.{resolved.spec.stages.index('convert')}"),
        "`environment: {NRL_MEGATRON_CHECKPOINT_DIR: /shared/megatron}`, and that directory in `shared_paths`",
    )


def _no_gpu_wanted(resolved: Resolved) -> Diagnostic:
    from ltrl.errors import Code, Diagnostic

    cluster = resolved.cluster
    gpus = f"{cluster.nodes} x {cluster.gpus_per_node} GPUs"
    return Diagnostic(
        Code.ENGINE_LIMIT,
        f"`engine.device: cpu` uses no GPU, the cluster profile `{resolved.cluster_name}` asks for {gpus}",
        resolved.at("engine.device"),
        "`--cluster local`, or `ltrl rehearse`",
    )
