"""`python -m ltrl_backends.nemo_rl.convert CONFIG`: the start model in Megatron's form, before a training needs it.

NeMo-RL converts a Hugging Face model when a training starts, in the workers of all its GPUs, and keeps the result; a
training that finds it begins at once. This does the same in one process on one GPU, with NeMo-RL's own functions and as
its tests do it (tests/functional/test_converter_roundtrip.py), in the environment with Megatron that `uv` makes in its
container.

The result appears whole or not at all. NeMo-RL 0.7.0 takes what an interrupted conversion left for a model
(nemo_rl/models/megatron/setup.py, `validate_model_paths`); here one that is not whole is made again.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ltrl.errors import Code, LtrlError, fail

__all__ = ["command", "convert", "is_whole", "main"]

ITERATION = "iter_0000000"
"""Where Megatron-Bridge puts the one iteration of a converted model."""


def main(arguments: Sequence[str]) -> int:
    """Becomes the conversion, in the right environment; 1 for what a person can mend."""
    here = "--here" in arguments
    (config,) = (Path(a).absolute() for a in arguments if a != "--here")
    try:
        if here:
            convert(config)
            return 0
        found = importlib.util.find_spec("nemo_rl")
        if found is None or found.origin is None:
            raise fail(Code.MISSING_EXTRA, "NeMo-RL is not installed here: `convert` runs in its container")
        words = command(config, nemo_rl=Path(found.origin).parents[1])
    except LtrlError as error:
        sys.stderr.write("".join(f"error[{d.code}]: {d.message}\n" for d in error.diagnostics))
        return 1
    return os.execvp(words[0], words)


def command(config: Path, *, nemo_rl: Path) -> list[str]:
    """What runs the conversion with Megatron at hand."""
    module = "ltrl_backends.nemo_rl.convert"
    return ["uv", "run", "--extra", "mcore", f"--directory={nemo_rl}", "python", "-m", module, "--here", str(config)]


def convert(config: Path) -> Path:
    """Converts the model of a configuration file, unless that has been done; returns where the training will look."""
    from megatron.bridge.training.model_load_save import (  # type: ignore[import-not-found, unused-ignore]
        temporary_distributed_context,
    )
    from nemo_rl.models.megatron import setup
    from nemo_rl.models.megatron.community_import import import_model_from_hf_name

    from ltrl_backends.nemo_rl.driver import prepare

    policy = _policy(prepare(config))
    name, path, _ = setup.validate_model_paths(policy)
    target = Path(path)
    if policy.get("pretrained_checkpoint") is not None or is_whole(target):
        sys.stdout.write(f"nothing to do: {target} is there\n")
        return target
    with _draft(target) as draft, temporary_distributed_context(backend="gloo"):
        overrides = policy.get("hf_config_overrides") or {}
        import_model_from_hf_name(name, str(draft), _in_one_process(policy["megatron_cfg"]), **overrides)
        if not is_whole(draft):
            raise fail(Code.BAD_CHECKPOINT, f"NeMo-RL left no whole model in `{draft}`")
    sys.stdout.write(f"converted: {target}\n")
    return target


def is_whole(path: Path) -> bool:
    """Whether a directory holds a converted model: PyTorch writes `.metadata` when all else is on the disk."""
    return all((path / ITERATION / name).is_file() for name in ("run_config.yaml", ".metadata"))


def _in_one_process(megatron: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of Megatron for a conversion that is not spread out; the result serves any layout."""
    sizes = ("tensor_model", "pipeline_model", "context", "expert_tensor", "expert_model")
    return {
        **{f"{size}_parallel_size": 1 for size in sizes},
        "num_layers_in_first_pipeline_stage": None,
        "num_layers_in_last_pipeline_stage": None,
        "pipeline_dtype": megatron["pipeline_dtype"],
        "sequence_parallel": False,
        "gradient_accumulation_fusion": False,
    }


@contextmanager
def _draft(target: Path) -> Iterator[Path]:
    """A directory beside the target that takes its place at the end, if nothing was raised."""
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield draft
        if is_whole(target):  # another job was faster
            return
        if target.exists():  # what an interrupted conversion left
            target.rename(draft.with_name(f"{draft.name}.old"))
        draft.rename(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        shutil.rmtree(draft.with_name(f"{draft.name}.old"), ignore_errors=True)


def _policy(config: Any) -> Any:
    """The section of the model: an attribute since 0.7.0, a key before."""
    return config["policy"] if isinstance(config, dict) else config.policy


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
