"""From a Debian package to a training: records of 128K tokens from FOLDOC, and a model trained on short ones."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from ltrl.samples import Sample

pytestmark = pytest.mark.training

ROOT = Path(__file__).resolve().parent.parent
LTRL = "import sys; sys.argv[0] = 'ltrl'; from ltrl.cli import main; main()"


def ltrl(home: Path, *words: str) -> str:
    environment = os.environ | {"LTRL_CACHE_DIR": str(home / "cache")}
    command = [sys.executable, "-c", LTRL, *words]
    done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "specs", made / "specs")
    return made


def test_shipped_spec_builds_60_records_of_128k_tokens(home: Path) -> None:
    assert ltrl(home, "data", "build", "specs/data/foldoc.yaml", "-q") == "data/foldoc/data.jsonl\n"
    [path] = (home / "data/corpora").glob("*.bpe-16384.json")
    tokenizer = Tokenizer.from_file(str(path))
    lines = (home / "data/foldoc/data.jsonl").read_text().splitlines()
    tiers: Counter[str] = Counter()
    for number, line in enumerate(lines):
        sample = Sample.from_json(json.loads(line), default_id="-")
        assert sample.provenance is not None
        assert 131_072 - 64 < sample.provenance.num_tokens <= 131_072
        assert len(sample.rubrics) == 8
        tiers.update(passage.tier for passage in sample.passages)
        if number % 12 == 0:
            [(_, text)] = sample.messages
            whole = tokenizer.encode_batch_fast([text], add_special_tokens=False)
            assert len(whole[0]) == sample.provenance.num_tokens
    assert len(lines) == 60
    assert tiers["gold"] == 60 * 9
    assert tiers["tier-1"] > 60 * 9
    card = json.loads((home / "data/foldoc/card.json").read_text())
    named = card["figures"]["distractors_naming_an_entity_percent"]
    assert named["tier-1"] > named["all"] > 20
    assert card["licence"] == "GFDL-1.1-or-later"


SHORT = """\
kind: dataset
name: short
records: 8
tokens: 500
corpus: {backend: dictd, index: /usr/share/dictd/foldoc.index, licence: GFDL-1.1-or-later}
walk: {backend: random, hops: 2}
question: {backend: template, clue_words: [6, 16]}
tokenizer: {backend: json, path: models/tiny}
assembly: {max_characters: 300}
"""
TRAINING = """\
kind: experiment
name: on-short
model: {base: models/tiny, context: {prompt: 560, response: 8}}
data:
  train: {backend: longtrace, path: data/short/data.jsonl}
reward: {backend: rubric, judge: exact}
algorithm: {steps: 2, prompts_per_step: 2, group_size: 2}
optimizer: {lr: 1e-4}
checkpoint: {every_steps: 2}
engine: {name: local}
"""


def test_short_variant_trains_the_embedded_engine(home: Path) -> None:
    make_model(home)
    (home / "specs/data/short.yaml").write_text(SHORT)
    (home / "specs/on-short.yaml").write_text(TRAINING)
    ltrl(home, "data", "build", "specs/data/short.yaml", "-q")
    plan: dict[str, Any] = json.loads(ltrl(home, "plan", "specs/on-short.yaml", "--json"))
    assert plan["data"]["num_samples"] == 8
    ltrl(home, "submit", "specs/on-short.yaml", "--watch")
    [row] = json.loads(ltrl(home, "status", "--json"))
    assert (row["state"], row["step"]) == ("COMPLETED", 2)


def make_model(home: Path) -> None:
    """A model with random weights that reads the corpus's own vocabulary."""
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    from ltrl.backend import load
    from ltrl.dataset.index import index
    from ltrl.dataset.progress import Progress
    from ltrl_backends.local_engine.tokenizer import CHAT_TEMPLATE

    section = load("corpus", "dictd").Options(backend="dictd", index="/usr/share/dictd/foldoc.index")
    corpus = index(section, home / "data/corpora", Progress(is_quiet=True))
    backend = load("tokenizer", "corpus-bpe")
    backend(backend.Options(backend="corpus-bpe", vocabulary=2048)).counter(corpus, home / "data/corpora")
    [path] = (home / "data/corpora").glob("*.bpe-2048.json")
    corpus.close()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(path),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>", "<think>", "</think>"],
        chat_template=CHAT_TEMPLATE,
    )
    tokenizer.save_pretrained(home / "models/tiny")
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    Qwen3ForCausalLM(config).save_pretrained(home / "models/tiny")
