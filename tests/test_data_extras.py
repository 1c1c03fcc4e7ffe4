"""What needs a package that is not installed says so, with the command that installs it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_corpus import pages, write_pages

from ltrl.backend import create, load
from ltrl.data import hub, tokens
from ltrl.data.records import count, entries
from ltrl.dataset.index import index
from ltrl.dataset.progress import Progress
from ltrl.errors import Code, LtrlError


def made(kind: str, backend: str, **options: Any) -> Any:
    return create(load(kind, backend).Options(backend=backend, **options))


def counting(folder: Path, backend: str, **options: Any) -> Any:
    section = load("corpus", "jsonl").Options(backend="jsonl", path=str(write_pages(folder / "c.jsonl", pages(20))))
    corpus = index(section, folder, Progress(is_quiet=True))
    return made("tokenizer", backend, **options).counter(corpus, folder)


ENDPOINT = {"base_url": "http://127.0.0.1:9/v1", "model": "m"}
COMMIT = "0" * 40
NEEDS: list[tuple[str, str, Callable[[Path], Any]]] = [
    (
        "httpx",
        "a stage with a language model needs `httpx`, not installed here",
        lambda _: made("walk", "llm", model=ENDPOINT),
    ),
    (
        "httpx",
        "a stage with a language model needs `httpx`, not installed here",
        lambda _: made("question", "llm", model=ENDPOINT),
    ),
    (
        "httpx",
        "a stage with a language model needs `httpx`, not installed here",
        lambda _: made("agent", "llm", model=ENDPOINT),
    ),
    (
        "httpx",
        "the `http` search needs `httpx`, not installed here",
        lambda _: made("search", "http", url="http://127.0.0.1:9"),
    ),
    (
        "tokenizers",
        "counting tokens needs `tokenizers`, not installed here",
        lambda at: counting(at, "json", path=str(at / "t.json")),
    ),
    ("tokenizers", "counting tokens needs `tokenizers`, not installed here", lambda at: counting(at, "corpus-bpe")),
    (
        "tokenizers",
        "counting with `{at}/t.json` needs `tokenizers`",
        lambda at: tokens.counter("m", project=at, given=at / "t.json"),
    ),
    (
        "pyarrow",
        "`{at}/d.parquet` is a Parquet file, which needs `pyarrow`",
        lambda at: list(entries(at / "d.parquet")),
    ),
    ("pyarrow", "`{at}/d.parquet` is a Parquet file, which needs `pyarrow`", lambda at: count(at / "d.parquet")),
    (
        "huggingface_hub",
        "the Hugging Face hub needs the package `huggingface_hub`",
        lambda _: made("data", "hf", repo="a/b", revision=COMMIT),
    ),
    ("huggingface_hub", "the Hugging Face hub needs the package `huggingface_hub`", lambda _: hub.fetch("a/b", "f")),
]


@pytest.mark.parametrize(("package", "message", "use"), NEEDS)
def test_missing_package_is_named_with_the_extra_that_has_it(
    package: str, message: str, use: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # what Python finds where it is not installed
    (tmp_path / "t.json").write_text("{}")
    (tmp_path / "d.parquet").write_bytes(b"PAR1")
    with pytest.raises(LtrlError) as caught:
        use(tmp_path)
    [found] = caught.value.diagnostics
    assert found.code is Code.MISSING_EXTRA
    assert found.message == message.format(at=tmp_path)
    assert found.hint is not None
    assert "pip install 'ltrl[data]'" in found.hint


def test_what_needs_no_package_works_without_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("httpx", "huggingface_hub", "pyarrow", "tokenizers"):
        monkeypatch.setitem(sys.modules, package, None)
    assert counting(tmp_path, "words").count(["two words"]) == [2]
    for kind, backend in (("walk", "random"), ("question", "template"), ("agent", "scripted"), ("search", "bm25")):
        assert made(kind, backend)
    assert len(list(entries(tmp_path / "c.jsonl"))) == 20
