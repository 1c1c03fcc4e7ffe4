"""Evaluations over HTTP on loopback: endpoints that misbehave, processes that are killed, judges that are away."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from loopback_judge import Answer, free_port, loopback_judge
from small_evaluation import LTRL, NUMBER, completion, evaluated, found_in, is_alive, knows, spec

from ltrl.cli.show.evaluation import summary
from ltrl.errors import LtrlError
from ltrl.evaluation.asking import Prompt, Target
from ltrl.evaluation.measure import measure
from ltrl.evaluation.results import read, read_head
from ltrl.evaluation.spec import Requests, Sampling
from ltrl.evaluation.subject import measurement, written
from ltrl.evaluation.summary import summaries


def test_a_model_is_asked_and_its_answers_are_graded(tmp_path: Path) -> None:
    with loopback_judge(script=knows) as server:
        samples = evaluated(spec(tmp_path, server.base_url, sampling__samples=2), tmp_path / "out")
    assert len(server.requests) == 12
    assert {key: value for key, value in server.requests[0].items() if key not in ("messages", "seed")} == {
        "model": "served", "temperature": 0.6, "top_p": 0.95, "top_k": 20, "max_tokens": 256,
    }  # fmt: skip
    seeds = [request["seed"] for request in server.requests]
    assert len(set(seeds)) == 12  # questions that share one share their luck
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert [(s.question, s.number) for s in samples] == [
        (f"0-single-{length}-{i}", number) for length in (256, 512) for i in range(3) for number in range(2)
    ]
    first = samples[0]
    assert (first.status, first.score, first.answer) == ("graded", 1.0, f"It is {first.label}.")
    assert (first.prompt_tokens, first.response_tokens, first.finish_reason) == (100, 7, "stop")
    head = read_head(tmp_path / "out")
    assert (head.name, head.model, head.identity, head.lengths) == ("tiny", "served", "served@", "estimated")
    [one] = summaries(samples)
    assert one.score is not None
    assert (one.score.value, one.score.num_questions) == (1.0, 6)
    assert {name: part.counts.answers for name, part in one.parts["length"].items()} == {"256": 6, "512": 6}
    assert one.pass_at[2].value == 1.0


@pytest.mark.parametrize(
    "text", ['"quoted" \\ and\nbroken\t\x00\x1f\x7f', "größer 漢字 🦙 \u2028", "half a pair: \ud83e"]
)
def test_a_prompt_arrives_as_it_was_whatever_is_in_it(text: str) -> None:
    target = Target("http://m/v1", "m", "m", Sampling(seed=None), Requests(), 64, 512)
    one, two = Prompt.all_of(target, (("system", "Be brief."), ("user", text)), None, 2)
    assert json.loads(b"".join(one.body)) == {
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}],
        "model": "m", "temperature": 0.6, "top_p": 0.95, "top_k": 20, "max_tokens": 64,
    }  # fmt: skip
    assert one.body == two.body
    assert one.key != two.key


def test_the_second_time_nothing_is_asked_and_the_results_are_the_same_bytes(tmp_path: Path) -> None:
    with loopback_judge(script=knows) as server:
        path = spec(tmp_path, server.base_url)
        evaluated(path, tmp_path / "out")
        before = (tmp_path / "out/samples.jsonl").read_bytes()
        asked = len(server.requests)
        evaluated(path, tmp_path / "out")
        assert len(server.requests) == asked == 6
        assert (tmp_path / "out/samples.jsonl").read_bytes() == before
        # Another temperature, another prompt or more answers are other questions; the old answers stay.
        evaluated(spec(tmp_path, server.base_url, sampling__samples=2), tmp_path / "out")
        assert len(server.requests) == 12
        evaluated(spec(tmp_path, server.base_url, sampling__temperature=0.0), tmp_path / "out")
        assert len(server.requests) == 18
        evaluated(spec(tmp_path, server.base_url), tmp_path / "out")
        assert len(server.requests) == 18
    assert (tmp_path / "out/samples.jsonl").read_bytes() == before


def test_an_endpoint_that_misbehaves_is_asked_until_it_answers(tmp_path: Path) -> None:
    seen: dict[str, int] = {}
    bad = [
        Answer(None, 429, {"retry-after": "0.05"}, body="slow down"),
        Answer(None, 500, body="oh"),
        Answer("cut", cut=20),
        Answer(None, body='{"choices": []}'),
        Answer(None, body="<html>"),
        Answer("late", delay=9.0),
    ]

    def script(number: int, request: dict[str, Any]) -> Answer:
        prompt = json.dumps(request["messages"])
        seen[prompt] = seen.get(prompt, 0) + 1
        return bad[list(seen).index(prompt)] if seen[prompt] == 1 else knows(number, request)

    with loopback_judge(script=script) as server:
        path = spec(tmp_path, server.base_url, requests__timeout_seconds=1.0)
        samples = evaluated(path, tmp_path / "out")
    assert [s.score for s in samples] == [1.0] * 6
    assert sorted(seen.values()) == [2] * 6  # each once more, none a third time


def test_two_benchmarks_of_the_same_questions_ask_them_once(tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    section = {"backend": "ruler", "tasks": ["single"], "lengths": [256], "questions": 3}
    with loopback_judge(script=knows) as server:
        path = spec(tmp_path, server.base_url, benchmarks={"a": section, "b": section})
        measure(
            measurement(written(path)), tmp_path / "out", on_progress=lambda done, total: told.append((done, total))
        )
    assert len(server.requests) == 3
    assert [s.benchmark for s in read(tmp_path / "out")] == ["a"] * 3 + ["b"] * 3
    assert told[-1] == (3, 3)


def test_how_many_answers_there_will_be_is_known_before_all_questions_are_read(tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    few = {"backend": "ruler", "tasks": ["single"], "lengths": [256], "questions": 30, "seed": 1, "limit": 4}
    data = {"backend": "samples", "data": {"backend": "entity-chain", "samples": 5}, "samples": 2}
    with loopback_judge(completion("?")) as server:
        path = spec(tmp_path, server.base_url, benchmarks__few=few, benchmarks__data=data, requests__concurrency=1)
        measure(
            measurement(written(path)), tmp_path / "out", on_progress=lambda done, total: told.append((done, total))
        )
    assert told[0] == (1, 20)
    assert {total for _, total in told} == {20}


def test_no_more_is_under_way_than_allowed_and_no_further_prompt_is_made(tmp_path: Path) -> None:
    def script(number: int, request: dict[str, Any]) -> Answer:
        return Answer("1", delay=0.02)

    with loopback_judge(script=script) as server:
        evaluated(spec(tmp_path, server.base_url, requests__concurrency=3, sampling__samples=4), tmp_path / "out")
    assert server.most_at_once == 3
    assert len(server.requests) == 24


def test_an_endpoint_that_is_gone_ends_the_evaluation_and_keeps_what_came(tmp_path: Path) -> None:
    port = free_port()
    path = spec(tmp_path, f"http://127.0.0.1:{port}/v1", requests__retries=0, sampling__samples=4)
    with pytest.raises(LtrlError, match=r"8 requests in a row had no answer, the last: no connection: .*\(1 try\)"):
        measure(measurement(written(path)), tmp_path / "out")
    with loopback_judge(script=knows, port=port) as server:
        assert [s.score for s in evaluated(path, tmp_path / "out")] == [1.0] * 24
    assert len(server.requests) == 24


def test_a_wrong_address_is_told_before_anything_is_tried_again(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}/v1"
    path = spec(tmp_path, url, requests__retries=8, requests__backoff_seconds=300.0)
    with pytest.raises(LtrlError, match=f"nobody answers at `{url}`: no connection: "):
        measure(measurement(written(path)), tmp_path / "out")


def test_what_has_no_answer_is_missing_and_asked_again_alone(tmp_path: Path) -> None:
    refused = [Answer(None, 400, body="no")]

    def script(number: int, request: dict[str, Any]) -> Answer:
        return refused.pop() if refused else knows(number, request)

    with loopback_judge(script=script) as server:
        path = spec(tmp_path, server.base_url, requests__concurrency=1)
        with pytest.raises(LtrlError) as caught:
            measure(measurement(written(path)), tmp_path / "out")
        [told] = caught.value.diagnostics
        assert told.message == (
            "1 of 6 answers of `needles` are missing, `max_missing` 0.02 allows 0; unanswered: HTTP 400: no"
        )
        first = next(read(tmp_path / "out"))  # the results are there all the same
        assert (first.status, first.score, first.reason) == ("unanswered", None, "HTTP 400: no")
        [one] = summaries(read(tmp_path / "out"))
        assert one.score is not None
        assert (one.score.value, one.score.num_questions, one.counts.missing) == (1.0, 5, 1)
        assert [s.score for s in evaluated(path, tmp_path / "out")] == [1.0] * 6
    assert len(server.requests) == 7


def test_a_judge_that_is_away_leaves_answers_unjudged_and_is_asked_again(tmp_path: Path) -> None:
    replies = [Answer("CORRECT"), Answer(None, 500, body="x"), Answer("INCORRECT")]
    with loopback_judge(script=lambda *_: completion("some answer")) as model, loopback_judge(*replies) as judge:
        section = {"backend": "samples", "data": {"backend": "entity-chain", "samples": 3}, "judge": {
            "backend": "openai", "base_url": judge.base_url, "model": "j", "template": "aa-lcr", "retries": 0,
            "concurrency": 1,
        }}  # fmt: skip
        path = spec(
            tmp_path, model.base_url, benchmarks={"held": section}, max_missing=0.5, requests__concurrency=1
        )  # judged in their order
        samples = evaluated(path, tmp_path / "out")
        assert [(s.status, s.score) for s in samples] == [("graded", 1.0), ("unjudged", None), ("graded", 0.0)]
        assert samples[1].reason == "HTTP 500: x (1 try)"
        again = evaluated(path, tmp_path / "out")
    assert [s.score for s in again] == [1.0, 0.0, 0.0]
    assert (len(model.requests), len(judge.requests)) == (3, 4)  # no answer and no verdict twice


@pytest.mark.parametrize(
    ("text", "extra", "expected"),
    [
        ("thought\n</think>\n\nanswer Duro", {}, ("thought", "answer Duro", ())),
        ("answer Duro", {"message": {"reasoning": "thought"}}, ("thought", "answer Duro", ())),
        ("answer Duro", {"message": {"reasoning_content": "thought"}}, ("thought", "answer Duro", ())),
        ("answer Duro", {}, ("answer Duro", None, ("Wrong thinking format.", "Missing response content."))),
        ("a</think>b</think>\n\nc", {}, ("a</think>b", "c", ("Wrong thinking format.",))),
        ("still thinking", {"finish_reason": "length"}, ("still thinking", None, ())),
        ("", {"finish_reason": "length", "message": {"reasoning": "still"}}, ("still", None, ())),
        ("t</think>\n\nanswer Du", {"finish_reason": "length"}, ("t", "answer Du", ())),
        (None, {}, (None, None, ("Wrong thinking format.", "Missing reasoning_content.", "Missing response content."))),
    ],
)
def test_reasoning_is_taken_apart_as_in_training(
    tmp_path: Path, text: str | None, extra: dict[str, Any], expected: tuple[str | None, str | None, tuple[str, ...]]
) -> None:
    section = {"backend": "samples", "data": {"backend": "entity-chain", "samples": 1}}
    with loopback_judge(completion(text, **extra)) as server:
        path = spec(tmp_path, server.base_url, benchmarks={"held": section}, model__chat_format="qwen3")
        [sample] = evaluated(path, tmp_path / "out")
    assert (sample.reasoning, sample.answer, sample.ill_formed) == expected
    assert sample.score == 0.0  # none of these is the label alone; no answer is wrong, not missing
    if sample.answer is None:
        assert sample.reason == ("cut before an answer" if extra.get("finish_reason") == "length" else "no answer")


@pytest.mark.parametrize(
    ("policy", "scores", "requests"),
    [("skip", [1.0, None], 1), ("wrong", [1.0, 0.0], 1), ("cut-middle", [1.0, 0.0], 2)],
)
def test_prompts_that_are_too_long_are_dealt_with_as_declared(
    tmp_path: Path, policy: str, scores: list[float | None], requests: int
) -> None:
    section = {"backend": "ruler", "tasks": ["single"], "lengths": [256, 8192], "questions": 1}

    def script(number: int, request: dict[str, Any]) -> Answer:
        prompt = request["messages"][0]["content"]
        return completion(found_in(request) if NUMBER.search(prompt) and len(prompt) < 2000 else "unknown")

    with loopback_judge(script=script) as server:
        context = {"prompt": 512, "response": 16}
        path = spec(tmp_path, server.base_url, benchmarks={"n": section}, model__context=context, overlong=policy)
        samples = evaluated(path, tmp_path / "out")
    assert [s.score for s in samples] == scores
    assert len(server.requests) == requests
    assert samples[1].status == ("graded" if policy == "cut-middle" else "too-long")
    [one] = summaries(samples)
    assert (one.counts.too_long, one.counts.cut) == ((0, 1) if policy == "cut-middle" else (1, 0))
    if policy == "cut-middle":
        prompt = max((r["messages"][0]["content"] for r in server.requests), key=len)
        assert len(prompt) == pytest.approx(512 * 4, abs=8)
        assert prompt.startswith("Some special magic numbers")
        assert prompt.endswith("mentioned in the provided text?")


def test_a_prompt_that_the_server_finds_too_long_is_counted_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens"
    too_long = Answer(None, 400, body=json.dumps({"error": {"message": said}}))

    def script(number: int, request: dict[str, Any]) -> Answer:
        return too_long if len(request["messages"][0]["content"]) > 1500 else knows(number, request)

    with loopback_judge(script=script) as server:
        samples = evaluated(spec(tmp_path, server.base_url), tmp_path / "out")
    assert [(s.status, s.score) for s in samples] == [("graded", 1.0)] * 3 + [("too-long", None)] * 3
    assert said in samples[3].reason
    summary(tmp_path / "out", summaries(samples), as_json=False)
    assert (
        "warning: needles: the server refused 3 of 6 prompts, which fit the spec's context, as too long: its longest "
        "questions are not measured; serve the model with that context\n"
    ) in capsys.readouterr().err


@pytest.mark.parametrize("policy", ["skip", "wrong"])
def test_a_server_with_a_shorter_context_than_the_spec_measures_nothing(tmp_path: Path, policy: str) -> None:
    said = "the request exceeds the context window"
    with loopback_judge(Answer(None, 400, body=said)) as server:
        path = spec(tmp_path, server.base_url, overlong=policy)
        with pytest.raises(LtrlError) as caught:
            measure(measurement(written(path)), tmp_path / "out")
        [told] = caught.value.diagnostics
        assert told.message == (
            "nothing of `needles` was measured: the server refused 6 of 6 prompts, which fit the spec's context of "
            f"4352 tokens, as too long; HTTP 400: {said}"
        )
        server.script = knows  # it is started again as it should be
        assert [s.score for s in evaluated(path, tmp_path / "out")] == [1.0] * 6


def test_a_reply_without_text_or_tokens_is_no_answer(tmp_path: Path) -> None:
    def script(number: int, request: dict[str, Any]) -> Answer:
        return knows(number, request) if number else Answer(None)

    with loopback_judge(script=script) as server:
        assert [s.score for s in evaluated(spec(tmp_path, server.base_url), tmp_path / "out")] == [1.0] * 6
    assert len(server.requests) == 7


def test_a_limit_asks_the_same_few_whatever_their_order(tmp_path: Path) -> None:
    with loopback_judge(script=knows) as server:
        section = {"backend": "ruler", "tasks": ["single"], "lengths": [256], "questions": 9, "limit": 4}
        samples = evaluated(spec(tmp_path, server.base_url, benchmarks={"n": section}), tmp_path / "out")
        assert len(server.requests) == 4
        again = evaluated(spec(tmp_path, server.base_url, benchmarks={"n": section}), tmp_path / "out")
    assert [s.question for s in samples] == [s.question for s in again]
    assert len(server.requests) == 4


def test_a_killed_evaluation_goes_on_and_asks_nothing_twice(tmp_path: Path) -> None:
    """SIGKILL at several moments: whatever was answered and written down is never asked again."""
    with loopback_judge(script=lambda n, r: Answer(body=knows(n, r).body, delay=0.03)) as server:
        path = spec(tmp_path, server.base_url, sampling__samples=10, requests__concurrency=4)
        out = tmp_path / "out"
        rounds = 0
        for wait in (5, 20, 40):
            process = subprocess.Popen(
                [sys.executable, "-c", LTRL, "eval", str(path), "-o", str(out)], stderr=subprocess.DEVNULL
            )
            while len(server.requests) < wait + 4 * rounds and process.poll() is None:
                time.sleep(0.005)
            rounds += 1
            process.send_signal(signal.SIGKILL)
            process.wait()
        with (out / "answers.jsonl").open("ab") as file:
            file.write(b'{"key":"half')  # what a power cut leaves
        logged = (out / "answers.jsonl").read_text().count("\n")
        before = len(server.requests)
        done = subprocess.run([sys.executable, "-c", LTRL, "eval", str(path), "-o", str(out), "--json"],
                              capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["benchmarks"][0]["score"]["value"] == 1.0
    assert len(server.requests) - before == 60 - logged
    assert len(server.requests) <= 60 + 4 * rounds  # only what was under way at a kill is asked twice
    assert len(list(read(out))) == 60
    keys = [json.loads(line)["key"] for line in (out / "answers.jsonl").read_text().splitlines()]
    assert len(keys) == len(set(keys)) == 60


def test_two_processes_do_not_share_results(tmp_path: Path) -> None:
    second_is_over = threading.Event()

    def script(number: int, request: dict[str, Any]) -> Answer:
        second_is_over.wait(60)
        return knows(number, request)

    with loopback_judge(script=script) as server:
        path = spec(tmp_path, server.base_url, requests__timeout_seconds=60.0)
        argv = [sys.executable, "-c", LTRL, "eval", str(path), "-o", str(tmp_path / "out")]
        first = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not server.requests:
            time.sleep(0.01)
        second = subprocess.run(argv, capture_output=True, text=True, check=False)
        second_is_over.set()
        assert first.wait() == 0
    assert second.returncode == 1
    assert second.stderr == (
        f"error[LTRL041]: another process is at work on `{tmp_path / 'out'}`\n"
        "hint: wait for it, or write elsewhere: `-o DIR`\n"
    )


def test_a_second_interrupt_ends_a_server_that_does_not_listen(tmp_path: Path) -> None:
    program, pids = tmp_path / "vllm", tmp_path / "pids"
    program.write_text(
        f"#!/bin/bash\ntrap '' TERM\nsleep 600 &\necho $$ $! >{pids}.draft\nmv {pids}.draft {pids}\nwait\n"
    )
    program.chmod(0o755)
    data = yaml.safe_load(spec(tmp_path, "http://unused").read_text())
    del data["endpoint"]
    (tmp_path / "eval.yaml").write_text(yaml.safe_dump(data | {"serve": {"program": [str(program)]}}))
    argv = [sys.executable, "-c", LTRL, "eval", str(tmp_path / "eval.yaml"), "-o", str(tmp_path / "out")]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not pids.exists():
        assert process.poll() is None
        time.sleep(0.02)
    started = time.monotonic()
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert time.monotonic() < started + 20  # it has 30 seconds to end by itself
    assert not any(is_alive(int(pid)) for pid in pids.read_text().split())


def test_the_command_prints_figures_with_their_intervals(tmp_path: Path) -> None:
    def script(number: int, request: dict[str, Any]) -> Answer:
        return completion(found_in(request) if len(request["messages"][0]["content"]) < 1500 else "unknown")

    with loopback_judge(script=script) as server:
        path = spec(tmp_path, server.base_url, endpoint__prices={"prompt": 0.5, "response": 2.0})
        done = subprocess.run(
            [sys.executable, "-c", LTRL, "eval", str(path), "-o", "out"],
            cwd=tmp_path, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "120"},
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines() if line.strip()]
    assert lines[0] == ["tiny:", "served"]
    assert lines[1] == ["questions", "score", "95%", "interval", "±"]
    assert lines[3][:5] == ["needles", "6", "50.0", "16.7", "to"]
    assert ["length:", "256", "3", "100.0"] in [line[:4] for line in lines]
    assert "600 tokens of prompts, 42 of responses: 0.00" in done.stderr
    assert "needles: 6 questions leave ± 33.3 points" in done.stderr
    assert "lengths of prompts are estimates" in done.stderr


def test_a_name_of_the_model_at_the_endpoint_and_a_key_go_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_KEY", "s3cret")
    with loopback_judge(script=knows) as server:
        path = spec(
            tmp_path, server.base_url, endpoint__model="step-200", endpoint__api_key="${env:MODEL_KEY}",
            sampling__top_k=None, sampling__seed=None, requests__extra_body={"chat_template_kwargs": {"a": 1}},
        )  # fmt: skip
        evaluated(path, tmp_path / "out")
    assert {k: v for k, v in server.requests[0].items() if k != "messages"} == {
        "model": "step-200", "temperature": 0.6, "top_p": 0.95, "max_tokens": 256, "chat_template_kwargs": {"a": 1},
    }  # fmt: skip
    assert server.headers[0]["authorization"] == "Bearer s3cret"
    assert "s3cret" not in "".join(p.read_text() for p in (tmp_path / "out").iterdir())
