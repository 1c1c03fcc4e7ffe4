"""What an author writes of an evaluation: the models behind `kind: evaluation` and an experiment's `eval`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from ltrl.backend import BenchmarkChoice, Model, Note, OverlongQuestion, Prices, Relaunch
from ltrl.references import Secret
from ltrl.spec import Context, Count, Name, NonNegative, Positive, Share, Whole

__all__ = ["Endpoint", "EvalSection", "Evaluation", "Requests", "Sampling", "Serve", "Subject"]

_FIXED = ("model", "messages", "temperature", "top_p", "top_k", "max_tokens", "seed", "stream", "n")


def _fixes_nothing(value: dict[str, Any]) -> dict[str, Any]:
    if taken := sorted(set(value) & set(_FIXED)):
        raise ValueError(f"may not replace {', '.join(f'`{name}`' for name in taken)}")
    return value


class Sampling(Model):
    """How answers are drawn; the defaults are those of Qwen3's thinking models, with which LongTraceRL measures."""

    samples: Count = 1
    """Answers to each question."""
    temperature: NonNegative = 0.6
    """Sampling temperature; 0 takes the likeliest token."""
    top_p: Share = 0.95
    """Nucleus sampling."""
    top_k: Count | None = 20
    """Sample from so many tokens only; null sends none: endpoints of the plain OpenAI protocol refuse it."""
    seed: Whole | None = 0
    """From it each answer to each question has a seed of its own; null sends none."""


class Requests(Model):
    """How an endpoint is asked."""

    concurrency: Annotated[Annotated[int, Field(ge=1, le=4096)], Relaunch] = 64
    """Requests under way at once; further prompts are not even read."""
    timeout_seconds: Annotated[Positive, Relaunch] = 7200.0
    """Longest time for one try, from connecting to the last byte."""
    retries: Annotated[Whole, Relaunch] = 8
    """Further tries after one that failed in a way that may pass."""
    backoff_seconds: Annotated[NonNegative, Relaunch] = 2.0
    """Mean wait before the first retry; it doubles from one to the next and is spread at random."""
    longest_wait_seconds: Annotated[NonNegative, Relaunch] = 300.0
    """Longest wait between tries; an endpoint that asks for more (Retry-After) is given up."""
    extra_body: Annotated[dict[str, Any], AfterValidator(_fixes_nothing)] = {}
    """Further fields of a request, `chat_template_kwargs` for example."""


class Endpoint(Model):
    """Where the model is served already."""

    base_url: Annotated[Annotated[str, StringConstraints(pattern=r"^https?://[^\s]+$")], Relaunch]
    """Up to and with its version: `http://model:8000/v1`."""
    model: str | None = None
    """Name of the model, as the endpoint knows it; by default `model.base`."""
    api_key: Annotated[Secret | None, Relaunch] = None
    """Where the key is found: `${env:NAME}` or `${file:PATH}`."""
    prices: Annotated[Prices | None, Relaunch] = None
    """Shows what an evaluation has cost."""


class Serve(Model):
    """How a model is served for an evaluation that has no endpoint."""

    engine: Literal["vllm", "local"] = "vllm"
    """`vllm`: `vllm serve`, on GPUs; `local`: ltrl's own server, for small models."""
    tensor: Annotated[Count, Relaunch] = 1
    """GPUs of one server: its tensor parallel size, and what a job asks for."""
    gpu_memory: Annotated[Share, Relaunch] = 0.9
    """Share of a GPU's memory that it may take."""
    program: Annotated[Annotated[tuple[str, ...], Field(min_length=1)], Relaunch] = ("vllm",)
    """What is typed for `vllm`; in NeMo-RL's image `[uv, run, --extra, vllm, vllm]`."""
    image: Annotated[str | None, Relaunch] = None
    """Image of the job's container in place of the cluster profile's: `vllm/vllm-openai:v0.11.0`. Without a container
    in the profile there is none."""
    options: Annotated[tuple[str, ...], Relaunch] = ()
    """Further options of `vllm serve`: `[--enable-expert-parallel]`."""
    startup_minutes: Annotated[Positive, Relaunch] = 30.0
    """How long it may take until it answers."""
    minutes: Annotated[Count, Relaunch] = 720
    """Wall time of a job that serves and evaluates."""


class EvalSection(Model):
    """What is measured, and how."""

    benchmarks: Annotated[dict[Name, BenchmarkChoice], Field(min_length=1)]
    """Benchmarks by name; one may stand there twice with other options."""
    sampling: Sampling = Sampling()
    """How answers are drawn."""
    overlong: OverlongQuestion = "skip"
    """A prompt longer than the context allows: `skip` leaves it out of the figures, `wrong` counts it so, `cut-middle`
    keeps its beginning and end. All are counted."""
    max_missing: Annotated[Annotated[float, Field(ge=0, le=1)], Relaunch] = 0.02
    """Largest share of a benchmark's answers that may lack, because the endpoint or the judge failed; more fails the
    evaluation. What lacks is never counted as wrong, and asked again by the next call."""
    requests: Requests = Requests()
    """How the endpoint is asked."""
    serve: Serve = Serve()
    """How the model is served where there is no endpoint."""


class Subject(Model):
    """The model that is measured."""

    base: str
    """Hugging Face id, or a directory with a `config.json`."""
    revision: str | None = None
    """Commit or tag of the model's repository; by default its newest."""
    context: Context
    """Lengths in tokens; a prompt may have what `total` leaves beside the response."""
    chat_format: str = "auto"
    """How reasoning and answer are told apart; `auto` asks the model card."""


class Evaluation(EvalSection):
    """A measurement of one model: `kind: evaluation`."""

    kind: Literal["evaluation"]
    """What this file is."""
    name: Annotated[Name, Note]
    """Names the results and the job."""
    description: Annotated[str, Note] = ""
    """For the people who read this."""
    model: Subject
    """The model and its lengths."""
    endpoint: Endpoint | None = None
    """Where it is served; by default it is served as `serve` says."""

    @model_validator(mode="after")
    def _is_served_once(self) -> Evaluation:
        if self.endpoint is not None and "serve" in self.model_fields_set:
            raise ValueError("`serve` does nothing with `endpoint`: leave one of them out")
        return self
