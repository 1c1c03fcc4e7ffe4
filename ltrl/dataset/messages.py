"""Trajectories from the message logs of other agents: OpenAI-style tool calls, as most frameworks write them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any, Literal

from ltrl.trajectories import Answer, Cite, Open, Search, Step, Trajectory

__all__ = ["ACTIONS", "Action", "trajectory"]

Action = Literal["search", "open", "cite", "answer"]

ACTIONS: Mapping[str, Action] = {
    **dict.fromkeys(("search", "web_search", "search_web", "google_search", "websearch", "retrieve"), "search"),
    **dict.fromkeys(("open", "visit", "open_url", "fetch", "browse", "click", "read", "open_page", "get_page"), "open"),
    **dict.fromkeys(("cite", "add_citation"), "cite"),
    **dict.fromkeys(("answer", "finish", "final_answer", "submit", "submit_answer"), "answer"),
}
"""What the usual names of tools mean."""

_ID = ("id", "url", "link", "document", "doc_id", "document_id", "href", "page")
_TEXT = ("text", "content", "snippet", "body", "description")
_ADDRESS = re.compile(r"https?://[^\s\"'<>)\]}]+")


def trajectory(
    record: object, *, actions: Mapping[str, Action] = ACTIONS, default_id: str = ""
) -> tuple[Trajectory, dict[str, tuple[str, str]]]:
    """The trajectory in a log, and (title, text) of each document that the log shows, by id.

    A log is a list of messages, or an object with `messages` and perhaps `id`, `question`, `is_correct` and `model`.
    Raises ValueError for one without messages, with a tool that is not known, or without the reply to a call.
    """
    found = record if isinstance(record, Mapping) else {"messages": record}
    messages = found.get("messages")
    if not isinstance(messages, list) or not all(isinstance(m, Mapping) for m in messages) or not messages:
        raise ValueError("a log needs a list of messages, or an object with `messages`")
    question = found.get("question") or next((_text(m) for m in messages if m.get("role") == "user"), "")
    if not isinstance(question, str) or not question:
        raise ValueError("the log has no question: neither `question` nor a user's message")
    documents: dict[str, tuple[str, str]] = {}
    turns = _turns(messages)
    steps = [step for place in range(len(turns)) for step in _steps(turns[place:], actions, documents)]
    last = next((_text(m) for m in reversed(messages) if m.get("role") == "assistant" and not m.get("tool_calls")), "")
    if not any(isinstance(step, Answer) for step in steps) and last:
        steps.append(Answer(last.strip()))
    answer = next((step.text for step in reversed(steps) if isinstance(step, Answer)), "")
    verdict, attempt = found.get("is_correct", found.get("correct")), found.get("attempt")
    made = Trajectory(
        question_id=str(found.get("question_id") or found.get("id") or default_id),
        question=question.strip(),
        attempt=attempt if isinstance(attempt, int) else 0,
        steps=tuple(steps),
        answer=answer,
        is_correct=verdict if isinstance(verdict, bool) else None,
        agent=str(found.get("agent") or found.get("model") or ""),
    )
    return made, documents


def _steps(
    messages: Sequence[Mapping[str, Any]], actions: Mapping[str, Action], documents: dict[str, tuple[str, str]]
) -> Iterator[Step]:
    """What the first of the messages does; the replies to its calls are among the others."""
    calls = messages[0].get("tool_calls") or ()
    for call, told in zip(calls, _replies(calls, messages[1:]), strict=True):
        try:
            name, written = call["function"]["name"], call["function"].get("arguments") or "{}"
            given = json.loads(written) if isinstance(written, str) else written
        except (KeyError, TypeError, ValueError, AttributeError):
            raise ValueError("a tool call has no `function` with `name` and JSON `arguments`") from None
        if name not in actions:
            raise ValueError(f"the tool `{name}` is not known")
        given = given if isinstance(given, Mapping) else {}
        if told is None and actions[name] in ("search", "open"):
            if not any(map(_is_reply, messages[1:])):
                continue  # the agent was stopped here, or had its answer
            raise ValueError(f"a call of `{name}` has no reply of the role `tool` before the assistant's next message")
        reply = told or ""
        match actions[name]:
            case "search":
                queries = given.get("query", given.get("q", given.get("queries", "")))
                yield Search(" ".join(queries) if isinstance(queries, list) else str(queries), _found(reply, documents))
            case "open":
                id = _id(given)
                if id:
                    documents[id] = (documents.get(id, (id, ""))[0], reply)
                    yield Open(id)
            case "cite":
                yield Cite(tuple(_ids(given)))
            case "answer":
                if cited := _ids({k: v for k, v in given.items() if k in ("citations", "documents", "sources")}):
                    yield Cite(tuple(cited))
                texts = (given.get(key) for key in ("text", "answer", "final_answer", "content"))
                yield Answer(str(next((text for text in texts if text), "")).strip())


def _turns(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The messages, those with calls that follow each other at once as one."""
    found: list[Mapping[str, Any]] = []
    for message in messages:
        if found and message.get("tool_calls") and found[-1].get("tool_calls"):
            found[-1] = {**message, "tool_calls": [*found[-1]["tool_calls"], *message["tool_calls"]]}
        else:
            found.append(message)
    return found


def _is_reply(message: Mapping[str, Any]) -> bool:
    return message.get("role") in ("tool", "function")


def _replies(calls: Sequence[Any], after: Sequence[Mapping[str, Any]]) -> list[str | None]:
    """What the tools said to each call before the assistant's next message, by id; in turn where one has no id.

    Ids mean nothing beyond that message: many frameworks count calls anew in each.
    """
    left = [m for m in takewhile(lambda m: m.get("role") != "assistant", after) if _is_reply(m)]
    ids = [call.get("id") if isinstance(call, Mapping) else None for call in calls]
    found = [None if id is None else _taken(left, [id]) for id in ids]
    return [
        _taken(left, [m.get("tool_call_id") for m in left] if id is None else [None]) if reply is None else reply
        for id, reply in zip(ids, found, strict=True)
    ]


def _taken(left: list[Mapping[str, Any]], ids: Sequence[object]) -> str | None:
    """The text of the first message that answers one of these calls, which is left no more."""
    place = next((i for i, message in enumerate(left) if message.get("tool_call_id") in ids), None)
    return None if place is None else _text(left.pop(place))


def _found(reply: str, documents: dict[str, tuple[str, str]]) -> tuple[str, ...]:
    """The documents that a search's reply lists, the best first."""
    try:
        listed = json.loads(reply)
    except ValueError:
        return tuple(dict.fromkeys(_ADDRESS.findall(reply)))
    if isinstance(listed, Mapping):
        listed = next((v for v in listed.values() if isinstance(v, list)), [])
    ids = []
    for item in listed if isinstance(listed, list) else []:
        id = item if isinstance(item, str) else _id(item) if isinstance(item, Mapping) else ""
        if id:
            ids.append(id)
            if isinstance(item, Mapping):
                title, text = str(item.get("title") or id), next((str(item[k]) for k in _TEXT if item.get(k)), "")
                documents.setdefault(id, (title, text))
    return tuple(dict.fromkeys(ids))


def _id(item: Mapping[str, Any]) -> str:
    return next((str(item[key]) for key in _ID if item.get(key)), "")


def _ids(given: Mapping[str, Any]) -> list[str]:
    values = [v for value in given.values() for v in (value if isinstance(value, list) else [value])]
    return [v if isinstance(v, str) else _id(v) for v in values if (isinstance(v, str) and v) or isinstance(v, Mapping)]


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):  # parts
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, Mapping))
    return content if isinstance(content, str) else ""
