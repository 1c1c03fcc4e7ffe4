"""The judge and its options; what asks loads when a judge is made, since most commands only check options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from ltrl.backend import JudgeSection, Note, Prices, Relaunch
from ltrl.references import Secret
from ltrl.scoring import JudgeRequest, Verdict
from ltrl_backends.judge_openai.prompts import Template

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
        prices: Annotated[Prices | None, Note] = None
        """Shows what the judge of an evaluation has cost."""

        @model_validator(mode="after")
        def _reference_reads_hle(self) -> OpenAIJudge.Options:
            if self.parse == "reference" and self.template != "hle-style":
                raise ValueError("`parse: reference` reads replies to `template: hle-style` only")
            return self

    def __init__(self, options: Options) -> None:
        from ltrl_backends.judge_openai.asking import Asking

        self._asking = Asking(options)

    def judge(self, requests: Sequence[JudgeRequest]) -> list[Verdict]:
        """One verdict for each request. Equal ones are asked once, by however many threads, and those in the cache not
        at all."""
        return self._asking.judge(requests)

    def close(self) -> None:
        """Gives up what is waiting for a retry and closes connections and cache."""
        self._asking.close()
