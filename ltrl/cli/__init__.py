"""The command line: commands are plain functions, modules load when a command runs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ltrl.cli import (
    clusters,
    data,
    diff,
    explain,
    imports,
    init,
    mock,
    reward,
    runs,
    serve,
    specs,
    sweeps,
    tools,
    watch,
)

__all__ = ["app", "main"]

app = typer.Typer(
    name="ltrl",
    help="Compile a typed spec into a long-context RL run, launch it and follow it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        from ltrl import __version__
        from ltrl.cli import show

        show.out(__version__)
        raise typer.Exit


for command in (
    init.init,
    specs.check,
    explain.explain,
    specs.plan,
    specs.compile_,
    diff.diff,
    explain.fields,
    specs.fmt,
    imports.import_,
    runs.submit,
    runs.rehearse,
    runs.resume,
    runs.status,
    runs.logs,
    watch.watch,
    runs.cancel,
    sweeps.compare,
    runs.why,
    runs.reindex,
    mock.mock,
    tools.report,
    tools.model,
    specs.backends,
    specs.schema,
):
    app.command(command.__name__.rstrip("_"), cls=diff.Command if command is diff.diff else None)(command)
app.add_typer(serve.app)

app.add_typer(reward.app)
app.add_typer(data.app)
app.add_typer(clusters.app)


def main() -> None:
    """Runs the command line; exit status 0 done, 1 the user's input, 2 usage, 3 the job failed, 70 a bug in ltrl."""
    from ltrl.errors import LtrlError

    try:
        app()
    except LtrlError as error:
        from ltrl.cli import show

        show.diagnostics(error.diagnostics)
        sys.exit(1)
    except BrokenPipeError:  # the reader of our output went away, `| head` for example
        sys.stderr.close()
        sys.exit(141)
    except Exception:
        import traceback

        traceback.print_exc()
        sys.stderr.write("\nThis is a bug in ltrl. Please report it with the lines above.\n")
        sys.exit(70)
