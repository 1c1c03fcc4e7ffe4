"""From another launcher's file to a spec: the engines know their neighbours, this module asks them and writes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ltrl import catalog, source
from ltrl.backend import Imported, Importing, Imports, backends, load
from ltrl.compile import resolved_document
from ltrl.dump import dump, tokens
from ltrl.errors import Code, Diagnostic, LtrlError, Source, fail, in_order
from ltrl.fields import ordered, token_fields, without_defaults
from ltrl.plan import plan
from ltrl.resolve import Resolved
from ltrl.script import read_script
from ltrl.source import Document, Keys
from ltrl.spec import ClusterProfile, Experiment

__all__ = ["Draft", "import_file"]

Fields = Mapping[tuple[str, ...], Any]


@dataclass(frozen=True)
class Draft:
    """A spec made of another launcher's file."""

    source: Source
    """The file."""
    name: str
    engine: str
    imported: Imported
    spec: str
    """Text of the spec."""
    cluster: str
    """Text of the cluster profile."""
    diagnostics: tuple[Diagnostic, ...]
    """Defects of the file, then what `ltrl check` says of the spec."""

    @property
    def is_complete(self) -> bool:
        """Whether `ltrl check` accepts the spec."""
        return not any(d.severity == "error" for d in self.diagnostics)


def import_file(
    path: Path, *, name: str | None = None, project: Path, out: Path | None = None, sets: Sequence[str] = ()
) -> Draft:
    """The spec for what a launch script or a configuration starts, checked; it is to stand in the file `out`.

    Its name is by default the one that the file gives, else the file's own. `sets` adds what the file does not say, as
    `--set` does. Raises LtrlError for a file that no engine understands.
    """
    read, engine, imported = _ask(path, project)
    name = name or _slug(str(imported.fields.get(("name",), path.stem)))
    fields = {**imported.fields, ("engine", "name"): engine, ("name",): name}
    spec, cluster = _texts(path, fields, imported)
    for_cluster = [s for s in sets if s.startswith("cluster.")]
    place = out or Path(f"{name}.yaml")
    files = place, place.parent / "clusters" / f"{name}.yaml"
    shown = [Source(str(file), text, file.name) for file, text in zip(files, (spec, cluster), strict=True)]
    found: list[Diagnostic] = list(imported.diagnostics)
    try:
        document = source.override(source.parse(shown[0]), [s for s in sets if s not in for_cluster])
        profile = source.override(source.parse(shown[1]), for_cluster, below="cluster.")
        if sets:
            spec, cluster = _rewritten(spec, document), _rewritten(cluster, profile)
        found += plan(resolved_document(document, project=project, cluster=profile, cluster_name=name)).warnings
    except LtrlError as error:
        found += error.diagnostics
    return Draft(read, name, engine, imported, spec, cluster, in_order(found))


def _slug(text: str) -> str:
    """A text as a spec's name."""
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower())[:63].strip("._-") or "imported"


def _ask(path: Path, project: Path) -> tuple[Source, str, Imported]:
    """The file, the engine that knows it, and what that makes of it."""
    is_yaml = path.suffix in (".yaml", ".yml")
    script = None if is_yaml else read_script(path)
    document = source.parse(source.read(path, path.parent)) if is_yaml else None
    for info in (i for i in backends() if i.kind == "engine"):
        engine = load("engine", info.name)
        if not issubclass(engine, Imports):
            continue
        importing = Importing(
            models=catalog.names(),
            resolve=partial(_resolve, engine=info.name, project=project),
            load=lambda file: source.parse(source.read(file, path.parent)),
            layer=source.layer,
        )
        if script is not None:
            read, imported = script.source, engine.import_script(script, importing)
        else:
            assert document is not None
            read, imported = document.sources[0], engine.import_config(document, importing)
        if imported is not None:
            return read, info.name, imported
    what = (
        "no command of it starts a training that an installed engine knows"
        if script
        else "no installed engine knows it"
    )
    hint = "a script ends in slime's `train.py`, a configuration of NeMo-RL has `policy` and `grpo`"
    raise fail(Code.NOT_IMPORTED, f"`{path}` is not imported: {what}", hint=hint)


def _resolve(fields: Fields, *, engine: str, project: Path) -> Resolved:
    """A spec of these fields, with stand-ins for what it cannot do without."""
    tree = _tree({**fields, ("engine", "name"): engine})
    for path, value in _stand_ins().items():
        place = tree
        for step in path[:-1]:
            place = place.setdefault(step, {})
        place.setdefault(path[-1], value)
    if isinstance(tree["reward"], dict) and tree["reward"].get("backend") is None:
        tree["reward"] = _stand_in("reward")
    cluster = {"kind": "cluster", **tree.pop("cluster", {"executor": "local"})}
    documents = [source.parse(Source("imported", dump(data))) for data in (tree, cluster)]
    return resolved_document(documents[0], project=project, cluster=documents[1], cluster_name="imported")


def _stand_ins() -> dict[tuple[str, ...], Any]:
    return {
        ("kind",): "experiment",
        ("name",): "imported",
        ("model", "context", "prompt"): 1024,
        ("model", "context", "response"): 1024,
        ("data", "train"): _stand_in("data"),
        ("reward", "judge"): _stand_in("judge"),
        ("algorithm", "steps"): 1,
        ("optimizer", "lr"): 1e-6,
    }


def _stand_in(kind: str) -> dict[str, Any]:
    """The section of a backend that needs nothing but its name."""
    for info in (i for i in backends() if i.kind == kind):
        section: dict[str, Any] = {"backend": info.name}
        if kind == "reward":
            section["judge"] = _stand_in("judge")
        try:
            load(kind, info.name).Options.model_validate_json(json.dumps(section))
        except ValidationError:
            continue
        return section
    raise fail(Code.UNKNOWN_BACKEND, f"no {kind} backend is installed that needs no options")


def _tree(fields: Fields) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, value in fields.items():
        place = tree
        for step in path[:-1]:
            place = place.setdefault(step, {})
        place[path[-1]] = value
    return tree


def _texts(path: Path, fields: Fields, imported: Imported) -> tuple[str, str]:
    """The spec and the cluster profile, each value with the setting that it comes from."""
    tree = {"kind": "experiment", **_tree(fields)}
    cluster = {"kind": "cluster", **tree.pop("cluster", {"executor": "local"})}
    notes: dict[Keys, str] = {}
    for row in imported.rows:
        steps = next((p for p in fields if ".".join(p) == row.field), None)
        if steps and row.position and row.value is not None:
            what = row.setting.split(":")[0].split(" ")[0]
            where = f"{Path(row.position.source.name).name}:{row.position.line}"
            notes.setdefault(steps, where if what == steps[-1] else f"{where} {what}")
    spec = without_defaults(ordered(_with_units(tree), Experiment), Experiment)
    profile = without_defaults(ordered(cluster, ClusterProfile), ClusterProfile)
    head = f"# Imported by ltrl from {path.name}; what has its default value is left out.\n"
    of_cluster = {steps[1:]: note for steps, note in notes.items() if steps[0] == "cluster"}
    of_spec = {steps: note for steps, note in notes.items() if steps[0] != "cluster"}
    return head + dump(spec, notes=of_spec), head + dump(profile, notes=of_cluster)


def _with_units(tree: dict[str, Any]) -> dict[str, Any]:
    for path in token_fields():
        *around, name = path
        place: Any = tree
        for step in around:
            place = place.get(step, {})
        if isinstance(place.get(name), int):
            place[name] = tokens(place[name])
    return tree


def _rewritten(text: str, document: Document) -> str:
    """The text for a document that `--set` has changed; the comment on top stays."""
    head = text.partition("\n")[0]
    model = Experiment if document.data.get("kind") == "experiment" else ClusterProfile
    return f"{head}\n{dump(ordered(document.data, model))}"
