"""Files as a Git repository has them: revisions, what changed between two, and a revision's files on disk."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ltrl.errors import Code, fail

__all__ = [
    "WANTED",
    "Moved",
    "blob",
    "changed",
    "commit",
    "commit_with",
    "files_of",
    "is_revision",
    "merge_base",
    "root",
    "tracked",
    "untracked",
]

WANTED = (".yaml", ".yml", "config.json")
"""Ends of the names of what a spec can refer to; nothing else of a revision is written to disk."""

MOST_COMMITS = 200
"""Commits of a file that are looked through for one version of it."""


@dataclass(frozen=True, slots=True)
class Moved:
    """A file that is not the same in two revisions; paths start at the root of the repository."""

    old: str | None
    """None for one that was added."""
    new: str | None
    """None for one that was deleted; another than the old one for one that was renamed."""


def root(start: Path) -> Path:
    """The top directory of the repository around a directory; raises LtrlError, GIT, outside of one."""
    done = _run("rev-parse", "--show-toplevel", cwd=start)
    if "not a git repository" in done.stderr:
        raise fail(Code.GIT, "this is not in a Git repository", hint="`ltrl diff A B` needs none")
    return Path(_said(done, "git rev-parse failed").rstrip("\n"))


def is_revision(text: str, repository: Path) -> bool:
    """Whether a text names a commit."""
    return not text.startswith("-") and _run(*_VERIFY, f"{text}^{{commit}}", cwd=repository).returncode == 0


def commit(revision: str, repository: Path) -> str:
    """The full name of a revision's commit."""
    if not is_revision(revision, repository):
        raise fail(Code.GIT, f"`{revision}` is not a revision of this repository", hint="`git fetch` may bring it")
    return _git(*_VERIFY, f"{revision}^{{commit}}", cwd=repository).strip()


def merge_base(old: str, new: str, repository: Path) -> str:
    """The newest commit that two revisions share."""
    names = commit(old, repository), commit(new, repository)
    failed = f"`{old}` and `{new}` have no history in common here"
    return _git("merge-base", *names, cwd=repository, failed=failed).strip()


def changed(old: str, new: str | None, repository: Path, paths: Sequence[str] = ()) -> list[Moved]:
    """Files that differ between two commits, or between one and the working tree, renames found."""
    names = [old] if new is None else [old, new]
    said = _git("diff", "--name-status", "-z", "-M", "--no-ext-diff", *names, "--", *paths, cwd=repository)
    words = iter(said.split("\0"))
    found = []
    for status in words:
        match status[:1]:
            case "R":
                found.append(Moved(next(words), next(words)))
            case "A":
                found.append(Moved(None, next(words)))
            case "D":
                found.append(Moved(next(words), None))
            case "":
                continue
            case _:
                path = next(words)
                found.append(Moved(path, path))
    return found


def untracked(repository: Path) -> list[str]:
    """Files of the working tree that are in no commit and not ignored."""
    return _lines(_git("ls-files", "-z", "--others", "--exclude-standard", "--full-name", cwd=repository))


def tracked(repository: Path) -> list[str]:
    """Files of the index."""
    return _lines(_git("ls-files", "-z", cwd=repository))


@contextmanager
def files_of(revision: str | None, repository: Path) -> Iterator[Path]:
    """A directory with what specs refer to in a commit, or without one in the index, as Git keeps it."""
    command = ("ls-files", "-s", "-z") if revision is None else ("ls-tree", "-r", "-z", "--full-tree", revision)
    files: list[tuple[str, str]] = []
    links: list[tuple[str, str]] = []
    for line in _lines(_git(*command, cwd=repository)):
        about, path = line.split("\t", 1)
        mode, *_, last = about.split(" ")
        name = about.split(" ")[1] if revision is None else last
        if mode == "120000":
            links.append((path, name))
        elif path.endswith(WANTED) and mode.startswith("100"):
            files.append((path, name))
    with TemporaryDirectory(prefix="ltrl-") as directory:
        base = Path(os.path.realpath(directory))
        contents = _contents([name for _, name in (*files, *links)], repository)
        for (path, _), content in zip(files, contents, strict=False):
            (base / path).parent.mkdir(parents=True, exist_ok=True)
            (base / path).write_bytes(content)
        for (path, _), content in zip(links, contents[len(files) :], strict=True):  # last: nothing is written through
            (base / path).parent.mkdir(parents=True, exist_ok=True)
            (base / path).symlink_to(os.fsdecode(content))
        yield base


def blob(file: Path, path: str, repository: Path) -> str:
    """The name of a file's content, were it at a path of the repository."""
    return _git("hash-object", f"--path={path}", "--", str(file.absolute()), cwd=repository).strip()


def commit_with(content: str, path: str, repository: Path) -> str | None:
    """The newest commit before HEAD, or `HEAD`, that has a content at a path; None if none has."""
    changes = _run("rev-list", f"--max-count={MOST_COMMITS}", "HEAD", "--", path, cwd=repository).stdout.split()
    candidates = ["HEAD", *(f"{name}{parent}" for name in changes for parent in ("", "^1", "^2"))]
    asked = "".join(f"{name}:{path}\n" for name in candidates)
    said = _run("cat-file", "--batch-check=%(objectname)", cwd=repository, text=asked).stdout.splitlines()
    name = next((name for name, found in zip(candidates, said, strict=False) if found == content), None)
    return name if name in (None, "HEAD") else commit(name, repository)


_VERIFY = ("rev-parse", "--verify", "--quiet", "--end-of-options")


def _contents(names: Sequence[str], repository: Path) -> list[bytes]:
    """The contents of objects, read in one go."""
    done = subprocess.run(
        ["git", "cat-file", "--batch"],
        cwd=repository,
        input="".join(f"{name}\n" for name in names).encode(),
        capture_output=True,
        check=True,
    )
    found, at = [], 0
    for name in names:
        end = done.stdout.index(b"\n", at)
        head = done.stdout[at:end].split(b" ")
        if len(head) != 3:
            raise fail(Code.GIT, f"the object `{name}` is missing in this clone", hint="`git fetch` may bring it")
        start, size = end + 1, int(head[2])
        found.append(done.stdout[start : start + size])
        at = start + size + 1
    return found


def _lines(text: str) -> list[str]:
    return [line for line in text.split("\0") if line]


def _git(*words: str, cwd: Path, failed: str = "") -> str:
    return _said(_run(*words, cwd=cwd), failed or f"git {words[0]} failed")


def _said(done: subprocess.CompletedProcess[str], failed: str) -> str:
    if done.returncode:
        why = next(iter(done.stderr.strip().removeprefix("fatal: ").splitlines()), f"status {done.returncode}")
        raise fail(Code.GIT, f"{failed}: {why}")
    return done.stdout


def _run(*words: str, cwd: Path, text: str = "") -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["git", *words], cwd=cwd, input=text, capture_output=True, encoding="utf-8", errors="surrogateescape",
            check=False, env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
    except FileNotFoundError:
        raise fail(Code.GIT, "`git` is not installed here") from None
