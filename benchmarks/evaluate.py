"""What evaluating costs beside the model: the client's time, its memory, answers graded a second.

A server in a process of its own answers at once, whatever it is asked. Prompts have 128K tokens (4 characters each),
256 are under way at a time. User time is the client's own; system time is the kernel's, which copies half a megabyte;
wall time has the server's reading in it. The floor is what it takes to send such bytes, made before and the same each
time, over as many connections of `asyncio`, with nothing encoded, hashed, parsed or written down.
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
from ltrl.evaluation.asking import Asked, Prompt, Target, ask
from ltrl.evaluation.spec import Requests, Sampling
from ltrl.evaluation.statistics import Scores, difference, mean

TOKENS, CONCURRENCY = 131072, 256
CASES = ((1, 2048), (4, 2048), (1, 256), (1, 1024), (1, 4096))
"""(answers a question, answers): what a request costs, then memory by the number of questions."""
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
            left = int((lines.split(b"content-length:")[1:] or [b"0"])[0].split(b"\r\n")[0])
            while left:
                left -= len(await reader.read(min(left, 1 << 20)))
            writer.write(head + REPLY)

    async def run() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0, limit=1 << 21, backlog=1024)
        told.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


Cost = tuple[float, float, float, float]
"""User, system and wall milliseconds of a request, and the peak of memory in MiB over what it was before."""


def text() -> str:
    """A prompt of 128K tokens."""
    return "The grass is green. The sky is blue. " * (4 * TOKENS // 37)


def evaluation(url: str, samples: int, total: int) -> Cost:
    """What an evaluation's requests cost."""
    target = Target(f"{url}/v1", "m", "m", Sampling(), Requests(concurrency=CONCURRENCY), 1024, TOKENS + 1024)
    words = text()

    def prompts() -> Iterator[Prompt]:
        for number in range(total // samples):
            yield from Prompt.all_of(target, (("user", f"{number} {words}"),), TOKENS, samples)

    import httpx  # noqa: F401  # once, whatever the number of requests

    def work() -> None:
        with tempfile.TemporaryDirectory() as folder, Log(Path(folder) / "answers.jsonl") as log:
            asked = Asked()
            ask(prompts(), log, target, asked, on_answer=lambda: None)
            assert asked.num_answered == len(log) == total

    return cost(work, total)


def floor(url: str, total: int) -> Cost:
    """What as many requests of a plain client cost."""
    host, port = url.removeprefix("http://").split(":")
    body = text().encode()
    request = b"POST /v1/chat/completions HTTP/1.1\r\nhost: m\r\ncontent-length: %d\r\n\r\n" % len(body) + body

    async def connection(number: int) -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        for _ in range(number):
            writer.write(request)
            await writer.drain()
            await reader.readuntil(REPLY)
        writer.close()

    async def work() -> None:
        await asyncio.gather(*(connection(total // CONCURRENCY) for _ in range(CONCURRENCY)))

    return cost(lambda: asyncio.run(work()), total)


def cost(work: Callable[[], None], total: int) -> Cost:
    """What a call costs, a request."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    first, wall = os.times(), time.perf_counter()
    work()
    last, wall = os.times(), time.perf_counter() - wall
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    user, system = last.user - first.user, last.system - first.system
    return 1000 * user / total, 1000 * system / total, 1000 * wall / total, peak


def alone(work: Callable[..., Cost], *arguments: int) -> Cost:
    """What a call costs in a process of its own, whose memory has no peak yet, with a server of its own."""
    fresh = multiprocessing.get_context("spawn")
    ours, theirs = multiprocessing.Pipe()
    server = fresh.Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    try:
        with ProcessPoolExecutor(1, fresh) as pool:
            return pool.submit(work, f"http://127.0.0.1:{ours.recv()}", *arguments).result()
    finally:
        server.kill()
        server.join()


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
    print("| questions x answers | user ms a request | system ms | wall ms | peak MiB |")
    print("|---|---:|---:|---:|---:|")
    plain = alone(floor, CASES[0][1])
    cases = [
        (f"{total:,} x 1" if samples == 1 else f"{total // samples:,} x {samples}", alone(evaluation, samples, total))
        for samples, total in CASES
    ]
    for name, (user, system, wall, peak) in [*cases, ("floor", plain)]:
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
