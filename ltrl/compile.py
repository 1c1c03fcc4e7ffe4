"""From a spec on disk to a plan, and from a plan to a bundle."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltrl import catalog, plan, profile, project, source
from ltrl.backend import DataSection, create
from ltrl.errors import Code, Diagnostic, LtrlError, Position, Source, fail, raise_if_any
from ltrl.eval_stage import CONFIG, EVAL, eval_config
from ltrl.parse import parse
from ltrl.resolve import Resolved, origins, resolve
from ltrl.source import Document
from ltrl.spec import ClusterProfile, Experiment

if TYPE_CHECKING:
    from ltrl import bundle
    from ltrl.data.digest import DataDigests

__all__ = [
    "as_in_a_job",
    "asked_cluster",
    "checked_profile",
    "cluster_profile",
    "cluster_values",
    "compile_bundle",
    "compile_sweep",
    "count_samples",
    "data_digests",
    "is_sweep",
    "packed",
    "planned",
    "prepare",
    "prepare_all",
    "read",
    "resolved",
    "resolved_document",
    "sweep_values",
    "training_data",
]

Profiles = dict[str, tuple[ClusterProfile, Document | None]]


def prepare(
    spec: Path, *, cluster: str | None = None, overlays: Sequence[Path] = (), sets: Sequence[str] = ()
) -> plan.Plan:
    """The plan of a spec on a cluster; raises LtrlError with every mistake of the first stage that finds one."""
    return plan.plan(resolved(spec, cluster=cluster, overlays=overlays, sets=sets))


def prepare_all(
    spec: Path, *, cluster: str | None = None, overlays: Sequence[Path] = (), sets: Sequence[str] = ()
) -> list[plan.Plan]:
    """The plans of all that a spec describes: one, or those of its sweep's cells; raises LtrlError with the mistakes
    of all of them.
    """
    return planned(read(spec, overlays, sets), spec, cluster, sets)


def resolved(
    spec: Path, *, cluster: str | None = None, overlays: Sequence[Path] = (), sets: Sequence[str] = ()
) -> Resolved:
    """A spec with everything it refers to, before it is planned.

    `cluster` is a profile's name or path, by default the one that the engine prefers. Arguments of `sets` that begin
    with `cluster.` change the profile. Raises LtrlError with every mistake in the spec, what lies over and under it,
    and the profile.
    """
    document = read(spec, overlays, sets)
    if _is_sweep(document):
        from ltrl import sweep

        assert isinstance(document, Document)
        message = f"`{spec}` describes {len(sweep.cells(document))} runs, this needs one"
        where = document.at(("sweep",), key=True)
        raise fail(Code.SWEEP, message, where, hint="`--set sweep=null` leaves what they share")
    return _resolved(document, spec, cluster, sets)


def compile_bundle(
    spec: Path,
    *,
    cluster: str | None = None,
    overlays: Sequence[Path] = (),
    sets: Sequence[str] = (),
    out: Path | None = None,
    replace: bool = False,
    remember: bool = True,
) -> tuple[bundle.Bundle, plan.Plan, bool]:
    """The bundle of a spec, its plan, and whether it was written now; by default in `build/<name>` here.

    `remember` makes it the bundle that `ltrl submit` takes where none is named.
    """
    from ltrl import bundle

    planned = prepare(spec, cluster=cluster, overlays=overlays, sets=sets)
    files, planned = _files(planned, project.root(spec.parent))
    made, is_new = bundle.write(files, out or Path("build") / planned.name, replace=replace)
    if remember:
        project.remember_bundle(made.path)
    return made, planned, is_new


def compile_sweep(
    spec: Path,
    *,
    cluster: str | None = None,
    overlays: Sequence[Path] = (),
    sets: Sequence[str] = (),
    out: Path | None = None,
    replace: bool = False,
) -> tuple[bundle.SweepBundle, list[plan.Plan]]:
    """The bundles of all cells of a spec with a `sweep`, in one directory, and their plans."""
    from ltrl import bundle, sweep

    document = _load(spec, overlays, sets)
    found = sweep.cells(document)
    home = project.root(spec.parent)
    compiled = [_files(p, home) for p in planned(document, spec, cluster, sets)]
    made = bundle.write_sweep(
        out or Path("build") / sweep.sweep_id(document),
        sweep_id=sweep.sweep_id(document),
        at_once=document.data["sweep"].get("at_once"),
        cells=[(cell.name, cell.values, files) for cell, (files, _) in zip(found, compiled, strict=True)],
        replace=replace,
    )
    project.remember_bundle(made.path)
    return made, [planned for _, planned in compiled]


def sweep_values(spec: Path, *, overlays: Sequence[Path] = (), sets: Sequence[str] = ()) -> list[Mapping[str, Any]]:
    """The swept fields of every cell of a spec with a `sweep`."""
    from ltrl import sweep

    return [cell.values for cell in sweep.cells(_load(spec, overlays, sets))]


def is_sweep(spec: Path, *, overlays: Sequence[Path] = (), sets: Sequence[str] = ()) -> bool:
    """Whether a spec describes many runs."""
    return _is_sweep(read(spec, overlays, sets))


@cache
def packed(distributions: frozenset[str], provided: frozenset[str]) -> tuple[plan.Artifact, tuple[Diagnostic, ...]]:
    """The payload of a process's bundles: it packs the modules that it has imported, once for many specs."""
    from ltrl import payload

    return payload.pack(distributions, provided=provided)


def training_data(planned: plan.Plan, *, project: Path) -> plan.TrainingData:
    """How often a run sees its training data, which are counted here: what this finds is no part of a bundle."""
    found = count_samples(planned.resolved.spec.data.train, project=project)
    if isinstance(found, str):
        return plan.TrainingData(planned.num_prompts, None, found)
    return plan.TrainingData(planned.num_prompts, found)


def count_samples(section: DataSection, *, project: Path) -> int | str:
    """How many samples there are, or why that cannot be known here: the data may be on the cluster alone."""
    try:
        with as_in_a_job(project):
            return len(create(section))
    except LtrlError as error:
        return error.diagnostics[0].message.replace(f"{project}{os.sep}", "")


@contextmanager
def as_in_a_job(project: Path) -> Iterator[None]:
    """Relative paths of data start at the project, as they do in a job."""
    before = os.environ.get("LTRL_PROJECT_DIR")
    os.environ["LTRL_PROJECT_DIR"] = str(project)
    try:
        yield
    finally:
        if before is None:
            del os.environ["LTRL_PROJECT_DIR"]
        else:
            os.environ["LTRL_PROJECT_DIR"] = before


def read(spec: Path, overlays: Sequence[Path], sets: Sequence[str]) -> Document | LtrlError:
    """The document of a spec, or what is wrong with it."""
    try:
        return source.load(spec, overlays=overlays, sets=[s for s in sets if not s.startswith("cluster.")])
    except LtrlError as error:
        return error


def _load(spec: Path, overlays: Sequence[Path], sets: Sequence[str]) -> Document:
    document = read(spec, overlays, sets)
    if isinstance(document, LtrlError):
        raise document
    return document


def _is_sweep(document: Document | LtrlError) -> bool:
    """Whether it describes many runs; a `sweep` of null is none."""
    return isinstance(document, Document) and document.data.get("sweep") is not None


def planned(document: Document | LtrlError, spec: Path, cluster: str | None, sets: Sequence[str]) -> list[plan.Plan]:
    """What `prepare_all` gives, of a document that `read` gave."""
    if not _is_sweep(document):
        return [plan.plan(_resolved(document, spec, cluster, sets))]
    from ltrl import sweep

    assert isinstance(document, Document)
    profiles: Profiles = {}
    found = sweep.each(
        sweep.cells(document), lambda cell: plan.plan(_resolved(cell.document, spec, cluster, sets, profiles))
    )
    raise_if_any(_same_runs(document, found))
    return found


def _resolved(
    document: Document | LtrlError,
    spec: Path,
    cluster: str | None,
    sets: Sequence[str],
    profiles: Profiles | None = None,
) -> Resolved:
    """`profiles` are those read so far, by name: the cells of a sweep share one."""
    profiles = {} if profiles is None else profiles
    home = project.root(spec.parent)
    found: list[Diagnostic] = []
    try:
        if isinstance(document, LtrlError):
            raise document
        experiment = parse(document, Experiment)
        cluster = cluster or create(experiment.engine).default_cluster
    except LtrlError as error:
        found += error.diagnostics
    try:
        if cluster and cluster not in profiles:  # without a name the engine, which prefers one, is not known
            profiles[cluster] = asked_cluster(cluster, home, sets)
    except LtrlError as error:
        found += error.diagnostics
    raise_if_any(found)
    assert isinstance(document, Document) and cluster is not None, "what is missing has a mistake"  # noqa: PT018
    return _resolve(experiment, document, home, (Path(cluster).stem, *profiles[cluster]))


def resolved_document(document: Document, *, project: Path, cluster: Document, cluster_name: str) -> Resolved:
    """A spec and a cluster profile that are no files yet, with everything they refer to."""
    return _resolve(
        parse(document, Experiment), document, project, (cluster_name, parse(cluster, ClusterProfile), cluster)
    )


def _resolve(
    experiment: Experiment, document: Document, home: Path, cluster: tuple[str, ClusterProfile, Document | None]
) -> Resolved:
    name, chosen, chosen_document = cluster
    model, where = experiment.model, document.at(("model", "base"))
    card = catalog.find(model.base, project=home, overrides=model.overrides, position=where)
    return resolve(
        experiment,
        document,
        card=card,
        cluster=chosen,
        cluster_name=name,
        cluster_document=chosen_document,
    )


def data_digests(experiment: Experiment, home: Path) -> DataDigests:
    """What is known of the data files of a spec, by the section that reads them and their path in the project.

    Reads the notes that `ltrl data check` left beside the files, never the files: None for one without a note that
    fits, which may be on the cluster alone.
    """
    from ltrl.backend import ReadsFiles
    from ltrl.data import digest

    data = experiment.data
    sections = {"data.train": data.train} | {
        f"data.validation.{name}": found for name, found in data.validation.items()
    }
    found: DataDigests = {}
    with as_in_a_job(home):
        for field, section in sections.items():
            try:
                backend = create(section)
            except LtrlError:  # what only the job needs may be missing here
                continue
            if isinstance(backend, ReadsFiles):
                found[field] = {name: digest.known(path) for name, path in backend.files.items()}
    return found


def _files(planned: plan.Plan, home: Path) -> tuple[tuple[plan.Artifact, ...], plan.Plan]:
    """Every file of a bundle, and the plan with what was found on the way."""
    from ltrl import bundle, render

    engine = create(planned.resolved.engine)
    files = [*engine.artifacts(planned), *render.scripts(planned)]
    if any(stage.name == EVAL for stage in planned.stages):
        files.append(plan.Artifact(CONFIG, eval_config(planned.resolved)))
    if planned.launch.payload:
        used = {info["distribution"] for info in bundle.backends_used(planned.resolved.spec).values()}
        archive, warnings = packed(frozenset(used), engine.provided)
        files.append(archive)
        planned = dataclasses.replace(planned, warnings=(*planned.warnings, *warnings))
    return bundle.artifacts(planned, files, data=data_digests(planned.resolved.spec, home)), planned


def _same_runs(document: Document, found: Sequence[plan.Plan]) -> Iterator[Diagnostic]:
    """Cells that learn the same would share a run."""
    first: dict[str, str] = {}
    for planned in found:
        name = planned.resolved.spec.name
        if (other := first.setdefault(planned.resolved.fingerprint, name)) != name:
            hint = "sweep a field that changes what is learned (docs/spec.md: grade `new-run`)"
            where = document.at(("sweep",), key=True)
            yield Diagnostic(Code.SWEEP, f"`{name}` and `{other}` are the same run", where, hint)


def asked_cluster(name: str, home: Path, sets: Sequence[str]) -> tuple[ClusterProfile, Document | None]:
    """The profile that `--cluster` names, with those of `sets` that are for it, and its document; raises LtrlError."""
    try:
        return _cluster(name, home, [s for s in sets if s.startswith("cluster.")])
    except LtrlError as error:
        asked_for = Position(Source("--cluster", name), 1, 1, max(1, len(name)))
        raise LtrlError(
            *(d if d.position else dataclasses.replace(d, position=asked_for) for d in error.diagnostics)
        ) from None


def _cluster(name: str, home: Path, sets: Sequence[str]) -> tuple[ClusterProfile, Document | None]:
    path = project.cluster_file(name, home)
    if path is not None:
        document = source.load(path)
    elif name == "local" and not sets:
        return ClusterProfile(kind="cluster", executor="local"), None
    else:
        document = source.parse(Source(name, project.BUILT_IN[name], name))
    document = source.override(document, sets, below="cluster.")
    return checked_profile(document), document


def cluster_profile(name: str, home: Path) -> ClusterProfile:
    """A cluster profile by its name or path; raises LtrlError when it is unknown or wrong."""
    return _cluster(name, home, ())[0]


def cluster_values(name: str, home: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Value and origin of every field of a cluster profile, by dotted path; raises LtrlError when it is wrong."""
    chosen, document = _cluster(name, home, ())
    dump = chosen.model_dump(mode="json")
    values = {".".join(map(str, path)): value for path, value in source.walk(dump)}
    return values, dict(origins(dump, document)) if document else dict.fromkeys(values, "built in")


def checked_profile(document: Document) -> ClusterProfile:
    """The cluster profile in a document; raises LtrlError with everything that is wrong with it."""
    cluster = parse(document, ClusterProfile)

    def at(path: str) -> Position:
        return document.at(tuple(int(step) if step.isdecimal() else step for step in path.split(".")))

    raise_if_any((*profile.mistakes(cluster, at), *profile.refused_options(cluster, at)))
    return cluster
