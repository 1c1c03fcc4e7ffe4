"""A client of a reward server: few connections, as many requests at once as allowed, nothing lost and nothing twice.

What fails before the server can have answered is sent again: no connection, one that broke, a server that says it is
full. The server knows a request by what it says, so that one sent again is not scored again. What lasts leaves the
responses unjudged with the reason; what cannot be right (a token, a request) is an error.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

from pydantic import ValidationError

from ltrl.background import BackgroundLoop
from ltrl.errors import Code, fail
from ltrl.scoring import Score, ScoreRequest, Verdict
from ltrl.wire import Group, Ready, ScoreBatch, ScoreReply

__all__ = ["RewardClient"]

_FIRST_WAIT_SECONDS = 0.1
_LONGEST_WAIT_SECONDS = 5.0


class RewardClient:
    """The server at a URL; used by many threads at once."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        locate: Callable[[], tuple[str, str | None] | None] | None = None,
        concurrency: int = 128,
        timeout_seconds: float = 3600.0,
        patience_seconds: float = 120.0,
    ) -> None:
        """`patience_seconds` is how long a server may be away before responses are left unjudged.

        `locate` tells URL and token of a server that may move, None when it does not know; asked when none answers.
        """
        try:
            import httpx
        except ModuleNotFoundError as error:
            message = "the client of a reward server needs `httpx`, which is not installed"
            raise fail(Code.MISSING_EXTRA, message, hint="pip install 'ltrl[server]'") from error
        self._httpx = httpx
        self.url, self._token = url.rstrip("/"), token
        self._locate = locate
        self._patience_seconds = patience_seconds
        self._timeout_seconds = timeout_seconds
        self._places = asyncio.Semaphore(concurrency)
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(None, connect=10.0),
            limits=httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
        )
        self._loop = BackgroundLoop("reward client", at_end=self._client.aclose)

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        """One score for each request, in their order; neighbours of one sample go as a group."""
        groups = ScoreBatch.of(requests).groups
        return list(chain.from_iterable(self._loop.run(self._score_all(groups))))

    def ready(self) -> Ready:
        """What the server says of itself; raises LtrlError when it is not there for as long as the patience lasts."""
        reply = self._loop.run(self._send("GET", "/readyz", None))
        if isinstance(reply, str):
            raise fail(Code.SERVER_DOWN, f"no reward server at `{self.url}`: {reply}")
        try:
            return Ready.model_validate_json(reply)
        except ValidationError as error:
            raise fail(Code.SERVER_DOWN, f"what answers at `{self.url}` is no reward server of this ltrl") from error

    def close(self) -> None:
        """Closes the connections."""
        self._loop.close()

    async def _score_all(self, groups: Sequence[Group]) -> list[Sequence[Score]]:
        return await asyncio.gather(*map(self._score, groups))

    async def _score(self, group: Group) -> Sequence[Score]:
        async with self._places:
            reply = await self._send("POST", "/v1/score", ScoreBatch(groups=(group,)).model_dump_json().encode())
        if isinstance(reply, bytes):
            try:
                scores = ScoreReply.model_validate_json(reply).scores()
            except ValidationError:
                reply = "a reply that is no score"
            else:
                if len(scores) == len(group.responses):
                    return scores
                reply = f"{len(scores)} scores for {len(group.responses)} responses"
        return [Score(None, 0.0, Verdict(None, f"reward server: {reply}"))] * len(group.responses)

    async def _send(self, method: str, path: str, body: bytes | None) -> bytes | str:
        """The reply's body, or why there is none."""
        httpx = self._httpx
        give_up = time.monotonic() + self._patience_seconds
        wait = _FIRST_WAIT_SECONDS
        while True:
            asked = (self.url, self._token)
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    response = await self._client.request(
                        method, self.url + path, content=body, headers=self._headers()
                    )
            except TimeoutError:  # it may be scored still: not sent again
                return f"no reply within {self._timeout_seconds:g} s"
            except httpx.TransportError as error:
                reason = f"no connection: {error or type(error).__name__}"
            else:
                if response.status_code == 200:
                    return bytes(response.content)
                self._look_again()
                was_another = response.status_code == 401 and asked != (self.url, self._token)
                if response.status_code != 503 and not was_another:
                    return self._refused(response)
                reason = f"HTTP {response.status_code}: {_detail(response)}"
            self._look_again()
            if time.monotonic() + wait > give_up:
                return reason
            await asyncio.sleep(wait * (0.5 + random.random()))
            wait = min(2 * wait, _LONGEST_WAIT_SECONDS)

    def _headers(self) -> dict[str, str]:
        token = {"authorization": f"Bearer {self._token}"} if self._token else {}
        return {"content-type": "application/json", **token}

    def _look_again(self) -> None:
        """Where the server is now, if it may move."""
        if self._locate and (found := self._locate()):
            self.url, self._token = found[0].rstrip("/"), found[1]

    def _refused(self, response: Any) -> str:
        """Raises for what no further try would change; the reason for a server's own fault."""
        said = f"HTTP {response.status_code}: {_detail(response)}"
        if response.status_code == 422:
            raise fail(Code.BAD_DATA, f"the reward server cannot use a request: {said}")
        if response.status_code < 500:
            raise fail(Code.SERVER_DOWN, f"the reward server at `{self.url}` refuses: {said}")
        return said


def _detail(response: Any) -> str:
    try:
        text = json.dumps(json.loads(response.content)["detail"], ensure_ascii=False)
    except (ValueError, KeyError, TypeError):
        text = response.text
    return text if len(text) <= 300 else text[:297] + "..."
