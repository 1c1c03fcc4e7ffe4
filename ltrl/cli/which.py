"""Which checkpoint, model or results a person means."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ltrl.lineage import Fork

__all__ = ["checkpoint", "model", "results"]


def checkpoint(text: str, *, project: Path) -> Fork:
    """That of `RUN@STEP`, or the newest of `RUN`; raises LtrlError when there is none."""
    from ltrl import lineage
    from ltrl.errors import Code, fail
    from ltrl.runs import find_run

    name, at, step = text.rpartition("@")
    if at and not step.isdecimal():
        raise fail(Code.UNKNOWN_CHECKPOINT, f"`{step}` is no step", hint="write `RUN@STEP` or `RUN`")
    return lineage.fork(find_run(name if at else text, project=project), int(step) if at else None)


def model(text: str, *, project: Path) -> tuple[str, str | None]:
    """What a model is loaded from, and its name: a directory or an id as it stands, the export of a run, or else a
    checkpoint that the embedded engine serves as it is. Raises LtrlError when there is none.
    """
    from ltrl.errors import Code, fail
    from ltrl.evaluation.weights import model_directory

    if "/" in text or Path(text).is_dir():
        return text, None
    chosen = checkpoint(text, project=project)
    export = chosen.run.path / "stages" / "export" / "model"
    if chosen.run.engine != "local" and "@" in text:
        exported = export / f"step_{chosen.step}"
        if not (exported / "config.json").is_file():
            message = f"step {chosen.step} of `{chosen.run.id}` is not exported"
            hint = f"`ltrl export {text} DIR`, then `--model DIR`"
            raise fail(Code.BAD_CHECKPOINT, message, hint=hint)
        return str(exported), f"{chosen.run.id}@{chosen.step}"
    if chosen.run.engine != "local" or ("@" not in text and export.is_dir()):
        return str(model_directory(export)), chosen.run.id
    return str(chosen.directory), f"{chosen.run.id}@{chosen.step}"


def results(text: str | Path, *, project: Path) -> Path:
    """Where the results of an evaluation are: in a directory as it stands, or in that of a run, given by its id or its
    directory, whose job or stage `eval` has measured.
    """
    from ltrl.errors import LtrlError
    from ltrl.eval_stage import EVAL, RESULTS
    from ltrl.runs import find_run
    from ltrl.stages import stage_dir

    path = Path(text)
    if not path.exists() and path.name == str(text):
        try:
            path = find_run(str(text), project=project).path
        except LtrlError as error:
            if error.diagnostics[0].hint is None:  # it could be any of several
                raise
            return path  # a directory that is not there, which its reader tells
    if not (path / "run.json").is_file():
        return path
    return next((found for found in (stage_dir(path, EVAL) / RESULTS, path / RESULTS) if found.is_dir()), path)
