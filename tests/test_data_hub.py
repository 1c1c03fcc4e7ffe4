"""Data of the hub: fetched from a real HTTP server that speaks as the hub does, pinned, resumed, read as they are."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ltrl.backend import create, load
from ltrl.data import digest

ROOT = Path(__file__).resolve().parent.parent
LTRL = "import sys; sys.argv[0] = 'ltrl'; from ltrl.cli import main; main()"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPO = "someone/long-trace"
RECORDS = [
    {
        "source": "longqa",
        "input_messages": [{"role": "user", "content": f"The MAXXI is in Rome. {'words ' * 20_000} Where is it, {n}?"}],
        "label": "Rome",
        "metadata": {
            "extra_reward_info": {"question": f"Where is it, {n}?", "rubrics": ["MAXXI"], "dataset_name": "longqa"}
        },
    }
    for n in range(30)
]
DATA = "".join(json.dumps(record) + "\n" for record in RECORDS).encode()


class Hub(ThreadingHTTPServer):
    """A data set of one file, `data.jsonl`; cuts off so many answers in their middle."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, str, str | None]] = []
        self.num_cuts = 0
        self.data = self.sent = DATA
        """What the file is by its hash, and what is sent."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        path, wanted = self.path.partition("?")[0], self.headers.get("Range")
        self.server.asked.append((self.command, path, wanted))
        if re.fullmatch(rf"/api/datasets/{REPO}(/revision/(main|v1|{COMMIT}))?", path):
            self._send(200, json.dumps({"id": REPO, "sha": COMMIT, "siblings": []}).encode(), with_body)
        elif path == f"/datasets/{REPO}/resolve/{COMMIT}/data.jsonl":
            start = int(wanted.removeprefix("bytes=").partition("-")[0]) if wanted else 0
            self._send(206 if wanted else 200, self.server.sent[start:], with_body, start=start)
        else:
            code = (
                "EntryNotFound"
                if "/resolve/" in path
                else "RevisionNotFound"
                if "/revision/" in path
                else "RepoNotFound"
            )
            self._send(404, b"{}", with_body, **{"X-Error-Code": code})

    def _send(self, status: int, body: bytes, with_body: bool, start: int = 0, **headers: str) -> None:
        self.send_response(status)
        if "/resolve/" in self.path and status < 300:
            sha256 = hashlib.sha256(self.server.data).hexdigest()
            headers |= {"X-Repo-Commit": COMMIT, "ETag": f'"{sha256}"', "X-Linked-Etag": f'"{sha256}"'}
            headers |= {"X-Linked-Size": str(len(self.server.data)), "Accept-Ranges": "bytes"}
            if status == 206:
                headers["Content-Range"] = f"bytes {start}-{len(self.server.data) - 1}/{len(self.server.data)}"
        for name, value in {"Content-Length": str(len(body)), "Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body and "/resolve/" in self.path and self.server.num_cuts:
            self.server.num_cuts -= 1
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
        elif with_body:
            self.wfile.write(body)


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ltrl(here: Path, url: str, *words: str, **changes: str) -> tuple[int, str, str]:
    """The command in a process of its own: the hub's library reads its settings once."""
    environment = {**os.environ, "HF_ENDPOINT": url, "HF_HOME": str(here / "hf"), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    environment |= {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1", **changes}
    done = subprocess.run(
        [sys.executable, "-c", LTRL, *words], cwd=here, env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


def test_a_file_is_fetched_once_pinned_and_its_hash_noted(hub: Hub, tmp_path: Path) -> None:
    status, out, err = ltrl(tmp_path, hub.url, "data", "fetch", REPO, "--revision", "v1", "--json")
    assert status == 0, err
    [found] = json.loads(out)
    path = Path(found.pop("path"))
    sha256 = hashlib.sha256(DATA).hexdigest()
    known = {"repo": REPO, "file": "data.jsonl", "commit": COMMIT, "sha256": sha256, "bytes": len(DATA)}
    assert found == known
    assert path.read_bytes() == DATA
    assert path.is_relative_to(tmp_path / "hf")
    noted = digest.known(path)
    assert noted is not None
    assert noted.sha256 == sha256
    before = len([one for one in hub.asked if one[0] == "GET" and "/resolve/" in one[1]])
    assert ltrl(tmp_path, hub.url, "data", "fetch", REPO, "--json")[:2] == (status, out)
    assert len([one for one in hub.asked if one[0] == "GET" and "/resolve/" in one[1]]) == before == 1


def test_a_lost_connection_is_gone_on_with_where_it_broke(hub: Hub, tmp_path: Path) -> None:
    hub.data = hub.sent = DATA * 10  # more than the ten megabytes that the library holds back
    hub.num_cuts = 1
    status, _, err = ltrl(tmp_path, hub.url, "data", "fetch", REPO, "-o", "data")
    assert status == 0, err
    assert (tmp_path / "data" / "data.jsonl").read_bytes() == hub.data
    ranges = [wanted for command, path, wanted in hub.asked if command == "GET" and "/resolve/" in path]
    assert ranges[0] is None
    assert ranges[1] is not None
    assert int(ranges[1].removeprefix("bytes=").removesuffix("-")) > 0


def test_a_file_that_is_not_what_the_hub_says_is_taken_away(hub: Hub, tmp_path: Path) -> None:
    hub.sent = DATA.replace(b"Rome", b"Bari", 1)
    status, _, err = ltrl(tmp_path, hub.url, "data", "fetch", REPO)
    assert status == 1
    assert err.startswith(f"error[LTRL050]: `data.jsonl` of `{REPO}` came damaged: its SHA-256 is ")
    hub.sent = DATA
    assert ltrl(tmp_path, hub.url, "data", "fetch", REPO)[0] == 0


@pytest.mark.parametrize(
    ("words", "changes", "message"),
    [
        (("someone/else",), {}, "cannot fetch `data.jsonl` of `someone/else`: there is no such data set"),
        ((REPO, "--revision", "v9"), {}, f"cannot fetch `data.jsonl` of `{REPO}` at `v9`: there is no such revision"),
        ((REPO, "--file", "x.jsonl"), {}, f"cannot fetch `x.jsonl` of `{REPO}`: there is no such file"),
        ((REPO,), {"HF_HUB_OFFLINE": "1"}, f"cannot fetch `data.jsonl` of `{REPO}`: `HF_HUB_OFFLINE` forbids it"),
        ((REPO,), {"HF_ENDPOINT": "http://127.0.0.1:9"}, f"cannot fetch `data.jsonl` of `{REPO}`: [Errno 111] "),
        (("a b",), {}, "cannot fetch `data.jsonl` of `a b`: "),
    ],
)
def test_what_cannot_be_fetched_is_said_plainly(
    hub: Hub, tmp_path: Path, words: tuple[str, ...], changes: dict[str, str], message: str
) -> None:
    status, out, err = ltrl(tmp_path, hub.url, "data", "fetch", *words, **changes)
    assert (status, out) == (1, "")
    assert err.startswith(f"error[LTRL001]: {message}")
    assert "Traceback" not in err


def test_a_spec_reads_what_was_fetched(hub: Hub, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "specs" / "clusters", tmp_path / "specs" / "clusters")
    (tmp_path / "specs" / "a.yaml").write_text(
        "kind: experiment\nname: a\n"
        "model: {base: Qwen/Qwen3-4B-Thinking-2507, context: {prompt: 128k, response: 32k}}\n"
        f"data: {{train: {{backend: hf, repo: {REPO}, revision: {COMMIT}}}}}\n"
        "reward: {backend: outcome, judge: exact}\nalgorithm: {steps: 10}\noptimizer: {lr: 2e-6}\nengine: nemo-rl\n"
    )
    status, _, err = ltrl(tmp_path, hub.url, "data", "check", "--spec", "specs/a.yaml")
    assert status == 1
    assert "hint: `ltrl data fetch --spec SPEC` fetches it, into the cache of the hub (`HF_HOME`)" in err
    assert ltrl(tmp_path, hub.url, "data", "fetch", "--spec", "specs/a.yaml")[0] == 0
    asked = len(hub.asked)
    status, out, err = ltrl(tmp_path, hub.url, "data", "check", "--spec", "specs/a.yaml")
    assert (status, out.splitlines()[-1]) == (0, "30 records, 30 would be trained on: nothing wrong")
    assert ltrl(tmp_path, hub.url, "compile", "specs/a.yaml", "-o", "bundle")[0] == 0
    lock = json.loads((tmp_path / "bundle" / "ltrl.lock.json").read_text())
    known = {"sha256": hashlib.sha256(DATA).hexdigest(), "bytes": len(DATA), "records": 30}
    assert lock["data"] == {"data.train": {f"{REPO}@{COMMIT}/data.jsonl": known}}
    assert len(hub.asked) == asked  # nothing of this asks the hub


def backend(name: str, **options: Any) -> Any:
    return create(load("data", name).Options.model_validate_json(json.dumps({"backend": name, **options})))


def test_the_parquet_form_that_the_hub_makes_is_read_alike(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    (tmp_path / "a.jsonl").write_bytes(DATA)
    parquet.write_table(pyarrow.Table.from_pylist(RECORDS), tmp_path / "a.parquet", row_group_size=7)
    one, two = (backend("longtrace", path=str(tmp_path / name)) for name in ("a.jsonl", "a.parquet"))
    assert list(one) == list(two)
    assert len(one) == len(two) == 30
    (tmp_path / "b.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-100])
    with pytest.raises(Exception, match="is not a Parquet file that can be read"):
        list(backend("longtrace", path=str(tmp_path / "b.parquet")))


def test_records_of_another_schema_are_read_by_their_fields(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"q": {"text": "How high?"}, "prompt": "It is 92 m. How high?", "answer": 92, "key": 7}))
    fields = {"messages": "prompt", "question": "q.text", "label": "answer", "rubrics": None, "id": "key"}
    [found] = backend("jsonl", path=str(path), fields=fields)
    assert (found.id, found.messages, found.question, found.label, found.rubrics) == (
        *("7", (("user", "It is 92 m. How high?"),), "How high?", "92", ()),
    )
    (tmp_path / "b.jsonl").write_bytes(DATA)
    assert list(backend("jsonl", path=str(tmp_path / "b.jsonl"))) == list(
        backend("longtrace", path=str(tmp_path / "b.jsonl"))
    )
