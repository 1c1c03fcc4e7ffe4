"""`python -m ltrl_backends.local_engine.export CONFIG CHECKPOINTS OUT`: the trained model, for others to load.

The weights of a checkpoint are in Hugging Face form already, beside what only a resume needs; a model directory has the
tokenizer beside them instead.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from ltrl.errors import Code, LtrlError, fail
from ltrl_backends.local_engine.checkpoints import Checkpoints
from ltrl_backends.local_engine.settings import read_settings
from ltrl_backends.local_engine.storage import sync_tree, writing

__all__ = ["export", "main"]

MODEL = ("config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json")


def main(arguments: Sequence[str]) -> int:
    """Exports; 1 for what a person can mend."""
    config, checkpoints, out = map(Path, arguments)
    try:
        step = export(Checkpoints(checkpoints, read_settings(config).checkpoint), out)
    except LtrlError as error:
        sys.stderr.write("".join(f"error[{d.code}]: {d.message}\n" for d in error.diagnostics))
        return 1
    sys.stdout.write(f"step {step}: {out.absolute()}\n")
    return 0


def export(checkpoints: Checkpoints, out: Path) -> int:
    """Puts the model of the newest checkpoint into a directory, whole or not at all; returns its step."""
    newest = checkpoints.latest()
    if newest is None:
        raise fail(Code.BAD_CHECKPOINT, f"`{checkpoints.directory}` has no complete checkpoint")
    draft = out.with_name(f".{out.name}.unfinished")
    with writing(out.parent):
        shutil.rmtree(draft, ignore_errors=True)
        shutil.copytree(newest.weights.with_name("tokenizer"), draft)
        for path in (path for pattern in MODEL for path in newest.weights.glob(pattern)):
            shutil.copy2(path, draft)
        sync_tree(draft)
        shutil.rmtree(out, ignore_errors=True)
        draft.rename(out)
    return newest.step


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
