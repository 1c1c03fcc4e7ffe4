"""Chat completions of an OpenAI-compatible endpoint for the stages that ask a language model."""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import Field, StringConstraints

from ltrl.backend import Model, Relaunch, missing_modules
from ltrl.errors import Code, LtrlError, fail
from ltrl.references import Secret, reveal

__all__ = ["Chat", "ChatOptions", "json_reply"]

T = TypeVar("T")

_TRANSIENT = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})
_LONGEST_BYTES = 8_000_000
_FENCED = re.compile(r"```(?:json)?\s*\n(.*?)\n\s*```", re.DOTALL)


class ChatOptions(Model):
    """An OpenAI-compatible endpoint and how it is asked."""

    base_url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s]+$"), Relaunch]
    """Its address up to `/v1`."""
    model: str
    """Name of the model."""
    api_key: Annotated[Secret | None, Relaunch] = None
    """Where its key is found: `${env:NAME}` or `${file:PATH}`."""
    temperature: Annotated[float, Field(ge=0)] = 0.2
    """Sampling temperature."""
    max_tokens: Annotated[int, Field(ge=1)] = 4096
    """Longest reply."""
    extra: dict[str, Any] = {}
    """Further keys of each request."""
    concurrency: Annotated[int, Field(ge=1, le=1024), Relaunch] = 8
    """Requests at the same time."""
    timeout_seconds: Annotated[float, Field(gt=0), Relaunch] = 600.0
    """Longest wait for a part of a reply."""
    retries: Annotated[int, Field(ge=0), Relaunch] = 6
    """Further tries after one that failed in a way that may pass; when they are used up, the build stops, and goes on
    from there when it is started again."""
    backoff_seconds: Annotated[float, Field(ge=0), Relaunch] = 1.0
    """Wait before the second try; it doubles from one to the next, up to a minute."""
    invalid_replies: Annotated[int, Field(ge=1)] = 3
    """Replies in a row that do not have the form asked for, after which a candidate is given up."""


class _Transient(Exception):
    """A try that failed in a way that may pass."""

    def __init__(self, reason: str, wait_seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_seconds = wait_seconds


class Chat:
    """A client that any number of threads share."""

    def __init__(self, options: ChatOptions) -> None:
        if (missing := missing_modules(["httpx"], extra="data", of="a stage with a language model")) is not None:
            raise LtrlError(missing)
        import httpx

        self.options = options
        self._httpx = httpx
        self._slots = threading.BoundedSemaphore(options.concurrency)
        key = reveal(options.api_key, what="the key of the language model") if options.api_key else None
        self._client = httpx.Client(
            headers={"authorization": f"Bearer {key}"} if key else {},
            timeout=options.timeout_seconds,
            limits=httpx.Limits(max_connections=options.concurrency),
        )
        self._url = options.base_url.rstrip("/") + "/chat/completions"

    def close(self) -> None:
        """Gives the connections back."""
        self._client.close()

    def ask(self, messages: Sequence[Mapping[str, Any]], valid: Callable[[str], T], *, seed: int) -> T | None:
        """What `valid` makes of a reply's text; it raises ValueError for one without the form asked for, which the
        model is then told. None when no reply had it. Raises LtrlError when the endpoint does not answer.
        """
        said = list(messages)
        for number in range(self.options.invalid_replies):
            text = self.message(said, seed=seed + number).get("content") or ""
            try:
                return valid(text)
            except ValueError as error:
                wrong = f"This cannot be used: {error}. Reply again, in the form asked for."
                said = [
                    *messages,
                    {"role": "assistant", "content": text or "(empty)"},
                    {"role": "user", "content": wrong},
                ]
        return None

    def message(self, messages: Sequence[Mapping[str, Any]], *, seed: int, **more: Any) -> dict[str, Any]:
        """The message of the first choice. Raises LtrlError when the endpoint refuses, or does not answer in time."""
        options = self.options
        body = {
            "model": options.model,
            "messages": list(messages),
            "temperature": options.temperature,
            "max_tokens": options.max_tokens,
            "seed": seed,
            **more,
            **options.extra,
        }
        failure = _Transient("")
        for number in range(options.retries + 1):
            try:
                with self._slots:
                    return self._try(body)
            except _Transient as error:
                failure = error
            if number < options.retries:
                backoff = min(60.0, options.backoff_seconds * 2**number) * (0.5 + random.random())
                time.sleep(max(backoff, min(failure.wait_seconds, 300.0)))
        hint = "start the build again when the endpoint answers: it goes on where it stopped"
        message = f"`{options.base_url}` gave no usable reply in {options.retries + 1} tries: {failure}"
        raise fail(Code.SERVER_DOWN, message, hint=hint)

    def _try(self, body: Mapping[str, Any]) -> dict[str, Any]:
        content = bytearray()
        try:
            with self._client.stream("POST", self._url, json=body) as response:
                for chunk in response.iter_bytes():
                    content += chunk
                    if len(content) > _LONGEST_BYTES:
                        raise _Transient(f"a reply longer than {_LONGEST_BYTES} bytes")
        except (self._httpx.TransportError, self._httpx.DecodingError) as error:
            raise _Transient(f"no connection: {error or type(error).__name__}") from error
        said = " ".join(content[:300].decode("utf-8", "replace").split())[:200] or "(empty)"
        if response.status_code in _TRANSIENT:
            raise _Transient(f"HTTP {response.status_code}: {said}", _seconds(response.headers.get("retry-after")))
        if response.status_code != 200:
            raise fail(Code.SERVER_DOWN, f"`{self._url}` refuses: HTTP {response.status_code}: {said}")
        try:
            message = json.loads(content)["choices"][0]["message"]
        except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
            raise _Transient(f"a reply that is no chat completion: {said}") from error
        if not isinstance(message, dict) or not isinstance(message.get("content"), str | None):
            raise _Transient(f"a reply whose message has no text: {said}")
        return message


def json_reply(text: str) -> dict[str, Any]:
    """The JSON object in a reply, bare or fenced, behind reasoning or not; raises ValueError without one."""
    answer = text.rpartition("</think>")[2].strip()
    fenced = _FENCED.findall(answer)
    for written in (answer, *reversed(fenced), answer[answer.find("{") : answer.rfind("}") + 1]):
        try:
            found = json.loads(written)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            return found
    raise ValueError("the reply is not a JSON object")


def _seconds(value: str | None) -> float:
    try:
        return max(0.0, float(value or 0))
    except ValueError:
        return 0.0
