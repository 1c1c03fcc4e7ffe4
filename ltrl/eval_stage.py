"""The stage `eval`: the exported model, served and measured in a job of its own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from ltrl.backend import Stage

if TYPE_CHECKING:
    from ltrl.evaluation.spec import EvalSection
    from ltrl.resolve import Resolved

__all__ = ["CONFIG", "EVAL", "eval_config", "eval_stage"]

EVAL = "eval"
"""Its name."""
CONFIG = "eval.json"
"""What it measures, in the bundle."""
RESULTS = "results"
"""Its directory of results."""


def eval_stage(resolved: Resolved) -> Stage | None:
    """The stage of a spec with `eval`; None without."""
    if resolved.spec.eval is None:
        return None
    serve = _section(resolved).serve
    return Stage(
        EVAL,
        ("python", "-m", "ltrl.evaluation", f"../../bundle/{CONFIG}", "../export/model", RESULTS),
        needs=("export",),
        gpus_per_node=serve.tensor if serve.engine == "vllm" else 0,
        minutes=serve.minutes,
        image=serve.image,
    )


def eval_config(resolved: Resolved) -> str:
    """What the stage measures, as the file of the bundle has it. Pure."""
    lengths = resolved.lengths
    config: dict[str, Any] = {
        "name": resolved.spec.name,
        "prompt": lengths.prompt,
        "response": lengths.response,
        "total": lengths.total,
        "chat_format": resolved.chat_format,
        "eval": _section(resolved).model_dump(mode="json"),
    }
    return json.dumps(config, indent=2) + "\n"


def _section(resolved: Resolved) -> EvalSection:
    return cast("EvalSection", resolved.spec.eval)
