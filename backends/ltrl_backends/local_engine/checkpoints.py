"""Checkpoints: complete or absent, in NeMo-RL's layout.

checkpoints/step_20/training_info.json, config.yaml, sha256sums.txt, policy/weights/…, policy/tokenizer/…
checkpoints/tmp_step_40/    being written; renamed when everything in it is on disk
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ltrl.checkpoints import Entry, Rules, delete_superfluous, put_unusable_aside, write_sums
from ltrl.errors import Code, fail
from ltrl_backends.local_engine.settings import CheckpointSettings
from ltrl_backends.local_engine.storage import sync_directory, sync_tree, write_text, writing

__all__ = ["Checkpoint", "Checkpoints"]

UNFINISHED = re.compile(r"(tmp|old)_step_\d+")
FINISHED = re.compile(r"step_(\d+)")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete checkpoint."""

    step: int
    directory: Path

    @property
    def weights(self) -> Path:
        """The model in Hugging Face form, with the optimizer, the random states and the trainer's state."""
        return self.directory / "policy" / "weights"

    def info(self) -> dict[str, Any]:
        """`training_info.json`; raises LtrlError when it cannot be read."""
        path = self.directory / "training_info.json"
        try:
            info = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            hint = f"move `{self.directory}` away to resume from the checkpoint before it"
            raise fail(Code.BAD_CHECKPOINT, f"cannot read `{path}`: {error}", hint=hint) from None
        assert isinstance(info, dict)  # written by us
        return info


class Checkpoints:
    """The checkpoints of one run directory."""

    def __init__(self, directory: Path, settings: CheckpointSettings) -> None:
        self.directory = directory
        self.settings = settings

    def all(self) -> list[Checkpoint]:
        """Every complete checkpoint, oldest first."""
        if not self.directory.is_dir():
            return []
        found = ((FINISHED.fullmatch(path.name), path) for path in self.directory.iterdir())
        return sorted((Checkpoint(int(m[1]), path) for m, path in found if m), key=lambda c: c.step)

    def latest(self) -> Checkpoint | None:
        """The newest complete checkpoint, None when there is none."""
        return max(self.all(), key=lambda c: c.step, default=None)

    def tidy(self) -> tuple[Entry, ...]:
        """Deletes what a killed writer left and sets damaged checkpoints aside, which it returns; for the run's one
        driver alone.
        """
        if not self.directory.is_dir():
            return ()
        with writing(self.directory):
            damaged = put_unusable_aside(self.directory)
            for path in self.directory.iterdir():
                if UNFINISHED.fullmatch(path.name):
                    shutil.rmtree(path)
        return damaged

    def save(self, step: int, info: Mapping[str, Any], config: str, fill: Callable[[Path], None]) -> Checkpoint:
        """Saves a checkpoint whose `policy` directory `fill` writes, then deletes those no longer kept.

        Raises LtrlError when the disk is full or cannot be written; earlier checkpoints are intact then.
        """
        unfinished = self.directory / f"tmp_step_{step}"
        checkpoint = Checkpoint(step, self.directory / f"step_{step}")
        hint = "free some space and submit again: the run resumes at its last checkpoint"
        with writing(self.directory, hint=hint):
            try:
                (unfinished / "policy").mkdir(parents=True, exist_ok=True)
                fill(unfinished / "policy")
                write_text(unfinished / "config.yaml", config)
                write_text(unfinished / "training_info.json", json.dumps(dict(info), indent=2) + "\n")
                write_sums(unfinished)
                sync_tree(unfinished)
            except BaseException:
                shutil.rmtree(unfinished, ignore_errors=True)
                raise
            if checkpoint.directory.exists():  # a resumed run passes the same step again
                replaced = self.directory / f"old_step_{step}"
                checkpoint.directory.rename(replaced)
                unfinished.rename(checkpoint.directory)
                shutil.rmtree(replaced)
            else:
                unfinished.rename(checkpoint.directory)
            sync_directory(self.directory)
            delete_superfluous(self.directory, Rules.of(self.settings.model_dump()))
        return checkpoint
