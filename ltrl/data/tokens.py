"""Lengths of prompts in tokens of the model that will read them, or, where its tokenizer is not at hand, an estimate.

The counter says which of the two it is: an estimate is never taken for a count.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ltrl.errors import Code, fail

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from ltrl.samples import Sample

__all__ = ["CHARACTERS_PER_TOKEN", "Counter", "counter", "tokenizer_file"]

CHARACTERS_PER_TOKEN = 4.0
"""Of English prose under the vocabularies of 100,000 and more tokens that today's models have: 4.0 to 4.6."""

FILE = "tokenizer.json"


@dataclass(frozen=True, slots=True)
class Counter:
    """What counts tokens; small, so that it can be sent to another process."""

    tokenizer: Path | None
    """A `tokenizer.json`; None: lengths are estimates."""
    model: str = ""
    """Whose tokens are meant."""
    template: str | None = None
    """The model's chat template; None: the messages are counted without one."""

    @property
    def is_exact(self) -> bool:
        """Whether lengths are counts."""
        return self.tokenizer is not None

    def texts(self, texts: Sequence[str]) -> list[int]:
        """The length of each text."""
        if self.tokenizer is None:
            return [round(len(text) / CHARACTERS_PER_TOKEN) for text in texts]
        encoded = _loaded(self.tokenizer).encode_batch_fast(list(texts), add_special_tokens=False)
        return [len(one.ids) for one in encoded]

    def prompts(self, samples: Sequence[Sample]) -> list[int]:
        """The length of each prompt as the model gets it."""
        return self.texts([self._prompt(sample) for sample in samples])

    def _prompt(self, sample: Sample) -> str:
        if self.template is None:
            return "\n".join(content for _, content in sample.messages)
        from ltrl.data.template import render

        return render(self.template, sample.messages)


def counter(model: str = "", *, project: Path, revision: str | None = None, given: Path | None = None) -> Counter:
    """The counter of a model's tokens.

    `given` is a `tokenizer.json` or a directory with one; else it is looked for where the model is: a directory, the
    project's `models/`, the cache of the Hugging Face hub. Nothing is downloaded. Raises LtrlError when a given one
    cannot be used, or when the package `tokenizers` is missing for one that is there.
    """
    from ltrl.data.template import chat_template

    if given is not None and not (given / FILE if given.is_dir() else given).is_file():
        raise fail(Code.UNREADABLE, f"there is no tokenizer at `{given}`", hint=f"a `{FILE}`, or a directory with one")
    found = (given / FILE if given.is_dir() else given) if given else tokenizer_file(model, project, revision)
    if found is None:
        return Counter(None, model)
    found = found.absolute()
    _loaded(found)
    return Counter(found, model or str(given), chat_template(found.parent))


def tokenizer_file(model: str, project: Path, revision: str | None = None) -> Path | None:
    """Where the tokenizer of a model is on this machine; None where it is not."""
    if not model:
        return None
    for place in (project / model, project / "models" / model, project / "models" / model.rpartition("/")[2]):
        if (place / FILE).is_file():
            return place / FILE
    try:
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError
    except ImportError:
        return None
    try:
        cached = try_to_load_from_cache(model, FILE, revision=revision)
    except HFValidationError:
        return None
    return Path(cached) if isinstance(cached, str) else None


@cache
def _loaded(path: Path) -> Tokenizer:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")  # silences its warning about forks, of which there are none
    try:
        from tokenizers import Tokenizer
    except ImportError:
        hint = "`pip install 'ltrl[data]'`, or leave the tokenizer out for estimates"
        raise fail(Code.MISSING_EXTRA, f"counting with `{path}` needs `tokenizers`", hint=hint) from None
    try:
        found = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        said = str(error).partition("\n")[0]
        raise fail(Code.BAD_DATA, f"`{path}` is no tokenizer that `tokenizers` can read: {said}") from None
    found.no_truncation()
    found.no_padding()
    return found
