"""What evaluating costs beside the model: the client's time, its memory, answers graded a second.

A server in a process of its own answers at once, whatever it is asked. Prompts have 128K tokens (4 characters each),
256 are under way at a time, 2,048 in all. User time is the client's own; system time is the kernel's, which copies half
a megabyte; wall time has the server's reading in it.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

from ltrl.backend import load
from ltrl.benchmark import Answered, Question
from ltrl.evaluation.answers import Log
from ltrl.evaluation.asking import Prompt, Target, ask
from ltrl.evaluation.spec import Requests, Sampling
from ltrl.evaluation.statistics import Scores, difference, mean

TOKENS, CONCURRENCY, REQUESTS, SAMPLES = 131072, 256, 2048, 4
REPLY = b'{"choices":[{"message":{"content":"42"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}'


def serve(told: Connection) -> None:
    """Answers every request with the same reply."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(REPLY)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                lines = (await reader.readuntil(b"\r\n\r\n")).lower()
            except (asyncio.IncompleteReadError, ConnectionResetError):
                return
            left = int(lines.split(b"content-length:")[1].split(b"\r\n")[0])
            while left:
                left -= len(await reader.read(min(left, 1 << 20)))
            writer.write(head + REPLY)

    async def run() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0, limit=1 << 21, backlog=1024)
        told.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


def requests(samples: int) -> tuple[float, float, float, float]:
    """User, system and wall milliseconds of a request, and the peak of memory in MiB over what it was before."""
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{ours.recv()}/v1"
    target = Target(url, "m", "m", Sampling(), Requests(concurrency=CONCURRENCY), 1024, TOKENS + 1024)
    text = "The grass is green. The sky is blue. " * (4 * TOKENS // 37)

    def prompts() -> Iterator[Prompt]:
        for number in range(REQUESTS // samples):
            yield from Prompt.all_of(target, (("user", f"{number} {text}"),), TOKENS, samples)

    import httpx  # noqa: F401  # once, whatever the number of requests

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as folder, Log(Path(folder) / "answers.jsonl") as log:
        first, wall = os.times(), time.perf_counter()
        asked = ask(prompts(), log, target, on_answer=lambda: None)
        last, wall = os.times(), time.perf_counter() - wall
        assert asked.num_answered == len(log) == REQUESTS
    server.kill()
    server.join()
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    user, system = last.user - first.user, last.system - first.system
    return 1000 * user / REQUESTS, 1000 * system / REQUESTS, 1000 * wall / REQUESTS, peak


def graded(name: str, question: Question, answer: str, **options: object) -> float:
    """Answers that a benchmark grades in a second."""
    backend = load("benchmark", name)
    made = backend(backend.Options(backend=name, **options))
    answers = [Answered(question, answer)] * 64
    return 64 / timed(lambda: made.grade(answers))


def timed(work: Callable[[], object]) -> float:
    """Seconds of CPU that a call takes, the best of several."""
    best = float("inf")
    for _ in range(5):
        started = time.process_time()
        work()
        best = min(best, time.process_time() - started)
    return max(best, 1e-9)


def main() -> None:
    """Prints the tables of docs/performance.md."""
    print("| 256 prompts of 128K tokens at once | user ms a request | system ms | wall ms | peak MiB |")
    print("|---|---:|---:|---:|---:|")
    for samples in (1, SAMPLES):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:  # its memory has no peak yet
            user, system, wall, peak = fresh.submit(requests, samples).result()
        name = f"{samples} answer{'s' if samples > 1 else ''} a question"
        print(f"| {name} | {user:.2f} | {system:.2f} | {wall:.2f} | {peak:.0f} |")
    prose = "Once upon a time a tapir walked through the forest and met a friend. " * 40
    rest = "Reasoning about the documents at some length. " * 40
    cases = [
        (
            "mrcr",
            Question("q", (), "aYooSG8CQg" + prose, extra={"prefix": "aYooSG8CQg"}),
            "aYooSG8CQg" + prose[:-69],
            {},
        ),
        ("longbench-v2", Question("q", (), "B"), f"{rest}The correct answer is (B).", {}),
        ("longreason", Question("q", (), "B"), f"{rest}The answer is B.", {}),
        ("ruler", Question("q", (), "", extra={"expected": ["1234567"] * 4}), f"{rest}1234567", {}),
    ]
    print("\n| metric | answers | graded a second |\n|---|---|---:|")
    for name, question, answer, options in cases:
        print(f"| `{name}` | {len(answer):,} characters | {graded(name, question, answer, **options):,.0f} |")
    questions = [Scores(str(i), (float(i % 3 == 0),) * 4) for i in range(2400)]
    print("\n| 2,400 questions | seconds |\n|---|---:|")
    print(f"| mean with interval | {timed(lambda: mean(questions)):.2f} |")
    print(f"| paired difference and test | {timed(lambda: difference(questions, questions[::-1])):.2f} |")


if __name__ == "__main__":
    sys.exit(main())
