"""A real HTTP server that speaks just enough of the OpenAI protocol to be a judge, and misbehaves on command."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What the server does with one request."""

    text: str | None = "extracted_final_answer: x\n\nreasoning: same\n\ncorrect: yes"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: str | None = None
    """Sent instead of a completion with `text`."""
    delay: float = 0.0
    drip: float = 0.0
    """Seconds between the bytes of the reply."""
    drips_head: bool = False
    """Whether the drip begins with the status line."""
    cut: int | None = None
    """Close the connection after so many bytes, with a Content-Length that promises more."""

    def payload(self) -> bytes:
        if self.body is not None:
            return self.body.encode()
        return json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": self.text}}]}).encode()


Script = Callable[[int, dict[str, Any]], Answer]
"""The answer to a request, from its number (from 0) and its body."""


class LoopbackJudge:
    """Its requests, and what it says to them."""

    def __init__(self, script: Script, port: int = 0) -> None:
        self.script = script
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self.stopping = threading.Event()
        judge = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["content-length"])))
                try:
                    judge._answer(self, request)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            def log_message(self, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

            def handle_error(self, request: object, client_address: object) -> None:
                pass

        self.server = Server(("127.0.0.1", port), Handler)
        self.base_url = f"http://127.0.0.1:{self.server.server_port}/v1"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self._thread.start()

    def stop(self) -> None:
        """Ends it, with replies half sent; a second time does nothing."""
        if not self.stopping.is_set():
            self.stopping.set()
            self.server.shutdown()
            self._thread.join()
            self.server.server_close()

    def prompts(self) -> list[str]:
        return [request["messages"][0]["content"] for request in self.requests]

    def _answer(self, handler: BaseHTTPRequestHandler, request: dict[str, Any]) -> None:
        with self._lock:
            number = len(self.requests)
            self.requests.append(request)
            self.headers.append({k.lower(): v for k, v in handler.headers.items()})
            self.times.append(time.monotonic())
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        answer = self.script(number, request)
        self.stopping.wait(answer.delay)
        with self._lock:
            self._at_once -= 1
        payload = answer.payload()
        if answer.drips_head:
            while not self.stopping.wait(answer.drip):
                handler.wfile.write(b"H")
                handler.wfile.flush()
        handler.send_response(answer.status)
        handler.send_header("content-type", "application/json")
        handler.send_header("content-length", str(len(payload)))
        for name, value in answer.headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        if answer.drip:
            for byte in payload:
                handler.wfile.write(bytes([byte]))
                handler.wfile.flush()
                if self.stopping.wait(answer.drip):
                    break
        else:
            handler.wfile.write(payload[: answer.cut])
        if answer.drip or answer.cut is not None:
            handler.close_connection = True


@contextmanager
def loopback_judge(*answers: Answer, script: Script | None = None, port: int = 0) -> Iterator[LoopbackJudge]:
    """Gives the answers in their order and the last one from then on, or those of a script."""
    given = answers or (Answer(),)
    judge = LoopbackJudge(script or (lambda number, _: given[min(number, len(given) - 1)]), port)
    try:
        yield judge
    finally:
        judge.stop()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
