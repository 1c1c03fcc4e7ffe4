"""What a run has measured, whichever engine wrote it: one reader into one table.

    logs/exp_NNN/metrics.jsonl        one JSON object a line: `step`, then NeMo-RL's TensorBoard tags
    logs/exp_NNN/tensorboard/*        event files: the same tags, the time of each step, and memory of GPUs (`ray/…`)
    checkpoints/step_N/training_info.json   validation figures, where the logs are gone

Each start of the driver makes the next `exp_NNN`. A resume goes back to a checkpoint: what was measured after it is
lost with the steps, and counts no more once the later start has measured its first one.
"""

from ltrl.metrics.figures import FIGURES, Figure, FigureName
from ltrl.metrics.reader import Gpu, Metrics, Reader, Start, read
from ltrl.metrics.table import Table

__all__ = ["FIGURES", "Figure", "FigureName", "Gpu", "Metrics", "Reader", "Start", "Table", "read"]
