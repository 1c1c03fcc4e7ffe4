"""The data backend `entity-chain`: samples whose evidence is known, demonstrations that fit them."""

from __future__ import annotations

from itertools import islice, pairwise

import pydantic
import pytest

from ltrl.samples import Sample
from ltrl_backends.entity_chain import Demonstration, EntityChain, EntityChainOptions


def backend(**options: object) -> EntityChain:
    return EntityChain(EntityChainOptions.model_validate({"backend": "entity-chain", **options}))


def links(sample: Sample) -> dict[str, str]:
    found = {}
    for passage in sample.passages:
        start, knows, end = passage.text.removesuffix(".").split(" ")
        assert knows == "knows"
        found[start] = end
    return found


def response(demonstration: Demonstration) -> str:
    return "".join(piece.text for piece in demonstration.pieces)


def test_the_first_sample_reads_as_documented() -> None:
    sample = next(iter(backend(samples=1)))
    start = sample.question.removeprefix("Start at ").split(" ")[0]
    documents = "".join(f"\n- {passage.text}" for passage in sample.passages)
    content = f"Answer from the documents only.\n\nDocuments:{documents}\n\nQuestion: {sample.question}"
    assert sample.messages == (("user", content),)
    assert sample.question == f"Start at {start} and follow 3 links. Who is last?"
    assert sample.id == "entity-chain-0-0"
    assert Sample.from_json(sample.to_json(), default_id="") == sample


@pytest.mark.parametrize(("hops", "chains", "strays"), [(3, 3, 2), (2, 2, 0), (5, 4, 3)])
def test_following_the_links_gives_rubric_and_answer(hops: int, chains: int, strays: int) -> None:
    for sample in backend(samples=20, hops=hops, chains=chains, strays=strays):
        known = links(sample)
        walk = [sample.question.removeprefix("Start at ").split(" ")[0]]
        for _ in range(hops):
            walk.append(known[walk[-1]])
        assert (tuple(walk[1:-1]), walk[-1]) == (sample.rubrics, sample.label)
        assert walk[-1] not in known
        gold = {passage.text for passage in sample.passages if passage.tier == "gold"}
        assert gold == {f"{a} knows {b}." for a, b in pairwise(walk)}
        tiers = [passage.tier for passage in sample.passages]
        assert (tiers.count("tier-1"), tiers.count("tier-2")) == ((chains - 1) * hops, strays)


def test_samples_depend_on_seed_and_number_alone() -> None:
    few, many, other = backend(samples=3), backend(samples=9), backend(samples=9, seed=1)
    assert list(few) == list(many)[:3]
    assert not {s.messages for s in many} & {s.messages for s in other}


def test_a_recital_names_every_link_and_marks_what_is_determined() -> None:
    demonstration = next(backend().lookup_demonstrations(seed=0))
    *recital, end = demonstration.pieces
    assert end.text == "\n</think>"
    assert [piece.is_determined for piece in recital] == [False, True] * 11
    ((_, prompt),) = demonstration.messages
    for known, knows in zip(recital[::2], recital[1::2], strict=True):
        assert f"\n- {known.text.strip()} knows {knows.text.strip()}." in prompt


def test_only_asked_for_qualities_are_demonstrated() -> None:
    shares = {"direct": 1.0, "detour": 0.0, "early": 0.0, "guess": 0.0, "reports": 1.0}
    for demonstration in islice(backend(demonstrations=shares).answer_demonstrations(seed=0), 20):
        reasoning, answer = response(demonstration).split("\n</think>\n\n")
        start, *between, last = reasoning.split()
        assert f"Start at {start} and" in demonstration.messages[0][1]
        assert answer == f"evidence {' '.join(between)} answer {last}"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chains": 20}, "a prompt needs 84 different entities, `entities` is 64"),
        ({"demonstrations": {"direct": 0.9}}, "are shares of 1, but sum to 1.5"),
        ({"hops": 10}, "less than 10"),
        ({"sample": 3}, "Extra inputs are not permitted"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=message):
        backend(**options)
