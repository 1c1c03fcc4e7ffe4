"""Which weights a model has: what tells two exports of one name apart."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

from ltrl.errors import Code, LtrlError, fail, unreadable

__all__ = ["identity", "model_directory"]

_PIECES, _PIECE = 64, 65536


def model_directory(path: Path) -> Path:
    """The model in a directory: itself, or the one of its highest step; raises BAD_CHECKPOINT where there is none."""
    if (path / "config.json").is_file():
        return path
    steps = [
        (int(found.name.removeprefix("step_")), found)
        for found in path.glob("step_*")
        if found.name.removeprefix("step_").isdecimal() and (found / "config.json").is_file()
    ]
    if not steps:
        hint = "an export has a `config.json`, or `step_N` with one"
        raise fail(Code.BAD_CHECKPOINT, f"`{path}` holds no model", hint=hint)
    return max(steps)[1]


def identity(directory: Path) -> str:
    """A hash of the model in a directory: of its configuration whole, of its weights 64 pieces a file and the size."""
    digest = sha256()
    try:
        files = sorted([*directory.rglob("*.json"), *directory.rglob("*.safetensors")])
        for path in files:
            size = path.stat().st_size
            digest.update(f"{path.relative_to(directory)}\0{size}\0".encode())
            with path.open("rb") as file:
                if size <= _PIECES * _PIECE:
                    digest.update(file.read())
                    continue
                for number in range(_PIECES):
                    file.seek(number * (size - _PIECE) // (_PIECES - 1), os.SEEK_SET)
                    digest.update(file.read(_PIECE))
    except OSError as error:
        raise LtrlError(unreadable(error, f"the model `{directory}`")) from None
    return f"sha256:{digest.hexdigest()}"
