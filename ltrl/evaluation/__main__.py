"""`python -m ltrl.evaluation CONFIG [MODEL] OUT`: the job of an evaluation.

It measures the model that its file of the bundle names; with MODEL, as the stage `eval`, an exported one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ltrl.errors import LtrlError
from ltrl.evaluation.ending import ends_well
from ltrl.evaluation.measure import Measurement, measure
from ltrl.evaluation.spec import Endpoint, EvalSection
from ltrl.evaluation.summary import summaries
from ltrl.evaluation.weights import model_directory

__all__ = ["main"]

_LINE_ANSWERS = 100


def main(arguments: Sequence[str]) -> int:
    """Evaluates; 1 for what a person can mend."""
    config, *model, out = map(Path, arguments)
    try:
        with ends_well():
            asked = _measurement(json.loads(config.read_bytes()), *model)
            samples = measure(asked, out, on_progress=_tell)
    except LtrlError as error:
        for found in error.diagnostics:
            sys.stderr.write(
                f"error[{found.code}]: {found.message}\n" + (f"hint: {found.hint}\n" if found.hint else "")
            )
        return 1
    for one in summaries(samples):
        if one.refusal:
            sys.stderr.write(f"{one.refusal}\n")
        if one.score is not None:
            low, high = 100 * one.score.low, 100 * one.score.high
            sys.stdout.write(f"{one.name}: {100 * one.score.value:.1f} ({low:.1f} to {high:.1f})\n")
    sys.stdout.write(f"results: {out.absolute()}\n")
    return 0


def _measurement(config: dict[str, Any], exported: Path | None = None) -> Measurement:
    """What the file of the bundle says, of the model that it names, or of an exported one, whose name says its step."""
    if exported is None:
        subject = config["model"]
    else:
        directory = model_directory(exported.resolve())
        step = f"-{directory.name}" if directory.name.startswith("step_") else ""
        subject = {"base": str(directory), "revision": None, "served_as": f"{config['name']}{step}"}
    endpoint = config.get("endpoint")
    return Measurement(
        name=config["name"],
        section=EvalSection.model_validate_json(json.dumps(config["eval"])),
        **subject,
        prompt=config["prompt"],
        response=config["response"],
        total=config["total"],
        chat_format=config["chat_format"],
        endpoint=Endpoint.model_validate_json(json.dumps(endpoint)) if endpoint else None,
    )


def _tell(done: int, total: int | None) -> None:
    if done % _LINE_ANSWERS == 0 or done == total:
        sys.stderr.write(f"{done:,}{f' of {total:,}' if total else ''} answers\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
