"""`python -m ltrl_backends.local_engine.export CHECKPOINTS OUT`: the trained model, for others to load.

The weights of a checkpoint are in Hugging Face form already, beside what only a resume needs; a model directory has the
tokenizer beside them instead.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from ltrl.checkpoints import Entry, newest_usable
from ltrl.errors import Code, LtrlError, fail
from ltrl.exported import Origin, check_place, finish, origin, put
from ltrl_backends.local_engine.storage import sync_tree, writing

__all__ = ["export", "main"]

MODEL = ("config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json")


def main(arguments: Sequence[str]) -> int:
    """Exports the newest checkpoint; 1 for what a person can mend."""
    checkpoints, out = map(Path, arguments)
    try:
        newest = newest_usable(checkpoints)
        if newest is None:
            raise fail(Code.BAD_CHECKPOINT, f"`{checkpoints}` has no complete checkpoint")
        run = Path(os.path.abspath(checkpoints)).parent
        made_of = origin(run, newest, project=Path(os.environ.get("LTRL_PROJECT_DIR", ".")))
        export(newest, out, made_of)
    except LtrlError as error:
        sys.stderr.write("".join(f"error[{d.code}]: {d.message}\n" for d in error.diagnostics))
        return 1
    sys.stdout.write(f"step {newest.step}: {out.absolute()}\n")
    return 0


def export(checkpoint: Entry, out: Path, made_of: Origin) -> None:
    """Puts the model of a checkpoint into a directory, whole or not at all; an export that was there is replaced."""
    check_place(out, run=checkpoint.directory.parents[1], project=made_of.project)
    out = out.resolve()
    policy = checkpoint.directory / "policy"
    draft = out.with_name(f".{out.name}.unfinished")
    with writing(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(draft, ignore_errors=True)
        try:
            draft.mkdir()
            for path in (path for pattern in MODEL for path in (policy / "weights").glob(pattern)):
                shutil.copy2(path, draft)
            finish(draft, made_of, tokenizer=policy / "tokenizer")
            sync_tree(draft)
            put(draft, out)
        except (LtrlError, OSError):
            shutil.rmtree(draft, ignore_errors=True)
            raise


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
