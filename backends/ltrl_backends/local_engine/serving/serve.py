"""Loads a model and answers for it until SIGTERM or SIGINT; what was accepted is answered first."""

from __future__ import annotations

import logging.config
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltrl.backend import ModelServer, missing_modules
from ltrl.errors import Code, LtrlError, fail
from ltrl.references import reveal

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["serve"]


def serve(model: Path, settings: ModelServer, *, on_listening: Callable[[str], None]) -> None:
    """Serves a checkpoint of this engine or a Hugging Face model directory; `on_listening` is told the URL.

    Raises LtrlError for what can be known before.
    """
    for modules, extra in ((("torch", "transformers"), "local"), (("fastapi", "uvicorn"), "server")):
        if lacking := missing_modules(modules, extra=extra, of="the model server"):
            raise LtrlError(lacking)
    from ltrl.server.access import listen, refuse_open, url_of
    from ltrl.server.logs import CONFIG

    refuse_open(settings.host, settings.token, hint="`--token-file PATH`, or the variable LTRL_MODEL_TOKEN")
    token = reveal(settings.token, what="the server's token").encode() if settings.token else None
    weights, words = _places(model)
    listening = listen(settings.host, settings.port)
    network, tokenizer = _load(weights, words, settings)
    import uvicorn

    from ltrl_backends.local_engine.serving.app import Served, app
    from ltrl_backends.local_engine.serving.batch import Batch

    context = int(getattr(network.config.get_text_config(decoder=True), "max_position_embeddings", 0)) or 2**31
    logging.config.dictConfig(CONFIG)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn ends with the signal again, for us to clean up
    batch = Batch(
        network, end_tokens=_end_tokens(network, tokenizer), num_tokens=len(tokenizer), max_rows=settings.max_batch
    )
    try:
        on_listening(url_of(listening))
        uvicorn.run(
            app(Served(settings.name, batch, tokenizer, context, token)),
            fd=listening.fileno(),
            log_config=None,
            access_log=False,
            backlog=2048,
            timeout_keep_alive=75,
            server_header=False,
        )
    finally:
        batch.close()


def _places(model: Path) -> tuple[Path, Path]:
    """Directories of the weights and of the tokenizer."""
    weights = model / "policy" / "weights"
    if (weights / "config.json").is_file():
        return weights, model / "policy" / "tokenizer"
    if (model / "config.json").is_file():
        return model, model
    hint = "a checkpoint of the embedded engine has `policy/weights/config.json`, a Hugging Face model `config.json`"
    raise fail(Code.UNREADABLE, f"`{model}` holds no model", hint=hint)


def _load(weights: Path, words: Path, settings: ModelServer) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if settings.threads:
        torch.set_num_threads(settings.threads)
    device = settings.device if settings.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise fail(Code.MISSING_EXTRA, "`--device cuda`: PyTorch sees no GPU here", hint="`--device cpu`")
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(words)
        network: Any = AutoModelForCausalLM.from_pretrained(weights, dtype="auto")
    except Exception as error:  # each kind of file has a reader with errors of its own
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise fail(Code.UNREADABLE, f"cannot load the model in `{weights}`: {first}") from error
    if not tokenizer.chat_template:
        raise fail(Code.UNREADABLE, f"the tokenizer in `{words}` has no chat template, chats cannot be answered")
    return network.to(device).eval(), tokenizer


def _end_tokens(network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    ends = network.generation_config.eos_token_id
    known = ends if isinstance(ends, list) else [ends]
    return frozenset(token for token in (*known, tokenizer.eos_token_id) if token is not None)
