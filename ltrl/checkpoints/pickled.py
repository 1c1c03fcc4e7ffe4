"""The index of a distributed checkpoint, `.metadata`, read without torch and without running anything in it."""

from __future__ import annotations

import io
import pickle
from typing import Any

__all__ = ["shards"]


class _Inert:
    """Stands for an object of any class: keeps its state, does nothing."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, dict) else {}

    def __setitem__(self, key: Any, value: Any) -> None:
        """Entries of a mapping that is not a plain one; nobody asks for them."""

    def append(self, value: Any) -> None:
        """Items of a list that is not a plain one."""


class _Index(_Inert):
    """The metadata itself."""


class _Piece(_Inert):
    """Where one tensor's bytes are."""


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("torch.distributed.checkpoint"):
            return {"Metadata": _Index, "_StorageInfo": _Piece}.get(name, _Inert)
        return _Inert  # never the class itself: a pickle may name any function


def shards(index: bytes) -> dict[str, int]:
    """How long each shard must be at least, by its path beside the index; raises ValueError for what is no index.

    Source: `_StorageInfo(relative_path, offset, length)` in torch/distributed/checkpoint/filesystem.py.
    """
    try:
        found = _Reader(io.BytesIO(index)).load()
        pieces = found.state["storage_data"].values()
        lengths: dict[str, int] = {}
        for piece in pieces:
            end = piece.state["offset"] + piece.state["length"]
            path = piece.state["relative_path"]
            lengths[path] = max(end, lengths.get(path, 0))
    except Exception as error:  # a damaged pickle raises anything
        raise ValueError(f"{type(error).__name__}: {error}") from None
    return lengths
