"""The built-in benchmarks: files in the hub's schemas, prompts and metrics as published."""

from __future__ import annotations

import csv
import hashlib
import json
import time
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from loopback_judge import Answer, loopback_judge

from ltrl.backend import create, load
from ltrl.benchmark import Answered, Outcome, Question
from ltrl.errors import LtrlError
from ltrl_backends.benchmarks.longbench_v2 import extract as extract_v2
from ltrl_backends.benchmarks.longreason import extract
from ltrl_backends.benchmarks.mrcr import bin_of, ratio
from ltrl_backends.benchmarks.ruler import matched


def benchmark(name: str, **options: Any) -> Any:
    section = load("benchmark", name).Options.model_validate_json(json.dumps({"backend": name, **options}))
    return create(section)


def graded(made: Any, *answers: tuple[Question, str]) -> list[Outcome]:
    outcomes: list[Outcome] = made.grade([Answered(question, text) for question, text in answers])
    return outcomes


def judge(server: Any, template: str) -> dict[str, object]:
    return {"backend": "openai", "base_url": server.base_url, "model": "judge-1", "template": template, "retries": 0}


# AA-LCR


def aa_lcr(tmp_path: Path, *, packed: bool) -> Path:
    """The files of the hub's repository, with the columns of its table."""
    columns = ["document_category", "document_set_id", "question_id", "question", "answer", "data_source_filenames",
               "data_source_urls", "input_tokens", "input_tokens_band"]  # fmt: skip
    with (tmp_path / "AA-LCR_Dataset.csv").open("w", newline="") as file:
        rows = csv.DictWriter(file, columns)
        rows.writeheader()
        rows.writerow(dict.fromkeys(columns, "") | {
            "document_category": "Company_Documents", "document_set_id": "co_1", "question_id": "7",
            "question": "Which company, and\nhow much?", "answer": "Equinix, $901 million",
            "data_source_filenames": "b.txt;a.txt",
        })  # fmt: skip
    texts = {"b.txt": "Equinix: $901 million", "a.txt": "Digital Realty"}
    folder = tmp_path / "extracted_text"
    if packed:
        folder.mkdir()
        with zipfile.ZipFile(folder / "AA-LCR_extracted-text.zip", "w") as archive:
            for name, text in texts.items():
                archive.writestr(f"lcr/Company_Documents/co_1/{name}", text)
    else:
        (folder / "lcr/Company_Documents/co_1").mkdir(parents=True)
        for name, text in texts.items():
            (folder / "lcr/Company_Documents/co_1" / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize("packed", [True, False])
def test_aa_lcr_asks_with_the_prompt_of_its_card(tmp_path: Path, packed: bool) -> None:
    path = str(aa_lcr(tmp_path, packed=packed))
    made = benchmark("aa-lcr", path=path, judge="exact")
    [question] = made
    assert made.num_questions() == 1
    assert question == Question(
        id="7",
        messages=(
            (
                "user",
                (
                    "BEGIN INPUT DOCUMENTS\n\nBEGIN DOCUMENT 1:\nEquinix: $901 million\nEND DOCUMENT 1\n\n"
                    "BEGIN DOCUMENT 2:\nDigital Realty\nEND DOCUMENT 2\n\nEND INPUT DOCUMENTS\n\n"
                    "Answer the following question using the input documents provided above.\n\n"
                    "START QUESTION\n\nWhich company, and\nhow much?\n\nEND QUESTION\n"
                ),
            ),
        ),
        label="Equinix, $901 million",
        text="Which company, and\nhow much?",
        splits={"category": "Company_Documents"},
    )


def test_aa_lcr_is_judged_with_the_equality_checker_of_its_card(tmp_path: Path) -> None:
    with loopback_judge(Answer("CORRECT"), Answer("INCORRECT"), Answer("Hm."), Answer("Hm."), Answer("Hm.")) as server:
        made = benchmark(
            "aa-lcr", path=str(aa_lcr(tmp_path, packed=True)), judge=judge(server, "aa-lcr") | {"concurrency": 1}
        )
        [question] = made
        outcomes = graded(made, (question, "Equinix, $901M"), (question, "Equinix"), (question, "?"))
    assert [one.score for one in outcomes] == [1.0, 0.0, None]
    assert server.prompts()[0] == (
        "Assess whether the following CANDIDATE ANSWER is CORRECT or INCORRECT.\n"
        "For the CANDIDATE ANSWER to be correct, it must be consistent with the OFFICIAL ANSWER.\n\n"
        "The question, for reference only: Which company, and\nhow much?\n"
        "The OFFICIAL ANSWER: Equinix, $901 million\nCANDIDATE ANSWER TO ASSESS: Equinix, $901M\n\n"
        "Reply only with CORRECT or INCORRECT.\n"
    )


def test_a_document_that_is_not_there_is_told(tmp_path: Path) -> None:
    path = aa_lcr(tmp_path, packed=False)
    (path / "extracted_text/lcr/Company_Documents/co_1/a.txt").unlink()
    with pytest.raises(LtrlError, match=r"cannot read the document `.*a\.txt`: no such file"):
        list(benchmark("aa-lcr", path=str(path), judge="exact"))


# MRCR


def mrcr(path: Path, *needles: int, prose: str = "tapirs walk") -> Path:
    """A parquet file with the columns of openai/mrcr."""
    rows = [
        {
            "prompt": json.dumps([
                {"role": "user", "content": "write a poem about tapirs"},
                {"role": "assistant", "content": prose},
                {"role": "user", "content": "Prepend aYooSG8CQg to the 2nd (1 indexed) poem about tapirs. Do not "
                 "include any other text in your response."},
            ]),
            "answer": "aYooSG8CQg" + prose,
            "random_string_to_prepend": "aYooSG8CQg",
            "n_needles": number,
            "desired_msg_index": 1,
            "total_messages": 3,
            "n_chars": len(prose),
            "date_added": "04-12-2025",
        }
        for number in needles
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_mrcr_sends_the_conversation_and_grades_the_ratio(tmp_path: Path) -> None:
    made = benchmark("mrcr", path=str(mrcr(tmp_path / "mrcr.parquet", 2, 8)), needles=[2])
    assert made.num_questions() == 2  # a bound: how many needles each has is not looked at
    [question] = made
    assert [role for role, _ in question.messages] == ["user", "assistant", "user"]
    assert question.label == "aYooSG8CQgtapirs walk"
    assert question.extra == {"prefix": "aYooSG8CQg"}
    assert question.splits["needles"] == "2"
    assert question.splits["length"].removeprefix("~") == "<4k"
    written = json.dumps([{"role": role, "content": content} for role, content in question.messages])
    assert question.id == f"2-{hashlib.sha256(written.encode()).hexdigest()[:12]}"
    right, off, no_prefix = graded(
        made, (question, "aYooSG8CQgtapirs walk"), (question, "aYooSG8CQgtapirs"), (question, "tapirs walk")
    )
    assert right == Outcome(1.0)
    assert off == Outcome(2 * 6 / (6 + 11))  # 6 equal characters of 6 and 11
    assert no_prefix == Outcome(0.0, reason="does not begin with `aYooSG8CQg`")


def test_mrcr_can_be_kept_to_a_length(tmp_path: Path) -> None:
    path = str(mrcr(tmp_path / "mrcr.parquet", 2, prose="word " * 20_000))
    assert list(benchmark("mrcr", path=path, max_tokens=8192)) == []
    [question] = benchmark("mrcr", path=path)
    assert question.splits["length"].removeprefix("~") in ("16k-32k", "32k-64k")


@pytest.mark.parametrize(
    ("tokens", "name"),
    [(4095, "<4k"), (4096, "4k-8k"), (8192, "4k-8k"), (8193, "8k-16k"), (131072, "64k-128k"), (2**20, "512k-1m"),
     (2**20 + 1, ">1m")],
)  # fmt: skip
def test_the_bins_of_mrcr_are_those_of_its_card(tokens: int, name: str) -> None:
    assert bin_of(tokens) == name


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=10))
def test_the_ratio_of_mrcr_is_a_share(response: str, answer: str, prefix: str) -> None:
    assert 0.0 <= ratio(prefix + response, prefix + answer, prefix) <= 1.0
    assert ratio(prefix + answer, prefix + answer, prefix) == 1.0
    if not response.startswith(prefix):
        assert ratio(response, prefix + answer, prefix) == 0.0


# FRAMES


def frames(tmp_path: Path) -> tuple[str, str]:
    """`test.tsv` with the columns of google/frames-benchmark, and articles."""
    links = ["https://en.wikipedia.org/wiki/Jane_Ballou", "https://en.wikipedia.org/wiki/List_of_people#S%C3%A3o"]
    columns = ["", "Prompt", "Answer", *(f"wikipedia_link_{i}" for i in range(1, 11)), "wikipedia_link_11+",
               "reasoning_types", "wiki_links"]  # fmt: skip
    with (tmp_path / "test.tsv").open("w", newline="") as file:
        rows = csv.DictWriter(file, columns, delimiter="\t")
        rows.writeheader()
        rows.writerow(dict.fromkeys(columns, "") | {
            "": "0", "Prompt": "What is my future wife's name?", "Answer": "Jane Ballou", "wikipedia_link_1": links[0],
            "wikipedia_link_2": links[1], "reasoning_types": "Multiple constraints", "wiki_links": str(links),
        })  # fmt: skip
    articles = [{"link": links[0], "text": "Jane."}, {"link": links[1].partition("#")[0], "text": "Many."}]
    (tmp_path / "articles.jsonl").write_text("".join(json.dumps(one) + "\n" for one in articles))
    return str(tmp_path / "test.tsv"), str(tmp_path / "articles.jsonl")


def test_frames_puts_the_articles_before_the_question(tmp_path: Path) -> None:
    path, articles = frames(tmp_path)
    made = benchmark("frames", path=path, articles=articles, judge="exact")
    [question] = made
    assert made.num_questions() == 1
    assert question.messages[0][1] == (
        "Here are the relevant Wikipedia articles:\nhttps://en.wikipedia.org/wiki/Jane_Ballou\nJane.\n\n"
        "https://en.wikipedia.org/wiki/List_of_people#S%C3%A3o\nMany.\n\n"
        "Based on all the information, answer the query. \n\nQuery: What is my future wife's name?\n\n"
    )
    assert (question.id, question.label, question.splits) == ("0", "Jane Ballou", {"articles": "2-4"})


def test_frames_is_judged_by_the_auto_rater_of_its_paper(tmp_path: Path) -> None:
    path, articles = frames(tmp_path)
    replies = [Answer('"Explanation:" the same.\n"Decision:" "TRUE"'), Answer("**Decision:** FALSE"), Answer("TRUE?")]
    with loopback_judge(*replies) as server:
        options = judge(server, "frames") | {"concurrency": 1}
        made = benchmark("frames", path=path, articles=articles, judge=options)
        [question] = made
        outcomes = graded(made, (question, "Jane Ballou"), (question, "Jane"), (question, "B"))
    assert [one.score for one in outcomes] == [1.0, 0.0, None]
    assert "- Question: What is my future wife's name?\n- Predicted Answer: Jane Ballou\n" in server.prompts()[0]


def test_an_article_that_is_not_there_is_told(tmp_path: Path) -> None:
    path, articles = frames(tmp_path)
    Path(articles).write_text('{"link": "https://en.wikipedia.org/wiki/Jane_Ballou", "text": "Jane."}\n')
    with pytest.raises(LtrlError, match=r"lacks 1 of the 2 articles of question 1, first .*List_of_people"):
        list(benchmark("frames", path=path, articles=articles, judge="exact"))


# LongBench v2


def longbench_v2(tmp_path: Path, *lengths: str) -> str:
    """`data.json` with the fields of the hub's."""
    rows = [
        {"_id": f"66f36490{i}", "domain": "Single-Document QA", "sub_domain": "Financial", "difficulty": "easy",
         "length": length, "question": " Which? ", "choice_A": "a", "choice_B": "b", "choice_C": "c", "choice_D": "d",
         "answer": "B", "context": "\nA long [text], with \"quotes\"\n"}
        for i, length in enumerate(lengths)
    ]  # fmt: skip
    (tmp_path / "data.json").write_text(json.dumps(rows, indent=2))
    return str(tmp_path)


def test_longbench_v2_asks_with_the_prompt_of_its_repository(tmp_path: Path) -> None:
    made = benchmark("longbench-v2", path=longbench_v2(tmp_path, "short", "long"), lengths=["long"])
    [question] = made
    assert question == Question(
        id="66f364901",
        messages=(
            (
                "user",
                (
                    "Please read the following text and answer the question below.\n\n"
                    '<text>\nA long [text], with "quotes"\n</text>\n\n'
                    "What is the correct answer to this question: Which?\n"
                    "Choices:\n(A) a\n(B) b\n(C) c\n(D) d\n\n"
                    'Format your response as follows: "The correct answer is (insert answer here)".'
                ),
            ),
        ),
        label="B",
        text=" Which? ",
        splits={"length": "long", "difficulty": "easy", "domain": "Single-Document QA"},
    )
    assert graded(made, (question, "The correct answer is (B)."), (question, "The correct answer is **C**")) == [
        Outcome(1.0, "B"),
        Outcome(0.0, "C"),
    ]


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("The correct answer is (C).", "C"),
        ("The correct answer is D", "D"),
        ("**The correct answer is (A)**", "A"),
        ("The correct answer is (B). No: The correct answer is (C)", "B"),  # the first counts
        ("The correct answer is A. Or (The correct answer is (B))", "B"),  # with brackets before without
        ("the correct answer is (A)", None),
        ("Answer: A", None),
        ("The correct answer is (E)", None),
    ],
)
def test_longbench_v2_reads_answers_as_its_repository_does(answer: str, letter: str | None) -> None:
    assert extract_v2(answer) == letter


def test_a_json_list_is_read_item_by_item_and_its_end_is_missed(tmp_path: Path) -> None:
    path = Path(longbench_v2(tmp_path, *["short"] * 30)) / "data.json"
    made = benchmark("longbench-v2", path=str(path))
    assert len(list(made)) == made.num_questions() == 30
    path.write_text(path.read_text()[:-40])
    with pytest.raises(LtrlError, match=r"is not JSON: item 30 is no JSON, or the file ends in it"):
        list(benchmark("longbench-v2", path=str(path)))


# LongReason


def longreason(tmp_path: Path) -> str:
    """Parquet files with the columns and the names of lz1bytedance/LongReason."""
    (tmp_path / "data").mkdir()
    for length in ("8k", "128k"):
        rows = [
            {"example_idx": i, "prompt": f"{length} passages. Question {i}? A. x B. y", "question": f"Question {i}?",
             "background": "b", "final_inquiry": "f", "analysis": "a", "answer": "A"}
            for i in range(2)
        ]  # fmt: skip
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data" / f"{length}-00000-of-00001.parquet")
    return str(tmp_path)


def test_longreason_asks_the_same_questions_at_each_length(tmp_path: Path) -> None:
    made = benchmark("longreason", path=longreason(tmp_path), lengths=["128k", "8k"])
    questions = list(made)
    assert made.num_questions() == len(questions)
    assert [(q.id, q.cluster, q.splits["length"]) for q in questions] == [
        ("128k-0", "0", "128k"), ("128k-1", "1", "128k"), ("8k-0", "0", "8k"), ("8k-1", "1", "8k"),
    ]  # fmt: skip
    assert questions[0].messages == (("user", "128k passages. Question 0? A. x B. y"),)
    outcomes = graded(made, (questions[0], "So the answer is (A)."), (questions[0], "Nobody knows."))
    assert outcomes == [Outcome(1.0, "A"), Outcome(0.0, None, "no letter")]


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("The answer is B.", "B"),
        ("The answer is A. Wait: the correct answer is **(C)**.", "C"),
        ("Answer: D", "D"),
        ("**Answer:** E", "E"),
        ("Therefore, $\\boxed{B}$.", "B"),
        ("\\boxed{\\text{C}}", "C"),
        ("Some reasoning\n\n(D)", "D"),
        ("B", "B"),
        ("C. twelve years", "C"),
        ("A man walks", None),
        ("The answer is a matter of taste", None),
        ("THE ANSWER IS B", "B"),
        ("The answer is (B). Option C is incorrect because it fails.", "B"),  # a letter spoken of is not declared
        ("The answer is B, since option A fails.", "B"),
        ("Answer: B. Choice A is a trap.", "B"),
        ("The answer is (B) rather than answer (A).", "B"),
        ("Option C is incorrect.", None),
        ("I choose option B.", "B"),
        ("My choice is B", "B"),
        ("Therefore, option (B).", "B"),
        ("B it is, so option A fails.\nOption B", "B"),
        ("**Option B**", "B"),
        ("Option B is the right answer.", "B"),
        ("The answer is **not** (B).", None),
        ("Option C fails. **Option B** is the correct answer.", "B"),
        ("The correct option is B", "B"),
        ("The answer is option (B)", "B"),
        ("\\boxed{B}: answer C is no better", "B"),
        ("The best answer is $B$.", "B"),
        ("Answer: `B`", "B"),
        ("The answer is \u201cB\u201d.", "B"),
        ("**B**. Because", "B"),
        ("", None),
    ],
)
def test_longreason_reads_the_last_letter_that_is_declared(answer: str, letter: str | None) -> None:
    assert extract(answer) == letter


@pytest.mark.parametrize("piece", ["\\boxed{", "answer:\n", "option A ", "B*", ".", "\n"])
def test_longreason_reads_an_answer_that_repeats_itself_in_no_time(piece: str) -> None:
    started = time.monotonic()
    assert extract(f"B{piece * 20_000}x") is None
    assert time.monotonic() - started < 5


# RULER


@given(st.permutations(["1234567", "7654321", "1111111"]))
def test_the_share_of_ruler_knows_no_order(order: list[str]) -> None:
    assert matched(" and ".join(order), ["7654321", "1111111", "1234567"]) == 1.0
    assert matched(order[0], ["7654321", "1111111", "1234567"]) == pytest.approx(1 / 3)


def test_ruler_ignores_case_and_counts_what_is_named() -> None:
    assert matched("bado and KIME", ["BADO", "KIME", "DURO", "LAFE"]) == 0.5
    assert matched("", ["X"]) == 0.0


@pytest.mark.parametrize("task", ["single", "multi-key", "multi-value", "multi-query", "variables"])
def test_ruler_hides_what_it_expects_and_is_about_as_long_as_asked(task: str) -> None:
    made = benchmark("ruler", tasks=[task], lengths=["2k", 8192], questions=3, seed=5)
    questions = list(made)
    assert made.num_questions() == len(questions)
    assert [q.splits["length"] for q in questions] == ["2k"] * 3 + ["8k"] * 3
    for question in questions:
        prompt = question.messages[0][1]
        length = 2048 if question.splits["length"] == "2k" else 8192
        assert 0.9 * length < len(prompt) / 4.1 < 1.1 * length
        assert graded(made, (question, prompt)) == [Outcome(1.0)]
        expected = question.extra["expected"]
        assert all(prompt.count(one) >= 1 for one in expected)
        assert graded(made, (question, expected[0]))[0].score == 1 / len(expected)
    assert questions == list(benchmark("ruler", tasks=[task], lengths=["2k", 8192], questions=3, seed=5))
    assert len({q.messages for q in questions}) == 6


def test_a_chain_of_variables_leads_to_its_value() -> None:
    [question] = benchmark("ruler", tasks=["variables"], lengths=["1k"], questions=1)
    lines = [line for line in question.messages[0][1].splitlines() if line.startswith("VAR ")]
    assigned = dict(line.removeprefix("VAR ").split(" = ") for line in lines)
    assert len(assigned) == 10

    def value(name: str) -> str:
        found = assigned[name]
        return value(found.removeprefix("VAR ")) if found.startswith("VAR ") else found

    asked = question.text.split("the value ")[1].split()[0]
    assert sorted(name for name in assigned if value(name) == asked) == sorted(question.extra["expected"])


# samples


def test_samples_of_the_training_are_judged_or_measured_by_their_evidence() -> None:
    data = {"backend": "entity-chain", "samples": 3, "seed": 9}
    judged = benchmark("samples", data=data, judge={"backend": "exact", "answer_pattern": "answer (.+)$"})
    evidence = benchmark("samples", data=data, measure="evidence")
    first, *_ = judged
    assert first.id == "entity-chain-9-0"
    one, two = first.extra["rubrics"]
    answer = f"evidence {one} answer {first.label}"
    assert [o.score for o in graded(judged, (first, answer), (first, f"answer {one}"))] == [1.0, 0.0]
    assert graded(evidence, (first, answer)) == [Outcome(0.5, reason=f"does not name {two}")]


# Files


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("data.txt", "x", r"`.*data\.txt` is none of `\.json`, `\.jsonl`, `\.csv`, `\.tsv`, `\.parquet`"),
        ("data.jsonl", '{"length": "none"}', r"record 1 of `.*` has `none` as its `length`, which is none of short,"),
        ("data.jsonl", "\n{", r"`.*data\.jsonl` is not JSONL: record 2: Expecting"),
        ("data.jsonl", "[" * 100000, r"`.*data\.jsonl` is not JSONL: record 1: maximum recursion depth"),
        ("data.json", "[" * 100000, r"`.*data\.json` is not JSON: item 1: maximum recursion depth"),
        ("data.tsv", "length\nshort\tlong\n", r"record 1 of `.*data\.tsv` has more fields than its head"),
        ("data.jsonl", "[1]\n", r"record 1 of `.*data\.jsonl` is no object"),
        ("data.jsonl", '{"_id": "1"}\n', r"record 1 of `.*` has no `length`"),
        ("data.jsonl", '{"_id": "1", "length": 3}\n', r"record 1 of `.*` has a `length` that is no text"),
        ("data.parquet", "no parquet", r"`.*data\.parquet` is not PARQUET: "),
        ("gone.json", None, r"cannot read the benchmark's data `.*gone\.json`: no such file"),
    ],
)
def test_files_that_cannot_be_used_are_told(tmp_path: Path, name: str, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(LtrlError, match=message):
        list(benchmark("longbench-v2", path=str(tmp_path / name)))


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (
            "longbench-v2",
            {"answer": "b"},
            "record 2 of `data.jsonl` has `b` as its `answer`, which is none of A, B,",
        ),
        ("longreason", {"answer": "Paris"}, "record 2 of `8k.jsonl` has `PARIS` as its `answer`, which is none of A,"),
        ("mrcr", {"prompt": "[]"}, "record 2 of `data.jsonl` has a `prompt` without a message"),
        ("mrcr", {"prompt": "{}"}, "record 2 of `data.jsonl` has a `prompt` without a message"),
        ("mrcr", {"n_needles": "2"}, "record 2 of `data.jsonl` has no number as its `n_needles`"),
    ],
)
def test_a_record_that_nobody_could_answer_is_told(
    tmp_path: Path, name: str, changes: dict[str, str], message: str
) -> None:
    """Left in, it would be wrong whatever a model says, or left out without a word."""
    prompt = json.dumps([{"role": "user", "content": "x"}])
    record = dict.fromkeys(("_id", "domain", "difficulty", "question", "context", "random_string_to_prepend"), "x")
    record |= {f"choice_{letter}": "x" for letter in "ABCD"}
    record |= {"length": "short", "answer": "A", "prompt": prompt, "n_needles": 2}
    file = tmp_path / ("8k.jsonl" if name == "longreason" else "data.jsonl")
    file.write_text(f"{json.dumps(record)}\n{json.dumps(record | changes)}\n")
    options = {"lengths": ["8k"], "path": str(tmp_path)} if name == "longreason" else {"path": str(tmp_path)}
    with pytest.raises(LtrlError) as caught:
        list(benchmark(name, **options))
    assert caught.value.diagnostics[0].message.replace(f"{tmp_path}/", "").startswith(message)
    assert caught.value.diagnostics[0].position is not None


def test_a_directory_without_the_files_is_told(tmp_path: Path) -> None:
    with pytest.raises(LtrlError, match=r"`.*` has no file like `data/8k-\*\.parquet`, `8k-\*\.parquet`"):
        list(benchmark("longreason", path=str(tmp_path), lengths=["8k"]))


def test_without_a_network_the_hub_is_told_and_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(LtrlError) as caught:
        list(benchmark("longbench-v2"))
    [found] = caught.value.diagnostics
    assert found.message.startswith("cannot load `zai-org/LongBench-v2` from the hub: ")
    assert found.hint is not None
    assert found.hint.startswith("give the files of `zai-org/LongBench-v2` as `path`")
