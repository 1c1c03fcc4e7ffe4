"""`python -m ltrl_backends.nemo_rl.export CHECKPOINTS OUT`: the trained model in Hugging Face form.

NeMo-RL's own converter does it (`examples/converters/convert_megatron_to_hf.py`), in the environment with Megatron that
`uv` makes in its container; this finds the checkpoint and says what to convert.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ltrl.errors import Code, LtrlError, fail

__all__ = ["command", "main", "newest_checkpoint"]

CONVERTER = "examples/converters/convert_megatron_to_hf.py"


def main(arguments: Sequence[str]) -> int:
    """Becomes the converter; 1 for what a person can mend."""
    checkpoints, out = (Path(a).absolute() for a in arguments)
    found = importlib.util.find_spec("nemo_rl")
    try:
        if found is None or found.origin is None:
            raise fail(Code.MISSING_EXTRA, "NeMo-RL is not installed here: `export` runs in its container")
        words = command(newest_checkpoint(checkpoints), out, nemo_rl=Path(found.origin).parents[1])
    except LtrlError as error:
        sys.stderr.write("".join(f"error[{d.code}]: {d.message}\n" for d in error.diagnostics))
        return 1
    return os.execvp(words[0], words)


def newest_checkpoint(checkpoints: Path) -> Path:
    """The newest checkpoint that is complete; NeMo-RL renames `tmp_step_N` when it is."""
    found = [
        (int(path.name.removeprefix("step_")), path)
        for path in checkpoints.glob("step_*")
        if path.name.removeprefix("step_").isdecimal() and _is_complete(path)
    ]
    if not found:
        raise fail(Code.BAD_CHECKPOINT, f"`{checkpoints}` has no complete checkpoint")
    return max(found)[1]


def command(checkpoint: Path, out: Path, *, nemo_rl: Path) -> list[str]:
    """The converter's argument vector. Megatron keeps the one iteration of a checkpoint in `iter_0000000`."""
    iterations = sorted((checkpoint / "policy" / "weights").glob("iter_*"))
    if not iterations:
        raise fail(Code.BAD_CHECKPOINT, f"`{checkpoint}` has no Megatron weights (`policy/weights/iter_*`)")
    return [
        "uv", "run", "--extra", "mcore", f"--directory={nemo_rl}", "python", CONVERTER,
        f"--config={checkpoint / 'config.yaml'}",
        f"--megatron-ckpt-path={iterations[-1]}",
        f"--hf-ckpt-path={out / checkpoint.name}",
    ]  # fmt: skip


def _is_complete(path: Path) -> bool:
    try:
        json.loads((path / "training_info.json").read_bytes())
    except (OSError, ValueError):
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
