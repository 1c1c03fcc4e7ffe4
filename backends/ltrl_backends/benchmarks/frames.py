"""`frames`: 824 questions that need 2 to 15 Wikipedia articles each (google/frames-benchmark, Apache-2.0).

The hub has questions, answers and links, not the articles: they are given as a file of yours. The prompt is that of the
paper's oracle setting, all articles of a question before it (Krishna et al. 2024, arXiv 2409.12941); how articles are
written there is not published: here the link, then the text. `template: frames` of the judge is the paper's auto-rater.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal
from urllib.parse import unquote

from ltrl.backend import BenchmarkSection, JudgeChoice, create
from ltrl.benchmark import Answered, Outcome, Question, asked_of
from ltrl.errors import Code, Position, fail
from ltrl_backends.benchmarks.records import Record, bad, count, from_hub, local, read, text

__all__ = ["FRAMES"]

REPOSITORY = "google/frames-benchmark"


class FRAMES:
    """Questions of the table with their articles; right is what the judge says."""

    api: ClassVar[int] = 1

    class Options(BenchmarkSection):
        """FRAMES: multi-hop questions over whole Wikipedia articles, judged."""

        backend: Literal["frames"]
        """This backend."""
        judge: JudgeChoice
        """Who compares answers; `template: frames` asks what the benchmark publishes."""
        articles: str
        """The articles: JSON Lines or Parquet with `link` and `text`, or a directory of such files."""
        path: str | None = None
        """`test.tsv` of the hub, or its directory; by default the hub."""
        revision: str | None = None
        """Commit of the hub's repository; by default its newest."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._judge = create(options.judge)

    def __iter__(self) -> Iterator[Question]:
        """Every question in the table's order."""
        options = self._options
        root = self._root()
        articles = _articles(options.articles)
        for position, row in read(root, ("test.tsv",)):
            question = text(position, row, "Prompt")
            links = _links(position, row)
            lacking = [link for link in links if _key(link) not in articles]
            if lacking:
                counted = f"{len(lacking)} of the {len(links)} articles of question {position.line}"
                raise fail(Code.BAD_DATA, f"`{options.articles}` lacks {counted}, first {lacking[0]}", position)
            context = "\n\n".join(f"{link}\n{articles[_key(link)]}" for link in links)
            yield Question(
                id=str(position.line - 1),
                messages=(("user", prompt(context, question)),),
                label=text(position, row, "Answer"),
                text=question,
                splits={"articles": "2-4" if len(links) < 5 else "5 and more"},
            )

    def num_questions(self) -> int:
        """Rows of the table."""
        return count(self._root(), ("test.tsv",))

    def _root(self) -> Path:
        path, revision = self._options.path, self._options.revision
        return local(path) if path else from_hub(REPOSITORY, ("test.tsv",), revision=revision)

    def grade(self, answers: Sequence[Answered]) -> list[Outcome]:
        """1 where the judge finds the official answer in an answer."""
        return asked_of(self._judge, answers)


def prompt(articles: str, question: str) -> str:
    """The prompt of the paper's oracle setting."""
    return (
        f"Here are the relevant Wikipedia articles:\n{articles}\n\n"
        f"Based on all the information, answer the query. \n\nQuery: {question}\n\n"
    )


def _articles(path: str) -> Mapping[str, str]:
    found = read(local(path), ("*.jsonl", "*.parquet"))
    return {_key(text(position, record, "link")): text(position, record, "text") for position, record in found}


def _links(position: Position, row: Record) -> list[str]:
    """The links of a question: `wiki_links` is a list as Python writes one."""
    try:
        found = ast.literal_eval(text(position, row, "wiki_links"))
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        found = None
    if not isinstance(found, list) or not found:
        raise bad(position, "has `wiki_links` that are no list of links")
    return [str(link) for link in found]


def _key(link: str) -> str:
    """What makes two links the same article: the table writes some with a section, some percent-encoded."""
    return unquote(link.partition("#")[0]).strip().rstrip("/").removeprefix("http://").removeprefix("https://")
