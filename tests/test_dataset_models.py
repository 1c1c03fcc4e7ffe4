"""Stages that ask a language model: a real endpoint that plays one, and misbehaves."""

from __future__ import annotations

import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from threading import Thread
from typing import Any

import pytest
from loopback_judge import Answer, LoopbackJudge, free_port, loopback_judge
from small_corpus import pages, write_pages

from ltrl.backend import load
from ltrl.dataset.build import Built, build
from ltrl.dataset.chat import ChatOptions
from ltrl.dataset.index import index
from ltrl.dataset.kinds import Rejected
from ltrl.dataset.messages import ACTIONS, trajectory
from ltrl.dataset.model import Dataset
from ltrl.dataset.page import Page
from ltrl.dataset.progress import Progress
from ltrl.dataset.question import accept
from ltrl.dataset.search import Attempt
from ltrl.errors import LtrlError
from ltrl.samples import Sample
from ltrl.trajectories import Answer as Answered
from ltrl.trajectories import Cite, Open, Search, Trajectory

QUIET = Progress(is_quiet=True)


def said(text: str) -> Answer:
    return Answer(text)


def called(name: str, **given: Any) -> Answer:
    function = {"name": name, "arguments": json.dumps(given)}
    message = {"role": "assistant", "content": None, "tool_calls": [{"id": f"c-{name}", "function": function}]}
    return Answer(body=json.dumps({"choices": [{"message": message}]}))


def model(_: int, request: dict[str, Any]) -> Answer:
    """A language model that chooses, writes and searches, from what it is asked alone."""
    messages = request["messages"]
    asked = messages[0]["content"]
    if asked.startswith("You build a chain"):
        return said('Let me think. {"choice": 2}' if "\n2. " in asked else '{"choice": 1}')
    if asked.startswith("Below are "):
        titles = re.findall(r"^Page \d+: (.*)$", asked, re.MULTILINE)
        numbers = re.findall(r" (\w+ \w+) (\d+)\.$", asked, re.MULTILINE)
        question = f"Which end has the chain of {' and '.join(words for words, _ in numbers)}?"
        entities = [{"name": title, "aliases": ["the one"]} for title in titles[:-1]]
        made = {"question": question, "answer": titles[-1], "entities": entities}
        return said(f"<think>hm {{}}</think>\n```json\n{json.dumps(made)}\n```")
    if asked.startswith("Answer in as few words"):
        return said("I do not know")
    question = messages[1]["content"]
    tools = [m for m in messages if m["role"] == "tool"]
    match len(tools):
        case 0:
            return called("search", query=question.rpartition(" and ")[2])
        case 1:
            return called("open", document=json.loads(tools[0]["content"])[0]["document"])
        case 2:
            return called("open", document=json.loads(tools[0]["content"])[1]["document"])
        case 3:
            return called("guess", text="a tool that there is not")
        case 4:
            return called("cite", documents=[json.loads(tools[0]["content"])[0]["document"]])
    return called("answer", text=json.loads(tools[0]["content"])[0]["title"])


def spec(folder: Path, base_url: str, **more: Any) -> Dataset:
    write_pages(folder / "c.jsonl", pages(150))
    endpoint = {"base_url": base_url, "model": "m", "backoff_seconds": 0.0, "concurrency": 4, "timeout_seconds": 10.0}
    made = {
        "kind": "dataset",
        "name": "asked",
        "records": 3,
        "tokens": 1200,
        "corpus": {"backend": "jsonl", "path": str(folder / "c.jsonl")},
        "walk": {
            "backend": "llm",
            "model": endpoint,
            "hops": 2,
            "min_links": 2,
            "min_characters": 9,
            "paths_per_walk": 2,
        },
        "question": {"backend": "llm", "model": endpoint},
        "agent": {"backend": "llm", "model": endpoint, "results": 20, "attempts": 2},
        "tokenizer": "words",
        **more,
    }
    return Dataset.model_validate_json(json.dumps(made))


def built(folder: Path, dataset: Dataset) -> Built:
    return build(dataset, project=folder, workers=2, progress=QUIET)


def samples(found: Built) -> list[Sample]:
    lines = (found.path / "data.jsonl").read_text().splitlines()
    return [Sample.from_json(json.loads(line), default_id="-") for line in lines]


def test_model_chooses_writes_and_searches(tmp_path: Path) -> None:
    with loopback_judge(script=model) as endpoint:
        found = samples(built(tmp_path, spec(tmp_path, endpoint.base_url)))
    assert len(found) == 3
    for sample in found:
        assert sample.question.startswith("Which end has the chain of ")
        assert set(sample.aliases) == set(sample.rubrics)
        assert sample.trajectory is not None
        assert sample.trajectory.agent == "m"
        assert [type(step) for step in sample.trajectory.steps] == [Search, Open, Open, Cite, Answered]
        assert len(sample.trajectory.retrieved) == 20
    assert {p.tier for sample in found for p in sample.passages} == {"gold", "tier-1", "tier-2"}


def test_document_that_is_cited_by_its_title_is_cited_and_one_that_there_is_not_is_said(tmp_path: Path) -> None:
    def by_title(number: int, request: dict[str, Any]) -> Answer:
        tools = [m for m in request["messages"] if m["role"] == "tool"]
        if len(tools) != 4:
            return model(number, request)
        return called("cite", documents=[json.loads(tools[0]["content"])[0]["title"].upper(), "Nowhere"])

    with loopback_judge(script=by_title) as endpoint:
        found = samples(built(tmp_path, spec(tmp_path, endpoint.base_url)))
        told = {request["messages"][-1]["content"] for request in endpoint.requests if is_last_turn(request)}
    assert told == {"error: there is no document `Nowhere`; the others are noted"}
    for sample in found:
        assert sample.trajectory is not None
        [cited] = sample.trajectory.cited
        assert cited == sample.trajectory.opened[0]
        assert all(p.tier == "gold" for p in sample.passages if p.id == cited)


def test_trajectory_that_names_documents_by_title_is_taken_over_by_their_ids(tmp_path: Path) -> None:
    found = pages(9)
    found[5]["title"] = found[4]["title"]
    section = load("corpus", "jsonl").Options(backend="jsonl", path=str(write_pages(tmp_path / "c.jsonl", found)))
    corpus = index(section, tmp_path / "corpora", QUIET)
    agent = load("agent", "file").Options(backend="file", path="-")
    attempt = Attempt(corpus, load("search", "bm25")(None), agent, number=0)
    titles = [page["title"] for page in found]
    web = Page(0, "https://w", "The web", "text")
    steps = (
        Search("q", ("p1", titles[2], "p5", "https://w", "https://x")),
        Open(titles[1]),
        Cite((titles[1], titles[5], "the  WEB", f"{titles[3]} the 3th", "gone")),
    )
    attempt.replay(Trajectory("q", "?", 0, steps, "a", None), [web])
    assert attempt.steps == [
        Search("q", ("p1", "p2", "p5", "https://w", "https://x")),
        Open("p1"),
        Cite(("p1", "p5", "https://w", "p3", "gone")),
    ]
    assert attempt.cite(["nothing", "P3", titles[4]]) == ["nothing"]
    assert attempt.steps[-1] == Cite(("p3", "p5"))
    assert (attempt.cite(["nothing"]), len(attempt.steps)) == (["nothing"], 4)


def test_endpoint_that_misbehaves_changes_nothing(tmp_path: Path) -> None:
    asked: Counter[str] = Counter()

    def unreliable(number: int, request: dict[str, Any]) -> Answer:
        """Fails the first two tries of most requests, each in its own way."""
        body = json.dumps(request)
        asked[body] += 1
        match (zlib.crc32(body.encode()) + asked[body]) % 5 if asked[body] < 3 else 0:
            case 1:
                return Answer(status=500, body="oops")
            case 2:
                return Answer(cut=5)
            case 3:
                return Answer(body="not json at all")
            case 4:
                return Answer(status=429, headers={"retry-after": "0"}, body="slow down")
        return model(number, request)

    with loopback_judge(script=model) as endpoint:
        good = built(tmp_path / "a", spec(tmp_path / "a", endpoint.base_url))
    with loopback_judge(script=unreliable) as endpoint:
        same = built(tmp_path / "b", spec(tmp_path / "b", endpoint.base_url))
    assert (same.path / "data.jsonl").read_bytes() == (good.path / "data.jsonl").read_bytes()


def test_endpoint_that_dies_stops_the_build_which_goes_on_later(tmp_path: Path) -> None:
    def dying(number: int, request: dict[str, Any]) -> Answer:
        return model(number, request) if number < 25 else Answer(status=503, body="down")

    port = free_port()
    dataset = spec(tmp_path, f"http://127.0.0.1:{port}/v1")
    with loopback_judge(script=dying, port=port) as endpoint:
        with pytest.raises(LtrlError, match=r"gave no usable reply in 7 tries: HTTP 503: down") as caught:
            built(tmp_path, dataset)
        before = {json.dumps(request["messages"][0]) for request in endpoint.requests[:25]}
    assert (
        caught.value.diagnostics[0].hint
        == "start the build again when the endpoint answers: it goes on where it stopped"
    )
    assert not (tmp_path / "data/asked/data.jsonl").exists()
    with loopback_judge(script=model, port=port) as endpoint:
        found = built(tmp_path, dataset)
        again = [request["messages"][0]["content"] for request in endpoint.requests]
    assert len(samples(found)) == 3
    walked = [text for text in again if text.startswith("You build a chain")]
    assert not walked, "walks were done"
    assert before


def is_last_turn(request: dict[str, Any]) -> bool:
    return sum(message["role"] == "tool" for message in request["messages"]) == 5


def attempt_of(request: dict[str, Any]) -> tuple[str, int]:
    """What tells attempts apart: their question, and the seed of their last turn."""
    return request["messages"][1]["content"], request["seed"]


def unsure(number: int, request: dict[str, Any]) -> Answer:
    """A model that gives a wrong answer in every second attempt, about."""
    if is_last_turn(request) and request["seed"] % 2:
        return called("answer", text="nobody knows")
    return model(number, request)


def test_every_attempt_is_made_and_one_of_the_right_ones_is_drawn(tmp_path: Path) -> None:
    with loopback_judge(script=unsure) as endpoint:
        dataset = spec(tmp_path, endpoint.base_url, records=4, agent=agent(endpoint.base_url, attempts=4))
        made = built(tmp_path, dataset)
        attempts = Counter(map(attempt_of, filter(is_last_turn, endpoint.requests)))
    assert set(attempts.values()) == {1}
    assert set(Counter(question for question, _ in attempts).values()) == {4}
    right = Counter(question for question, seed in attempts if seed % 2 == 0)
    found = samples(made)
    tally = made.card["stages"]["trajectories"]
    by_right = Counter(str(right[sample.question]) for sample in found)
    assert tally["questions_by_right_attempts"] == dict(sorted(by_right.items()))
    assert tally["lost"] == {"no attempt was right": tally["tried"] - len(found)}
    taken = [sample.trajectory for sample in found]
    assert all(one and one.is_correct and one.answer != "nobody knows" for one in taken)
    assert len({one.attempt for one in taken if one}) > 1, "not always the first"


def test_no_attempt_that_ended_is_made_again_after_a_crash_nor_for_more(tmp_path: Path) -> None:
    def dying(number: int, request: dict[str, Any]) -> Answer:
        nonlocal ended
        ended += is_last_turn(request)
        return unsure(number, request) if ended < 8 else Answer(status=400, body="down")

    ended = 0
    port = free_port()
    url = f"http://127.0.0.1:{port}/v1"
    with loopback_judge(script=dying, port=port) as endpoint:
        with pytest.raises(LtrlError, match="down"):
            built(tmp_path, spec(tmp_path, url, records=1, agent=agent(url, attempts=3)))
        first = [attempt_of(request) for request in filter(is_last_turn, endpoint.requests)][:7]
    with loopback_judge(script=unsure, port=port) as endpoint:
        again = built(tmp_path, spec(tmp_path, url, records=1, agent=agent(url, attempts=3)))
        second = [attempt_of(request) for request in filter(is_last_turn, endpoint.requests)]
        more = built(tmp_path, spec(tmp_path, url, records=1, agent=agent(url, attempts=4)))
        third = [attempt_of(request) for request in filter(is_last_turn, endpoint.requests)][len(second) :]
    assert second
    assert len({*first, *second, *third}) == len(first) + len(second) + len(third)
    assert max(Counter(question for question, _ in third).values()) == 1
    with loopback_judge(script=unsure, port=port):
        undisturbed = built(tmp_path / "other", spec(tmp_path / "other", url, records=1, agent=agent(url, attempts=4)))
    assert again.is_new
    assert (more.path / "data.jsonl").read_bytes() == (undisturbed.path / "data.jsonl").read_bytes()


def agent(url: str, **more: Any) -> dict[str, Any]:
    endpoint = {"base_url": url, "model": "m", "backoff_seconds": 0.0, "concurrency": 4, "timeout_seconds": 10.0}
    return {"backend": "llm", "model": endpoint, "results": 20, **more}


def test_reply_without_the_form_asked_for_is_asked_again_with_what_is_wrong() -> None:
    replies = [
        "no json",
        '{"question": "q"}',
        '{"question": "What?", "answer": "x", "entities": ["Alpha", {"name": "B"}]}',
    ]
    backend = load("question", "llm")
    page = Page(1, "a", "Alpha", "text " * 50)
    with loopback_judge(*map(said, [*replies, "dunno"])) as endpoint:
        writer = backend(backend.Options(backend="llm", model=chat(endpoint)))
        draft = writer.write([page, page], Random(1))
        writer.close()
        told = [request["messages"][-1]["content"] for request in endpoint.requests]
    assert (draft.text, draft.answer, draft.entities) == ("What?", "x", ("Alpha", "B"))
    assert told[1].startswith("This cannot be used: the reply is not a JSON object.")
    assert told[2].startswith("This cannot be used: `answer` is not text.")


def test_question_is_dropped_when_no_reply_has_the_form() -> None:
    backend = load("question", "llm")
    with loopback_judge(said("no")) as endpoint:
        writer = backend(backend.Options(backend="llm", model=chat(endpoint)))
        with pytest.raises(Rejected, match="no question in the form"):
            writer.write([Page(1, "a", "Alpha", "text")], Random(1))
        writer.close()


def knows_some(number: int, request: dict[str, Any]) -> Answer:
    """A model that knows the answers of half the questions without documents: told in its first try."""
    asked = request["messages"][0]["content"]
    if not asked.startswith("Answer in as few words"):
        return model(number, request)
    _, _, question = asked.partition("\n\n")
    titles = {page["text"].rpartition(" has ")[2]: page["title"] for page in pages(150)}
    end = question.rpartition(" and ")[2].removesuffix("?")
    [answer] = [title for text, title in titles.items() if end in text]
    return said(f"<think>I remember.</think>{answer}" if is_known(question) else "I do not know")


def is_known(question: str) -> bool:
    return zlib.crc32(question.encode()) % 2 == 0


def test_what_the_writer_answers_without_documents_is_dropped(tmp_path: Path) -> None:
    with loopback_judge(script=knows_some) as endpoint:
        made = built(tmp_path, spec(tmp_path, endpoint.base_url))
    assert not any(is_known(sample.question) for sample in samples(made))
    tally = made.card["stages"]["closed-book"]
    lost = tally["tried"] - tally["good"]
    assert (tally["model"], tally["lost"]) == ("m", {"the model knows the answer without documents": lost})
    assert lost


@pytest.mark.parametrize("is_given", [False, True])
def test_questions_of_any_kind_are_asked_without_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_given: bool
) -> None:
    monkeypatch.setenv("LTRL_PROJECT_DIR", str(tmp_path))
    walked = {"walk": WALK, "agent": "scripted"}
    unasked = built(tmp_path, spec(tmp_path, "http://127.0.0.1:9/v1", **walked, question="template", records=4))
    assert unasked.card["stages"]["closed-book"] == {"model": None, "tried": 0, "good": 0, "lost": {}}
    assert "| closed-book | nobody was asked" in (unasked.path / "card.md").read_text()
    lines = (unasked.path / "questions.jsonl").read_text().splitlines()
    known = {q["question"]: q["answer"] for q in map(json.loads, lines[:2])}

    def knows_two(number: int, request: dict[str, Any]) -> Answer:
        question = request["messages"][0]["content"].partition("\n\n")[2]
        return said(known.get(question, "no idea"))

    with loopback_judge(script=knows_two) as endpoint:
        question = {"backend": "template", "closed_book": chat(endpoint).model_dump(), "closed_book_tries": 2}
        changed: dict[str, Any] = {"question": question, "records": 2 if is_given else 4}
        if is_given:
            (tmp_path / "q.jsonl").write_text("\n".join(lines))
            changed["questions_file"] = "q.jsonl"
        made = built(tmp_path, spec(tmp_path, endpoint.base_url, **walked, **changed))
        asked = Counter(request["messages"][0]["content"].partition("\n\n")[2] for request in endpoint.requests)
    assert known.keys().isdisjoint(sample.question for sample in samples(made))
    assert made.card["stages"]["closed-book"]["lost"] == {"the model knows the answer without documents": 2}
    assert {asked[question] for question in known} == {1}
    assert {count for question, count in asked.items() if question not in known} == {2}


def test_closed_book_whose_judge_is_silent_keeps_no_question(tmp_path: Path) -> None:
    with loopback_judge(script=model) as endpoint, loopback_judge(Answer(status=400, body="down")) as silent:
        judge = {"backend": "openai", "base_url": silent.base_url, "model": "j", "retries": 0}
        question = {"backend": "llm", "model": chat(endpoint).model_dump(), "judge": judge}
        with pytest.raises(LtrlError, match="the judge of the closed book gave no verdict: "):
            built(tmp_path, spec(tmp_path, endpoint.base_url, question=question))


WALK = {"backend": "random", "hops": 2, "min_links": 2, "min_characters": 9}


def chat(endpoint: LoopbackJudge) -> Any:
    return ChatOptions(base_url=endpoint.base_url, model="m", backoff_seconds=0.0)


def test_refused_key_stops_at_once(tmp_path: Path) -> None:
    with (
        loopback_judge(Answer(status=401, body="bad key")) as endpoint,
        pytest.raises(LtrlError, match="refuses: HTTP 401: bad key"),
    ):
        built(tmp_path, spec(tmp_path, endpoint.base_url))
    assert len(endpoint.requests) <= 8


@pytest.mark.parametrize(
    ("text", "answer", "entities", "reason"),
    [
        ("What is Alpha?", "x", ("B",), "name of its path"),
        ("It says first-letter, what is it?", "x", ("B",), "name of its path"),
        ("What is the value?", "the value", ("B",), "name of its path"),
        ("What?", "…", ("B",), "no letter or digit"),
        ("What?", "x", ("!",), "no letter or digit"),
        ("What?", "x", (), "lacks"),
        ("W" * 5000, "x", ("B",), "too long"),
    ],
)
def test_question_that_gives_something_away_is_none(
    text: str, answer: str, entities: tuple[str, ...], reason: str
) -> None:
    from ltrl.dataset.kinds import Draft

    section = load("question", "template").Options(backend="template")
    path = [Page(1, "a", "Alpha", "t", ("First Letter",)), Page(2, "b", "Beta", "t")]
    with pytest.raises(Rejected, match=reason):
        accept(Draft(text, answer, entities), path, section, id="q")


@contextmanager
def search_engine(found: list[dict[str, Any]]) -> Iterator[str]:
    """A search engine that knows some documents of the open web."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if self.path == "/search":
                words = set(asked["query"].lower().split())
                best = sorted(found, key=lambda d: -len(words & set(d["text"].lower().split())))
                reply: Any = {"results": [{**d, "text": d["text"][:80]} for d in best[: asked["limit"]]]}
            else:
                reply = next((d for d in found if d["id"] == asked["id"]), None)
            body = json.dumps(reply).encode()
            self.send_response(200 if reply else 404)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_agent_searches_the_open_web_and_its_documents_become_distractors(tmp_path: Path) -> None:
    web = [{"id": f"https://web/{p['id']}", "title": p["title"], "text": p["text"]} for p in pages(150)]
    with search_engine(web) as url:
        dataset = spec(
            tmp_path,
            "http://127.0.0.1:9/v1",
            walk={"backend": "random", "hops": 2, "min_links": 2, "min_characters": 9},
            question="template",
            agent={"backend": "scripted", "results": 15, "search": {"backend": "http", "url": url}},
        )
        found = samples(built(tmp_path, dataset))
    texts = {d["id"]: d["text"] for d in web}
    for sample in found:
        outside = [p for p in sample.passages if p.tier != "gold"]
        assert outside
        opened = set(sample.trajectory.opened) if sample.trajectory else set()
        assert all(p.text == (texts[p.id] if p.id in opened else texts[p.id][:80].strip()) for p in outside)
        gold = {p.title for p in sample.passages if p.tier == "gold"}
        assert gold.isdisjoint(p.title for p in outside), "the same page elsewhere gives it away"


LOG: dict[str, Any] = {
    "id": "q1",
    "model": "agent-7b",
    "correct": True,
    "messages": [
        {"role": "system", "content": "search"},
        {"role": "user", "content": [{"type": "text", "text": "Who?"}]},
        {"role": "assistant", "tool_calls": [
            {"id": "1", "function": {"name": "web_search", "arguments": '{"query": "who"}'}},
            {"id": "2", "function": {"name": "visit", "arguments": '{"url": "https://a"}'}}]},
        {"role": "tool", "tool_call_id": "1", "content": json.dumps(
            {"results": [{"url": "https://a", "title": "A", "snippet": "s"}, {"url": "https://b"}]})},
        {"role": "tool", "tool_call_id": "2", "content": "the whole of A"},
        {"role": "assistant", "tool_calls": [
            {"id": "3", "function": {"name": "finish", "arguments": {"answer": "Ada", "citations": ["https://a"]}}}]},
    ],
}  # fmt: skip


def test_log_of_tool_calls_becomes_a_trajectory() -> None:
    found, documents = trajectory(LOG)
    assert found.steps == (
        Search("who", ("https://a", "https://b")),
        Open("https://a"),
        Cite(("https://a",)),
        Answered("Ada"),
    )
    assert (found.question_id, found.question, found.answer) == ("q1", "Who?", "Ada")
    assert (found.is_correct, found.agent) == (True, "agent-7b")
    assert documents == {"https://a": ("A", "the whole of A"), "https://b": ("https://b", "")}
    plain = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Ada"}]
    assert trajectory(plain, default_id="7")[0].steps == (Answered("Ada"),)


@pytest.mark.parametrize(
    "ids",
    [
        [("call_0", "call_0")] * 3,
        [(None, None)] * 3,
        [("a", None), (None, "b"), ("c", "c")],
    ],
)
def test_replies_belong_to_the_turn_of_their_call(ids: list[tuple[str | None, str | None]]) -> None:
    done = [("search", {"query": "one"}, '["A"]'), ("search", {"query": "two"}, '["B"]'), ("open", {"id": "B"}, "of B")]
    log: list[dict[str, Any]] = [{"role": "user", "content": "Who?"}]
    for (name, given, reply), (call, answered) in zip(done, ids, strict=True):
        function = {"name": name, "arguments": json.dumps(given)}
        log.append({"role": "assistant", "tool_calls": [{"function": function} | ({"id": call} if call else {})]})
        log.append({"role": "tool", "content": reply} | ({"tool_call_id": answered} if answered else {}))
    found, documents = trajectory([*log, {"role": "assistant", "content": "Ada"}])
    assert found.steps == (Search("one", ("A",)), Search("two", ("B",)), Open("B"), Answered("Ada"))
    assert documents == {"B": ("B", "of B")}


def test_replies_to_calls_of_one_turn_may_come_in_any_order() -> None:
    named = {"name": "search", "arguments": '{"query": "q"}'}
    calls = [{"id": id, "function": named} for id in ("1", "2", "2")]
    replies = [{"role": "tool", "tool_call_id": id, "content": f'["{text}"]'} for id, text in ("2A", "1B", "2C")]
    log = [{"role": "user", "content": "Who?"}, {"role": "assistant", "tool_calls": calls}, *replies]
    assert trajectory(log)[0].retrieved == ("B", "A", "C")


def _call(name: str, given: dict[str, str], id: str) -> dict[str, Any]:
    return {"id": id, "function": {"name": name, "arguments": json.dumps(given)}}


def test_calls_in_messages_that_follow_each_other_are_one_turn() -> None:
    calls = [{"role": "assistant", "tool_calls": [_call("search", {"query": q}, q)]} for q in "ab"]
    roles = {"b": "tool", "a": "function"}
    replies = [{"role": role, "tool_call_id": q, "content": f'["{q}"]'} for q, role in roles.items()]
    assert trajectory([{"role": "user", "content": "?"}, *calls, *replies])[0].retrieved == ("a", "b")


def test_what_an_agent_asked_for_when_it_was_stopped_is_no_step() -> None:
    calls = [_call("search", {"query": "q"}, "1"), _call("answer", {"text": "Ada"}, "2")]
    assert trajectory([{"role": "user", "content": "?"}, {"role": "assistant", "tool_calls": calls}])[0].steps == (
        Answered("Ada"),
    )


_LATE = [
    {"role": "user", "content": "?"},
    {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "visit", "arguments": '{"url": "a"}'}}]},
    {"role": "assistant", "content": "Ada"},
    {"role": "tool", "tool_call_id": "1", "content": "too late"},
]


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        (_LATE, "a call of `visit` has no reply of the role `tool` before the assistant's next message"),
        ({}, "a log needs a list of messages"),
        ([{"role": "assistant", "content": "x"}], "the log has no question"),
        (
            [{"role": "user", "content": "?"}, {"tool_calls": [{"function": {"name": "dig"}}]}],
            "the tool `dig` is not known",
        ),
        ([{"role": "user", "content": "?"}, {"tool_calls": [{}]}], "a tool call has no `function`"),
    ],
)
def test_log_that_is_none_says_why(log: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        trajectory(log, actions=ACTIONS)


def test_imported_trajectories_and_own_questions_make_a_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import subprocess
    import sys

    found = pages(40)
    asked = {"question": "Who?", "answer": "Ada", "entities": [found[0]["title"]], "path": [found[0]["title"], "p1"]}
    same_answer = {**asked, "question": "Whose program was first?"}
    (tmp_path / "questions.jsonl").write_text(json.dumps(asked) + "\n" + json.dumps(same_answer) + "\n")
    logs = [LOG, {**LOG, "id": "q2", "question": same_answer["question"]}]
    (tmp_path / "logs.jsonl").write_text("".join(json.dumps(log) + "\n" for log in logs))
    code = "import sys; sys.argv[0] = 'ltrl'; from ltrl.cli import main; main()"
    words = ["data", "import", "logs.jsonl", "-o", "t.jsonl", "--documents", "d.jsonl"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "t.jsonl\n", "2 trajectories, 2 documents\n")
    monkeypatch.setenv("LTRL_PROJECT_DIR", str(tmp_path))
    dataset = spec(
        tmp_path,
        "http://127.0.0.1:9/v1",
        records=2,
        walk="random",
        question="template",
        questions_file="questions.jsonl",
        agent={"backend": "file", "path": "t.jsonl", "documents": "d.jsonl"},
    )
    [sample, other] = samples(built(tmp_path, dataset))
    assert other.question == "Whose program was first?"
    assert (sample.label, sample.trajectory and sample.trajectory.agent) == ("Ada", "agent-7b")
    assert [p.id for p in sample.passages if p.tier == "gold"] in (["p0", "p1"], ["p1", "p0"])
    section = load("corpus", "jsonl").Options(backend="jsonl", path=str(tmp_path / "c.jsonl"))
    assert index(section, tmp_path / "data/corpora", QUIET).num_pages == 150


def test_of_a_document_that_one_log_shows_in_part_the_longest_text_is_kept(tmp_path: Path) -> None:
    from ltrl.cli.dataset import import_

    def log(*steps: tuple[str, dict[str, str], str]) -> dict[str, Any]:
        calls = [{"function": {"name": name, "arguments": json.dumps(given)}} for name, given, _ in steps]
        turns = [
            ({"role": "assistant", "tool_calls": [c]}, {"role": "tool", "content": s[2]})
            for c, s in zip(calls, steps, strict=True)
        ]
        return {"question": "Who?", "messages": [message for turn in turns for message in turn]}

    found = json.dumps([{"id": "A", "title": "A", "text": "a part"}])
    logs = [
        log(("search", {"query": "q"}, found), ("open", {"id": "A"}, "the whole of it")),
        log(("search", {"query": "q"}, found)),
    ]
    (tmp_path / "logs.jsonl").write_text("".join(json.dumps(one) + "\n" for one in logs))
    import_([tmp_path / "logs.jsonl"], out=tmp_path / "t.jsonl", documents=tmp_path / "d.jsonl")
    assert json.loads((tmp_path / "d.jsonl").read_text())["text"] == "the whole of it"


GIVEN = {"question": "Who?", "answer": "Ada", "entities": ["Bo"], "path": ["p0", "p1"]}


def test_everything_wrong_with_given_questions_is_said_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LTRL_PROJECT_DIR", str(tmp_path))
    wrong: list[tuple[Any, str | None]] = [
        (GIVEN, None),
        ({**GIVEN, "answer": 5}, "`answer` is missing or not text"),
        ({**GIVEN, "question": " "}, "`question` is missing or not text"),
        ({**GIVEN, "entities": "Bo"}, "`entities` is missing or no list of texts"),
        ({**GIVEN, "entities": []}, "`entities` is missing or no list of texts"),
        ({**GIVEN, "entities": ["!"]}, "the entity `!` has no letter or digit to be found by"),
        ({**GIVEN, "path": []}, "`path` is missing or no list of texts"),
        ({**GIVEN, "path": ["p0", "nowhere"]}, "the corpus has no page `nowhere`"),
        ({**GIVEN, "aliases": {"Bo": "B"}}, "`aliases` is no object with a list of texts for each entity"),
        ({**GIVEN, "id": "asked-000001"}, "the id `asked-000001` is that of an earlier question"),
        ([GIVEN], "not an object"),
    ]
    file = tmp_path / "q.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record, _ in wrong) + "{\n")
    made = {"walk": WALK, "question": "template", "agent": "scripted", "questions_file": "q.jsonl", "records": 1}
    dataset = spec(tmp_path, "http://127.0.0.1:9/v1", **made)
    with pytest.raises(LtrlError) as caught:
        built(tmp_path, dataset)
    said = [found.message for found in caught.value.diagnostics]
    assert said == [f"{file}:{n}: {told}" for n, (_, told) in enumerate([*wrong, (None, "not JSON")], 1) if told]
    file.write_text("\n\n")
    with pytest.raises(LtrlError, match=r"the file `.*q.jsonl` has no question"):
        built(tmp_path, dataset)
    file.write_text("\n" + json.dumps(GIVEN) + "\n")
    with pytest.raises(LtrlError, match=r"1 candidates gave 0 records, 1 are asked for \(the agent found nothing: 1\)"):
        built(tmp_path, dataset)
