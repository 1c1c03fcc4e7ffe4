"""The model of a rehearsal: the base model's architecture with random weights, and its tokenizer where that is at hand.

Made once in a run directory and found there by later attempts.
"""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

__all__ = ["make"]

TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}"
)
"""ChatML, for the tokenizer of bytes."""


def make(description: Path, target: Path) -> str:
    """Writes the model that a bundle's description asks for, unless it is there; says in a sentence what it is."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CLASSES

    wanted: dict[str, Any] = json.loads(description.read_text(encoding="utf-8"))
    if target.is_dir():
        return f"the small model in `{target}`, made by an earlier attempt"
    types = [kind for kind, name in CLASSES.items() if name == wanted["architecture"]]
    kind = types[0] if types else "qwen3"
    tokenizer, whose = _tokenizer(wanted["tokenizer"])
    known = AutoConfig.for_model(kind)
    sizes = {name: size for name, size in wanted["sizes"].items() if hasattr(known, name)}
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **sizes, vocab_size=len(tokenizer), **ids)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    model.save_pretrained(draft)
    tokenizer.save_pretrained(draft)
    draft.rename(target)
    count = sum(p.numel() for p in model.parameters())
    return f"a {kind} of {count:,} random weights ({config.num_hidden_layers} layers) with {whose}"


def _tokenizer(name: str) -> tuple[Any, str]:
    """The base model's tokenizer, from the cache or the hub; else one of bytes."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name, trust_remote_code=True), f"the tokenizer of `{name}`"
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        return _bytes(), f"a tokenizer of bytes, because that of `{name}` is not here: {reason}"


def _bytes() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bare = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    special = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    extra = ["<|im_start|>", "<think>", "</think>"]
    made = PreTrainedTokenizerFast(tokenizer_object=bare, additional_special_tokens=extra, **special)
    made.chat_template = TEMPLATE
    return made
