"""What may be asked: OpenAI's chat completions, as far as a model alone can answer them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

__all__ = ["ApiError", "ChatRequest", "error_body", "read_request"]


class ApiError(Exception):
    """A request that is not answered, as OpenAI's clients know it."""

    def __init__(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        """HTTP status."""
        self.code = code
        """OpenAI's name of what is wrong."""
        self.param = param
        """The field that it is about."""


def error_body(error: ApiError) -> dict[str, Any]:
    """The body that goes with an error's status."""
    kind = "invalid_request_error" if error.status < 500 else "server_error"
    return {"error": {"message": str(error), "type": kind, "param": error.param, "code": error.code}}


class _Part(BaseModel):
    type: Literal["text"]
    text: str


class Message(BaseModel):
    """One message; further fields reach the chat template as they are."""

    model_config = ConfigDict(extra="allow")

    role: str
    content: str | list[_Part] | None = None

    def for_template(self) -> dict[str, Any]:
        """As chat templates read it: the content is text."""
        parts = self.content if isinstance(self.content, list) else None
        content = "".join(part.text for part in parts) if parts is not None else self.content or ""
        return {**(self.model_extra or {}), "role": self.role, "content": content}


class StreamOptions(BaseModel):
    """What a stream says beside the text."""

    include_usage: bool = False


class ChatRequest(BaseModel):
    """The body of `/v1/chat/completions`. A field that would change the answer and is not here is refused."""

    model_config = ConfigDict(extra="forbid")

    model: str
    messages: Annotated[list[Message], Field(min_length=1)]
    max_tokens: Annotated[int | None, Field(ge=1)] = None
    """By default all that the context has room for."""
    max_completion_tokens: Annotated[int | None, Field(ge=1)] = None
    temperature: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=-1)] = 0
    """0 or -1 for all."""
    seed: Annotated[int | None, Field(ge=-(2**63), lt=2**63)] = None
    n: Annotated[int, Field(ge=1, le=128)] = 1
    stop: str | Annotated[list[str], Field(max_length=16)] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    chat_template_kwargs: dict[str, Any] = {}
    # said by some clients, and without effect at these values
    frequency_penalty: Literal[0] | None = None
    presence_penalty: Literal[0] | None = None
    logprobs: Literal[False] | None = None
    user: str | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None

    @property
    def limit(self) -> int | None:
        """Most tokens of one completion."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def stops(self) -> tuple[str, ...]:
        """Strings that end a completion."""
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return tuple(text for text in given if text)


def read_request(body: bytes) -> ChatRequest:
    """The request in a body; raises ApiError, 400, with the first field that is wrong."""
    try:
        data = json.loads(body)
    except ValueError as error:
        raise ApiError(400, f"the body is not JSON: {error}") from None
    if not isinstance(data, Mapping):
        raise ApiError(400, "the body is not a JSON object")
    given = {key: value for key, value in data.items() if value is not None}  # clients say null for what they leave out
    try:
        return ChatRequest.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        said = "is not supported by this server" if first["type"] == "extra_forbidden" else first["msg"].lower()
        raise ApiError(400, f"`{place}`: {said}", param=place) from None
