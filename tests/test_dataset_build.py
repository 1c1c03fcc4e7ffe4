"""Data sets are built whole, the same on any number of workers, and however often the build was killed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from random import Random
from typing import Any

import pytest
from small_corpus import WORDS, pages, project, write_pages

from ltrl.backend import load
from ltrl.dataset.build import Built, build
from ltrl.dataset.journal import Journal
from ltrl.dataset.model import Dataset
from ltrl.dataset.progress import Progress
from ltrl.errors import LtrlError
from ltrl.parse import parse
from ltrl.samples import Sample
from ltrl.source import load as read

LTRL = "import sys; sys.argv[0] = 'ltrl'; from ltrl.cli import main; main()"


def built(spec: Path, monkeypatch: pytest.MonkeyPatch, *sets: str, workers: int = 2) -> Built:
    home = spec.parent.parent
    monkeypatch.setenv("LTRL_PROJECT_DIR", str(home))
    dataset = parse(read(spec, sets=sets), Dataset)
    return build(dataset, project=home, workers=workers, progress=Progress(is_quiet=True))


def contents(folder: Path) -> dict[str, str]:
    """Hash of every file that a build leaves for people; the digest beside the records has their time in it."""
    files = [p for p in sorted(folder.iterdir()) if p.is_file() and not p.name.endswith(".digest.json")]
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def ltrl(spec: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", LTRL, "data", "build", str(spec), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A built data set; its spec."""
    spec = project(tmp_path_factory.mktemp("small"))
    done = ltrl(spec)
    assert done.returncode == 0, done.stderr
    return spec


@pytest.fixture
def records(small: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (small.parent.parent / "data/small/data.jsonl").read_text().splitlines()]


def test_every_record_is_longtraces_and_says_where_it_comes_from(records: list[dict[str, Any]]) -> None:
    assert len(records) == 12
    for record in records:
        sample = Sample.from_json(record, default_id="-")
        assert sample.trajectory is not None
        assert sample.provenance is not None
        assert list(record) == ["source", "input_messages", "label", "metadata"]
        assert record["metadata"]["extra_reward_info"] == {
            "question": sample.question,
            "rubrics": list(sample.rubrics),
            "dataset_name": "longqa",
        }
        assert len(sample.rubrics) == 3
        assert len(sample.provenance.path) == 4
        assert sample.provenance.dataset == "small"
        assert sample.provenance.strategy == "traj-tiered"
        assert sample.trajectory.is_correct
        assert sample.trajectory.answer == sample.label


def test_prompt_has_instruction_documents_and_the_question_last(records: list[dict[str, Any]]) -> None:
    for record in records:
        [message] = record["input_messages"]
        sample = Sample.from_json(record, default_id="-")
        assert message["role"] == "user"
        instruction, _, rest = message["content"].partition("\n\nDocuments:\n")
        assert instruction
        assert "\n" not in instruction
        assert rest.endswith(f"\nQuestion: {sample.question}")
        place = 0
        for passage in sample.passages:
            place = rest.index(f"{passage.title}\n{passage.text}\n", place) + 1


def test_length_is_that_of_the_whole_prompt(records: list[dict[str, Any]]) -> None:
    count = re.compile(r"\w+|[^\w\s]")
    for record in records:
        whole = len(count.findall(record["input_messages"][0]["content"]))
        assert whole == record["metadata"]["provenance"]["num_tokens"]
        assert 1800 < whole <= 2048


def test_tiers_are_those_of_the_trajectory(records: list[dict[str, Any]]) -> None:
    for record in records:
        sample = Sample.from_json(record, default_id="-")
        assert sample.trajectory is not None
        assert sample.provenance is not None
        by_tier = {t: {p.id for p in sample.passages if p.tier == t} for t in ("gold", "tier-1", "tier-2")}
        opened, cited = set(sample.trajectory.opened), set(sample.trajectory.cited)
        assert by_tier["gold"] == set(sample.provenance.path)
        assert by_tier["tier-1"] <= opened - cited
        assert by_tier["tier-2"] <= set(sample.trajectory.retrieved) - opened - cited
        assert by_tier["tier-1"]
    assert any(passage["tier"] == "tier-2" for record in records for passage in record["metadata"]["documents"])


def test_question_names_nothing_of_its_path(records: list[dict[str, Any]]) -> None:
    for record in records:
        question = record["metadata"]["extra_reward_info"]["question"].casefold()
        for name in (record["label"], *record["metadata"]["extra_reward_info"]["rubrics"]):
            assert name.casefold() not in question


def test_same_bytes_on_any_number_of_workers(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = contents(small.parent.parent / "data/small")
    for workers in (1, 7):
        spec = project(tmp_path / str(workers))
        again = built(spec, monkeypatch, workers=workers)
        assert again.is_new
        assert contents(again.path) == first


def test_card_shows_its_figures_as_plots(small: Path) -> None:
    folder = small.parent.parent / "data/small"
    card = json.loads((folder / "card.json").read_text())
    assert "![lengths, tiers, overlap](card.svg)" in (folder / "card.md").read_text()
    drawn = [e.text for e in ElementTree.parse(folder / "card.svg").iter("{http://www.w3.org/2000/svg}text")]
    figures, named = card["figures"], card["figures"]["distractors_naming_an_entity_percent"]
    assert sum(count for _, count in figures["prompts_by_tokens"]) == 12
    assert drawn[:1] == ["prompts by tokens"]
    expected: list[Any] = [cell for bar in figures["prompts_by_tokens"] for cell in bar]
    expected += ["documents of a prompt, mean"]
    expected += [
        cell for tier, found in figures["documents"].items() for cell in (tier.replace("-", " "), found["mean"])
    ]
    expected += ["documents that name an entity of the rubric, %", "all, traj-tiered", named["all"]]
    expected += ["the paper's", 50.03, "tier 1", named["tier-1"], "the paper's", 63.23, "tier 2", named["tier-2"]]
    expected += ["questions by right attempts"]
    right = card["stages"]["trajectories"]["questions_by_right_attempts"]
    expected += [cell for bar in right.items() for cell in bar]
    assert drawn[1:] == [cell if isinstance(cell, str) else f"{cell:,}" for cell in expected]


def test_another_seed_makes_other_records(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = built(small, monkeypatch, "seed=2", "output=other/seed-2")
    assert set(contents(other.path).values()).isdisjoint(
        {h for n, h in contents(small.parent.parent / "data/small").items() if n != ".lock"}
    )


def test_more_records_begin_with_those_that_are_there(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = (small.parent.parent / "data/small/data.jsonl").read_text()
    more = built(small, monkeypatch, "records=20", "output=more/small")
    text = (more.path / "data.jsonl").read_text()
    assert text.startswith(first)
    assert text.count("\n") == 20


def test_complete_data_set_is_not_built_again(small: Path) -> None:
    folder = small.parent.parent / "data/small"
    times = {p.name: p.stat().st_mtime_ns for p in folder.iterdir()}
    done = ltrl(small)
    assert (done.returncode, done.stdout.strip().endswith("data/small/data.jsonl")) == (0, True)
    assert done.stderr.startswith("unchanged: 12 records of ")
    assert {p.name: p.stat().st_mtime_ns for p in folder.iterdir()} == times


def test_damaged_file_of_a_complete_data_set_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = project(tmp_path, records=3)
    first = built(spec, monkeypatch)
    before = contents(first.path)
    with (first.path / "data.jsonl").open("ab") as file:
        file.write(b"{}\n")
    again = built(spec, monkeypatch)
    assert again.is_new
    assert contents(again.path) == before


@pytest.mark.parametrize("attempt", range(3))
def test_killed_at_any_moment_it_ends_in_the_same_files(small: Path, tmp_path: Path, attempt: int) -> None:
    expected = contents(small.parent.parent / "data/small")
    spec = project(tmp_path)
    folder = tmp_path / "data/small"
    # Steps of what a build leaves on its way: killed when the first of them is seen, then at the next, and so on.
    marks = [
        lambda: bool([*(tmp_path / "data/corpora").glob("*.part")]),
        lambda: size(folder / ".build/walks.journal") > 100,
        lambda: size(folder / ".build/questions.journal") > 100,
        lambda: size(folder / ".build/attempts.journal") > 10_000 * (attempt + 1),
        lambda: size(folder / ".build/samples.journal") > 40_000 * (attempt + 1),
        (folder / "walks.jsonl").exists,
    ]
    killed = 0
    for mark in marks[attempt % 2 :: 2] if attempt < 2 else marks:
        killed += kill_when(spec, mark)
    done = ltrl(spec)
    assert done.returncode == 0, done.stderr
    assert contents(folder) == expected
    assert killed


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def kill_when(spec: Path, is_time: Any) -> bool:
    """Starts a build and kills it when something is seen; whether that came before its end."""
    command = [sys.executable, "-c", LTRL, "data", "build", str(spec), "-q"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            if is_time():
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
                return True
            time.sleep(0.001)
    return False


def test_line_of_a_journal_that_the_disk_takes_a_part_of_is_not_done(tmp_path: Path) -> None:
    path = tmp_path / "stage.journal"
    journal = Journal(path, "key")
    journal.add(1, "a" * 1000)
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 500, unlimited[1]))
    try:
        with pytest.raises(LtrlError, match=r"cannot write the journal `.*stage.journal`: file too large"):
            journal.add(2, "b" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert 2 not in journal
    journal.close()
    again = Journal(path, "key")
    assert (1 in again, 2 in again) == (True, False)
    again.add(2, "c" * 1000)
    assert (again.get(1), again.get(2)) == ("a" * 1000, "c" * 1000)
    again.close()


def test_two_builds_at_once_do_not_write_the_same_files(small: Path) -> None:
    import fcntl

    with (small.parent.parent / "data/small/.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = ltrl(small)
    assert done.returncode == 1
    assert "another process builds `" in done.stderr


def test_too_few_candidates_are_said_with_their_reasons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = project(tmp_path)
    with pytest.raises(LtrlError) as caught:
        built(spec, monkeypatch, "question={backend: template, clue_words: [200, 300]}", "max_candidates=2")
    [found] = caught.value.diagnostics
    assert found.message == (
        "24 candidates gave 0 records, 12 are asked for (a page has no sentence that says enough without names: 24)"
    )


def test_mistakes_of_a_spec_have_their_lines(tmp_path: Path) -> None:
    spec = project(tmp_path)
    spec.write_text(spec.read_text().replace("hops: 3", "hop: 3").replace("tokenizer: words", "tokenizer: word"))
    done = subprocess.run([sys.executable, "-c", LTRL, "check", str(spec)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"--> {spec}:6:25" in done.stderr
    assert "unknown field `hop` in `walk`" in done.stderr
    assert f"--> {spec}:8:12" in done.stderr
    assert "unknown tokenizer backend `word`" in done.stderr
    assert "did you mean `words`?" in done.stderr


def test_every_kind_of_stage_has_its_protocol() -> None:
    from ltrl.backend.registry import STAGE_KINDS
    from ltrl.dataset import kinds

    for kind, methods in STAGE_KINDS.items():
        protocol = vars(getattr(kinds, f"{kind.title()}Backend"))
        own = {name for name, value in protocol.items() if callable(value) and not name.startswith("_")}
        assert own == set(methods)
        assert load(
            kind,
            {"corpus": "jsonl", "walk": "random", "question": "template", "agent": "scripted"}.get(
                kind, {"search": "bm25", "distractors": "random", "tokenizer": "words"}.get(kind, "")
            ),
        )


def test_gold_documents_that_are_too_long_cost_their_candidate_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = project(tmp_path)
    found = pages(60)
    for page in found[:20]:  # and so every path over one of them
        page["text"] += " Word" * 2000
    write_pages(tmp_path / "corpus.jsonl", found)
    made = built(spec, monkeypatch, "records=6")
    lost = made.card["stages"]["samples"]
    assert lost["good"] == 6
    assert lost["lost"] == {"the gold documents are longer than a prompt": lost["tried"] - 6}
    assert lost["tried"] > 6
    ids = [Sample.from_json(json.loads(line), default_id="-").id for line in open_lines(made)]
    assert ids == sorted(ids)


def open_lines(made: Built) -> list[str]:
    return (made.path / "data.jsonl").read_text().splitlines()


def test_leaks_and_copies_are_left_out_and_what_is_too_long_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = project(tmp_path)
    random = Random(3)

    def told(count: int) -> str:
        return "\n\n".join(" ".join(random.sample(WORDS, 9)) + "." for _ in range(count))

    gold = [told(100), told(2) + "\n\n" + "word " * 14_000 + "\n\nThe last sentence of a very long page."]
    found = {f"g{i}": text for i, text in enumerate(gold)}
    found |= {f"leak{i}": f"{told(1)}\n\n{gold[0].split(chr(10) * 2)[5 * i]}\n\n{told(1)}" for i in range(20)}
    found |= {"end": f"{told(1)}\n\nThe last sentence of a very long page. {told(1)}"}
    found |= {"same1": "Red. Blue. Green.", "same2": "red.  Blue. Green.\n", "same3": "Red. Blue. Green. Grey."}
    found |= {"cited": told(3), "opened": told(3), "long": told(300), "last": told(2)}
    write_pages(tmp_path / "corpus.jsonl", [{"id": i, "title": f"Title of {i}", "text": t} for i, t in found.items()])
    steps = [
        {"action": "search", "query": "q", "results": [id for id in found if id[0] != "g"]},
        *({"action": "open", "document": id} for id in ("cited", "opened", "long")),
        {"action": "cite", "documents": ["Title of cited"]},
    ]
    taken = {"question_id": "q", "question": "Which?", "attempt": 0, "agent": "", "answer": "this", "is_correct": True}
    (tmp_path / "t.jsonl").write_text(json.dumps({**taken, "steps": steps}) + "\n")
    asked = {"question": "Which?", "answer": "this", "entities": ["Title of g0"], "path": ["g0", "g1"]}
    (tmp_path / "q.jsonl").write_text(json.dumps(asked) + "\n")
    agent = "agent={backend: file, path: t.jsonl}"
    made = built(spec, monkeypatch, "records=1", "questions_file=q.jsonl", "tokens=6k", agent)
    [record] = map(json.loads, open_lines(made))
    tiers = {document["id"]: document["tier"] for document in record["metadata"]["documents"]}
    assert tiers == {"g0": "gold", "g1": "gold", "opened": "tier-1"} | dict.fromkeys(
        ("same1", "same3", "last"), "tier-2"
    )
    left_out = {"gold leak": 21, "near-duplicate": 1, "too long, tier-1": 1}
    assert made.card["figures"]["documents_left_out"] == left_out
    told_so = "Documents left out of prompts: gold leak: 21; near-duplicate: 1; too long, tier-1: 1.\n"
    assert told_so in (made.path / "card.md").read_text()


def test_what_cannot_be_written_or_is_damaged_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = project(tmp_path, records=2)
    with pytest.raises(LtrlError, match=r"cannot write below `.*corpus.jsonl/corpora`: not a directory"):
        built(spec, monkeypatch, "output=corpus.jsonl/small")
    made = built(spec, monkeypatch)
    [store] = (tmp_path / "data/corpora").glob("*.sqlite")
    store.write_bytes(b"no database at all, although it has the name of one")
    with pytest.raises(LtrlError, match=r"a store of a corpus in `.*corpora` is damaged"):
        built(spec, monkeypatch, "seed=5")
    store.unlink()
    (made.path / "card.json").write_text('{"key": "')
    assert built(spec, monkeypatch).is_new


def test_stage_of_a_plugin_needs_its_methods_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import metadata

    from ltrl.backend import registry

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "last_link.py").write_text(
        "from typing import ClassVar, Literal\n"
        "from ltrl.dataset.kinds import WalkSection\n"
        "class LastLink:\n"
        "    api: ClassVar[int] = 1\n"
        "    class Options(WalkSection):\n"
        "        backend: Literal['last-link']\n"
        "    def __init__(self, options): ...\n"
        "    def choose(self, path, candidates, random):\n"
        "        return len(candidates) - 1\n"
    )
    info = tmp_path / "mine" / "mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ltrl.backends]\nwalk.last-link = last_link:LastLink\n")
    monkeypatch.syspath_prepend(str(tmp_path / "mine"))
    registry.backends.cache_clear()
    registry.load.cache_clear()
    try:
        assert "mine" in {entry.dist.name for entry in metadata.entry_points(group=registry.GROUP) if entry.dist}
        made = built(project(tmp_path, records=2), monkeypatch, "walk={backend: last-link, hops: 2, min_links: 2}")
    finally:
        registry.backends.cache_clear()
        registry.load.cache_clear()
    assert made.card["spec"]["walk"]["backend"] == "last-link"
