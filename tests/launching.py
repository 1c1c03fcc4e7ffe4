"""Bundles whose driver is anything a test likes, made by the code that makes real ones."""

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from ltrl import bundle, compile, payload, plan, render
from ltrl.backend import RewardServer, Stage
from ltrl.bundle import Bundle, SweepBundle
from ltrl.data.digest import DataDigests
from ltrl.plan import Plan
from ltrl.spec import ClusterProfile

STAND_IN = str(Path(__file__).with_name("stand_in_driver.py"))
SPECS = Path(__file__).parent.parent / "specs"

HOSTILE = 'a\'b "c" $(touch PWNED) `touch PWNED` \\ ; & | > PWNED\n#x % ü ☃ *'
"""Everything that a shell likes, in one value."""


@cache
def _prepared(spec: str) -> Plan:
    return compile.prepare(SPECS / spec, cluster="local" if spec == "quickstart.yaml" else None)


def make_plan(
    command: Sequence[str] = (),
    *,
    cluster: dict[str, Any] | None = None,
    steps: int = 4,
    name: str = "trial",
    fingerprint: str = "0123456789abcdef" * 4,
    spec: str = "quickstart.yaml",
    stages: tuple[Stage, ...] = (),
    server: bool = False,
) -> Plan:
    """The plan of a shipped spec with another driver, cluster and step target; with `server`, rewards are served."""
    found = _prepared(spec)
    profile = ClusterProfile.model_validate_json(
        json.dumps({"kind": "cluster", "executor": "local", **(cluster or {})})
    )
    algorithm = found.resolved.spec.algorithm.model_copy(update={"steps": steps})
    order = (
        *(s.name for s in stages if s.before_training),
        "train",
        *(s.name for s in stages if not s.before_training),
    )
    experiment = found.resolved.spec.model_copy(update={"name": name, "algorithm": algorithm, "stages": order})
    if server:
        reward = experiment.reward.model_copy(update={"server": RewardServer(workers=1)})
        experiment = experiment.model_copy(update={"reward": reward})
    resolved = replace(found.resolved, spec=experiment, cluster=profile, fingerprint=fingerprint)
    draft = plan.Plan(resolved, found.layout, found.batches, found.memory, found.launch, stages=stages)
    launch = replace(
        plan._launch(resolved, ()),
        command=tuple(command) or (sys.executable, STAND_IN, "--steps", str(steps)),
    )
    return replace(draft, launch=launch)


def make_bundle(
    directory: Path, command: Sequence[str] = (), *, data: DataDigests | None = None, **options: Any
) -> Bundle:
    """A bundle in `build/` below a directory, which is its project."""
    planned = make_plan(command, **options)
    (directory / "specs").mkdir(parents=True, exist_ok=True)
    scripts = render.scripts(planned)
    payloads = [payload.pack((), provided=())[0]] if planned.launch.payload else []
    files = bundle.artifacts(planned, (*scripts, *payloads), data=data)
    return bundle.write(files, directory / "build" / planned.name, replace=True)[0]


def make_sweep(
    directory: Path,
    commands: Sequence[Sequence[str]],
    *,
    at_once: int | None = None,
    name: str = "swept",
    **options: Any,
) -> SweepBundle:
    """The bundles of a sweep whose cells have these drivers."""
    (directory / "specs").mkdir(parents=True, exist_ok=True)
    cells = []
    for i, command in enumerate(commands):
        cell = f"{name}_seed-{i}"
        planned = make_plan(command, name=cell, fingerprint=f"{i + 16:08x}" * 8, **options)
        cells.append((cell, {"algorithm.seed": i}, bundle.artifacts(planned, render.scripts(planned))))
    home = directory / "build" / f"{name}-sweep"
    return bundle.write_sweep(home, sweep_id=f"{name}-sweep", at_once=at_once, cells=cells)


def stand_in(*arguments: str, steps: int = 4) -> list[str]:
    """The command of the stand-in driver."""
    return [sys.executable, STAND_IN, "--steps", str(steps), *arguments]


def hold(run: Path, step: int) -> None:
    """Lets the stand-in driver of a run wait before a step, whenever it starts; `release` lets it go on."""
    run.mkdir(parents=True, exist_ok=True)  # it need not be submitted yet
    (run / "hold").write_text(str(step))


def release(run: Path) -> None:
    """Ends that."""
    (run / "hold").unlink()


def until(met: Callable[[], Any], seconds: float = 15.0) -> Any:
    """What a condition gives when it becomes true; fails the test when it does not."""
    deadline = time.monotonic() + seconds
    while not (found := met()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
    return found
