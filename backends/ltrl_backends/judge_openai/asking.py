"""Asking: prompts out, verdicts in, a failure never a value."""

from __future__ import annotations

import asyncio
import hashlib
import json
import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltrl.background import BackgroundLoop
from ltrl.endpoint import Completion, Endpoint, Patience, Unanswered
from ltrl.errors import Code, fail
from ltrl.references import reveal
from ltrl.scoring import JudgeRequest, Usage, Verdict
from ltrl_backends.judge_openai.cache import VerdictCache
from ltrl_backends.judge_openai.prompts import TEMPLATES
from ltrl_backends.judge_openai.verdicts import reference_parse, strict_parse

if TYPE_CHECKING:
    from ltrl_backends.judge_openai.judge import OpenAIJudge

__all__ = ["Asking"]


class Asking:
    """A judge's endpoint, the questions under way and the verdicts known so far."""

    def __init__(self, options: OpenAIJudge.Options) -> None:
        try:
            import httpx
        except ModuleNotFoundError as error:
            message = "the judge `openai` needs `httpx`, which is not installed"
            raise fail(Code.MISSING_EXTRA, message, hint="pip install 'ltrl[server]'") from error
        self._options = options
        self._endpoint = Endpoint(
            httpx,
            options.base_url,
            api_key=reveal(options.api_key, what="the judge's `api_key`") if options.api_key else None,
            connections=options.concurrency,
            patience=Patience(
                options.timeout_seconds, options.retries, options.backoff_seconds, options.longest_wait_seconds
            ),
        )
        self._loop = BackgroundLoop("judge", at_end=self._endpoint.close)
        self._places = asyncio.Semaphore(options.concurrency)
        self._under_way: dict[str, asyncio.Task[Verdict]] = {}
        self._sampling = self._body_without_messages()
        self._cache = VerdictCache(Path(options.cache)) if options.cache else None
        if self._cache:
            weakref.finalize(self, self._cache.close)

    def judge(self, requests: Sequence[JudgeRequest]) -> list[Verdict]:
        """One verdict for each request. Equal ones are asked once, by however many threads, and those in the cache not
        at all."""
        shown = [JudgeRequest(r.question, r.label, _visible(r.response)) for r in requests]
        distinct = list(dict.fromkeys(shown))
        verdicts = dict(zip(distinct, self._loop.run(self._verdicts(distinct)), strict=True))
        found = []
        for request in shown:
            found.append(verdicts[request])
            verdicts[request] = _again(verdicts[request])
        return found

    def close(self) -> None:
        """Gives up what is waiting for a retry and closes connections and cache."""
        self._loop.run(self._give_up())
        self._loop.close()
        if self._cache:
            self._cache.close()

    async def _give_up(self) -> None:
        await self._endpoint.close()
        await asyncio.gather(*self._under_way.values())

    async def _verdicts(self, requests: Sequence[JudgeRequest]) -> list[Verdict]:
        return await asyncio.gather(*map(self._verdict, requests))

    async def _verdict(self, request: JudgeRequest) -> Verdict:
        if request.response == _NOTHING:
            return Verdict(False, "there is nothing after `</think>`")
        body = {**self._sampling, "messages": [{"role": "user", "content": TEMPLATES[self._options.template](request)}]}
        key = hashlib.sha256(
            json.dumps([body, self._options.parse, self._options.replies], sort_keys=True).encode()
        ).hexdigest()
        if key in self._under_way:
            return _again(await self._under_way[key])
        task = asyncio.get_running_loop().create_task(self._known_or_asked(key, body))
        self._under_way[key] = task
        task.add_done_callback(lambda _: self._under_way.pop(key))
        return await task

    async def _known_or_asked(self, key: str, body: dict[str, Any]) -> Verdict:
        async with self._places:
            if self._cache and (known := await asyncio.to_thread(self._cache.get, key)):
                return known
            verdict = await self._ask(body)
            if self._cache:
                await asyncio.to_thread(self._cache.put, key, verdict, self._sampling)
            return verdict

    async def _ask(self, body: dict[str, Any]) -> Verdict:
        options = self._options
        reply, last = "", None
        used: Usage | None = None
        for number in range(options.replies):
            if options.seed is not None:
                body = body | {"seed": options.seed + number}
            try:
                completion = await self._endpoint.complete(body)
            except Unanswered as error:
                return Verdict(None, str(error), reply, used)
            reply, used = completion.text, Usage.sum_of((used, self._usage(completion)))
            if options.parse == "strict":
                is_correct = strict_parse(reply, options.template)
                if is_correct is not None:
                    return Verdict(is_correct, "", reply, used)
            else:
                last = reference_parse(reply)
                if last.verdict and last.is_complete:
                    return Verdict(last.verdict.lower() == "yes", "", reply, used)
        if last and last.verdict:  # LongTraceRL takes the last verdict without an extraction, if it is in lower case
            return Verdict(last.verdict == "yes", "no extracted answer in the reply", reply, used)
        count = f"{options.replies} replies" if options.replies > 1 else "the reply"
        return Verdict(None, f"no verdict in {count}", reply, used)

    def _usage(self, completion: Completion) -> Usage:
        prompt, response = completion.prompt_tokens or 0, completion.response_tokens or 0
        prices = self._options.prices
        cost = (prompt * prices.prompt + response * prices.response) / 1e6 if prices else None
        return Usage(1, prompt, response, cost)

    def _body_without_messages(self) -> dict[str, Any]:
        """The request's fields that are the same for every question: model and sampling."""
        options = self._options
        return options.extra_body | {
            "model": options.model,
            "temperature": options.temperature,
            "top_p": options.top_p,
            "max_tokens": options.max_tokens,
            **({"seed": options.seed} if options.seed is not None else {}),
        }


def _again(verdict: Verdict) -> Verdict:
    """A verdict that stands a second time; what it took counts once."""
    return replace(verdict, usage=None)


_NOTHING = "</think>"  # stands for a response that ends there: no response that is shown can be this


def _visible(response: str) -> str:
    """What the judge is shown: the text after the last `</think>`, stripped; a text without one as it is."""
    if _NOTHING not in response:
        return response
    return response.rpartition(_NOTHING)[2].strip() or _NOTHING
