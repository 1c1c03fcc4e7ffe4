"""One chat completion from an OpenAI-compatible endpoint, tried until it comes or there is a reason to stop."""

from __future__ import annotations

import email.utils
import json
import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

__all__ = ["Endpoint", "Unanswered"]

_TRANSIENT = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})
_LONGEST_REPLY_BYTES = 4_000_000


class Unanswered(Exception):
    """The endpoint gave no reply; the text says why."""


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


class Endpoint:
    """A URL that answers chat completions; used by many threads at once."""

    def __init__(
        self, httpx: ModuleType, base_url: str, *, api_key: str | None, connections: int, patience: Patience
    ) -> None:
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._httpx = httpx
        self._url = base_url.rstrip("/") + "/chat/completions"
        self._patience = patience
        self._client = httpx.Client(
            headers=headers,
            timeout=httpx.Timeout(patience.timeout_seconds, pool=None),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        )
        self._closing = threading.Event()

    def complete(self, body: Mapping[str, Any]) -> str:
        """The text of the first choice; raises Unanswered."""
        patience = self._patience
        for tries in range(1, patience.retries + 2):
            try:
                return self._try(body)
            except _Transient as error:
                reason = f"{error} ({tries} {'try' if tries == 1 else 'tries'})"
                # Full jitter: clients that failed together do not come back together.
                backoff = patience.backoff_seconds * 2 ** (tries - 1) * 2 * random.random()
                wait = min(backoff, patience.longest_wait_seconds)
                if error.wait_seconds is not None:
                    wait = error.wait_seconds + wait / 10
                    if error.wait_seconds > patience.longest_wait_seconds:
                        raise Unanswered(f"{reason}; asked to wait {error.wait_seconds:.0f} s") from error
                if tries > patience.retries or self._closing.wait(wait):
                    raise Unanswered(reason) from error
        raise AssertionError  # the last try returns or raises

    def close(self) -> None:
        """Stops waiting for retries and closes the connections."""
        self._closing.set()
        self._client.close()

    def _try(self, body: Mapping[str, Any]) -> str:
        httpx, limit = self._httpx, self._patience.timeout_seconds
        deadline = time.monotonic() + limit
        content = bytearray()
        try:
            with self._client.stream("POST", self._url, json=body) as response:
                for chunk in response.iter_bytes():
                    content += chunk
                    if len(content) > _LONGEST_REPLY_BYTES:
                        raise Unanswered(f"a reply longer than {_LONGEST_REPLY_BYTES} bytes")
                    if time.monotonic() > deadline:  # each byte in time, but not all of them
                        raise _Transient(f"no full reply within {limit:g} s")
        except httpx.TimeoutException as error:
            raise _Transient(f"no full reply within {limit:g} s") from error
        except httpx.TransportError as error:
            raise _Transient(f"no connection: {error or type(error).__name__}") from error
        if response.status_code != 200:
            said = f"HTTP {response.status_code}: {_excerpt(content)}"
            if response.status_code in _TRANSIENT:
                raise _Transient(said, _retry_after(response.headers.get("retry-after")))
            raise Unanswered(said)
        return _reply(content)


def _reply(content: bytearray) -> str:
    try:
        text = json.loads(content)["choices"][0]["message"]["content"]
    except ValueError as error:
        raise _Transient(f"a reply that is not JSON: {_excerpt(content)}") from error
    except (KeyError, IndexError, TypeError) as error:
        raise _Transient(f"a reply without `choices[0].message.content`: {_excerpt(content)}") from error
    if text is not None and not isinstance(text, str):
        raise _Transient(f"a reply whose content is not text: {_excerpt(content)}")
    return text or ""


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
    text = " ".join(content[:2000].decode("utf-8", "replace").split())
    return (text if len(text) <= 200 else text[:197] + "...") or "(empty)"
