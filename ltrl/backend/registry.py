"""Finding backends: every installed one by kind and name, each loaded when a spec names it."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any

from ltrl.backend.protocols import BenchmarkBackend, DataBackend, EngineBackend, JudgeBackend, RewardBackend
from ltrl.errors import Code, Diagnostic, fail

__all__ = [
    "API",
    "GROUP",
    "KINDS",
    "RUN_KINDS",
    "STAGE_KINDS",
    "BackendInfo",
    "backends",
    "known",
    "load",
    "missing_modules",
]

API = 1
"""Version of the plugin surface; a backend states the one it was written for as `api`."""

GROUP = "ltrl.backends"

RUN_KINDS: dict[str, type] = {
    "benchmark": BenchmarkBackend,
    "data": DataBackend,
    "engine": EngineBackend,
    "judge": JudgeBackend,
    "reward": RewardBackend,
}
"""Every kind of backend of a run with the protocol it must have."""

STAGE_KINDS: dict[str, tuple[str, ...]] = {
    "corpus": ("files", "pages"),
    "walk": ("choose",),
    "question": ("write",),
    "agent": ("attempt",),
    "search": ("open", "search"),
    "distractors": ("order",),
    "tokenizer": ("counter",),
}
"""Every kind of backend of a data set's stages with its methods: `ltrl.dataset.kinds` has more, which no run needs."""

KINDS = (*RUN_KINDS, *STAGE_KINDS)
"""Every kind of backend."""


@dataclass(frozen=True, slots=True, order=True)
class BackendInfo:
    """What is known of an installed backend without importing it."""

    kind: str
    name: str
    distribution: str
    version: str
    target: str
    """`module:attribute`"""


@cache
def backends() -> tuple[BackendInfo, ...]:
    """Every installed backend, sorted by kind and name; imports none."""
    found = []
    for entry in metadata.entry_points(group=GROUP):
        kind, _, name = entry.name.partition(".")
        distribution = entry.dist
        assert distribution is not None  # only entry points made by hand have none
        found.append(BackendInfo(kind, name, distribution.name, distribution.version, entry.value))
    return tuple(sorted(set(found)))


@cache
def load(kind: str, name: str) -> Any:
    """The class of a backend; raises LtrlError when there is none, when two claim the name, or when it cannot load."""
    claims = [info for info in backends() if (info.kind, info.name) == (kind, name)]
    if not claims:
        raise fail(Code.UNKNOWN_BACKEND, f"unknown {kind} backend `{name}`", hint=known(kind, name))
    if len(claims) > 1:
        owners = " and ".join(f"`{info.distribution}` {info.version}" for info in claims)
        raise fail(Code.BROKEN_BACKEND, f"the {kind} backend `{name}` is claimed by {owners}", hint="uninstall one")
    info = claims[0]
    try:
        backend = metadata.EntryPoint(f"{kind}.{name}", info.target, GROUP).load()
    except (ImportError, AttributeError) as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        hint = f"is `{missing}` installed?" if missing else f"reinstall `{info.distribution}`"
        message = f"the {kind} backend `{name}` of `{info.distribution}` {info.version} does not load: {error}"
        raise fail(Code.BROKEN_BACKEND, message, hint=hint) from error
    if getattr(backend, "api", None) != API:
        message = f"the {kind} backend `{name}` of `{info.distribution}` {info.version} is for another ltrl: "
        written_for = getattr(backend, "api", "not stated")
        raise fail(Code.BROKEN_BACKEND, f"{message}its `api` is {written_for}, this is {API}")
    absent = sorted(a for a in ("Options", *_methods(kind)) if not hasattr(backend, a))
    if absent:
        raise fail(
            Code.BROKEN_BACKEND, f"the {kind} backend `{name}` of `{info.distribution}` lacks {', '.join(absent)}"
        )
    return backend


def missing_modules(modules: Sequence[str], *, extra: str, of: str) -> Diagnostic | None:
    """What to install before `of` can run on this machine; None when every module is here."""
    lacking = [name for name in modules if importlib.util.find_spec(name) is None]
    if not lacking:
        return None
    listed = ", ".join(f"`{name}`" for name in lacking)
    message = f"{of} needs {listed}, not installed here"
    return Diagnostic(Code.MISSING_EXTRA, message, hint=f"pip install 'ltrl[{extra}]'")


def known(kind: str, name: str) -> str:
    """A hint that lists the backends of a kind, the one nearest to a name first."""
    import difflib

    names = sorted({info.name for info in backends() if info.kind == kind})
    close = difflib.get_close_matches(name, names, n=1)
    listed = ", ".join(f"`{n}`" for n in names) or "none"
    return (f"did you mean `{close[0]}`? " if close else "") + f"installed {kind} backends: {listed}"


def _methods(kind: str) -> list[str]:
    if kind in STAGE_KINDS:
        return [*STAGE_KINDS[kind]]
    return [
        m
        for m, f in vars(RUN_KINDS[kind]).items()
        if callable(f) and (not m.startswith("_") or m in ("__iter__", "__len__"))
    ]
