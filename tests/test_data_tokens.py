"""Lengths in the target model's tokens: by its own tokenizer and chat template, or plainly an estimate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ltrl.data.check import check
from ltrl.data.facts import Looks
from ltrl.data.template import render
from ltrl.data.tokens import Counter, counter
from ltrl.errors import Code, LtrlError
from ltrl.samples import Sample

TEMPLATE = (
    "{%- for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content | trim }}<|im_end|>\n{% endfor %}"
    "{%- if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
MESSAGES = (("system", "Answer."), ("user", " Who said “it is”?\n"))


def sample(text: str = "Who said so?") -> Sample:
    return Sample("a", (("user", text),), "Who?", "he", ("him",))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model's directory with a tokenizer of words and a chat template."""
    tokenizers = pytest.importorskip("tokenizers")
    words = {"[UNK]": 0, "Who": 1, "said": 2, "so": 3, "?": 4}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.enable_truncation(3)  # some are shipped so
    directory = tmp_path / "models" / "small"
    directory.mkdir(parents=True)
    made.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    return directory


def test_a_prompt_is_counted_as_the_engine_counts_it(model: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    found = counter("small", project=tmp_path)
    assert (found.tokenizer, found.is_exact) == (model / "tokenizer.json", True)
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(model / "tokenizer.json"), chat_template=TEMPLATE)
    asked = sample("Who said so? " * 100)
    text = theirs.apply_chat_template([{"role": "user", "content": asked.messages[0][1]}], tokenize=False,
                                      add_generation_prompt=True)  # fmt: skip
    theirs.backend_tokenizer.no_truncation()
    assert found.prompts([asked]) == [len(theirs(text, add_special_tokens=False)["input_ids"])]
    assert found.prompts([asked])[0] > 400


def test_templates_are_rendered_as_transformers_does(model: Path) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(model / "tokenizer.json"), chat_template=TEMPLATE)
    chat = [{"role": role, "content": content} for role, content in MESSAGES]
    assert render(TEMPLATE, MESSAGES) == theirs.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)


def test_a_template_that_refuses_is_said() -> None:
    with pytest.raises(LtrlError, match="does not take these messages: only one"):
        render("{{ raise_exception('only one') }}", MESSAGES)


def test_without_a_tokenizer_lengths_are_estimates_and_say_so(tmp_path: Path) -> None:
    found = counter("someone/model", project=tmp_path)
    assert found == Counter(None, "someone/model")
    assert not found.is_exact
    assert found.prompts([sample("word " * 800)]) == [1000]


def record(number: int, num_words: int) -> dict[str, Any]:
    question = f"Who said so in the year {number} of the calendar {number}?"
    info = {"question": question, "rubrics": [], "dataset_name": "longqa"}
    prompt = [{"role": "user", "content": f"{'said ' * num_words}{question}"}]
    return {"source": "longqa", "input_messages": prompt, "label": "he", "metadata": {"extra_reward_info": info}}


@pytest.mark.parametrize(
    ("policy", "kind"), [("skip", "overlong"), ("drop-documents", "overlong"), ("error", "refused")]
)
def test_prompts_are_checked_against_the_context(model: Path, tmp_path: Path, policy: Any, kind: str) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(record(n, size)) + "\n" for n, size in enumerate((10, 900, 20))))
    looks = Looks(counter("small", project=tmp_path), longest=500, policy=policy, rubric=False)
    report = check([path], looks)
    assert (report.num_overlong, report.num_trained) == (1, 2)
    [found] = [f for f in report.findings if f.kind in ("overlong", "refused")]
    assert (found.kind, found.line, found.field, found.is_error) == (kind, 2, "input_messages", policy == "error")
    assert found.message.startswith(
        f"the prompt has {report.lengths[1]:,} tokens, {report.lengths[1] - 500:,} too many"
    )


@pytest.mark.parametrize(("text", "code"), [(None, Code.UNREADABLE), ("{", Code.BAD_DATA), ("[]", Code.BAD_DATA)])
def test_a_tokenizer_that_cannot_be_used_is_said(tmp_path: Path, text: str | None, code: Code) -> None:
    path = tmp_path / "tokenizer.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(LtrlError) as caught:
        counter(project=tmp_path, given=path)
    assert caught.value.diagnostics[0].code is code


def test_the_nemo_rl_engine_drops_documents_until_the_prompt_fits(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    transformers = pytest.importorskip("transformers")
    from ltrl_backends.nemo_rl.dataset import LtrlDataset

    whole = tokenizers_file(transformers, model)
    documents = [
        {"id": f"d{n}", "title": "", "tier": tier, "text": f"said {n} " + "so " * 40}
        for n, tier in enumerate(("tier-2", "gold", "tier-1"))
    ]
    long = record(1, 0)
    question = long["metadata"]["extra_reward_info"]["question"]
    text = "".join(f"<doc {n}>\n{d['text']}\n</doc>\n" for n, d in enumerate(documents))
    long["input_messages"][0]["content"] = f"Documents:\n{text}{question}"
    long["metadata"]["documents"] = documents
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in (long, record(2, 5), record(3, 900))))
    section = {"backend": "longtrace", "path": str(path), "overlong": "drop-documents"}
    made = LtrlDataset(task_name="train", section=section, tokenizer=str(whole), max_prompt_tokens=135)
    assert [row["info"]["uid"] for row in made.dataset] == ["1", "2"]
    prompt = made.dataset[0]["messages"][0]["content"]
    kept = "".join(f"<doc {n}>\n{documents[n]['text']}\n</doc>\n" for n in (1, 2))
    assert prompt == f"Documents:\n{kept}{question}"
    said = "train: left out 1 of 3 samples, dropped 1 documents of 1 samples; longer than 135 tokens\n"
    assert capsys.readouterr().err.endswith(said)


def tokenizers_file(transformers: Any, model: Path) -> Path:
    """The model's directory as `transformers` writes it."""
    whole = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(model / "tokenizer.json"), chat_template=TEMPLATE, unk_token="[UNK]"
    )
    whole.backend_tokenizer.no_truncation()
    whole.save_pretrained(str(model / "whole"))
    return model / "whole"
