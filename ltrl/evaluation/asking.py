"""Asking an endpoint: so many questions at once and no more, every answer written down as it comes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Protocol

from pydantic_core import PydanticSerializationError, to_json

from ltrl.endpoint import Completion, Endpoint, Patience, Refused, Unanswered
from ltrl.errors import Code, fail
from ltrl.evaluation.answers import Log
from ltrl.evaluation.spec import Requests, Sampling
from ltrl.references import reveal

__all__ = ["Asked", "Judging", "Prompt", "Target", "ask"]

_TOO_LONG = re.compile(
    r"context length|context window|max_model_len|maximum.{0,40}tokens|too (?:long|many tokens)", re.I
)
"""How servers say that a prompt does not fit: vLLM, SGLang, llama.cpp, OpenAI, ltrl's own."""
_OPENING = b'{"messages":'
_SYNC_SECONDS = 1.0
_MOST_JUDGED = 256
_READ_AHEAD = 16
"""Prompts that wait for a free request: half a megabyte each, for 128K tokens."""


@dataclass(frozen=True)
class Target:
    """What is asked, and how."""

    base_url: str
    model: str
    """As the endpoint knows it."""
    identity: str
    """What tells its weights from others'; answers of equal identity, prompt, sampling and number are the same."""
    sampling: Sampling
    requests: Requests
    response: int
    """Longest response, in tokens."""
    total: int
    """Longest prompt and response together."""
    api_key: str | None = None
    """A reference."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt with the key of its answer."""

    key: str
    body: tuple[bytes, ...]
    """The pieces of the request: a question's messages are one that its answers share."""

    @classmethod
    def all_of(
        cls, target: Target, messages: tuple[tuple[str, str], ...], num_tokens: int | None, samples: int
    ) -> Iterator[Prompt]:
        """One prompt for each answer to a question; they share its text."""
        written = _written([{"role": role, "content": content} for role, content in messages])
        digest = sha256(memoryview(written)[len(_OPENING) :]).digest()
        room = target.response if num_tokens is None else max(1, min(target.response, target.total - num_tokens))
        sampling = target.sampling
        fields: dict[str, Any] = {
            **target.requests.extra_body,
            "model": target.model,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": room,
        }
        if sampling.top_k is not None:
            fields["top_k"] = sampling.top_k
        for number in range(samples):
            if sampling.seed is not None:
                fields["seed"] = _seed(sampling.seed, digest, number)
            told = json.dumps(fields, sort_keys=True).encode()
            key = sha256(b"\0".join((target.identity.encode(), digest, told, str(number).encode()))).hexdigest()[:32]
            yield cls(key, (written, b"," + told[1:]))


def _written(messages: list[dict[str, str]]) -> bytes:
    """How a request with messages begins, in a fifth of the time that `json` takes for half a megabyte."""
    try:
        return to_json({"messages": messages})[:-1]
    except PydanticSerializationError:  # half a surrogate pair, which UTF-8 has no bytes for
        return _OPENING + json.dumps(messages).encode()


def _seed(seed: int, digest: bytes, number: int) -> int:
    """A seed of each answer's own: with one for all, every question would be answered by the same luck."""
    return int.from_bytes(sha256(b"%d %d " % (seed, number) + digest).digest()[:4], "big") >> 1


@dataclass
class Asked:
    """What became of the prompts that were asked."""

    num_answered: int = 0
    """Anew; answers that were there already are not asked for."""
    failures: dict[str, str] = field(default_factory=dict)
    """Why there is no answer, by key."""
    too_long: dict[str, str] = field(default_factory=dict)
    """What the server said, by key, to prompts that are too long for it."""


class Judging(Protocol):
    """What is done with answers while others are asked for."""

    async def judge(self, key: str) -> None:
        """Has one judged that is in the log; several may be under way at once."""
        ...

    def sync(self) -> None:
        """Waits until the disk has what came of it."""
        ...


def ask(
    prompts: Iterator[Prompt],
    log: Log,
    target: Target,
    asked: Asked,
    *,
    on_answer: Callable[[], None],
    judging: Judging | None = None,
) -> None:
    """Asks for every answer that the log has not; raises NO_ANSWERS when none comes any more.

    Keys differ. `prompts` is read in another thread, never further ahead than there are requests under way. As many
    answers are judged at once; where judges are slower than the model, further questions wait for them.
    """
    asyncio.run(_ask(prompts, log, target, asked, on_answer=on_answer, judging=judging))


async def _ask(
    prompts: Iterator[Prompt],
    log: Log,
    target: Target,
    asked: Asked,
    *,
    on_answer: Callable[[], None],
    judging: Judging | None,
) -> None:
    try:
        import httpx
    except ModuleNotFoundError as error:
        hint = "pip install 'ltrl[eval]'"
        raise fail(Code.MISSING_EXTRA, "asking an endpoint needs `httpx`", hint=hint) from error
    wanted = target.requests
    endpoint = Endpoint(
        httpx,
        target.base_url,
        api_key=reveal(target.api_key, what="the endpoint's `api_key`") if target.api_key else None,
        connections=wanted.concurrency,
        patience=Patience(wanted.timeout_seconds, wanted.retries, wanted.backoff_seconds, wanted.longest_wait_seconds),
    )
    run = _Run(endpoint, log, asked, on_answer, most_failures=max(8, wanted.concurrency))
    queue: asyncio.Queue[Prompt | None] = asyncio.Queue(maxsize=min(_READ_AHEAD, wanted.concurrency))

    answered: asyncio.Queue[str | None] = asyncio.Queue(maxsize=1)
    num_judged = min(wanted.concurrency, _MOST_JUDGED) if judging else 0

    async def work() -> None:
        while (prompt := await queue.get()) is not None:
            if (prompt.key in log or await run.one(prompt)) and judging:
                await answered.put(prompt.key)

    async def judge() -> None:
        while judging and (key := await answered.get()) is not None:
            await judging.judge(key)

    async def keep() -> None:
        while True:
            await asyncio.sleep(_SYNC_SECONDS)
            await asyncio.to_thread(log.sync)
            if judging:
                await asyncio.to_thread(judging.sync)

    keeping = asyncio.create_task(keep())
    try:
        async with asyncio.TaskGroup() as judges:
            for _ in range(num_judged):
                judges.create_task(judge())
            async with asyncio.TaskGroup() as group:
                for _ in range(wanted.concurrency):
                    group.create_task(work())
                is_reached = not wanted.retries
                while (prompt := await asyncio.to_thread(next, prompts, None)) is not None:
                    if not is_reached and prompt.key not in log:
                        await _reach(endpoint, target)
                        is_reached = True
                    await queue.put(prompt)
                for _ in range(wanted.concurrency):
                    await queue.put(None)
            for _ in range(num_judged):
                await answered.put(None)
    except* Exception as errors:
        raise _first(errors) from None
    finally:
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping
        await endpoint.close()


async def _reach(endpoint: Endpoint, target: Target) -> None:
    """Tells a wrong address at once: a request that is tried again takes minutes to fail."""
    try:
        await endpoint.reach()
    except Unanswered as error:
        hint = "start the server, or correct the address in `endpoint`; what is answered already is kept"
        raise fail(Code.NO_ANSWERS, f"nobody answers at `{target.base_url}`: {error}", hint=hint) from None


def _first(errors: BaseExceptionGroup[Any]) -> BaseException:
    found: BaseException = errors
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


class _Run:
    """One asking of many prompts."""

    def __init__(
        self, endpoint: Endpoint, log: Log, asked: Asked, on_answer: Callable[[], None], *, most_failures: int
    ) -> None:
        self._endpoint, self._log, self._asked, self._on_answer = endpoint, log, asked, on_answer
        self._most_failures = most_failures
        self._failures_in_a_row = 0

    async def one(self, prompt: Prompt) -> bool:
        """Asks for one answer and writes it down; whether there is one."""
        try:
            completion = await self._endpoint.complete(prompt.body)
        except Refused as error:
            if _TOO_LONG.search(str(error)):
                self._asked.too_long[prompt.key] = str(error)
            else:
                self._failed(prompt, str(error))
        except Unanswered as error:
            self._failed(prompt, str(error))
        else:
            self._failures_in_a_row = 0
            self._log.add(prompt.key, _record(completion))
            self._asked.num_answered += 1
        self._on_answer()
        return prompt.key in self._log

    def _failed(self, prompt: Prompt, reason: str) -> None:
        self._asked.failures[prompt.key] = reason
        self._failures_in_a_row += 1
        if self._failures_in_a_row >= self._most_failures:
            hint = "answers that came are kept: the same command asks for the rest when the endpoint answers again"
            message = f"{self._failures_in_a_row} requests in a row had no answer, the last: {reason}"
            raise fail(Code.NO_ANSWERS, message, hint=hint)


def _record(completion: Completion) -> dict[str, Any]:
    record = {
        "text": completion.text,
        "reasoning": completion.reasoning,
        "finish_reason": completion.finish_reason,
        "prompt_tokens": completion.prompt_tokens,
        "response_tokens": completion.response_tokens,
    }
    return {name: value for name, value in record.items() if value not in (None, "")} | {"text": completion.text}
