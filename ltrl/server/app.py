"""The application: who may ask, how much at once, and what is answered. Imported by the server's processes alone."""

from __future__ import annotations

import asyncio
import hashlib
import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pydantic
from fastapi import FastAPI, Request, Response

from ltrl import __version__
from ltrl.backend import create
from ltrl.errors import Code, LtrlError
from ltrl.references import reveal
from ltrl.scoring import Score, Verdict
from ltrl.server.access import brings
from ltrl.server.body import Refused, read_body
from ltrl.server.evaluate import Evaluation, Evaluator
from ltrl.server.ledger import Answer, Ledger
from ltrl.server.logs import log
from ltrl.server.metrics import DIRECTORY, Metrics
from ltrl.server.settings import ServerSettings
from ltrl.wire import Ready, ScoreBatch, Scored, ScoredGroup, ScoreReply, reward_id

__all__ = ["app"]

M = TypeVar("M", bound=pydantic.BaseModel)

JSON = "application/json"


def app() -> FastAPI:
    """The application of one process, from the settings that its parent left in the environment."""
    server = _Server(ServerSettings.from_environment())
    if parent := multiprocessing.parent_process():
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        server.close()

    application = FastAPI(title="ltrl reward server", version=__version__, lifespan=lifespan, openapi_url=None)

    # Bodies are read and checked by hand: against a limit, once, and by pydantic straight from the bytes.
    @application.post("/v1/score")
    async def score(request: Request) -> Response:
        return await server.answer(request, "/v1/score", server.score)

    @application.post("/evaluate")
    async def evaluate(request: Request) -> Response:
        return await server.answer(request, "/evaluate", server.evaluate)

    @application.get("/metrics")
    async def metrics(request: Request) -> Response:
        if refusal := server.refusal(request):
            return refusal
        content, kind = server.metrics.text()
        return Response(content, media_type=kind)

    @application.get("/healthz")
    async def alive() -> Response:
        return Response('{"status":"alive"}', media_type=JSON)

    @application.get("/readyz")
    async def ready(request: Request) -> Response:
        return Response(server.ready(request).model_dump_json(), media_type=JSON)

    return application


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


class _Server:
    """One process."""

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self._token = reveal(settings.token, what="the server's token").encode() if settings.token else None
        self._reward = create(settings.reward)
        self._evaluator = Evaluator(settings.reward)
        self._ledger = Ledger(Path(os.environ[DIRECTORY]) / "ledger.sqlite")
        self._threads = ThreadPoolExecutor(settings.concurrency, "score")
        self._places = asyncio.Semaphore(settings.concurrency)
        self._num_waiting = 0

    def close(self) -> None:
        """Nothing is under way any more."""
        self._threads.shutdown()
        self._ledger.close()

    def ready(self, request: Request) -> Ready:
        """What `/readyz` answers."""
        return Ready(
            status="ready",
            name=self.settings.name,
            reward=reward_id(self.settings.reward),
            version=__version__,
            is_authorized=self.refusal(request) is None,
        )

    def refusal(self, request: Request) -> Response | None:
        """What somebody without the token is told."""
        if self._token is None or brings(request.headers.get("authorization", ""), self._token):
            return None
        return _json(401, {"detail": "a token is needed"}, {"WWW-Authenticate": "Bearer"})

    async def answer(self, request: Request, route: str, work: Callable[[bytes], Answer]) -> Response:
        """The response to a request, which is told in numbers."""
        started = time.perf_counter()
        facts: dict[str, object] = {}
        response = self.refusal(request) or await self._answer(request, route, work, facts)
        seconds = time.perf_counter() - started
        self.metrics.requests.labels(route, response.status_code).inc()
        self.metrics.seconds.labels(route).observe(seconds)
        log("answered", route=route, status=response.status_code, ms=round(1000 * seconds, 1), **facts)
        return response

    async def _answer(
        self, request: Request, route: str, work: Callable[[bytes], Answer], facts: dict[str, object]
    ) -> Response:
        if self._num_waiting >= self.settings.queue and self._places.locked():
            return _json(503, {"detail": "too many requests are waiting"}, {"Retry-After": "1"})
        self._num_waiting += 1
        self.metrics.waiting.inc()
        try:
            await self._places.acquire()
        finally:
            self._num_waiting -= 1
            self.metrics.waiting.dec()
        self.metrics.scoring.inc()
        try:
            limits = self.settings
            body = await read_body(request, max_bytes=limits.max_body_bytes, seconds=limits.upload_seconds)
            facts["bytes"] = len(body)

            def scored() -> tuple[Answer, bool]:
                key = hashlib.sha256(route.encode() + b"\n" + body).hexdigest()
                facts["request"] = key[:12]
                return self._ledger.answer(key, lambda: work(body))

            answer, is_known = await asyncio.get_running_loop().run_in_executor(self._threads, scored)
        except Refused as refused:  # of a body that is too long, the rest is not read
            headers = {"Connection": "close"} if refused.status == 413 else {}
            return _json(refused.status, {"detail": refused.detail}, headers)
        finally:
            self._places.release()
            self.metrics.scoring.dec()
        if is_known:
            self.metrics.repeats.labels(route).inc()
            facts["repeat"] = True
        return _response(answer.status, answer.body, {"Retry-After": "5"} if answer.status == 503 else {})

    def score(self, body: bytes) -> Answer:
        """`/v1/score`: always 200 for what can be read; a response that nobody judged says so."""
        return _answered(ScoreBatch, body, self._score)

    def _score(self, batch: ScoreBatch) -> Answer:
        scores = self._reward.score([request for group in batch.groups for request in group.requests()])
        self.metrics.count(scores)
        left, groups = iter(scores), []
        for group in batch.groups:
            own = [next(left) for _ in group.responses]
            rewards = self._reward.rewards(own)
            groups.append(ScoredGroup(id=group.id, responses=tuple(map(Scored.of, own, rewards))))
        reply = ScoreReply(groups=tuple(groups)).model_dump_json().encode()
        return Answer(200, reply, is_final=all(score.is_judged for score in scores))

    def evaluate(self, body: bytes) -> Answer:
        """`/evaluate`: 503 for an answer that nobody judged."""
        return _answered(Evaluation, body, self._evaluate)

    def _evaluate(self, request: Evaluation) -> Answer:
        rewards, verdict = self._evaluator.evaluate(request)
        if rewards is None:
            assert verdict is not None
            self.metrics.count([Score(None, 0.0)])
            return Answer(503, json.dumps({"detail": f"unjudged: {verdict.reason}"}).encode(), is_final=False)
        self.metrics.count([Score(rewards["outcome_reward"], 0.0, verdict or Verdict(None))])
        return Answer(200, json.dumps(rewards).encode())


def _answered(model: type[M], body: bytes, work: Callable[[M], Answer]) -> Answer:
    """What `work` makes of a body; 422 with the field for one that cannot be used."""
    try:
        return work(model.model_validate_json(body))
    except pydantic.ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        within = {e["loc"][:end] for e in found for end in range(len(e["loc"]))}
        details = [
            {"loc": ["body", *e["loc"]], "msg": e["msg"], "type": e["type"]}
            for e in found
            if e["type"] != "too_short"
            or e["loc"] not in within  # pydantic leaves out items with mistakes of their own
        ]
    except LtrlError as error:
        if any(d.code != Code.BAD_DATA for d in error.diagnostics):
            raise
        details = [{"loc": ["body"], "msg": d.message, "type": d.code} for d in error.diagnostics]
    return Answer(422, json.dumps({"detail": details}).encode())


def _json(status: int, content: object, headers: dict[str, str] | None = None) -> Response:
    return _response(status, json.dumps(content).encode(), headers or {})


def _response(status: int, body: bytes, headers: dict[str, str]) -> Response:
    return Response(body, status, headers, JSON)
