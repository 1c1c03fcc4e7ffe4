"""The driver of a rehearsal: NeMo-RL's training with stand-ins for what needs a GPU."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ltrl_backends.nemo_rl.rehearsal import checkout

__all__ = ["main"]


def main(arguments: Sequence[str], *, engine: Callable[..., Any] | None = None) -> int:
    """`driver.main`, on a CPU; `engine` makes another engine than `stand_ins.Engine`."""
    checkout.use()
    from nemo_rl.data.processors import PROCESSOR_REGISTRY, register_processor
    from nemo_rl.distributed import virtual_cluster

    from ltrl_backends.nemo_rl import driver
    from ltrl_backends.nemo_rl.engine import SMALL_MODEL
    from ltrl_backends.nemo_rl.processor import process_cut
    from ltrl_backends.nemo_rl.rehearsal import small_model, stand_ins
    from ltrl_backends.nemo_rl.rehearsal.shrink import CUTTING_PROCESSOR, MODEL

    described = Path(*arguments[:1]).with_name(SMALL_MODEL)
    is_shrunk = described.is_file()
    if is_shrunk:
        sys.stderr.write(f"{small_model.make(described, Path(MODEL))}\n")
    if CUTTING_PROCESSOR not in PROCESSOR_REGISTRY:
        register_processor(CUTTING_PROCESSOR, process_cut)
    virtual_cluster.init_ray = stand_ins.start_ray
    made = engine or partial(stand_ins.Engine, closes=is_shrunk)
    return driver.main(arguments, setup=partial(stand_ins.setup, engine=made))
