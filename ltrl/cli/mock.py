"""The command that makes things happen on the mock cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

__all__ = ["mock"]


def mock(
    event: Annotated[
        Literal["timeout", "oom", "preempt", "node-fail", "requeue", "hold", "release", "down", "up"],
        typer.Argument(help="What happens: to a run's job, or (hold, release, down, up) to the whole cluster."),
    ],
    name: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="Run on the mock cluster; by default the newest.")
    ] = None,
    requeue: Annotated[
        bool, typer.Option(help="Whether a preempted job, or one whose node failed, waits and starts again.")
    ] = True,
) -> None:
    """Let something happen on the cluster `mock`, to see what ltrl makes of it."""
    from ltrl import mock as slurm
    from ltrl.cli import show
    from ltrl.errors import Code, fail
    from ltrl.project import root
    from ltrl.runs import find_run
    from ltrl.slurm import clients

    folder = clients("mock")
    assert folder is not None
    if event in ("hold", "release", "down", "up"):
        slurm.switch(folder.parent, "hold" if event in ("hold", "release") else "down", on=event in ("hold", "down"))
        return
    run = find_run(name, project=root(Path.cwd()))
    if run.latest is None or run.latest.clients != str(folder) or run.latest.job_id is None:
        raise fail(
            Code.MOCK,
            f"`{run.id}` is not on the mock cluster",
            hint="submit one: `ltrl submit specs/quickstart.yaml --cluster mock`",
        )
    try:
        slurm.send(folder.parent, run.latest.job_id, event, requeue=requeue)
    except LookupError as error:
        raise fail(Code.MOCK, str(error.args[0])) from None
    show.note(f"{event}: job {run.latest.job_id} of `{run.id}`")
