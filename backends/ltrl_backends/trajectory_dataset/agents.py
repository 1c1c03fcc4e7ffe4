"""Agent backends `scripted` (no model), `llm` (tool calls) and `file` (trajectories that somebody has already)."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from ltrl.backend import Note
from ltrl.dataset.chat import Chat, ChatOptions
from ltrl.dataset.kinds import AgentSection, Rejected, Tools
from ltrl.dataset.page import Page, cut
from ltrl.errors import Code, LtrlError, fail, unreadable
from ltrl.scoring import tokens
from ltrl.trajectories import Trajectory

__all__ = ["FileAgent", "ModelAgent", "ScriptedAgent"]

_PART = re.compile(r"\n+|(?<=[.!?])\s+(?=[A-Z])")
_COMMON = frozenset(
    [
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "by",
        "for",
        "from",
        "in",
        "is",
        "it",
        "its",
        "of",
        "on",
        "or",
        "that",
        "the",
        "this",
        "to",
        "was",
        "which",
        "with",
    ]
)


class ScriptedAgent:
    """Searches for each part of the question, reads the first documents found and keeps the one that says most of it;
    then searches for that one's title. It answers with the title of the last. Each attempt reads more than the last.
    """

    api: ClassVar[int] = 1
    concurrency: int | None = None
    name = "scripted"

    class Options(AgentSection):
        """Options of the `scripted` agent."""

        backend: Literal["scripted"]
        """This backend."""
        opens: Annotated[int, Field(ge=1)] = 4
        """Documents read after each search of the first attempt; each further attempt reads one more."""
        follows: bool = True
        """Search for the title of what was found, too."""

    def __init__(self, options: Options) -> None:
        self._opens = options.opens
        self._follows = options.follows

    def attempt(self, question: str, tools: Tools, random: Random) -> None:
        """Searches, opens, cites, answers."""
        parts = [part for part in _PART.split(question) if len(_words(part)) >= 3] or [question]
        opens = self._opens + tools.number
        cited: list[str] = []
        for part in parts[:-1] if parts[-1].rstrip().endswith("?") and len(parts) > 1 else parts:
            clue = part.rpartition(": ")[2]
            read = [page for found in tools.search(clue)[:opens] if (page := tools.open(found.id))]
            if not read:
                continue
            wanted = _words(clue)
            best = max(read, key=lambda page: len(wanted & _words(f"{page.title} {page.text[:4000]}")))
            cited.append(best.id)
            answer = best.title
            if self._follows:
                tools.search(best.title)
        if not cited:
            raise Rejected("the agent found nothing")
        tools.cite(list(dict.fromkeys(cited)))
        tools.answer(answer)


class ModelAgent:
    """A language model with the tools search, open, cite and answer (OpenAI's tool calls)."""

    api: ClassVar[int] = 1

    class Options(AgentSection):
        """Options of the `llm` agent."""

        backend: Literal["llm"]
        """This backend."""
        model: ChatOptions
        """The endpoint."""
        max_turns: Annotated[int, Field(ge=1)] = 64
        """Replies of the model in one attempt."""
        shown: Annotated[int, Field(ge=1)] = 10
        """Results of a search that the model sees; all of them are in the trajectory."""
        snippet_characters: Annotated[int, Field(ge=1)] = 200
        """Of each result that it sees."""
        document_characters: Annotated[int, Field(ge=1)] = 8000
        """Of each document that it opens."""

    def __init__(self, options: Options) -> None:
        self.concurrency: int | None = options.model.concurrency
        self.name = options.model.model
        self._options = options
        self._chat = Chat(options.model)
        self.close = self._chat.close

    def attempt(self, question: str, tools: Tools, random: Random) -> None:
        """Lets the model use the tools until it answers; what it does wrong it is told, and it may go on."""
        messages: list[dict[str, Any]] = [{"role": "system", "content": _TASK}, {"role": "user", "content": question}]
        for _ in range(self._options.max_turns):
            said = self._chat.message(messages, seed=random.getrandbits(31), tools=_TOOLS)
            calls = said.get("tool_calls")
            messages.append({"role": "assistant", "content": said.get("content") or "", "tool_calls": calls or []})
            if not isinstance(calls, list) or not calls:
                messages[-1].pop("tool_calls")
                messages.append({"role": "user", "content": "Use a tool; end with `answer`."})
                continue
            for call in calls:
                reply, is_done = self._use(call, tools)
                if is_done:
                    return
                id = call.get("id") if isinstance(call, dict) else None
                messages.append({"role": "tool", "tool_call_id": str(id), "content": reply})
        raise Rejected("the agent used up its turns")

    def _use(self, call: Any, tools: Tools) -> tuple[str, bool]:
        """(what the model is told, whether it has answered)."""
        try:
            name, given = call["function"]["name"], json.loads(call["function"]["arguments"] or "{}")
            if not isinstance(given, dict):
                raise TypeError
        except (KeyError, TypeError, ValueError):
            return "error: this is no call of a tool with a JSON object as its arguments", False
        match name, given:
            case "search", {"query": str(query)} if query.strip():
                return self._listed(tools.search(query)), False
            case "open", {"document": str(document)}:
                page = tools.open(document)
                if page is None:
                    return f"error: there is no document `{document}`", False
                return f"{page.title}\n\n{cut(page.text, self._options.document_characters)}", False
            case "cite", {"documents": [*documents]} if all(isinstance(d, str) and d for d in documents):
                unknown = tools.cite(documents)
                if not unknown:
                    return "noted", False
                others = "; the others are noted" if len(unknown) < len(set(documents)) else ""
                return f"error: there is no document {', '.join(f'`{d}`' for d in unknown)}{others}", False
            case "answer", {"text": str(text)} if text.strip():
                tools.answer(text)
                return "", True
        listed = ", ".join(f"`{tool['function']['name']}`" for tool in _TOOLS)
        return f"error: `{name}` with these arguments is no tool; there are {listed}", False

    def _listed(self, pages: Sequence[Page]) -> str:
        found = [
            {"document": p.id, "title": p.title, "text": cut(p.text, self._options.snippet_characters)}
            for p in pages[: self._options.shown]
        ]
        return json.dumps(found, ensure_ascii=False)


class FileAgent:
    """Trajectories from a file, in ltrl's JSON form, each an attempt at the question that it is about."""

    api: ClassVar[int] = 1
    concurrency: int | None = None
    name = "file"

    class Options(AgentSection):
        """Options of the `file` agent."""

        backend: Literal["file"]
        """This backend."""
        path: Annotated[str, Note]
        """JSON Lines of trajectories (`ltrl data import` makes them); a relative path starts at the project."""
        documents: Annotated[str | None, Note] = None
        """JSON Lines of documents that are not of the corpus: `id`, `title`, `text`."""

    def __init__(self, options: Options) -> None:
        self.identity = [_digest(path) for path in (options.path, options.documents) if path]
        """What decides the results beside the options."""
        self._known: dict[str, list[Trajectory]] = {}
        self._documents: dict[str, Page] = {}
        for where, record in _records(options.path):
            try:
                found = Trajectory.from_json(record)
            except ValueError as error:
                raise fail(Code.BAD_DATA, f"{where}: {error}") from None
            if found.is_correct is not False:
                self._known.setdefault(found.question, []).append(found)
        for where, record in _records(options.documents) if options.documents else ():
            id, title, text = (record.get(key) for key in ("id", "title", "text"))
            if not isinstance(id, str) or not isinstance(text, str) or not id:
                raise fail(Code.BAD_DATA, f"{where}: a document needs `id` and `text`")
            self._documents[id] = Page(0, id, title if isinstance(title, str) else id, text)

    def attempt(self, question: str, tools: Tools, random: Random) -> None:
        """Takes a trajectory over as it is."""
        known = self._known.get(question, [])
        if tools.number >= len(known):
            raise Rejected(f"the file has no {'other ' if known else ''}right trajectory for the question")
        taken = known[tools.number]
        seen = {*taken.retrieved, *taken.opened, *taken.cited}
        tools.replay(taken, [page for id in sorted(seen) if (page := self._documents.get(id))])


def _digest(path: str) -> str:
    file = Path(os.environ.get("LTRL_PROJECT_DIR", "")) / path
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise LtrlError(unreadable(error, f"`{file}`")) from None


def _records(path: str) -> list[tuple[str, dict[str, Any]]]:
    file = Path(os.environ.get("LTRL_PROJECT_DIR", "")) / path
    found = []
    try:
        for number, line in enumerate(file.read_bytes().splitlines(), 1):
            if line.strip():
                record = json.loads(line)
                if not isinstance(record, dict):
                    raise TypeError
                found.append((f"{file}:{number}", record))
    except OSError as error:
        raise LtrlError(unreadable(error, f"`{file}`")) from None
    except (ValueError, TypeError):
        raise fail(Code.BAD_DATA, f"{file}:{number}: not a JSON object on a line of its own") from None
    return found


def _words(text: str) -> frozenset[str]:
    return frozenset(tokens(text)) - _COMMON


_TASK = (
    "Answer the question by searching. Search, open documents and follow what they say, step by step; do not guess. "
    "When you know the answer, cite the documents that prove it, then answer in as few words as possible."
)


def _tool(name: str, about: str, **properties: dict[str, Any]) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": [*properties]}
    return {"type": "function", "function": {"name": name, "description": about, "parameters": parameters}}


_TEXT = {"type": "string"}
_TOOLS = [
    _tool("search", "Find documents.", query=_TEXT),
    _tool("open", "Read a document that a search found.", document=_TEXT),
    _tool("cite", "Name the documents that prove the answer.", documents={"type": "array", "items": _TEXT}),
    _tool("answer", "Give the final answer.", text=_TEXT),
]
