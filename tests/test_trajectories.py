"""Trajectories have one JSON form, and say which field of a wrong one is wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ltrl.samples import Passage, Provenance, Sample
from ltrl.trajectories import Answer, Cite, Open, Search, Trajectory

RUN = Trajectory(
    question_id="q7",
    question="Which part?",
    attempt=1,
    steps=(
        Search("part of a cell", ("a", "b")),
        Open("b"),
        Open("a"),
        Search("part", ("c", "b")),
        Cite(("a",)),
        Answer("nucleus"),
    ),
    answer="nucleus",
    is_correct=True,
    agent="scripted",
)
RECORD: dict[str, Any] = {
    "question_id": "q7",
    "question": "Which part?",
    "attempt": 1,
    "agent": "scripted",
    "answer": "nucleus",
    "is_correct": True,
    "steps": [
        {"action": "search", "query": "part of a cell", "results": ["a", "b"]},
        {"action": "open", "document": "b"},
        {"action": "open", "document": "a"},
        {"action": "search", "query": "part", "results": ["c", "b"]},
        {"action": "cite", "documents": ["a"]},
        {"action": "answer", "text": "nucleus"},
    ],
}


def test_trajectory_and_its_record_are_the_same_thing() -> None:
    assert RUN.to_json() == RECORD
    assert Trajectory.from_json(json.loads(json.dumps(RECORD))) == RUN


def test_documents_are_told_once_in_the_order_in_which_they_were_seen() -> None:
    assert (RUN.retrieved, RUN.opened, RUN.cited) == (("a", "b", "c"), ("b", "a"), ("a",))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"attempt": True}, "`attempt` is not a count"),
        ({"attempt": None}, "`attempt` is not a count"),
        ({"question_id": ""}, "`question_id` is not text with something in it"),
        ({"is_correct": "yes"}, "`is_correct` is not true, false or null"),
        ({"steps": {}}, "`steps` is not a list"),
        ({"steps": [[]]}, "`steps[0]` is not an object"),
        (
            {"steps": [{"action": "click"}]},
            "`steps[0].action` is `click`, expected `search`, `open`, `cite` or `answer`",
        ),
        ({"steps": [{"action": "open"}]}, "`steps[0].document` is missing"),
        (
            {"steps": [{"action": "search", "query": "q", "results": [3]}]},
            "`steps[0].results` is not a list of document ids",
        ),
    ],
)
def test_wrong_field_is_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        Trajectory.from_json({**RECORD, **change})
    assert str(caught.value) == said


def test_a_list_is_no_trajectory() -> None:
    with pytest.raises(ValueError, match=r"^a trajectory is not an object$"):
        Trajectory.from_json([RECORD])


def test_sample_carries_its_trajectory_and_provenance() -> None:
    provenance = Provenance("toy", "ab" * 32, ("a", "c"), 7, "traj-tiered", "bytes", 90)
    sample = Sample(
        id="q7",
        messages=(("user", "…"),),
        question="Which part?",
        label="nucleus",
        rubrics=("cell",),
        passages=(Passage("a", "text", "gold", "Cell"),),
        trajectory=RUN,
        provenance=provenance,
    )
    record = json.loads(json.dumps(sample.to_json()))
    assert record["metadata"]["trajectory"] == RECORD
    assert record["metadata"]["provenance"] == {
        "dataset": "toy",
        "corpus": "ab" * 32,
        "path": ["a", "c"],
        "seed": 7,
        "strategy": "traj-tiered",
        "tokenizer": "bytes",
        "num_tokens": 90,
    }
    assert Sample.from_json(record, default_id="1") == sample


def test_wrong_trajectory_of_a_sample_is_named_with_its_place() -> None:
    record = Sample("q", (("user", "…"),), "?", "a", ("e",)).to_json()
    record["metadata"]["trajectory"] = {**RECORD, "steps": [{"action": "open"}]}
    with pytest.raises(ValueError, match=r"^`metadata.trajectory`: `steps\[0\].document` is missing$"):
        Sample.from_json(record, default_id="1")
