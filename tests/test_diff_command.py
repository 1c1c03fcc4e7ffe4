"""`ltrl diff` as a person, a pull request, a program and CI meet it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import pytest
import yaml
from comparing import ROOT, SPEC, commit, git, ltrl, project, repository
from markdown_it import MarkdownIt

from ltrl.cli.show.diff_html import html
from ltrl.cli.show.diff_markdown import LONGEST, markdown
from ltrl.diff import Verdict
from ltrl.diff.pairs import Comparison, compare
from ltrl.diff.sides import Choices

SCHEMA = json.loads((ROOT / "docs" / "diff.schema.json").read_text())
HOSTILE = (
    "</details><script>alert(1)</script> `x` ``y`` **b** @someone #1 | [l](http://e) \\| \x1b[31m \u202e <!-- ~~s~~"
)
CHEAPER = SPEC.replace("eta: 0.3", "eta: 0.2")


def test_a_format_that_is_none_is_told_with_those_that_are(tmp_path: Path) -> None:
    done = ltrl("diff", "a.yaml", "b.yaml", "--format", "bogus", cwd=tmp_path)
    said = "Error: Invalid value for '--format': 'bogus' is not one of 'terminal', 'markdown', 'json', 'html'."
    assert (done.returncode, done.stdout, done.stderr.splitlines()[-1]) == (1, "", said)


def test_the_terminal_shows_layers_and_verdicts(tmp_path: Path) -> None:
    here = project(tmp_path, a=SPEC, b=CHEAPER)
    done = ltrl("diff", "specs/a.yaml", "specs/b.yaml", cwd=here)
    assert (done.returncode, done.stderr) == (2, "")
    assert "\n".join(line.rstrip() for line in done.stdout.splitlines()) == (
        """\
specs/a.yaml → specs/b.yaml
May an existing run resume with it? no: 1 field changes what is learned, so that submitting starts a new run
Are the rewards of the two runs comparable? no: `reward.eta` 0.3 → 0.2: the evidence weighs 0.2 instead of 0.3

SPEC  1 change: 1 new-run
  new-run   reward.eta  0.3 → 0.2
            specs/a.yaml:8:46 → specs/b.yaml:8:46
            rewards of the two runs are not comparable: the evidence weighs 0.2 instead of 0.3

CONSEQUENCES  1 of 10 figures changes
  reward, right answer  0.7 to 1  →  0.8 to 1    without and with all evidence
  the same: model parameters 0.46 million; responses per step 64; updates per step 1; tokens per step 9,280; tokens per
  run 742,400; epochs 1; wall time 1,440 min; reward range 0 to 1; reward, wrong answer 0

COMPILED  2 in local_engine.json; `--all` shows them"""
    )
    spec = ltrl("diff", "specs/a.yaml", "specs/b.yaml", "--layer", "spec", cwd=here).stdout
    assert "reward.eta" in spec
    assert "May an" not in spec
    assert "CONSEQUENCES" not in spec
    compiled = ltrl("diff", "specs/a.yaml", "specs/b.yaml", "--layer", "compiled", cwd=here).stdout
    assert "    reward.eta  0.3 → 0.2" in compiled
    everything = ltrl("diff", "specs/a.yaml", "specs/b.yaml", "--all", cwd=here).stdout
    assert "    reward.eta  0.3 → 0.2" in everything
    assert "tokens per step       9,280         →  9,280" in everything


def test_colour_is_for_terminals_and_who_asks_for_it(tmp_path: Path) -> None:
    here = project(tmp_path, a=SPEC, b=CHEAPER)
    assert "\x1b" not in ltrl("diff", "specs/a.yaml", "specs/b.yaml", cwd=here).stdout
    asked = ltrl("diff", "specs/a.yaml", "specs/b.yaml", cwd=here, FORCE_COLOR="1", TERM="xterm-256color").stdout
    assert "\x1b[1;31mnew-run" in asked
    refused = ltrl("diff", "specs/a.yaml", "specs/b.yaml", cwd=here, FORCE_COLOR="1", NO_COLOR="1", TERM="xterm")
    assert "31m" not in refused.stdout


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["specs/a.yaml", "specs/a.yaml"], 0),
        (["specs/a.yaml", "specs/b.yaml"], 2),
        (["specs/a.yaml", "specs/b.yaml", "--fail-on", "new-run"], 2),
        (["specs/a.yaml", "--set", "cluster.minutes=5"], 2),
        (["specs/a.yaml", "--set", "cluster.minutes=5", "--fail-on", "relaunch"], 2),
        (["specs/a.yaml", "--set", "cluster.minutes=5", "--fail-on", "new-run"], 0),
        (["specs/a.yaml", "--set", "name=b", "--fail-on", "relaunch"], 0),
        (["specs/a.yaml", "--set", "name=b", "--fail-on", "note"], 2),
        (["specs/a.yaml", "specs/clusters/local.yaml"], 1),
        (["specs/a.yaml", "specs/missing.yaml"], 1),
        (["specs/a.yaml"], 1),
        (["specs"], 1),
        (["specs/a.yaml", "no-such-run"], 1),
        (["--no-such-option"], 1),
        ([], 1),
        (["--git", "HEAD"], 1),
    ],
    ids=lambda value: " ".join(value) or "nothing" if isinstance(value, list) else None,
)
def test_exit_statuses(tmp_path: Path, arguments: list[str], status: int) -> None:
    here = project(tmp_path, a=SPEC, b=CHEAPER)
    done = ltrl("diff", *arguments, cwd=here, GIT_CEILING_DIRECTORIES=str(tmp_path.parent))
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert bool(done.stderr) is (status == 1)


def test_a_mistake_of_either_side_is_shown_at_its_line(tmp_path: Path) -> None:
    here = project(tmp_path, a=SPEC, b=SPEC.replace("steps:", "stepz:"))
    done = ltrl("diff", "specs/a.yaml", "specs/b.yaml", cwd=here)
    assert (done.returncode, done.stdout) == (1, "")
    assert "--> specs/b.yaml:9:13" in done.stderr


def test_json_follows_its_schema(tmp_path: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    here = repository(tmp_path, a=SPEC, b=SPEC)
    (here / "specs" / "a.yaml").write_text(CHEAPER.replace("local}", "local}\nrollout: {temperature: 0.9}"))
    (here / "specs" / "b.yaml").write_text("kind: experiment\nname: [\n")
    (here / "specs" / "c.yaml").write_text(SPEC)
    for arguments in (
        ["specs/a.yaml", "specs/c.yaml"],
        ["specs/c.yaml", "specs/c.yaml"],
        ["--git", "HEAD"],
        [str(ROOT / "specs/qwen4b.yaml"), str(ROOT / "specs/qwen30b_moe.yaml")],
        ["specs/clusters/local.yaml", "specs/clusters/slurm.yaml"],
    ):
        data = json.loads(ltrl("diff", *arguments, "--json", cwd=here).stdout)
        jsonschema.validate(data, SCHEMA, cls=jsonschema.Draft202012Validator)
        assert data["format"] == 1
    done = ltrl("diff", "--git", "HEAD", "--format", "json", cwd=here)
    data = json.loads(done.stdout)
    assert done.returncode == 1
    assert [(c["old"], c["new"], c["grade"]) for c in data["comparisons"]] == [
        ("HEAD:specs/a.yaml", "specs/a.yaml", "new-run"),
        (None, "specs/c.yaml", "note"),
    ]
    assert [m["file"] for m in data["mistakes"]] == ["specs/b.yaml"]


def test_a_page_keeps_line_and_column_together(tmp_path: Path) -> None:
    here = project(tmp_path, a=SPEC, b=CHEAPER)
    page = ltrl("diff", "specs/a.yaml", "specs/b.yaml", "--format", "html", cwd=here).stdout
    assert "<span class='place'>specs/a.yaml<span class='line'>:8:46</span></span>" in page


class Tags(HTMLParser):
    """Which elements a page has, and whether they are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.open: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.links += [str(value) for name, value in attrs if name in ("href", "src")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def hostile(tmp_path: Path) -> Comparison:
    """Two specs with words that would be markup, links and calls; and a mistake that quotes some."""
    old = SPEC.replace(
        "judge: exact", f"judge: {{backend: openai, base_url: 'http://j', model: {json.dumps(HOSTILE)}}}"
    )
    new = old.replace(json.dumps(HOSTILE), json.dumps(HOSTILE * 2)).replace("eta: 0.3", "eta: 0.2")
    new += f"description: {json.dumps('(a|b`c)</code>' + HOSTILE)}\n"
    here = project(tmp_path, old=old, new=new)
    found = compare(str(here / "specs/old.yaml"), str(here / "specs/new.yaml"), Choices())
    words = f"the old version could not be compiled: unknown field `{HOSTILE}`"
    return Comparison((found, replace(found, old=None, resume=Verdict("does not apply", words))))


def test_the_page_is_whole_and_nothing_in_a_spec_becomes_markup(tmp_path: Path) -> None:
    page = html(hostile(tmp_path))
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert tags.links == []
    assert "script" not in tags.seen
    assert set(tags.seen) <= {
        "html", "meta", "title", "style", "body", "h1", "h2", "h3", "article", "div", "p", "b", "details", "summary",
        "span", "pre", "table", "thead", "tbody", "tr", "th", "td", "code",
    }  # fmt: skip
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert '<meta name="viewport"' in page
    assert "prefers-color-scheme: dark" in page


def test_nothing_in_a_spec_becomes_markup_in_a_comment(tmp_path: Path) -> None:
    text = markdown(hostile(tmp_path), every=True)
    rendered = MarkdownIt("commonmark", {"html": True}).enable("table").enable("strikethrough").render(text)
    tags = Tags()
    tags.feed(rendered)
    assert tags.open == []
    assert tags.links == []
    assert not {"script", "s", "a", "em", "h2"} & set(tags.seen)
    assert tags.seen.count("details") == 6
    tables = re.findall(r"<tbody>.*?</tbody>", rendered, re.DOTALL)
    assert {row.count("<td") for row in re.findall(r"<tr>.*?</tr>", tables[0], re.DOTALL)} == {5}
    bare = re.sub(r"<code>.*?</code>", "", rendered, flags=re.DOTALL)
    assert not re.search(r"[@#]\w|://|\*\*", bare)
    assert "alert(1)" in rendered
    assert "\x1b" not in text


def test_a_comment_stays_within_its_size(tmp_path: Path) -> None:
    sets = "\n".join(f"    set-{i}: {{backend: entity-chain, seed: {i}}}" for i in range(400))
    new = SPEC.replace("samples: 640}", f"samples: 640}}\n  validation:\n{sets}")
    here = project(tmp_path, old=SPEC, new=new)
    found = compare(str(here / "specs/old.yaml"), str(here / "specs/new.yaml"), Choices())
    text = markdown(Comparison((found,) * 3))
    assert 1000 < len(text) <= LONGEST
    assert text.count("<details") == text.count("</details>")
    assert "May an existing run resume with it?" in text


def test_a_bundle_and_a_run_are_compared_with_a_spec(tmp_path: Path) -> None:
    here = project(tmp_path, a=SPEC, b=CHEAPER)
    environment = {"LTRL_STATE_DIR": str(tmp_path / "state")}
    assert ltrl("compile", "specs/a.yaml", "-o", "bundle", cwd=here, **environment).returncode == 0
    same = ltrl("diff", "bundle", "specs/a.yaml", cwd=here, **environment)
    assert (same.returncode, same.stdout.splitlines()[1]) == (0, "no change")
    run = here / "runs" / "small-1"
    shutil.copytree(here / "bundle", run / "bundle")
    lock = json.loads((run / "bundle" / "ltrl.lock.json").read_text())
    record = {"format": 1, "name": lock["name"], "fingerprint": lock["fingerprint"], "engine": "local", "steps": 80}
    (run / "run.json").write_text(
        json.dumps({**record, "project": str(here), "created": "2026-01-01T00:00:00.000+00:00"})
    )
    for name in ("small", "runs/small-1"):
        done = ltrl("diff", name, "specs/b.yaml", "--json", cwd=here, **environment)
        assert done.returncode == 2, done.stderr
        [found] = json.loads(done.stdout)["comparisons"]
        [change] = found["spec"]
        assert found["old"] == "small-1"
        assert (change["path"], change["old"], change["new"]) == ("reward.eta", 0.3, 0.2)
        assert (change["old_position"], change["new_position"]) == ("small-1:a.yaml:8", "specs/b.yaml:8:46")
    (run / "bundle" / "spec.yaml").write_text("edited")
    assert ltrl("diff", "small-1", "specs/b.yaml", cwd=here, **environment).returncode == 1


def test_code_that_changed_since_a_launch_is_drift(tmp_path: Path) -> None:
    here = project(tmp_path)
    spec = ROOT / "specs" / "qwen4b.yaml"
    assert ltrl("compile", spec, "-o", "bundle", cwd=here).returncode == 0
    assert ltrl("diff", "bundle", spec, cwd=here).returncode == 0
    lock = json.loads((here / "bundle" / "ltrl.lock.json").read_text())
    lock["ltrl"] = "0.0.9"
    lock["backends"]["reward.rubric"]["version"] = "0.0.9"
    (here / "bundle" / "ltrl.lock.json").write_text(json.dumps(lock))
    done = ltrl("diff", "bundle", spec, "--json", cwd=here)
    [found] = json.loads(done.stdout)["comparisons"]
    assert [(c["section"], c["path"], c["old"]) for c in found["compiled"]] == [
        ("code", "ltrl", "0.0.9"),
        ("code", "reward.rubric", "ltrl 0.0.9"),
    ]
    assert (found["grade"], found["resume"]["answer"]) == ("relaunch", "yes")


def test_overlays_and_sets_are_for_the_new_side(tmp_path: Path) -> None:
    here = project(tmp_path, a=SPEC)
    (here / "over.yaml").write_text("algorithm: {steps: 90}\n")
    done = ltrl("diff", "specs/a.yaml", "-f", "over.yaml", "--set", "cluster.minutes=9", "--json", cwd=here)
    [found] = json.loads(done.stdout)["comparisons"]
    assert (found["old"], found["new"]) == ("specs/a.yaml", "specs/a.yaml -f over.yaml --set cluster.minutes=9")
    assert [(c["path"], c["new"], c["new_position"]) for c in found["spec"]] == [
        ("algorithm.steps", 90, "over.yaml:1:20"),
        ("cluster.minutes", 9, "--set cluster.minutes=9"),
    ]


def test_diff_loads_nothing_heavy() -> None:
    code = (
        "import sys\nsys.argv = ['ltrl', 'diff', 'specs/qwen4b.yaml', 'specs/qwen30b_moe.yaml']\n"
        "from ltrl.cli import main\ntry:\n    main()\nexcept SystemExit:\n    heavy = {'torch', 'ray', 'transformers',"
        " 'trl', 'nemo_rl', 'submitit', 'tokenizers', 'fastapi', 'uvicorn', 'httpx'}\n"
        "    print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert done.stdout.startswith("specs/qwen4b.yaml → specs/qwen30b_moe.yaml")


# The workflows under examples/ci: parsed, and their own steps run where they can run.


def pull_request(tmp_path: Path) -> tuple[Path, str]:
    """A clone of a repository on a branch that changes a spec, and the commit it started from."""
    upstream = repository(tmp_path / "upstream", a=SPEC)
    start = git("rev-parse", "HEAD", cwd=upstream).strip()
    git("checkout", "-q", "-b", "change", cwd=upstream)
    (upstream / "specs" / "a.yaml").write_text(CHEAPER)
    commit(upstream, "cheaper evidence")
    git("clone", "-q", "--branch", "change", str(upstream), "clone", cwd=tmp_path)
    return tmp_path / "clone", start


def tools(tmp_path: Path, **scripts: str) -> dict[str, str]:
    """A PATH with `ltrl` and stand-ins for the services' own clients, which keep what they are given."""
    folder = tmp_path / "tools"
    folder.mkdir()
    ltrl_ = f"#!{sys.executable}\nimport sys\nfrom ltrl.cli import main\nsys.argv[0] = 'ltrl'\nmain()\n"
    for name, text in {"ltrl": ltrl_, **scripts}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def run_step(script: str, cwd: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", script],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_github_workflow_comments_on_a_pull_request(tmp_path: Path) -> None:
    workflow = yaml.safe_load((ROOT / "examples" / "ci" / "github-actions.yml").read_text())
    assert workflow[True]["pull_request"]["paths"] == ["specs/**"]  # YAML 1.1 reads `on` as true
    [job] = workflow["jobs"].values()
    assert job["permissions"] == {"contents": "read", "pull-requests": "write"}
    checkout = next(step for step in job["steps"] if step.get("uses", "").startswith("actions/checkout@"))
    assert checkout["with"]["fetch-depth"] == 0
    assert all("${{" not in step.get("run", "") for step in job["steps"])  # text of a request never becomes a command
    clone, _ = pull_request(tmp_path)
    environment = tools(tmp_path, gh='#!/bin/sh\nprintf "%s\\n" "$*" >>"$GH_LOG"\ncat "$5" >"$GH_LOG.body"\n')
    environment |= {
        "GITHUB_BASE_REF": "main", "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"), "PULL_REQUEST": "7",
        "GH_LOG": str(tmp_path / "gh"), "RUNNER_TEMP": str(tmp_path),
    }  # fmt: skip
    ran = [run_step(s["run"], clone, environment) for s in job["steps"] if "run" in s and "pip install" not in s["run"]]
    assert [done.returncode for done in ran] == [0, 0], [done.stderr for done in ran]
    assert (
        tmp_path / "gh"
    ).read_text() == f"pr comment 7 --body-file {tmp_path}/diff.md --edit-last --create-if-none\n"
    body = (tmp_path / "gh.body").read_text()
    assert "| `reward.eta` | `0.3`<br>" in body
    assert (tmp_path / "summary").read_text() == body


def test_the_gitlab_job_comments_on_a_merge_request(tmp_path: Path) -> None:
    text = (ROOT / "examples" / "ci" / "gitlab-ci.yml").read_text()
    [job] = [job for name, job in yaml.safe_load(text).items() if isinstance(job, dict) and "script" in job]
    assert job["rules"][0]["changes"] == ["specs/**/*"]
    assert job["variables"]["GIT_DEPTH"] == "0"
    clone, start = pull_request(tmp_path)
    environment = tools(tmp_path, curl='#!/bin/sh\nprintf "%s\\n" "$@" >"$CURL_LOG"\n')
    environment |= {
        "CI_MERGE_REQUEST_DIFF_BASE_SHA": start, "CI_API_V4_URL": "https://gitlab.example/api/v4", "CI_PROJECT_ID": "3",
        "CI_MERGE_REQUEST_IID": "5", "LTRL_COMMENT_TOKEN": "a-token", "CURL_LOG": str(tmp_path / "curl"),
    }  # fmt: skip
    done = run_step("\n".join(line for line in job["script"] if "pip install" not in line), clone, environment)
    assert done.returncode == 0, done.stderr
    sent = (tmp_path / "curl").read_text()
    assert "https://gitlab.example/api/v4/projects/3/merge_requests/5/notes" in sent
    assert "body@diff.md" in sent
    assert "a-token" not in sent
    assert "| `reward.eta` | `0.3`<br>" in (clone / "diff.md").read_text()
