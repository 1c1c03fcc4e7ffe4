"""`python -m ltrl_backends.nemo_rl.export CHECKPOINTS OUT`: the trained model in Hugging Face form.

NeMo-RL's own converters do it (`examples/converters/`), in the environment that `uv` makes in its container; this finds
the checkpoint, says what to convert, and mends what they leave undone. `ltrl export` leaves `request.json` in the
attempt's directory, with another step and another place.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ltrl.checkpoints import Entry, look, newest_usable
from ltrl.errors import Code, LtrlError, fail
from ltrl.exported import Origin, check_place, finish, origin, put

__all__ = ["command", "convert", "main"]


def main(arguments: Sequence[str]) -> int:
    """Converts; 1 for what a person can mend, the converter's status when that fails."""
    checkpoints, out = (Path(os.path.abspath(a)) for a in arguments)
    found = importlib.util.find_spec("nemo_rl")
    try:
        if found is None or found.origin is None:
            raise fail(Code.MISSING_EXTRA, "NeMo-RL is not installed here: `export` runs in its container")
        step, to = _asked()
        entry = newest_usable(checkpoints) if step is None else look(checkpoints / f"step_{step}")
        if entry is None or not entry.is_complete:
            which = "complete checkpoint" if step is None else f"complete checkpoint of step {step}"
            why = f": {'; '.join(entry.problems)}" if entry else ""
            raise fail(Code.BAD_CHECKPOINT, f"`{checkpoints}` has no {which}{why}")
        made_of = origin(checkpoints.parent, entry, project=Path(os.environ.get("LTRL_PROJECT_DIR", ".")))
        return convert(entry, to or out / entry.directory.name, made_of, nemo_rl=Path(found.origin).parents[1])
    except LtrlError as error:
        sys.stderr.write("".join(f"error[{d.code}]: {d.message}\n" for d in error.diagnostics))
        return 1


def convert(checkpoint: Entry, out: Path, made_of: Origin, *, nemo_rl: Path) -> int:
    """Runs the converter and finishes what it made, whole or not at all; returns its exit status."""
    check_place(out, run=checkpoint.directory.parents[1], project=made_of.project)
    out = out.resolve()
    draft = out.with_name(f".{out.name}.unfinished")
    shutil.rmtree(draft, ignore_errors=True)  # the converters refuse a directory that is there
    out.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(command(checkpoint, draft, nemo_rl=nemo_rl), check=False)
    if done.returncode:
        sys.stderr.write(f"the converter ended with status {done.returncode}\n")
        return done.returncode
    for said in finish(draft, made_of, tokenizer=_tokenizer(checkpoint, made_of, draft)):
        sys.stdout.write(f"{said}\n")
    put(draft, out)
    sys.stdout.write(f"step {checkpoint.step}: {out}\n")
    return 0


def command(checkpoint: Entry, out: Path, *, nemo_rl: Path) -> list[str]:
    """The argument vector of the converter for the checkpoint's layout; raises LtrlError for one without.

    Megatron keeps the one iteration of a checkpoint in `iter_0000000`, on the CPU it is converted in one process.
    """
    weights = checkpoint.directory / "policy" / "weights"
    config = f"--config={checkpoint.directory / 'config.yaml'}"
    run = ["uv", "run", f"--directory={nemo_rl}"]
    match checkpoint.layout:
        case "megatron":
            iteration = sorted(weights.glob("iter_*"))[-1]
            script = ["python", "examples/converters/convert_megatron_to_hf.py", config]
            return [*run, "--extra", "mcore", *script, f"--megatron-ckpt-path={iteration}", f"--hf-ckpt-path={out}"]
        case "dcp":
            script = ["python", "examples/converters/convert_dcp_to_hf.py", config]
            return [*run, *script, f"--dcp-ckpt-path={weights}", f"--hf-ckpt-path={out}"]
        case _:
            message = f"`{checkpoint.directory}` has neither Megatron nor DCP weights (`policy/weights`)"
            raise fail(Code.BAD_CHECKPOINT, message, hint="weights in Hugging Face form need no conversion")


def _asked() -> tuple[int | None, Path | None]:
    try:
        data = json.loads(Path("attempts", os.environ.get("LTRL_ATTEMPT", "1"), "request.json").read_bytes())
    except FileNotFoundError:
        return None, None
    return data["step"], Path(data["to"])


def _tokenizer(checkpoint: Entry, made_of: Origin, draft: Path) -> Path | None:
    """Files of the tokenizer: DTensor saves them, of Megatron's checkpoints they are the base model's."""
    saved = checkpoint.directory / "policy" / "tokenizer"
    if saved.is_dir() or (draft / "tokenizer_config.json").is_file():
        return saved
    try:
        from transformers import AutoTokenizer
    except ImportError:
        return None
    model = made_of.spec.model
    AutoTokenizer.from_pretrained(model.base, revision=model.revision or "main").save_pretrained(draft)
    return draft


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
