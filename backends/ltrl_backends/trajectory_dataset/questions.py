"""Question backends `template` and `llm`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from ltrl.dataset.chat import Chat, ChatOptions, json_reply
from ltrl.dataset.kinds import Draft, QuestionSection, Rejected
from ltrl.dataset.page import Page, cut
from ltrl.scoring import is_findable, matcher, tokens

__all__ = ["TemplateQuestion", "WrittenQuestion"]

_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[\"'(]?[A-Z0-9])|\n\s*\n")
_LEAD = re.compile(r"^(?:<[^<>]*>\s*|\([^()]*\)\s*|/[^/]*/\s*|\d+\.\s+)+")
_HIDDEN = "…"


class TemplateQuestion:
    """Clues in a fixed order, one for each page: the sentence that says most, without any name of the path."""

    api: ClassVar[int] = 1
    concurrency: int | None = None
    model: ChatOptions | None = None

    class Options(QuestionSection):
        """Options of the `template` questions."""

        backend: Literal["template"]
        """This backend."""
        clue_words: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = (6, 40)
        """Fewest and most words of a clue."""

    def __init__(self, options: Options) -> None:
        self._fewest, self._most = options.clue_words

    def write(self, path: Sequence[Page], random: Random) -> Draft:
        """What leads from the first page to the last, whose name is the answer."""
        names = sorted({n for page in path for n in page.names if is_findable(n)}, key=len, reverse=True)
        clues = [self._clue(page, names) for page in path]
        start = random.choice(["Start from", "Begin with", "Take", "Think of"])
        onward = random.choice(["It refers to", "From there, go to", "Its description leads to", "It points to"])
        lines = [f"{start} the entry that says: {clues[0]}"]
        lines += [f"{onward} the one that says: {clue}" for clue in clues[1:-1]]
        text = "\n".join([*lines, f"{onward} the last one, which says: {clues[-1]}", "What is the last one called?"])
        entities = tuple(dict.fromkeys(page.title for page in path[:-1]))
        aliases = tuple((page.title, page.aliases) for page in path[:-1] if page.aliases)
        return Draft(text, path[-1].title, entities, aliases)

    def _clue(self, page: Page, names: Sequence[str]) -> str:
        """The first sentence that still says something when the names are taken out."""
        for sentence in _SENTENCE.split(cut(page.text, 2000)):
            plain = _LEAD.sub("", " ".join(sentence.split()))
            hidden = _without(plain, names)
            words = hidden.replace(_HIDDEN, " ").split()
            if len(words) >= self._fewest and len(tokens(" ".join(words))) >= self._fewest:
                written = hidden.split(" ")
                return " ".join(written[: self._most]) + (f" {_HIDDEN}" if len(written) > self._most else "")
        raise Rejected("a page has no sentence that says enough without names")


class WrittenQuestion:
    """A language model writes question, answer and gold entities from the path."""

    api: ClassVar[int] = 1

    class Options(QuestionSection):
        """Options of the `llm` questions."""

        backend: Literal["llm"]
        """This backend."""
        model: ChatOptions
        """The endpoint."""
        page_characters: Annotated[int, Field(ge=100)] = 5000
        """Longest part of each page that the writer sees."""

    def __init__(self, options: Options) -> None:
        self.concurrency: int | None = options.model.concurrency
        self._options = options
        self._chat = Chat(options.model)
        self.close = self._chat.close
        self.model: ChatOptions | None = options.model

    def write(self, path: Sequence[Page], random: Random) -> Draft:
        """The model's draft, in the form asked for."""
        pages = "\n\n".join(
            f"Page {i}: {p.title}\n{cut(p.text, self._options.page_characters)}" for i, p in enumerate(path, 1)
        )
        asked = (
            f"Below are {len(path)} pages; each links to the next. Write one question that can be answered only by "
            "following them in their order.\n"
            "- The answer is an attribute of the LAST page's subject (a name, place, event, number or date) and short. "
            "Nothing else may answer the question.\n"
            "- Every page gives exactly one clue, and each clue depends on the one before.\n"
            "- Paraphrase. Write no name, title, date or place of any page, so that a search for words does not help.\n"
            "- At most 800 characters.\n"
            'Reply with JSON: {"question": "…", "answer": "…", "entities": [{"name": "title of each page that one must '
            'pass", "aliases": ["other names"]}]}\n\n'
            f"{pages}"
        )
        draft = self._chat.ask([{"role": "user", "content": asked}], _draft, seed=random.getrandbits(31))
        if draft is None:
            raise Rejected("the model wrote no question in the form asked for")
        return draft


def _without(text: str, names: Sequence[str]) -> str:
    """The text with every name in it replaced."""
    spans = sorted(s for hit in matcher("words").hits(text, names, every=True) for s in hit.spans)
    parts: list[str] = []
    done = 0
    for start, end in spans:
        if start >= done:
            parts += [text[done:start], _HIDDEN]
        done = max(done, end)
    return "".join([*parts, text[done:]])


def _draft(reply: str) -> Draft:
    found = json_reply(reply)
    question, answer, entities = (found.get(key) for key in ("question", "answer", "entities"))
    if not isinstance(question, str) or not question.strip():
        raise ValueError("`question` is not text")
    if not isinstance(answer, str) or not answer.strip():
        raise ValueError("`answer` is not text")
    if not isinstance(entities, list) or not entities:
        raise ValueError("`entities` is not a list with something in it")
    named = [_entity(item) for item in entities]
    return Draft(question, answer, tuple(dict.fromkeys(n for n, _ in named)), tuple((n, a) for n, a in named if a))


def _entity(item: Any) -> tuple[str, tuple[str, ...]]:
    name = item.get("name") if isinstance(item, dict) else item
    if not isinstance(name, str) or not is_findable(name):
        raise ValueError("an entity has no `name`")
    aliases = item.get("aliases") or [] if isinstance(item, dict) else []
    if not isinstance(aliases, list) or not all(isinstance(alias, str) for alias in aliases):
        raise ValueError("`aliases` of an entity is not a list of texts")
    return name, tuple(dict.fromkeys(alias for alias in aliases if alias != name and is_findable(alias)))
