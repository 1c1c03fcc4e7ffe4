"""Commands about rewards: score and compare saved rollouts, lint rubrics, explain one score."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ltrl.rescore import Rule
    from ltrl.rollouts import Samples

__all__ = ["app"]

app = typer.Typer(name="reward", help="Score saved rollouts, look into rewards and rubrics.", no_args_is_help=True)

Files = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Rollouts, JSON Lines: `train_data_step1.jsonl`.")]
Spec = Annotated[Path, typer.Option("--spec", metavar="SPEC", help="Experiment with the reward and the data.")]
Jobs = Annotated[int, typer.Option("-j", "--jobs", metavar="N", min=1, help="Processes that score at the same time.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def score(
    files: Files,
    spec: Spec,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Set one field of the spec.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="FILE", help="Where scores go, by default beside FILE."),
    ] = None,
    jobs: Jobs = 1,
    replace: Annotated[bool, typer.Option("--replace", help="Start over in a file that has scores already.")] = False,
    as_json: Json = False,
) -> None:
    """Score saved rollouts as training would; the same command again goes on where it was stopped."""
    from itertools import chain

    from ltrl.cli.show import reward as show
    from ltrl.compile import as_in_a_job
    from ltrl.project import root
    from ltrl.rescore import Scores, Summary, in_order
    from ltrl.rollouts import groups, size

    total = sum(map(size, files))
    if out is None:
        if len(files) > 1:
            raise typer.BadParameter("several files need `-o FILE`", param_hint="--out")
        out = files[0].with_suffix(".scores.jsonl")
    if any(_is_same(out, file) for file in files):
        raise typer.BadParameter(f"`{out}` holds the rollouts to score", param_hint="--out")
    rule, samples = _rule(spec, set_ or [])
    summary = Summary()
    with (
        Scores(out, rule, files, replace=replace) as scores,
        as_in_a_job(root(spec.parent)),
        show.progress("scoring", total) as advance,
    ):
        found = chain.from_iterable(groups(file, samples) for file in files)
        for group, scored in scores.resume(found):
            summary.add(scored)
            summary.num_lost += group.num_lost
            advance(group)
        for group, [scored] in in_order([rule], found, jobs=jobs):
            scores.add(group, scored)
            summary.add(scored)
            summary.num_lost += group.num_lost
            advance(group)
    show.scores(summary, out, as_json=as_json)


@app.command()
def compare(
    files: Files,
    a: Annotated[Path, typer.Option("--a", metavar="SPEC", help="The experiment whose reward comes first.")],
    b: Annotated[
        Path | None, typer.Option("--b", metavar="SPEC", help="The one to compare it with; by default the same.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Set one field of the second spec.")
    ] = None,
    jobs: Jobs = 1,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=0, help="Responses to list.")] = 20,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Also write a page.")] = None,
    as_json: Json = False,
) -> None:
    """Score saved rollouts by two rewards: whose reward, rank in its group and sign of advantage would change."""
    from itertools import chain

    from ltrl.cli.show import reward as show
    from ltrl.compile import as_in_a_job
    from ltrl.project import root
    from ltrl.rescore import Comparison, differences, in_order
    from ltrl.rescore import compare as pair
    from ltrl.rollouts import groups, size

    first, samples = _rule(a, [])
    second, _ = _rule(b or a, set_ or [])
    comparison = Comparison(keep=limit)
    with as_in_a_job(root(a.parent)), show.progress("scoring twice", sum(map(size, files))) as advance:
        found = chain.from_iterable(groups(file, samples) for file in files)
        for group, [one, other] in in_order([first, second], found, jobs=jobs):
            comparison.add(pair(one, other))
            advance(group)
    if html:
        show.write(html, show.comparison_page(comparison, differences(first, second)))
    show.comparison(comparison, differences(first, second), as_json=as_json)


@app.command()
def lint(
    data: Annotated[list[Path], typer.Argument(metavar="DATA...", help="Data in LongTraceRL's schema, JSON Lines.")],
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=0, help="Findings to show; all are counted.")] = 50,
    as_json: Json = False,
) -> None:
    """Find rubrics that do not measure what they should; status 1 when a record cannot be used."""
    from collections import Counter

    from ltrl.cli.show import reward as show
    from ltrl.lint import lint as find

    counts: Counter[str] = Counter()
    num_records = num_errors = 0
    shown = []
    for path in data:
        for found in find(path):
            if found is None:
                num_records += 1
                continue
            counts[found.kind] += 1
            num_errors += found.is_error
            shown.append(found)
            shown.sort(key=lambda f: not f.is_error)  # errors first, else in the order of the data
            del shown[limit:]
    show.findings(shown, counts, num_records, as_json=as_json)
    if num_errors:
        raise typer.Exit(1)


@app.command()
def explain(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Rollouts, JSON Lines.")],
    spec: Spec,
    id_: Annotated[
        str,
        typer.Option("--id", metavar="ID", help="A sample, or `<sample>#<number>` for one response."),
    ],
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Set one field of the spec.")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Print whole texts, not only what is around hits.")] = False,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Also write a page.")] = None,
    as_json: Json = False,
) -> None:
    """Show what a response was paid for: its entities and where it names them, and what the judge said."""
    from ltrl.cli.show import reward as show
    from ltrl.compile import as_in_a_job
    from ltrl.errors import Code, fail
    from ltrl.project import root
    from ltrl.rescore import explain as look
    from ltrl.rollouts import groups

    rule, samples = _rule(spec, set_ or [])
    with as_in_a_job(root(spec.parent)):
        for group in groups(file, samples):
            if id_ == group.sample.id or id_.rpartition("#")[0] == group.sample.id:
                found = [one for one in look(rule, group) if id_ in (group.sample.id, one.scored.id)]
                break
        else:
            found = []
    if not found:
        raise fail(Code.BAD_ROLLOUTS, f"`{file}` has no response `{id_}`", hint="`ltrl reward score` lists their ids")
    if html:
        show.write(html, show.explained_page(found))
    show.explained(found, full=full, as_json=as_json)


def _is_same(out: Path, file: Path) -> bool:
    """Whether both are one file, also by links."""
    try:
        return out.samefile(file)
    except OSError:  # there is no `out` yet, or nothing can be written there, which its opening tells
        return False


def _rule(spec: Path, sets: list[str]) -> tuple[Rule, Samples]:
    """What scores responses as a spec's training does, and the spec's samples."""
    from functools import partial

    from ltrl.backend import create
    from ltrl.compile import resolved
    from ltrl.rescore import Rule
    from ltrl.rollouts import Samples

    found = resolved(spec, sets=sets)
    advantage, data = found.spec.algorithm.advantage, found.spec.data
    reward = found.spec.reward.model_dump_json()
    rule = Rule(reward, found.chat_format, advantage.divide_by_std, advantage.leave_one_out)
    return rule, Samples([partial(create, section) for section in (data.train, *data.validation.values())])
