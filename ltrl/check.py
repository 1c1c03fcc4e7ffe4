"""What is wrong with a file, whatever kind of file it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ltrl.compile import checked_profile, planned, read
from ltrl.errors import Diagnostic, LtrlError, raise_if_any
from ltrl.parse import parse, wrong_kind
from ltrl.source import Document

__all__ = ["check"]


def check(
    path: Path, *, cluster: str | None = None, overlays: Sequence[Path] = (), sets: Sequence[str] = ()
) -> tuple[Diagnostic, ...]:
    """Everything that is wrong with a file of any kind, each cell of it if it is a sweep: errors and warnings."""
    document = read(path, overlays, sets)
    try:
        match document.data.get("kind", "experiment") if isinstance(document, Document) else "experiment":
            case "experiment":
                found = planned(document, path, cluster, sets)
                return tuple(dict.fromkeys(warning for plan in found for warning in plan.warnings))
            case "cluster" if isinstance(document, Document):
                checked_profile(document)
            case "evaluation" if cluster:
                from ltrl.eval_job import plan_evaluation

                plan_evaluation(path, cluster=cluster, overlays=overlays, sets=sets)
            case "evaluation" if isinstance(document, Document):
                from ltrl.evaluation.subject import Written, measurement

                measurement(Written.of(document, path))
            case "dataset" if isinstance(document, Document):
                from ltrl.dataset.model import Dataset

                parse(document, Dataset)
            case written if isinstance(document, Document):
                kinds = ("experiment", "evaluation", "cluster", "dataset")
                raise_if_any([*document.mistakes, wrong_kind(document, written, *kinds)])
    except LtrlError as error:
        return error.diagnostics
    return ()
