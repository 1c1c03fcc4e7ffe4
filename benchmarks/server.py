"""The reward server under load, next to a server shaped like the reference's, on the same requests.

    python benchmarks/server.py [--requests 2000] [--clients 128] [--kilobytes 150] [--memory-requests 20000]

Both are asked at `/evaluate` for a rubric of 8 entities, each request with another text. No judge is asked: what is
measured is the servers. The peer is what LongTraceRL's server does, written anew with the same framework: a request is
parsed by the framework and scored in the handler, the text normalised once, each result printed. It cannot run in
several processes. The load comes over keep-alive connections from one process, each connection with one
request at a time; it shares the machine with the servers. The memory is what the server's processes hold together.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scoring import make_text, naive_recall

ENTITIES = ("Lady Gaga", "The Fame", "Poker Face", "Just Dance", "RedOne", "Stockholm", "Gulf of Tonkin", "92.2 m")
SPEC = """
kind: experiment
name: benchmark
model: {base: tiny-qwen3, context: {prompt: 128, response: 17}}
data: {train: {backend: entity-chain, samples: 64}}
reward: {backend: rubric, matcher: reference}
algorithm: {steps: 8, prompts_per_step: 8}
optimizer: {lr: 1e-4}
engine: local
"""
LTRL = "from ltrl.cli import main; main()"


def peer(port: int) -> None:
    """The reference's shape."""
    import uvicorn
    from fastapi import FastAPI, HTTPException, Request

    server = FastAPI()

    async def evaluate(request: Request) -> dict[str, float]:
        try:
            payload = await request.json()
            info = payload["extra_reward_info"]
            text = ""
            for turn in payload["history"]:
                if turn["role"] == "assistant" and info["rubric_use_content"] and "content" in turn:
                    text += "\n\n" + turn["content"].strip()
            rubric = naive_recall(text, tuple(info["rubrics"]))
            print(f"rubric reward: {rubric}")
            return {"outcome_reward": 0, "rubric_reward": rubric, "reward": info["rubric_reward_ratio"] * rubric}
        except Exception as error:
            raise HTTPException(500, f"Internal server error: {error}") from error

    evaluate.__annotations__["request"] = Request
    evaluate.__annotations__["return"] = None
    server.post("/evaluate", response_model=None)(evaluate)
    uvicorn.run(server, port=port, access_log=False, log_level="warning")


@dataclass(frozen=True)
class Load:
    """The requests: one body, in which a number makes each another."""

    head: bytes
    tail: bytes

    @classmethod
    def of(cls, num_bytes: int) -> Load:
        text = make_text(random.Random(0), num_bytes, ENTITIES, 5, 0.0)
        info = {
            "rubrics": ENTITIES,
            "dataset_name": "longqa",
            "rubric_reward_ratio": 1.0,
            "rubric_use_reasoning_content": False,
            "rubric_use_content": True,
        }
        history = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "@number@ " + text}]
        body = json.dumps({"label": "x", "history": history, "extra_reward_info": info}).encode()
        head, tail = body.split(b"@number@")
        return cls(head, tail)

    def request(self, number: int) -> bytes:
        body = self.head + b"%010d" % number + self.tail
        return b"POST /evaluate HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body


async def attack(port: int, load: Load, numbers: Iterator[int], clients: int) -> tuple[list[float], set[bytes]]:
    """Seconds of each request, and the different replies."""
    seconds: list[float] = []
    replies: set[bytes] = set()

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in numbers:
            started = time.perf_counter()
            writer.write(load.request(number))
            await writer.drain()
            head = await reader.readuntil(b"\r\n\r\n")
            found = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            assert found is not None
            body = await reader.readexactly(int(found[1]))
            seconds.append(time.perf_counter() - started)
            assert head.startswith(b"HTTP/1.1 200"), head + body
            replies.add(body)
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(one() for _ in range(clients)))
    return seconds, replies


@contextmanager
def running(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


async def wait_for(port: int) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return


def megabytes(pid: int) -> float:
    """Resident memory of a process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    own = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    return own + sum(megabytes(int(child)) for child in children)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=128)
    parser.add_argument("--kilobytes", type=int, default=150)
    parser.add_argument("--memory-requests", type=int, default=20_000)
    parser.add_argument("--port", type=int, default=8799)
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        peer(options.port)
        return
    load = Load.of(1000 * options.kilobytes)
    size = len(load.request(0)) / 1000
    print(f"{options.requests} requests of {size:.0f} kB, {options.clients} at a time\n")
    print("| server | requests/s | p50 (ms) | p99 (ms) | memory after (MiB) |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as directory:
        spec = Path(directory) / "spec.yaml"
        spec.write_text(SPEC)
        served = ("-c", LTRL, "serve", "reward", str(spec), "--port", str(options.port), "--workers")
        servers = {
            "peer: the reference's shape": (__file__, "--peer", "--port", str(options.port)),
            "`ltrl serve reward`": (*served, "1"),
            "`ltrl serve reward --workers 2`": (*served, "2"),
        }
        said = set()
        for name, words in servers.items():
            with running(*words) as process:
                asyncio.run(wait_for(options.port))
                asyncio.run(attack(options.port, load, iter(range(options.clients)), options.clients))  # warm
                numbers = iter(range(options.clients, options.clients + options.requests))
                started = time.perf_counter()
                seconds, replies = asyncio.run(attack(options.port, load, numbers, options.clients))
                spent = time.perf_counter() - started
                cuts = statistics.quantiles(seconds, n=100)
                row = (len(seconds) / spent, 1000 * cuts[49], 1000 * cuts[98], megabytes(process.pid))
                print("| " + " | ".join([name, *(f"{value:,.0f}" for value in row)]) + " |")
                said |= {round(json.loads(reply)["rubric_reward"], 9) for reply in replies}
        assert len(said) == 1, f"the servers do not agree: {said}"
        print(
            f"\nOf `ltrl serve reward`, {options.memory_requests} requests:\n\n| requests | memory (MiB) |\n|---|---|"
        )
        with running(*servers["`ltrl serve reward`"]) as process:
            asyncio.run(wait_for(options.port))
            count, done = max(1, options.memory_requests // 10), 0
            print(f"| 0 | {megabytes(process.pid):,.0f} |")
            while done < options.memory_requests:
                numbers = iter(range(10**6 + done, 10**6 + done + count))
                asyncio.run(attack(options.port, load, numbers, options.clients))
                done += count
                print(f"| {done:,} | {megabytes(process.pid):,.0f} |", flush=True)


if __name__ == "__main__":
    main()
