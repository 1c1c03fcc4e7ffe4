"""Commands about how good a model is: measure, compare, hold against the paper."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from ltrl.cli import complete

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
Results = Annotated[Path, typer.Argument(metavar="DIR", help="Results of an evaluation.")]


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
    html: Html = None,
    as_json: Json = False,
) -> None:
    """Ask a model every question, grade the answers and say how good they are; once more goes on where it was ended."""
    import dataclasses

    from ltrl.cli.show import evaluation as views
    from ltrl.cli.which import model as which
    from ltrl.compile import as_in_a_job
    from ltrl.evaluation.ending import ends_well
    from ltrl.evaluation.measure import measure
    from ltrl.evaluation.subject import measurement
    from ltrl.evaluation.summary import summaries
    from ltrl.project import root

    found = measurement(spec, overlays=overlay or (), sets=set_ or ())
    if model is not None:
        base, name = which(model, project=root(Path.cwd()))
        found = dataclasses.replace(found, base=base, revision=None, served_as=name)
    where = out or Path("evals") / found.name
    with as_in_a_job(root(spec.parent)), ends_well(), views.progress(found.name) as advance:
        samples = measure(found, where, on_progress=advance)
    _page(where, html)
    views.summary(where, summaries(samples), as_json=as_json)


@app.command()
def show(results: Results, html: Html = None, as_json: Json = False) -> None:
    """Show results that are there: figures, and with --html every answer."""
    from ltrl.cli.show import evaluation as views
    from ltrl.evaluation.results import read
    from ltrl.evaluation.summary import summaries

    found = summaries(sample.without_texts for sample in read(results))
    _page(results, html)
    views.summary(results, found, as_json=as_json)


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="Results of an evaluation.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Those to compare them with.")],
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

    found = differences(a, b)
    names = tuple(f"{head.name}: {head.model} ({where})" for where, head in ((a, read_head(a)), (b, read_head(b))))
    if html:
        write(html, comparison_page("Two models", found, pairs(read(a), read(b)), (names[0], names[1])))
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
        given.setdefault(row, []).append(Path(directory))
    found = reproduced(given)
    if html:
        write(html, views.html(found))
    if as_json:
        printer.json_([row.to_json() for row in found])
    else:
        printer.out(views.markdown(found).rstrip("\n"))


def _page(results: Path, html: Path | None) -> None:
    if html:
        from ltrl.cli.show.evaluation_html import page_of
        from ltrl.cli.show.reward import write

        write(html, page_of(results))
