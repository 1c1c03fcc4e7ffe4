"""What the fields of a model mean: the strings below them, read from the source only when somebody asks."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["docstrings"]


@cache
def docstrings(model: type[BaseModel]) -> Mapping[str, str]:
    """The meaning of each field that has one, by name, inherited ones too; `Field(description=…)` comes first."""
    # pydantic's `use_attribute_docstrings` reads them while a class is made: a tenth of a command's start.
    found: dict[str, str] = {}
    for owner in reversed(model.__mro__):
        if body := _classes(owner.__module__).get(owner.__qualname__):
            found |= _below_fields(body)
    found |= {name: info.description for name, info in model.model_fields.items() if info.description}
    return {name: found[name] for name in model.model_fields if name in found}


@cache
def _classes(module: str) -> dict[str, ast.ClassDef]:
    """The classes of a module by qualified name; none where its source is not at hand."""
    try:
        return dict(_inside(ast.parse(inspect.getsource(sys.modules[module])), ""))
    except (KeyError, OSError, TypeError):
        return {}


def _inside(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.ClassDef]]:
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.ClassDef(name=name):
                yield f"{prefix}{name}", child
                yield from _inside(child, f"{prefix}{name}.")
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield from _inside(child, f"{prefix}{name}.<locals>.")
            case ast.stmt():  # an `if`, a `with`
                yield from _inside(child, prefix)


def _below_fields(body: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for statement, below in zip(body.body, body.body[1:], strict=False):
        match statement, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                yield name, inspect.cleandoc(text)
