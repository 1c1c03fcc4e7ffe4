"""`ltrl data show` and `ltrl data stats`: one record to look at, and the figures of a file."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ltrl.cli import main
from ltrl.samples import Passage, Provenance, Sample
from ltrl.trajectories import Answer, Cite, Open, Search, Trajectory

QUESTION = "In which quarter stands the museum by the architect who was born on the Tigris?"
PASSAGES = (
    Passage(
        "hadid", "Zaha Hadid was born in Baghdad, on the Tigris.\nShe built <b>museums</b> & bridges.", "gold", "Hadid"
    ),
    Passage("tate", "The Tate has nothing to do with it. " * 20, "tier-2", "Tate"),
    Passage("maxxi", "The MAXXI by Dame Zaha stands in Flaminio.", "gold", "MAXXI"),
    Passage("macro", "The MACRO is a museum of Rome, as the MAXXI is.", "tier-1", "MACRO"),
)
STEPS = (
    Search("museum <by> an architect", ("tate", "macro", "https://example.org/a")),
    Open("macro"),
    Open("hadid"),
    Cite(("hadid", "https://example.org/a")),
    Answer("Flaminio"),
)


def sample(id_: str = "museum", **changes: Any) -> Sample:
    text = "".join(f'<section id="{i}">\n{p.text}\n</section>\n' for i, p in enumerate(PASSAGES, 1))
    made: dict[str, Any] = {
        "messages": (("user", f"Answer from the documents.\n\nDocuments:\n{text}\n{QUESTION}"),),
        "question": QUESTION,
        "label": "Flaminio",
        "rubrics": ("Zaha Hadid", "MAXXI"),
        "passages": PASSAGES,
        "aliases": {"Zaha Hadid": ("Dame Zaha",)},
        "trajectory": Trajectory(id_, QUESTION, 0, STEPS, "Flaminio", True, "scripted"),
        "provenance": Provenance("museums", "0" * 64, ("hadid", "maxxi"), 7, "traj-tiered", "counter", 140),
    }
    return Sample(id_, **{**made, **changes})


def lines(path: Path, *samples: Sample) -> Path:
    path.write_text("".join(json.dumps(s.to_json()) + "\n" for s in samples))
    return path


@pytest.fixture
def ltrl(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["ltrl", "data", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return run


def test_a_record_is_shown_with_tiers_marks_and_the_agents_steps(tmp_path: Path, ltrl: Any) -> None:
    path = lines(tmp_path / "d.jsonl", sample("other"), sample())
    code, out, _ = ltrl("show", path, "museum")
    shown = "\n".join(line.rstrip() for line in out.replace(str(path), "d.jsonl").splitlines())
    assert code == 0
    assert (
        shown
        == """\
record     museum, d.jsonl:2
answer     Flaminio
source     longqa
length     1,126 characters, 4 documents, 140 tokens by counter
built      museums, traj-tiered, seed 7
walk       hadid → maxxi
question   In which quarter stands the museum by the architect who was born on the Tigris?

     entity       also        documents
 ──────────────────────────────────────
 1   Zaha Hadid   Dame Zaha   1, 3
 2   MAXXI                    3, 4

search  museum <by> an architect
         tier-2            Tate
         tier-1            MACRO
         not in the prompt https://example.org/a
open    MACRO tier-1
open    Hadid gold
cite
         gold              Hadid
         not in the prompt https://example.org/a
answer  Flaminio
   1 gold   Hadid, 82 characters, names 1
   2 tier-2 Tate, 720 characters
   3 gold   MAXXI, 42 characters, names 1, 2
   4 tier-1 MACRO, 47 characters, names 2
user
Answer from the documents.

Documents:
<section id="1">
⟨4 documents⟩
</section>

In which quarter stands the museum by the architect who was born on the Tigris?"""
    )


def test_entities_are_found_in_titles_too(tmp_path: Path, ltrl: Any) -> None:
    passages = (Passage("a", "It was built in 2010.", "gold", "The MAXXI"), Passage("b", "By Zaha Hadid.", "gold", ""))
    path = lines(tmp_path / "d.jsonl", sample(passages=passages))
    assert json.loads(ltrl("show", path, "museum", "--json")[1])["entities"] == {"0": [2], "1": [1]}
    [row] = [line.split() for line in ltrl("show", path, "museum")[1].splitlines() if line.startswith(" 2   MAXXI")]
    assert row == ["2", "MAXXI", "1"]


def test_without_an_id_the_records_are_listed(tmp_path: Path, ltrl: Any) -> None:
    path = lines(tmp_path / "d.jsonl", *(sample(f"q{n}") for n in range(5)))
    with path.open("a") as file:
        file.write("[]\n")
    code, out, err = ltrl("show", path, "--limit", 2)
    assert (code, err) == (0, "4 more records; `--limit 6` shows all\n")
    assert [line.split()[:2] for line in out.splitlines()[3:-1]] == [["1", "q0"], ["2", "q1"]]
    rows = json.loads(ltrl("show", path, "--json")[1])
    assert [(row["line"], row["id"], row["tiers"]) for row in rows[-2:]] == [(5, "q4", [2, 1, 1]), (6, "", [0, 0, 0])]
    assert rows[-1]["problem"] == "a record is a JSON object, this is an empty list"


def test_a_record_of_the_published_file_has_its_line_as_its_name(tmp_path: Path, ltrl: Any) -> None:
    record = sample(passages=(), trajectory=None, provenance=None, aliases={}).to_json()
    del record["metadata"]["id"]
    path = tmp_path / "d.jsonl"
    path.write_text(f"{json.dumps(record)}\n\n{json.dumps(record | {'label': 'second'})}\n")
    shown = json.loads(ltrl("show", path, "3", "--json")[1])
    assert (shown["line"], shown["record"]["label"]) == (3, "second")
    assert "[1:Zaha Hadid]" in ltrl("show", path, "3")[1]  # the whole prompt is searched where documents are unknown


def test_an_unknown_record_is_said_plainly(tmp_path: Path, ltrl: Any) -> None:
    path = lines(tmp_path / "d.jsonl", sample())
    assert ltrl("show", path, "musem") == (
        1,
        "",
        f"error[LTRL050]: `{path}` has no record `musem`\nhint: `ltrl data show {path}` lists its records\n",
    )


def test_the_page_needs_nothing_but_itself_and_lets_no_text_be_markup(tmp_path: Path, ltrl: Any) -> None:
    path, page = lines(tmp_path / "d.jsonl", sample()), tmp_path / "page.html"
    assert ltrl("show", path, "museum", "--html", page)[0] == 0
    text = page.read_text()
    assert "<script" not in text
    assert not re.search(r"(src|href)=\"(?!#)", text)
    assert "She built &lt;b&gt;museums&lt;/b&gt; &amp; bridges." in text
    assert "museum &lt;by&gt; an architect" in text
    assert re.findall(r'<a class="([^"]+)" style="flex: (\d+) ', text) == [
        ("gold", "82"), ("tier-2", "720"), ("gold", "42"), ("tier-1", "47"),
    ]  # fmt: skip
    assert text.count("<li class=") == len(STEPS)
    assert ltrl("show", path, "--html", page)[0] == 0
    assert page.read_text().count("<tr>") == 2


def test_long_lists_are_folded(tmp_path: Path, ltrl: Any) -> None:
    search = Search("q", tuple(f"d{n}" for n in range(100)))
    trajectory = Trajectory("a", QUESTION, 0, (search,), "", None, "scripted")
    path, page = lines(tmp_path / "d.jsonl", sample(trajectory=trajectory)), tmp_path / "page.html"
    assert "         and 88 more\n" in ltrl("show", path, "museum")[1]
    assert ltrl("show", path, "museum", "--full")[1].count("not in the prompt") == 100
    ltrl("show", path, "museum", "--html", page)
    assert '<details class="more"><summary>76 more</summary>' in page.read_text()


def chromium(page: Path, *options: str) -> bytes:
    """What headless Chromium prints of a page."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium here")
    quiet = ("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync")
    own = f"--user-data-dir={page.parent / 'chromium'}"
    words = [
        program,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        *quiet,
        own,
        *options,
        page.as_uri(),
    ]
    return subprocess.run(words, capture_output=True, check=True, timeout=120).stdout


@pytest.mark.parametrize(("scheme", "paper"), [("1", (255, 255, 255)), ("0", (22, 24, 27))])
def test_a_phone_shows_a_record_of_128k_tokens_without_scrolling_sideways(
    tmp_path: Path, ltrl: Any, scheme: str, paper: tuple[int, int, int]
) -> None:
    Image = pytest.importorskip("PIL.Image")
    long = tuple(Passage(f"d{n}", f"Page {n} says little. " * 170, "tier-2", f"Page {n}") for n in range(130))
    whole = (*PASSAGES, *long)
    prompt = "\n\n".join(p.text for p in whole) + QUESTION
    path, page = tmp_path / "d.jsonl", tmp_path / "p.html"
    lines(path, sample(messages=(("user", prompt),), passages=whole))
    assert len(prompt) > 450_000
    assert ltrl("show", path, "museum", "--html", page)[0] == 0
    counted = ("details", "details[open]", ".timeline li")
    sizes = ["root.scrollWidth - root.clientWidth", *(f"document.querySelectorAll('{c}').length" for c in counted)]
    probe = f"<script>root = document.documentElement; document.title = [{', '.join(sizes)}]</script>"
    probed = tmp_path / "probed.html"
    probed.write_text(page.read_text() + probe)
    dom = chromium(probed, "--window-size=500,900", "--dump-dom").decode()
    assert re.findall("<title>(.*?)</title>", dom) == ["0,134,2,5"]
    picture = tmp_path / "picture.png"
    chromium(
        page, "--window-size=500,900", f"--blink-settings=preferredColorScheme={scheme}", f"--screenshot={picture}"
    )
    with Image.open(picture) as drawn:
        colours = drawn.convert("RGB").getcolors(maxcolors=1 << 20)
    assert max(colours)[1] == paper
    assert len(colours) > 50  # text and tiers


def stats(ltrl: Any, *words: object) -> Any:
    code, out, _ = ltrl("stats", *words, "--json")
    assert code == 0
    return json.loads(out)


def test_stats_count_what_the_paper_counts(tmp_path: Path, ltrl: Any) -> None:
    few = (PASSAGES[0], PASSAGES[1])
    path = lines(
        tmp_path / "d.jsonl", sample("a"), sample("b", label="1,998 m", passages=few), sample("c", label="2,001 m")
    )
    with path.open("a") as file:
        file.write("{\n")
    [found] = stats(ltrl, path)
    assert (found["records"], found["unusable"], found["bytes"]) == (4, 1, path.stat().st_size)
    assert found["documents"]["tier-1"] == {"min": 0, "max": 1, "mean": 2 / 3, "median": 1}
    assert found["naming_an_entity"] == {"gold": 1.0, "tier-1": 1.0, "tier-2": 0.0, "distractors": 1 / 3}
    assert found["hops"] == {"1": 3}  # links between two pages
    assert found["answers"]["most_common_shapes"] == [["0,0 m", 2], ["flaminio", 1]]
    assert found["tokens"]["are_exact"] is False


def test_stats_of_several_files_stand_side_by_side(tmp_path: Path, ltrl: Any) -> None:
    one, two = lines(tmp_path / "one.jsonl", sample()), lines(tmp_path / "two.jsonl", sample("x"), sample("y"))
    page = tmp_path / "page.html"
    code, out, _ = ltrl("stats", one, two, "--html", page)
    assert code == 0
    [records] = [line.split() for line in out.splitlines() if line.startswith(" records")]
    assert records == ["records", "1", "2"]
    assert page.read_text().count('<div class="bars">') == 10
    assert "tokens estimated at 4 characters each" in page.read_text()


def test_parquet_is_shown_and_counted_as_json_lines_are(tmp_path: Path, ltrl: Any) -> None:
    """Parquet gives all records the keys of each: an alias, a step or a tier of one is null in the others."""
    json_reader, parquet = pytest.importorskip("pyarrow.json"), pytest.importorskip("pyarrow.parquet")
    plain = sample("plain", passages=(), trajectory=None, provenance=None, aliases={})
    other = sample("other", aliases={"MAXXI": ("the museum",)}, question="Where?", label="Rome")
    path = lines(tmp_path / "d.jsonl", sample(), plain, other)
    parquet.write_table(json_reader.read_json(path), tmp_path / "d.parquet")  # as the hub converts it
    for words in (["show"], ["show", "museum"], ["show", "other"], ["check"]):
        said = [ltrl(words[0], tmp_path / name, *words[1:], "--json") for name in ("d.jsonl", "d.parquet")]
        assert said[0][1].replace("d.jsonl", "d.parquet") == said[1][1]
        assert said[0][0] == said[1][0] == 0
    one, two = stats(ltrl, tmp_path / "d.jsonl", tmp_path / "d.parquet")
    assert {**one, "file": "", "bytes": 0} == {**two, "file": "", "bytes": 0}


def test_an_empty_file_has_figures_too(tmp_path: Path, ltrl: Any) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    assert ltrl("stats", empty)[0] == 0
    assert ltrl("show", empty)[0] == 0
    assert [one["records"] for one in stats(ltrl, empty)] == [0]
