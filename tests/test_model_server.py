"""A model over HTTP: a real server process, real requests, and the same tokens as `transformers` makes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from model_server import ModelServerProcess, model_server, small_model

from ltrl_backends.local_engine.serving.text import Text

torch = pytest.importorskip("torch")

MESSAGES = [{"role": "user", "content": "Ada knows Bo. Whom does Ada know?"}]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    """Directory, model and tokenizer."""
    directory = tmp_path_factory.mktemp("model") / "tiny"
    return directory, *small_model(directory)


@pytest.fixture(scope="module")
def server(made: tuple[Path, Any, Any]) -> Iterator[ModelServerProcess]:
    """Serves a checkpoint as the embedded engine saves it; tests of access serve the model directory."""
    checkpoint = made[0].parent / "step_20"
    made[1].save_pretrained(checkpoint / "policy" / "weights")
    made[2].save_pretrained(checkpoint / "policy" / "tokenizer")
    (checkpoint / "training_info.json").write_text("{}")
    with model_server(str(checkpoint), "--name", "tiny", "--max-batch", "8") as running:
        yield running


def ask(server: ModelServerProcess, messages: list[dict[str, Any]] = MESSAGES, **options: Any) -> httpx.Response:
    body = {"model": "tiny", "messages": messages, **options}
    return httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=60)


def contents(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [choice["message"]["content"] for choice in response.json()["choices"]]


def events(server: ModelServerProcess, **options: Any) -> list[dict[str, Any]]:
    body = {"model": "tiny", "messages": MESSAGES, "stream": True, **options}
    with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=body, timeout=60) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def greedy(made: tuple[Path, Any, Any], messages: list[dict[str, Any]], num_tokens: int) -> tuple[int, list[int]]:
    """Length of the prompt, and what `transformers` itself makes of it."""
    _, model, tokenizer = made
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    whole = model.generate(**ids, max_new_tokens=num_tokens, do_sample=False)[0].tolist()
    length = ids["input_ids"].shape[1]
    return length, whole[length:]


def test_the_likeliest_tokens_are_those_of_transformers(made: Any, server: ModelServerProcess) -> None:
    length, ids = greedy(made, MESSAGES, 24)
    found = ask(server, temperature=0, max_tokens=24).json()
    text = made[2].decode(ids, skip_special_tokens=True)
    assert found["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "finish_reason": "length" if len(ids) == 24 else "stop",
            "logprobs": None,
        }
    ]
    assert found["usage"] == {
        "prompt_tokens": length,
        "completion_tokens": len(ids),
        "total_tokens": length + len(ids),
    }
    assert (found["object"], found["model"]) == ("chat.completion", "tiny")


def test_completions_that_share_a_batch_do_not_disturb_each_other(made: Any, server: ModelServerProcess) -> None:
    """More than fit at once, of different lengths: rows leave, wait and join between two tokens."""
    asked = [([{"role": "user", "content": "Ada knows Bo. " * n}], 4 + 2 * n) for n in range(1, 11)]
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda one: contents(ask(server, one[0], temperature=0, max_tokens=one[1])), asked))
    assert answers == [[made[2].decode(greedy(made, *one)[1], skip_special_tokens=True)] for one in asked]


def test_a_seed_repeats_and_n_completions_differ(server: ModelServerProcess) -> None:
    options = {"seed": 7, "n": 3, "max_tokens": 16, "top_p": 0.9, "top_k": 50, "temperature": 0.8}
    first, again, other = (contents(ask(server, **{**options, "seed": seed})) for seed in (7, 7, 8))
    assert first == again != other
    assert len(set(first)) == 3
    assert contents(ask(server, **{**options, "n": 1})) == first[:1]


def test_top_k_of_one_is_greedy_whatever_the_temperature(server: ModelServerProcess) -> None:
    likeliest = contents(ask(server, temperature=0, max_tokens=12))
    assert contents(ask(server, temperature=5, top_k=1, max_tokens=12)) == likeliest
    assert contents(ask(server, temperature=1, top_p=1e-6, max_tokens=12)) == likeliest


def test_a_stream_says_what_the_whole_answer_says(server: ModelServerProcess) -> None:
    options = {"seed": 3, "n": 2, "max_tokens": 20}
    whole = ask(server, **options).json()
    found = events(server, **options, stream_options={"include_usage": True})
    assert {event["object"] for event in found} == {"chat.completion.chunk"}
    texts, ends = ["", ""], [None, None]
    for event in found[:-1]:
        [choice] = event["choices"]
        texts[choice["index"]] += choice["delta"].get("content", "")
        ends[choice["index"]] = choice["finish_reason"] or ends[choice["index"]]
    assert texts == [choice["message"]["content"] for choice in whole["choices"]]
    assert ends == [choice["finish_reason"] for choice in whole["choices"]]
    assert (found[-1]["choices"], found[-1]["usage"]) == ([], whole["usage"])


def test_a_stop_string_ends_the_text_before_it(server: ModelServerProcess) -> None:
    [text] = contents(ask(server, seed=3, max_tokens=40))
    middle = text[len(text) // 2 :][:3]
    found = ask(server, seed=3, max_tokens=40, stop=[middle, "\x00never"]).json()["choices"][0]
    assert (found["message"]["content"], found["finish_reason"]) == (text[: text.index(middle)], "stop")
    streamed = events(server, seed=3, max_tokens=40, stop=middle)
    assert "".join(e["choices"][0]["delta"].get("content", "") for e in streamed) == text[: text.index(middle)]


def test_without_a_limit_the_context_is_filled(server: ModelServerProcess) -> None:
    found = ask(server, temperature=0).json()
    assert found["usage"]["total_tokens"] == 256 or found["choices"][0]["finish_reason"] == "stop"


def test_what_does_not_fit_the_context_is_told_in_numbers(made: Any, server: ModelServerProcess) -> None:
    length, _ = greedy(made, MESSAGES, 1)
    found = ask(server, max_tokens=300)
    message = (
        f"This model's maximum context length is 256 tokens. However, you requested {length + 300} tokens "
        f"({length} in the messages, 300 in the completion). Please reduce the length of the messages or completion."
    )
    error = {
        "message": message,
        "type": "invalid_request_error",
        "param": "messages",
        "code": "context_length_exceeded",
    }
    assert (found.status_code, found.json()) == (400, {"error": error})


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        ({"model": "gpt"}, 404, "the model `gpt` does not exist; this server has `tiny`"),
        ({"tools": []}, 400, "`tools`: is not supported by this server"),
        ({"temperature": -1}, 400, "`temperature`: input should be greater than or equal to 0"),
        ({"messages": []}, 400, "`messages`: list should have at least 1 item after validation, not 0"),
        ({"max_tokens": "many"}, 400, "`max_tokens`: input should be a valid integer, unable to parse string as an"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "`messages.0.content"),
    ],
)
def test_a_request_that_cannot_be_answered_says_why(
    changes: dict[str, Any], status: int, said: str, server: ModelServerProcess
) -> None:
    found = ask(server, **changes)
    assert found.status_code == status
    assert found.json()["error"]["message"].startswith(said)


def test_a_body_that_is_not_json_is_refused(server: ModelServerProcess) -> None:
    found = httpx.post(f"{server.url}/v1/chat/completions", content=b"{")
    assert (found.status_code, found.json()["error"]["type"]) == (400, "invalid_request_error")
    assert found.json()["error"]["message"].startswith("the body is not JSON: ")


def test_a_client_that_goes_away_frees_its_place(server: ModelServerProcess) -> None:
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{server.url}/v1/chat/completions", json={"model": "tiny", "messages": MESSAGES, "n": 100}, timeout=0.5
        )
    started = time.monotonic()
    assert len(contents(ask(server, max_tokens=2))) == 1
    assert time.monotonic() - started < 5


def test_the_server_names_its_model_and_its_health(server: ModelServerProcess) -> None:
    [model] = httpx.get(f"{server.url}/v1/models").json()["data"]
    assert {key: model[key] for key in ("id", "object", "owned_by", "max_model_len")} == {
        "id": "tiny",
        "object": "model",
        "owned_by": "ltrl",
        "max_model_len": 256,
    }
    assert httpx.get(f"{server.url}/healthz").json() == {"status": "alive"}


def test_other_machines_need_a_token_and_what_was_accepted_is_answered_before_the_end(made: Any) -> None:
    refused = ModelServerProcess(str(made[0]), "--host", "0.0.0.0")
    assert (refused.wait(), refused.lines) == (
        1,
        [
            "error[LTRL086]: `0.0.0.0` can be reached from other machines: a token is needed",
            "hint: `--token-file PATH`, or the variable LTRL_MODEL_TOKEN; or listen on 127.0.0.1",
        ],
    )
    with model_server(str(made[0]), environment={"LTRL_MODEL_TOKEN": "sesame"}) as server:
        found = ask(server)
        assert (found.status_code, found.json()["error"]["code"]) == (401, "invalid_api_key")
        assert httpx.get(f"{server.url}/v1/models").status_code == 401
        assert httpx.get(f"{server.url}/healthz").status_code == 200
        headers = {"Authorization": "Bearer sesame"}
        body = {"model": "tiny", "messages": MESSAGES, "n": 8, "seed": 1, "stream": True}
        with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=body, headers=headers, timeout=60) as found:
            lines = found.iter_lines()
            next(lines)  # it has begun
            assert server.stop() == 0, "\n".join(server.lines)
            assert [line for line in lines if line][-1] == "data: [DONE]"
    assert "Traceback" not in "\n".join(server.lines)


def test_what_is_no_model_is_named(tmp_path: Path, made: Any) -> None:
    (tmp_path / "config.json").write_text("{}")
    broken = ModelServerProcess(str(tmp_path))
    assert broken.wait() == 1
    assert broken.lines[0].startswith(f"error[LTRL001]: cannot load the model in `{tmp_path}`: ")
    (tmp_path / "config.json").unlink()
    absent = ModelServerProcess(str(tmp_path))
    assert (absent.wait(), absent.lines[0][:15]) == (1, "error[LTRL040]:")


@pytest.mark.parametrize("stop", [(), ("zz",), ("lo w",), ("d!", "wo")])
def test_text_comes_in_whole_characters_and_never_shows_a_stop(stop: tuple[str, ...]) -> None:
    said = "héllo wörld 😀 zz\ufffd end"
    raw = said.encode()
    text = Text(lambda ids: bytes(ids).decode(errors="replace"), stop)
    pieces: list[str] = []
    for byte in raw:
        pieces.append(text.add(byte))
        if text.is_stopped:
            break
    pieces.append(text.end())
    cut = min((said.index(s) for s in stop if s in said), default=len(said))
    assert "".join(pieces) == said[:cut]
    assert text.is_stopped == (cut < len(said))
