"""From a spec on disk to a plan, and from a plan to a bundle."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from ltrl import bundle, catalog, payload, plan, project, render, source
from ltrl.backend import create
from ltrl.errors import LtrlError, Source
from ltrl.parse import parse
from ltrl.resolve import Resolved, resolve
from ltrl.source import Document
from ltrl.spec import ClusterProfile, Experiment

__all__ = ["compile_bundle", "prepare", "resolved", "training_data"]


def prepare(
    spec: Path, *, cluster: str | None = None, overlays: Sequence[Path] = (), sets: Sequence[str] = ()
) -> plan.Plan:
    """The plan of a spec on a cluster; raises LtrlError with every mistake of the first stage that finds one."""
    return plan.plan(resolved(spec, cluster=cluster, overlays=overlays, sets=sets))


def resolved(
    spec: Path, *, cluster: str | None = None, overlays: Sequence[Path] = (), sets: Sequence[str] = ()
) -> Resolved:
    """A spec with everything it refers to, before it is planned.

    `cluster` is a profile's name or path, by default the one that the engine prefers. Arguments of `sets` that begin
    with `cluster.` change the profile.
    """
    for_cluster = [s for s in sets if s.startswith("cluster.")]
    document = source.load(spec, overlays=overlays, sets=[s for s in sets if s not in for_cluster])
    experiment = parse(document, Experiment)
    name = cluster or create(experiment.engine).default_cluster
    home = project.root(spec.parent)
    profile, profile_document = _cluster(name, home, for_cluster)
    model = experiment.model
    where = document.at(("model", "base"))
    card = catalog.find(model.base, project=home, overrides=model.overrides, position=where)
    return resolve(
        experiment,
        document,
        card=card,
        cluster=profile,
        cluster_name=Path(name).stem,
        cluster_document=profile_document,
    )


def compile_bundle(
    spec: Path,
    *,
    cluster: str | None = None,
    overlays: Sequence[Path] = (),
    sets: Sequence[str] = (),
    out: Path | None = None,
    replace: bool = False,
) -> tuple[bundle.Bundle, plan.Plan, bool]:
    """The bundle of a spec, its plan, and whether it was written now; by default in `build/<name>` here."""
    planned = prepare(spec, cluster=cluster, overlays=overlays, sets=sets)
    engine = create(planned.resolved.engine)
    files = [*engine.artifacts(planned), *render.scripts(planned)]
    if planned.launch.payload:
        used = {info["distribution"] for info in bundle.backends_used(planned.resolved.spec).values()}
        packed, warnings = payload.pack(used, provided=engine.provided)
        files.append(packed)
        planned = dataclasses.replace(planned, warnings=(*planned.warnings, *warnings))
    whole = bundle.artifacts(planned, files)
    made, is_new = bundle.write(whole, out or Path("build") / planned.name, replace=replace)
    project.remember_bundle(made.path)
    return made, planned, is_new


def training_data(planned: plan.Plan, *, project: Path) -> plan.TrainingData:
    """How often a run sees its training data, which are counted here: what this finds is no part of a bundle."""
    before = os.environ.get("LTRL_PROJECT_DIR")
    os.environ["LTRL_PROJECT_DIR"] = str(project)  # as in the job: where relative paths start
    try:
        return plan.TrainingData(planned.num_prompts, len(create(planned.resolved.spec.data.train)))
    except LtrlError as error:  # the data may be on the cluster alone
        reason = error.diagnostics[0].message.replace(f"{project}{os.sep}", "")
        return plan.TrainingData(planned.num_prompts, None, reason)
    finally:
        if before is None:
            del os.environ["LTRL_PROJECT_DIR"]
        else:
            os.environ["LTRL_PROJECT_DIR"] = before


def _cluster(name: str, home: Path, sets: Sequence[str]) -> tuple[ClusterProfile, Document | None]:
    path = project.cluster_file(name, home)
    if path is not None:
        document = source.load(path)
    elif sets:
        document = source.parse(Source("local", "kind: cluster\nexecutor: local\n", "local"))
    else:
        return ClusterProfile(kind="cluster", executor="local"), None
    document = source.override(document, sets, below="cluster.")
    return parse(document, ClusterProfile), document
