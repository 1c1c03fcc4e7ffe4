"""`ltrl reward`: what a person or a program meets, and what is left when it is killed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from loopback_judge import Answer, loopback_judge

ROOT = Path(__file__).resolve().parent.parent
QUICKSTART = ROOT / "specs" / "quickstart.yaml"
LTRL = "import sys; sys.argv[0] = 'ltrl'; from ltrl.cli import main; main()"
SPEC = ("--spec", "specs/quickstart.yaml")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with rollouts of four groups of two."""
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "quickstart.yaml").write_text(QUICKSTART.read_text())
    with (tmp_path / "rollouts.jsonl").open("w") as file:
        for group in range(4):
            for named in ("Kime Bado", "Kime"):
                response = f"Bado\n</think>\n\nevidence {named} answer Duro<|im_end|>"
                record = {"sample": f"s{group}", "question": "Who?", "label": "Duro", "rubrics": ["Kime", "Bado"]}
                file.write(json.dumps(record | {"response": response}) + "\n")
    return tmp_path


def argv(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-W", "error", "-c", LTRL, "reward", *map(str, arguments)]


def reward(project: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "120"}
    return subprocess.run(argv(*arguments), cwd=project, env=environment, capture_output=True, text=True, check=False)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_scores_are_a_line_for_each_response(project: Path) -> None:
    done = reward(project, "score", "rollouts.jsonl", *SPEC, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {
        "file": "rollouts.scores.jsonl",
        "groups": 4,
        "lost": 0,
        "reward": pytest.approx(0.925),
        "rubric": 0.75,
        "responses": 8,
        "right": 8,
        "mixed": 4,
    }
    head, first, second, *_ = lines(project / "rollouts.scores.jsonl")
    assert (head["ltrl_scores"], head["reward"]["backend"], head["chat_format"]) == (2, "rubric", "qwen3")
    assert first == {
        "file": "rollouts.jsonl",
        "line": 1,
        "sample": "s0",
        "number": 1,
        "of": 2,
        "reward": 1.0,
        "advantage": pytest.approx(0.7071, abs=1e-4),
        "outcome": 1.0,
        "rubric": 1.0,
        "zeroed": "",
        "why": "right",
        "verdict": {"is_correct": True, "reason": "", "words": ""},
        "hits": [{"entity": "Kime", "spans": [[9, 13]]}, {"entity": "Bado", "spans": [[14, 18]]}],
        "parts": {},
        "digest": second["digest"],
    }
    assert second["hits"][1] == {"entity": "Bado", "spans": []}


def test_scoring_again_scores_nothing_twice(project: Path) -> None:
    reward(project, "score", "rollouts.jsonl", *SPEC)
    before = (project / "rollouts.scores.jsonl").read_bytes()
    again = reward(project, "score", "rollouts.jsonl", *SPEC, "--json")
    assert json.loads(again.stdout)["responses"] == 8
    assert (project / "rollouts.scores.jsonl").read_bytes() == before
    other = reward(project, "score", "rollouts.jsonl", *SPEC, "--set", "reward.eta=0.5")
    assert (other.returncode, other.stdout) == (1, "")
    assert other.stderr == (
        "error[LTRL082]: `rollouts.scores.jsonl` holds the scores of other responses or by another reward\n"
        "hint: `-o FILE` writes elsewhere, `--replace` starts over\n"
    )
    assert reward(project, "score", "rollouts.jsonl", *SPEC, "--set", "reward.eta=0.5", "--replace").returncode == 0


def test_a_killed_scoring_is_gone_on_with_and_no_verdict_is_asked_for_twice(project: Path) -> None:
    with loopback_judge(*[Answer()] * 5, Answer(delay=3600)) as judge:
        section = {"backend": "openai", "base_url": judge.base_url, "model": "judge", "concurrency": 1, "cache": "v.db"}
        command = ("score", "rollouts.jsonl", *SPEC, "--set", f"reward.judge={json.dumps(section)}")
        # Questions differ, so that each response is a question of its own to the cache.
        rollouts = lines(project / "rollouts.jsonl")
        for number, record in enumerate(rollouts):
            record["question"] = f"Who is number {number // 2}?"
            record["response"] = record["response"].replace("Duro", f"Duro of {number}")
        (project / "rollouts.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rollouts))
        process = subprocess.Popen(argv(*command), cwd=project, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while len(judge.requests) < 6:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        done = [(one["sample"], one["number"]) for one in lines(project / "rollouts.scores.jsonl")[1:]]
        assert done == [("s0", 1), ("s0", 2), ("s1", 1), ("s1", 2)]
        judge.script = lambda *_: Answer()
        finished = reward(project, *command, "--json")
        assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout)["right"] == 8
    done = [(one["sample"], one["number"]) for one in lines(project / "rollouts.scores.jsonl")[1:]]
    assert done == [(f"s{group}", number) for group in range(4) for number in (1, 2)]
    asked = [re.findall(r"Duro of (\d)", prompt)[0] for prompt in judge.prompts()]
    assert asked == ["0", "1", "2", "3", "4", "5", "5", "6", "7"]  # the sixth got no answer before the kill


def test_several_files_need_a_place_for_their_scores(project: Path) -> None:
    done = reward(project, "score", "rollouts.jsonl", "rollouts.jsonl", *SPEC)
    assert (done.returncode, "several files need `-o FILE`" in done.stderr) == (2, True)


def test_rollouts_are_never_overwritten_by_their_scores(project: Path) -> None:
    rollouts = project / "rollouts.jsonl"
    before = rollouts.read_bytes()
    (project / "link.jsonl").symlink_to(rollouts)
    for out in ("rollouts.jsonl", "link.jsonl"):
        done = reward(project, "score", "rollouts.jsonl", *SPEC, "-o", out, "--replace")
        assert (done.returncode, f"`{out}` holds the rollouts to score" in done.stderr) == (2, True)
    (project / "other.jsonl").write_bytes(before)
    done = reward(project, "score", "rollouts.jsonl", *SPEC, "-o", "other.jsonl", "--replace")
    assert done.returncode == 1
    assert done.stderr == "error[LTRL082]: `other.jsonl` holds no scores\nhint: `-o FILE` writes elsewhere\n"
    assert rollouts.read_bytes() == (project / "other.jsonl").read_bytes() == before


def test_a_directory_holds_no_rollouts(project: Path) -> None:
    done = reward(project, "score", ".", *SPEC)
    assert (done.returncode, done.stderr) == (1, "error[LTRL001]: cannot read the rollouts `.`: is a directory\n")


def test_a_comparison_lists_options_and_responses(project: Path) -> None:
    change = ("--set", "reward.eta=0.5", "--limit", "1", "--html", "page.html")
    done = reward(project, "compare", "rollouts.jsonl", "--a", "specs/quickstart.yaml", *change)
    assert (done.returncode, done.stderr) == (0, "page: page.html\n")
    text = re.sub(r" +", " ", done.stdout)
    assert "reward.eta 0.3 0.5" in text
    assert "mean reward 0.9250 0.8750" in text
    assert "rewards that differ 4" in text
    assert "advantages that change sign 0" in text
    page = (project / "page.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "<td>reward.eta</td><td>0.3</td><td>0.5</td>" in page
    assert not re.search(r"(src|href)=|@import|url\(", page)  # it needs nothing but itself
    assert "prefers-color-scheme: dark" in page


def test_an_explanation_marks_what_was_found(project: Path) -> None:
    done = reward(project, "explain", "rollouts.jsonl", *SPEC, "--id", "s1#2", "--html", "page.html")
    assert (done.returncode, done.stderr) == (0, "page: page.html\n")
    assert [line.rstrip() for line in done.stdout.splitlines()] == [
        "s1#2, rollouts.jsonl:4 " + "─" * 97,
        "question    Who?",
        "label       Duro",
        "reward      0.850, advantage -0.707 among 2",
        "outcome     1.000, right",
        "rubric      0.500",
        "response    completed",
        "",
        "     entity   places",
        " ───────────────────",
        " 1   Kime     9-13",
        " 2   Bado",
        "",
        "answer",
        "evidence [1:Kime] answer Duro",
    ]
    assert 'evidence <mark style="--hue:137">Kime<sup>1</sup></mark> answer Duro' in (project / "page.html").read_text()
    every = json.loads(reward(project, "explain", "rollouts.jsonl", *SPEC, "--id", "s1", "--json").stdout)
    assert [one["marks"] for one in every] == [{"answer": [[9, 13, 1], [14, 18, 2]]}, {"answer": [[9, 13, 1]]}]
    none = reward(project, "explain", "rollouts.jsonl", *SPEC, "--id", "s9")
    assert none.stderr == (
        "error[LTRL081]: `rollouts.jsonl` has no response `s9`\nhint: `ltrl reward score` lists their ids\n"
    )


def test_what_a_response_says_cannot_steer_the_terminal_or_the_page(project: Path) -> None:
    hostile = "\x1b[31mred <script>alert(1)</script> [bold]x[/bold]"
    record = {"sample": "<s>", "question": hostile, "label": hostile, "rubrics": ["red", "<b>script</b>"]}
    text = json.dumps(record | {"response": f"t\n</think>\n\n{hostile}\nnext<|im_end|>"})
    (project / "rollouts.jsonl").write_text(text + "\n")
    done = reward(project, "explain", "rollouts.jsonl", *SPEC, "--id", "<s>", "--html", "page.html")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert "[bold]x[/bold]" in done.stdout
    page = (project / "page.html").read_text()
    assert "<script" not in page
    assert "<b>" not in page


def test_lint_says_where_and_how_many_and_fails_for_errors_alone(project: Path) -> None:
    def record(name: str, rubrics: list[str]) -> str:
        info = {"question": f"{name}?", "rubrics": rubrics, "dataset_name": "longqa"}
        messages = [{"role": "user", "content": f"Kime knows Bado. {name}?"}]
        metadata = {"id": name, "extra_reward_info": info}
        return json.dumps({"source": "x", "input_messages": messages, "label": "X", "metadata": metadata}) + "\n"

    data = project / "data.jsonl"
    data.write_text(record("a", ["Kime"]) + record("b", ["Duro"]))
    doubts = reward(project, "lint", "data.jsonl")
    assert doubts.returncode == 0
    assert doubts.stderr == (
        "data.jsonl:2: warning[LTRL084]: the prompt does not name the entity `Duro` "
        "(is it written in another way there? give the names as `metadata.aliases`)\n"
    )
    data.write_text(data.read_text() + record("c", ["…"]) * 2)
    errors = reward(project, "lint", "data.jsonl", "--limit", "1")
    assert errors.returncode == 1
    assert errors.stderr == (
        "data.jsonl:3: error[LTRL083]: the entity `…` has nothing to look for (it needs a letter or a digit)\n"
        "4 findings are not shown; `--limit 5` shows all\n"
    )
    assert errors.stdout.endswith("4 records, 5 findings\n")
    found = json.loads(reward(project, "lint", "data.jsonl", "--json").stdout)
    assert found["counts"] == {"absent": 1, "empty": 2, "same-id": 1, "same-question": 1}
    assert [one["line"] for one in found["findings"]] == [3, 4, 4, 2, 4]
