"""What following runs costs: reading metrics.

    python benchmarks/watch.py

Everything is CPU time of this process, the best of several. Histories look like NeMo-RL's: 60 numbers a step.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from ltrl import metrics
from ltrl.metrics import Reader

NUM_TAGS = 60
TAGS = ["train/reward", "train/outcome", "train/rubric", "train/group/mixed", "train/mean_gen_tokens_per_sample"]
TAGS += ["train/total_num_tokens", "timing/train/total_step_time"]
TAGS += [f"performance/number_{i}" for i in range(NUM_TAGS - len(TAGS))]
MIB = 2**20


def lines(first: int, last: int) -> str:
    rng = random.Random(first)
    rows = ({"step": s, **{tag: rng.random() for tag in TAGS}} for s in range(first, last + 1))
    return "".join(json.dumps(row) + "\n" for row in rows)


def event_file(path: Path, steps: int) -> None:
    from tensorboard.compat.proto import event_pb2, summary_pb2
    from tensorboard.summary.writer.record_writer import RecordWriter

    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        writer = RecordWriter(file)
        for step in range(1, steps + 1):
            for tag in TAGS:
                value = summary_pb2.Summary.Value(tag=tag, simple_value=step / 7)
                event = event_pb2.Event(wall_time=step, step=step, summary=summary_pb2.Summary(value=[value]))
                writer.write(event.SerializeToString())


def cpu(act: Callable[[], object], times: int = 3) -> float:
    best = float("inf")
    for _ in range(times):
        began = time.process_time()
        act()
        best = min(best, time.process_time() - began)
    return best


def reading(here: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for steps in (200, 10_000):
        run = here / f"lines-{steps}"
        path = run / "logs/exp_001/metrics.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text(lines(1, steps))
        size = path.stat().st_size / MIB
        took = cpu(lambda run=run: metrics.read(run))
        print(f"metrics.jsonl, {steps:6,} steps, {size:5.1f} MiB: {took * 1e3:8.1f} ms, {size / took:6.1f} MiB/s")
        reader = Reader(run)
        reader.update()
        idle = cpu(reader.update, 20)
        added = []
        for step in range(steps + 1, steps + 21):
            with path.open("a") as file:
                file.write(lines(step, step))
            added.append(cpu(reader.update, 1))
        print(f"    nothing new {idle * 1e6:6.0f} us, one step more {min(added) * 1e6:6.0f} us")
    for steps in (200, 2_000):
        run = here / f"events-{steps}"
        path = run / "logs/exp_001/tensorboard/events.out.tfevents.1"
        event_file(path, steps)
        size = path.stat().st_size / MIB
        ours = cpu(lambda run=run: metrics.read(run))
        theirs = cpu(lambda path=path: EventAccumulator(str(path.parent), size_guidance={"scalars": 0}).Reload())
        print(
            f"event file, {steps:6,} steps, {size:5.1f} MiB: ltrl {size / ours:5.1f} MiB/s, "
            f"EventAccumulator {size / theirs:5.1f} MiB/s"
        )
        (run / "logs/exp_001/metrics.jsonl").write_text(lines(1, steps))
        both = cpu(lambda run=run: metrics.read(run))
        print(f"    beside its metrics.jsonl, for the times alone: {both * 1e3:.1f} ms for both")


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        reading(Path(directory))


if __name__ == "__main__":
    main()
