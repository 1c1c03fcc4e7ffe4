"""The application: `/v1/models`, `/v1/chat/completions`, `/healthz`."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from starlette.responses import StreamingResponse

from ltrl import __version__
from ltrl.server.access import brings
from ltrl.server.body import Refused, read_body
from ltrl.server.logs import log
from ltrl_backends.local_engine.serving.batch import Batch, Completion
from ltrl_backends.local_engine.serving.requests import ApiError, ChatRequest, error_body, read_request
from ltrl_backends.local_engine.serving.sampling import Sampling
from ltrl_backends.local_engine.serving.text import Text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Served", "app"]

JSON = "application/json"
MAX_BODY_BYTES = 64 * 2**20
UPLOAD_SECONDS = 60.0
MAX_WAITING = 4096
"""Completions that wait for their turn; a request on top is told to come again."""


@dataclass(frozen=True, slots=True)
class Served:
    """A model with what it is asked through."""

    name: str
    batch: Batch
    tokenizer: PreTrainedTokenizerBase
    context: int
    """Tokens of a prompt and its completion together."""
    token: bytes | None


@dataclass(frozen=True, slots=True)
class _Piece:
    """News of one completion."""

    choice: int
    text: str = ""
    end: str | None = None
    num_tokens: int = 0


def app(served: Served) -> FastAPI:
    """The application that answers for a model."""
    created = int(time.time())
    encoding = asyncio.Lock()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        served.batch.close()

    application = FastAPI(title="ltrl model server", version=__version__, lifespan=lifespan, openapi_url=None)

    def authorize(request: Request) -> None:
        if served.token is not None and not brings(request.headers.get("authorization", ""), served.token):
            raise ApiError(401, "a token is needed", code="invalid_api_key")

    @application.exception_handler(ApiError)
    async def refuse(_: Request, error: ApiError) -> Response:
        more = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "1"}}.get(error.status)
        return _json(error_body(error), error.status, more)

    @application.get("/v1/models")
    async def models(request: Request) -> Response:
        authorize(request)
        one = {"id": served.name, "object": "model", "created": created, "owned_by": "ltrl"}
        return _json({"object": "list", "data": [{**one, "max_model_len": served.context}]})

    @application.post("/v1/chat/completions")
    async def chat_completions(request: Request) -> Response:
        authorize(request)
        try:
            body = await read_body(request, max_bytes=MAX_BODY_BYTES, seconds=UPLOAD_SECONDS)
        except Refused as refused:
            raise ApiError(refused.status, refused.detail) from None
        asked = read_request(body)
        if asked.model != served.name:
            message = f"the model `{asked.model}` does not exist; this server has `{served.name}`"
            raise ApiError(404, message, code="model_not_found", param="model")
        if served.batch.num_waiting + asked.n > MAX_WAITING:
            raise ApiError(503, "too many requests are waiting")
        async with encoding:
            prompt = await asyncio.to_thread(_encode, served.tokenizer, asked)
        answer = _Answer(served, asked, prompt)
        if asked.stream:
            return StreamingResponse(answer.stream(), media_type="text/event-stream")
        return await answer.whole(request)

    @application.get("/healthz")
    async def alive() -> Response:
        return _json({"status": "alive"}) if served.batch.is_alive else _json({"status": "dead"}, 503)

    return application


class _Answer:
    """The completions of one request."""

    def __init__(self, served: Served, asked: ChatRequest, prompt: Sequence[int]) -> None:
        import torch

        room = served.context - len(prompt)
        wanted = asked.limit
        if room < (wanted or 1):
            of_them = f" ({len(prompt)} in the messages, {wanted} in the completion)" if wanted else ""
            message = (
                f"This model's maximum context length is {served.context} tokens. "
                f"However, you requested {len(prompt) + (wanted or 0)} tokens{of_them}. "
                "Please reduce the length of the messages or completion."
            )
            raise ApiError(400, message, code="context_length_exceeded", param="messages")
        self.asked, self.name, self.prompt = asked, served.name, prompt
        self.id, self.created, self.started = f"chatcmpl-{secrets.token_hex(12)}", int(time.time()), time.perf_counter()
        self.num_tokens = 0
        self._news: asyncio.Queue[_Piece] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def tell(piece: _Piece) -> None:
            loop.call_soon_threadsafe(self._news.put_nowait, piece)

        seed = secrets.randbits(63) if asked.seed is None else asked.seed
        words = served.tokenizer
        self.completions = [
            Completion(
                prompt=prompt,
                sampling=Sampling(asked.temperature, asked.top_p, max(asked.top_k, 0)),
                generator=torch.Generator().manual_seed((seed + number) % 2**63),
                max_tokens=wanted or room,
                text=Text(lambda ids: str(words.decode(ids, skip_special_tokens=True)), asked.stops),
                on_text=lambda text, number=number: tell(_Piece(number, text)),  # type: ignore[misc]
                on_end=lambda end, tokens, number=number: tell(_Piece(number, "", end, tokens)),  # type: ignore[misc]
            )
            for number in range(asked.n)
        ]
        served.batch.add(*self.completions)

    async def whole(self, request: Request) -> Response:
        """All completions at once."""
        texts, ends = [""] * self.asked.n, [""] * self.asked.n
        gone = asyncio.create_task(_disconnect(request))

        async def collect() -> None:
            async for piece in self._pieces():
                texts[piece.choice] += piece.text
                ends[piece.choice] = piece.end or ""

        collecting = asyncio.create_task(collect())
        try:
            await asyncio.wait((gone, collecting), return_when=asyncio.FIRST_COMPLETED)
            if not collecting.done():
                return Response(status_code=499)
            collecting.result()
        finally:
            gone.cancel()
            collecting.cancel()
            self._cancel()
        choices = [
            {"index": i, "message": {"role": "assistant", "content": text}, "finish_reason": end, "logprobs": None}
            for i, (text, end) in enumerate(zip(texts, ends, strict=True))
        ]
        return _json({**self._head("chat.completion"), "choices": choices, "usage": self._usage()})

    async def stream(self) -> AsyncIterator[str]:
        """The completions as server-sent events."""
        head = self._head("chat.completion.chunk")

        def event(choice: int, delta: dict[str, str], end: str | None = None) -> str:
            return _event({**head, "choices": [{"index": choice, "delta": delta, "finish_reason": end}]})

        try:
            for number in range(self.asked.n):
                yield event(number, {"role": "assistant", "content": ""})
            async for piece in self._pieces():
                yield event(piece.choice, {"content": piece.text} if piece.text else {}, piece.end)
            if self.asked.stream_options and self.asked.stream_options.include_usage:
                yield _event({**head, "choices": [], "usage": self._usage()})
            yield "data: [DONE]\n\n"
        except ApiError as error:
            yield _event(error_body(error))
        finally:
            self._cancel()

    async def _pieces(self) -> AsyncIterator[_Piece]:
        """News until every completion has ended; raises ApiError when the model fails."""
        for _ in range(self.asked.n):
            while True:
                piece = await self._news.get()
                if piece.end and piece.end.startswith("error"):
                    raise ApiError(500, f"the model failed: {piece.end.removeprefix('error: ')}")
                self.num_tokens += piece.num_tokens
                yield piece
                if piece.end:
                    break
        log(
            "answered",
            prompt_tokens=len(self.prompt),
            completion_tokens=self.num_tokens,
            completions=self.asked.n,
            ms=round(1000 * (time.perf_counter() - self.started), 1),
        )

    def _cancel(self) -> None:
        for completion in self.completions:
            completion.is_cancelled = True

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.name}

    def _usage(self) -> dict[str, int]:
        made = self.num_tokens
        prompt = len(self.prompt)
        return {"prompt_tokens": prompt, "completion_tokens": made, "total_tokens": prompt + made}


def _encode(tokenizer: PreTrainedTokenizerBase, asked: ChatRequest) -> list[int]:
    """The prompt of a request; raises ApiError, 400, for messages that the chat template refuses."""
    import jinja2  # a dependency of chat templates

    try:
        ids = tokenizer.apply_chat_template(
            [message.for_template() for message in asked.messages],
            add_generation_prompt=True,
            return_dict=False,
            **asked.chat_template_kwargs,
        )
    except (jinja2.TemplateError, TypeError, ValueError) as error:
        raise ApiError(400, f"the chat template refuses these messages: {error}", param="messages") from None
    return list(ids)


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"


def _json(data: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(json.dumps(data, ensure_ascii=False).encode(), status, headers, JSON)
