"""The command line: commands are plain functions, a module loads when one of its commands runs."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Annotated, Any, cast

import typer
import typer.core
import typer.main

__all__ = ["COMMANDS", "app", "main"]

COMMANDS = {
    "init": "init",
    "doctor": "doctor",
    "check": "specs",
    "explain": "explain",
    "plan": "specs",
    "compile": "specs:compile_",
    "diff": "diff",
    "fields": "explain",
    "fmt": "specs",
    "import": "imports:import_",
    "submit": "launch",
    "rehearse": "launch",
    "resume": "launch",
    "status": "runs",
    "logs": "runs",
    "watch": "watch",
    "cancel": "runs",
    "checkpoints": "checkpoints",
    "rollback": "checkpoints",
    "fork": "checkpoints",
    "prune": "checkpoints",
    "export": "export",
    "compare": "sweeps",
    "why": "why",
    "reindex": "runs",
    "mock": "mock",
    "report": "tools",
    "model": "tools",
    "backends": "specs",
    "schema": "specs",
    "serve": "serve:app",
    "reward": "reward:app",
    "eval": "evaluation:app",
    "data": "data:app",
    "cluster": "clusters:app",
}
"""Every command, as the help lists them: its module in this package, and there its function, of the same name unless
another is given, or its group of commands."""


class _Commands(Mapping[str, Any]):
    """The commands by name, each made when somebody asks for it."""

    def __getitem__(self, name: str) -> Any:
        return _command(name)

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


@cache
def _command(name: str) -> Any:
    """A command for click; a module's own `Command` is the class of its commands."""
    home, _, attribute = COMMANDS[name].partition(":")
    module = import_module(f"ltrl.cli.{home}")
    found = getattr(module, attribute or name)
    alone = typer.Typer(rich_markup_mode=None)
    if isinstance(found, typer.Typer):
        alone.add_typer(found, name=name)
    else:
        alone.command(name, cls=getattr(module, "Command", None))(found)
    return typer.main.get_group(alone).commands[name]


class _Group(typer.core.TyperGroup):
    """All of ltrl: typer would make every command in order to run one."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = cast(Any, _Commands())

    def invoke(self, ctx: Any) -> Any:
        """As its base does; a wrong value is told without pydantic's words before it."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = error.message.removeprefix("Value error, ")
            raise


app = typer.Typer(
    name="ltrl",
    cls=_Group,
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


def main() -> None:
    """Runs the command line; exit status 0 done, 1 the user's input, 2 usage, 3 the job failed, 70 a bug in ltrl."""
    from ltrl.errors import Code, LtrlError, fail

    try:
        try:
            app()
        except SystemExit:
            if sys.stdout:
                sys.stdout.flush()
            raise
    except LtrlError as error:
        from ltrl.cli import show

        show.diagnostics(error.diagnostics)
        sys.exit(1)
    except BrokenPipeError:  # the reader of our output went away, `| head` for example
        sys.stderr.close()
        sys.exit(141)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            from ltrl.cli import show

            what = f"`{error.filename}`" if error.filename else "the output"
            full = fail(Code.UNWRITABLE, f"cannot write {what}: {os.strerror(error.errno).lower()}")
            show.diagnostics(full.diagnostics)
            os._exit(1)  # Python would try to write the output once more
        import traceback

        traceback.print_exc()
        sys.stderr.write("\nThis is a bug in ltrl. Please report it with the lines above.\n")
        sys.exit(70)
