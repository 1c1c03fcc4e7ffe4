"""The start model: made once, kept in the user's cache, and shared by every run that needs the same one."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import shutil
import tempfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from ltrl_backends.local_engine import lessons, network, tokenizer
from ltrl_backends.local_engine.lessons import Report, Teacher, teach
from ltrl_backends.local_engine.network import make_network
from ltrl_backends.local_engine.storage import locked, sync_tree, writing
from ltrl_backends.local_engine.tokenizer import make_tokenizer

if TYPE_CHECKING:
    from ltrl_backends.local_engine.options import WarmStart
    from ltrl_backends.local_engine.settings import Network

__all__ = ["cache_directory", "start_model"]

CODE = (lessons, network, tokenizer)
LIBRARIES = ("torch", "transformers", "tokenizers")
"""What the start model depends on beside its options: any change of these makes a new one."""
ELSEWHERE = "`LTRL_CACHE_DIR` names another place for start models"


def cache_directory() -> Path:
    """Where start models are kept: `$LTRL_CACHE_DIR`, else `ltrl` in the user's cache directory."""
    chosen = os.environ.get("LTRL_CACHE_DIR")
    return Path(chosen) if chosen else platformdirs.user_cache_path("ltrl")


def start_model(teacher: Teacher, options: WarmStart, shape: Network, *, threads: int, report: Report) -> Path:
    """A directory with the start model and its tokenizer, made now unless one is kept.

    Its name is a hash of everything it depends on. Of two processes that need the same one, the second waits.
    Raises LtrlError when the cache cannot be written or the model does not learn.
    """
    kept = cache_directory() / "start-models"
    name = _fingerprint(teacher, options, shape, threads)
    directory = kept / name
    if directory.is_dir():
        return directory
    with writing(kept, hint=ELSEWHERE):
        kept.mkdir(parents=True, exist_ok=True)
    busy = "start model: waiting for another process that is making it"
    with locked(kept / f"{name}.lock", when_busy=lambda: report(busy)):
        if not directory.is_dir():
            _make(directory, teacher, options, shape, report)
    return directory


def _make(directory: Path, teacher: Teacher, options: WarmStart, shape: Network, report: Report) -> None:
    words = make_tokenizer(teacher.words(), max_positions=shape.max_positions)
    model = make_network(shape, words, seed=options.seed)
    teach(model, words, teacher, options, report)
    with writing(directory.parent, hint=ELSEWHERE):
        unfinished = Path(tempfile.mkdtemp(prefix="tmp-", dir=directory.parent))
        try:
            model.save_pretrained(unfinished)
            words.save_pretrained(unfinished)
            unfinished.chmod(0o755)  # mkdtemp's 0700 would keep colleagues from a shared cache
            sync_tree(unfinished)
            try:
                unfinished.rename(directory)
            except OSError:
                if not directory.is_dir():  # without locks another process may have been faster
                    raise
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def _fingerprint(teacher: Teacher, options: WarmStart, shape: Network, threads: int) -> str:
    """32 hex digits that change with anything that changes the start model."""
    parts = {
        "teacher": teacher.options.model_dump(mode="json", exclude={"samples", "seed"}),
        "options": options.model_dump(mode="json"),
        "network": shape.model_dump(mode="json"),
        "threads": threads,
        "libraries": {name: metadata.version(name) for name in LIBRARIES},
        "code": [inspect.getsource(module) for module in (inspect.getmodule(type(teacher)), *CODE) if module],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
