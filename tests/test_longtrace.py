"""The data backend `longtrace`: LongTraceRL's records, line by line, each mistake with its line and field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ltrl.backend import create, load
from ltrl.errors import Code, LtrlError
from ltrl.samples import Sample
from ltrl.scoring import ScoreRequest, parse_response


def record(number: int = 0, **changes: Any) -> dict[str, Any]:
    """A record as the published file has it."""
    info = {
        "question": "Which resolution followed?",
        "rubrics": ["USS Maddox", "Lyndon B. Johnson"],
        "dataset_name": "longqa",
    }
    return {
        "source": "longqa",
        "input_messages": [
            {"role": "user", "content": f"Answer from the documents.\n\nDocuments:\n<section {number}>…"}
        ],
        "label": "Gulf of Tonkin Resolution",
        "metadata": {"extra_reward_info": info},
    } | changes


def lines(path: Path, *records: Any) -> Path:
    text = "".join((r if isinstance(r, str) else json.dumps(r, ensure_ascii=False)) + "\n" for r in records)
    path.write_text(text, encoding="utf-8")
    return path


def backend(path: object, **options: Any) -> Any:
    section = {"backend": "longtrace", "path": str(path), **options}
    return create(load("data", "longtrace").Options.model_validate_json(json.dumps(section)))


def mistake(path: Path) -> tuple[str, str, int]:
    with pytest.raises(LtrlError) as caught:
        list(backend(path))
    [found] = caught.value.diagnostics
    assert found.code is Code.BAD_DATA
    assert found.position is not None
    assert found.position.source.name == str(path)
    assert found.position.source.text.count("\n") == found.position.line - 1
    return found.message, found.hint or "", found.position.line


def test_records_are_read_as_they_stand(tmp_path: Path) -> None:
    data = backend(lines(tmp_path / "data.jsonl", record(1), record(2)))
    first, second = data
    assert first == Sample(
        id="1",
        messages=(("user", "Answer from the documents.\n\nDocuments:\n<section 1>…"),),
        question="Which resolution followed?",
        label="Gulf of Tonkin Resolution",
        rubrics=("USS Maddox", "Lyndon B. Johnson"),
        dataset_name="longqa",
        source="longqa",
    )
    assert second.id == "2"
    assert len(data) == 2


def test_what_ltrl_writes_is_read_back(tmp_path: Path) -> None:
    [sample] = backend(lines(tmp_path / "a.jsonl", record(3)))
    assert list(backend(lines(tmp_path / "b.jsonl", sample.to_json()))) == [sample]


def test_chunk_ids_of_longrlvr_may_be_numbers(tmp_path: Path) -> None:
    info = {"question": "Which?", "rubrics": [3, 17], "dataset_name": "longrlvr"}
    [sample] = backend(lines(tmp_path / "data.jsonl", record(metadata={"extra_reward_info": info})))
    assert sample.rubrics == ("3", "17")
    info["rubrics"] = [3, None]
    said, _, line = mistake(lines(tmp_path / "data.jsonl", record(metadata={"extra_reward_info": info})))
    assert (said, line) == ("`metadata.extra_reward_info.rubrics[1]` is not text", 1)


def test_limit_takes_the_first_and_blank_lines_do_not_count(tmp_path: Path) -> None:
    path = lines(tmp_path / "data.jsonl", record(1), "", record(2), record(3))
    assert [s.id for s in backend(path, limit=2)] == ["1", "3"]  # ids are line numbers
    assert len(backend(path, limit=2)) == 2
    assert len(backend(path, limit=9)) == 3


def test_counting_parses_nothing(tmp_path: Path) -> None:
    assert len(backend(lines(tmp_path / "data.jsonl", "{broken", "too"))) == 2


def test_relative_paths_start_at_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    lines(tmp_path / "data" / "a.jsonl", record())
    monkeypatch.setenv("LTRL_PROJECT_DIR", str(tmp_path))
    assert len(backend("data/a.jsonl")) == 1
    monkeypatch.delenv("LTRL_PROJECT_DIR")
    monkeypatch.chdir(tmp_path / "data")
    assert len(backend("a.jsonl")) == 1


def without(key: str) -> dict[str, Any]:
    return {k: v for k, v in record().items() if k != key}


def info(**changes: Any) -> dict[str, Any]:
    return record(metadata={"extra_reward_info": record()["metadata"]["extra_reward_info"] | changes})


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (
            "{'source': 1}",
            "this is not JSON: expecting property name enclosed in double quotes at character 2 of the line",
        ),
        ("[1]", "a record is a JSON object, this is a list"),
        (without("label"), "the record has no `label`"),
        (record(label=""), "`label` is empty text, expected text"),
        (record(label=1880), "`label` is `1880`, expected text"),
        (record(input_messages=[]), "`input_messages` is an empty list, expected a list of at least one message"),
        (record(input_messages=[{"role": "user"}]), "`input_messages[0].content` is missing, expected text"),
        (record(metadata={}), "`metadata.extra_reward_info` is missing, expected an object"),
        (info(rubrics="USS Maddox"), "`metadata.extra_reward_info.rubrics` is text, expected a list"),
        (info(rubrics=["USS Maddox", 7]), "`metadata.extra_reward_info.rubrics` has an item that is not text"),
        (info(question=None), "`metadata.extra_reward_info.question` is missing, expected text"),
    ],
)
def test_a_bad_record_is_named_with_its_line_and_field(tmp_path: Path, broken: object, message: str) -> None:
    assert mistake(lines(tmp_path / "data.jsonl", record(), broken))[::2] == (message, 2)


def test_an_id_that_comes_twice_is_refused(tmp_path: Path) -> None:
    one = record(metadata=record()["metadata"] | {"id": "x"})
    message, _, line = mistake(lines(tmp_path / "data.jsonl", one, one))
    assert (message, line) == ("`metadata.id` `x` is that of line 1", 2)


def test_a_list_in_one_json_file_gets_a_hint(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text(json.dumps([record()], indent=2))
    assert mistake(path)[1] == "one JSON object a line; a `.json` file with a list is not JSON Lines"


def test_bytes_that_are_not_utf8_are_named(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(b'{"source": "\xff"}\n')
    assert mistake(path) == ("this is not UTF-8 from byte 13 of the line on", "", 1)


def test_a_missing_and_an_empty_file_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LtrlError) as caught:
        len(backend("none.jsonl"))
    assert caught.value.diagnostics[0].message == "cannot read the data file `none.jsonl`: no such file or directory"
    assert (
        caught.value.diagnostics[0].hint
        == "relative paths start at the project, the nearest directory with a `specs` folder"
    )
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(LtrlError, match=r"the data file `empty\.jsonl` has no records"):
        len(backend("empty.jsonl"))


def with_info(**info: Any) -> dict[str, Any]:
    made = record()
    made["metadata"] = {"extra_reward_info": made["metadata"]["extra_reward_info"] | info}
    return made


def test_aliases_go_both_ways(tmp_path: Path) -> None:
    made = record()
    made["metadata"]["aliases"] = {"Lyndon B. Johnson": ["LBJ", "Lyndon Johnson"]}
    [sample] = backend(lines(tmp_path / "data.jsonl", made))
    assert sample.aliases == {"Lyndon B. Johnson": ("LBJ", "Lyndon Johnson")}
    assert list(backend(lines(tmp_path / "b.jsonl", sample.to_json()))) == [sample]
    assert ScoreRequest.of(sample, parse_response("LBJ", chat_format="plain")).aliases == sample.aliases


def test_an_alias_of_no_entity_is_refused(tmp_path: Path) -> None:
    made = record()
    made["metadata"]["aliases"] = {"Lyndon Johnson": ["LBJ"]}
    message, _, line = mistake(lines(tmp_path / "data.jsonl", record(), made))
    assert (message, line) == ("`metadata.aliases` has `Lyndon Johnson`, which is no entity of the rubric", 2)


@pytest.mark.parametrize("entity", ["…", "🎵", "***"])
def test_an_entity_that_nothing_can_name_is_refused_with_its_line(entity: str, tmp_path: Path) -> None:
    path = lines(tmp_path / "data.jsonl", record(), with_info(rubrics=["USS Maddox", entity]))
    message, hint, line = mistake(path)
    assert (message, line) == (f"the rubric entity `{entity}` has nothing to look for", 2)
    assert hint == "a rubric entity needs a letter or a digit to be found by; `ltrl reward lint` lists them all"
    assert [sample.rubrics[-1] for sample in backend(path, nameless="keep")] == ["Lyndon B. Johnson", entity]
