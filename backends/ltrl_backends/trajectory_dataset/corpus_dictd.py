"""Corpus `dictd`: a dictionary in the format of the DICT server, whose entries refer to each other `{like this}`.

Debian has many as packages; FOLDOC, the Free On-line Dictionary of Computing, is `dict-foldoc`.
"""

from __future__ import annotations

import gzip
import os
import re
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, BinaryIO, ClassVar, Literal

from ltrl.backend import Note
from ltrl.dataset.kinds import CorpusSection
from ltrl.dataset.page import Link, SourcePage, Unusable
from ltrl.errors import Code, LtrlError, fail, unreadable

__all__ = ["Dictd"]

_DIGITS = {c: i for i, c in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")}
_REFERENCE = re.compile(r"\{([^{}]+)\}")
_ADDRESS = re.compile(r"\s*\((?:https?|ftp|gopher|mailto|news)[^)]*\)|\s*\([^()\s]*\.html?[^()]*\)")
_INDENT = re.compile(r"^ {1,3}", re.MULTILINE)


class Dictd:
    """Entries of a dictionary, one page for each definition; further headwords of it are its aliases."""

    api: ClassVar[int] = 1

    class Options(CorpusSection):
        """Options of the `dictd` corpus."""

        backend: Literal["dictd"]
        """This backend."""
        index: Annotated[str, Note]
        """The `.index` file; the text is beside it, in `.dict.dz` or `.dict`."""

    def __init__(self, options: Options) -> None:
        self._index = Path(os.environ.get("LTRL_PROJECT_DIR", "")) / options.index
        self._longest = options.max_page_bytes

    def files(self) -> Sequence[Path]:
        """Index and text."""
        texts = [self._index.with_suffix(end) for end in (".dict.dz", ".dict")]
        found = next((p for p in texts if p.is_file()), None)
        if not self._index.is_file() or found is None:
            hint = "on Debian: `apt-get install dict-foldoc`"
            raise fail(Code.BAD_DATA, f"there is no dictionary `{self._index}` with its text beside it", hint=hint)
        return [self._index, found]

    def pages(self) -> Iterator[SourcePage | Unusable]:
        """Every definition, in the order of the text, which is read once from its beginning to its end."""
        index, path = self.files()
        try:
            lines = index.read_bytes().split(b"\n")
            with path.open("rb") as raw, gzip.GzipFile(fileobj=raw) if path.suffix == ".dz" else raw as text:
                yield from self._entries(index, lines, text)
        except (OSError, EOFError, zlib.error) as error:
            if isinstance(error, OSError) and error.errno:
                raise LtrlError(unreadable(error, f"the dictionary `{path}`")) from None
            raise fail(Code.BAD_DATA, f"the dictionary `{path}` is damaged: {error}") from None

    def _entries(
        self, index: Path, lines: list[bytes], text: gzip.GzipFile | BinaryIO
    ) -> Iterator[SourcePage | Unusable]:
        words: defaultdict[tuple[int, int], list[str]] = defaultdict(list)
        numbers: dict[tuple[int, int], int] = {}
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.startswith((b"00-database", b"00database")):
                continue
            try:
                word, offset, length = line.decode().split("\t")[:3]
                span = (_number(offset), _number(length))
            except (ValueError, KeyError):
                yield Unusable(f"{index}:{number}", "no line of a dictionary's index: `word<tab>offset<tab>length`")
                continue
            words[span].append(word)
            numbers.setdefault(span, number)
        seen: set[str] = set()
        for start, size in sorted(words):
            where = f"{index}:{numbers[start, size]}"
            if size > self._longest:
                yield Unusable(where, f"the entry has more than {self._longest} bytes (`max_page_bytes`)")
                continue
            text.seek(start)
            found = _entry(text.read(size), size, words[start, size], where)
            if isinstance(found, SourcePage) and found.id in seen:
                found = SourcePage(f"{found.id} @{start}", found.title, found.text, found.links, found.aliases, where)
            if isinstance(found, SourcePage):
                seen.add(found.id)
            yield found


def _entry(raw: bytes, size: int, words: Sequence[str], where: str) -> SourcePage | Unusable:
    if len(raw) < size:
        return Unusable(where, "the text ends before the entry does")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        return Unusable(where, f"byte {error.start + 1} of the entry is not UTF-8")
    head, _, body = text.strip("\n").partition("\n\n")
    if head.startswith(" ") or not body:  # no headword of its own
        head, body = words[0], text
    title, *others = [name for line in head.split("\n") for name in line.split("%%%") if name.strip()] or [words[0]]
    links = tuple(Link(target, target) for m in _REFERENCE.finditer(body) if (target := _target(m[1])))
    plain = _INDENT.sub("", _REFERENCE.sub(lambda m: _target(m[1]) or m[1], body))
    known = {title.casefold()}
    aliases = tuple(n for n in (*others, *words) if not (n.casefold() in known or known.add(n.casefold())))  # type: ignore[func-returns-value]
    return SourcePage(title.strip(), title.strip(), plain, links, aliases, where)


def _target(reference: str) -> str:
    """The headword that a reference means; empty for an address."""
    written = " ".join(_ADDRESS.sub("", reference).split())
    return "" if written.startswith("(") else written


def _number(digits: str) -> int:
    value = 0
    for digit in digits:
        value = value * 64 + _DIGITS[digit]
    return value
