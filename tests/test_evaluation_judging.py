"""Answers that a judge grades: while others are asked for, once, and with what it took."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from loopback_judge import Answer, LoopbackJudge, loopback_judge
from small_evaluation import LTRL, completion, evaluated, spec

from ltrl.cli import main
from ltrl.evaluation.summary import summaries
from ltrl.scoring import Usage

PRICES = {"prompt": 2000.0, "response": 10000.0}


def judged(judge: LoopbackJudge, samples: int, **options: Any) -> dict[str, Any]:
    """A benchmark of questions whose answers a judge compares."""
    section = {"backend": "openai", "base_url": judge.base_url, "model": "j", "template": "aa-lcr", "retries": 0}
    data = {"backend": "entity-chain", "samples": samples}
    return {"held": {"backend": "samples", "data": data, "judge": section | {"replies": 1} | options}}


def own_words(number: int, request: dict[str, Any]) -> Answer:
    return completion(f"answer {number}")


def test_answers_are_judged_while_others_are_asked_for(tmp_path: Path) -> None:
    is_judging = threading.Event()

    def model(number: int, request: dict[str, Any]) -> Answer:
        if number >= 4:
            assert is_judging.wait(30)
        return own_words(number, request)

    def judge(number: int, request: dict[str, Any]) -> Answer:
        is_judging.set()
        return completion("CORRECT" if number % 2 else "INCORRECT")

    with loopback_judge(script=model) as answers, loopback_judge(script=judge) as verdicts:
        path = spec(tmp_path, answers.base_url, benchmarks=judged(verdicts, 8), requests__timeout_seconds=60.0)
        samples = evaluated(path, tmp_path / "out")
        assert (len(answers.requests), len(verdicts.requests)) == (8, 8)
        assert max(verdicts.most_at_once, 1) <= 4
        before = (tmp_path / "out/samples.jsonl").read_bytes()
        evaluated(path, tmp_path / "out")
        assert (len(answers.requests), len(verdicts.requests)) == (8, 8)
    assert sum(s.score or 0 for s in samples) == 4
    assert (tmp_path / "out/samples.jsonl").read_bytes() == before


def test_a_slow_judge_holds_further_questions_up(tmp_path: Path) -> None:
    is_judged = threading.Event()

    def judge(number: int, request: dict[str, Any]) -> Answer:
        assert is_judged.wait(30)
        return completion("CORRECT")

    with loopback_judge(script=own_words) as answers, loopback_judge(script=judge) as verdicts:
        path = spec(tmp_path, answers.base_url, benchmarks=judged(verdicts, 40), requests__concurrency=2)
        running = threading.Thread(target=evaluated, args=(path, tmp_path / "out"))
        running.start()
        while len(verdicts.requests) < 2:
            time.sleep(0.01)
        time.sleep(0.3)
        assert len(answers.requests) <= 5  # 2 with the judge, 1 that waits for it, 2 whose connections wait
        is_judged.set()
        running.join()
    assert (len(answers.requests), len(verdicts.requests)) == (40, 40)


def test_what_judging_took_is_counted_beside_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A try without a verdict has its price too, and what another call has asked is not counted again."""
    replies = ["CORRECT", "perhaps", "CORRECT", "INCORRECT"]

    def judge(number: int, request: dict[str, Any]) -> Answer:
        return completion(replies[number])

    page = tmp_path / "page.html"
    with loopback_judge(script=own_words) as answers, loopback_judge(script=judge) as verdicts:
        path = spec(
            tmp_path, answers.base_url, benchmarks=judged(verdicts, 3, concurrency=1, prices=PRICES), max_missing=0.5,
            endpoint__prices={"prompt": 1.0, "response": 1.0},
        )  # fmt: skip
        first = evaluated(path, tmp_path / "out")
        assert sorted(s.status for s in first) == ["graded", "graded", "unjudged"]
        assert {s.judge for s in first} == {Usage(1, 100, 7, 0.27)}
        again = evaluated(path, tmp_path / "out")
        evaluated(path, tmp_path / "out")
        assert len(verdicts.requests) == 4
    tries = Usage(2, 200, 14, 0.54)
    assert [s.judge for s in again] == [tries if s.status == "unjudged" else Usage(1, 100, 7, 0.27) for s in first]
    [one] = summaries(again)
    assert one.counts.judge == Usage(4, 400, 28, pytest.approx(1.08))
    assert (one.counts.prompt_tokens, one.counts.response_tokens) == (300, 21)
    monkeypatch.setattr("sys.argv", ["ltrl", "eval", "show", str(tmp_path / "out"), "--html", str(page)])
    with pytest.raises(SystemExit):
        main()
    printed = capsys.readouterr().err
    assert "300 tokens of prompts, 21 of responses: 0.00\n" in printed
    assert "judges: 4 replies, 400 tokens of prompts, 28 of responses: 1.08\n" in printed
    assert "judges: 4 replies, 400 tokens of prompts, 28 of responses: 1.08" in page.read_text()
    assert "judge 200 + 14 tokens" in page.read_text()


def test_equal_answers_are_judged_once_and_counted_once(tmp_path: Path) -> None:
    with (
        loopback_judge(script=lambda *_: completion("same")) as answers,
        loopback_judge(completion("CORRECT")) as verdicts,
    ):
        slow = Answer(body=completion("CORRECT").body, delay=0.2)
        verdicts.script = lambda *_: slow
        path = spec(tmp_path, answers.base_url, benchmarks=judged(verdicts, 1), sampling__samples=4)
        samples = evaluated(path, tmp_path / "out")
    [one] = summaries(samples)
    assert one.counts.judge == Usage(len(verdicts.requests), 100 * len(verdicts.requests), 7 * len(verdicts.requests))
    assert [s.score for s in samples] == [1.0] * 4


def test_a_panel_counts_all_its_members(tmp_path: Path) -> None:
    with loopback_judge(script=own_words) as answers, loopback_judge(completion("CORRECT")) as verdicts:
        member = judged(verdicts, 1)["held"]["judge"]
        panel = {"backend": "panel", "judges": [member, member | {"prices": PRICES}, "exact"]}
        benchmarks = judged(verdicts, 2)
        benchmarks["held"]["judge"] = panel
        samples = evaluated(spec(tmp_path, answers.base_url, benchmarks=benchmarks), tmp_path / "out")
    assert [s.judge for s in samples] == [Usage(2, 200, 14, 0.27)] * 2


def test_a_killed_evaluation_asks_no_judge_twice_and_loses_no_count(tmp_path: Path) -> None:
    """Only what a judge was asked just then is asked again."""

    def judge(number: int, request: dict[str, Any]) -> Answer:
        return Answer(body=completion("CORRECT").body, delay=0.03)

    with loopback_judge(script=own_words) as answers, loopback_judge(script=judge) as verdicts:
        path, out = spec(tmp_path, answers.base_url, benchmarks=judged(verdicts, 40)), tmp_path / "out"
        argv = [sys.executable, "-c", LTRL, "eval", str(path), "-o", str(out), "--json"]
        process = subprocess.Popen(argv, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while len(verdicts.requests) < 20 and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        logged, before = (out / "outcomes.jsonl").read_text().count("\n"), len(verdicts.requests)
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert logged > 0
    assert len(verdicts.requests) - before == 40 - logged
    [counts] = [one["counts"] for one in json.loads(done.stdout)["benchmarks"]]
    assert counts["judge"] == {"replies": 40, "prompt_tokens": 4000, "response_tokens": 280, "cost": None}


def test_a_judge_is_not_asked_again_for_what_grading_does_not_depend_on(tmp_path: Path) -> None:
    def changed(name: str, value: object) -> dict[str, Any]:
        benchmarks = judged(verdicts, 6)
        section = benchmarks["held"] if name in ("limit", "samples") else benchmarks["held"]["judge"]
        section[name] = value
        return benchmarks

    with loopback_judge(script=own_words) as answers, loopback_judge(completion("CORRECT")) as verdicts:
        for name, value, requests in (
            ("limit", 3, 3), ("limit", None, 6), ("concurrency", 2, 6), ("prices", PRICES, 6), ("samples", 2, 12),
            ("temperature", 0.5, 18),
        ):  # fmt: skip
            evaluated(spec(tmp_path, answers.base_url, benchmarks=changed(name, value)), tmp_path / "out")
            assert len(verdicts.requests) == requests, name


def test_a_corrected_answer_key_is_held_against_the_answers_anew(tmp_path: Path) -> None:
    """The prompt is the same, and so is the answer to it; the old outcome is of the old key."""
    data = tmp_path / "data.jsonl"
    record = {
        "_id": "1", "domain": "d", "sub_domain": "s", "difficulty": "easy", "length": "short", "question": "Which?",
        "choice_A": "a", "choice_B": "b", "choice_C": "c", "choice_D": "d", "context": "Text.",
    }  # fmt: skip
    scores = []
    with loopback_judge(completion("The correct answer is (B).")) as server:
        path = spec(tmp_path, server.base_url, benchmarks={"v2": {"backend": "longbench-v2", "path": str(data)}})
        for answer in "AB":
            data.write_text(json.dumps(record | {"answer": answer}) + "\n")
            scores += [sample.score for sample in evaluated(path, tmp_path / "out")]
        assert len(server.requests) == 1
    assert scores == [0.0, 1.0]
