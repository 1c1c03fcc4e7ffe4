"""Servers and workers that die under clients: nothing is lost, nothing is scored twice, and no 0 is made up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loopback_judge import Answer, free_port, loopback_judge
from reward_server import RewardServerProcess, reward_server
from test_server import EXACT, NO, YES, held, judged, until

from ltrl.backend import RewardServer, create, load
from ltrl.client import RewardClient
from ltrl.errors import Code, LtrlError
from ltrl.scoring import Hit, Response, Score, ScoreRequest, Verdict
from ltrl.served import connect, hosted
from ltrl.service import FILE, publish
from ltrl.wire import ScoreBatch, Scored


def section(written: dict[str, Any], **more: Any) -> Any:
    return load("reward", written["backend"]).Options.model_validate({**written, **more}, strict=False)


def request(content: str, name: str = "1") -> ScoreRequest:
    response = Response(None, content, is_ill_formed=False, status="completed")
    return ScoreRequest(name, "Who?", "Poro", ("Mali", "Napi"), response)


def questions(count: int) -> list[ScoreRequest]:
    return [request(f"{number} answer Poro", str(number)) for number in range(count)]


def client(url: str, **options: Any) -> RewardClient:
    return RewardClient(url, **{"patience_seconds": 30.0, **options})


def last_words(prompt: str) -> str:
    """Which answer a judge was asked about."""
    return prompt.partition("[response]\n")[2].partition("\n")[0]


def test_scores_come_back_as_they_are_made_here(tmp_path: Path) -> None:
    asked = [request("Mali answer Poro"), request("Mali Napi answer Kugo"), request("Napi ★ answer Poro", "2")]
    with reward_server(tmp_path, EXACT) as server:
        served = connect(section(EXACT, server={"url": server.url}))
        here = create(section(EXACT))
        assert served.score(asked) == here.score(asked)
        assert served.rewards(served.score(asked[:2])) == here.rewards(here.score(asked[:2]))


texts = st.text(st.characters(codec="utf-8"))
responses = st.builds(
    Response,
    st.none() | texts,
    st.none() | texts,
    st.booleans(),
    st.sampled_from(["completed", "truncated", "aborted"]),
)
aliases = st.dictionaries(texts, st.lists(texts).map(tuple), max_size=2)
rubrics = st.lists(texts, max_size=3).map(tuple)


@settings(max_examples=100)
@given(st.lists(st.builds(ScoreRequest, texts, texts, texts, rubrics, responses, texts, aliases), min_size=1))
def test_any_request_survives_the_wire(asked: list[ScoreRequest]) -> None:
    batch = ScoreBatch.model_validate_json(ScoreBatch.of(asked).model_dump_json())
    assert [found for group in batch.groups for found in group.requests()] == asked


@given(
    st.builds(
        Score,
        st.none() | st.floats(0, 1),
        st.floats(0, 1),
        st.none() | st.builds(Verdict, st.none() | st.booleans(), texts, texts),
        st.lists(st.builds(Hit, texts, st.lists(st.tuples(st.integers(), st.integers())).map(tuple))).map(tuple),
        texts,
        st.dictionaries(texts, st.floats(allow_nan=False, allow_infinity=False)),
    )
)
def test_any_score_survives_the_wire(score: Score) -> None:
    assert Scored.model_validate_json(Scored.of(score, None).model_dump_json()).score() == score


def test_a_killed_worker_costs_no_verdict(tmp_path: Path) -> None:
    asked = questions(40)
    with loopback_judge() as judge, reward_server(tmp_path, judged(judge, concurrency=64), "--workers", "2") as server:
        with held(judge) as go, ThreadPoolExecutor(1) as pool:
            scoring = pool.submit(client(server.url).score, asked)
            until(lambda: len(judge.requests) == 40)
            victim = max(server.workers(), key=_num_files)  # the one with more connections
            os.kill(victim, signal.SIGKILL)
            until(lambda: victim not in server.workers())
            go.set()
            scores = scoring.result()
        assert [score.outcome for score in scores] == [1.0] * 40
        # Only what the dead worker was waiting for is asked again.
        times = Counter(last_words(prompt) for prompt in judge.prompts())
        assert set(times) == {f"{number} answer Poro" for number in range(40)}
        assert set(times.values()) <= {1, 2}
        until(lambda: len(server.workers()) == 2)


def _num_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def test_a_server_that_is_killed_and_comes_back_costs_no_verdict(tmp_path: Path) -> None:
    port, asked = str(free_port()), questions(20)
    with loopback_judge() as judge, ThreadPoolExecutor(1) as pool:
        with reward_server(tmp_path, judged(judge), "--port", port) as server, held(judge) as go:
            scoring = pool.submit(client(server.url).score, asked)
            until(lambda: len(judge.requests) == 20)
            server.process.kill()
            server.wait()
            go.set()
        with reward_server(tmp_path, judged(judge), "--port", port):
            judge.script = lambda *_: YES
            assert [score.outcome for score in scoring.result()] == [1.0] * 20


def test_a_server_that_stays_away_leaves_responses_unjudged_with_the_reason() -> None:
    found = client(f"http://127.0.0.1:{free_port()}", patience_seconds=0.3).score(questions(2))
    assert [score.outcome for score in found] == [None, None]
    assert all(score.verdict and score.verdict.reason.startswith("reward server: no connection: ") for score in found)


def test_a_server_that_hangs_is_not_asked_twice() -> None:
    with loopback_judge(Answer(delay=60)) as server:
        url = server.base_url.removesuffix("/v1")
        [found] = client(url, timeout_seconds=0.3).score(questions(1))
    assert found == Score(None, 0.0, Verdict(None, "reward server: no reply within 0.3 s"))
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(None, 500, body="oops"), "reward server: HTTP 500: oops"),
        (Answer(body='{"groups": []}'), "reward server: 0 scores for 1 responses"),
        (Answer(body="<html>"), "reward server: a reply that is no score"),
        (Answer(body=""), "reward server: a reply that is no score"),
    ],
)
def test_what_is_no_score_is_unjudged(answer: Answer, reason: str) -> None:
    with loopback_judge(answer) as server:
        [found] = client(server.base_url.removesuffix("/v1")).score(questions(1))
    assert found == Score(None, 0.0, Verdict(None, reason))
    assert len(server.requests) == 1


def test_a_full_server_is_asked_again() -> None:
    reply = {"groups": [{"id": "0", "responses": [{"outcome": 1, "reward": 1, "rubric": 0}]}]}
    full = Answer(None, 503, body='{"detail": "too many requests are waiting"}')
    with loopback_judge(full, full, Answer(body=json.dumps(reply))) as server:
        [found] = client(server.base_url.removesuffix("/v1")).score(questions(1))
    assert found.outcome == 1.0
    assert len(server.requests) == 3


def test_a_request_that_cannot_be_used_is_an_error_and_sent_once() -> None:
    refusal = Answer(None, 422, body='{"detail": [{"loc": ["body", "groups"], "msg": "too short"}]}')
    with loopback_judge(refusal) as server, pytest.raises(LtrlError) as caught:
        client(server.base_url.removesuffix("/v1")).score(questions(1))
    assert caught.value.diagnostics[0].code is Code.BAD_DATA
    assert "too short" in str(caught.value)
    assert len(server.requests) == 1


def test_no_more_requests_than_allowed_are_under_way() -> None:
    refused = Answer(None, 500, body="no", delay=0.02)
    with loopback_judge(refused) as server:
        client(server.base_url.removesuffix("/v1"), concurrency=3).score(questions(12))
    assert (len(server.requests), server.most_at_once) == (12, 3)


def test_a_run_gets_a_server_of_its_own_that_ends_with_it(tmp_path: Path) -> None:
    written = section(EXACT, server={})
    with hosted(written, name="run", directory=tmp_path) as found:
        assert found.server is not None
        assert found.server.token == f"${{file:{tmp_path / 'reward_server.token'}}}"
        assert (tmp_path / "reward_server.token").stat().st_mode & 0o777 == 0o600
        [score] = connect(found).score([request("Mali Napi answer Poro")])
        assert (score.outcome, score.rubric) == (1.0, 1.0)
        with pytest.raises(LtrlError, match="HTTP 401"):
            client(str(found.server.url)).score(questions(1))
    assert not (tmp_path / "reward_server.token").exists()
    [lost] = client(str(found.server.url), patience_seconds=0.1).score(questions(1))
    assert lost.outcome is None


def test_a_server_of_its_own_ends_with_a_run_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\n"
        "from ltrl.backend import load\nfrom ltrl.served import hosted\n"
        f"written = {EXACT | {'server': {}}!r}\n"
        "options = load('reward', 'rubric').Options.model_validate(written, strict=False)\n"
        f"with hosted(options, name='run', directory=pathlib.Path({str(tmp_path)!r})) as found:\n"
        "    print(found.server.url, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    run = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with run:
        assert run.stdout is not None
        url = run.stdout.readline().strip()
        assert client(url).ready().status == "ready"
        run.kill()
    until(lambda: _is_gone(url))
    assert '"Finished server process' in (tmp_path / "reward_server.log").read_text()


def _is_gone(url: str) -> bool:
    try:
        client(url, patience_seconds=0.05).ready()
    except LtrlError:
        return True
    return False


def test_a_server_of_its_own_that_cannot_start_says_why(tmp_path: Path) -> None:
    judge = {"backend": "openai", "model": "j", "base_url": "http://localhost/v1", "api_key": "${env:LTRL_NO_SUCH_KEY}"}
    written = section({"backend": "rubric", "judge": judge, "server": {}})
    with pytest.raises(LtrlError) as caught, hosted(written, name="run", directory=tmp_path):
        pass
    [found] = caught.value.diagnostics
    assert found.code is Code.SERVER_DOWN
    reason = "the judge's `api_key` `${env:LTRL_NO_SUCH_KEY}`: the environment variable `LTRL_NO_SUCH_KEY` is not set"
    assert found.message == f"the reward server did not start: error[LTRL027]: {reason}"


def test_a_run_refuses_a_server_that_scores_with_another_reward(tmp_path: Path) -> None:
    with reward_server(tmp_path, EXACT) as server:
        same = section(EXACT, server={"url": server.url}, outage={"max_unjudged": 0.5})
        with hosted(same, name="run", directory=tmp_path) as found:
            assert found is same
        other = section(EXACT, server={"url": server.url}, eta=0.5)
        with pytest.raises(LtrlError) as caught, hosted(other, name="run", directory=tmp_path):
            pass
        [said] = caught.value.diagnostics
        assert said.code is Code.OTHER_REWARD
        assert said.message.startswith(f"the server at `{server.url}` serves `served`, whose reward is another: ")


def test_a_run_without_the_servers_token_is_told_before_it_trains(tmp_path: Path) -> None:
    with reward_server(tmp_path, EXACT, environment={"LTRL_REWARD_TOKEN": "sesame"}) as server:
        (tmp_path / "token").write_text("simsim")
        for token in (None, f"${{file:{tmp_path / 'token'}}}"):
            written = section(EXACT, server={"url": server.url, "token": token})
            with pytest.raises(LtrlError) as caught, hosted(written, name="run", directory=tmp_path):
                pass
            [said] = caught.value.diagnostics
            message = f"the reward server at `{server.url}` takes no requests without its token"
            assert (said.code, said.message) == (Code.SERVER_DOWN, message)


def test_a_batch_goes_on_at_another_place_when_the_job_of_its_server_moves_there(tmp_path: Path) -> None:
    def published(server: RewardServerProcess, secret: str) -> None:
        (tmp_path / secret).write_text(secret)
        publish(tmp_path, server.url, token=f"${{file:{tmp_path / secret}}}")

    with loopback_judge() as judge, held(judge) as go, ThreadPoolExecutor(1) as pool:
        written = judged(judge, concurrency=64)
        with reward_server(tmp_path, written, environment={"LTRL_REWARD_TOKEN": "first"}) as server:
            published(server, "first")
            served = connect(section(written, server={"address": str(tmp_path / FILE), "patience_seconds": 60}))
            scoring = pool.submit(served.score, questions(20))
            until(lambda: len(judge.requests) == 20)
            server.process.kill()  # its node is lost, and Slurm starts the job again elsewhere
            server.wait()
        (tmp_path / FILE).unlink()
        go.set()
        with reward_server(tmp_path, written, environment={"LTRL_REWARD_TOKEN": "second"}) as server:
            published(server, "second")
            assert [score.outcome for score in scoring.result()] == [1.0] * 20
            assert [score.outcome for score in served.score(questions(3))] == [1.0] * 3


def test_what_is_known_without_a_judge_is_known_without_a_server() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    served = connect(section(EXACT, server={"url": url, "patience_seconds": 0}))
    cut = ScoreRequest("1", "Who?", "Poro", ("Mali",), Response(None, None, is_ill_formed=False, status="truncated"))
    lost, zeroed = served.score([request("Mali answer Poro"), cut])
    assert (lost.outcome, lost.rubric, lost.hits[0].spans) == (None, 0.5, ((0, 4),))
    assert zeroed == Score(0.0, 0.0, zeroed="truncated")


def test_what_answers_at_the_address_may_be_something_else() -> None:
    with loopback_judge() as server, pytest.raises(LtrlError) as caught:
        client(server.base_url.removesuffix("/v1")).ready()
    assert caught.value.diagnostics[0].code is Code.SERVER_DOWN


def test_a_token_goes_with_a_url() -> None:
    with pytest.raises(ValueError, match="`token` goes with `url`"):
        RewardServer(token="${env:TOKEN}")


def test_a_judge_that_restarts_in_mid_batch_costs_no_verdict() -> None:
    port, asked = free_port(), questions(16)
    options = {"retries": 20, "backoff_seconds": 0.02, "longest_wait_seconds": 0.2, "concurrency": 4}
    with loopback_judge(*[YES] * 5, Answer(cut=10, delay=0.2), port=port) as judge, ThreadPoolExecutor(1) as pool:
        reward = create(section(judged(judge, **options)))
        scoring = pool.submit(reward.score, asked)
        until(lambda: len(judge.requests) >= 6)
        judge.stop()  # here with replies half sent; the next one is another server
        with loopback_judge(YES, port=port) as second:
            scores = scoring.result()
    assert [score.outcome for score in scores] == [1.0] * 16
    told = {last_words(prompt) for prompt in [*judge.prompts(), *second.prompts()]}
    assert told == {f"{number} answer Poro" for number in range(16)}
    assert len(second.requests) == 11  # none of those that had a verdict


def test_two_clients_that_score_the_same_group_ask_the_judge_once() -> None:
    asked = questions(8)
    with loopback_judge() as judge:
        reward = create(section(judged(judge)))
        with held(judge) as go, ThreadPoolExecutor(2) as pool:
            scorings = [pool.submit(reward.score, asked) for _ in range(2)]
            until(lambda: len(judge.requests) == 8)
            threading.Timer(0.2, go.set).start()
            first, second = (scoring.result() for scoring in scorings)
    assert first == second
    assert len(judge.requests) == 8


def test_a_no_is_a_judged_no() -> None:
    with loopback_judge(NO) as judge:
        [score] = create(section(judged(judge))).score(questions(1))
    assert (score.outcome, score.verdict) == (0.0, Verdict(False, words=str(NO.text)))
