"""The command `diff`: what a change of a spec means."""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

if TYPE_CHECKING:
    from ltrl.diff import Diff
    from ltrl.diff.pairs import Comparison

__all__ = ["Command", "diff"]

SAME, ERROR, DIFFERENT = 0, 1, 2
PATHS = "ltrl.diff.paths"
"""Where the arguments behind `--` are kept."""


class Format(Enum):
    """What is printed."""

    TERMINAL = "terminal"
    MARKDOWN = "markdown"
    JSON = "json"
    HTML = "html"


class Layer(Enum):
    """Parts of a comparison."""

    SPEC = "spec"
    COMPILED = "compiled"
    CONSEQUENCES = "consequences"


class FailOn(Enum):
    """Grades, as `--fail-on` takes them."""

    NEW_RUN = "new-run"
    RELAUNCH = "relaunch"
    NOTE = "note"


class Command(typer.core.TyperCommand):
    """Keeps what stands behind `--` apart, and has status 2 for a difference alone: misuse is status 1 here."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As its base does."""
        if "--git" in args and "--" in args:
            split = args.index("--")
            args, ctx.meta[PATHS] = args[:split], args[split + 1 :]
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            if getattr(error, "exit_code", SAME) == DIFFERENT:
                error.exit_code = ERROR  # type: ignore[attr-defined]
            raise


def diff(
    context: typer.Context,
    targets: Annotated[
        list[str] | None,
        typer.Argument(metavar="A [B]", help="Specs, cluster profiles, bundles, runs, or `REV:path`."),
    ] = None,
    git: Annotated[
        bool, typer.Option("--git", help="Compare revisions: `--git REV [REV2] [-- PATH...]`; REV may be `A...B`.")
    ] = False,
    cluster: Annotated[
        str | None, typer.Option("--cluster", metavar="NAME|PATH", help="Cluster profile of both sides.")
    ] = None,
    overlay: Annotated[
        list[Path] | None,
        typer.Option("-f", "--overlay", metavar="FILE", help="Put a file's values on top of the new side."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Set a field of the new side; B may then be left out."),
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="What to print.")] = Format.TERMINAL,
    as_json: Annotated[bool, typer.Option("--json", help="Same as `--format json`.")] = False,
    layer: Annotated[list[Layer] | None, typer.Option("--layer", help="Show only this, in full.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Fold nothing and leave nothing out.")] = False,
    fail_on: Annotated[
        FailOn | None, typer.Option("--fail-on", help="Status 2 only for changes of this grade or a graver one.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="PATH", help="A and B are versions of this file of the repository (difftool)."),
    ] = None,
    textconv: Annotated[
        bool, typer.Option("--textconv", help="Print A as lines `field = value` for git's textconv.")
    ] = False,
) -> None:
    """Show what is different between two specs, bundles, runs or revisions, and what it means.

    Exit status: 0 same, 2 different, 1 error. Called by git as an external diff it takes git's arguments and ends 0.
    """
    from ltrl.cli.show import diff as show
    from ltrl.diff import pairs
    from ltrl.diff.sides import Choices, canonical
    from ltrl.errors import Code, fail

    names = targets or []
    layers = tuple(one.value for one in layer or ())
    if textconv and len(names) == 1:
        show.raw(canonical(Path(names[0])))
        return
    if not git and (len(names) in (7, 9) or (len(names) == 1 and "GIT_DIFF_PATH_COUNTER" in os.environ)):
        _for_git(names, layers, every=every)
        return
    choices = Choices(cluster, tuple(overlay or ()), tuple(set_ or ()))
    if git:
        found = _revisions(names, context.meta.get(PATHS, []), cluster)
    elif at is not None and len(names) == 2:
        old, new = (None if name == os.devnull else (Path(name), at) for name in names)
        found = pairs.Comparison((pairs.compare_versions(old, new),))
    elif len(names) == 2 or (len(names) == 1 and (choices.overlays or choices.sets)):
        found = pairs.Comparison((pairs.compare(names[0], names[-1], choices),))
    else:
        hint = "`ltrl diff A B`, `ltrl diff --git REV`, or `ltrl diff SPEC --set reward.eta=0.2`"
        raise fail(Code.NOT_COMPARABLE, f"{len(names) or 'nothing'} to compare, expected two", hint=hint)
    if form is Format.JSON or as_json:
        show.json(found)
    elif form is Format.MARKDOWN:
        from ltrl.cli.show.diff_markdown import markdown

        show.raw(markdown(found, layers=layers, every=every))
    elif form is Format.HTML:
        from ltrl.cli.show.diff_html import html

        show.raw(html(found, layers=layers))
    else:
        show.terminal(found, layers=layers, every=every)
    raise typer.Exit(_status(found, fail_on))


def _status(found: Comparison, fail_on: FailOn | None) -> int:
    from ltrl.diff import GRADES

    if found.mistakes:
        return ERROR
    grades = [one.grade for one in found.diffs if one.grade is not None]
    if fail_on is not None:
        gravest = [grade.value for grade in GRADES]
        grades = [grade for grade in grades if gravest.index(grade.value) <= gravest.index(fail_on.value)]
    return DIFFERENT if grades else SAME


def _revisions(names: list[str], paths: list[str], cluster: str | None) -> Comparison:
    """What stands before `--` are revisions; without it, what is no revision is a path, as git has it."""
    from ltrl import git as repository
    from ltrl.diff.pairs import compare_revisions
    from ltrl.errors import Code, fail

    if not names:
        raise fail(Code.NOT_COMPARABLE, "`--git` needs a revision", hint="`ltrl diff --git HEAD`")
    old, *rest = names
    second = None
    if rest and (paths or repository.is_revision(rest[0], repository.root(Path.cwd()))):
        if not paths and Path(rest[0]).exists():
            hint = f"write `ltrl diff --git {old} -- {rest[0]}` or `./{rest[0]}` for the file"
            raise fail(Code.NOT_COMPARABLE, f"`{rest[0]}` is a revision and a file", hint=hint)
        second, *rest = rest
    return compare_revisions(old, second, [*rest, *paths], cluster=cluster)


def _for_git(arguments: list[str], layers: tuple[str, ...], *, every: bool) -> None:
    """Git's external diff: path, old file, its blob and mode, the new ones; behind a rename also the new path.

    Ends with status 0, or git would stop. A file that is no spec, or a broken one, is shown line by line.
    """
    from ltrl.cli.show import diff as show
    from ltrl.diff import pairs
    from ltrl.diff.sides import is_ours
    from ltrl.errors import Code, LtrlError

    if len(arguments) == 1:
        show.raw(f"* Unmerged path {arguments[0]}\n")
        return
    path, old_file, _, _, new_file, *rest = arguments
    new_path = rest[2] if len(arguments) == 9 else path
    texts = {name: "" if name == os.devnull else Path(name).read_bytes().decode(errors="replace")
             for name in (old_file, new_file)}  # fmt: skip
    if any(is_ours(text) for text in texts.values()):
        old = None if old_file == os.devnull or not is_ours(texts[old_file]) else (Path(old_file), path)
        new = None if new_file == os.devnull or not is_ours(texts[new_file]) else (Path(new_file), new_path)
        try:
            made: Diff = pairs.compare_versions(old, new)
        except LtrlError as error:
            if any(found.code is not Code.MISSING_FIELD for found in error.diagnostics):  # else a layer for others
                show.mistakes(error.diagnostics)
        else:
            show.terminal(pairs.Comparison((made,)), layers=layers, every=every)
            return
    show.lines(texts[old_file], texts[new_file], path, new_path)
