"""`ltrl diff` over the history of a real repository, and inside of git's own commands."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from comparing import SPEC, commit, git, ltrl, repository

BASE = "kind: experiment\nreward: {backend: rubric, judge: exact, eta: 0.3}\n"
CHILD = SPEC.replace("kind: experiment\n", "extends: base.yaml\n").replace(
    "reward: {backend: rubric, judge: exact, eta: 0.3}\n", ""
)


def compared(*arguments: str, cwd: Path) -> list[dict[str, Any]]:
    done = ltrl("diff", "--json", "--git", *arguments, cwd=cwd)
    assert done.returncode in (0, 2), done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)["comparisons"]
    assert bool(found) is (done.returncode == 2)
    return found


def names(found: list[dict[str, Any]]) -> list[tuple[Any, Any]]:
    return [(one["old"], one["new"]) for one in found]


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return repository(tmp_path / "repo", base=BASE, child=CHILD, other=SPEC.replace("small", "other"))


def test_revisions_and_the_working_tree(repo: Path) -> None:
    other = repo / "specs" / "other.yaml"
    assert compared("HEAD", cwd=repo) == []
    other.write_text(other.read_text().replace("steps: 80", "steps: 90"))
    [found] = compared("HEAD", cwd=repo)
    assert (found["old"], found["new"]) == ("HEAD:specs/other.yaml", "specs/other.yaml")
    [change] = found["spec"]
    assert change["old_position"] == "HEAD:specs/other.yaml:9:20"
    assert change["new_position"] == "specs/other.yaml:9:20"
    commit(repo, "more steps")
    for arguments in (
        ["HEAD~1", "HEAD"],
        ["HEAD~1..HEAD"],
        ["HEAD~1...HEAD"],
        ["HEAD~1"],
        ["HEAD~1", "main", "--", "specs"],
    ):
        [found] = compared(*arguments, cwd=repo)
        assert [c["path"] for c in found["spec"]] == ["algorithm.steps"], arguments
    assert compared("HEAD~1", "HEAD", "--", "specs/child.yaml", cwd=repo) == []
    assert compared("HEAD~1", "specs/child.yaml", cwd=repo) == []
    assert names(compared("HEAD~1", "--", "other.yaml", cwd=repo / "specs")) == [
        ("HEAD~1:specs/other.yaml", "other.yaml")
    ]


def test_three_dots_leave_out_what_others_did_meanwhile(repo: Path) -> None:
    git("checkout", "-q", "-b", "mine", cwd=repo)
    child = repo / "specs" / "child.yaml"
    child.write_text(child.read_text().replace("lr: 7e-4", "lr: 1e-4"))
    commit(repo, "mine")
    git("checkout", "-q", "main", cwd=repo)
    (repo / "specs" / "other.yaml").write_text(SPEC)
    commit(repo, "theirs")
    assert [new for _, new in names(compared("main...mine", cwd=repo))] == ["mine:specs/child.yaml"]
    assert len(compared("main..mine", cwd=repo)) == 2


def test_a_spec_is_compared_when_only_what_it_extends_changed(repo: Path) -> None:
    (repo / "specs" / "base.yaml").write_text(BASE.replace("0.3", "0.2"))
    [found] = compared("HEAD", cwd=repo)
    assert (found["old"], found["new"]) == ("HEAD:specs/child.yaml", "specs/child.yaml")
    [change] = found["spec"]
    assert (change["path"], change["old"], change["new"]) == ("reward.eta", 0.3, 0.2)
    assert (change["old_position"], change["new_position"]) == ("HEAD:specs/base.yaml:2:46", "specs/base.yaml:2:46")


def test_a_spec_is_compared_when_only_its_cluster_profile_changed(repo: Path) -> None:
    profile = repo / "specs" / "clusters" / "local.yaml"
    profile.write_text(profile.read_text() + "minutes: 60\n")
    found = compared("HEAD", cwd=repo)
    assert [new for _, new in names(found)] == ["specs/child.yaml", "specs/clusters/local.yaml", "specs/other.yaml"]
    assert {(c["path"], c["grade"]) for one in found for c in one["spec"]} == {("cluster.minutes", "relaunch")}


def test_renamed_deleted_and_new_specs(repo: Path) -> None:
    specs = repo / "specs"
    git("mv", "specs/other.yaml", "specs/renamed.yaml", cwd=repo)
    (specs / "renamed.yaml").write_text((specs / "renamed.yaml").read_text().replace("steps: 80", "steps: 81"))
    (specs / "child.yaml").unlink()
    (specs / "new.yaml").write_text(SPEC)
    (specs / "notes.yaml").write_text("some: {other: [tool]}\n--- \n!!python/object:x {}\n")
    found = compared("HEAD", cwd=repo)
    assert names(found) == [
        ("HEAD:specs/child.yaml", None),
        (None, "specs/new.yaml"),
        ("HEAD:specs/other.yaml", "specs/renamed.yaml"),
    ]
    assert [one["grade"] for one in found] == ["note", "note", "new-run"]
    assert [c["path"] for c in found[2]["spec"]] == ["algorithm.steps"]
    assert ("algorithm.steps", 80) in [(c["path"], c["new"]) for c in found[1]["spec"]]
    said = ltrl("diff", "--git", "HEAD", cwd=repo).stdout.splitlines()
    assert said[0] == "3 specs differ: 1 new-run, 1 new, 1 deleted"


def test_broken_specs(repo: Path) -> None:
    specs = repo / "specs"
    good = (specs / "other.yaml").read_text()
    (specs / "other.yaml").write_text(good.replace("steps:", "stepz:"))
    done = ltrl("diff", "--git", "HEAD", cwd=repo)
    assert done.returncode == 1
    assert "--> specs/other.yaml:9:13" in done.stderr
    commit(repo, "broken")
    (specs / "other.yaml").write_text(good)
    [found] = compared("HEAD", cwd=repo)  # repaired: nothing to complain about
    assert found["resume"]["words"].startswith("the old version could not be compiled: ")
    wrong = ltrl("diff", "HEAD:specs/other.yaml", "specs/other.yaml", cwd=repo)
    assert wrong.returncode == 1
    assert "--> HEAD:specs/other.yaml:9:13" in wrong.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--git", "nowhere"], "`nowhere` is not a revision of this repository"),
        (["--git", "--", "specs"], "`--git` needs a revision"),
        (["--git", "HEAD", "--", "specs/typo.yaml"], "there is no spec at `specs/typo.yaml`, neither before nor after"),
        (["nowhere:specs/a.yaml", "specs/other.yaml"], "`nowhere` is not a revision of this repository"),
        (["HEAD:specs/none.yaml", "specs/other.yaml"], "cannot read `HEAD:specs/none.yaml`: no such file or directory"),
        (["--git", "--output=x"], "No such option"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_be_compared_is_said_with_status_1(repo: Path, arguments: list[str], message: str) -> None:
    done = ltrl("diff", *arguments, cwd=repo)
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr


def driver(tmp_path: Path) -> str:
    """A command named `ltrl`, as an installation has one."""
    command = tmp_path / "ltrl"
    command.write_text(f"#!{sys.executable}\nimport sys\nfrom ltrl.cli import main\nsys.argv[0] = 'ltrl'\nmain()\n")
    command.chmod(0o755)
    return f"{tmp_path}{os.pathsep}{os.environ['PATH']}"


def test_git_diff_uses_it_as_its_driver(repo: Path, tmp_path: Path) -> None:
    path = driver(tmp_path)
    (repo / ".gitattributes").write_text("specs/**/*.yaml diff=ltrl\n")
    git("config", "diff.ltrl.command", "ltrl diff", cwd=repo)
    first = commit(repo, "attributes")
    (repo / "specs" / "base.yaml").write_text(BASE.replace("0.3", "0.2"))
    (repo / "specs" / "child.yaml").write_text(CHILD.replace("steps: 80", "steps: 90"))
    said = git("diff", cwd=repo, PATH=path)
    assert (
        "-reward: {backend: rubric, judge: exact, eta: 0.3}\n+reward: {backend: rubric, judge: exact, eta: 0.2}" in said
    )
    assert "HEAD:specs/child.yaml → specs/child.yaml" in said
    assert "reward.eta  0.3 → 0.2" in said  # with what each version extends
    second = commit(repo, "other evidence")
    (repo / "specs" / "child.yaml").write_text(CHILD)
    commit(repo, "back")
    said = git("diff", first, second, "--", "specs/child.yaml", cwd=repo, PATH=path)
    assert "algorithm.steps  80 → 90" in said
    git("mv", "specs/other.yaml", "specs/moved.yaml", cwd=repo)
    said = git("diff", "--cached", "-M", cwd=repo, PATH=path)  # git hands out the file itself where it is the same
    assert said == "HEAD:specs/other.yaml → specs/moved.yaml\nno change\n"
    git("rm", "-q", "specs/child.yaml", cwd=repo)
    assert "HEAD:specs/child.yaml (deleted)" in git("diff", "--cached", "--", "specs/child.yaml", cwd=repo, PATH=path)
    (repo / "specs" / "moved.yaml").write_text("kind: experiment\nname: [\n")
    said = git("diff", "--", "specs/moved.yaml", cwd=repo, PATH=path)  # broken: its lines
    assert "+name: [" in said
    assert "-name: other" in said


def test_a_driver_takes_what_a_version_extends_from_the_commit_before_its_change(repo: Path, tmp_path: Path) -> None:
    (repo / ".gitattributes").write_text("specs/**/*.yaml diff=ltrl\n")
    git("config", "diff.ltrl.command", "ltrl diff --layer spec", cwd=repo)
    (repo / "specs" / "base.yaml").write_text(BASE.replace("0.3", "0.2"))
    before = commit(repo, "other evidence")
    (repo / "specs" / "child.yaml").write_text(CHILD.replace("steps: 80", "steps: 90"))
    commit(repo, "more steps")
    said = git("show", "--ext-diff", "--format=", cwd=repo, PATH=driver(tmp_path))
    assert said.splitlines()[0] == f"{before[:12]}:specs/child.yaml → HEAD:specs/child.yaml"
    assert "algorithm.steps  80 → 90" in said
    assert "reward.eta" not in said


def test_textconv_shows_effective_values(repo: Path, tmp_path: Path) -> None:
    path = driver(tmp_path)
    (repo / ".gitattributes").write_text("specs/**/*.yaml diff=ltrl\n")
    git("config", "diff.ltrl.textconv", "ltrl diff --textconv", cwd=repo)
    commit(repo, "attributes")
    other, child = repo / "specs" / "other.yaml", repo / "specs" / "child.yaml"
    other.write_text(other.read_text().replace("prompt: 128,", "prompt: 0x80, total: 145,") + "# a comment\n")
    child.write_text(child.read_text().replace("prompt: 128,", "prompt: 0x80,"))
    assert git("diff", cwd=repo, PATH=path) == ""
    other.write_text(other.read_text().replace("eta: 0.3", "eta: 0.2"))
    child.write_text(child.read_text().replace("prompt: 0x80", "prompt: 1k"))
    changed = [
        line for line in git("diff", cwd=repo, PATH=path).splitlines() if line[:1] in "+-" and line[1:2] not in "+-"
    ]
    assert changed == [
        "-model.context.prompt = 128",
        "+model.context.prompt = 1024",
        "-reward.eta = 0.3",
        "+reward.eta = 0.2",
    ]


def test_a_difftool_knows_where_the_copies_belong(repo: Path, tmp_path: Path) -> None:
    path = driver(tmp_path)
    git("config", "difftool.ltrl.cmd", 'ltrl diff --at "$MERGED" "$LOCAL" "$REMOTE"', cwd=repo)
    (repo / "specs" / "child.yaml").write_text(CHILD.replace("steps: 80", "steps: 90"))
    said = git("difftool", "--no-prompt", "--tool", "ltrl", "HEAD", cwd=repo, PATH=path)
    assert "HEAD:specs/child.yaml → specs/child.yaml" in said
    assert "algorithm.steps  80 → 90" in said


def test_nothing_is_written_through_a_link_of_a_revision(repo: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.yaml"
    outside.write_text(SPEC)
    (repo / "specs" / "link.yaml").symlink_to(outside)
    (repo / "specs" / "folder").symlink_to(tmp_path)
    commit(repo, "links")
    (repo / "specs" / "other.yaml").write_text(SPEC)
    assert names(compared("HEAD", cwd=repo)) == [("HEAD:specs/other.yaml", "specs/other.yaml")]
    assert outside.read_text() == SPEC
    version = tmp_path / "version.yaml"
    version.write_text(SPEC.replace("small", "unknown"))
    done = ltrl("diff", "--at", "specs/folder/outside.yaml", os.devnull, version, cwd=repo)
    assert (done.returncode, done.stderr) == (2, "")
    assert outside.read_text() == SPEC


def test_names_that_are_unusual(repo: Path) -> None:
    for name in ("with space.yaml", "ünï.yaml", "-dash.yaml", "a\nb.yaml"):
        (repo / "specs" / name).write_text(SPEC)
    commit(repo, "names")
    for name in ("with space.yaml", "ünï.yaml", "-dash.yaml", "a\nb.yaml"):
        (repo / "specs" / name).write_text(SPEC.replace("0.3", "0.1"))
    assert [new for _, new in names(compared("HEAD", cwd=repo))] == [
        "specs/-dash.yaml", "specs/a\nb.yaml", "specs/with space.yaml", "specs/ünï.yaml",
    ]  # fmt: skip
    done = ltrl("diff", "--git", "HEAD", "--format", "markdown", cwd=repo)
    assert "### `HEAD:specs/a�b.yaml` → `specs/a�b.yaml`" in done.stdout
