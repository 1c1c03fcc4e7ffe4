"""A driver without a model: writes what a real one writes, resumes where a checkpoint is, ends when it is told to; told
to stop, it saves first. With a file `hold` it waits before the step that is written there.

stand_in_driver.py [--steps N] [--seconds S] [--save-every K] [--die-at STEP] [--child] [--ray]
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

arguments = argparse.ArgumentParser()
arguments.add_argument("--steps", type=int, default=4)
arguments.add_argument("--seconds", type=float, default=0.0)
arguments.add_argument("--save-every", type=int, default=2)
arguments.add_argument("--die-at", type=int, default=0)
arguments.add_argument("--child", action="store_true")
arguments.add_argument("--ray", action="store_true")
arguments.add_argument("rest", nargs="*")
given = arguments.parse_args()


def is_held(step: int) -> bool:
    """Whether the file `hold` names this step or one before it; an empty one is for all."""
    try:
        return step >= int(Path("hold").read_text() or 0)
    except FileNotFoundError:
        return False


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


done = max((int(p.name.removeprefix("step_")) for p in Path("checkpoints").glob("step_*")), default=0)
start = Path("logs") / f"exp_{len(list(Path('logs').glob('exp_*'))) + 1:03}"
start.mkdir(parents=True)
told = {name: os.environ.get(name) for name in ("LTRL_RUN_ID", "LTRL_ATTEMPT", "LTRL_PROJECT_DIR", "TOLD", "SECRET")}
say(json.dumps({"cwd": str(Path.cwd()), "arguments": given.rest, "environment": told, "from": done}))
if given.child:
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
if given.ray:
    import ray

    @ray.remote(num_gpus=8)
    def where() -> list[str]:
        import ltrl

        time.sleep(1)  # so that no node is asked twice
        return [os.uname().nodename, ltrl.__file__, ",".join(sorted(os.environ["CUDA_VISIBLE_DEVICES"].split(",")))]

    ray.init(address="auto", log_to_driver=False)
    gpus = int(ray.cluster_resources()["GPU"])
    say(json.dumps({"gpus": gpus, "nodes": sorted(ray.get([where.remote() for _ in range(gpus // 8)]))}))
attempt = Path("attempts") / os.environ.get("LTRL_ATTEMPT", "1")
with (attempt / "moments").open("a") as file:
    file.write(f"{time.time()} training\n")
for step in range(done + 1, given.steps + 1):
    time.sleep(given.seconds)
    while is_held(step):  # as one that waits for a node that is gone
        time.sleep(0.1)
    last = step == given.steps or (attempt / "stop").exists()
    record = {"step": step, "train/reward": step / given.steps, "timing/train/total_step_time": given.seconds}
    with (start / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(record) + "\n")
    say(f"step {step}")
    if step == given.die_at and done == 0:
        sys.exit("out of luck")
    if step % given.save_every == 0 or last:
        draft = Path(f"checkpoints/tmp_step_{step}")
        draft.mkdir(parents=True)
        (draft / "training_info.json").write_text(json.dumps({"total_steps": step}))
        draft.rename(f"checkpoints/step_{step}")
    if last:
        break
