"""The page of a report: what is on it, how large it is, and what a browser makes of it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from test_runs import cli

from ltrl import compile, excerpts, state
from ltrl.cli.show.report.data import page_data
from ltrl.excerpts import Excerpt
from ltrl.report.story import chosen, story
from ltrl.state import Attempt, Run, State

pytest.importorskip("plotly")

SPECS = Path(__file__).parent.parent / "specs"
HOSTILE = "</script><script>document.title = 'PWNED'</script><img src=http://127.0.0.1:9/x>"


@pytest.fixture(autouse=True)
def _own_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LTRL_STATE_DIR", str(tmp_path / "state"))


def excerpt(number: int, *, split: Any = "train", outcome: float | None = 1.0, text: str = "") -> Excerpt:
    return Excerpt(
        split=split, set="chains" if split == "validation" else "", sample=f"s{number}",
        question=f"Who {number}? {HOSTILE}", label="Ada", rubrics=("Ada", "Ben"),
        response=text or f"<think>\n\U0001f600 Ada knows {HOSTILE}\n</think>\n\nBen",
        reward=outcome, outcome=outcome, rubric=1.0, parts={"length": 2.0}, judge="CORRECT, I think",
        num_tokens=100 + number,
    )  # fmt: skip


def make_run(project: Path, name: str, *sets: str, steps: int = 30) -> Path:
    made, *_ = compile.compile_bundle(
        SPECS / "quickstart.yaml", cluster="local", sets=(f"name={name}", *sets), out=project / "build" / name
    )
    path = project / "runs" / name
    path.mkdir(parents=True)
    shutil.copytree(made.path, path / "bundle")
    created = "2026-01-01T00:00:00.000+00:00"
    state.create_run(Run(path, name, made.name, made.fingerprint, "local", steps, str(project), created))
    attempt = Attempt(1, State.COMPLETED, "local", "local", 60, "host", created, reason=HOSTILE)
    state.add_attempt(state.read_run(path), attempt)
    (path / "checkpoints/step_30").mkdir(parents=True)
    (path / "checkpoints/step_30/training_info.json").write_text('{"total_steps": 30, "val:accuracy": 0.5}')
    logs = path / "logs/exp_001"
    logs.mkdir(parents=True)
    with (logs / "metrics.jsonl").open("w") as file:
        for step in range(1, steps + 1):
            row = {"train/reward": step / 40, "train/outcome": 0.9, "train/rubric": step / 50, "train/group/mixed": 0.5}
            row |= {
                "train/group/all_one": 0.5,
                "timing/train/total_step_time": 2.0,
                "train/mean_gen_tokens_per_sample": 9,
            }
            file.write(json.dumps({"step": step, **row}) + "\n")
            excerpts.append(logs, step, [excerpt(step)])
            if step % 10 == 0:
                file.write(json.dumps({"step": step, "validation/chains/accuracy": step / 40}) + "\n")
                found = [excerpt(n, split="validation", outcome=float(n < step / 10)) for n in range(4)]
                excerpts.append(logs, step, found)
    return path


class Pages(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]


WRAPPER = """<!doctype html><title>wrapper</title><pre id="found"></pre><script>
const found = {}, widths = [390, 1280];
for (const width of widths) {
  const frame = document.createElement("iframe");
  frame.style = `width:${width}px;height:900px;border:0`;
  frame.src = "/report.html";
  document.body.append(frame);
  const look = () => {
    const page = frame.contentDocument, root = page && page.documentElement;
    if (!root || root.dataset.drawn !== "true") return setTimeout(look, 50);
    const select = page.querySelector("[aria-label=show]");
    select.value = "changed";
    select.dispatchEvent(new Event("change"));
    found[width] = {
      scroll: root.scrollWidth - root.clientWidth, title: page.title,
      plots: page.querySelectorAll("figure .main-svg").length > 0 ? page.querySelectorAll("figure").length : 0,
      changed: page.querySelectorAll("#samples li").length,
      marks: [...page.querySelectorAll("#samples pre mark")].map((mark) => mark.textContent),
      facts: page.querySelector("#samples dl").textContent,
    };
    frame.contentWindow.dispatchEvent(new Event("beforeprint"));
    found[width].paper = [...page.querySelectorAll("figure .svg-container")].map((chart) => chart.style.width);
    frame.contentWindow.dispatchEvent(new Event("afterprint"));
    const isWhole = Object.keys(found).length === widths.length;
    if (isWhole) document.getElementById("found").textContent = JSON.stringify(found);
  };
  look();
}
</script>"""


def browsed(directory: Path) -> tuple[dict[str, Any], list[str], list[str]]:
    """What a browser sees of `report.html` at both widths, what it complains about, and what it asks for."""
    (directory / "wrapper.html").write_text(WRAPPER)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Pages, directory=str(directory)))
    server.asked = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    flags += "--disable-component-update --disable-sync --enable-logging=stderr --virtual-time-budget=30000 --dump-dom"
    try:
        done = subprocess.run(
            ["chromium", *flags.split(), f"--user-data-dir={directory / 'profile'}",
             f"http://127.0.0.1:{server.server_port}/wrapper.html"],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
    finally:
        server.shutdown()
        server.server_close()
    text = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert text is not None
    assert text[1], done.stderr
    complaints = [line for line in done.stderr.splitlines() if ":CONSOLE" in line and "favicon" not in line]
    return json.loads(text[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")), complaints, server.asked


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium")
def test_a_browser_shows_the_page_at_the_width_of_a_desk_and_of_a_phone(tmp_path: Path) -> None:
    make_run(tmp_path, "one")
    make_run(tmp_path, "two", "reward.backend=outcome")
    done = cli(tmp_path, "report", "one", "two", "-o", "report.html")
    assert (done.returncode, done.stderr) == (0, "page: report.html\n")
    found, complaints, asked = browsed(tmp_path)
    assert complaints == []
    assert sorted({path.removesuffix("favicon.ico") for path in asked}) == ["/", "/report.html", "/wrapper.html"]
    for width in ("390", "1280"):
        seen = found[width]
        assert (seen["scroll"], seen["title"]) == (0, "Report of 2 runs")
        assert seen["plots"] >= 9
        assert seen["changed"] == 10  # two prompts of each run: one is at three steps, the other at two
        assert seen["marks"] == ["Ada", "Ben"]
        assert "the judge saysCORRECT, I think" in seen["facts"]
        assert "gold entitiesAda, Ben" in seen["facts"]
        assert set(seen["paper"]) == {"340px"}  # two in a row of a printed page


def test_the_page_tells_the_run_from_its_spec_to_its_end(tmp_path: Path) -> None:
    make_run(tmp_path, "one")
    assert cli(tmp_path, "report", "one", "-o", "out.html").returncode == 0
    page = (tmp_path / "out.html").read_text()
    lock = json.loads((tmp_path / "runs/one/bundle/ltrl.lock.json").read_text())
    told = ["Spec as written", "quickstart.yaml:", "name=one", lock["fingerprint"], lock["files"]["spec.yaml"], "Plan"]
    told += ["accuracy 0.500", "COMPLETED", "0.138 → 0.637", "local_engine.json"]
    assert [words for words in told if words not in page] == []
    assert HOSTILE not in page
    assert len(page) < 10_000_000
    data = json.loads(re.search(r'id="data">(.*?)</script>', page)[1])  # type: ignore[index]
    (run,) = data["runs"]
    assert run["steps"] == list(range(1, 31))
    assert run["validation"] == {"steps": [10, 20, 30], "sets": {"chains": {"accuracy": [0.25, 0.5, 0.75]}}}
    first = data["samples"][0]
    assert [first["response"].encode("utf-16-le")[2 * a : 2 * b].decode("utf-16-le") for a, b, _ in first["marks"]] == [
        "Ada",
        "Ben",
    ]


def test_curves_of_a_long_run_are_means_of_neighbours(tmp_path: Path) -> None:
    path = make_run(tmp_path, "one", steps=2_500)
    (run,) = page_data([story(state.read_run(path))])["runs"]
    assert (run["neighbours"], len(run["steps"]), run["steps"][:2], run["steps"][-1]) == (3, 834, [3, 6], 2500)
    assert run["figures"]["reward"][:2] == [0.05, 0.125]  # of steps 1 to 3 and 4 to 6, each step / 40
    assert {len(values) for values in run["figures"].values()} == {834}


def test_a_page_has_room_for_the_most_telling_responses() -> None:
    long = "x" * 50_000
    found = [excerpt(n, text=long) for n in range(400)]
    found = [Excerpt(**{**_fields(one), "step": n}) for n, one in enumerate(found)]
    for step, outcome in ((10, 0.0), (20, 1.0), (30, 1.0), (40, 1.0)):
        rows = [excerpt(n, split="validation", outcome=outcome if n == 3 else 1.0, text=long) for n in range(5)]
        found += [Excerpt(**{**_fields(one), "step": step}) for one in rows]
    kept = chosen(found, limit=120_000)
    validated = [(one.step, one.sample) for one in kept if one.split == "validation"]
    assert validated == [*((10, f"s{n}") for n in range(5)), (20, "s3"), *((40, f"s{n}") for n in range(5))]
    trained = [one.step for one in kept if one.split == "train"]
    assert {0, 399, 199} <= {*trained}
    assert 8 <= len(trained) <= 12
    assert len(chosen(found, limit=10**9)) == 400 + 5 + 5 + 1


def _fields(one: Excerpt) -> dict[str, Any]:
    return {name: getattr(one, name) for name in Excerpt.__dataclass_fields__}


def test_responses_of_steps_that_a_resume_went_back_over_are_not_shown(tmp_path: Path) -> None:
    path = make_run(tmp_path, "one")
    again = path / "logs/exp_002"
    again.mkdir()
    (again / "metrics.jsonl").write_text('{"step": 21, "train/reward": 0.5}\n')
    excerpts.append(again, 21, [excerpt(500)])
    told = story(state.read_run(path))
    assert [one.sample for one in told.excerpts if one.step >= 21] == ["s500"]
    assert max(one.step for one in told.excerpts) == 21


def test_responses_of_a_driver_without_ltrl_come_from_nemo_rls_own_files(tmp_path: Path) -> None:
    path = make_run(tmp_path, "plain")
    (path / "logs/exp_001/excerpts.jsonl").unlink()
    long = f"{'x' * 2_000} Who knows Ada?"
    for step in (29, 30, 31):
        rows = [{"content": [[long, f"answer {i}", "ok"]], "rewards": [i / 4], "token_ids": [[1]]} for i in range(4)]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (path / f"logs/exp_001/train_data_step{step}.jsonl").write_text(f"garbage\n{text}{text[:50]}")  # torn
    said = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": HOSTILE}]
    for step, reward in ((0, 0.0), (30, 1.0)):
        row = {"content": [said], "rewards": [reward], "idx": 0}
        (path / f"logs/exp_001/val_data_step{step}.jsonl").write_text(json.dumps(row) + "\n")
    later = path / "logs/exp_002"  # resumed at step 30
    later.mkdir()
    (later / "metrics.jsonl").write_text(json.dumps({"step": 31, "train/reward": 0.5}) + "\n")
    told = story(state.read_run(path))
    found = [(one.split, one.step, one.response, one.reward) for one in told.excerpts]
    train = [("train", step, f"answer {i}", i / 4) for step in (29, 30) for i in (0, 3)]
    assert found == [*train, ("validation", 0, HOSTILE, 0.0), ("validation", 30, HOSTILE, 1.0)]
    assert told.excerpts[0].question == f"… {long[-600:]}"
    assert {one.sample for one in told.excerpts if one.split == "validation"} == {told.excerpts[-1].sample}
    shown = page_data([told])["samples"]
    assert [one["response"] for one in shown if one["split"] == "train"] == [row[2] for row in train]


def test_a_page_without_measurements_bundle_or_responses_is_still_one(tmp_path: Path) -> None:
    path = make_run(tmp_path, "one")
    shutil.rmtree(path / "logs")
    shutil.rmtree(path / "checkpoints")
    (path / "bundle/spec.yaml").write_text("edited")
    done = cli(tmp_path, "report", "one", "-o", "report.html")
    assert (done.returncode, "`one`: " in done.stderr) == (0, True)
    text = (tmp_path / "report.html").read_text()
    assert "Its bundle is gone or was changed" in text
    assert "Nothing was validated." in text


def test_directories_in_place_of_a_run_s_files_cost_no_more_than_those(tmp_path: Path) -> None:
    path = make_run(tmp_path, "one")
    info = next((path / "checkpoints").glob("step_*")) / "training_info.json"
    for file in (path / "events.jsonl", info):
        file.unlink()
        file.mkdir()
    assert cli(tmp_path, "report", "one", "-o", "report.html").returncode == 0
    assert "`training_info.json` is a directory" in (tmp_path / "report.html").read_text()


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    make_run(tmp_path, "one")
    done = cli(tmp_path, "report", "one", "-o", "runs/one/run.json/report.html")
    assert (done.returncode, done.stdout) == (1, "")
    assert "cannot write `runs/one/run.json/report.html`: " in done.stderr


def test_the_library_is_asked_for_only_by_a_page(tmp_path: Path) -> None:
    make_run(tmp_path, "one")
    code = "import sys; sys.modules['plotly'] = None; sys.argv[0] = 'ltrl'; from ltrl.cli import main; main()"
    run = partial(subprocess.run, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run([sys.executable, "-c", code, "report", "one"]).returncode == 0
    done = run([sys.executable, "-c", code, "report", "one", "-o", "x.html"])
    assert (done.returncode, "pip install 'ltrl[report]'" in done.stderr) == (1, True)
