"""From the text a policy generated to reasoning and answer, as its chat format tells them apart."""

from __future__ import annotations

from dataclasses import dataclass

from ltrl.scoring.score import Response

__all__ = ["ChatFormat", "chat_format", "chat_formats", "parse_response", "register_chat_format"]

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


_FORMATS: dict[str, ChatFormat] = {}


def register_chat_format(chat_format: ChatFormat) -> None:
    """Makes a chat format known by its name; raises ValueError when the name is taken by a different one."""
    if _FORMATS.setdefault(chat_format.name, chat_format) != chat_format:
        raise ValueError(f"the chat format {chat_format.name!r} is registered already")


def chat_format(name: str) -> ChatFormat:
    """The chat format of that name; raises ValueError listing those known."""
    try:
        return _FORMATS[name]
    except KeyError:
        raise ValueError(f"unknown chat format {name!r}; known: {', '.join(chat_formats())}") from None


def chat_formats() -> tuple[str, ...]:
    """Names of all chat formats, sorted."""
    return tuple(sorted(_FORMATS))


register_chat_format(
    ChatFormat(
        "qwen3",
        stop_tokens=("<|im_end|>", "<|endoftext|>"),
        improper_stop_tokens=("<|endoftext|>",),
        special_tokens=("<|im_start|>", "<|im_end|>", "<|endoftext|>"),
    )
)
register_chat_format(
    ChatFormat(
        "deepseek-r1",
        stop_tokens=("<｜end▁of▁sentence｜>",),
        special_tokens=("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"),
    )
)
register_chat_format(ChatFormat("plain", has_reasoning=False))


def parse_response(text: str, *, chat_format: str, is_truncated: bool = False, is_aborted: bool = False) -> Response:
    """The response in a generated text, special tokens included.

    The rules are LongTraceRL's: a stop token at the very end, exactly one `</think>`, neither
    reasoning nor answer empty, no chat marker in the answer. A response that breaks one is ill-formed and says why; a
    cut one (truncated, aborted, or without a stop token) is not judged by them and keeps what there is of it.
    """
    rules = _FORMATS.get(chat_format) or globals()["chat_format"](chat_format)
    stop = next((token for token in rules.stop_tokens if text.endswith(token)), None)
    if is_truncated or is_aborted or (rules.stop_tokens and stop is None):
        reasoning, content, _ = _split(text, rules)
        status = "truncated" if is_truncated else "aborted"
        return Response(reasoning, content, is_ill_formed=False, status=status, raw=text)  # type: ignore[arg-type]
    reasoning, content, num_closes = _split(text[: len(text) - len(stop or "")], rules)
    reasons = []
    if rules.has_reasoning and num_closes != 1:
        reasons.append("Wrong thinking format.")
    if rules.has_reasoning and not reasoning:
        reasons.append("Missing reasoning_content.")
    if not content:
        reasons.append("Missing response content.")
    reasons += [f"Content contains special token: {t}" for t in rules.special_tokens if content and t in content]
    if stop in rules.improper_stop_tokens:
        reasons.append(f"Wrong stop token: {stop}")
    return Response(
        reasoning,
        content,
        is_ill_formed=bool(reasons),
        status="completed",
        stop_token=stop,
        raw=text,
        ill_formed_reasons=tuple(reasons),
    )


def _split(text: str, rules: ChatFormat) -> tuple[str | None, str | None, int]:
    """Reasoning, answer (None where empty) and how often the reasoning is closed."""
    if not rules.has_reasoning:
        return None, text or None, 0
    num_closes = text.count(_CLOSE)
    reasoning, content = text.rsplit(_CLOSE, 1) if num_closes else (text, "")
    return reasoning.removesuffix("\n") or None, content.removeprefix("\n\n") or None, num_closes
