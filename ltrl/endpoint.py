"""One chat completion from an OpenAI-compatible endpoint, tried until it comes or there is a reason to stop."""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import json
import random
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

__all__ = ["Completion", "Endpoint", "Patience", "Refused", "Unanswered"]

_TRANSIENT = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})
_LONGEST_REPLY_BYTES = 4_000_000
_REACH_SECONDS = 30.0
_POOL = 8
"""Connections of one client: httpx looks at all of them for each request."""


class Unanswered(Exception):
    """The endpoint gave no reply; the text says why."""


class Refused(Unanswered):
    """The endpoint will not answer this request, however often it is asked."""


class _Transient(Exception):
    """A try that failed in a way that may pass."""

    def __init__(self, reason: str, wait_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.wait_seconds = wait_seconds


@dataclass(frozen=True, slots=True)
class Patience:
    """How long an endpoint is tried."""

    timeout_seconds: float
    """Longest time for one try, from connecting to the last byte."""
    retries: int
    """Further tries after the first."""
    backoff_seconds: float
    """Mean wait before the first retry; it doubles from one to the next."""
    longest_wait_seconds: float
    """Longest wait between two tries; an endpoint that asks for more is given up."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What an endpoint answered."""

    text: str
    """`content` of the first choice; empty for null."""
    reasoning: str = ""
    """What the server's own parser took for reasoning; empty for a server without one."""
    finish_reason: str = ""
    """As the server says it: `stop`, `length`; empty where it says nothing."""
    prompt_tokens: int | None = None
    response_tokens: int | None = None
    """None where the server does not count."""


class Endpoint:
    """A URL that answers chat completions; belongs to one event loop."""

    def __init__(
        self, httpx: ModuleType, base_url: str, *, api_key: str | None, connections: int, patience: Patience
    ) -> None:
        headers = {"content-type": "application/json"}
        if api_key:
            headers["authorization"] = f"Bearer {api_key}"
        self._httpx = httpx
        self._url = httpx.URL(base_url.rstrip("/") + "/chat/completions")
        self._patience = patience
        verify = httpx.create_ssl_context()  # reads all certificates of the system: once is enough
        in_each = -(-connections // -(-connections // _POOL))
        clients = [
            httpx.AsyncClient(
                headers=headers,
                verify=verify,
                trust_env=self._url.host not in ("127.0.0.1", "::1", "localhost"),  # no proxy leads to this machine
                timeout=None,  # a try has one deadline for everything
                limits=httpx.Limits(max_connections=in_each, max_keepalive_connections=in_each),
            )
            for _ in range(-(-connections // in_each))
        ]
        self._clients = clients
        self._free = [client for client in clients for _ in range(in_each)]
        self._closing = asyncio.Event()

    async def complete(self, body: Mapping[str, Any] | tuple[bytes, ...]) -> Completion:
        """The first choice for a request, given as fields or as pieces of JSON; raises Unanswered."""
        content = body if isinstance(body, tuple) else (json.dumps(body).encode(),)
        patience = self._patience
        for tries in range(1, patience.retries + 2):
            try:
                async with asyncio.timeout(patience.timeout_seconds):
                    return await self._try(content)
            except (_Transient, TimeoutError) as error:
                timed_out = f"no full reply within {patience.timeout_seconds:g} s"
                failure = error if isinstance(error, _Transient) else _Transient(timed_out)
            reason = f"{failure} ({tries} {'try' if tries == 1 else 'tries'})"
            # Full jitter: clients that failed together do not come back together.
            backoff = patience.backoff_seconds * 2 ** (tries - 1) * 2 * random.random()
            wait = min(backoff, patience.longest_wait_seconds)
            if failure.wait_seconds is not None:
                wait = failure.wait_seconds + wait / 10
                if failure.wait_seconds > patience.longest_wait_seconds:
                    raise Unanswered(f"{reason}; asked to wait {failure.wait_seconds:.0f} s")
            if tries > patience.retries or await self._is_closed_within(wait):
                raise Unanswered(reason)
        raise AssertionError  # the last try returns or raises

    async def reach(self) -> None:
        """Returns when something answers at the URL, whatever it says; raises Unanswered when nobody does."""
        try:
            await self._clients[0].get(self._url.join("models"), timeout=_REACH_SECONDS)
        except self._httpx.TransportError as error:
            raise Unanswered(f"no connection: {error or type(error).__name__}") from error

    async def close(self) -> None:
        """Gives up what is waiting for a retry and closes the connections."""
        self._closing.set()
        for client in self._clients:
            await client.aclose()

    async def _is_closed_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), seconds)
        return self._closing.is_set()

    async def _try(self, body: tuple[bytes, ...]) -> Completion:
        content = bytearray()
        headers = {"content-length": str(sum(map(len, body)))}
        client = self._free.pop() if self._free else self._clients[0]  # more callers than connections wait there
        try:
            async with client.stream("POST", self._url, content=_pieces(body), headers=headers) as response:
                async for chunk in response.aiter_bytes():
                    content += chunk
                    if len(content) > _LONGEST_REPLY_BYTES:
                        raise Unanswered(f"a reply longer than {_LONGEST_REPLY_BYTES} bytes")
        except self._httpx.TransportError as error:
            raise _Transient(f"no connection: {error or type(error).__name__}") from error
        except self._httpx.DecodingError as error:
            raise _Transient(f"a reply that cannot be unpacked: {error}") from error
        except RuntimeError as error:  # httpx's word for a client that was closed meanwhile
            if not self._closing.is_set():
                raise
            raise Unanswered("the endpoint was closed") from error
        finally:
            self._free.append(client)
        if response.status_code != 200:
            said = f"HTTP {response.status_code}: {_excerpt(content)}"
            if response.status_code in _TRANSIENT:
                raise _Transient(said, _retry_after(response.headers.get("retry-after")))
            raise Refused(said)
        return _reply(content)


async def _pieces(body: tuple[bytes, ...]) -> AsyncIterator[bytes]:
    """A body that is sent piece by piece: put together, half a megabyte would be copied for each answer."""
    for piece in body:
        yield piece


def _reply(content: bytearray) -> Completion:
    try:
        reply = json.loads(content)
        choice = reply["choices"][0]
        message = choice["message"]
        text = message["content"]
    except (ValueError, RecursionError) as error:
        raise _Transient(f"a reply that is not JSON: {_excerpt(content)}") from error
    except (KeyError, IndexError, TypeError) as error:
        raise _Transient(f"a reply without `choices[0].message.content`: {_excerpt(content)}") from error
    if text is not None and not isinstance(text, str):
        raise _Transient(f"a reply whose content is not text: {_excerpt(content)}")
    # vLLM said `reasoning_content` until 0.11 and `reasoning` since.
    reasoning = message.get("reasoning") or message.get("reasoning_content")
    usage = reply.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    is_withheld = choice.get("finish_reason") == "content_filter" or message.get("refusal")
    if text is None and not (reasoning or is_withheld or _count(counts.get("completion_tokens"))):
        # With tokens it is an answer without text: SGLang says null for a model that stops at once.
        raise _Transient(f"a reply without text or tokens: {_excerpt(content)}")
    return Completion(
        _text(text),
        _text(reasoning),
        _text(choice.get("finish_reason")),
        _count(counts.get("prompt_tokens")),
        _count(counts.get("completion_tokens")),
    )


def _text(value: object) -> str:
    """A text that can be written as UTF-8: JSON may bring half a surrogate pair, which becomes `?`."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _retry_after(value: str | None) -> float | None:
    """Seconds to wait as a Retry-After header says, in either of its forms; None without a usable one."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def _excerpt(content: bytearray) -> str:
    said = content[:2000].decode("utf-8", "replace")
    text = " ".join("".join(c if c.isprintable() else " " for c in said).split())  # it may be shown on a terminal
    return (text if len(text) <= 200 else text[:197] + "...") or "(empty)"
