"""Prompts longer than the context: left out, shortened by whole documents, or refused; and how engines do it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from ltrl.data.overlong import Fitted, fit
from ltrl.errors import Code, LtrlError
from ltrl.samples import Passage, Sample

TIERS = ("tier-2", "gold", "tier-1", "tier-2", "gold")
TEXTS = tuple(f"Text {n}: " + "word " * (n + 3) for n in range(5))
MARKUPS = {
    "tags": ("Answer from these.\n\nDocuments:\n", '<document id="{n}">\n{text}\n</document>\n', "\nWho?"),
    "sections": ("Documents:\n", "<section {n}>{text}</section>\n\n", "<question>Who?</question>"),
    "numbers": ("", "[{n}] {text}\n\n", "Question: who?"),
    "nothing": ("Read.\n\n", "{text}\n\n", "Who?"),
}


def words(samples: Sequence[Sample]) -> list[int]:
    return [sum(len(text.split()) for _, text in sample.messages) for sample in samples]


def sample(markup: str = "tags", keep: Sequence[int] = range(5), id_: str = "s") -> Sample:
    before, around, after = MARKUPS[markup]
    prompt = before + "".join(around.format(n=n + 1, text=TEXTS[n]) for n in keep) + after
    passages = tuple(Passage(f"d{n}", TEXTS[n], TIERS[n]) for n in keep)  # type: ignore[arg-type]
    return Sample(id_, (("user", prompt),), "Who?", "he", ("him",), passages=passages)


@pytest.mark.parametrize("markup", MARKUPS)
@pytest.mark.parametrize("keep", [(0, 1, 2, 4), (1, 2, 4), (1, 4)])
def test_documents_go_with_their_markup_tier_2_from_the_end_first(markup: str, keep: tuple[int, ...]) -> None:
    whole, expected = sample(markup), sample(markup, keep)
    [longest] = words([expected])
    fitted = fit([whole], words, longest=longest, policy="drop-documents", name="data.train")
    assert fitted == Fitted((expected,), num_shortened=1, num_documents_dropped=5 - len(keep))


def test_gold_alone_may_be_too_long() -> None:
    [gold] = words([sample(keep=(1, 4))])
    short = sample(keep=(1,), id_="short")
    fitted = fit([sample(), short], words, longest=gold - 1, policy="drop-documents", name="data.train")
    assert fitted == Fitted((short,), num_left_out=1)
    assert str(fitted) == "left out 1 of 2 samples"


def test_without_a_list_of_documents_the_prompt_is_left_out() -> None:
    short = sample(keep=(1,), id_="short")
    unknown = replace(sample(), passages=())
    fitted = fit([unknown, short], words, longest=20, policy="drop-documents", name="data.train")
    assert fitted == Fitted((short,), num_left_out=1)


def test_skip_leaves_out_and_counts() -> None:
    short = sample(keep=(1,), id_="short")
    assert fit([sample(), short], words, longest=20, policy="skip", name="data.train") == Fitted(
        (short,), num_left_out=1
    )
    assert fit([short], words, longest=20, policy="skip", name="data.train") == Fitted((short,))


def test_error_names_the_first() -> None:
    with pytest.raises(LtrlError) as caught:
        fit([sample()], words, longest=20, policy="error", name="data.train")
    [said] = caught.value.diagnostics
    [length] = words([sample()])
    assert said.code is Code.BAD_DATA
    assert said.message == f"the prompt of `s` in `data.train` has {length} tokens, at most 20 fit"


def test_a_context_in_which_nothing_fits_is_an_error() -> None:
    with pytest.raises(
        LtrlError, match=r"none of the 1 prompts of `data.train` has at most 3 tokens, the shortest has"
    ):
        fit([sample()], words, longest=3, policy="skip", name="data.train")
