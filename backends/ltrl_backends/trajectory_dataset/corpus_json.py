"""Corpora `jsonl` and `kilt`: one page a line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from ltrl.backend import Note
from ltrl.dataset.kinds import CorpusSection
from ltrl.dataset.page import Link, SourcePage, Unusable
from ltrl_backends.trajectory_dataset.lines import found_files, json_lines

__all__ = ["JsonLines", "Kilt"]

_BACK_MATTER = {"see also", "references", "external links", "further reading", "notes", "bibliography", "sources"}
"""Sections of a Wikipedia page that are lists, not text: it ends where the first of them begins (as in DeepDive)."""


class JsonLines:
    """Objects with `id`, `title`, `text`, and perhaps `links` (titles or ids, or `{target, anchor}`) and `aliases`."""

    api: ClassVar[int] = 1

    class Options(CorpusSection):
        """Options of the `jsonl` corpus."""

        backend: Literal["jsonl"]
        """This backend."""
        path: Annotated[str, Note]
        """A file, or a directory of `.jsonl` files; a relative path starts at the project."""

    def __init__(self, options: Options) -> None:
        self._options = options

    def files(self) -> Sequence[Path]:
        """The file, or those in the directory."""
        return found_files(self._options.path, ["*.jsonl"])

    def pages(self) -> Iterator[SourcePage | Unusable]:
        """Every line as a page."""
        for file in self.files():
            for found in json_lines(file, self._options.max_page_bytes):
                yield found if isinstance(found, Unusable) else _plain(*found)


class Kilt:
    """Wikipedia as the KILT benchmark has it (`kilt_knowledgesource.json`, 37 GB): read line by line."""

    api: ClassVar[int] = 1

    class Options(CorpusSection):
        """Options of the `kilt` corpus."""

        backend: Literal["kilt"]
        """This backend."""
        path: Annotated[str, Note]
        """The file, or a directory of parts of it; a relative path starts at the project."""

    def __init__(self, options: Options) -> None:
        self._options = options

    def files(self) -> Sequence[Path]:
        """The file, or those in the directory."""
        return found_files(self._options.path, ["*.json", "*.jsonl"])

    def pages(self) -> Iterator[SourcePage | Unusable]:
        """Every line as a page."""
        for file in self.files():
            for found in json_lines(file, self._options.max_page_bytes):
                yield found if isinstance(found, Unusable) else _kilt(*found)


def _plain(where: str, record: dict[str, Any]) -> SourcePage | Unusable:
    title, text = record.get("title"), record.get("text")
    if not isinstance(title, str) or not isinstance(text, str):
        lacking = "title" if not isinstance(title, str) else "text"
        return Unusable(where, f"`{lacking}` is missing or not text")
    links = [link for item in _listed(record, "links") if (link := _link(item))]
    aliases = tuple(alias for alias in _listed(record, "aliases") if isinstance(alias, str))
    id = record.get("id")
    return SourcePage(title if id is None else str(id), title, text, tuple(links), aliases, where)


def _link(item: Any) -> Link | None:
    if isinstance(item, str):
        return Link(item, item)
    target = item.get("target") if isinstance(item, dict) else None
    return Link(target, str(item.get("anchor") or target)) if isinstance(target, str) else None


def _kilt(where: str, record: dict[str, Any]) -> SourcePage | Unusable:
    title, paragraphs = record.get("wikipedia_title"), record.get("text")
    if not isinstance(title, str) or not isinstance(paragraphs, list):
        return Unusable(where, "no page of KILT: `wikipedia_title` and a list `text` are missing")
    kept = []
    for paragraph in paragraphs[1:] if paragraphs[:1] == [f"{title}\n"] else paragraphs:
        written = str(paragraph).strip()
        heading = written.removeprefix("Section::::").rstrip(".:").split(":::")[-1].strip()
        if written.startswith("Section::::") and heading.casefold() in _BACK_MATTER:
            break
        kept.append(heading if written.startswith("Section::::") else written)
    last = len(paragraphs) - len(paragraphs[1:]) + len(kept) if paragraphs[:1] == [f"{title}\n"] else len(kept)
    links = tuple(
        Link(str(anchor.get("wikipedia_title") or anchor.get("wikipedia_id")), str(anchor.get("text") or ""))
        for anchor in _listed(record, "anchors")
        if isinstance(anchor, dict)
        and (anchor.get("wikipedia_title") or anchor.get("wikipedia_id"))
        and (not isinstance(anchor.get("paragraph_id"), int) or anchor["paragraph_id"] < last)
    )
    known = record.get("wikidata_info")
    aliases = known.get("aliases") if isinstance(known, dict) else None
    listed = aliases.get("alias") if isinstance(aliases, dict) else aliases
    names = tuple(name for name in listed if isinstance(name, str)) if isinstance(listed, list) else ()
    id = str(record.get("wikipedia_id") or record.get("kilt_id") or record.get("_id") or title)
    return SourcePage(id, title, "\n\n".join(filter(None, kept)), links, names, where)


def _listed(record: dict[str, Any], key: str) -> list[Any]:
    found = record.get(key)
    return found if isinstance(found, list) else []
