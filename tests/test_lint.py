"""Rubrics that do not measure what they should are found, each with its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ltrl.errors import Code, LtrlError
from ltrl.lint import ERRORS, KINDS, Finding, lint

PROMPT = "Documents: the party met in Łódź. Lady Gaga sang in Paris, Texas. Nobody knew Zaha Hadid."


def record(rubrics: Any, *, id_: str = "s", question: str = "Who sang?", aliases: Any = None, **changes: Any) -> str:
    info = {"question": question, "rubrics": rubrics, "dataset_name": "longqa"}
    metadata = {"id": id_, "extra_reward_info": info} | ({"aliases": aliases} if aliases else {})
    messages = [{"role": "user", "content": f"{PROMPT} {question}"}]
    made = {"source": "longqa", "input_messages": messages, "label": "Lady Gaga", "metadata": metadata}
    return json.dumps(made | changes)


def findings(tmp_path: Path, *lines: str) -> list[tuple[int, str, str]]:
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(lines) + "\n")
    found = list(lint(path))
    assert found.count(None) == sum(1 for line in lines if line)
    return [(one.line, one.kind, one.message) for one in found if one is not None]


def test_a_good_rubric_has_no_findings(tmp_path: Path) -> None:
    assert findings(tmp_path, record(["Texas", "Paris", "Zaha Hadid"])) == []


@pytest.mark.parametrize(
    ("rubrics", "expected"),
    [
        (["…", "Paris"], [("empty", "the entity `…` has nothing to look for")]),
        ([], [("no-rubric", "the rubric is empty: no response can name anything")]),
        (["Paris", "PARIS"], [("duplicate", "the entity `PARIS` is listed twice, and counts twice")]),
        (["Paris", "Paris"], [("duplicate", "the entity `Paris` is listed twice, and counts twice")]),
        (["lady gaga"], [("answer", "the entity `lady gaga` is the answer: naming it takes no evidence")]),
        (["Beyoncé"], [("absent", "the prompt does not name the entity `Beyoncé`")]),
        (
            ["part"],
            [
                ("absent", "the prompt does not name the entity `part`"),
                ("trap", "a substring match finds `part` in `party`"),
            ],
        ),
        (["Łódź"], [("trap", "a substring match finds `Łódź` in `Documents:`")]),  # of it only `d` is left
        (
            ["Hadid", "Zaha Hadid"],
            [("nested", "the entity `Hadid` is inside `Zaha Hadid`: naming that one names both")],
        ),
    ],
)
def test_a_rubric_that_misleads_is_found(rubrics: list[str], expected: list[tuple[str, str]], tmp_path: Path) -> None:
    assert findings(tmp_path, record(["Texas"], id_="0", question="?"), record(rubrics)) == [
        (2, kind, message) for kind, message in expected
    ]


def test_an_entity_that_the_question_names_is_found_though_the_prompt_holds_the_question(tmp_path: Path) -> None:
    assert findings(tmp_path, record(["Paris", "Rome"], question="Who sang in Paris, not Rome?")) == [
        (1, "leaked", "the question names the entity `Paris`"),
        (1, "leaked", "the question names the entity `Rome`"),
        (1, "absent", "the prompt does not name the entity `Rome`"),
    ]


def test_an_alias_counts_as_the_entity(tmp_path: Path) -> None:
    absent = record(["Stefani Germanotta"], label="X", aliases={"Stefani Germanotta": ["Lady Gaga"]})
    assert findings(tmp_path, absent) == []
    assert findings(tmp_path, record(["Paris"], aliases={"Paris": ["🎵"]})) == [
        (1, "empty", "the entity `🎵` has nothing to look for")
    ]


def test_records_that_repeat_or_are_none_are_found(tmp_path: Path) -> None:
    lines = (record(["Paris"], id_="a"), "", record(["Texas"], id_="a"), "{", "[]", '{"label": "x"}')
    found = findings(tmp_path, *lines)
    assert [(line, kind) for line, kind, _ in found] == [
        (3, "same-id"),
        (3, "same-question"),
        (4, "unusable"),
        (5, "unusable"),
        (6, "unusable"),
    ]
    assert found[0][2] == "the id `a` is that of line 1"
    assert found[4][2] == "this is no record: the record has no 'metadata'"


def test_values_of_the_wrong_type_are_no_entities(tmp_path: Path) -> None:
    name = "metadata.extra_reward_info"
    lines = {
        record([None, {"a": 1}]): f"`{name}.rubrics[0]` is not text",
        record(["Paris", True]): f"`{name}.rubrics[1]` is not text",
        record([3]): f"`{name}.rubrics[0]` is not text; numbers are chunks, which take `dataset_name: longrlvr`",
        record(["Paris"]).replace('"Who sang?", "rub', 'null, "rub'): f"`{name}.question` is not text",
        record(["Paris"]).replace('"id": "s"', '"id": null'): "`metadata.id` is neither text nor a number",
        record(["Paris"], source=None): "`source` is not text",
        "[" * 100_000: "too many lists or objects inside each other",
    }
    expected = [(n, "unusable", f"this is no record: {said}") for n, said in enumerate(lines.values(), 1)]
    assert findings(tmp_path, *lines) == expected


def test_chunk_ids_of_longrlvr_are_no_entities(tmp_path: Path) -> None:
    info = {"question": "Who sang?", "rubrics": [1, 2], "dataset_name": "longrlvr"}
    assert findings(tmp_path, record([], metadata={"extra_reward_info": info})) == []


def test_every_kind_of_error_is_counted_and_has_its_code() -> None:
    assert set(KINDS) >= ERRORS
    assert {kind: Finding(kind, "data.jsonl", 3, "m", None).code for kind in KINDS} == {
        kind: Code.BAD_RUBRIC if kind in ERRORS else Code.DOUBTFUL_RUBRIC for kind in KINDS
    }


def test_data_that_are_not_there_are_told(tmp_path: Path) -> None:
    with pytest.raises(LtrlError, match="cannot read the data file"):
        list(lint(tmp_path / "none.jsonl"))
