"""What is compared with what: two things by name, two revisions of a repository, two versions of a file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from ltrl import git, project, source
from ltrl.diff import Diff, Side, Verdict, diff
from ltrl.diff.sides import Choices, is_ours, launched, of_bundle, of_file
from ltrl.errors import Code, Diagnostic, LtrlError, Position, fail

__all__ = ["Comparison", "compare", "compare_revisions", "compare_versions"]


@dataclass(frozen=True)
class Comparison:
    """What two revisions differ in."""

    diffs: tuple[Diff, ...] = ()
    mistakes: tuple[Diagnostic, ...] = ()
    """Of specs whose new version is broken, so that they cannot be compared."""


def compare(old: str, new: str, choices: Choices) -> Diff:
    """What is different between two specs, cluster profiles, bundles or runs, each by its name.

    Overlays and sets are for the new one. Without a cluster, a spec is compared on that of the run or bundle that it is
    compared with. Raises LtrlError with the mistakes of the first that has some.
    """
    found = launched(old), launched(new)
    clusters = (str(one.bundle.plan["cluster"]) for one in found if one)
    chosen = replace(choices, cluster=choices.cluster or next(clusters, None))
    with_code = any(found)
    before = of_bundle(found[0]) if found[0] else _named(old, Choices(chosen.cluster), with_code=with_code)
    after = of_bundle(found[1]) if found[1] else _named(new, chosen, with_code=with_code)
    _check_kinds(before, after)
    return diff(before, after)


def compare_revisions(old: str, new: str | None, paths: Sequence[str], *, cluster: str | None = None) -> Comparison:
    """What specs differ in between two revisions, or between one and the working tree.

    `A..B` and, for what both have in common, `A...B` are taken for `old` too. A spec that did not change is compared
    all the same when something that it extends did, or a cluster profile. `paths` start here and choose files and
    directories; by default all.
    """
    here = git.root(Path.cwd())
    old, new = _range(old, new, here)
    before, after = git.commit(old, here), git.commit(new, here) if new else None
    moved = git.changed(before, after, here)
    if after is None:
        moved += [git.Moved(None, path) for path in git.untracked(here)]
    wanted = [os.path.relpath(os.path.abspath(path), here) for path in paths]
    with git.files_of(before, here) as first, git.files_of(after, here) if after else nullcontext(here) as second:
        trees = _Tree(first, here, old), _Tree(second, here, new)
        return _compare_trees(*trees, moved, wanted, Choices(cluster))


def compare_versions(old: tuple[Path, str] | None, new: tuple[Path, str] | None) -> Diff:
    """What two versions of a file differ in, each a file and its path in the repository; None where there is none.

    Git hands out temporary copies. What a copy extends is taken from the newest commit that has this very version, or
    from the index; the file of the working tree itself has the working tree around it.
    """
    here = git.root(Path.cwd())
    before, after = (_version(*one, here) if one else None for one in (old, new))
    if before and after:
        _check_kinds(before, after)
    return diff(before, after)


@dataclass(frozen=True)
class _Tree:
    """The files of one revision, or of the working tree, on disk."""

    base: Path
    repository: Path
    revision: str | None
    """None for the working tree."""

    @cached_property
    def sources(self) -> Mapping[str, tuple[str, ...] | None]:
        """The files that each spec and cluster profile is made of, itself first; None for one that cannot be read."""
        if self.revision is None:
            paths = sorted({*git.tracked(self.repository), *git.untracked(self.repository)})
        else:
            paths = sorted(str(path.relative_to(self.base)) for path in self.base.rglob("*"))
        found: dict[str, tuple[str, ...] | None] = {}
        for path in paths:
            file = self.base / path
            if file.suffix in (".yaml", ".yml") and file.is_file() and is_ours(self.text(path)):
                found[path] = self._sources(file)
        return found

    @property
    def layers(self) -> frozenset[str]:
        """Files that others extend."""
        return frozenset(path for sources in self.sources.values() if sources for path in sources[1:])

    def text(self, path: str) -> str:
        return (self.base / path).read_bytes().decode(errors="replace")

    def side(self, path: str, choices: Choices, *, with_code: bool = False) -> Side:
        """The side of a file; raises LtrlError that names files as they are in the repository."""
        file = self.base / path
        home = self.repository / project.root(file.parent).relative_to(self.base)
        with self._errors_as_shown():
            name = self.shown(str(file))
            return of_file(file, choices, name=name, home=home, shown=self.shown, with_code=with_code)

    def shown(self, name: str) -> str:
        """A file's name as a person knows it: `REV:path`, in the working tree the path from here."""
        path = os.path.abspath(name)
        if not Path(path).is_relative_to(self.base):
            return name
        within = os.path.relpath(path, self.base)
        return os.path.relpath(path) if self.revision is None else f"{self.revision}:{within}"

    def _sources(self, file: Path) -> tuple[str, ...] | None:
        try:
            made_of = source.load(file).sources
        except LtrlError:
            return None
        return tuple(os.path.relpath(os.path.abspath(one.name), self.base) for one in made_of)

    @contextmanager
    def _errors_as_shown(self) -> Iterator[None]:
        def moved(position: Position | None) -> Position | None:
            if position is None or not Path(position.source.name).is_absolute():
                return position
            return replace(position, source=replace(position.source, name=self.shown(position.source.name)))

        def said(text: str) -> str:
            return text.replace(f"{self.base}/", f"{self.revision}:" if self.revision else "")

        try:
            yield
        except LtrlError as error:
            found = (
                replace(d, message=said(d.message), hint=said(d.hint) if d.hint else None, position=moved(d.position))
                for d in error.diagnostics
            )
            raise LtrlError(*found) from None


def _named(target: str, choices: Choices, *, with_code: bool) -> Side:
    """The side of a file, or of a file of a revision: `main:specs/a.yaml`, `main:./a.yaml`."""
    revision, _, path = target.partition(":")
    if not path or Path(target).exists():
        home = project.root(Path(target).parent)
        extra = [*(f"-f {overlay}" for overlay in choices.overlays), *(f"--set {one}" for one in choices.sets)]
        name = " ".join([target, *extra])
        return of_file(Path(target), choices, name=name, home=home, shown=_from_here, with_code=with_code)
    here = git.root(Path.cwd())
    within = os.path.relpath(os.path.abspath(path), here) if path.startswith(("./", "../")) else path
    with git.files_of(git.commit(revision, here), here) as base:
        return _Tree(base, here, revision).side(within, choices, with_code=with_code)


def _check_kinds(old: Side, new: Side) -> None:
    if old.kind != new.kind:
        message = f"`{old.name}` is of `kind: {old.kind}`, `{new.name}` of `kind: {new.kind}`"
        raise fail(Code.NOT_COMPARABLE, message, hint="compare two of a kind")


def _from_here(name: str) -> str:
    shorter = os.path.relpath(name)
    return shorter if len(shorter) < len(name) else name


def _range(old: str, new: str | None, here: Path) -> tuple[str, str | None]:
    for dots in ("...", ".."):
        first, found, last = old.partition(dots)
        if found and new is None and not git.is_revision(old, here):
            first, last = first or "HEAD", last or "HEAD"
            return (git.merge_base(first, last, here)[:12] if dots == "..." else first), last
    return old, new


def _compare_trees(
    old: _Tree, new: _Tree, moved: Sequence[git.Moved], wanted: Sequence[str], choices: Choices
) -> Comparison:
    for path in wanted:
        if not any(_is_in(one, path) for one in (*old.sources, *new.sources)):
            raise fail(Code.NOT_COMPARABLE, f"there is no spec at `{path}`, neither before nor after")
    touched = {path for one in moved for path in (one.old, one.new) if path}
    renames = {one.old: one.new for one in moved if one.old and one.new}
    diffs: list[Diff] = []
    mistakes: list[Diagnostic] = []
    every = _touches_all(old, touched) or _touches_all(new, touched)
    for before, after in _pairs(old, new, renames):
        if wanted and not any(_is_in(path, one) for path in (before, after) if path for one in wanted):
            continue
        made_of = {
            *(old.sources[before] or (before,) if before else ()),
            *(new.sources[after] or (after,) if after else ()),
        }
        if not every and not touched & made_of:
            continue
        try:
            second = new.side(after, choices) if after else None
        except LtrlError as error:
            mistakes += [] if after in new.layers else error.diagnostics
            continue
        found = _against(old, before, second, choices)
        if found and not found.is_same:
            diffs.append(found)
    return Comparison(tuple(diffs), tuple(mistakes))


def _pairs(old: _Tree, new: _Tree, renames: Mapping[str, str]) -> list[tuple[str | None, str | None]]:
    """(path before, path after) of every spec and cluster profile of either tree."""
    pairs: list[tuple[str | None, str | None]] = []
    for path in old.sources:
        target = renames.get(path, path)
        pairs.append((path, target if target in new.sources else None))
    taken = {after for _, after in pairs}
    pairs += [(None, path) for path in new.sources if path not in taken]
    return sorted(pairs, key=lambda pair: pair[1] or pair[0] or "")


def _touches_all(tree: _Tree, touched: set[str]) -> bool:
    """Whether something changed that any spec may refer to: a cluster profile, the shape of a model."""
    return any(
        path.endswith("config.json") or (path in tree.sources and "kind: cluster" in tree.text(path))
        for path in touched
    )


def _against(old: _Tree, path: str | None, new: Side | None, choices: Choices) -> Diff | None:
    """The difference to the version of a revision; None for a layer that others extend and that is gone."""
    try:
        before = old.side(path, choices) if path else None
    except LtrlError as error:
        if new is None:
            return None
        words = f"the old version could not be compiled: {error.diagnostics[0].message}"
        return replace(diff(None, new), resume=Verdict("does not apply", words))
    if before and new and before.kind != new.kind:
        return diff(None, new)
    return diff(before, new) if before or new else None


def _is_in(path: str, place: str) -> bool:
    return place in (".", path) or path.startswith(f"{place}/")


def _version(file: Path, path: str, here: Path) -> Side:
    home = here / path
    if home.exists() and file.samefile(home):
        return _Tree(here, here, None).side(path, Choices())
    name = git.commit_with(git.blob(file, path, here), path, here)
    with git.files_of(name, here) as base:
        copy = base / path
        for place in (*reversed(copy.parents), copy):  # a link would be written through
            if place.is_relative_to(base) and place.is_symlink():
                place.unlink()
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
        return _Tree(base, here, name[:12] if name else "index").side(path, Choices())
