"""Corpora of every format become the same kind of store, and what is broken in them is said with its place."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
from small_corpus import pages, write_pages

from ltrl.backend import load
from ltrl.dataset.corpus import Corpus
from ltrl.dataset.index import index
from ltrl.dataset.kinds import Rejected
from ltrl.dataset.page import cut
from ltrl.dataset.progress import Progress
from ltrl.dataset.walk import walk
from ltrl.errors import LtrlError

QUIET = Progress(is_quiet=True)
BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def store(folder: Path, backend: str, **options: Any) -> Corpus:
    section = load("corpus", backend).Options(backend=backend, **options)
    return index(section, folder / "corpora", QUIET)


def links(corpus: Corpus, name: str) -> list[str]:
    page = corpus.named(name)
    assert page is not None
    return [corpus.page(link.number).title for link in corpus.links(page.number)]


def base64(number: int) -> str:
    return (base64(number // 64) if number >= 64 else "") + BASE64[number % 64]


def dictionary(folder: Path, entries: dict[str, str], *, raw: bytes | None = None) -> Path:
    """A dictionary in the format of the DICT server."""
    text, lines = b"", []
    for word, entry in entries.items():
        written = f"{entry}\n".encode()
        lines.append(f"{word}\t{base64(len(text))}\t{base64(len(written))}\n")
        text += written
    (folder / "d.index").write_text("".join(lines))
    (folder / "d.dict.dz").write_bytes(gzip.compress(text) if raw is None else raw)
    return folder / "d.index"


def test_dictionary_entries_refer_to_each_other(tmp_path: Path) -> None:
    entries = {
        "ada": "Ada\n\n   <language> A language after {Ada Lovelace (http://example.org)}.\n   See {compiler}.",
        "ada lovelace": "Ada Lovelace%%%Countess\n\n   Wrote the first program; not for a {compiler} or {nothing}.",
        "compiler": "compiler\n\n   Translates {Ada}.",
    }
    corpus = store(tmp_path, "dictd", index=str(dictionary(tmp_path, entries)))
    assert [corpus.page(n).title for n in (1, 2, 3)] == ["Ada", "Ada Lovelace", "compiler"]
    assert corpus.page(1).text == "<language> A language after Ada Lovelace.\nSee compiler."
    assert corpus.page(2).aliases == ("Countess",)
    assert (links(corpus, "ada"), links(corpus, "COUNTESS")) == (["Ada Lovelace", "compiler"], ["compiler"])
    assert {k: v for k, v in corpus.facts.items() if k != "id"} == {
        "num_pages": 3,
        "num_links": 4,
        "num_links_written": 5,
        "num_links_to_nowhere": 1,
        "num_skipped": 0,
        "skipped": [],
    }


def test_foldoc_of_debian_has_its_entries(tmp_path: Path) -> None:
    corpus = store(tmp_path, "dictd", index="/usr/share/dictd/foldoc.index")
    assert 11_000 < corpus.num_pages < 16_000
    assert corpus.facts["num_links"] > 40_000
    page = corpus.named("ALGOL")
    assert page is not None
    assert (page.title, page.aliases[0]) == ("ALGOL 60", "ALGOL")
    assert {"ALGOL 58", "BNF"} <= set(links(corpus, "algol 60"))
    [first, *_] = corpus.search("who created the unix like kernel named after a Finnish student, Linus", 5)
    assert corpus.page(first).title in ("Linux", "Linus Torvalds")


def test_damaged_dictionary_is_said_to_be(tmp_path: Path) -> None:
    path = dictionary(tmp_path, {"a": "a\n\n   text"}, raw=b"\x1f\x8b\x08broken")
    with pytest.raises(LtrlError, match=r"the dictionary `.*d.dict.dz` is damaged"):
        store(tmp_path, "dictd", index=str(path))


def test_dictionary_that_is_not_installed_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(LtrlError) as caught:
        store(tmp_path, "dictd", index=str(tmp_path / "none.index"))
    assert caught.value.diagnostics[0].hint == "on Debian: `apt-get install dict-foldoc`"


def test_kilt_ends_before_the_lists_and_knows_aliases(tmp_path: Path) -> None:
    page = {
        "kilt_id": "1",
        "wikipedia_id": "12",
        "wikipedia_title": "Anarchism",
        "text": ["Anarchism\n", "A philosophy near Liberty.\n", "Section::::History.\n", "See Liberty again.\n",
                 "Section::::References.\n", "A list of Books.\n"],
        "anchors": [
            {"paragraph_id": 1, "text": "Liberty", "wikipedia_title": "Liberty", "wikipedia_id": "13"},
            {"paragraph_id": 5, "text": "Books", "href": "Book", "wikipedia_title": "Book", "wikipedia_id": "14"},
        ],
        "wikidata_info": {"aliases": ["anarchy"]},
    }  # fmt: skip
    others = [
        {"wikipedia_id": i, "wikipedia_title": t, "text": [f"{t}\n", f"About {t}.\n"], "anchors": []}
        for i, t in (("13", "Liberty"), ("14", "Book"))
    ]
    file = tmp_path / "kilt.json"
    file.write_text("".join(json.dumps(p) + "\n" for p in (page, *others)))
    corpus = store(tmp_path, "kilt", path=str(file))
    found = corpus.named("anarchy")
    assert found is not None
    assert (found.id, found.text) == ("12", "A philosophy near Liberty.\n\nHistory\n\nSee Liberty again.")
    assert links(corpus, "Anarchism") == ["Liberty"]


def test_markdown_and_html_link_by_file(tmp_path: Path) -> None:
    (tmp_path / "md" / "sub").mkdir(parents=True)
    (tmp_path / "md" / "a.md").write_text(
        "---\nx: 1\n---\n# Alpha\n\nSee [beta](sub/b.md), [w](https://e.org), [[c|C]].\n"
    )
    (tmp_path / "md" / "sub" / "b.md").write_text("# Beta\n\nBack to [alpha](../a.md#top) ![image](x.png).\n")
    (tmp_path / "md" / "c.md").write_text("no heading, but text\n")
    corpus = store(tmp_path, "markdown", path=str(tmp_path / "md"))
    assert (links(corpus, "Alpha"), links(corpus, "Beta")) == (["Beta", "c"], ["Alpha"])
    assert corpus.find("a.md").text == "# Alpha\n\nSee beta, w, C."  # type: ignore[union-attr]
    (tmp_path / "html").mkdir()
    (tmp_path / "html" / "a.html").write_text(
        "<html><head><title>Alpha &amp; co</title><style>x{}</style></head><body>"
        "<p>Go to <a href='b.html?x#y'>beta</a>.<script>no()</script><p>End<br>line"
    )
    (tmp_path / "html" / "c.html").write_text(
        "<!doctype html><meta charset=utf-8><title>Gamma</title><style>x{}</style><noscript>no</noscript><p>Minified"
    )
    (tmp_path / "html" / "d.html").write_text("<html><head>\n<title>Delta</title>\n<body><h1>D</h1><p>No end of head")
    (tmp_path / "html" / "b.html").write_text("<h1>Beta</h1><p>text <a href='a.html'>back</a></p>")
    corpus = store(tmp_path, "html", path=str(tmp_path / "html"))
    assert (links(corpus, "Alpha & co"), links(corpus, "Beta")) == (["Beta"], ["Alpha & co"])
    assert [(p.title, p.text) for p in corpus.pages([1, 3, 4])] == [
        ("Alpha & co", "Go to beta.\n\nEnd\nline"),
        ("Gamma", "Minified"),
        ("Delta", "D\n\nNo end of head"),
    ]


def test_page_without_an_id_has_its_title_for_one(tmp_path: Path) -> None:
    found = [{"id": None, "title": "A", "text": "a"}, {"id": None, "title": "B", "text": "b"}]
    found += [{"title": "C", "text": "c"}, {"id": 0, "title": "D", "text": "d"}]
    corpus = store(tmp_path, "jsonl", path=str(write_pages(tmp_path / "c.jsonl", found)))
    assert [corpus.page(n).id for n in range(1, 5)] == ["A", "B", "C", "0"]


BROKEN = [
    (b'{"id": "x", "title": "X", "text": "good"}', None),
    (b'{"id": "y", "title": "Y", ', "2:27: not JSON: expecting property name enclosed in double quotes"),
    (b'{"id": "z", "title": "Z", "text": "\xff"}', "3:36: byte 36 of the line is not UTF-8"),
    (b'{"id": "e", "title": "E", "text": "  "}', "4: the page has no text"),
    (b'{"id": "t", "text": "no title"}', "5: `title` is missing or not text"),
    (b"[1, 2]", "6: not a JSON object"),
    (b'{"id": "x", "title": "again", "text": "same id"}', "7: the id `x` is that of an earlier page"),
    (b'{"id": "s", "title": "S", "text": "\\ud800"}', "8: it has half of a surrogate pair"),
    (b'{"id": "long", "text": "' + b"a" * 5000 + b'"}', "9: the line has more than 4096 bytes (`max_page_bytes`)"),
    (b'{"id": "l", "title": "L", "text": "link", "links": ["\\ud800"]}', "10: it has half of a surrogate pair"),
    (b'{"id": "a", "title": "A", "text": "anchor", "links": [{"target": "x", "anchor": "\\ud800"}]}',
     "11: it has half of a surrogate pair"),
    (b"[" * 3000, "12: not JSON that can be read: too deep, or a number too long"),
]  # fmt: skip


def test_everything_broken_is_said_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "c.jsonl"
    file.write_bytes(b"\n".join(line for line, _ in BROKEN))
    with pytest.raises(LtrlError) as caught:
        store(tmp_path, "jsonl", path=str(file), max_page_bytes=4096)
    said = [d.message for d in caught.value.diagnostics]
    assert said == [f"{file}:{problem}" for _, problem in BROKEN if problem]
    assert caught.value.diagnostics[0].hint == "`broken: skip` leaves them out and counts them"


def test_everything_broken_is_skipped_and_counted_if_one_wants(tmp_path: Path) -> None:
    file = tmp_path / "c.jsonl"
    file.write_bytes(b"\n".join(line for line, _ in BROKEN))
    corpus = store(tmp_path, "jsonl", path=str(file), max_page_bytes=4096, broken="skip")
    assert (corpus.num_pages, corpus.facts["num_skipped"]) == (1, 11)
    assert corpus.facts["skipped"] == [f"{file}:{problem}" for _, problem in BROKEN if problem]


def test_page_of_200_megabytes_is_passed_over_in_little_memory(tmp_path: Path) -> None:
    import resource

    file = tmp_path / "c.jsonl"
    with file.open("wb") as out:
        out.write(b'{"id": "huge", "title": "H", "text": "')
        for _ in range(200):
            out.write(b"b" * (1 << 20))
        out.write(b'"}\n{"id": "x", "title": "X", "text": "good"}\n')
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    corpus = store(tmp_path, "jsonl", path=str(file), broken="skip")
    more_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    file.unlink()
    assert (corpus.num_pages, corpus.facts["num_skipped"]) == (1, 1)
    assert more_mb < 100


def test_corpus_that_is_not_there_or_empty(tmp_path: Path) -> None:
    with pytest.raises(LtrlError, match="there is no corpus"):
        store(tmp_path, "jsonl", path=str(tmp_path / "none.jsonl"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(LtrlError, match=r"has no file `\*.md` or `\*.markdown`"):
        store(tmp_path, "markdown", path=str(tmp_path / "empty"))
    (tmp_path / "e.jsonl").write_text("\n")
    with pytest.raises(LtrlError, match="the corpus has no page"):
        store(tmp_path, "jsonl", path=str(tmp_path / "e.jsonl"))


def test_same_content_is_indexed_once_wherever_it_lies(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_pages(tmp_path / name / "c.jsonl", pages(30))
    first = store(tmp_path, "jsonl", path=str(tmp_path / "one/c.jsonl"))
    time = first.path.stat().st_mtime_ns
    second = store(tmp_path, "jsonl", path=str(tmp_path / "two/c.jsonl"), licence="CC0-1.0")
    assert (second.path, second.path.stat().st_mtime_ns) == (first.path, time)
    write_pages(tmp_path / "two/c.jsonl", pages(31))
    assert store(tmp_path, "jsonl", path=str(tmp_path / "two/c.jsonl")).num_pages == 31


def test_index_that_was_cut_off_goes_on_after_its_last_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_pages(tmp_path / "c.jsonl", pages(50))
    whole = store(tmp_path / "whole", "jsonl", path=str(file))
    monkeypatch.setattr("ltrl.dataset.index.BATCH", 2000)
    lines = file.read_text().splitlines(keepends=True)
    stat = file.stat()
    broken = [*lines[:30], "{\n", *lines[30:]]
    file.write_text("".join(broken))
    with pytest.raises(LtrlError):
        store(tmp_path / "cut", "jsonl", path=str(file))
    assert [p.name.endswith(".part") for p in (tmp_path / "cut/corpora").glob("*.sqlite*")] == [True]
    file.write_text("".join(lines))
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    again = store(tmp_path / "cut", "jsonl", path=str(file))
    assert again.facts == whole.facts
    assert [again.page(n) for n in range(1, 51)] == [whole.page(n) for n in range(1, 51)]


def test_search_ranks_by_bm25_and_equals_by_number(tmp_path: Path) -> None:
    texts = ["red apple", "green apple", "red red red", "blue", "red apple"]
    found = [{"id": str(i), "title": f"t{i}", "text": text} for i, text in enumerate(texts, 1)]
    corpus = store(tmp_path, "jsonl", path=str(write_pages(tmp_path / "c.jsonl", found)))
    assert corpus.search("a red apple?", 10) == [1, 5, 3, 2]
    assert corpus.search("a red apple?", 1) == [1]
    assert corpus.search('"quoted OR NEAR( syntax* -', 10) == []
    assert corpus.search("?!", 10) == []


class Writing(Progress):
    """Somebody adds a page to a file while it is read."""

    def __init__(self, file: Path) -> None:
        super().__init__(is_quiet=True)
        self.file = file

    @contextmanager
    def counting(self, what: str, total: int | None = None, *, done: int = 0) -> Iterator[Callable[[int], None]]:
        with super().counting(what, total, done=done) as step:
            yield step
        if what == "indexing pages":
            with self.file.open("a") as file:
                file.write('{"id": "late", "title": "Late", "text": "late"}\n')


def test_corpus_that_changes_while_it_is_read_is_none(tmp_path: Path) -> None:
    file = write_pages(tmp_path / "c.jsonl", pages(20))
    section = load("corpus", "jsonl").Options(backend="jsonl", path=str(file))
    with pytest.raises(LtrlError, match=r"the corpus file `.*c.jsonl` changed while it was read"):
        index(section, tmp_path / "corpora", Writing(file))
    assert not [*(tmp_path / "corpora").glob("*.sqlite*")]
    assert index(section, tmp_path / "corpora", QUIET).num_pages == 21


def test_walk_over_cycles_and_dead_ends_repeats_no_page(tmp_path: Path) -> None:
    text = "words enough to be a page of a walk"
    ring = [
        {"id": f"r{i}", "title": f"r{i}", "text": text, "links": [f"r{(i + 1) % 40}", "end", f"r{i}"]}
        for i in range(40)
    ]
    corpus = store(
        tmp_path,
        "jsonl",
        path=str(write_pages(tmp_path / "c.jsonl", [*ring, {"id": "end", "title": "end", "text": text}])),
    )
    options = load("walk", "random").Options
    section = options(backend="random", hops=3, min_links=2, min_characters=1, paths_per_walk=4)
    backend = load("walk", "random")(section)
    paths = walk(corpus, backend, section, 0, Random(3)).paths
    assert 1 <= len(paths) <= 4
    seen = [page for path in paths for page in path]
    assert len(seen) == len(set(seen))
    for path in paths:
        assert len(path) == 4
        for here, there in pairwise(path):
            assert there in links(corpus, here)
    with pytest.raises(Rejected, match="dead ends"):
        walk(corpus, backend, options(backend="random", hops=60, min_links=2, min_characters=1), 0, Random(3))
    with pytest.raises(LtrlError, match="none of 200 random pages links to 9 others"):
        walk(corpus, backend, options(backend="random", min_links=9, min_characters=1), 0, Random(3))
    with pytest.raises(LtrlError, match="the corpus has no page `nowhere`"):
        walk(corpus, backend, options(backend="random", starts=("nowhere",)), 0, Random(3))


def regions(folder: Path) -> Corpus:
    """Two regions of 30 pages, each page linked to the next six of its own and, through one page, to the other."""
    text = "words enough to be a page of a walk"

    def page(region: str, i: int) -> dict[str, Any]:
        other = {"a": "b", "b": "a"}[region]
        near = [f"{region}{(i + step) % 30}" for step in range(1, 7)]
        return {"id": f"{region}{i}", "title": f"{region}{i}", "text": text, "links": [*near, f"bridge {other}"]}

    bridges = [{"id": f"bridge {r}", "title": f"bridge {r}", "text": text, "links": [f"{r}{i}" for i in range(30)]}
               for r in "ab"]  # fmt: skip
    return store(
        folder,
        "jsonl",
        path=str(write_pages(folder / "c.jsonl", [page(r, i) for r in "ab" for i in range(30)] + bridges)),
    )


class Homebody:
    """Chooses a page of its region, and so never leaves it."""

    concurrency = None

    def choose(self, _: Any, candidates: Any, __: Random) -> int:
        return min(range(len(candidates)), key=lambda i: (candidates[i].page.title.startswith("bridge"), i))


def test_mad_walks_lead_a_walk_out_of_the_region_that_its_chooser_never_leaves(tmp_path: Path) -> None:
    corpus, options = regions(tmp_path), load("walk", "random").Options
    section = options(backend="random", hops=3, min_characters=1, paths_per_walk=6, starts=("a0",))
    walked = walk(corpus, Homebody(), section, 0, Random(1))
    assert {path[0][0] for path in walked.paths} == {"a", "b"}
    for path in walked.paths:
        assert len({page[0] for page in path}) == 1, "a path itself is chosen"
    assert walked.mad_walks == len(walked.paths) - 1 == 5
    assert (walked.mad_steps, walked.dead_ends) == (0, 0)
    assert walk(corpus, Homebody(), section, 0, Random(1)) == walked
    alone = walk(corpus, Homebody(), options(**{**section.model_dump(), "paths_per_walk": 1}), 0, Random(1))
    assert (alone.paths, alone.mad_walks) == (walked.paths[:1], 0)


def test_mad_steps_are_chosen_by_nobody(tmp_path: Path) -> None:
    corpus, options = regions(tmp_path), load("walk", "random").Options

    def walked(share: float) -> Any:
        section = options(backend="random", hops=3, min_characters=1, paths_per_walk=6, starts=("a0",), mad_steps=share)
        return walk(corpus, Homebody(), section, 0, Random(2))

    assert walked(0.0).mad_steps == 0
    assert 0 < walked(0.3).mad_steps < 18
    all_mad = walked(1.0)
    assert all_mad.mad_steps == 3 * len(all_mad.paths)
    for path in all_mad.paths:
        for here, there in pairwise(path):
            assert there in links(corpus, here)


def test_long_texts_are_cut_where_something_ends() -> None:
    assert cut("short", 10) == "short"
    assert cut("one two. three four five", 15) == "one two."
    assert cut("first part\n\nsecond part", 15) == "first part"
    assert cut("a" * 50, 10) == "a" * 10


def test_threads_that_ended_leave_their_connections_to_others(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    corpus = store(tmp_path, "jsonl", path=str(write_pages(tmp_path / "c.jsonl", pages(30))))
    for _ in range(5):
        with ThreadPoolExecutor(3) as pool:
            assert list(pool.map(lambda n: corpus.page(n).number, range(1, 31))) == list(range(1, 31))
    assert len(corpus._opened) <= 4
    corpus.close()
