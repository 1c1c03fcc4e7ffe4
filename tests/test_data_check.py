"""`ltrl data check`: what is wrong with training data is said with record and field, before a GPU is booked."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ltrl.cli import main
from ltrl.data import records
from ltrl.data.check import Report, check
from ltrl.data.facts import Facts, Looks, facts
from ltrl.data.near import near
from ltrl.data.records import Entry, entries
from ltrl.data.tokens import Counter
from ltrl.errors import Code, LtrlError

GOLD = "The MAXXI in Rome was designed by Zaha Hadid."
OTHER = "Tivoli lies to the east of the city and has a famous villa."


def record(number: int = 1, *, question: str = "", documents: Any = None, **changes: Any) -> dict[str, Any]:
    """A record with its documents, as ltrl writes it; each asks something of its own."""
    question = (
        question or f"Who designed the museum number {number}, which opened in {1900 + number} beside gate {number}?"
    )
    found = (
        documents
        if documents is not None
        else [
            {"id": "maxxi", "title": "MAXXI", "tier": "gold", "text": GOLD},
            {"id": "tivoli", "title": "Tivoli", "tier": "tier-2", "text": OTHER},
        ]
    )
    listed = found if isinstance(found, list) else []
    text = "".join(f'<document id="{d["id"]}">\n{d["text"]}\n</document>\n\n' for d in listed)
    info = {"question": question, "rubrics": ["MAXXI", "Zaha Hadid"], "dataset_name": "longqa"}
    return {
        "source": "longqa",
        "input_messages": [{"role": "user", "content": f"Answer from the documents.\n\n{text}{question}"}],
        "label": f"architect {number}",
        "metadata": {"id": f"r{number}", "extra_reward_info": info, "documents": found},
    } | changes


def lines(path: Path, *found: Any) -> Path:
    path.write_bytes(b"".join(r if isinstance(r, bytes) else json.dumps(r).encode() + b"\n" for r in found))
    return path


def checked(*files: Path, **options: Any) -> Report:
    return check(files, options.pop("looks", Looks(Counter(None))), **options)


def found(report: Report) -> list[tuple[str, int, str, str]]:
    return [(f.kind, f.line, f.field, f.message) for f in report.findings]


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: object) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["ltrl", "data", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    code = ended.value.code
    return code if isinstance(code, int) else 0, printed.out, printed.err


def test_good_data_has_nothing_wrong(tmp_path: Path) -> None:
    report = checked(lines(tmp_path / "data.jsonl", record(1), record(2)))
    assert found(report) == []
    assert (report.num_records, report.num_usable, report.num_trained) == (2, 2, 2)


def test_every_problem_of_a_record_is_said_with_its_line_and_field(tmp_path: Path) -> None:
    broken = record(2, label=7, input_messages=[{"role": "user", "content": ""}])
    broken["metadata"]["documents"] = [{"id": "a", "text": GOLD, "tier": "best"}]
    report = checked(lines(tmp_path / "data.jsonl", record(1), broken))
    assert found(report) == [
        ("unusable", 2, "input_messages[0].content", "`input_messages[0].content` is empty text, expected text"),
        ("unusable", 2, "label", "`label` is `7`, expected text"),
        (
            *("unusable", 2, "metadata.documents[0].tier"),
            "`metadata.documents[0].tier` is `best`, expected one of `gold`, `tier-1`, `tier-2`",
        ),
    ]
    assert (report.num_records, report.num_usable) == (2, 1)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (b'{"source": \n', "this is not JSON: expecting value at character 11 of the line"),
        (b'{"source": "lo', "this is not JSON: unterminated string starting at character 12 of the line"),
        (b'{"source": "\xff"}\n', "this is not UTF-8 from byte 13 of the line on"),
        (b"[" * 100_000 + b"\n", "this is not a record: too many lists or objects inside each other"),
        (b"7\n", "a record is a JSON object, this is `7`"),
    ],
)
def test_a_line_that_is_no_record_does_not_hide_the_next(tmp_path: Path, broken: bytes, message: str) -> None:
    path = lines(
        tmp_path / "data.jsonl", record(1), *([record(2), broken] if broken[-1:] != b"\n" else [broken, record(2)])
    )
    report = checked(path)
    assert [(f[0], f[3]) for f in found(report)] == [("unusable", message)]
    assert report.num_usable == 2


def test_a_file_that_was_cut_off_is_recognised(tmp_path: Path) -> None:
    whole = json.dumps(record(2)).encode()
    [finding] = checked(lines(tmp_path / "data.jsonl", record(1), whole[:-40])).findings
    assert (finding.line, finding.hint) == (2, "the file ends in the middle of this record: was it copied whole?")
    assert found(checked(lines(tmp_path / "data.jsonl", record(1), whole))) == []  # no end of line is no mistake


def test_marks_of_other_systems_do_not_matter(tmp_path: Path) -> None:
    one, two = (json.dumps(record(n)).encode() for n in (1, 2))
    assert found(checked(lines(tmp_path / "a.jsonl", b"\xef\xbb\xbf" + one + b"\r\n\r\n", two + b"\r\n"))) == []


def test_a_compressed_file_is_read_as_it_is_and_must_be_whole(tmp_path: Path) -> None:
    packed = gzip.compress(b"".join(json.dumps(record(n)).encode() + b"\n" for n in range(50)))
    (tmp_path / "data.jsonl").write_bytes(packed)  # known by its contents, not by its name
    assert checked(tmp_path / "data.jsonl").num_usable == 50
    (tmp_path / "data.jsonl").write_bytes(packed[:-30])
    with pytest.raises(LtrlError, match="is no whole gzip file: compressed file ended"):
        checked(tmp_path / "data.jsonl")


def test_a_line_without_end_is_not_kept_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "LONGEST", 1 << 20)
    path = lines(tmp_path / "data.jsonl", record(1), b"x" * (20 << 20) + b"\n", record(2))
    assert [len(entry.text) > 1 << 20 for entry in entries(path)] == [False, True, False]
    assert max(len(entry.text) for entry in entries(path)) == (1 << 20) + 1
    report = checked(path)
    assert found(report) == [("unusable", 2, "", "this is longer than 1 MiB")]
    assert report.num_usable == 2


@pytest.mark.parametrize(("make", "message"), [
    (lambda _: None, "no such file or directory"),
    (lambda path: path.mkdir(), "is a directory"),
    (lambda path: (path.write_text("{}"), path.chmod(0)), "permission denied"),
])  # fmt: skip
def test_a_file_that_cannot_be_read_is_said_plainly(tmp_path: Path, make: Any, message: str) -> None:
    path = tmp_path / "data.jsonl"
    make(path)
    if message == "permission denied" and os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(LtrlError) as caught:
        checked(path)
    [said] = caught.value.diagnostics
    assert (said.code, said.message) == (Code.UNREADABLE, f"cannot read the data file `{path}`: {message}")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
PLACES = [
    *(
        ("source",),
        ("input_messages",),
        ("input_messages", 0),
        ("input_messages", 0, "role"),
        ("label",),
        ("metadata",),
    ),
    *(("input_messages", 0, "content"), ("metadata", "id"), ("metadata", "aliases"), ("metadata", "provenance")),
    *(("metadata", "documents"), ("metadata", "documents", 0), ("metadata", "trajectory")),
    *(("metadata", "documents", 0, key) for key in ("id", "text", "tier", "title")),
    ("metadata", "extra_reward_info"),
    *(("metadata", "extra_reward_info", key) for key in ("question", "rubrics", "dataset_name")),
    ("metadata", "extra_reward_info", "rubrics", 0),
]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.sampled_from(PLACES), value=JSON)
@example(place=("label",), value="\ud800")
@example(place=("metadata", "id"), value=None)
@example(place=("metadata", "aliases"), value={"MAXXI": None})
@example(place=("metadata", "aliases"), value={"MAXXI": ["…"]})
def test_whatever_stands_in_a_field_is_a_finding_or_a_record(place: tuple[Any, ...], value: Any) -> None:
    changed = record(1)
    inside: Any = changed
    for step in place[:-1]:
        inside = inside[step]
    inside[place[-1]] = value
    [one] = facts([Entry(1, json.dumps(changed).encode())], Looks(Counter(None), overlap=True))
    assert isinstance(one, Facts)
    assert bool(one.problems) != bool(one.id)


def test_gold_that_is_not_in_the_prompt_is_found(tmp_path: Path) -> None:
    long = "The tower was built in stages. " * 20
    absent, cut = record(1), record(2, documents=[{"id": "t", "title": "Tower", "tier": "gold", "text": long}])
    absent["input_messages"][0]["content"] = absent["input_messages"][0]["content"].replace(GOLD, "")
    cut["input_messages"][0]["content"] = cut["input_messages"][0]["content"].replace(long, long[:400])
    report = checked(lines(tmp_path / "data.jsonl", absent, cut), looks=Looks(Counter(None), rubric=False))
    assert found(report) == [
        ("gold-absent", 1, "metadata.documents[0]", "the prompt does not have the gold document `maxxi` `MAXXI`"),
        (
            "gold-cut",
            2,
            "metadata.documents[0]",
            "the prompt has the gold document `t` `Tower` up to 400 of 620 characters",
        ),
        ("unbacked", 2, "metadata.documents", "no gold document names the entity `MAXXI`"),
        ("unbacked", 2, "metadata.documents", "no gold document names the entity `Zaha Hadid`"),
    ]


def test_what_comes_twice_is_found_whatever_it_is(tmp_path: Path) -> None:
    first = record(1)
    same_id = record(2)
    same_id["metadata"]["id"] = "r1"
    same_prompt = {**record(3), "input_messages": first["input_messages"]}
    same_question = record(4, question=record(5)["metadata"]["extra_reward_info"]["question"].upper())
    nearly = record(6, question="Who designed the museum number 5, which opened in 1905 beside gate 5 and hall?")
    looks = Looks(Counter(None), rubric=False)
    report = checked(
        lines(tmp_path / "d.jsonl", first, same_id, same_prompt, same_question, record(5), nearly), looks=looks
    )
    path = tmp_path / "d.jsonl"
    assert [f for f in found(report) if f[0] != "unasked"] == [
        ("same-id", 2, "metadata.id", "the id `r1` is that of line 1"),
        ("same-prompt", 3, "input_messages", f"the prompt is that of {path}:1"),
        ("same-question", 5, "metadata.extra_reward_info.question", f"the question is that of {path}:4"),
        ("near-question", 6, "metadata.extra_reward_info.question", f"the question is 85% that of {path}:4"),
    ]


def test_questions_of_an_evaluation_set_are_errors(tmp_path: Path) -> None:
    train = lines(tmp_path / "train.jsonl", *(record(n, documents=[]) for n in range(1, 5)))
    nearly = record(9, question="Who designed the museum number 3, which opened in 1903 beside gate 3 and hall?")
    held_out = lines(tmp_path / "eval.jsonl", record(2), nearly, record(8))
    report = checked(train, evaluation={"held-out": held_out}, looks=Looks(Counter(None), rubric=False))
    question = "metadata.extra_reward_info.question"
    assert found(report) == [
        ("contaminated", 2, question, f"the question is that of {held_out}:1, in the evaluation set `held-out`"),
        (
            "near-contaminated",
            3,
            question,
            f"the question is 85% that of {held_out}:2, in the evaluation set `held-out`",
        ),
    ]
    assert (report.num_errors, report.evaluation) == (1, {"held-out": 3})
    assert checked(train, evaluation={"held-out": held_out}, allowed=["contaminated"]).num_errors == 0
    assert found(checked(train, evaluation={"val": train}, looks=Looks(Counter(None), rubric=False))) == [
        ("contaminated", 0, "", "this very file is the evaluation set `val`")
    ]


def evidence(*texts: str, tier: str = "gold") -> list[dict[str, str]]:
    return [{"id": f"d{i}", "title": "", "tier": tier, "text": text} for i, text in enumerate(texts)]


def test_gold_documents_of_an_evaluation_set_are_found_behind_other_questions(tmp_path: Path) -> None:
    page = " ".join(f"The building number {n} of its street was designed in the year {1800 + n}." for n in range(20))
    nearly = page.replace("number 7", "number seven")
    apart = "It has a garden with {n} fountains and a wall around it."
    train = lines(
        tmp_path / "train.jsonl",
        record(1, documents=evidence(page, apart.format(n=1)), label="Baghdad, on the Tigris"),
        record(2, documents=evidence(nearly, apart.format(n=2))),
        record(3, documents=[*evidence(apart.format(n=3)), *evidence(page, tier="tier-1")]),
        record(4, documents=evidence("Short.")),
    )
    held_out = lines(
        tmp_path / "eval.jsonl",
        record(11, documents=evidence(page), label="The Seine"),
        record(
            12, documents=[*evidence(page), *evidence(apart.format(n=3), tier="tier-2")], label="baghdad on the tigris"
        ),
        record(13, documents=evidence("Short.")),
    )
    report = checked(train, evaluation={"held-out": held_out}, looks=Looks(Counter(None), rubric=False))
    shown = [one for one in found(report) if one[0] in ("same-evidence", "shared-gold")]
    of = "in the evaluation set `held-out`"
    assert shown == [
        (
            "same-evidence",
            1,
            "label",
            f"the answer and 1 of its 2 gold documents are those of {held_out}:2, {of}, or nearly",
        ),
        (
            "shared-gold",
            2,
            "metadata.documents",
            f"1 of its 2 gold documents are gold {of} too, or nearly, the first in {held_out}:1",
        ),
    ]
    assert (report.num_errors, report.evaluation_gold) == (0, {"held-out": 2})
    unlisted = lines(tmp_path / "unlisted.jsonl", *(record(n, documents=[]) for n in (14, 15)))
    report = checked(train, evaluation={"unlisted": unlisted}, looks=Looks(Counter(None), rubric=False))
    assert (report.evaluation, report.evaluation_gold) == ({"unlisted": 2}, {"unlisted": 0})


@settings(max_examples=200, deadline=None)
@given(st.lists(st.frozensets(st.integers(0, 12), min_size=1), max_size=8), st.sampled_from([0.5, 0.7, 0.8, 1.0]))
def test_near_sets_are_those_that_comparing_all_pairs_finds(sets: list[frozenset[int]], threshold: float) -> None:
    def share(a: frozenset[int], b: frozenset[int]) -> float:
        return len(a & b) / len(a | b)

    expected = {i for i, one in enumerate(sets) if any(share(one, other) >= threshold for other in sets[:i])}
    pairs = list(near(sets, threshold=threshold))
    assert {i for i, _, _ in pairs} == expected
    assert all(j < i and share(sets[i], sets[j]) == similarity for i, j, similarity in pairs)


def test_findings_are_bounded_and_all_are_counted(tmp_path: Path) -> None:
    report = checked(lines(tmp_path / "data.jsonl", *[b"{broken\n"] * 1000), limit=3)
    assert [f.line for f in report.findings] == [1, 2, 3]
    assert report.counts == {"unusable": 1000, "empty": 1}


def test_a_file_without_a_usable_record_is_an_error(tmp_path: Path) -> None:
    empty, blank = lines(tmp_path / "empty.jsonl"), lines(tmp_path / "blank.jsonl", b"\n\n")
    broken, good = lines(tmp_path / "broken.jsonl", b"{\n"), lines(tmp_path / "good.jsonl", record(1))
    report = checked(good, empty, blank, broken, allowed=["unusable"], looks=Looks(Counter(None), longest=4096))
    said = [(f.file, f.kind, f.line, f.message) for f in report.findings if f.is_error]
    assert said == [
        (str(empty), "empty", 0, "the file has no record"),
        (str(blank), "empty", 0, "the file has no record"),
        (str(broken), "empty", 0, "none of its 1 records can be used"),
    ]
    assert report.num_errors == 3


def test_several_processes_find_the_same(tmp_path: Path) -> None:
    filler = "word " * 40_000
    documents = [{"id": "maxxi", "title": "", "tier": "gold", "text": GOLD + filler}]
    many = [record(n, documents=documents) for n in range(100)]
    path = lines(tmp_path / "data.jsonl", *many, b"{\n", record(3))
    assert path.stat().st_size > 16 << 20
    looks = Looks(Counter(None), rubric=False)
    one, two = checked(path, jobs=1, looks=looks), checked(path, jobs=2, looks=looks)
    assert found(one) == found(two)
    assert one.lengths == two.lengths


def test_the_command_says_what_it_found_and_ends_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    good = lines(tmp_path / "good.jsonl", record(1))
    code, out, err = run(capsys, monkeypatch, "check", good)
    assert (code, err) == (0, "")
    assert out.endswith("1 records: nothing wrong\n")
    bad = lines(tmp_path / "bad.jsonl", record(1), b"[]\n")
    code, out, err = run(capsys, monkeypatch, "check", bad)
    assert code == 1
    assert err == f"{bad}:2: error[LTRL050]: a record is a JSON object, this is an empty list\n"
    code, out, err = run(capsys, monkeypatch, "check", bad, "--allow", "unusable", "--json")
    assert code == 0
    assert json.loads(out)["counts"] == {"unusable": 1}
    assert run(capsys, monkeypatch, "check")[0] == 2
    code, _, err = run(capsys, monkeypatch, "check", bad, "--allow", "unusabel")
    assert code == 2
    assert "did you mean `unusable`?" in err
    assert run(capsys, monkeypatch, "check", tmp_path / "none.jsonl")[0] == 1
