"""Which checkpoints stay: NeMo-RL keeps the K newest or the K best, a spec may also ask for those of every N steps."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ltrl.checkpoints import Rules, delete_superfluous

__all__ = ["install"]


def install(checkpointer: Any, checkpointing: Mapping[str, Any]) -> None:
    """Has the rules of the spec decide what NeMo-RL's manager of checkpoints deletes, where it has such rules.

    The manager calls this after every checkpoint that it finished (`finalize_checkpoint`, nemo_rl/utils/checkpoint.py).
    """
    written = checkpointing.get("ltrl")
    if not written:
        return
    rules = replace(Rules.of(written), lower_is_better=not checkpointing["higher_is_better"])
    directory = Path(checkpointing["checkpoint_dir"])

    def remove_old_checkpoints(*_: Any, **__: Any) -> None:
        for gone in delete_superfluous(directory, rules):
            sys.stdout.write(f"deleted: `{gone.directory.name}`, which no rule keeps\n")

    checkpointer.remove_old_checkpoints = remove_old_checkpoints
