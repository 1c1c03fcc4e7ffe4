"""NVIDIA NeMo-RL as an engine: its configuration is compiled and checked here, its jobs run the driver beside it."""

from __future__ import annotations

from ltrl_backends.nemo_rl.engine import NemoRL
from ltrl_backends.nemo_rl.options import NemoRLOptions

__all__ = ["NemoRL", "NemoRLOptions"]
