"""Where the stages of a run are: the training in the run's own directory, every other in one of its own below it."""

from __future__ import annotations

from pathlib import Path

__all__ = ["FOLDER", "TRAIN", "run_id", "run_of", "stage_dir", "stage_of"]

TRAIN = "train"
"""The stage that every engine has."""

FOLDER = "stages"
"""Folder of the other stages in a run directory; each is like a run directory itself."""


def stage_dir(run_dir: Path, stage: str) -> Path:
    """The directory of a stage in that of its run."""
    return run_dir if stage == TRAIN else run_dir / FOLDER / stage


def stage_of(path: Path) -> str:
    """Which stage the directory of one is for."""
    return path.name if path.parent.name == FOLDER else TRAIN


def run_of(path: Path) -> Path:
    """The directory of the run that the directory of a stage belongs to."""
    return path.parents[1] if path.parent.name == FOLDER else path


def run_id(path: Path) -> str:
    """The id of a run, or of a stage of one, by its directory: `RUN`, `RUN/export`."""
    return path.name if stage_of(path) == TRAIN else f"{run_of(path).name}/{path.name}"
