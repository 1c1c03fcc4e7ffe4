"""The embedded engine: a real GRPO training of a small model on this machine, no GPU needed."""

from __future__ import annotations

from ltrl_backends.local_engine.engine import LocalEngine
from ltrl_backends.local_engine.options import LocalEngineOptions

__all__ = ["LocalEngine", "LocalEngineOptions"]
