"""The engine backend `nemo-rl`: from a plan to NeMo-RL's configuration and the driver's command."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from ltrl.backend import EngineSection
from ltrl_backends.nemo_rl.container import CONTAINER
from ltrl_backends.nemo_rl.options import NemoRLOptions

if TYPE_CHECKING:
    from ltrl.errors import Diagnostic
    from ltrl.memory import EngineSettings, Layout
    from ltrl.plan import Artifact, Plan
    from ltrl.resolve import Resolved

__all__ = ["CONFIG", "NemoRL"]

CONFIG = "nemo_rl.yaml"


class NemoRL:
    """The engine backend `nemo-rl`."""

    api: ClassVar[int] = 1
    Options: ClassVar[type[EngineSection]] = NemoRLOptions
    default_cluster: ClassVar[str] = "slurm"
    modules: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = "nemo"
    runtime: ClassVar[str] = "ray"
    """The job script starts a Ray cluster before the driver."""
    provided: ClassVar[frozenset[str] | None] = CONTAINER

    def __init__(self, options: NemoRLOptions) -> None:
        self.options = options

    def check(self, resolved: Resolved) -> Iterable[Diagnostic]:
        """Everything in the spec that NeMo-RL would refuse or ignore."""
        from ltrl_backends.nemo_rl.checks import check

        return check(resolved)

    def check_layout(self, resolved: Resolved, layout: Layout) -> Iterable[Diagnostic]:
        """Everything in the spec that NeMo-RL would refuse or ignore with this layout."""
        from ltrl_backends.nemo_rl.checks import check

        return check(resolved, layout)

    def memory_settings(self) -> EngineSettings:
        """Recomputation, chunks and kernels."""
        options = self.options
        return {
            "recompute": options.recompute,
            "logprob_chunk": options.logprob_chunk_size,
            "fused_kernels": options.fused_kernels,
        }

    def artifacts(self, plan: Plan) -> tuple[Artifact, ...]:
        """NeMo-RL's configuration; raises LtrlError when the planned layout breaks one of its rules."""
        from ltrl.errors import raise_if_any
        from ltrl.plan import Artifact
        from ltrl_backends.nemo_rl.checks import check
        from ltrl_backends.nemo_rl.config import dump

        raise_if_any(check(plan.resolved, plan.layout))
        return (Artifact(CONFIG, dump(plan)),)

    def command(self, plan: Plan) -> tuple[str, ...]:  # noqa: ARG002
        """The driver's argument vector."""
        return ("python", "-m", "ltrl_backends.nemo_rl.driver", f"bundle/{CONFIG}")
