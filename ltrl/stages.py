"""Where the stages of a run are: the training in the run's own directory, every other in one of its own below it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

__all__ = ["EVALUATION", "EXPORT", "FOLDER", "TRAIN", "exported_models", "run_id", "run_of", "stage_dir", "stage_of"]

TRAIN = "train"
"""The stage that every engine has: the job in the run's own directory."""

EVALUATION = "evaluation"
"""In the place of an engine: a run whose one job measures a model and trains none."""

EXPORT = "export"
"""The stage that makes a Hugging Face model."""

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


def exported_models(run_dir: Path) -> tuple[Path, ...]:
    """Where the jobs of a run's stage `export` left models, in the order of their attempts; those still there."""
    return tuple(
        dict.fromkeys(path for path in _exported(stage_dir(run_dir, EXPORT)) if (path / "config.json").is_file())
    )


def _exported(stage: Path) -> Iterator[Path]:
    """The stage's own place, and those that `ltrl export` asked for."""
    yield stage / "model"
    yield from sorted((stage / "model").glob("step_*"))
    for asked in sorted(stage.glob("attempts/*/request.json"), key=lambda path: (len(path.parts[-2]), path.parts[-2])):
        try:
            yield Path(json.loads(asked.read_bytes())["to"])
        except (OSError, ValueError, KeyError, TypeError):  # damaged: it names no place
            continue
