"""A real model server in a process of its own, from the command line that a person types, and a small model for it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LTRL = "import sys; sys.argv[0] = 'ltrl'; from ltrl.cli import main; main()"
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


class ModelServerProcess:
    """What it has told, and its URL."""

    def __init__(self, *arguments: str, environment: dict[str, str] | None = None, cwd: Path | None = None) -> None:
        clean = {name: value for name, value in os.environ.items() if name != "LTRL_MODEL_TOKEN"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", LTRL, "serve", "model", *arguments, "--port", "0", "--threads", "1"],
            env={**clean, **(environment or {})},
            cwd=cwd,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        self.url = ""
        self.lines: list[str] = []
        self._listening = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        assert self._listening.wait(120)

    def stop(self) -> int:
        """Asks it to end; its exit status."""
        self.process.terminate()
        return self.wait()

    def wait(self) -> int:
        status = self.process.wait(60)
        self._reader.join()
        assert self.process.stderr is not None
        self.process.stderr.close()
        return status

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))
            if found := re.search(r"is served on (http://\S+);", line):
                self.url = found[1]
                self._listening.set()
        self._listening.set()  # it ended


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
