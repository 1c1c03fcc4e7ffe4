"""What following runs costs: reading metrics, and `ltrl watch`.

    python benchmarks/watch.py

Where nothing else is said it is CPU time of this process, the best of several. Histories have 60 numbers a step, as
NeMo-RL's do.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import random
import select
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable
from pathlib import Path

from ltrl import metrics, state
from ltrl.metrics import Reader
from ltrl.state import Attempt, Run, State

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


def make_run(path: Path, steps: int) -> Run:
    path.mkdir(parents=True)
    state.create_run(Run(path, path.name, "bench", "0" * 64, "local", steps, str(path), state.now()))
    run = state.add_attempt(
        state.read_run(path), Attempt(1, State.COMPLETED, "local", "local", 60, "host", state.now())
    )
    (path / "logs/exp_001").mkdir(parents=True)
    (path / "logs/exp_001/metrics.jsonl").write_text(lines(1, steps))
    event_file(path / "logs/exp_001/tensorboard/events.out.tfevents.1", min(steps, 1000))
    (path / "attempts/1/stdout.log").write_text("a line of a log\n" * 100_000)
    return run


def first_paint(run: Path) -> float:
    """Seconds from the start of the process until the whole first picture is on the terminal."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    code = "import sys; sys.argv[0] = 'ltrl'; from ltrl.cli import main; main()"
    began = time.perf_counter()
    watcher = subprocess.Popen(
        [sys.executable, "-c", code, "watch", str(run)], stdin=follower, stdout=follower, stderr=follower,
        env={**os.environ, "TERM": "xterm-256color"},
    )  # fmt: skip
    shown = b""
    while b"q leaves" not in shown:
        shown += os.read(leader, 1 << 16)
    took = time.perf_counter() - began
    os.write(leader, b"q")
    while watcher.poll() is None:
        if select.select([leader], [], [], 0.05)[0]:
            os.read(leader, 1 << 16)
    os.close(leader)
    os.close(follower)
    return took


def watching(here: Path) -> None:
    from ltrl.cli.show.watch.frame import frame
    from ltrl.live import Live

    made = {steps: make_run(here / f"run-{steps}", steps) for steps in (200, 10_000)}
    for steps, run in made.items():
        took = [first_paint(run.path) for _ in range(5)]
        print(f"first picture of {steps:6,} steps: {statistics.median(took):.2f} s, {min(took):.2f} s at best (wall)")
    for steps, run in made.items():
        live = Live(run)
        while live.update():
            pass

        def refresh(live: Live = live) -> None:
            live.update()
            frame([live], selected=0, width=160, height=50)

        idle = cpu(refresh, 20)
        added = []
        for step in range(steps + 1, steps + 11):
            with (run.path / "logs/exp_001/metrics.jsonl").open("a") as file:
                file.write(lines(step, step))
            added.append(cpu(refresh, 1))
        print(f"refresh after {steps:6,} steps: {idle * 1e3:.1f} ms, {min(added) * 1e3:.1f} ms with a step more")
    many = [Live(make_run(here / f"many-{i}", 200)) for i in range(50)]
    for live in many:
        while live.update():
            pass

    def all_of_them() -> None:
        for live in many:
            live.update()
        frame(many, selected=7, width=160, height=50)

    print(f"refresh of 50 runs: {cpu(all_of_them, 5) * 1e3:.1f} ms")


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        os.environ["LTRL_STATE_DIR"] = f"{directory}/state"
        reading(Path(directory))
        watching(Path(directory))


if __name__ == "__main__":
    main()
