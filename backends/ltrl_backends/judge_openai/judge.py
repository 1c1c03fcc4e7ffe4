"""The judge: prompts out, verdicts in, a failure never a value."""

from __future__ import annotations

import asyncio
import hashlib
import json
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from ltrl.backend import JudgeSection, Relaunch
from ltrl.background import BackgroundLoop
from ltrl.endpoint import Endpoint, Patience, Unanswered
from ltrl.errors import Code, fail
from ltrl.references import Secret, reveal
from ltrl.scoring import JudgeRequest, Verdict
from ltrl_backends.judge_openai.cache import VerdictCache
from ltrl_backends.judge_openai.prompts import TEMPLATES, Template
from ltrl_backends.judge_openai.verdicts import reference_parse, strict_parse

__all__ = ["OpenAIJudge"]

_FIXED = ("model", "messages", "temperature", "top_p", "max_tokens", "seed", "stream", "n")


def _fixes_nothing(value: dict[str, Any]) -> dict[str, Any]:
    if taken := sorted(set(value) & set(_FIXED)):
        raise ValueError(f"may not replace {', '.join(f'`{name}`' for name in taken)}")
    return value


class OpenAIJudge:
    """Asks a language model; no usable reply leaves the response unjudged and says why."""

    api: ClassVar[int] = 1

    class Options(JudgeSection):
        """Options of the `openai` judge."""

        backend: Literal["openai"]
        """This backend."""
        base_url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s]+$"), Relaunch]
        """Where the endpoint is, up to and with its version: `http://judge:8000/v1`."""
        model: str
        """Name of the model, as the endpoint knows it."""
        api_key: Annotated[Secret, Relaunch] | None = None
        """Where the key is found when the job runs: `${env:NAME}` or `${file:PATH}`; a key itself is refused."""
        template: Template = "hle-style"
        """What the judge is asked: the fields of Humanity's Last Exam, or what AA-LCR and FRAMES publish."""
        parse: Literal["strict", "reference"] = "strict"
        """How its reply is read: `strict` wants one plain verdict; `reference` is for LongTraceRL's `hle-style`."""
        replies: Annotated[int, Field(ge=1)] = 3
        """How many replies are asked for, one after another, until one has a verdict."""
        temperature: Annotated[float, Field(ge=0)] = 0.0
        """Sampling temperature of the judge."""
        top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
        """Nucleus sampling of the judge."""
        seed: int | None = 0
        """Seed of the judge's first reply, one more for each further one; null sends none."""
        max_tokens: Annotated[int, Field(ge=1)] = 4096
        """Longest reply of the judge, in tokens."""
        extra_body: Annotated[dict[str, Any], AfterValidator(_fixes_nothing)] = {}
        """Further fields of the request, `chat_template_kwargs` for example."""
        concurrency: Annotated[int, Field(ge=1, le=1024), Relaunch] = 32
        """Questions under way at once."""
        timeout_seconds: Annotated[float, Field(gt=0), Relaunch] = 120.0
        """Longest time for one try, from connecting to the last byte."""
        retries: Annotated[int, Field(ge=0), Relaunch] = 6
        """Further tries after one that failed."""
        backoff_seconds: Annotated[float, Field(ge=0), Relaunch] = 1.0
        """Mean wait before the first retry; it doubles from one to the next and is spread at random."""
        longest_wait_seconds: Annotated[float, Field(ge=0), Relaunch] = 60.0
        """Longest wait between tries; an endpoint that asks for more (Retry-After) is given up."""
        cache: Annotated[str, Relaunch] | None = None
        """SQLite file of verdicts, relative to the run directory; processes may share it. By default none is kept."""

        @model_validator(mode="after")
        def _reference_reads_hle(self) -> OpenAIJudge.Options:
            if self.parse == "reference" and self.template != "hle-style":
                raise ValueError("`parse: reference` reads replies to `template: hle-style` only")
            return self

    def __init__(self, options: Options) -> None:
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
        return [verdicts[request] for request in shown]

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
        if key not in self._under_way:
            task = asyncio.get_running_loop().create_task(self._known_or_asked(key, body))
            self._under_way[key] = task
            task.add_done_callback(lambda _: self._under_way.pop(key))
        return await self._under_way[key]

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
        for number in range(options.replies):
            if options.seed is not None:
                body = body | {"seed": options.seed + number}
            try:
                reply = (await self._endpoint.complete(body)).text
            except Unanswered as error:
                return Verdict(None, str(error), reply)
            if options.parse == "strict":
                is_correct = strict_parse(reply, options.template)
                if is_correct is not None:
                    return Verdict(is_correct, words=reply)
            else:
                last = reference_parse(reply)
                if last.verdict and last.is_complete:
                    return Verdict(last.verdict.lower() == "yes", words=reply)
        if last and last.verdict:  # LongTraceRL takes the last verdict without an extraction, if it is in lower case
            return Verdict(last.verdict == "yes", "no extracted answer in the reply", reply)
        count = f"{options.replies} replies" if options.replies > 1 else "the reply"
        return Verdict(None, f"no verdict in {count}", reply)

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


_NOTHING = "</think>"  # stands for a response that ends there: no response that is shown can be this


def _visible(response: str) -> str:
    """What the judge is shown: the text after the last `</think>`, stripped; a text without one as it is."""
    if _NOTHING not in response:
        return response
    return response.rpartition(_NOTHING)[2].strip() or _NOTHING
