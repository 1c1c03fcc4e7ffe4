"""Tokenizer backends: `json` (a file of the `tokenizers` library), `corpus-bpe`, and `words` and `bytes` for trials."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from ltrl.backend import Note, missing_modules
from ltrl.dataset.corpus import Corpus
from ltrl.dataset.kinds import Counter, TokenizerSection
from ltrl.errors import Code, LtrlError, fail

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["Bytes", "CorpusBpe", "JsonFile", "Words"]

SAMPLE = 64 << 20
"""Characters of a corpus that a vocabulary is made from."""


class JsonFile:
    """The `tokenizer.json` of the model that will be trained."""

    api: ClassVar[int] = 1

    class Options(TokenizerSection):
        """Options of the `json` tokenizer."""

        backend: Literal["json"]
        """This backend."""
        path: Annotated[str, Note]
        """The file, or a model's directory; a relative path starts at the project."""

    def __init__(self, options: Options) -> None:
        self._path = Path(os.environ.get("LTRL_PROJECT_DIR", "")) / options.path

    def counter(self, corpus: Corpus, folder: Path) -> Counter:
        """Counts with the file."""
        path = self._path / "tokenizer.json" if self._path.is_dir() else self._path
        return _Fast(path)


class CorpusBpe:
    """A byte-level BPE made from the corpus itself, for data sets that no model is chosen for yet."""

    api: ClassVar[int] = 1

    class Options(TokenizerSection):
        """Options of the `corpus-bpe` tokenizer."""

        backend: Literal["corpus-bpe"]
        """This backend."""
        vocabulary: Annotated[int, Field(ge=512, le=262_144)] = 16_384
        """Tokens."""

    def __init__(self, options: Options) -> None:
        self._size = options.vocabulary

    def counter(self, corpus: Corpus, folder: Path) -> Counter:
        """Counts with a vocabulary that is made once and kept."""
        _need()
        path = folder / f"{corpus.id[:16]}.bpe-{self._size}.json"
        if not path.exists():
            self._make(corpus, path)
        return _Fast(path)

    def _make(self, corpus: Corpus, path: Path) -> None:
        from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

        # How Qwen 2 and 3 split text; their vocabulary is larger.
        pattern = Regex(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
            r"|\s*[\r\n]+|\s+(?!\S)|\s+"
        )
        tokenizer = Tokenizer(models.BPE())
        split = pre_tokenizers.Split(pattern, "isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=self._size, show_progress=False, initial_alphabet=alphabet)
        tokenizer.train_from_iterator(_sample(corpus), trainer)
        part = path.with_suffix(f".part-{os.getpid()}")
        tokenizer.save(str(part))
        part.replace(path)


class Words:
    """Words, numbers and signs; for trials."""

    api: ClassVar[int] = 1

    class Options(TokenizerSection):
        """Options of the `words` tokenizer."""

        backend: Literal["words"]
        """This backend."""

    def __init__(self, options: Options) -> None: ...

    def counter(self, corpus: Corpus, folder: Path) -> Counter:
        """Counts runs of letters and digits, and every other sign that is no white space."""
        return _Words()


class Bytes:
    """Bytes of UTF-8: what a model without a vocabulary reads."""

    api: ClassVar[int] = 1

    class Options(TokenizerSection):
        """Options of the `bytes` tokenizer."""

        backend: Literal["bytes"]
        """This backend."""

    def __init__(self, options: Options) -> None: ...

    def counter(self, corpus: Corpus, folder: Path) -> Counter:
        """Counts bytes."""
        return _Bytes()


class _Fast:
    """A file of the `tokenizers` library, which works on all of a batch at the same time."""

    def __init__(self, path: Path) -> None:
        _need()
        from tokenizers import Tokenizer

        try:
            raw = path.read_bytes()
        except OSError as error:
            hint = "the file `tokenizer.json` of the model; a relative path starts at the project"
            raise fail(
                Code.BAD_DATA, f"cannot read the tokenizer `{path}`: {(error.strerror or '').lower()}", hint=hint
            ) from None
        try:
            self._tokenizer: Tokenizer = Tokenizer.from_str(raw.decode())
        except Exception as error:  # the library raises nothing narrower
            raise fail(Code.BAD_DATA, f"`{path}` is no file of the tokenizers library: {error}") from None
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.identity = f"tokenizer.json sha256:{hashlib.sha256(raw).hexdigest()[:16]}"

    def count(self, texts: Sequence[str]) -> list[int]:
        return [len(found) for found in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


class _Words:
    identity = "words"
    _pattern = re.compile(r"\w+|[^\w\s]")

    def count(self, texts: Sequence[str]) -> list[int]:
        return [sum(1 for _ in self._pattern.finditer(text)) for text in texts]


class _Bytes:
    identity = "bytes"

    def count(self, texts: Sequence[str]) -> list[int]:
        return [len(text.encode()) for text in texts]


def _sample(corpus: Corpus) -> Iterator[str]:
    size = 0
    for text in corpus.texts():
        yield text
        size += len(text)
        if size > SAMPLE:
            return


def _need() -> None:
    if (missing := missing_modules(["tokenizers"], extra="data", of="counting tokens")) is not None:
        raise LtrlError(missing)
