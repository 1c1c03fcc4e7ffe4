"""NeMo-RL on a machine where it is not installed: found in a checkout, with what it needs beside it."""

from __future__ import annotations

import importlib.util
import os
import re
import runpy
import sys
from pathlib import Path

from ltrl.backend import missing_modules
from ltrl.errors import Code, Diagnostic

__all__ = ["VARIABLE", "missing", "use", "version_of"]

VARIABLE = "NEMO_RL"
"""Names the directory of the checkout."""
STARTUP = Path(__file__).parent / "startup"
MODULES = (
    "absl",
    "datasets",
    "fastapi",
    "httpx",
    "hydra",
    "matplotlib",
    "omegaconf",
    "pandas",
    "PIL",
    "pynvml",
    "ray",
    "requests",
    "scipy",
    "sentencepiece",
    "soundfile",
    "tensorboard",
    "tensordict",
    "torch",
    "torchdata",
    "transformers",
    "uvicorn",
    "zmq",
)
"""What NeMo-RL imports on the way to its trainer."""
ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "",
    "NRL_IGNORE_VERSION_MISMATCH": "1",  # it compares itself with the container that it was built in
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TORCH_CUDA_ARCH_LIST": "9.0",  # as in the job; NeMo-RL's Megatron policy demands it
}


def missing(version: str) -> Diagnostic | None:
    """What is missing for a rehearsal here; None when NeMo-RL can be imported."""
    clone = f"git clone --depth 1 --branch v{version} https://github.com/NVIDIA-NeMo/RL nemo-rl"
    clone = f"`{clone} && export {VARIABLE}=$PWD/nemo-rl`"
    if (lacking := missing_modules(MODULES, extra="rehearsal", of="a rehearsal with NeMo-RL")) is not None:
        return lacking
    named = os.environ.get(VARIABLE)
    if named is None and importlib.util.find_spec("nemo_rl") is not None:
        return None
    if named is None:
        message = f"a rehearsal runs NeMo-RL's own code, and `${VARIABLE}` does not say where it is"
        return Diagnostic(Code.MISSING_EXTRA, message, hint=clone)
    found = version_of(Path(named))
    if found is None:
        return Diagnostic(
            Code.MISSING_EXTRA, f"`${VARIABLE}` is `{named}`, which is no checkout of NeMo-RL", hint=clone
        )
    if found != version:
        message = f"`${VARIABLE}` is NeMo-RL {found} at `{named}`, the spec wants `engine.version` {version}"
        return Diagnostic(Code.MISSING_EXTRA, message, hint=clone)
    return None


def use() -> None:
    """Makes this process, and those that it starts, ready to import NeMo-RL; before anything of it is imported."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    places = [str(STARTUP)]
    if named := os.environ.get(VARIABLE):
        places.append(os.path.abspath(named))
        sys.path.insert(0, places[-1])
        if version_of(Path(named)) == "0.6.0":
            os.environ["LTRL_STAND_FOR"] = "megatron"
    os.environ["PYTHONPATH"] = os.pathsep.join([*places, *filter(None, [os.environ.get("PYTHONPATH")])])
    runpy.run_path(str(STARTUP / "sitecustomize.py"))


def version_of(checkout: Path) -> str | None:
    """`0.7.0`, read from its source; None for a directory that is something else."""
    try:
        text = (checkout / "nemo_rl" / "package_info.py").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    numbers = [re.search(rf"^{name} = (\d+)$", text, re.MULTILINE) for name in ("MAJOR", "MINOR", "PATCH")]
    return ".".join(n[1] for n in numbers if n) if all(numbers) else None
