"""An evaluation as a job of its own: from its spec and a cluster profile to a bundle, whose run is that one job.

The run has no steps and no checkpoints. Its job serves the model, asks it and grades the answers in the run directory;
what it has asked is in a log there, so that a further attempt asks only for what is missing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltrl import bundle, catalog, project, render
from ltrl.backend import Grade, Stage
from ltrl.backend.models import graded
from ltrl.bundle import Bundle
from ltrl.compile import asked_cluster, packed
from ltrl.container import of_stage
from ltrl.errors import Code, Diagnostic, LtrlError, Position, Source, raise_if_any
from ltrl.eval_stage import CONFIG, EVAL, RESULTS
from ltrl.evaluation.spec import Evaluation
from ltrl.evaluation.subject import Written, measurement, written
from ltrl.evaluation.weights import identity, model_directory
from ltrl.plan import PAYLOAD, Artifact, LaunchRequest
from ltrl.resolve import origins
from ltrl.source import walk
from ltrl.stages import EVALUATION, TRAIN

if TYPE_CHECKING:
    from ltrl.evaluation.measure import Measurement
    from ltrl.source import Document
    from ltrl.spec import ClusterProfile

__all__ = ["EvalPlan", "ResolvedEvaluation", "compile_evaluation", "plan_evaluation"]

IN_IMAGE = frozenset(
    """
    annotated-types anyio certifi h11 httpcore httpx huggingface-hub idna jinja2 numpy platformdirs pydantic
    pydantic-core pyyaml safetensors sniffio tokenizers torch transformers typing-extensions typing-inspection vllm
    """.split()  # noqa: SIM905
)
"""What the image of an evaluation has itself: vLLM, and what ltrl needs there. A second copy would take its place."""


@dataclass(frozen=True)
class ResolvedEvaluation:
    """An evaluation with everything it refers to."""

    spec: Evaluation
    """Its model is the one that is measured: a directory relative to the project if it lies in it."""
    found: Measurement
    weights: str | None
    """What tells the weights of a directory apart; None for a model of the hub or at an endpoint."""
    cluster: ClusterProfile
    cluster_name: str
    document: Document
    cluster_document: Document | None
    origins: dict[str, str]
    """Where the value of each field comes from: `file:line`, `default`."""

    @property
    def measured(self) -> dict[str, Any]:
        """Every field that changes what is measured, by its dotted path, and what tells the weights apart."""
        found = {path: value for path, grade, value in graded(self.spec) if grade is Grade.NEW_RUN}
        return found | ({"weights": self.weights} if self.weights else {})

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hex, of everything that changes what is measured."""
        return hashlib.sha256(json.dumps(self.measured, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Everything, as the bundle's `resolved.json` holds it."""
        found = self.found
        return {
            "fingerprint": self.fingerprint,
            "spec": self.spec.model_dump(mode="json"),
            "lengths": {"prompt": found.prompt, "response": found.response, "total": found.total},
            "chat_format": found.chat_format,
            "measured": self.measured,
            "cluster": {"name": self.cluster_name, **self.cluster.model_dump(mode="json")},
            "origins": self.origins,
        }


@dataclass(frozen=True)
class EvalPlan:
    """An evaluation with its job."""

    resolved: ResolvedEvaluation
    job: Stage
    launch: LaunchRequest
    warnings: tuple[Diagnostic, ...] = ()

    @property
    def name(self) -> str:
        """Name of the bundle and of its run directory: `<spec name>-<fingerprint, 8 digits>`."""
        return f"{self.resolved.spec.name}-{self.resolved.fingerprint[:8]}"

    def to_json(self) -> dict[str, Any]:
        """The plan as the bundle's `plan.json` holds it."""
        return {
            "name": self.name,
            "fingerprint": self.resolved.fingerprint,
            "engine": EVALUATION,
            "steps": 0,
            "cluster": self.resolved.cluster_name,
            "launch": {**asdict(self.launch), "command": list(self.launch.command)},
            "stages": [TRAIN],
            "stage_launches": {},
        }


def compile_evaluation(
    spec: Path,
    *,
    cluster: str,
    model: tuple[str, str | None] | None = None,
    overlays: Sequence[Path] = (),
    sets: Sequence[str] = (),
    out: Path | None = None,
) -> tuple[Bundle, EvalPlan, bool]:
    """The bundle of an evaluation, its plan, and whether it was written now; by default in `build/<name>` here.

    `model` takes the place of the spec's: a directory or an id, and its name. Arguments of `sets` that begin with
    `cluster.` change the profile. Raises LtrlError with every mistake in the spec and the profile.
    """
    planned = plan_evaluation(spec, cluster=cluster, model=model, overlays=overlays, sets=sets)
    config = json.dumps(_config(planned.resolved), indent=2) + "\n"
    launch = planned.launch
    scripts = render.job_scripts(planned.resolved.cluster, planned.job, name=launch.job_name, payload=launch.payload)
    files = [Artifact(CONFIG, config), *scripts]
    if launch.payload:
        used = {info["distribution"] for info in bundle.backends_used(planned.resolved.spec).values()}
        archive, warnings = packed(frozenset(used), IN_IMAGE)
        files.append(archive)
        planned = dataclasses.replace(planned, warnings=warnings)
    made, is_new = bundle.write(bundle.artifacts(planned, files), out or Path("build") / planned.name, replace=True)
    return made, planned, is_new


def plan_evaluation(
    spec: Path,
    *,
    cluster: str,
    model: tuple[str, str | None] | None = None,
    overlays: Sequence[Path] = (),
    sets: Sequence[str] = (),
) -> EvalPlan:
    """The plan of an evaluation on a cluster; takes the same and raises the same as `compile_evaluation`."""
    home = project.root(spec.parent)
    wrong: list[Diagnostic] = []
    asked = found = profile = None
    try:
        asked = written(spec, overlays=overlays, sets=[s for s in sets if not s.startswith("cluster.")])
        found = measurement(asked, model=model)
    except LtrlError as error:
        wrong += error.diagnostics
    try:
        profile, profile_document = asked_cluster(cluster, home, sets)
    except LtrlError as error:
        wrong += error.diagnostics
    directory = None
    if asked and found:
        try:
            directory = _directory(found, asked, home, is_chosen=model is not None)
        except LtrlError as error:
            wrong += error.diagnostics
    if asked and found and profile:
        wrong += _no_room(asked, profile, cluster)
        if directory:
            wrong += _out_of_sight(directory, asked, profile, home, is_chosen=model is not None)
    raise_if_any(wrong)
    assert asked and found and profile, "what is missing has a mistake"  # noqa: PT018
    base = found.base
    if directory:
        base = directory.relative_to(home).as_posix() if directory.is_relative_to(home) else str(directory)
    subject = asked.spec.model.model_copy(update={"base": base, "revision": found.revision})
    evaluation = asked.spec.model_copy(update={"model": subject})
    if profile.container:
        container = of_stage(profile.container, evaluation.serve.image)
        profile = profile.model_copy(update={"container": container})
    name = Path(cluster).stem
    resolved = ResolvedEvaluation(
        spec=evaluation,
        found=dataclasses.replace(found, base=base, section=evaluation),
        weights=identity(directory) if directory else None,
        cluster=profile,
        cluster_name=name,
        document=asked.document,
        cluster_document=profile_document,
        origins=dict(_origins(asked, evaluation, profile, profile_document)),
    )
    job = _job(asked, profile)
    launch = LaunchRequest(
        job_name=evaluation.name,
        executor=profile.executor,
        nodes=job.nodes,
        gpus_per_node=job.gpus_per_node,
        minutes=job.minutes,
        gpu_hours=round(job.nodes * job.gpus_per_node * job.minutes / 60, 2),
        command=job.command,
        payload=PAYLOAD if profile.container else None,
    )
    return EvalPlan(resolved, job, launch)


def _job(asked: Written, profile: ClusterProfile) -> Stage:
    """What the spec asks for, as the cluster profile wants it for its stage `eval`."""
    serve = asked.spec.serve
    job = Stage(
        EVAL,
        ("python", "-m", "ltrl.evaluation", f"bundle/{CONFIG}", RESULTS),
        gpus_per_node=_num_gpus(asked),
        minutes=serve.minutes,
        image=serve.image,
    )
    request = profile.stages.get(EVAL)
    return dataclasses.replace(job, **request.model_dump(exclude_none=True)) if request else job


def _num_gpus(asked: Written) -> int:
    serve = asked.spec.serve
    return serve.tensor if asked.spec.endpoint is None and serve.engine == "vllm" else 0


def _config(resolved: ResolvedEvaluation) -> dict[str, Any]:
    """What the job measures, as the file of the bundle has it."""
    found = resolved.found
    return {
        "name": found.name,
        "model": {"base": found.base, "revision": found.revision, "served_as": found.served_as},
        "endpoint": found.endpoint.model_dump(mode="json") if found.endpoint else None,
        "prompt": found.prompt,
        "response": found.response,
        "total": found.total,
        "chat_format": found.chat_format,
        "eval": resolved.spec.model_dump(mode="json", include=set(_SECTION)),
    }


_SECTION = tuple(
    name for name in Evaluation.model_fields if name not in ("kind", "name", "description", "model", "endpoint")
)


def _place(asked: Written, text: str, *, is_chosen: bool) -> Position:
    """Where the model was named: in the spec, or after `--model`."""
    return Position(Source("--model", text), 1, 1, max(1, len(text))) if is_chosen else asked.at("model", "base")


def _directory(found: Measurement, asked: Written, home: Path, *, is_chosen: bool) -> Path | None:
    """Where the model is; None for one of the hub or at an endpoint. Raises LtrlError where there is none to serve."""
    if found.endpoint is not None:
        return None
    where = _place(asked, found.base, is_chosen=is_chosen)
    here = (Path.cwd(), home) if is_chosen else (home,)
    places = [Path(os.path.abspath(root / Path(found.base).expanduser())) for root in here]
    if directory := next((place for place in places if place.is_dir()), None):
        try:
            return model_directory(directory)
        except LtrlError as error:
            raise LtrlError(*(dataclasses.replace(d, position=where) for d in error.diagnostics)) from None
    is_beside_others = any(place.parent.is_dir() and place.parent not in here for place in places)
    if re.fullmatch(catalog.HUB_ID, found.base) and not is_beside_others:
        return None
    message = f"there is no model directory `{found.base}`"
    hint = "`ltrl eval SPEC --model` takes an exported directory, or a run that has one (`ltrl export RUN`)"
    raise LtrlError(Diagnostic(Code.UNKNOWN_MODEL, message, where, hint))


def _no_room(asked: Written, profile: ClusterProfile, cluster: str) -> Iterator[Diagnostic]:
    """More GPUs than a node has: the server runs on one node."""
    request, needed = profile.stages.get(EVAL), _num_gpus(asked)
    given = None if request is None else request.gpus_per_node
    room = profile.gpus_per_node if given is None else given
    if needed > room:
        message = f"`serve.tensor: {needed}` needs {needed} GPUs on one node, where `{cluster}` has {room}"
        hint = f"at most {room}" if room else "`--cluster` names a profile with GPUs; `serve.engine: local` needs none"
        yield Diagnostic(Code.LAYOUT, message, asked.at("serve", "tensor"), hint)


def _out_of_sight(
    directory: Path, asked: Written, profile: ClusterProfile, home: Path, *, is_chosen: bool
) -> Iterator[Diagnostic]:
    """A directory that the job's container would not see at its own path."""
    if profile.container is None:
        return
    mounts = [mount.split(":") for mount in profile.container.mounts]
    seen = [home, *map(Path, profile.shared_paths), *(Path(m[0]) for m in mounts if m[:1] == m[1:2])]
    if not any(directory.is_relative_to(path) for path in seen):
        message = f"the container of the cluster profile does not see `{directory}`"
        hint = f"name it, or a directory around it, in the profile's `shared_paths`: `[{directory.parent}]`"
        yield Diagnostic(Code.UNKNOWN_MODEL, message, _place(asked, str(directory), is_chosen=is_chosen), hint)


def _origins(
    asked: Written, spec: Evaluation, profile: ClusterProfile, profile_document: Document | None
) -> Iterator[tuple[str, str]]:
    for path, _ in walk(spec.model_dump(mode="json")):
        position = asked.document.written(asked.place(path))
        yield ".".join(map(str, path)), position.label if position else "default"
    if profile_document:
        yield from origins(profile.model_dump(mode="json"), profile_document, "cluster.")
    image = asked.document.written(asked.place(("serve", "image")))
    if profile.container and spec.serve.image and image:
        yield "cluster.container.image", image.label
