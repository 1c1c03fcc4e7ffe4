"""An evaluation that takes milliseconds, and endpoints that answer it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml
from loopback_judge import Answer

from ltrl.evaluation.measure import measure
from ltrl.evaluation.results import Sample, read
from ltrl.evaluation.subject import measurement, written

LTRL = "import sys; sys.argv[0] = 'ltrl'; from ltrl.cli import main; main()"
NUMBER = re.compile(r"One of the special magic numbers for (\w+) is: (\d+)\.")


def completion(text: str | None, **extra: Any) -> Answer:
    """A whole reply, with what a server adds."""
    message = {"role": "assistant", "content": text, **extra.pop("message", {})}
    choice = {"index": 0, "message": message, "finish_reason": extra.pop("finish_reason", "stop")}
    return Answer(
        body=json.dumps({"choices": [choice], "usage": {"prompt_tokens": 100, "completion_tokens": 7}} | extra)
    )


def found_in(request: dict[str, Any]) -> str:
    """The right answer to a question of `ruler` about one number."""
    prompt = request["messages"][0]["content"]
    [key] = re.findall(r"special magic number for (\w+) mentioned", prompt)
    return dict(NUMBER.findall(prompt))[key]


def knows(number: int, request: dict[str, Any]) -> Answer:
    return completion(f"It is {found_in(request)}.")


def spec(tmp_path: Path, url: str, **changes: Any) -> Path:
    """Questions of `ruler` that take a millisecond to make."""
    data: dict[str, Any] = {
        "kind": "evaluation",
        "name": "tiny",
        "model": {"base": "served", "chat_format": "plain", "context": {"prompt": 4096, "response": 256}},
        "endpoint": {"base_url": url},
        "benchmarks": {"needles": {"backend": "ruler", "tasks": ["single"], "lengths": [256, 512], "questions": 3}},
        "requests": {"concurrency": 4, "retries": 3, "backoff_seconds": 0.01, "timeout_seconds": 5.0},
    }
    for path, value in changes.items():
        *around, name = path.split("__")
        section = data
        for step in around:
            section = section.setdefault(step, {})
        section[name] = value
    path_ = tmp_path / "eval.yaml"
    path_.write_text(yaml.safe_dump(data))
    return path_


def evaluated(path: Path, out: Path) -> list[Sample]:
    measure(measurement(written(path)), out)
    return list(read(out))


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended may wait for its parent."""
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
