"""Commands about how good a model is: measure, compare, hold against the paper."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

from ltrl.cli import complete

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["app"]


class Group(typer.core.TyperGroup):
    """Takes a first word that is no command of its own for a spec: `ltrl eval SPEC` is `ltrl eval run SPEC`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As its base does."""
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    name="eval", help="Measure models: `ltrl eval SPEC`, and compare what came of it.", no_args_is_help=True, cls=Group
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Html = Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Also write a page.")]
Results = Annotated[
    str,
    typer.Argument(metavar="DIR|RUN", help="Results of an evaluation: their directory, or the run that measured."),
]


@app.command()
def run(
    spec: Annotated[
        Path,
        typer.Argument(
            metavar="SPEC",
            help="A file of `kind: evaluation`, or an experiment with `eval`.",
            autocompletion=complete.specs,
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="DIR", help="Directory of the results; by default evals/NAME.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="RUN|DIR|ID",
            help="Measure this model in place of the spec's; of a run its export, or its newest checkpoint.",
            autocompletion=complete.runs,
        ),
    ] = None,
    overlay: Annotated[
        list[Path] | None, typer.Option("-f", "--overlay", metavar="FILE", help="Put a file's values on top.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Set one field: `--set sampling.samples=4`."),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            "--cluster",
            metavar="NAME|PATH",
            help="Evaluate in a job there instead of in this process; once more goes on with the job's run.",
            autocompletion=complete.clusters,
        ),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="With --cluster: start a new run even if this one exists.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --cluster: print the exact request and launch nothing.")
    ] = False,
    test_only: Annotated[
        bool, typer.Option("--test-only", help="With --cluster: ask Slurm when it would start; launch nothing.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="With --cluster: follow the run to its end; Ctrl-C leaves it running.")
    ] = False,
    html: Html = None,
    as_json: Json = False,
) -> None:
    """Ask a model every question, grade the answers and say how good they are; once more goes on where it was ended."""
    from ltrl.cli.which import model as which
    from ltrl.project import root

    chosen = which(model, project=root(Path.cwd())) if model is not None else None
    if cluster is not None:
        if out or html:
            raise typer.BadParameter(
                "-o and --html go with an evaluation here: a job's results are in its run directory"
            )
        ways = {"fresh": fresh, "dry_run": dry_run, "test_only": test_only, "watch": watch, "as_json": as_json}
        _in_a_job(spec, cluster, chosen, overlay or (), set_ or (), **ways)
        return
    if fresh or dry_run or test_only or watch:
        raise typer.BadParameter("--fresh, --dry-run, --test-only and --watch go with --cluster, which runs a job")
    from ltrl.cli.show import evaluation as views
    from ltrl.compile import as_in_a_job
    from ltrl.evaluation.ending import ends_well
    from ltrl.evaluation.measure import measure
    from ltrl.evaluation.subject import measurement, written
    from ltrl.evaluation.summary import summaries

    found = measurement(written(spec, overlays=overlay or (), sets=set_ or ()), model=chosen)
    where = out or Path("evals") / found.name
    with as_in_a_job(root(spec.parent)), ends_well(), views.progress(found.name) as advance:
        samples = measure(found, where, on_progress=advance)
    _page(where, html)
    views.summary(where, summaries(samples), as_json=as_json)


def _in_a_job(
    spec: Path,
    cluster: str,
    model: tuple[str, str | None] | None,
    overlays: Sequence[Path],
    sets: Sequence[str],
    *,
    fresh: bool,
    dry_run: bool,
    test_only: bool,
    watch: bool,
    as_json: bool,
) -> None:
    """Compiles an evaluation into a bundle and launches it."""
    from ltrl.cli import launch, show
    from ltrl.eval_job import compile_evaluation
    from ltrl.project import root

    made, planned, is_new = compile_evaluation(spec, cluster=cluster, model=model, overlays=overlays, sets=sets)
    show.diagnostics(planned.warnings)
    show.note(f"{'compiled' if is_new else 'unchanged'}: {show.relative(made.path)}")
    project = root(spec.parent)
    if test_only:
        launch.would_start(made, project, fresh=fresh, as_json=as_json)
    else:
        launch.launch(made, project, fresh=fresh, dry_run=dry_run, watch=watch, as_json=as_json)


@app.command()
def show(results: Results, html: Html = None, as_json: Json = False) -> None:
    """Show results that are there: figures, and with --html every answer."""
    from ltrl.cli.show import evaluation as views
    from ltrl.evaluation.results import read
    from ltrl.evaluation.summary import summaries

    where = _results(results)
    found = summaries(sample.without_texts for sample in read(where))
    _page(where, html)
    views.summary(where, found, as_json=as_json)


@app.command()
def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="Results of an evaluation, or the run that measured.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Those to compare them with.")],
    html: Html = None,
    as_json: Json = False,
) -> None:
    """Compare two models on the questions that both answered: differences, how sure they are, answers that changed."""
    from ltrl.cli.show import evaluation as views
    from ltrl.cli.show.evaluation_html import comparison_page
    from ltrl.cli.show.reward import write
    from ltrl.evaluation.comparison import compare as differences
    from ltrl.evaluation.comparison import pairs
    from ltrl.evaluation.results import read, read_head

    ours, theirs = _results(a), _results(b)
    found = differences(ours, theirs)
    heads = ((ours, read_head(ours)), (theirs, read_head(theirs)))
    names = tuple(f"{head.name}: {head.model} ({where})" for where, head in heads)
    if html:
        write(html, comparison_page("Two models", found, pairs(read(ours), read(theirs)), (names[0], names[1])))
    views.comparison(found, (names[0], names[1]), as_json=as_json)


@app.command()
def paper(
    results: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ROW=DIR...]",
            help="Results for rows of the table: `4b/longtracerl=evals/qwen4b 4b/base=evals/qwen4b-start`.",
        ),
    ] = None,
    html: Html = None,
    as_json: Json = False,
) -> None:
    """Print the paper's Table 1, with our figures, differences and intervals beside it, as Markdown."""
    from ltrl.cli import show as printer
    from ltrl.cli.show import paper as views
    from ltrl.cli.show.reward import write
    from ltrl.evaluation.paper import reproduced

    given: dict[str, list[Path]] = {}
    for argument in results or ():
        row, is_there, directory = argument.partition("=")
        if not is_there or not directory:
            raise typer.BadParameter(f"`{argument}` is not ROW=DIR, `4b/longtracerl=evals/qwen4b` for example")
        given.setdefault(row, []).append(_results(directory))
    found = reproduced(given)
    if html:
        write(html, views.html(found))
    if as_json:
        printer.json_([row.to_json() for row in found])
    else:
        printer.out(views.markdown(found).rstrip("\n"))


def _results(text: str) -> Path:
    from ltrl.cli.which import results
    from ltrl.project import root

    return results(text, project=root(Path.cwd()))


def _page(results: Path, html: Path | None) -> None:
    if html:
        from ltrl.cli.show.evaluation_html import page_of
        from ltrl.cli.show.reward import write

        write(html, page_of(results))
