"""A prompt has as many tokens as its pieces: counted from the cache, and by encoding the whole of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from small_corpus import pages, write_pages
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from ltrl.backend import load
from ltrl.dataset.corpus import Corpus
from ltrl.dataset.index import index
from ltrl.dataset.kinds import Counter
from ltrl.dataset.lengths import Lengths
from ltrl.dataset.markup import MARKUPS, body, prompt
from ltrl.dataset.page import Page, clean
from ltrl.dataset.progress import Progress
from ltrl.errors import LtrlError

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PATTERNS = {"gpt2": GPT2, "llama3": LLAMA3, "qwen": QWEN, "o200k": O200K}


def texts() -> list[str]:
    shipped = [prompt(m, "Answer.", [f"{p['title']}\n{p['text']}\n" for p in pages(20)], "?") for m in MARKUPS.values()]
    return shipped * 3  # often enough for what stands between documents to become tokens


def byte_level(pattern: str) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=900, show_progress=False, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(texts(), trainer)
    return tokenizer


def without_pieces() -> Tokenizer:
    """One that merges over everything, as the first SentencePiece models do."""
    tokenizer = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(vocab_size=4000, show_progress=False, max_token_length=40)
    tokenizer.train_from_iterator([text[:3000] for text in texts()], trainer)
    return tokenizer


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpus")
    path = write_pages(folder / "c.jsonl", pages(60))
    section = load("corpus", "jsonl").Options(backend="jsonl", path=str(path))
    return index(section, folder, Progress(is_quiet=True))


def counter(tokenizer: Tokenizer, corpus: Corpus, folder: Path) -> Counter:
    (folder / "tokenizer.json").write_text(tokenizer.to_str())
    backend = load("tokenizer", "json")
    made: Counter = backend(backend.Options(backend="json", path=str(folder))).counter(corpus, folder)
    return made


@pytest.fixture(scope="module", params=PATTERNS)
def lengths(request: pytest.FixtureRequest, corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Lengths:
    folder = tmp_path_factory.mktemp("lengths")
    made = counter(byte_level(PATTERNS[request.param]), corpus, folder)
    return Lengths(made, corpus.num_pages, folder, corpus=corpus.id, max_characters=500)


HOSTILE = [("\u0301a", "\u0338b."), ("</", "/"), ("'s", "'ll\n\n\n  x"), ("1", "2"), ("\u200b", "\ufeff")]
written = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=60).map(clean).filter(bool)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(found=st.lists(st.tuples(written, written), min_size=1, max_size=5), question=written)
@example(found=HOSTILE, question="?")
def test_whole_has_the_tokens_of_its_pieces_whatever_the_texts_are(
    lengths: Lengths, found: list[tuple[str, str]], question: str
) -> None:
    documents = [Page(0, str(i), title, text) for i, (title, text) in enumerate(found)]
    for markup in MARKUPS.values():
        whole = prompt(markup, "Answer it.", [body(page, 500) for page in documents], question)
        pieces = lengths.head(markup, "Answer it.") + lengths.tail(markup, question)
        pieces += lengths.frames(markup, len(documents)) + sum(lengths.of(documents))
        assert lengths.whole(whole) == pieces


def test_tokenizers_with_pieces_are_known_and_others_found_out(
    lengths: Lengths, corpus: Corpus, tmp_path: Path
) -> None:
    some = corpus.pages(range(1, 30))
    assert lengths.is_additive(some)
    merging = counter(without_pieces(), corpus, tmp_path)
    assert not Lengths(merging, corpus.num_pages, tmp_path, corpus=corpus.id, max_characters=500).is_additive(some)


def test_tokenizer_that_merges_over_documents_still_gets_exact_lengths(tmp_path: Path) -> None:
    from ltrl.dataset.build import build
    from ltrl.dataset.model import Dataset

    path = write_pages(tmp_path / "c.jsonl", pages(120))
    (tmp_path / "tokenizer.json").write_text(without_pieces().to_str())
    spec = {
        "kind": "dataset",
        "name": "merging",
        "records": 3,
        "tokens": 1500,
        "corpus": {"backend": "jsonl", "path": str(path)},
        "walk": {"backend": "random", "hops": 2, "min_links": 2, "min_characters": 20},
        "tokenizer": {"backend": "json", "path": str(tmp_path)},
    }
    dataset = Dataset.model_validate_json(json.dumps(spec))
    built = build(dataset, project=tmp_path, workers=2, progress=Progress(is_quiet=True))
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for line in (built.path / "data.jsonl").read_text().splitlines():
        record = json.loads(line)
        whole = len(tokenizer.encode(record["input_messages"][0]["content"]).ids)
        assert whole == record["metadata"]["provenance"]["num_tokens"] <= 1500


def test_each_document_is_tokenized_once_ever(corpus: Corpus, tmp_path: Path) -> None:
    class Counting:
        identity = "counting"

        def __init__(self) -> None:
            self.texts: list[str] = []

        def count(self, texts: list[str]) -> list[int]:
            self.texts += texts
            return [len(text) for text in texts]

    some = corpus.pages(range(1, 11))
    for expected in (10, 0):  # the second time in another process, as far as the cache knows
        made = Counting()
        lengths = Lengths(made, corpus.num_pages, tmp_path, corpus=corpus.id, max_characters=500)
        del made.texts[:]
        assert lengths.of(some) == lengths.of(some) == [len(body(page, 500)) for page in some]
        assert len(made.texts) == expected


def test_cache_has_its_place_on_the_disk_before_it_is_written(tmp_path: Path) -> None:
    """A hole in a mapped file on a full disk is the end of the process, without a word."""
    words = load("tokenizer", "words")
    counter = words(words.Options(backend="words")).counter(None, tmp_path)
    Lengths(counter, 1 << 20, tmp_path, corpus="c", max_characters=500)
    [path] = tmp_path.glob("*.lengths")
    assert path.stat().st_size == 4 * ((1 << 20) + 1)
    assert path.stat().st_blocks * 512 >= path.stat().st_size


def test_vocabulary_of_a_corpus_is_made_once_and_the_same_again(corpus: Corpus, tmp_path: Path) -> None:
    backend = load("tokenizer", "corpus-bpe")
    identities = set()
    for name in ("a", "b", "a"):
        (tmp_path / name).mkdir(exist_ok=True)
        made = backend(backend.Options(backend="corpus-bpe", vocabulary=600)).counter(corpus, tmp_path / name)
        identities.add(made.identity)
    assert len(identities) == 1


@pytest.mark.parametrize(
    ("content", "said"), [(None, "cannot read the tokenizer"), ("{}", "is no file of the tokenizers")]
)
def test_tokenizer_file_that_is_none(corpus: Corpus, tmp_path: Path, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    backend = load("tokenizer", "json")
    with pytest.raises(LtrlError, match=said):
        backend(backend.Options(backend="json", path=str(tmp_path / "tokenizer.json"))).counter(corpus, tmp_path)
