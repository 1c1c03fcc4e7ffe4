"""Commands about the checkpoints of a run: what there is, back to one, on from one, room for more."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ltrl.cli import complete
from ltrl.cli.specs import Cluster, Overlays, Sets

if TYPE_CHECKING:
    from ltrl.state import Run

__all__ = ["checkpoints", "fork", "prune", "rollback"]

RunName = Annotated[
    str,
    typer.Argument(metavar="RUN", help="Its id, the beginning of it, or its directory.", autocompletion=complete.runs),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Tell what would happen and change nothing.")]


def checkpoints(
    name: RunName,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read all that can be checked: indices, archives, hashes.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the checkpoints of a run: whole or not, how good, why they are kept, how long the disk lasts.

    Exit status 1 with --verify when one that has its final name is damaged.
    """
    from ltrl.checkpoints import Condition
    from ltrl.cli import show
    from ltrl.cli.show import checkpoints as view
    from ltrl.inventory import inventory

    run = _run(name)
    found = inventory(run, deep=verify)
    show.json_(view.inventory_json(found, run)) if as_json else view.inventory(found, run, deep=verify)
    if verify and any(one.entry.condition is Condition.DAMAGED for one in found.kept):
        raise typer.Exit(1)


def rollback(
    name: RunName,
    step: Annotated[
        int | None, typer.Option("--step", min=0, metavar="N", help="Step of the checkpoint to go back to.")
    ] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Put back what the newest rollback set aside.")] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Go back to a checkpoint: later ones are set aside, and submitting or resuming the run goes on from it."""
    from ltrl import rollback as back
    from ltrl.cli import show
    from ltrl.cli.show import checkpoints as view

    if (step is None) != undo:
        raise typer.BadParameter("give either `--step N` or `--undo`")
    run = _run(name)
    made = back.undo(run, dry_run=dry_run) if step is None else back.roll_back(run, step=step, dry_run=dry_run)
    if as_json:
        show.json_(view.rollback_json(made, run))
        return
    listed = ", ".join(f"`{moved}`" for moved in made.moved)
    would = "would be " if dry_run else ""
    if undo:
        show.note(f"{would}put back: {listed}")
    else:
        show.note(f"{would}set aside in {show.relative(run.path / 'checkpoints' / made.place)}: {listed}")
        if not dry_run:
            show.note(
                f"`ltrl resume {run.id}` goes on from step {made.step}, `ltrl rollback {run.id} --undo` goes back"
            )
    show.out(run.id)


def fork(
    name: RunName,
    spec: Annotated[
        Path, typer.Argument(metavar="SPEC|BUNDLE", help="What the new run learns.", autocompletion=complete.specs)
    ],
    step: Annotated[
        int | None, typer.Option("--step", min=0, metavar="N", help="Step of the checkpoint; by default the newest.")
    ] = None,
    cluster: Cluster = None,
    overlay: Overlays = None,
    set_: Sets = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Start a new run from a checkpoint of another; the other one stays as it is."""
    from ltrl.cli import launch

    chosen = name if step is None else f"{name}@{step}"
    launch.submit(spec, cluster, overlay, set_, fork=chosen, dry_run=dry_run, as_json=as_json)


def prune(
    name: RunName,
    last: Annotated[int, typer.Option("--last", min=0, metavar="K", help="Keep the K newest.")] = 0,
    best: Annotated[int, typer.Option("--best", min=0, metavar="K", help="Keep the K best by --metric.")] = 0,
    metric: Annotated[str, typer.Option("--metric", help="A figure of the validation.")] = "accuracy",
    lower: Annotated[bool, typer.Option("--lower-is-better", help="The lowest figure is the best.")] = False,
    every: Annotated[int, typer.Option("--every", min=0, metavar="N", help="Keep those of every N steps.")] = 0,
    aside: Annotated[bool, typer.Option("--set-aside", help="Move the others out of the way.")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="Delete the others for good.")] = False,
    as_json: Json = False,
) -> None:
    """Show which checkpoints would go under some rules; take them away only with --set-aside or --delete.

    A checkpoint stays when any rule keeps it; the newest always does. Damaged and unfinished ones are left alone.
    """
    from ltrl import checkpoints as kinds
    from ltrl import rollback as back
    from ltrl.cli import show
    from ltrl.cli.show import checkpoints as view
    from ltrl.inventory import entries

    rules = kinds.Rules(last, best, metric.removeprefix("val:"), lower or kinds.lower_is_better(metric), every)
    if not rules.are_set:
        raise typer.BadParameter("say what to keep: `--last K`, `--best K`, `--every N`, or several")
    if aside and delete:
        raise typer.BadParameter("--set-aside keeps what --delete takes away: give one of them")
    run = _run(name)
    found = entries(run)
    staying = kinds.kept(found, rules)
    if best and not any(rules.metric in entry.validation for entry in found):
        from ltrl.errors import Code, fail

        known = sorted({figure for entry in found for figure in entry.validation})
        hint = "there is " + ", ".join(f"`{figure}`" for figure in known) if known else "validation was not measured"
        raise fail(Code.INVALID_VALUE, f"no checkpoint of `{run.id}` has the figure `{rules.metric}`", hint=hint)
    going = [entry for entry in found if entry.is_complete and not staying[entry.step]]
    if going and (aside or delete):
        back.prune(run, going, delete=delete)
    if as_json:
        done = "deleted" if delete else "set aside" if aside else "nothing"
        rows = [{"step": entry.step, "bytes": entry.bytes} for entry in going]
        kept = [{"step": step, "because": list(why)} for step, why in staying.items() if why]
        show.json_({"run": run.id, "done": done, "going": rows, "kept": kept})
        return
    verb = "deleted" if delete else "set aside" if aside else "would go"
    view.pruning(going, staying, verb=verb)
    if going and not (aside or delete):
        show.note("nothing was changed; `--set-aside` moves them out of the way, `--delete` deletes them")


def _run(name: str) -> Run:
    from ltrl.lineage import of_training
    from ltrl.project import root
    from ltrl.runs import find_run

    return of_training(find_run(name, project=root(Path.cwd())), "it has no checkpoints")
