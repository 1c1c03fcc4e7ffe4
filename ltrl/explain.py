"""What a field of a spec is: its value, where that was written, what it means and what the engine makes of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ltrl.backend import EngineCheck, EngineKey, Explains, Grade, create
from ltrl.errors import Position
from ltrl.fields import Field, field_at, unknown
from ltrl.memory import Layout
from ltrl.resolve import Resolved
from ltrl.source import Document, Keys
from ltrl.spec import ClusterProfile, Experiment

__all__ = ["Explanation", "Origin", "explain", "origins", "values"]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value comes from."""

    said: str
    """`specs/qwen4b.yaml:9`, `--set algorithm.steps=3`, `default`, or what else decides: `model card`."""
    position: Position | None = None
    effective: Any = None
    """What the run takes where the field leaves it open."""

    def __str__(self) -> str:
        return self.said if self.effective is None else f"{self.said}: {self.effective}"


@dataclass(frozen=True, slots=True)
class Explanation:
    """One field, or a section with everything in it."""

    path: str
    field: Field
    value: Any
    origin: Origin
    keys: tuple[EngineKey, ...]
    """What it becomes in the engine's configuration."""
    checks: tuple[EngineCheck, ...]
    """The engine's conditions that looked at it."""

    def to_json(self) -> dict[str, Any]:
        """The same for programs."""
        where = self.origin.position
        return {
            "path": self.path,
            "value": self.value,
            "effective": self.origin.effective,
            "origin": self.origin.said,
            "file": where.source.name if where else None,
            "line": where.line if where else None,
            "column": where.column if where else None,
            "type": self.field.type,
            "default": self.field.default,
            "grade": self.field.grade.value,
            "doc": self.field.doc,
            "keys": [{"key": k.key, "value": k.value, "field": k.field, "why": k.why} for k in self.keys],
            "checks": [{"id": c.id, "condition": c.condition, "source": c.source} for c in self.checks],
        }


def explain(resolved: Resolved, path: str, layout: Layout | None = None) -> Explanation:
    """The field at a dotted path; below `cluster.` those of the cluster profile. Raises UNKNOWN_PATH.

    Without a layout, what depends on one is left out.
    """
    steps: Keys = tuple(int(step) if step.isdecimal() else step for step in path.split("."))
    tree = values(resolved)
    if steps[0] == "cluster" and len(steps) > 1:
        field = field_at(steps[1:], ClusterProfile, tree["cluster"], prefix="cluster.", grade=Grade.RELAUNCH)
    elif steps == ("cluster",):
        doc = f"The cluster profile `{resolved.cluster_name}`."
        field = Field("cluster", "section", "", Grade.RELAUNCH, doc, "cluster")
    else:
        field = field_at(steps, Experiment, tree)
    engine = create(resolved.engine)
    adapted = engine.adapted(resolved)
    keys, checks = [], []
    if isinstance(engine, Explains):
        keys = [found for key in engine.keys(adapted, layout) if (found := _part_of(key, path))]
        checks = [check for check in engine.checks(adapted, layout) if any(_touch(f, path) for f in check.fields)]
    if _has(tree, steps):
        value, origin = _get(tree, steps), origins(resolved, layout)[steps]
    elif _get(tree, steps[: _depth(tree, steps)]) is None:
        value, origin = None, Origin(f"`{'.'.join(path.split('.')[: _depth(tree, steps)])}` is left out")
    else:
        raise unknown(path, (".".join(map(str, known)) for known in _paths(tree, ())))
    return Explanation(path, field, value, origin, tuple(keys), tuple(checks))


def values(resolved: Resolved) -> dict[str, Any]:
    """The whole spec with every default in its place, and the cluster profile below `cluster`, as JSON has them."""
    return {**resolved.spec.model_dump(mode="json"), "cluster": resolved.cluster.model_dump(mode="json")}


def origins(resolved: Resolved, layout: Layout | None = None) -> Mapping[Keys, Origin]:
    """Where every field and every section of `values` comes from."""
    tree = values(resolved)
    cluster = tree.pop("cluster")
    found = dict(_written(tree, resolved.document, ()))
    found |= dict(_left_open(resolved, layout, found))
    found[("cluster",)] = Origin(f"cluster profile `{resolved.cluster_name}`")
    if resolved.cluster_document:
        document = resolved.cluster_document
        found |= {("cluster", *path): origin for path, origin in _written(cluster, document, ())}
    else:
        found |= {("cluster", *path): Origin("default") for path in _paths(cluster, ())}
    return found


def _written(tree: Any, document: Document, above: Keys) -> Iterator[tuple[Keys, Origin]]:
    for path in _paths(tree, above):
        position = document.written(path)
        if position is None:
            yield path, Origin("default")
        elif position.source.label.startswith("--set "):
            yield path, Origin(position.source.label, position)
        else:
            yield path, Origin(f"{position.source.name}:{position.line}", position)


def _left_open(
    resolved: Resolved, layout: Layout | None, found: Mapping[Keys, Origin]
) -> Iterator[tuple[Keys, Origin]]:
    """What the run takes for fields whose default is not a value of their own."""
    spec, lengths, algorithm = resolved.spec, resolved.lengths, resolved.spec.algorithm
    if spec.model.context.total is None:
        yield ("model", "context", "total"), Origin("default, prompt + response", effective=lengths.total)
    if spec.model.chat_format == "auto":
        path: Keys = ("model", "chat_format")
        said = found[path]
        by = "model card" if said.position is None else f"{said.said}, by the model card"
        yield path, Origin(by, said.position, resolved.chat_format)
    if algorithm.batch_size is None:
        samples = algorithm.prompts_per_step * algorithm.group_size
        yield ("algorithm", "batch_size"), Origin("default, all responses of a step", effective=samples)
    if spec.rollout.stop_token_ids is None:
        yield ("rollout", "stop_token_ids"), Origin("model card", effective=list(resolved.card.stop_token_ids))
    if spec.optimizer.min_lr is None and spec.optimizer.schedule != "constant":
        yield ("optimizer", "min_lr"), Origin("default for a decaying schedule", effective=0.0)
    if spec.parallelism is None and layout is not None:
        sizes = ("tp", "pp", "cp", "ep", "etp", "dp")
        chosen = ", ".join(f"{name} {getattr(layout, name)}" for name in sizes)
        said = found[("parallelism",)]
        by = "the first layout that fits" if resolved.cluster.gpus_per_node else "one process"
        yield ("parallelism",), Origin(f"{said.said}, {by}", said.position, chosen)


def _part_of(key: EngineKey, path: str) -> EngineKey | None:
    """The key if a field, or one inside it, decides it; of a block that several fields decide, this field's part."""
    if key.field == path or key.field.startswith(f"{path}."):
        return key
    if not key.field or not path.startswith(f"{key.field}."):
        return None
    inside = path[len(key.field) + 1 :].split(".")
    tree = key.value if isinstance(key.value, dict) else {}
    place = _find(tree, (key.field.rpartition(".")[2], *inside)) or _find(tree, tuple(inside))
    if place is None:
        return key
    return EngineKey(".".join((key.key, *map(str, place))), _get(key.value, place), path, key.why)


def _find(tree: Mapping[str, Any], wanted: Keys, path: Keys = ()) -> Keys | None:
    """Where a chain of keys hangs in a tree."""
    if _has(tree, wanted):
        return (*path, *wanted)
    inner = (_find(value, wanted, (*path, name)) for name, value in tree.items() if isinstance(value, dict))
    return next((place for place in inner if place), None)


def _touch(field: str, path: str) -> bool:
    """Whether one of two fields is, or stands inside, the other."""
    return field == path or field.startswith(f"{path}.") or path.startswith(f"{field}.")


def _paths(tree: Any, path: Keys) -> Iterator[Keys]:
    """Every field and section; a list is one value."""
    for name, value in tree.items() if isinstance(tree, dict) else ():
        yield (*path, name)
        yield from _paths(value, (*path, name))


def _depth(tree: Any, path: Keys) -> int:
    """How many steps of a path there are in a tree."""
    return max(end for end in range(len(path) + 1) if _has(tree, path[:end]))


def _has(tree: Any, path: Keys) -> bool:
    for step in path:
        if not isinstance(tree, dict) or step not in tree:
            return False
        tree = tree[step]
    return True


def _get(tree: Any, path: Keys) -> Any:
    for step in path:
        tree = tree[step]
    return tree
