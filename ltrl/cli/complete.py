"""What the shell offers behind a word: files, clusters, runs and fields. Nothing found is nothing said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path

import typer

__all__ = ["assignments", "clusters", "fields", "runs", "specs"]


def _quiet(find: Callable[..., Iterator[str]]) -> Callable[..., list[str]]:
    @wraps(find)
    def found(ctx: typer.Context, incomplete: str) -> list[str]:
        try:
            return sorted({word for word in find(ctx, incomplete) if word.startswith(incomplete)})
        except Exception:  # the shell would show a traceback between the person's words
            return []

    return found


@_quiet
def specs(ctx: typer.Context, incomplete: str) -> Iterator[str]:  # noqa: ARG001
    """YAML files of the folder that is being typed and of those in it; others are the shell's to complete."""
    folder, slash, _ = incomplete.rpartition("/")
    for path in (found for pattern in ("*.y*ml", "*/*.y*ml") for found in Path(folder + slash or ".").glob(pattern)):
        if path.suffix in (".yaml", ".yml") and not any(part.startswith(".") for part in path.parts[-2:]):
            yield str(path)


@_quiet
def clusters(ctx: typer.Context, incomplete: str) -> Iterator[str]:  # noqa: ARG001
    """Names of cluster profiles."""
    from ltrl import project

    yield "local"
    for folder in (project.root(Path.cwd()) / "specs" / "clusters", project.config_dir() / "clusters"):
        yield from (path.stem for path in folder.glob("*.yaml"))


@_quiet
def runs(ctx: typer.Context, incomplete: str) -> Iterator[str]:  # noqa: ARG001
    """Ids of runs."""
    from ltrl.state import Index

    yield from (path.name for path in Index().rows())


@_quiet
def fields(ctx: typer.Context, incomplete: str) -> Iterator[str]:  # noqa: ARG001
    """Paths of the fields of the spec that stands before the word; of all, when that cannot be read."""
    yield from _paths(ctx.params.get("what") or ctx.params.get("spec"))


@_quiet
def assignments(ctx: typer.Context, incomplete: str) -> Iterator[str]:  # noqa: ARG001
    """Fields with `=` behind them."""
    yield from (f"{path}=" for path in _paths(ctx.params.get("what") or ctx.params.get("spec")))


def _paths(spec: object) -> Iterator[str]:
    from ltrl.errors import LtrlError

    if spec:
        from ltrl.compile import resolved
        from ltrl.explain import origins

        try:
            yield from (".".join(map(str, path)) for path in origins(resolved(Path(str(spec)))))
            return
        except LtrlError:
            pass
    from ltrl.fields import fields as reference

    yield from (field.path for field in reference())
