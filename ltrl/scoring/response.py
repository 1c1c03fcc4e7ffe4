"""From the text a policy generated to reasoning and answer, as its chat format tells them apart."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import metadata

from ltrl.errors import Code, fail
from ltrl.scoring.score import Response, Status

__all__ = [
    "CHAT_FORMATS",
    "ChatFormat",
    "chat_format",
    "chat_format_owner",
    "chat_formats",
    "is_chat_format",
    "parse_response",
]

CHAT_FORMATS = "ltrl.chat_formats"
"""Entry-point group in which a distribution publishes a `ChatFormat` under its name."""

_CLOSE = "</think>"


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """How one family of models writes a response."""

    name: str
    stop_tokens: tuple[str, ...] = ()
    """A response that ends in none of these was aborted; with no stop tokens at all every response is complete."""
    improper_stop_tokens: tuple[str, ...] = ()
    """Those of `stop_tokens` that end a response all the same but make it ill-formed."""
    special_tokens: tuple[str, ...] = ()
    """Markers of the chat template; one inside the answer makes the response ill-formed."""
    has_reasoning: bool = True
    """Whether a response is reasoning, one `</think>`, and the answer; otherwise all of it is the answer."""


BUILT_IN = (
    ChatFormat(
        "qwen3",
        stop_tokens=("<|im_end|>", "<|endoftext|>"),
        improper_stop_tokens=("<|endoftext|>",),
        special_tokens=("<|im_start|>", "<|im_end|>", "<|endoftext|>"),
    ),
    ChatFormat(
        "deepseek-r1",
        stop_tokens=("<｜end▁of▁sentence｜>",),
        special_tokens=("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "<think>"),
    ),
    ChatFormat("plain", has_reasoning=False),
)


@cache
def chat_format(name: str) -> ChatFormat:
    """The chat format of that name, ltrl's own or a plugin's.

    Raises LtrlError when there is none, when two claim the name, or when it cannot load.
    """
    for own in BUILT_IN:
        if own.name == name:
            return own
    claims = [entry for entry in metadata.entry_points(group=CHAT_FORMATS) if entry.name == name]
    if not claims:
        hint = f"installed chat formats: {', '.join(f'`{known}`' for known in chat_formats())}"
        raise fail(Code.UNKNOWN_BACKEND, f"unknown chat format `{name}`", hint=hint)
    if len({entry.value for entry in claims}) > 1:
        owners = " and ".join(f"`{entry.value}`" for entry in claims)
        raise fail(Code.BROKEN_BACKEND, f"the chat format `{name}` is claimed by {owners}", hint="uninstall one")
    try:
        found = claims[0].load()
    except (ImportError, AttributeError) as error:
        raise fail(Code.BROKEN_BACKEND, f"the chat format `{name}` does not load: {error}") from error
    if not isinstance(found, ChatFormat) or found.name != name:
        raise fail(Code.BROKEN_BACKEND, f"`{claims[0].value}` is not the `ChatFormat` named `{name}`")
    return found


def is_chat_format(name: str) -> bool:
    """Whether there is a chat format of that name; asks plugins only about names that are not ltrl's own."""
    return any(own.name == name for own in BUILT_IN) or name in chat_formats()


def chat_formats() -> tuple[str, ...]:
    """Names of all chat formats, sorted; imports no plugin."""
    plugins = (entry.name for entry in metadata.entry_points(group=CHAT_FORMATS))
    return tuple(sorted({*(own.name for own in BUILT_IN), *plugins}))


def chat_format_owner(name: str) -> tuple[str, str] | None:
    """Distribution and version of the plugin that publishes a chat format; None for ltrl's own."""
    if any(own.name == name for own in BUILT_IN):
        return None
    for entry in metadata.entry_points(group=CHAT_FORMATS):
        if entry.name == name and entry.dist is not None:
            return entry.dist.name, entry.dist.version
    return None


def parse_response(
    text: str,
    *,
    chat_format: str,
    is_truncated: bool = False,
    is_aborted: bool = False,
    unstopped: Status = "aborted",
) -> Response:
    """The response in a generated text, special tokens included.

    The rules are LongTraceRL's: a stop token at the very end, exactly one `</think>`, neither reasoning nor answer
    empty, no chat marker in the answer. A response that breaks one is ill-formed and says why; a cut one (truncated,
    aborted, or `unstopped`: without a stop token) is not judged by them and keeps what there is of it.
    """
    rules = _rules(chat_format)
    stop = next((token for token in rules.stop_tokens if text.endswith(token)), None)
    if is_truncated or is_aborted or (rules.stop_tokens and stop is None):
        reasoning, content, _ = _split(text, rules)
        status: Status = "truncated" if is_truncated else "aborted" if is_aborted else unstopped
        return Response(reasoning, content, is_ill_formed=False, status=status, raw=text)
    reasoning, content, num_closes = _split(text[: len(text) - len(stop or "")], rules)
    reasons = [f"Error stop token: {stop}"] if stop in rules.improper_stop_tokens else []
    if rules.has_reasoning and num_closes != 1:
        reasons.append("Wrong thinking format.")
    if rules.has_reasoning and not reasoning:
        reasons.append("Missing reasoning_content.")
    if not content:
        reasons.append("Missing response content.")
    reasons += [f"Content contains special token: {t}" for t in rules.special_tokens if content and t in content]
    return Response(
        reasoning,
        content,
        is_ill_formed=bool(reasons),
        status="completed",
        stop_token=stop,
        raw=text,
        ill_formed_reasons=tuple(reasons),
    )


_rules = chat_format  # the parameter of `parse_response` has its name


def _split(text: str, rules: ChatFormat) -> tuple[str | None, str | None, int]:
    """Reasoning, answer (None where empty) and how often the reasoning is closed."""
    if not rules.has_reasoning:
        return None, text or None, 0
    num_closes = text.count(_CLOSE)
    reasoning, content = text.rsplit(_CLOSE, 1) if num_closes else (text, "")
    return reasoning.removesuffix("\n") or None, content.removeprefix("\n\n") or None, num_closes
