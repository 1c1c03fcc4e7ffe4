"""The checkpoints of a run, told from their files alone: no torch, no engine.

    checkpoints/step_20/                complete, unless its files say otherwise
    checkpoints/tmp_step_40/            being written, or left by a writer that was killed
    checkpoints/old_step_20/            about to be replaced by a newer one of the same step
    checkpoints/set-aside/0001/step_60  taken out of the way by a rollback, or because it is damaged

The layout is NeMo-RL's (`CheckpointManager` in nemo_rl/utils/checkpoint.py, v0.7.0), which resumes from the highest
`step_N` whatever is in it. The embedded engine writes the same.
"""

from ltrl.checkpoints.aside import SET_ASIDE, put_unusable_aside, set_aside
from ltrl.checkpoints.entries import Condition, Entry, look, newest_usable, scan
from ltrl.checkpoints.files import SUMS, problems, sizes, write_sums
from ltrl.checkpoints.retention import Rules, delete_superfluous, kept, lower_is_better
from ltrl.checkpoints.rollbacks import RECORD, Rollback, rollbacks

__all__ = [
    "RECORD",
    "SET_ASIDE",
    "SUMS",
    "Condition",
    "Entry",
    "Rollback",
    "Rules",
    "delete_superfluous",
    "kept",
    "look",
    "lower_is_better",
    "newest_usable",
    "problems",
    "put_unusable_aside",
    "rollbacks",
    "scan",
    "set_aside",
    "sizes",
    "write_sums",
]
