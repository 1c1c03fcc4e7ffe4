"""Corpora `markdown` and `html`: a folder of files that link to each other, one page a file."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Annotated, ClassVar, Literal
from urllib.parse import unquote, urlsplit

from ltrl.backend import Note
from ltrl.dataset.kinds import CorpusSection
from ltrl.dataset.page import Link, SourcePage, Unusable
from ltrl.errors import LtrlError, unreadable
from ltrl_backends.trajectory_dataset.lines import found_files, relative

__all__ = ["Html", "Markdown"]

_HEADING = re.compile(r"^#\s+(.+?)\s*#*$", re.MULTILINE)
_FRONT = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
_INLINE = re.compile(r"!?\[([^\[\]]*)\]\(\s*<?([^()\s<>]*(?:\([^()\s]*\)[^()\s]*)*)>?(?:\s+[^()]*)?\)")
_WIKI = re.compile(r"\[\[([^\[\]|#]+)(?:#[^\[\]|]*)?(?:\|([^\[\]]*))?\]\]")
_BLOCKS = frozenset("""
    address article aside blockquote br dd div dl dt figcaption footer h1 h2 h3 h4 h5 h6 header hr li main nav ol p pre
    section table td th tr ul
    """.split())  # fmt: skip  # noqa: SIM905
_UNSEEN = frozenset(["noscript", "script", "style", "template", "title"])
"""What has no text to be read. A head has nothing else, and its end tag may be left out."""


class Markdown:
    """Markdown files with `[links](other.md)` or `[[wiki links]]`; the first heading is the title."""

    api: ClassVar[int] = 1

    class Options(CorpusSection):
        """Options of the `markdown` corpus."""

        backend: Literal["markdown"]
        """This backend."""
        path: Annotated[str, Note]
        """Directory of the files; a relative path starts at the project."""

    def __init__(self, options: Options) -> None:
        self._options = options

    def files(self) -> Sequence[Path]:
        """Every `.md` and `.markdown` file below the directory."""
        return found_files(self._options.path, ["*.md", "*.markdown"])

    def pages(self) -> Iterator[SourcePage | Unusable]:
        """Every file as a page; its id is its path."""
        for file in self.files():
            text = _text(file, self._options.max_page_bytes)
            yield text if isinstance(text, Unusable) else _markdown(file, relative(file, self._options.path), text)


class Html:
    """HTML files with `<a href>` to each other; `<title>` or the first heading is the title."""

    api: ClassVar[int] = 1

    class Options(CorpusSection):
        """Options of the `html` corpus."""

        backend: Literal["html"]
        """This backend."""
        path: Annotated[str, Note]
        """Directory of the files; a relative path starts at the project."""

    def __init__(self, options: Options) -> None:
        self._options = options

    def files(self) -> Sequence[Path]:
        """Every `.html` and `.htm` file below the directory."""
        return found_files(self._options.path, ["*.html", "*.htm"])

    def pages(self) -> Iterator[SourcePage | Unusable]:
        """Every file as a page; its id is its path."""
        for file in self.files():
            text = _text(file, self._options.max_page_bytes)
            yield text if isinstance(text, Unusable) else _html(file, relative(file, self._options.path), text)


def _text(file: Path, longest: int) -> str | Unusable:
    try:
        with file.open("rb") as stream:
            raw = stream.read(longest + 1)
    except OSError as error:
        raise LtrlError(unreadable(error, f"the corpus file `{file}`")) from None
    if len(raw) > longest:
        return Unusable(str(file), f"the file has more than {longest} bytes (`max_page_bytes`)")
    try:
        return raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        return Unusable(f"{file}:{line}", f"byte {error.start + 1} of the file is not UTF-8")


def _markdown(file: Path, place: Path, text: str) -> SourcePage:
    body = _FRONT.sub("", text)
    heading = _HEADING.search(body)
    links: list[Link] = []

    def plain(match: re.Match[str]) -> str:
        if match[0].startswith("!"):
            return match[1]
        if target := _target(match[2], place):
            links.append(Link(target, match[1]))
        return match[1]

    def wiki(match: re.Match[str]) -> str:
        anchor = (match[2] or match[1]).strip()
        links.append(Link(match[1].strip(), anchor))
        return anchor

    seen = _WIKI.sub(wiki, _INLINE.sub(plain, body))
    title = _WIKI.sub(r"\1", _INLINE.sub(r"\1", heading[1] if heading else place.stem))
    return SourcePage(place.as_posix(), title, seen, tuple(links), (place.stem,), str(file))


def _html(file: Path, place: Path, text: str) -> SourcePage:
    reader = _Reader()
    reader.feed(text)
    reader.close()
    links = tuple(Link(target, anchor) for href, anchor in reader.links if (target := _target(href, place)))
    body = re.sub(r"[ \t]*\n[ \t]*", "\n", re.sub(r"[ \t]+", " ", "".join(reader.text)))
    title = " ".join((reader.title or reader.heading or place.stem).split())
    return SourcePage(place.as_posix(), title, re.sub(r"\n{3,}", "\n\n", body), links, (place.stem,), str(file))


class _Reader(HTMLParser):
    """Text, links and titles of a page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.text: list[str] = []
        self.links: list[tuple[str, str]] = []
        self.title = ""
        self.heading = ""
        self._unseen = 0
        self._inside: set[str] = set()
        self._href: str | None = None
        self._anchor: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside.add(tag)
        self._unseen += tag in _UNSEEN
        if tag in _BLOCKS:
            self.text.append("\n\n" if tag in ("p", "h1", "h2", "h3") else "\n")
        if tag == "a":
            self._href, self._anchor = dict(attrs).get("href"), []

    def handle_endtag(self, tag: str) -> None:
        if tag in self._inside and tag in _UNSEEN:
            self._unseen = max(0, self._unseen - 1)
        self._inside.discard(tag)
        if tag in _BLOCKS:
            self.text.append("\n")
        if tag == "a" and self._href:
            self.links.append((self._href, " ".join("".join(self._anchor).split())))
            self._href = None

    def handle_data(self, data: str) -> None:
        if "title" in self._inside and "body" not in self._inside:
            self.title += data
        elif not self._unseen:
            self.text.append(data if "pre" in self._inside else re.sub(r"\s+", " ", data))
            self._anchor.append(data)
            if "h1" in self._inside:
                self.heading += data


def _target(href: str, place: Path) -> str:
    """The id of the page that a link leads to; empty for one that leads out of the corpus."""
    parts = urlsplit(href)
    if parts.scheme or parts.netloc or not parts.path:
        return ""
    return posixpath.normpath(posixpath.join(place.parent.as_posix(), unquote(parts.path))).lstrip("/")
