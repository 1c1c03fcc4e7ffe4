"""The reward server, in real processes, asked over real connections; its judge is a real server too."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loopback_judge import Answer, LoopbackJudge, loopback_judge
from reward_server import LTRL, RewardServerProcess, bare_server, reward_server, spec_file, start
from test_parity import CASES

YES, NO = Answer("extracted_final_answer: x\n\ncorrect: yes"), Answer("extracted_final_answer: y\n\ncorrect: no")
EXACT = {"backend": "rubric", "matcher": "reference", "judge": {"backend": "exact", "answer_pattern": "answer (.+)$"}}
INFO = {
    "question": "Which city?",
    "rubrics": ["Mali", "Napi"],
    "dataset_name": "longqa",
    "rubric_reward_ratio": 0.3,
    "rubric_use_reasoning_content": False,
    "rubric_use_content": True,
}


def judged(judge: LoopbackJudge, **options: Any) -> dict[str, Any]:
    section = {"backend": "openai", "model": "judge", "base_url": judge.base_url, "retries": 0, "replies": 1, **options}
    return {"backend": "rubric", "matcher": "reference", "judge": section}


def group(*contents: str | None, name: str = "1", label: str = "Poro") -> dict[str, Any]:
    responses = [{"content": content} for content in contents]
    return {"id": name, "question": "Who?", "label": label, "rubrics": ["Mali", "Napi"], "responses": responses}


def score(url: str, *groups: dict[str, Any], **options: Any) -> httpx.Response:
    return httpx.post(f"{url}/v1/score", json={"groups": groups}, timeout=60, **options)


def evaluate(url: str, **changes: Any) -> httpx.Response:
    payload = {"label": "Poro", "response": "Mali answer Poro", "extra_reward_info": INFO, **changes}
    return httpx.post(f"{url}/evaluate", json=payload, timeout=60)


def metrics(url: str) -> dict[str, float]:
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RewardServerProcess]:
    with reward_server(tmp_path_factory.mktemp("exact"), EXACT) as server:
        yield server


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RewardServerProcess, LoopbackJudge]]:
    """A server with the reference's settings; the judge says what the test wrote into it."""
    with (
        loopback_judge() as judge,
        reward_server(
            tmp_path_factory.mktemp("reference"), judged(judge, parse="reference", replies=3, concurrency=1)
        ) as server,
    ):
        yield server, judge


@pytest.mark.parametrize("case", [pytest.param(c, id=c["id"]) for c in CASES if c["kind"] == "evaluate"])
def test_evaluate_answers_as_the_reference(
    case: dict[str, Any], reference: tuple[RewardServerProcess, LoopbackJudge]
) -> None:
    server, judge = reference
    given_, expected = case["input"], case["expected"]
    replies = given_["judge_replies"]
    before = len(judge.requests)
    judge.script = lambda number, _: Answer(replies[min(number - before, len(replies) - 1)])
    payload = given_["payload"]
    if isinstance(payload, dict):  # some cases say the same and have other replies: each is a request of its own
        payload = payload | {"case": case["id"]}
    response = httpx.post(f"{server.url}/evaluate", json=payload, timeout=60)
    asked = judge.requests[before:]
    if expected["status"] != 200:  # a request that cannot be used: the reference says 500, and asks a judge first
        assert response.status_code == 422
        assert asked == []
        return
    assert len(asked) == expected["judge_calls"]
    if not any(replies) and asked:  # the reference scores a silent judge as a wrong answer
        assert response.status_code == 503
        assert response.json() == {"detail": "unjudged: no verdict in 3 replies"}
        return
    assert (response.status_code, response.json()) == (200, pytest.approx(expected["body"]))
    shown = expected["response_shown_to_judge"]
    assert all(shown in request["messages"][0]["content"] for request in asked)


def test_a_group_is_scored_whole(exact: RewardServerProcess) -> None:
    found = score(exact.url, group("Mali Napi answer Poro", "Mali answer Poro", "Napi answer Kugo", None))
    assert found.status_code == 200
    [scored] = found.json()["groups"]
    assert scored["id"] == "1"
    assert [(r["outcome"], r["rubric"], r["reward"], r["zeroed"]) for r in scored["responses"]] == [
        (1.0, 1.0, 1.0, ""),
        (1.0, 0.5, pytest.approx(0.85), ""),
        (0.0, 0.5, 0.0, ""),
        (0.0, 0.0, 0.0, "empty"),
    ]
    assert scored["responses"][1]["hits"] == [{"entity": "Mali", "spans": [[0, 4]]}, {"entity": "Napi", "spans": []}]
    assert scored["responses"][2]["verdict"] == {"is_correct": False, "reason": "`Kugo` is not the label", "words": ""}


@pytest.mark.parametrize(
    ("path", "body", "place"),
    [
        ("/v1/score", b'{"groups": [{"id": 1}]}', ["body", "groups", 0, "id"]),
        ("/v1/score", b'{"groups": []}', ["body", "groups"]),
        ("/v1/score", b'{"groups": [], "gruops": []}', ["body", "groups"]),
        ("/v1/score", b"{", ["body"]),
        ("/v1/score", b"", ["body"]),
        ("/v1/score", b"\xff\xfe", ["body"]),
        ("/v1/score", b'{"groups": "\\ud800"}', ["body"]),
        ("/evaluate", b'{"label": null, "response": "x"}', ["body", "label"]),
        ("/evaluate", b'{"label": "x", "history": [], "extra_reward_info": {}}', ["body", "history"]),
        ("/evaluate", b'{"label": "x", "history": [{"content": "y"}]}', ["body", "history", 0, "role"]),
        (
            "/evaluate",
            b'{"label": "x", "response": "y", "extra_reward_info": {"rubric_reward_ratio": NaN}}',
            ["body", "extra_reward_info", "rubric_reward_ratio"],
        ),
        (
            "/evaluate",
            b"""{"label": "x", "response": "y", "extra_reward_info": {"rubric_reward_ratio": 1, "rubrics": ["x"],
            "dataset_name": "longrlvr", "rubric_use_content": true, "rubric_use_reasoning_content": true}}""",
            ["body"],
        ),
    ],
)
def test_what_cannot_be_used_is_422_and_names_the_field(
    exact: RewardServerProcess, path: str, body: bytes, place: list[object]
) -> None:
    found = httpx.post(f"{exact.url}{path}", content=body)
    assert found.status_code == 422
    first = found.json()["detail"][0]
    assert first["loc"][: len(place)] == place
    assert first["msg"]


def test_a_mistake_in_an_item_is_not_told_as_a_list_without_items(exact: RewardServerProcess) -> None:
    history = [{"role": "assistant", "content": None}]
    found = httpx.post(f"{exact.url}/evaluate", json={"label": "x", "history": history, "extra_reward_info": INFO})
    assert [detail["loc"] for detail in found.json()["detail"]] == [["body", "history", 0, "content"]]


PARTS = [{"type": "text", "text": "documents"}]
ANSWER = {"role": "assistant", "content": "Mali answer Poro"}
READ_IN_PART = {
    "a user's parts": ([{"role": "user", "content": PARTS}, ANSWER], {}, 0.85),
    "a tool's nothing": ([{"role": "tool", "content": None}, ANSWER], {}, 0.85),
    "reasoning without its flag": ([ANSWER | {"reasoning_content": None}], {}, 0.85),
    "an earlier turn without its flag": ([ANSWER | {"content": None}, ANSWER], {"rubric_use_content": False}, 0.7),
    "an earlier turn at eta 0": ([ANSWER | {"content": 5}, ANSWER], {"rubric_reward_ratio": 0}, 1.0),
    "no answer": ([ANSWER | {"content": None}, {"role": "user", "content": PARTS}], {}, 0.0),
    "an answer at eta 1": (
        [{"role": "assistant", "content": None, "reasoning_content": "Mali"}],
        {"rubric_reward_ratio": 1, "rubric_use_content": False, "rubric_use_reasoning_content": True},
        0.5,
    ),
}


@pytest.mark.parametrize("what", READ_IN_PART)
def test_what_is_not_read_of_a_conversation_may_be_anything(what: str, exact: RewardServerProcess) -> None:
    history, changes, reward = READ_IN_PART[what]
    found = evaluate(exact.url, history=history, response=None, extra_reward_info=INFO | changes)
    assert (found.status_code, found.json().get("reward")) == (200, pytest.approx(reward))


@pytest.mark.parametrize(
    ("turns", "changes", "places"),
    [
        ([ANSWER | {"content": PARTS}, ANSWER], {}, [[0, "content"]]),
        ([ANSWER | {"reasoning_content": None}], {"rubric_use_reasoning_content": True}, [[0, "reasoning_content"]]),
        ([ANSWER, ANSWER | {"content": None}], {"rubric_use_content": False}, [[1, "content"]]),
    ],
)
def test_what_is_read_of_a_conversation_is_text(
    turns: list[Any], changes: dict[str, Any], places: list[Any], exact: RewardServerProcess
) -> None:
    found = evaluate(exact.url, history=turns, extra_reward_info=INFO | changes)
    assert found.status_code == 422
    assert [detail["loc"] for detail in found.json()["detail"]] == [["body", "history", *place] for place in places]


@pytest.fixture(scope="module")
def client(exact: RewardServerProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=exact.url) as client:
        yield client


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
evaluations = st.fixed_dictionaries(
    {"label": st.text() | anything, "extra_reward_info": st.fixed_dictionaries(dict.fromkeys(INFO, anything))},
    optional={"history": st.lists(st.dictionaries(st.text(), anything), max_size=2), "response": st.text() | anything},
)


@settings(max_examples=150, deadline=None)
@given(payload=evaluations | anything, path=st.sampled_from(["/evaluate", "/v1/score"]))
def test_no_payload_makes_the_server_fail(client: httpx.Client, payload: Any, path: str) -> None:
    found = client.post(path, content=json.dumps(payload).encode())
    assert found.status_code in (200, 422), (payload, found.text)


def test_other_fields_of_a_slime_payload_are_let_through(exact: RewardServerProcess) -> None:
    assert evaluate(exact.url, session_id=7, reward_model_info={"url": "x"}).json() == {
        "reward": pytest.approx(0.85),
        "outcome_reward": 1.0,
        "rubric_reward": 0.5,
    }


def test_a_request_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with reward_server(tmp_path, EXACT, "--max-body-mb", "1") as server:
        found = score(server.url, group("x" * 2**20))
        assert (found.status_code, found.json()) == (413, {"detail": "a request of more than 1048576 bytes"})
        assert score(server.url, group("x" * 2**19)).status_code == 200


def test_the_log_tells_numbers_and_no_text(exact: RewardServerProcess) -> None:
    secret = "Xyloquent"
    assert score(exact.url, group(f"{secret} answer {secret}", name=secret, label=secret)).status_code == 200
    assert httpx.post(f"{exact.url}/v1/score", content=f'{{"{secret}": "{secret}"}}').status_code == 422

    def answered() -> list[dict[str, Any]]:
        return [event for event in exact.events() if event["event"] == "answered"][-2:]

    until(lambda: [event["status"] for event in answered()] == [200, 422])
    assert set(answered()[0]) == {"time", "level", "pid", "event", "route", "status", "ms", "request", "bytes"}
    assert not any(secret in line for line in exact.lines)


def test_without_a_token_it_listens_on_loopback_only(tmp_path: Path) -> None:
    process = start(spec_file(tmp_path, EXACT), "--host", "0.0.0.0")
    assert process.communicate()[1] == (
        "error[LTRL086]: `0.0.0.0` can be reached from other machines: a token is needed\n"
        "hint: `--token-file PATH`, or the variable LTRL_REWARD_TOKEN; or listen on 127.0.0.1\n"
    )
    assert process.returncode == 1


def test_only_who_brings_the_token_is_answered(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("open sesame\n")
    with reward_server(tmp_path, EXACT, "--host", "0.0.0.0", "--token-file", str(tmp_path / "token")) as server:
        url = server.url.replace("0.0.0.0", "127.0.0.1")
        for wrong in ("", "Bearer wrong", "Bearer", "Basic !!!", "Basic " + base64.b64encode(b"x:wrong").decode()):
            found = score(url, group("answer Poro"), headers={"authorization": wrong} if wrong else {})
            assert (found.status_code, found.json()) == (401, {"detail": "a token is needed"})
        assert score(url, group("answer Poro"), headers={"authorization": "Bearer open sesame"}).status_code == 200
        assert evaluate(url.replace("http://", "http://:open%20sesame@")).status_code == 200  # as slime can send it
        assert httpx.get(f"{url}/metrics").status_code == 401
        assert [httpx.get(f"{url}/{name}").status_code for name in ("healthz", "readyz")] == [200, 200]
        assert not any("open sesame" in line for line in server.lines)


def test_a_token_that_is_not_there_is_told(tmp_path: Path) -> None:
    process = start(spec_file(tmp_path, EXACT), "--token-file", str(tmp_path / "none"))
    assert process.communicate()[1].startswith("error[LTRL027]: the server's token `${file:")


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = start(spec_file(tmp_path, EXACT), "--port", str(port))
        assert process.communicate()[1] == (
            f"error[LTRL087]: cannot listen on `127.0.0.1` port {port}: address already in use\n"
            "hint: another `--port`, 0 takes any free one; or another `--host`\n"
        )


def test_a_missing_extra_is_told_with_the_command_that_brings_it(tmp_path: Path) -> None:
    code = f"import sys; sys.modules['uvicorn'] = None; {LTRL}"
    words = [sys.executable, "-c", code, "serve", "reward", str(spec_file(tmp_path, EXACT))]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        1,
        "error[LTRL017]: the reward server needs `uvicorn`, not installed here\nhint: pip install 'ltrl[server]'\n",
    )


def test_the_workers_count_together(tmp_path: Path) -> None:
    with reward_server(tmp_path, EXACT, "--workers", "2") as server, ThreadPoolExecutor(8) as pool:
        sent = 0

        def both_have_answered() -> bool:
            nonlocal sent
            list(pool.map(lambda n: score(server.url, group(f"{n} answer Poro")), range(sent, sent + 8)))
            sent += 8
            return len({event["pid"] for event in server.events() if event["event"] == "answered"}) == 2

        until(both_have_answered)
        found = metrics(server.url)
    assert found['ltrl_reward_requests_total{route="/v1/score",status="200"}'] == sent
    assert found['ltrl_reward_responses_total{result="right"}'] == sent
    assert found['ltrl_reward_seconds_count{route="/v1/score"}'] == sent
    assert found["ltrl_reward_scoring"] == 0


@contextmanager
def held(judge: LoopbackJudge) -> Iterator[threading.Event]:
    """The judge waits for an event before it says yes."""
    go = threading.Event()

    def script(*_: Any) -> Answer:
        assert go.wait(60)
        return YES

    judge.script = script
    try:
        yield go
    finally:
        go.set()


def until(claim: Any) -> None:
    deadline = time.monotonic() + 30
    while not claim():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_outage_is_503_for_slime_and_null_for_v1_and_is_over_when_it_is_over(tmp_path: Path) -> None:
    with loopback_judge(Answer(None, 429, body="quota")) as judge, reward_server(tmp_path, judged(judge)) as server:
        refused = evaluate(server.url)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        assert refused.json() == {"detail": "unjudged: HTTP 429: quota (1 try)"}
        [lost] = score(server.url, group("answer Poro")).json()["groups"][0]["responses"]
        assert (lost["outcome"], lost["reward"]) == (None, None)
        assert lost["verdict"]["reason"] == "HTTP 429: quota (1 try)"
        judge.script = lambda *_: YES
        assert evaluate(server.url).json()["outcome_reward"] == 1.0
        assert score(server.url, group("answer Poro")).json()["groups"][0]["responses"][0]["outcome"] == 1.0
        assert metrics(server.url)['ltrl_reward_responses_total{result="unjudged"}'] == 2


@pytest.mark.parametrize("workers", ["1", "2"])
def test_clients_that_ask_the_same_share_one_scoring(tmp_path: Path, workers: str) -> None:
    with loopback_judge() as judge, reward_server(tmp_path, judged(judge), "--workers", workers) as server:
        with held(judge) as go, ThreadPoolExecutor(12) as pool:
            replies = [pool.submit(score, server.url, group("one", "two")) for _ in range(12)]
            until(lambda: len(judge.requests) == 2)
            time.sleep(0.3)  # all twelve are there, or would have asked by now
            go.set()
            texts = {reply.result().text for reply in replies}
        assert len(texts) == 1
        assert score(server.url, group("one", "two")).text in texts
        assert len(judge.requests) == 2
        assert metrics(server.url)['ltrl_reward_repeats_total{route="/v1/score"}'] == 12


@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_was_accepted_is_answered_before_the_server_ends(tmp_path: Path, workers: str) -> None:
    with loopback_judge() as judge, reward_server(tmp_path, judged(judge), "--workers", workers) as server:
        with held(judge) as go, ThreadPoolExecutor(5) as pool:
            replies = [pool.submit(score, server.url, group(f"answer {n}")) for n in range(4)]
            until(lambda: len(judge.requests) == 4)
            server.process.terminate()
            until(lambda: [event["event"] for event in server.events()].count("Shutting down") == int(workers))
            late = pool.submit(score, server.url, group("answer 5"))
            go.set()
            assert [r.result().json()["groups"][0]["responses"][0]["outcome"] for r in replies] == [1.0] * 4
            assert server.wait() == 0
            with pytest.raises(httpx.TransportError):  # never accepted: a client may send it elsewhere
                late.result()
        assert len(judge.requests) == 4


def test_more_requests_than_places_wait_and_none_is_lost(tmp_path: Path) -> None:
    with loopback_judge() as judge, reward_server(tmp_path, judged(judge), "--concurrency", "2") as server:
        with held(judge) as go, ThreadPoolExecutor(10) as pool:
            replies = [pool.submit(score, server.url, group(f"answer {n}")) for n in range(10)]
            until(lambda: len(judge.requests) == 2)
            until(lambda: metrics(server.url)["ltrl_reward_waiting"] == 8)
            go.set()
            assert [reply.result().status_code for reply in replies] == [200] * 10
        assert judge.most_at_once <= 2
        assert len(judge.requests) == 10


def test_what_waits_on_top_of_the_queue_is_told_to_come_again(tmp_path: Path) -> None:
    with loopback_judge() as judge:
        settings_ = {"reward": judged(judge), "concurrency": 1, "queue": 1}
        with bare_server(tmp_path, settings_) as url, held(judge) as go, ThreadPoolExecutor(2) as pool:
            first = pool.submit(score, url, group("answer 1"))
            until(lambda: len(judge.requests) == 1)
            second = pool.submit(score, url, group("answer 2"))
            until(lambda: metrics(url)["ltrl_reward_waiting"] == 1)
            third = score(url, group("answer 3"))
            assert (third.status_code, third.headers["retry-after"]) == (503, "1")
            assert third.json() == {"detail": "too many requests are waiting"}
            go.set()
            assert [reply.result().status_code for reply in (first, second)] == [200, 200]


def test_a_client_that_sends_too_slowly_gives_its_place_away(tmp_path: Path) -> None:
    with bare_server(tmp_path, {"reward": EXACT, "concurrency": 1, "upload_seconds": 0.3}) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as slow:
            slow.sendall(b"POST /v1/score HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
            assert score(url, group("answer Poro")).status_code == 200  # waits for the place
            assert slow.recv(1000).startswith(b"HTTP/1.1 408 ")
