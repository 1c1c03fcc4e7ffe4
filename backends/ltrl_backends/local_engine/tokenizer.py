"""The tokenizer of an engine-made model: byte-level BPE in which every word of the task is one token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["CHAT_TEMPLATE", "make_tokenizer"]

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
REASONING = ("<think>", "</think>")

CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n<think>\\n' -}}{%- endif -%}
"""
"""That of the Qwen3 thinking models: the prompt itself opens the reasoning."""


def make_tokenizer(words: Sequence[str], *, max_positions: int) -> PreTrainedTokenizerFast:
    """A tokenizer with Qwen3's chat markers that knows each of the words, and any other text byte by byte.

    The merges are written down, not trained: the same words give the same tokenizer everywhere, at once. Words that
    start with a space come first, so that no merge inside a word forms before the word itself.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    vocabulary = {token: i for i, token in enumerate((PAD, START, END, *REASONING, *sorted(as_bytes.alphabet())))}
    merges: list[tuple[str, str]] = []
    for word in sorted(words, key=lambda w: not w.startswith(" ")):
        ((symbols, _),) = as_bytes.pre_tokenize_str(word)
        for length in range(2, len(symbols) + 1):
            if symbols[:length] not in vocabulary:
                vocabulary[symbols[:length]] = len(vocabulary)
                merges.append((symbols[: length - 1], symbols[length - 1]))
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([PAD, START, END])
    tokenizer.add_tokens(list(REASONING))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        model_max_length=max_positions,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )
