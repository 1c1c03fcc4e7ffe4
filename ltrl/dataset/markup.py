"""How documents stand in a prompt, in pieces that every tokenizer counts alike alone and together.

A prompt is `head body frame body frame … body tail`. Each piece ends in a single line feed and the next one begins with
a character that is no white space: there, the pattern that today's byte-level tokenizers split text with (GPT-2, Llama
3, Qwen, o200k) always begins a new piece, and nothing is merged across pieces. So the tokens of the whole are the sum
of the tokens of the parts, and each document is tokenized once. Tokenizers without such a pattern are found out by
trying.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ltrl.dataset.page import Page, cut

__all__ = ["MARKUPS", "Markup", "body", "prompt"]


@dataclass(frozen=True, slots=True)
class Markup:
    """What stands around each document."""

    name: str
    before: str
    """`{}` is the document's number, from 1."""
    after: str

    def frame(self, number: int) -> str:
        """What stands between the document with that number and the next."""
        return f"{self.after}\n{self.before.format(number + 1)}"

    def head(self, instruction: str) -> str:
        """Everything before the text of the first document."""
        return f"{instruction.strip()}\n\nDocuments:\n{self.before.format(1)}"

    def tail(self, question: str) -> str:
        """Everything behind the text of the last document."""
        return f"{self.after}\nQuestion: {question}"


MARKUPS = {
    m.name: m
    for m in (
        Markup("document", '<document id="{}">\n', "</document>\n"),
        Markup("section", '<section id="{}">\n', "</section>\n"),
        Markup("brackets", "[Document {}]\n", "[End of document]\n"),
        Markup("heading", "### Document {}\n", "---\n"),
    )
}
"""The pool, by name."""


def body(page: Page, max_characters: int) -> str:
    """Title and text of a document; a long text is cut."""
    return f"{' '.join(page.title.split())}\n{cut(page.text, max_characters)}\n"


def prompt(markup: Markup, instruction: str, bodies: Sequence[str], question: str) -> str:
    """The whole prompt: instruction, documents, question."""
    pieces = [markup.head(instruction)]
    for number, text in enumerate(bodies, 1):
        pieces += [text, markup.frame(number)]
    pieces[-1] = markup.tail(question)
    return "".join(pieces)
