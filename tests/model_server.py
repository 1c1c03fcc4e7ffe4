"""A real model server in a process of its own, from the command line that a person types, and a small model for it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from server_process import LTRL, ServerProcess

WORDS = [" knows", " Ada", " Bo", " Cy", "answer", " evidence"]


def small_model(directory: Path, *, context: int = 256) -> tuple[Any, Any]:
    """A model with random weights and its tokenizer, saved as Hugging Face model directories are."""
    from ltrl_backends.local_engine.network import make_network
    from ltrl_backends.local_engine.settings import Network
    from ltrl_backends.local_engine.tokenizer import make_tokenizer

    shape = Network(
        num_layers=2,
        hidden_size=32,
        ffn_size=64,
        num_heads=4,
        num_kv_heads=2,
        head_dim=16,
        tied_embeddings=True,
        rope_theta=1000.0,
        max_positions=context,
    )
    tokenizer = make_tokenizer(WORDS, max_positions=context)
    model = make_network(shape, tokenizer, seed=0)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return model.eval(), tokenizer


class ModelServerProcess(ServerProcess):
    """A model server."""

    def __init__(self, *arguments: str, environment: dict[str, str] | None = None, cwd: Path | None = None) -> None:
        clean = {name: value for name, value in os.environ.items() if name != "LTRL_MODEL_TOKEN"}
        super().__init__(
            subprocess.Popen(
                [sys.executable, "-c", LTRL, "serve", "model", *arguments, "--port", "0", "--threads", "1"],
                env={**clean, **(environment or {})},
                cwd=cwd,
                stderr=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                text=True,
            )
        )


@contextmanager
def model_server(*arguments: str, **options: Any) -> Iterator[ModelServerProcess]:
    """A server that listens; ended afterwards if the test has not done so."""
    server = ModelServerProcess(*arguments, **options)
    try:
        assert server.url, "\n".join(server.lines)
        yield server
    finally:
        if server.process.poll() is None:
            assert server.stop() == 0, "\n".join(server.lines)
