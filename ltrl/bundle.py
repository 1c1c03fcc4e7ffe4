"""A bundle: everything a job needs, in one directory of files with their hashes."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltrl import __version__, container
from ltrl.backend import EngineSection, Model, backends, load, named
from ltrl.errors import Code, LtrlError, fail
from ltrl.plan import Artifact, Plan
from ltrl.scoring import chat_format_owner
from ltrl.spec import Experiment
from ltrl.stages import EVALUATION

if TYPE_CHECKING:
    from ltrl.data.digest import DataDigests, Digest
    from ltrl.eval_job import EvalPlan
    from ltrl.evaluation.spec import Evaluation

__all__ = [
    "LOCK",
    "SWEEP",
    "Bundle",
    "SweepBundle",
    "artifacts",
    "backends_used",
    "is_sweep",
    "put",
    "read",
    "read_sweep",
    "write",
    "write_sweep",
]

LOCK = "ltrl.lock.json"
"""The manifest; written last, so that a directory with one is a whole bundle."""

SWEEP = "sweep.json"
"""What a directory with the bundles of a sweep holds beside them."""


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk whose files are those of its manifest."""

    path: Path
    lock: dict[str, Any]
    files: Mapping[str, Artifact] = field(repr=False, compare=False)
    """By their paths, as they were read or written; the manifest is the last."""

    @property
    def name(self) -> str:
        """`<spec name>-<fingerprint, 8 digits>`: also the run's name."""
        return str(self.lock["name"])

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hex, of everything that changes what is learned, or measured."""
        return str(self.lock["fingerprint"])

    @cached_property
    def plan(self) -> dict[str, Any]:
        """The contents of `plan.json`."""
        return dict(json.loads(self.read("plan.json")))

    @cached_property
    def resolved(self) -> dict[str, Any]:
        """The contents of `resolved.json`."""
        return dict(json.loads(self.read("resolved.json")))

    @property
    def data(self) -> dict[str, dict[str, str]]:
        """SHA-256 of the data files by the field of the spec that reads them and their path, where it was known."""
        return {
            field: {path: found["sha256"] for path, found in files.items() if found["sha256"]}
            for field, files in self.lock.get("data", {}).items()
        }

    @property
    def is_evaluation(self) -> bool:
        """Whether its run measures a model and trains none."""
        return str(self.plan["engine"]) == EVALUATION

    @property
    def engine(self) -> EngineSection:
        """The options of its engine; an evaluation has none."""
        section = self.resolved["spec"]["engine"]
        options: type[EngineSection] = load("engine", section["name"]).Options
        return options.model_validate(section, strict=False)

    def read(self, relative: str) -> str:
        """The text of one of its files."""
        return self.files[relative].text


@dataclass(frozen=True)
class SweepBundle:
    """The bundles of all cells of a sweep, in one directory."""

    path: Path
    id: str
    at_once: int | None
    """Most cells that run at the same time."""
    cells: tuple[Bundle, ...]
    values: tuple[Mapping[str, Any], ...]
    """The swept fields of each cell, by dotted path."""


def artifacts(
    plan: Plan | EvalPlan, files: Iterable[Artifact], *, data: DataDigests | None = None
) -> tuple[Artifact, ...]:
    """All files of a bundle: copies of what was written, what follows from it, the given ones, and last the manifest.

    `data` is what is known of the data files. Equal plans give equal bytes: nothing here knows the time, the machine or
    the user.
    """
    resolved = plan.resolved
    main, *others = resolved.document.sources
    copies = [Artifact("spec.yaml", main.text)]
    if resolved.cluster_document:
        copies.append(Artifact("cluster.yaml", resolved.cluster_document.sources[0].text))
    layers = [s for s in others if not s.label.startswith("--set ")]
    copies += [Artifact(f"layers/{i}-{Path(s.label).name}", s.text) for i, s in enumerate(layers, 1)]
    derived = [Artifact("resolved.json", _json(resolved.to_json())), Artifact("plan.json", _json(plan.to_json()))]
    whole = sorted([*copies, *derived, *files], key=lambda a: a.path)
    sources = resolved.document.fingerprints
    if resolved.cluster_document:
        sources |= {f"cluster:{name}": digest for name, digest in resolved.cluster_document.fingerprints.items()}
    lock = {
        "format": 1,
        "name": plan.name,
        "fingerprint": resolved.fingerprint,
        "ltrl": __version__,
        "backends": backends_used(resolved.spec),
        **_containers(plan),
        "sources": sources,
        "data": {field: {path: _known(one) for path, one in files_.items()} for field, files_ in (data or {}).items()},
        "files": {a.path: hashlib.sha256(a.data).hexdigest() for a in whole},
    }
    return (*whole, Artifact(LOCK, _json(lock)))


def _containers(plan: Plan | EvalPlan) -> dict[str, Any]:
    """The image of the run's job, and those of stages that name others."""
    chosen = plan.resolved.cluster.container
    if chosen is None:
        return {"container": None}
    stages = plan.stages if isinstance(plan, Plan) else ()
    others = {s.name: container.manifest(container.of_stage(chosen, s.image)) for s in stages if s.image}
    return {"container": container.manifest(chosen), **({"stage_containers": others} if others else {})}


def backends_used(spec: Experiment | Evaluation) -> dict[str, dict[str, str]]:
    """Distribution and version of every backend that the spec names, by `<kind>.<name>`; a plugin's chat format too."""
    owners = {(info.kind, info.name): info for info in backends()}
    used = [owners[chosen] for chosen in sorted(set(_chosen(spec)))]
    found = {f"{i.kind}.{i.name}": {"distribution": i.distribution, "version": i.version} for i in used}
    written = spec.model.chat_format
    if written != "auto" and (owner := chat_format_owner(written)):
        found[f"chat-format.{written}"] = {"distribution": owner[0], "version": owner[1]}
    return found


def write(files: tuple[Artifact, ...], directory: Path, *, replace: bool = False) -> tuple[Bundle, bool]:
    """The bundle in a directory, and whether it was written: an equal one that is there already is left alone.

    It appears whole or not at all. Raises LtrlError when the directory holds anything else and `replace` is not set.
    """
    directory = Path(os.path.abspath(directory))
    is_there = directory.exists()
    if is_there and (same := _same(files, directory)):
        return same, False
    if is_there and not replace:
        hint = "`--replace` overwrites it, `-o DIR` writes elsewhere"
        what = "a different bundle" if (directory / LOCK).exists() else "something else"
        raise fail(Code.BUNDLE_EXISTS, f"`{_shown(directory)}` holds {what}", hint=hint)
    try:
        return put(files, directory), True
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise fail(
            Code.UNWRITABLE, f"cannot write `{_shown(directory)}`: {reason}", hint="`-o DIR` writes elsewhere"
        ) from None


def put(files: Iterable[Artifact], directory: Path) -> Bundle:
    """Writes a bundle, whole or not at all, in the place of what is there; raises OSError. The last file is the
    manifest.
    """
    written = {file.path: file for file in files}
    draft = directory.parent / f".{directory.name}.{secrets.token_hex(4)}"
    try:
        draft.mkdir(parents=True)
        for file in written.values():
            path = draft / file.path
            if "/" in file.path:
                path.parent.mkdir(parents=True, exist_ok=True)
            mode = 0o777 if file.executable else 0o666
            with open(path, "xb", opener=partial(os.open, mode=mode)) as out:
                out.write(file.data)
        _swap(draft, directory)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return Bundle(directory, json.loads(written[LOCK].data), written)


def write_sweep(
    directory: Path,
    *,
    sweep_id: str,
    at_once: int | None,
    cells: Iterable[tuple[str, Mapping[str, Any], tuple[Artifact, ...]]],
    replace: bool = False,
) -> SweepBundle:
    """The bundles of a sweep's cells (name, values, files), each in a directory below the given one.

    Cells that are no longer in the sweep are taken away; equal ones are left alone.
    """
    directory = Path(os.path.abspath(directory))
    if directory.exists() and not (directory / SWEEP).is_file() and not replace:
        raise fail(Code.BUNDLE_EXISTS, f"`{_shown(directory)}` holds something else", hint="`-o DIR` writes elsewhere")
    made, every = [], list(cells)
    for name, _, files in every:
        made.append(write(files, directory / name, replace=True)[0])
    listed = [{"name": name, "values": dict(values)} for name, values, _ in every]
    (directory / SWEEP).write_text(_json({"format": 1, "id": sweep_id, "at_once": at_once, "cells": listed}))
    for gone in {p.parent for p in directory.glob(f"*/{LOCK}")} - {bundle.path for bundle in made}:
        shutil.rmtree(gone)
    return SweepBundle(directory, sweep_id, at_once, tuple(made), tuple(values for _, values, _ in every))


def is_sweep(path: Path) -> bool:
    """Whether a directory holds the bundles of a sweep."""
    return (path / SWEEP).is_file()


def read_sweep(path: Path) -> SweepBundle:
    """The bundles in a directory that `write_sweep` made; raises LtrlError when a file is not as it was compiled."""
    path = Path(os.path.abspath(path))
    try:
        data = json.loads((path / SWEEP).read_bytes())
        known: dict[str, bytes] = {}
        cells = tuple(_read(path / cell["name"], known) for cell in data["cells"])
        values = tuple(cell["values"] for cell in data["cells"])
        return SweepBundle(path, data["id"], data["at_once"], cells, values)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise fail(Code.NOT_A_BUNDLE, f"`{_shown(path)}` is not a compiled sweep: {error}") from None


def read(path: Path) -> Bundle:
    """The bundle in a directory; raises LtrlError when it is none or when a file is not as it was compiled."""
    return _read(path, {})


def _read(path: Path, known: dict[str, bytes]) -> Bundle:
    """`known` are contents by their hashes: bundles that are read together share what is the same in them."""
    path = Path(os.path.abspath(path))
    try:
        manifest = _file(path, LOCK)
        lock = json.loads(manifest.data)
        files = {name: _file(path, name) for name in lock["files"]}
        found = {name: hashlib.sha256(file.data).hexdigest() for name, file in files.items()}
    except FileNotFoundError as error:
        missing = Path(error.filename).name
        raise fail(Code.NOT_A_BUNDLE, f"`{_shown(path)}` is not a bundle: it has no `{missing}`") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise fail(Code.NOT_A_BUNDLE, f"`{_shown(path)}` is not a bundle: {error}") from None
    changed = sorted(name for name, digest in lock["files"].items() if found[name] != digest)
    if changed:
        listed = ", ".join(f"`{name}`" for name in changed)
        hint = "change the spec and compile again"
        raise fail(Code.NOT_A_BUNDLE, f"`{_shown(path)}` was edited after it was compiled: {listed}", hint=hint)
    shared = {n: replace(f, content=known.setdefault(found[n], f.data)) for n, f in files.items()}
    return Bundle(path, lock, {**shared, LOCK: manifest})


def _file(directory: Path, name: str) -> Artifact:
    with (directory / name).open("rb") as file:
        return Artifact(name, file.read(), bool(os.fstat(file.fileno()).st_mode & 0o100))


def _same(files: tuple[Artifact, ...], directory: Path) -> Bundle | None:
    """The bundle that is there already, if it is the one that these files are."""
    try:
        found = read(directory)
    except LtrlError:
        return None
    return found if found.read(LOCK) == files[-1].text else None


def _swap(draft: Path, directory: Path) -> None:
    if directory.exists():
        old = draft.with_name(f"{draft.name}.old")
        directory.rename(old)
        draft.rename(directory)
        shutil.rmtree(old)
    else:
        draft.rename(directory)


def _shown(path: Path) -> str:
    shorter = os.path.relpath(path)
    return shorter if len(shorter) < len(str(path)) else str(path)


def _chosen(model: Model) -> Iterator[tuple[str, str]]:
    if chosen := named(model):
        yield chosen
    for name in type(model).model_fields:
        value = getattr(model, name)
        for item in value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else (value,):
            if isinstance(item, Model):
                yield from _chosen(item)


def _known(found: Digest | None) -> dict[str, Any]:
    """Nothing that depends on the machine: the time of the file is left out."""
    return {name: getattr(found, name, None) for name in ("sha256", "bytes", "records")}


def _json(data: Any) -> str:
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"
