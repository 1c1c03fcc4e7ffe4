"""Comparisons, the paper's table and pages, from results on disk."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from small_evaluation import LTRL

from ltrl.cli import main
from ltrl.cli.show.evaluation_html import comparison_page
from ltrl.evaluation.comparison import compare
from ltrl.evaluation.paper import BENCHMARKS, TABLE, reproduced
from ltrl.evaluation.results import Head, Sample, read, write
from ltrl.evaluation.summary import summaries


def sample(benchmark: str, question: int, score: float | None, number: int = 0, **more: Any) -> Sample:
    known: dict[str, Any] = {
        "status": "unjudged" if score is None else "graded",
        "label": "Duro",
        "text": f"Who is <b>{question}</b>?",
        "cluster": str(question),
        "splits": {"length": "8k" if question % 2 else "16k"},
        "answer": f"answer of {question}",
        "reasoning": "first\nthen",
        "response_tokens": 7,
    }
    return Sample(benchmark, str(question), number, score=score, **known | more)


def results(directory: Path, samples: list[Sample], *, backends: dict[str, str] | None = None) -> Path:
    directory.mkdir(parents=True)
    names = dict.fromkeys(s.benchmark for s in samples)
    section = {"benchmarks": {name: {"backend": (backends or {}).get(name, "ruler")} for name in names}}
    write(directory, Head(directory.name, "a-model", "x", section, "exact"), samples)
    return directory


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["ltrl", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


def test_samples_come_back_as_they_were(tmp_path: Path) -> None:
    made = [sample("n", 1, 0.5, ill_formed=("Wrong thinking format.",), extracted="B"), sample("n", 2, None)]
    assert list(read(results(tmp_path / "a", made))) == made


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (["128k", "8k", "expanded"], ["128k", "8k", "expanded"]),
        (["128k", "8k", "64k"], ["8k", "64k", "128k"]),
        (["~64k-128k", "~512k-1m", "~4k-8k", "~<4k"], ["~<4k", "~4k-8k", "~64k-128k", "~512k-1m"]),
        ([">1m", "<4k", "4k-8k", "512k-1m"], ["<4k", "4k-8k", "512k-1m", ">1m"]),
        (["8", "2", "4"], ["2", "4", "8"]),
    ],
)
def test_parts_stand_by_the_size_that_they_name(parts: list[str], expected: list[str]) -> None:
    made = [sample("n", i, 1.0, splits={"length": part}) for i, part in enumerate(parts)]
    [found] = summaries(made)
    assert list(found.parts["length"]) == expected


def test_two_models_are_compared_on_the_questions_that_both_answered(tmp_path: Path) -> None:
    a = results(tmp_path / "a", [sample("n", i, float(i < 10)) for i in range(40)] + [sample("n", 50, 1.0)])
    b = results(tmp_path / "b", [sample("n", i, None if i == 39 else float(i < 30)) for i in range(40)])
    [found] = compare(a, b)
    assert (found.a.num_questions, found.num_unpaired) == (39, 2)
    assert found.difference.estimate.value == pytest.approx(20 / 39)
    assert (found.difference.num_better, found.difference.num_worse) == (20, 0)
    assert found.is_significant
    assert {name: part.a.num_questions for name, part in found.parts["length"].items()} == {"16k": 20, "8k": 19}


def test_the_command_says_who_is_better_and_how_sure_that_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    a = results(tmp_path / "a", [sample(n, i, float(i < 10)) for n in ("x", "y") for i in range(40)])
    right = {"x": 30, "y": 11}
    b = results(tmp_path / "b", [sample(n, i, float(i < right[n])) for n in ("x", "y") for i in range(40)])
    page = tmp_path / "page.html"
    status, out, err = run(capsys, monkeypatch, "eval", "compare", str(a), str(b), "--html", str(page))
    assert status == 0
    lines = [re.split(r" {2,}", line.strip()) for line in out.splitlines() if line.strip()]
    assert lines[0] == ["questions", "a", "b", "b - a", "95% interval", "p", "p (Holm)", "better", "worse", "unpaired"]
    assert lines[2] == ["x", "40", "25.0", "75.0", "+50.0", "35.0 to 65.0", "<0.001", "<0.001", "20", "0", "0"]
    assert "x: b is better; +50.0 (35.0 to 65.0) points, p <0.001\n" in err
    assert "y: no difference that these questions can show; +2.5 (0.0 to 7.5) points, p 1.000\n" in err
    text = page.read_text()
    assert text.count('<details class="answer improved">') == 21
    assert text.count('<details class="answer same">') == 59
    assert "Better with b (21)" in text
    assert "<b>0</b>?" not in text  # what a question says is text
    assert "Who is &lt;b&gt;0&lt;/b&gt;?" in text
    status, out, _ = run(capsys, monkeypatch, "eval", "compare", str(a), str(b), "--json")
    assert [one["p_holm"] < 0.05 for one in json.loads(out)["benchmarks"]] == [True, False]


@pytest.mark.parametrize("command", ["show", "compare"])
def test_a_narrow_terminal_leaves_columns_out_and_breaks_no_number(tmp_path: Path, command: str) -> None:
    made = [sample("a-benchmark-of-a-long-name", i, float(i < 10), finish_reason="length") for i in range(40)]
    made[7] = sample("a-benchmark-of-a-long-name", 7, None)
    where = [str(results(tmp_path / name, made)) for name in ("a", "b")]
    terminal, program = pty.openpty()
    done = subprocess.Popen(
        [sys.executable, "-c", LTRL, "eval", command, *(where if command == "compare" else where[:1])],
        stdout=program, stderr=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "50"},
    )  # fmt: skip
    _, err = done.communicate()
    os.close(program)
    printed = re.sub(r"\x1b\[[\d;]*m", "", os.read(terminal, 1 << 16).decode())
    os.close(terminal)
    lines = printed.replace("\r", "").splitlines()
    assert max(map(len, lines)) <= 50
    figures = {
        "show": r" a-benchmark-o\s+39    23.1   10.3 to 35.9\s*",
        "compare": r" a-benchmark-\S*\s+39   23.1   23.1    \+0.0\s*",
    }
    assert any(re.fullmatch(figures[command], line) for line in lines), printed
    left = {
        "show": "±, missing, truncated",
        "compare": "95% interval, p, p (Holm), better, worse, unpaired",
    }
    assert f"no room in this terminal for: {left[command]}; `--json` has all\n" in err


def test_other_questions_under_the_same_id_are_not_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    a = results(tmp_path / "a", [sample("n", i, 1.0) for i in range(6)])
    changed: dict[int, dict[str, Any]] = {0: {"label": "Nadi"}, 3: {"text": "Who else?"}}
    b = results(tmp_path / "b", [sample("n", i, 0.0, **changed.get(i, {})) for i in range(6)])
    [found] = compare(a, b)
    assert (found.a.num_questions, found.num_unpaired, found.num_different) == (4, 2, 2)
    assert [part.num_different for part in found.parts["length"].values()] == [1, 1]
    page = tmp_path / "page.html"
    status, _, err = run(capsys, monkeypatch, "eval", "compare", str(a), str(b), "--html", str(page))
    assert status == 0
    assert "n: left out for another text or right answer under the same id: 2 questions\n" in err
    assert page.read_text().count('<details class="answer ') == 4
    c = results(tmp_path / "c", [sample("n", i, 0.0, label="Nadi") for i in range(6)])
    status, _, err = run(capsys, monkeypatch, "eval", "compare", str(a), str(c))
    assert status == 1
    assert "hint: questions of the same id are different ones there" in err


def test_the_page_colours_only_what_the_questions_can_show(tmp_path: Path) -> None:
    """Five questions that all got better: the interval leaves out 0, p of the test is 1/16."""
    a, b = (results(tmp_path / name, [sample("n", i, score, splits={}) for i in range(5)])
            for name, score in (("a", 0.0), ("b", 1.0)))  # fmt: skip
    found = compare(a, b)
    assert (found[0].difference.estimate.low > 0, found[0].is_significant) == (True, False)
    text = comparison_page("Two models", found, [], ("a", "b"))
    assert '<span class="faint">+100.0</span>' in text


def test_pass_at_k_stands_with_its_k(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = [sample("four", i, float(i == number), number) for i in range(2) for number in range(4)]
    made += [sample("three", i, float(i == number == 0), number) for i in range(2) for number in range(3)]
    made += [sample("once", 0, 1.0)]
    where = results(tmp_path / "a", made)
    page = tmp_path / "page.html"
    _, out, _ = run(capsys, monkeypatch, "eval", "show", str(where), "--html", str(page))
    rows = {row[0]: row for line in out.splitlines() if (row := re.split(r" {2,}", line.strip()))}
    assert out.split("pass@")[1].startswith("k")
    assert (rows["four"][5], rows["three"][5], rows["once"][5:]) == ("100.0 @4", "50.0 @3", [])
    text = page.read_text()
    assert '<th class="number">pass@k</th>' in text
    assert '<td class="number">100.0 @4</td>' in text
    assert '<td class="number">50.0 @3</td>' in text


def test_results_of_other_benchmarks_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = results(tmp_path / "a", [sample("x", 1, 1.0)]), results(tmp_path / "b", [sample("y", 1, 1.0)])
    status, _, err = run(capsys, monkeypatch, "eval", "compare", str(a), str(b))
    assert status == 1
    assert err == (
        f"error[LTRL070]: no benchmark has a question that both have answers to: `{a}` has `x`, `{b}` `y`\n"
        "hint: compare results of the same benchmarks, by the same names\n"
    )


def test_the_page_of_an_evaluation_has_every_answer_by_its_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = [sample("n", 1, 1.0), sample("n", 2, 0.0), sample("n", 3, 0.4), sample("n", 4, None, reason="HTTP 500")]
    made[1] = sample("n", 2, 0.0, answer="x" * 9000, reasoning=None)
    where = results(tmp_path / "a", made)
    page = tmp_path / "page.html"
    status, out, _ = run(capsys, monkeypatch, "eval", "show", str(where), "--html", str(page))
    assert status == 0
    assert re.search(r"n +3 +46\.7 ", out)
    text = page.read_text()
    for state, label in (("right", "Right"), ("wrong", "Wrong"), ("partly", "Partly"), ("missing", "Missing")):
        assert f'<details class="answer {state}">' in text
        assert f"{label} (1)" in text
        assert f"body:has(#show-{state}:checked) details.answer:not(.{state}) {{ display: none }}" in text
    assert "unjudged; HTTP 500; 0 + 7 tokens" in text
    assert "… 3,000 characters before this …" in text
    assert "<script" not in text


def test_the_table_is_the_papers() -> None:
    """Its averages are of figures with more digits than it prints."""
    for model, rows in TABLE.items():
        for training, (*figures, average) in rows.items():
            assert sum(figures) / 5 == pytest.approx(average, abs=0.061), (model, training)
    assert TABLE["4b"]["longtracerl"] == (41.8, 45.8, 79.5, 44.1, 83.8, 59.0)
    assert TABLE["30b"]["grpo"] == (48.2, 44.7, 79.6, 51.8, 86.9, 62.3)  # as printed: its columns make 62.24


def test_our_figures_stand_beside_the_papers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {f"my-{name}": name for name in BENCHMARKS}
    made = [sample(name, i, float(i < 42)) for name in names for i in range(100)]
    where = results(tmp_path / "ours", made, backends=names)
    page = tmp_path / "page.html"
    status, out, _ = run(capsys, monkeypatch, "eval", "paper", f"4b/longtracerl={where}", "--html", str(page))
    assert status == 0
    lines = out.splitlines()
    at = lines.index(f"| **ours** (`{where}`) | 42.0 | 42.0 | 42.0 | 42.0 | 42.0 | 42.0 |")
    assert lines[at - 1] == "| LongTraceRL, paper | 41.8 | 45.8 | 79.5 | 44.1 | 83.8 | 59.0 |"
    assert lines[at + 1] == (
        "| difference | +0.2 (33.0 to 52.0) | -3.8 (33.0 to 52.0) | -37.5 (33.0 to 52.0) | -2.1 (33.0 to 52.0) | "
        "-41.8 (33.0 to 52.0) | -17.0 |"
    )
    assert sum("paper |" in line for line in lines) == 18
    assert '<span class="faint">+0.2 (33.0 to 52.0)</span>' in page.read_text()
    assert '<span class="down">-37.5 (33.0 to 52.0)</span>' in page.read_text()
    row = next(row for row in reproduced({"4b/longtracerl": [where]}) if row.results)
    assert [cell.is_inside for cell in row.cells] == [True, True, False, True, False]


@pytest.mark.parametrize(
    ("argument", "status", "message"),
    [
        ("4b/longtracrl={}", 1, "the paper's table has no row `4b/longtracrl`\nhint: did you mean `4b/longtracerl`?\n"),
        ("4b/base={}", 1, "has no answers to a benchmark of the paper"),
        ("4b/base=nowhere", 1, "`nowhere` holds no results of an evaluation"),
        ("4b/base", 2, "`4b/base` is not ROW=DIR"),
    ],
)
def test_rows_that_cannot_be_filled_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    argument: str, status: int, message: str,
) -> None:  # fmt: skip
    where = results(tmp_path / "a", [sample("n", 1, 1.0)])
    monkeypatch.chdir(tmp_path)
    found, _, err = run(capsys, monkeypatch, "eval", "paper", argument.format(where))
    assert found == status
    assert message in err


def test_a_damaged_file_of_results_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    where = results(tmp_path / "a", [sample("n", 1, 1.0)])
    (where / "samples.jsonl").write_text('{"benchmark": "n"}\n')
    assert (
        f"line 1 of `{where / 'samples.jsonl'}` is no sample" in run(capsys, monkeypatch, "eval", "show", str(where))[2]
    )
    (where / "evaluation.json").write_text("[]")
    assert "is no head of results" in run(capsys, monkeypatch, "eval", "show", str(where))[2]
