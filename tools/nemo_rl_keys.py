#!/usr/bin/env python3
"""Writes the key database of one NeMo-RL version from a checkout, by reading its source; nothing of it is imported.

    tools/nemo_rl_keys.py CHECKOUT VERSION > backends/ltrl_backends/nemo_rl/keys/vVERSION.json

Four readings are put together:

- the classes below `MasterConfig` (TypedDict and pydantic models) give each key's declared type and whether the schema
  refuses a configuration without it;
- the exemplar `examples/configs/grpo_math_1B_megatron.yaml`, with the file it inherits from, gives the defaults, which
  in NeMo-RL live nowhere else;
- every `config["key"]`, `config.get("key")` and `"key" in config` on a value that is known to be a part of the
  configuration gives where a key is read, and whether its absence is a KeyError;
- every assignment to such a place gives the keys that NeMo-RL writes itself.

`required` is `schema` (validation fails without the key), `enabled` (so when its block has `enabled: true`), `runtime`
(read with `[...]` unconditionally: KeyError later), `cond` (read with `[...]` under a condition) or `no`.
"""

from __future__ import annotations

import argparse
import ast
import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

EXEMPLAR = "examples/configs/grpo_math_1B_megatron.yaml"
ROOT = ("nemo_rl/algorithms/grpo.py", "MasterConfig")
SCRIPTS = ("examples/run_grpo.py",)

# Sections that GRPO on Megatron with vLLM never opens; their readers would only blur where a key of ours is read.
ELSEWHERE = ("distillation", "dpo", "sft", "rm", "ppo", "single_controller", "sglang", "dtensor", "automodel", "evals")

# Read unconditionally, but by functions that only another mode calls, which reading one function at a time cannot see.
MODES = {
    "data.custom_dataloader": "data.use_multiple_dataloader",
    "env.nemo_gym": "env.should_use_nemo_gym",
    "grpo.adv_estimator.minus_baseline": "grpo.adv_estimator.name = reinforce_plus_plus",
    "policy.generation.mcore_generation_config": "policy.generation.backend = megatron",
    "policy.generation.vllm_cfg.vllm_metrics_logger_interval": "policy.generation.vllm_cfg.enable_vllm_metrics_logger",
    "policy.quant_cfg": "quantisation with ModelOpt",
}

# Blocks whose keys are passed on to code outside NeMo-RL, or to a class of the user's.
OPEN = {
    "data.train": "constructor arguments of the dataset class",
    "data.validation": "constructor arguments of the dataset class",
    "data.default": "constructor arguments of the dataset class",
    "env": "one block for each environment, passed to its constructor",
    "logger.wandb": "arguments of wandb.init",
    "logger.swanlab": "arguments of swanlab.init",
    "policy.hf_config_overrides": "keys of the model's config.json",
    "policy.generation.vllm_kwargs": "arguments of the vLLM engine",
    "policy.megatron_cfg.env_vars": "environment variables",
    "policy.generation.vllm_cfg.env_vars": "environment variables",
    "policy.generation.vllm_cfg.http_server_serving_chat_kwargs": "arguments of vLLM's chat server",
    "policy.tokenizer.chat_template_kwargs": "arguments of apply_chat_template",
    "policy.optimizer.kwargs": "arguments of a torch optimizer",
}


Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class Module:
    path: str
    tree: ast.Module
    classes: dict[str, ast.ClassDef] = field(default_factory=dict)
    functions: dict[str, Function] = field(default_factory=dict)
    aliases: dict[str, ast.expr] = field(default_factory=dict)
    imports: dict[str, tuple[str, str]] = field(default_factory=dict)


@dataclass
class Key:
    type: str = ""
    required: str = "no"
    default: Any = None
    has_default: bool = False
    read: set[tuple[str, int]] = field(default_factory=set)
    written: bool = False
    source: str = "code"


@dataclass(frozen=True)
class Access:
    path: str
    kind: str
    """`index`, `get`, `in`, `guarded` (indexed where a test has asked for it) or `write`."""
    conditional: bool
    place: tuple[str, int]


class Source:
    """The checkout's modules, with names resolved across them."""

    def __init__(self, root: Path) -> None:
        self.modules: dict[str, Module] = {}
        files = [*sorted(root.glob("nemo_rl/**/*.py")), *(root / s for s in SCRIPTS)]
        for file in files:
            path = file.relative_to(root).as_posix()
            self.modules[path] = self._module(path, ast.parse(file.read_text()))

    def _module(self, path: str, tree: ast.Module) -> Module:
        module = Module(path, tree)
        for node in ast.walk(tree):
            match node:
                case ast.ImportFrom(module=str(name), names=names):
                    for alias in names:
                        module.imports[alias.asname or alias.name] = (name, alias.name)
        for node in tree.body:
            match node:
                case ast.ClassDef():
                    module.classes[node.name] = node
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    module.functions[node.name] = node
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    module.aliases[name] = value
        return module

    def find(self, module: Module, name: str) -> tuple[Module, ast.ClassDef | Function | ast.expr] | None:
        """What a name in a module stands for: a class, a function or the value of an alias."""
        if name in module.classes:
            return module, module.classes[name]
        if name in module.functions:
            return module, module.functions[name]
        if name in module.aliases:
            return module, module.aliases[name]
        if name in module.imports:
            package, original = module.imports[name]
            base = package.replace(".", "/")
            for path in (f"{base}.py", f"{base}/__init__.py"):
                if path in self.modules and path != module.path:
                    return self.find(self.modules[path], original)
        return None

    def bases(self, module: Module, node: ast.ClassDef) -> list[str]:
        """Names of all ancestors, nearest first."""
        found = []
        for base in node.bases:
            if isinstance(base, ast.Name | ast.Attribute):
                name = base.id if isinstance(base, ast.Name) else base.attr
                found.append(name)
                if (there := self.find(module, name)) and isinstance(there[1], ast.ClassDef):
                    found += self.bases(there[0], there[1])
        return found

    def is_config(self, module: Module, node: ast.ClassDef) -> bool:
        return not {"TypedDict", "BaseModel"}.isdisjoint(self.bases(module, node))

    def fields(self, module: Module, node: ast.ClassDef) -> Iterator[tuple[Module, ast.AnnAssign]]:
        for base in node.bases:
            there = self.find(module, base.id) if isinstance(base, ast.Name) else None
            if there and isinstance(there[1], ast.ClassDef):
                yield from self.fields(there[0], there[1])
        for item in node.body:
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                yield module, item


class Schema:
    """The keys below MasterConfig and, for each class, at which prefixes it stands."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.keys: dict[str, Key] = {}
        self.prefixes: dict[str, set[str]] = defaultdict(set)
        module = source.modules[ROOT[0]]
        self._walk(module, [(module, module.classes[ROOT[1]])], "")
        for path, (inner, node) in self._vllm().items():
            self._walk(inner, [(inner, node)], path, validated=False)

    def _vllm(self) -> dict[str, tuple[Module, ast.ClassDef]]:
        """VllmConfig extends GenerationConfig, but nothing validates against it."""
        for module in self.source.modules.values():
            if "VllmConfig" in module.classes and "GenerationConfig" in {
                b.id for b in module.classes["VllmConfig"].bases if isinstance(b, ast.Name)
            }:
                return {"policy.generation": (module, module.classes["VllmConfig"])}
        return {}

    def _walk(
        self, module: Module, variants: list[tuple[Module, ast.ClassDef]], prefix: str, validated: bool = True
    ) -> None:
        present: dict[str, list[bool]] = defaultdict(list)
        children: dict[str, list[tuple[Module, ast.ClassDef]]] = defaultdict(list)
        for where, node in variants:
            self.prefixes[node.name].add(prefix)
            is_model = "BaseModel" in self.source.bases(where, node)
            for origin, item in self.source.fields(where, node):
                assert isinstance(item.target, ast.Name)
                name = f"{prefix}.{item.target.id}" if prefix else item.target.id
                inner, required = _strip(item.annotation)
                if is_model:
                    required = item.value is None
                key = self.keys.setdefault(name, Key(source="schema"))
                text = ast.unparse(inner)
                key.type = (
                    text if not key.type else key.type if text in key.type.split(" | ") else f"{key.type} | {text}"
                )
                if is_model and item.value is not None:
                    with suppress(ValueError):  # a default that is computed
                        key.default, key.has_default = ast.literal_eval(item.value), True
                present[name].append(required)
                for found in self._classes(origin, inner):
                    if found not in children[name]:
                        children[name].append(found)
        for name, flags in present.items():
            if validated and any(flags):
                everywhere = len(flags) == len(variants) and all(flags)
                self.keys[name].required = "schema" if everywhere else "enabled"
        for name, classes in children.items():
            self._walk(module, classes, name, validated)

    def _classes(self, module: Module, node: ast.expr) -> list[tuple[Module, ast.ClassDef]]:
        match node:
            case ast.Name(id=name):
                there = self.source.find(module, name)
                if there is None:
                    return []
                if isinstance(there[1], ast.ClassDef):
                    return [(there[0], there[1])] if self.source.is_config(there[0], there[1]) else []
                return self._classes(there[0], there[1]) if isinstance(there[1], ast.expr) else []
            case ast.BinOp(left=left, op=ast.BitOr(), right=right):
                return [*self._classes(module, left), *self._classes(module, right)]
            case ast.Subscript(value=ast.Name(id="Optional" | "Union" | "NotRequired"), slice=inner):
                parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
                return [c for p in parts for c in self._classes(module, p)]
        return []


def _strip(node: ast.expr) -> tuple[ast.expr, bool]:
    match node:
        case ast.Subscript(value=ast.Name(id="NotRequired"), slice=inner):
            return inner, False
        case ast.Subscript(value=ast.Name(id="Required"), slice=inner):
            return inner, True
    return node, True


class Reader:
    """Finds where the configuration is read: follows values from annotated parameters through assignments and calls."""

    def __init__(self, source: Source, schema: Schema) -> None:
        self.source = source
        self.prefixes = schema.prefixes
        self.accesses: set[Access] = set()
        self.attributes: dict[ast.ClassDef, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        self.arguments: dict[Function, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        known = -1
        while known != (known := self._size()):  # what one round learns of arguments and attributes, the next uses
            self.accesses.clear()
            for module in source.modules.values():
                if not any(word in module.path for word in ELSEWHERE):
                    self._module(module)

    def _size(self) -> int:
        return sum(len(v) for d in (*self.attributes.values(), *self.arguments.values()) for v in d.values())

    def _module(self, module: Module) -> None:
        for node in module.functions.values():
            if "preference" not in node.name:
                _Body(self, module, node, None).run()
        for owner in module.classes.values():
            for method in owner.body:
                if isinstance(method, Function):
                    _Body(self, module, method, owner).run()


class _Body:
    """One function's statements, with what is known of its names."""

    def __init__(self, reader: Reader, module: Module, node: Function, owner: ast.ClassDef | None) -> None:
        self.reader, self.module, self.node, self.owner = reader, module, node, owner
        self.known: dict[str, set[str]] = {}
        for argument in _parameters(node):
            found = set(self._annotated(argument.annotation))
            if not found and argument.arg == "master_config":
                found = {""}
            if not found:
                found = set(reader.arguments[node][argument.arg])
            if found:
                self.known[argument.arg] = found

    def run(self) -> None:
        for statement in self.node.body:
            self._visit(statement, False, frozenset())

    def _annotated(self, node: ast.expr | None) -> set[str]:
        found: set[str] = set()
        for part in ast.walk(node) if node is not None else ():
            name = part.id if isinstance(part, ast.Name) else part.value if isinstance(part, ast.Constant) else None
            if isinstance(name, str) and 0 < len(self.reader.prefixes.get(name, ())) <= 2:
                found |= self.reader.prefixes[name]
        return found

    def _places(self, node: ast.expr) -> set[str]:
        """The dotted prefixes that an expression may stand for; empty when it is no part of the configuration."""
        match node:
            case ast.Name(id=name):
                return self.known.get(name, set())
            case ast.Attribute(value=ast.Name(id="self"), attr=name) if self.owner is not None:
                return {p for c in self._family() for p in self.reader.attributes[c].get(name, ())}
            case ast.Attribute(value=value, attr=name):
                # Attribute access is configuration access only on the pydantic models: MasterConfig and the loss.
                return {_join(p, name) for p in self._places(value) if p in ("", "loss_fn")}
            case ast.Subscript(value=value, slice=ast.Constant(value=str(key))):
                return {_join(p, key) for p in self._places(value)}
            case ast.Call(func=ast.Attribute(value=value, attr="get"), args=[ast.Constant(value=str(key)), *_]):
                return {_join(p, key) for p in self._places(value)}
            case ast.Call(func=ast.Name(id="cast"), args=[_, value]):
                return self._places(value)
            case ast.Call(func=ast.Name(id="MasterConfig")):
                return {""}
            case ast.Call(func=ast.Attribute(attr="deepcopy" | "copy"), args=[value]):
                return self._places(value)
            case ast.BoolOp(values=[value, *_]):
                return self._places(value)
            case ast.IfExp(body=body, orelse=other):
                return self._places(body) | self._places(other)
        return set()

    def _family(self) -> list[ast.ClassDef]:
        """The class of the method and its ancestors: attributes are set in either."""
        assert self.owner is not None
        found = [self.owner]
        for name in self.reader.source.bases(self.module, self.owner):
            there = self.reader.source.find(self.module, name)
            if there and isinstance(there[1], ast.ClassDef):
                found.append(there[1])
        return found

    def _record(self, places: set[str], kind: str, conditional: bool, node: ast.AST) -> None:
        place = (self.module.path, getattr(node, "lineno", 0))
        self.reader.accesses |= {Access(p, kind, conditional, place) for p in places if p}

    def _visit(self, node: ast.AST, conditional: bool, asked: frozenset[str]) -> None:
        match node:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    self._bind(target, self._places(value))
            case ast.AnnAssign(target=target, annotation=annotation, value=value):
                self._bind(target, self._annotated(annotation) or (self._places(value) if value else set()))
            case ast.Subscript(slice=ast.Constant(value=str()), ctx=ctx):
                places = self._places(node)
                if not isinstance(ctx, ast.Load):
                    self._record(places, "write", conditional, node)
                else:
                    self._record(places & asked, "guarded", conditional, node)
                    self._record(places - asked, "index", conditional, node)
            case ast.Call(func=ast.Attribute(attr="get"), args=[ast.Constant(value=str()), *_]):
                self._record(self._places(node), "get", conditional, node)
            case ast.Call():
                self._pass(node)
            case ast.Attribute(ctx=ast.Load()):
                self._record({p for p in self._places(node) if p.startswith("loss_fn.")}, "get", conditional, node)
            case ast.Compare(left=ast.Constant(value=str(key)), ops=[ast.In() | ast.NotIn()], comparators=[value]):
                self._record({_join(p, key) for p in self._places(value)}, "in", conditional, node)
        for name, value in ast.iter_fields(node):
            later = conditional or (isinstance(node, ast.If | ast.IfExp | ast.Lambda) and name in ("body", "orelse"))
            known = asked
            if isinstance(node, ast.If | ast.IfExp | ast.While) and name in ("body", "orelse"):
                known = asked | self._asked(node.test)
            for index, item in enumerate(value if isinstance(value, list) else [value]):
                if isinstance(item, ast.AST):
                    if isinstance(node, ast.BoolOp) and index > 0:
                        before = frozenset().union(*(self._asked(v) for v in node.values[:index]))
                        self._visit(item, True, known | before)
                    else:
                        self._visit(item, later, known)

    def _asked(self, test: ast.expr) -> frozenset[str]:
        """Keys whose presence a test has asked for."""
        found: set[str] = set()
        for node in ast.walk(test):
            match node:
                case ast.Compare(left=ast.Constant(value=str(key)), ops=[ast.In() | ast.NotIn()], comparators=[value]):
                    found |= {_join(p, key) for p in self._places(value)}
                case ast.Call(func=ast.Attribute(attr="get"), args=[ast.Constant(value=str()), *_]):
                    found |= self._places(node)
        return frozenset(found)

    def _bind(self, target: ast.expr, places: set[str]) -> None:
        match target:
            case ast.Name(id=name) if places:
                self.known[name] = places
            case ast.Attribute(value=ast.Name(id="self"), attr=name) if places and self.owner is not None:
                self.reader.attributes[self.owner][name] |= places

    def _pass(self, node: ast.Call) -> None:
        """Tells the function that is called what its arguments stand for."""
        match node.func:
            case ast.Name(id=name):
                there = self.reader.source.find(self.module, name)
            case ast.Attribute(value=ast.Name(id="self"), attr=name) if self.owner is not None:
                methods = {f.name: f for c in reversed(self._family()) for f in c.body if isinstance(f, Function)}
                there = (self.module, methods[name]) if name in methods else None
            case _:
                return
        target = there[1] if there else None
        if isinstance(target, ast.ClassDef):
            target = next((f for f in target.body if isinstance(f, Function) and f.name == "__init__"), None)
        if not isinstance(target, Function):
            return
        names = [p.arg for p in _parameters(target)]
        if names[:1] == ["self"]:
            names = names[1:]
        given = [*zip(names, node.args, strict=False), *((k.arg, k.value) for k in node.keywords if k.arg)]
        for name, value in given:
            if name in names and (places := {p for p in self._places(value) if p}):
                self.reader.arguments[target][name] |= places


def _parameters(node: Function) -> list[ast.arg]:
    return [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]


def _join(prefix: str, key: str) -> str:
    return f"{prefix}.{key}" if prefix else key


def exemplar(root: Path) -> dict[str, Any]:
    """The leaves of the exemplar configuration by dotted key, parents merged in."""

    def load(path: Path) -> dict[str, Any]:
        data = yaml.safe_load(path.read_text())
        parents = data.pop("defaults", [])
        merged: dict[str, Any] = {}
        for parent in [parents] if isinstance(parents, str) else parents:
            merged = dict(merge(merged, load(path.parent / parent)))
        return dict(merge(merged, data))

    def merge(old: Any, new: Any) -> Any:
        if not (isinstance(old, dict) and isinstance(new, dict)):
            return new
        return {k: merge(old[k], new[k]) if k in old and k in new else new.get(k, old.get(k)) for k in {**old, **new}}

    def leaves(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                yield from leaves(inner, _join(prefix, key))
        else:
            yield prefix, value

    return dict(leaves(load(root / EXEMPLAR), ""))


def database(root: Path, version: str) -> dict[str, Any]:
    source = Source(root)
    schema = Schema(source)
    keys = schema.keys
    for name, value in exemplar(root).items():
        key = keys.setdefault(name, Key(source="exemplar"))
        key.default, key.has_default = value, True
        key.type = key.type or (type(value).__name__ if value is not None else "Any")

    reader = Reader(source, schema)
    blocks = {k.rpartition(".")[0] for k in keys} | {k for k in keys if "." not in k}
    for access in reader.accesses:
        parent = access.path.rpartition(".")[0]
        if access.path not in keys and parent not in blocks:
            continue
        if access.path not in keys and any(_within(access.path, o) for o in OPEN if o != "env"):
            continue
        key = keys.setdefault(access.path, Key(type="Any"))
        if access.kind == "write":
            key.written = True
        else:
            key.read.add(access.place)
        if access.kind == "index" and key.required in ("no", "cond"):
            if not access.conditional:
                key.required = "runtime"
            elif key.required == "no":
                key.required = "cond"
    for name, key in keys.items():
        if key.required in ("runtime", "cond") and key.written:  # NeMo-RL gives it to itself before it reads it
            key.required = "no"
        block = name.rpartition(".")[0]
        if key.required == "runtime" and f"{block}.enabled" in keys:
            key.required = "enabled"
        if name in MODES and key.required == "runtime":
            key.required = "cond"

    return {
        "engine": "NeMo-RL",
        "version": version,
        "root": ROOT[1],
        "exemplar": EXEMPLAR,
        "open": dict(sorted(OPEN.items())),
        "keys": {name: _entry(key) for name, key in sorted(keys.items()) if not _is_example(name, key)},
    }


def _within(path: str, prefix: str) -> bool:
    return path.startswith(f"{prefix}.")


def _is_example(name: str, key: Key) -> bool:
    """Whether the exemplar only shows what may stand in an open block."""
    return key.source == "exemplar" and any(_within(name, p) for p in ("env", "policy.optimizer.kwargs"))


def _entry(key: Key) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": key.type or "Any", "required": key.required}
    if key.has_default:
        entry["default"] = key.default
    if key.read:
        entry["read"] = [f"{path}:{line}" for path, line in sorted(key.read)[:4]]
    if key.written:
        entry["written"] = True
    if key.source != "schema":
        entry["source"] = key.source
    return entry


def dump(data: dict[str, Any]) -> str:
    """JSON with one line for each key, so that a new version is a readable diff."""
    head = {k: v for k, v in data.items() if k != "keys"}
    lines = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in data["keys"].items()]
    return json.dumps(head, indent=1)[:-2] + ',\n "keys": {\n  ' + ",\n  ".join(lines) + "\n }\n}\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("checkout", type=Path)
    parser.add_argument("version")
    arguments = parser.parse_args()
    sys.stdout.write(dump(database(arguments.checkout, arguments.version)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
