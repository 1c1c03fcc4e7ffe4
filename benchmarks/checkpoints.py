"""How long listing checkpoints takes: 10, 100 and 1,000 of them, as of the embedded engine (9 files) and of Megatron.

    python benchmarks/checkpoints.py

CPU time of this process (user + system), the best of five; sparse files stand for the weights.
"""

from __future__ import annotations

import json
import os
import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from ltrl import checkpoints

SHARDS = 128
"""Files of a Megatron checkpoint of 32 GPUs: 2 to 4 for each."""


def safetensors(directory: Path) -> None:
    weights = directory / "policy" / "weights"
    weights.mkdir(parents=True)
    header = json.dumps({"a": {"dtype": "F32", "shape": [1 << 20], "data_offsets": [0, 4 << 20]}}).encode()
    with (weights / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + (4 << 20))
    for name in ("config.json", "generation_config.json", "trainer_state.json"):
        (weights / name).write_text("{}")


def megatron(directory: Path) -> None:
    iteration = directory / "policy" / "weights" / "iter_0000000"
    iteration.mkdir(parents=True)
    for shard in range(SHARDS):
        with (iteration / f"__{shard // 2}_{shard % 2}.distcp").open("wb") as file:
            file.truncate(1 << 30)
    for name in ("metadata.json", ".metadata"):
        (iteration / name).write_text("{}")
    (iteration.parent / "latest_checkpointed_iteration.txt").write_text("0")


def best(work: Callable[[], object], times: int = 5) -> float:
    found = []
    for _ in range(times):
        before = time.process_time()
        work()
        found.append(time.process_time() - before)
    return min(found)


def main() -> None:
    print(f"{'layout':<12} {'checkpoints':>11} {'files':>8} {'seconds':>8} {'ms each':>8}")
    for fill in (safetensors, megatron):
        for number in (10, 100, 1000):
            if fill is megatron and number == 1000:
                continue  # 128,000 files take longer to make than to list
            with tempfile.TemporaryDirectory() as scratch:
                for step in range(1, number + 1):
                    made = Path(scratch, f"step_{step}")
                    fill(made)
                    (made / "training_info.json").write_text(json.dumps({"total_steps": step, "val:accuracy": 0.5}))
                found = checkpoints.scan(Path(scratch))
                assert len(found) == number
                assert all(entry.is_complete for entry in found), found[0].problems
                files = sum(len(names) for _, _, names in os.walk(scratch))
                seconds = best(lambda place=Path(scratch): checkpoints.scan(place))  # type: ignore[misc]
                print(f"{fill.__name__:<12} {number:>11} {files:>8} {seconds:>8.3f} {1000 * seconds / number:>8.2f}")


if __name__ == "__main__":
    main()
