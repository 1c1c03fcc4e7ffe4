"""One side of a comparison, from where it is: a spec or a cluster profile in a file, a bundle, a run."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import pydantic

from ltrl import bundle, project, render, source
from ltrl.backend import Choice, DataSection, create
from ltrl.bundle import Bundle
from ltrl.compile import count_samples, data_digests, prepare
from ltrl.diff import Side, effective
from ltrl.errors import Code, LtrlError, Position, Source, fail
from ltrl.parse import fields_of, parse
from ltrl.plan import PAYLOAD, Plan
from ltrl.resolve import positions
from ltrl.source import Document, Keys, walk
from ltrl.spec import ClusterProfile, Experiment

__all__ = ["Choices", "Launched", "canonical", "is_ours", "launched", "of_bundle", "of_file"]

NOT_COMPILED = ("spec.yaml", "cluster.yaml", "layers/", "resolved.json", "plan.json", PAYLOAD)
"""Files of a bundle that are no result of the compiler, or that the other layers are about."""

_OURS = re.compile(r"""^(kind:\s*["']?(experiment|cluster)\b|extends:)""", re.MULTILINE)


@dataclass(frozen=True)
class Choices:
    """What of the command line changes a spec before it is compared."""

    cluster: str | None = None
    overlays: tuple[Path, ...] = ()
    sets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Launched:
    """A bundle that was compiled earlier, that of a run for example."""

    name: str
    bundle: Bundle
    project: Path
    """Where relative data paths start."""


def of_file(
    path: Path,
    choices: Choices,
    *,
    name: str,
    home: Path,
    shown: Callable[[str], str] = os.fspath,
    with_code: bool = False,
) -> Side:
    """The side of a spec or of a cluster profile, compiled in memory.

    Relative data paths start at `home`; `shown` says how the name of a file is shown. Raises LtrlError with the
    mistakes of a spec that would not compile.
    """
    document = source.load(path, overlays=choices.overlays)
    if document.data.get("kind") == "cluster":
        return _of_profile(source.override(document, choices.sets), name, path.stem, shown)
    planned = prepare(path, cluster=choices.cluster, overlays=choices.overlays, sets=choices.sets)
    files = [*create(planned.resolved.engine).artifacts(planned), *render.scripts(planned)]
    return Side(
        name=name,
        kind="experiment",
        resolved=_plain(planned.resolved.to_json()),
        plan=_plain(planned.to_json()),
        files={file.path: _text(file.data) for file in files},
        code=_code(planned) if with_code else {},
        places=_places(planned.resolved.positions.items(), shown),
        num_samples=_count(planned.resolved.spec.data.train.model_dump_json(), home),
        data={
            field: {path: one.sha256 for path, one in files_.items() if one}
            for field, files_ in data_digests(planned.resolved.spec, home).items()
        },
    )


def of_bundle(found: Launched) -> Side:
    """The side of a bundle: what it holds, not what the same spec would compile to now."""
    made = found.bundle
    origins = made.resolved["origins"].items()
    names = [name for name in made.lock["files"] if not name.startswith(NOT_COMPILED)]
    owners = {name: f"{owner['distribution']} {owner['version']}" for name, owner in made.lock["backends"].items()}
    code = {"ltrl": made.lock["ltrl"], **owners}
    if PAYLOAD in made.lock["files"]:
        code[PAYLOAD] = made.lock["files"][PAYLOAD]
    unwritten = ("default", "model card")
    return Side(
        name=found.name,
        kind="experiment",
        resolved=made.resolved,
        plan=made.plan,
        files={name: _text((made.path / name).read_bytes()) for name in names},
        code=code,
        places={path: None if origin in unwritten else f"{found.name}:{origin}" for path, origin in origins},
        num_samples=_count(json.dumps(made.resolved["spec"]["data"]["train"]), found.project),
        data=made.data,
    )


def launched(target: str) -> Launched | None:
    """The bundle that a name stands for: its directory, or a run by its directory or (the beginning of) its id.

    None for what can only be a file; raises LtrlError for a directory or a name that is neither.
    """
    path = Path(target)
    if path.is_dir() and (path / bundle.LOCK).is_file():
        made = bundle.read(path)
        if made.is_evaluation:
            raise fail(
                Code.NOT_COMPARABLE, f"`{target}` is the bundle of an evaluation: `ltrl diff` compares trainings"
            )
        return Launched(target, made, project.root(path.absolute().parent))
    if path.is_dir() and not (path / "run.json").is_file():
        message = f"the directory `{target}` is neither a bundle nor a run"
        raise fail(Code.NOT_COMPARABLE, message, hint="name a spec, a bundle or a run")
    if not path.is_dir() and (path.exists() or path.suffix in (".yaml", ".yml") or "/" in target or ":" in target):
        return None
    from ltrl import runs  # what knows runs is not needed for specs
    from ltrl.lineage import of_training

    run = runs.find_run(f"{target}/" if path.is_dir() else target, project=project.root(Path.cwd()))
    of_training(run, "`ltrl diff` compares trainings")
    return Launched(run.id, bundle.read(run.path / "bundle"), Path(run.project))


def is_ours(text: str) -> bool:
    """Whether a text looks like a spec or a cluster profile, broken or not."""
    return _OURS.search(text) is not None


def canonical(file: Path) -> str:
    """A spec or a cluster profile as lines `field = value` of effective values: equal where it means the same.

    Of one that extends others only its own lines; a file that cannot be read as either comes back as it is.
    """
    raw = file.read_bytes().decode(errors="replace")
    if not is_ours(raw):
        return raw
    try:
        document = source.parse(Source(str(file), raw))
        if "extends" in document.data:
            tree = _typed(document)
        else:
            side = of_file(file, Choices(), name=str(file), home=file.parent)
            tree = effective(side)
            tree = {"kind": "cluster", **tree["cluster"]} if side.kind == "cluster" else tree
            del tree["name" if side.kind == "cluster" else "cluster"]  # no part of the file
    except LtrlError:
        return raw
    lines = (f"{'.'.join(map(str, path))} = {json.dumps(value, ensure_ascii=False)}\n" for path, value in walk(tree))
    return "".join(lines)


def _of_profile(document: Document, name: str, profile: str, shown: Callable[[str], str]) -> Side:
    dump = _plain(parse(document, ClusterProfile).model_dump(mode="json"))
    return Side(
        name=name,
        kind="cluster",
        resolved={"cluster": {"name": profile, **dump}},
        plan=None,
        places=_places(positions(dump, document, "cluster."), shown),
    )


def _places(found: Iterable[tuple[str, Position | None]], shown: Callable[[str], str]) -> dict[str, str | None]:
    def place(position: Position) -> str:
        written = position.source
        if written.label.startswith("--set "):
            return written.label
        return f"{shown(written.name)}:{position.line}:{position.column}"

    return {path: place(position) if position else None for path, position in found}


def _code(planned: Plan) -> dict[str, str]:
    """As `of_bundle` finds it in a bundle's manifest."""
    from ltrl import __version__, payload

    used = bundle.backends_used(planned.resolved.spec)
    found = {"ltrl": __version__}
    found |= {name: f"{owner['distribution']} {owner['version']}" for name, owner in used.items()}
    if planned.launch.payload:
        names = {owner["distribution"] for owner in used.values()}
        packed, _ = payload.pack(names, provided=create(planned.resolved.engine).provided)
        found[PAYLOAD] = hashlib.sha256(packed.data).hexdigest()
    return found


@cache
def _count(section: str, home: Path) -> int | None:
    """How many samples the section of a data backend, as JSON, gives; None where that cannot be known here."""
    try:
        options = Choice("data").choose(json.loads(section))
    except pydantic.ValidationError:  # of a bundle whose backend has other options now
        return None
    assert isinstance(options, DataSection)
    found = count_samples(options, project=home)
    return found if isinstance(found, int) else None


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return f"{len(data)} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}\n"


def _plain(data: Any) -> Any:
    """As JSON brings it back: lists for tuples."""
    return json.loads(json.dumps(data))


def _typed(document: Document) -> dict[str, Any]:
    """A document's own values, each in the form that its field has it in: 131072 for `128k`."""
    model = ClusterProfile if document.data.get("kind") == "cluster" else Experiment
    tree: dict[str, Any] = {}
    for path, value in walk(document.data):
        tree[".".join(map(str, path))] = _typed_value(path, value, fields_of(model, path[:-1], document.data))
    return tree


def _typed_value(path: Keys, value: Any, owner: type[pydantic.BaseModel] | None) -> Any:
    info = owner.model_fields.get(str(path[-1])) if owner else None
    if info is None:
        return value
    field: Any = Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation
    try:
        return _plain(pydantic.TypeAdapter(field).validate_json(json.dumps(value)))
    except (pydantic.ValidationError, TypeError):  # `ltrl check` says what is wrong with it
        return value
