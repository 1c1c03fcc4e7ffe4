"""A real reward server in processes of its own, from the command line that a person types."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from server_process import LTRL, ServerProcess


class RewardServerProcess(ServerProcess):
    """A reward server."""

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines if line.startswith("{")]

    def workers(self) -> list[int]:
        """Processes that serve now."""
        own = self.process.pid
        children = Path(f"/proc/{own}/task/{own}/children").read_text().split()
        found = [int(pid) for pid in children if b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes()]
        return found or [own]


def spec_file(directory: Path, reward: dict[str, Any]) -> Path:
    spec = {
        "kind": "experiment",
        "name": "served",
        "model": {"base": "tiny-qwen3", "context": {"prompt": 128, "response": 17}},
        "data": {"train": {"backend": "entity-chain", "samples": 64}},
        "reward": reward,
        "algorithm": {"steps": 8, "prompts_per_step": 8},
        "optimizer": {"lr": 1e-4},
        "engine": {"name": "local"},
    }
    path = directory / "spec.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path


@contextmanager
def bare_server(directory: Path, settings: dict[str, Any]) -> Iterator[str]:
    """The URL of a server as a job starts it, with settings that no option sets."""
    written = directory / "settings.json"
    written.write_text(json.dumps({"name": "bare", "port": 0, **settings}))
    words = [sys.executable, "-m", "ltrl.server", str(written)]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield process.stdout.readline().strip()
        process.stdin.close()  # which ends it
    assert process.returncode == 0


def start(spec: Path, *arguments: str, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
    clean = {name: value for name, value in os.environ.items() if name != "LTRL_REWARD_TOKEN"}
    return subprocess.Popen(
        [sys.executable, "-c", LTRL, "serve", "reward", str(spec), "--port", "0", *arguments],
        env={**clean, "TMPDIR": str(spec.parent), **(environment or {})},  # one that is killed leaves its folder there
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )


@contextmanager
def reward_server(
    directory: Path, reward: dict[str, Any], *arguments: str, environment: dict[str, str] | None = None
) -> Iterator[RewardServerProcess]:
    """A server that listens; ended afterwards if the test has not done so."""
    server = RewardServerProcess(start(spec_file(directory, reward), *arguments, environment=environment))
    assert server.url, "\n".join(server.lines)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            assert server.stop() == 0, "\n".join(server.lines)
