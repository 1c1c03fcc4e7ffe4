"""Which checkpoint a person means."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ltrl.lineage import Fork

__all__ = ["checkpoint", "model"]


def checkpoint(text: str, *, project: Path) -> Fork:
    """That of `RUN@STEP`, or the newest of `RUN`; raises LtrlError when there is none."""
    from ltrl import lineage
    from ltrl.errors import Code, fail
    from ltrl.runs import find_run

    name, at, step = text.rpartition("@")
    if at and not step.isdecimal():
        raise fail(Code.UNKNOWN_CHECKPOINT, f"`{step}` is no step", hint="write `RUN@STEP` or `RUN`")
    return lineage.fork(find_run(name if at else text, project=project), int(step) if at else None)


def model(text: str, *, project: Path) -> tuple[str, str | None]:
    """What a model is loaded from, and its name: a directory or an id as it stands, the export of a run, or else a
    checkpoint that the embedded engine serves as it is. Raises LtrlError when there is none.
    """
    from ltrl.evaluation.weights import model_directory

    if "/" in text or Path(text).is_dir():
        return text, None
    chosen = checkpoint(text, project=project)
    export = chosen.run.path / "stages" / "export" / "model"
    if chosen.run.engine != "local" or ("@" not in text and export.is_dir()):
        return str(model_directory(export)), chosen.run.id
    return str(chosen.directory), f"{chosen.run.id}@{chosen.step}"
