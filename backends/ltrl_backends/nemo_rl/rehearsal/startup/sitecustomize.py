"""Python runs this first in every process of a rehearsal: what lets NeMo-RL be imported where it was not installed.

- Loggers that are off: NeMo-RL imports wandb, mlflow and swanlab in any case; where one is missing, an empty module
  stands for it. So it does for what `$LTRL_STAND_FOR` names: NeMo-RL 0.6.0 imports Megatron in any case too.
- Python 3.11: NeMo-RL is written for 3.13. Before 3.12 pydantic refuses `typing.TypedDict`, which its configuration
  uses; `typing_extensions` has the same class in a form that it takes.
"""

import os
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

STANDS_FOR = ("mlflow", "swanlab", "wandb", *os.environ.get("LTRL_STAND_FOR", "").split())


class Missing(ModuleType):
    """A module of classes without content."""

    def __getattr__(self, name: str) -> type:
        """A class of any name; no dunder, by which Python asks what a module is."""
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class MissingModules:
    """Finds, after everything else, the modules that are not installed."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:  # noqa: ARG002
        """Python's protocol of a finder."""
        known = name.partition(".")[0] in STANDS_FOR
        return ModuleSpec(name, self, is_package=True) if known else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Python's protocol of a loader."""
        return Missing(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run."""


sys.meta_path.append(MissingModules())

if sys.version_info < (3, 12):
    import typing

    import typing_extensions

    typing.TypedDict = typing_extensions.TypedDict
