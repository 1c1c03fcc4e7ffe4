"""What a run will do, in numbers: layout, batches, memory and the launch request. One plan, three readers."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from ltrl import memory
from ltrl.backend import Stage, create
from ltrl.errors import Code, Diagnostic, fail, raise_if_any
from ltrl.eval_stage import eval_stage
from ltrl.memory import Layout, MemoryEstimate
from ltrl.resolve import Resolved
from ltrl.stages import TRAIN

__all__ = [
    "PAYLOAD",
    "Artifact",
    "Batches",
    "LaunchRequest",
    "Layout",
    "Microbatches",
    "Plan",
    "Rank",
    "TrainingData",
    "memory_settings",
    "plan",
    "search",
]

PAYLOAD = "payload.zip"
"""Name of the archive of modules in a bundle; see `ltrl.payload`."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file of a bundle."""

    path: str
    """Relative to the bundle, with `/`."""
    content: str | bytes
    executable: bool = False

    @property
    def data(self) -> bytes:
        """Its bytes; text is UTF-8."""
        return self.content.encode() if isinstance(self.content, str) else self.content

    @property
    def text(self) -> str:
        """Its text; a file that holds none raises UnicodeDecodeError."""
        return self.content if isinstance(self.content, str) else self.content.decode()


@dataclass(frozen=True, slots=True)
class Batches:
    """What one training step consumes."""

    prompts_per_step: int
    group_size: int
    samples_per_step: int
    """Responses in a step: prompts times group size."""
    batch_size: int
    """Responses in one optimizer update."""
    updates_per_step: int
    max_tokens_per_step: int
    """Tokens of a step whose every prompt and response is as long as allowed."""


@dataclass(frozen=True, slots=True)
class Microbatches:
    """How an optimizer update is cut up on each replica, were every response as long as allowed.

    Packing puts several shorter responses into one microbatch, so that a step of real data has fewer.
    """

    responses_per_replica: int
    """Of one update: the batch over the data-parallel size."""
    max_per_step: int
    """On one replica, each with one response of full length."""
    pipeline_idle: float
    """Share of an update that a pipeline stage waits, (pp - 1) / (microbatches + pp - 1): Megatron's 1F1B schedule.
    Fewer microbatches make it more.
    """


@dataclass(frozen=True, slots=True)
class Rank:
    """What one training GPU holds."""

    rank: int
    node: int
    gpu: int
    """On its node."""
    tp: int
    cp: int
    dp: int
    pp: int
    etp: int
    """Part of each of its experts."""
    ep: int
    """Share of the experts."""
    expert_dp: int
    """Copy of that share."""


@dataclass(frozen=True, slots=True)
class TrainingData:
    """How often a run sees its training data."""

    num_prompts: int
    """Steps times prompts a step; dynamic sampling draws more."""
    num_samples: int | None
    """Before prompts that are too long are left out; None where the data cannot be read."""
    reason: str | None = None
    """Why they cannot be read."""

    @property
    def epochs(self) -> float | None:
        """Times that each sample is seen."""
        return self.num_prompts / self.num_samples if self.num_samples else None

    def to_json(self) -> dict[str, Any]:
        """The same for programs."""
        return {**asdict(self), "epochs": self.epochs}


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    """What is asked of the machine or the scheduler."""

    job_name: str
    executor: str
    nodes: int
    gpus_per_node: int
    minutes: int
    gpu_hours: float
    """GPUs times wall time, were the job to use all of it."""
    command: tuple[str, ...]
    """The driver, started in the run directory."""
    payload: str | None = None
    """The file of the bundle that holds ltrl and the plugins, first on the PYTHONPATH of every node; None for a job in
    the Python that compiled it.
    """


@dataclass(frozen=True)
class Plan:
    """A run with its numbers."""

    resolved: Resolved
    layout: Layout
    batches: Batches
    memory: MemoryEstimate | None
    """None on machines without GPUs."""
    launch: LaunchRequest
    warnings: tuple[Diagnostic, ...] = ()
    stages: tuple[Stage, ...] = ()
    """Those beside the training that the spec asks for, in order, with their machines and time."""

    @property
    def microbatches(self) -> Microbatches | None:
        """None on machines without GPUs."""
        if self.memory is None:
            return None
        per_replica = -(-self.batches.batch_size // self.layout.dp)
        stages = self.layout.pp - 1
        return Microbatches(
            responses_per_replica=per_replica,
            max_per_step=per_replica * self.batches.updates_per_step,
            pipeline_idle=round(stages / (per_replica + stages), 4),
        )

    @property
    def ranks(self) -> tuple[Rank, ...]:
        """Every GPU that trains, by node; none on machines without GPUs."""
        return _ranks(self.layout) if self.layout.gpus_per_node else ()

    @property
    def num_prompts(self) -> int:
        """Prompts of the whole run."""
        return self.resolved.spec.algorithm.steps * self.batches.prompts_per_step

    @property
    def name(self) -> str:
        """Name of the bundle and of its run directory: `<spec name>-<fingerprint, 8 digits>`."""
        return f"{self.resolved.spec.name}-{self.resolved.fingerprint[:8]}"

    def to_json(self) -> dict[str, Any]:
        """The plan as the bundle's `plan.json` holds it."""
        return {
            "name": self.name,
            "fingerprint": self.resolved.fingerprint,
            "engine": self.resolved.engine.name,
            "steps": self.resolved.spec.algorithm.steps,
            "cluster": self.resolved.cluster_name,
            "launch": {**asdict(self.launch), "command": list(self.launch.command)},
            "stages": list(self.resolved.spec.stages),
            "stage_launches": {s.name: {**asdict(s), "command": list(s.command)} for s in self.stages},
            "layout": asdict(self.layout),
            "batches": asdict(self.batches),
            "microbatches": asdict(self.microbatches) if self.microbatches else None,
            "memory": _memory_json(self.memory) if self.memory else None,
        }


def plan(resolved: Resolved) -> Plan:
    """The plan of a run; raises LtrlError with everything that its engine or its machines would refuse."""
    engine = create(resolved.engine)
    resolved = engine.adapted(resolved)
    found = (*engine.check(resolved), *_doubts(resolved))
    raise_if_any(found)
    layout, estimate = _layout(resolved)
    warnings = (*found, *_tightness(resolved, layout, estimate))
    draft = Plan(resolved, layout, _batches(resolved), estimate, _launch(resolved, ()), warnings)
    offered = (*getattr(engine, "stages", lambda _: ())(draft), eval_stage(resolved))
    stages = _stages(resolved, tuple(stage for stage in offered if stage))
    return replace(draft, launch=_launch(resolved, engine.command(draft)), stages=stages)


def _stages(resolved: Resolved, offered: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """The stages that the spec asks for, as the cluster profile wants them; raises LtrlError when there is no such."""
    before = [stage.name for stage in offered if stage.before_training]
    order = [*before, TRAIN, *(stage.name for stage in offered if not stage.before_training)]
    wanted, wrong = resolved.spec.stages, []
    named = {stage.name: stage for stage in offered}
    needs = {stage.name: (*stage.needs, *((TRAIN,) if stage.is_service else ())) for stage in offered}
    for i, name in enumerate(wanted):
        message = None
        if name not in order:
            message = f"`{resolved.engine.name}` has no stage `{name}`"
        elif name in wanted[:i]:
            message = f"the stage `{name}` is named twice"
        elif any(order.index(name) < order.index(earlier) for earlier in wanted[:i] if earlier in order):
            message = f"the stage `{name}` comes before `{wanted[i - 1]}`"
        elif missing := [n for n in needs.get(name, ()) if n not in wanted]:
            message = f"the stage `{name}` needs {', '.join(f'`{n}`' for n in missing)}"
        if message:
            hint = f"its stages, in order: {', '.join(f'`{n}`' for n in order)}"
            wrong.append(Diagnostic(Code.STAGE, message, resolved.at(f"stages.{i}"), hint))
    raise_if_any(wrong)
    asked = {name: request.model_dump(exclude_none=True) for name, request in resolved.cluster.stages.items()}
    return tuple(replace(named[name], **asked.get(name, {})) for name in wanted if name != TRAIN)


def _doubts(resolved: Resolved) -> Iterable[Diagnostic]:
    for field, message, hint in resolved.spec.reward.doubts():
        yield Diagnostic(Code.POINTLESS_REWARD, message, resolved.at(f"reward.{field}"), hint, severity="warning")


def _tightness(resolved: Resolved, layout: Layout, estimate: MemoryEstimate | None) -> Iterable[Diagnostic]:
    """A warning, not an error: the estimate has a band, and who chose the layout may know better."""
    if estimate is None or estimate.verdict == "fits":
        return
    worst = estimate.worst
    low, high = (end / 2**30 for end in worst.band)
    change = memory.smallest_change(resolved.card, layout, **memory_settings(resolved))
    yield Diagnostic(
        Code.MEMORY,
        f"{worst.name} needs {worst.total / 2**30:.0f} GiB per GPU ({low:.0f} to {high:.0f}) of "
        f"{resolved.cluster.gpu_memory_gb:g} GiB"
        if estimate.sequences_per_engine
        else f"a rollout engine has no room for one sequence of {resolved.lengths.total} tokens",
        resolved.at(change.first_field if change else "parallelism"),
        f"the smallest change that fits: {change.what}" if change else "use more nodes or a shorter context",
        severity="warning",
    )


def _batches(resolved: Resolved) -> Batches:
    algorithm = resolved.spec.algorithm
    samples = algorithm.prompts_per_step * algorithm.group_size
    batch = algorithm.batch_size or samples
    return Batches(
        prompts_per_step=algorithm.prompts_per_step,
        group_size=algorithm.group_size,
        samples_per_step=samples,
        batch_size=batch,
        updates_per_step=samples // batch,
        max_tokens_per_step=samples * resolved.lengths.total,
    )


def _ranks(layout: Layout) -> tuple[Rank, ...]:
    """In NeMo-RL's order, pp x dp x cp x tp with tp fastest (`lm_policy.py`, `sharding_annotations`), over GPUs sorted
    by node; experts in Megatron-Core's, pp x expert dp x ep x etp (`parallel_state.py`, order `tp-cp-ep-dp-pp`).
    """

    def places(*sizes: int) -> Iterable[tuple[int, ...]]:
        return itertools.product(*map(range, sizes))

    dense = places(layout.pp, layout.dp, layout.cp, layout.tp)
    experts = places(layout.pp, layout.expert_dp, layout.ep, layout.etp)
    found = []
    for rank, ((pp, dp, cp, tp), (_, expert_dp, ep, etp)) in enumerate(zip(dense, experts, strict=True)):
        node, gpu = divmod(rank, layout.gpus_per_node)
        found.append(Rank(rank, node, gpu, tp, cp, dp, pp, etp, ep, expert_dp))
    return tuple(found)


def _launch(resolved: Resolved, command: Iterable[str]) -> LaunchRequest:
    cluster = resolved.cluster
    return LaunchRequest(
        job_name=resolved.spec.name,
        executor=cluster.executor,
        nodes=cluster.nodes,
        gpus_per_node=cluster.gpus_per_node,
        minutes=cluster.minutes,
        gpu_hours=round(cluster.nodes * cluster.gpus_per_node * cluster.minutes / 60, 2),
        command=tuple(command),
        payload=None if create(resolved.engine).provided is None else PAYLOAD,
    )


def _layout(resolved: Resolved) -> tuple[Layout, MemoryEstimate | None]:
    cluster, sizes = resolved.cluster, resolved.spec.parallelism
    nodes = cluster.nodes - (resolved.spec.rollout.nodes or 0)
    gpus = nodes * cluster.gpus_per_node
    if gpus == 0:
        return Layout(tp=1, pp=1, cp=1, ep=1, etp=1, dp=1, nodes=1, gpus_per_node=0), None
    is_known = bool(create(resolved.engine).memory_settings())  # or its GPUs hold something that no planner knows
    if sizes is None and is_known:
        return _first_that_fits(resolved, gpus)
    if sizes is None:
        return Layout(tp=1, pp=1, cp=1, ep=1, etp=1, dp=gpus, nodes=nodes, gpus_per_node=cluster.gpus_per_node), None
    model_gpus = sizes.tensor * sizes.pipeline * sizes.context
    if gpus % model_gpus:
        raise fail(
            Code.LAYOUT,
            f"tensor {sizes.tensor} x pipeline {sizes.pipeline} x context {sizes.context} = {model_gpus} GPUs hold one "
            f"copy of the model, which does not divide the {gpus} GPUs of {nodes} x {cluster.gpus_per_node}",
            resolved.at("parallelism"),
            hint="`ltrl plan --search` lists the layouts that fit",
        )
    layout = Layout(
        tp=sizes.tensor,
        pp=sizes.pipeline,
        cp=sizes.context,
        ep=sizes.expert,
        etp=sizes.expert_tensor,
        dp=gpus // model_gpus,
        nodes=nodes,
        gpus_per_node=cluster.gpus_per_node,
    )
    return layout, memory.estimate(resolved.card, layout, **memory_settings(resolved)) if is_known else None


def search(resolved: Resolved) -> list[tuple[Layout, MemoryEstimate]]:
    """Every layout that the cluster's training GPUs allow and that the engine accepts, best first.

    What the spec says of the layout does not count. Raises LtrlError with what the engine refuses in any layout.
    """
    engine = create(resolved.engine)
    undecided = resolved.spec.model_copy(update={"parallelism": None})
    raise_if_any(engine.check(replace(resolved, spec=undecided)))
    return [found for found in _candidates(resolved) if not _refused(engine, resolved, found[0])]


def _candidates(resolved: Resolved) -> list[tuple[Layout, MemoryEstimate]]:
    cluster = resolved.cluster
    gpus = (cluster.nodes - (resolved.spec.rollout.nodes or 0)) * cluster.gpus_per_node
    if gpus == 0:
        return []
    batch = _batches(resolved).batch_size
    return memory.search(resolved.card, gpus, cluster.gpus_per_node, batch_size=batch, **memory_settings(resolved))


def memory_settings(resolved: Resolved) -> memory.Settings:
    """What of a spec decides the memory it needs, besides the layout."""
    spec = resolved.spec
    of_engine: memory.EngineSettings = create(spec.engine).memory_settings()
    return {
        "context_total": resolved.lengths.total,
        "gpu_memory_gb": resolved.cluster.gpu_memory_gb,
        "rollout": spec.rollout.parallelism,
        "gpu_memory_share": spec.rollout.gpu_memory,
        "colocated": spec.rollout.nodes is None,
        "filtered_sampling": spec.rollout.top_p < 1 or spec.rollout.top_k is not None,
        "reference_model": spec.algorithm.kl.coefficient > 0,
        "samples_per_step": spec.algorithm.prompts_per_step * spec.algorithm.group_size,
        "checkpoints_kept": spec.checkpoint.most_kept_until(spec.algorithm.steps),
        "save_optimizer": spec.checkpoint.save_optimizer,
        "rollout_gpus": (spec.rollout.nodes or resolved.cluster.nodes) * resolved.cluster.gpus_per_node,
        "host_memory_gb": None,
        **of_engine,
    }


def _refused(engine: Any, resolved: Resolved, layout: Layout) -> list[Diagnostic]:
    return [found for found in engine.check_layout(resolved, layout) if found.severity == "error"]


def _first_that_fits(resolved: Resolved, gpus: int) -> tuple[Layout, MemoryEstimate]:
    engine, found = create(resolved.engine), _candidates(resolved)
    # an engine's check takes 2 ms a layout, so that only those are asked for that the choice needs
    best = next((one for one in found if not _refused(engine, resolved, one[0])), None)
    if best and best[1].fits:
        return best
    if found and not best:
        raise_if_any(_refused(engine, resolved, found[0][0]))
    reason = f"needs {-best[1].headroom / 2**30:.1f} GiB more per GPU at best" if best else "has no valid layout"
    change = memory.smallest_change(resolved.card, best[0], **memory_settings(resolved)) if best else None
    raise fail(
        Code.LAYOUT,
        f"`{resolved.spec.model.base}` at {resolved.lengths.total} tokens {reason} on {gpus} GPUs of "
        f"{resolved.cluster.gpu_memory_gb:g} GiB",
        resolved.at("parallelism"),
        hint=f"the smallest change that fits: {change.what}" if change else "use more nodes or a shorter context",
    )


def _memory_json(estimate: MemoryEstimate) -> dict[str, Any]:
    phases = (*estimate.phases, estimate.host, estimate.disk)
    return {
        "verdict": estimate.verdict,
        "headroom_bytes_per_gpu": estimate.headroom,
        "sequences_per_engine": estimate.sequences_per_engine,
        "num_engines": estimate.num_engines,
        "phases": {
            phase.name: {
                "per": phase.per,
                "total_bytes": phase.total,
                "band_bytes": list(phase.band),
                "capacity_bytes": phase.capacity,
                "verdict": phase.verdict,
                "terms": {term.name: term.bytes for term in phase.terms},
            }
            for phase in phases
        },
    }
