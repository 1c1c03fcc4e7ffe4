"""From the start of a job to that of its driver, on a real Slurm of four fake nodes: what ltrl adds to Ray's own time.

    python benchmarks/slurm_start.py [JOBS]

Needs root, slurm-wlm and munge. Ray's own time is from the first `ray start` to the registration of the last node, as
Ray's log has it.
"""

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

DRIVER = r"""
import json, re
from pathlib import Path
[log] = Path("/tmp/ray").glob("ltrl-ray-*/session_latest/logs/gcs_server.out")
lines = [l for l in log.read_text().splitlines() if "egister" in l and "node" in l]
print(json.dumps(lines))
"""


def main(jobs: int) -> None:
    prefix = Path(tempfile.mkdtemp(prefix="ltrl-", dir="/tmp"))
    rows = []
    try:
        up = ["bash", ROOT / "tests/slurm/up.sh", prefix, "nodes=4", "gpus=8", "iso=net"]
        subprocess.run(up, check=True, capture_output=True)
        put_clients_on_path(prefix)
        for number in range(jobs):
            rows.append(measure(prefix / f"project{number}"))
    finally:
        subprocess.run(["bash", ROOT / "tests/slurm/down.sh", prefix, "--purge"], check=False, capture_output=True)
        shutil.rmtree(prefix, ignore_errors=True)
    names = list(rows[0])
    print("| " + " | ".join(["seconds", *names]) + " |")
    print("|---" * (len(names) + 1) + "|")
    for i, row in enumerate(rows, 1):
        print("| " + " | ".join([f"job {i}", *(f"{row[n]:.2f}" for n in names)]) + " |")
    print("| " + " | ".join(["median", *(f"{statistics.median(r[n] for r in rows):.2f}" for n in names)]) + " |")


def measure(project: Path) -> dict[str, float]:
    sys.path.insert(0, str(ROOT / "tests"))
    from launching import make_bundle, until

    from ltrl import runs, state
    from ltrl import submit as launcher

    cluster = {
        "executor": "slurm",
        "nodes": 4,
        "gpus_per_node": 8,
        "minutes": 30,
        "restarts": {"how": "none"},
        "preflight": {"min_free_disk_gb": 0.1},
        "setup": [f"PATH={Path(sys.executable).parent}:$PATH"],
        "environment": {
            "LTRL_NODE_TMP": "/tmp/ray",
            "RAY_DEFAULT_OBJECT_STORE_MEMORY_PROPORTION": "0.01",
            "RAY_enable_worker_prestart": "0",
        },
    }
    bundle = make_bundle(project, ["python3", "-c", DRIVER], cluster=cluster, spec="qwen30b_moe.yaml")
    run = launcher.submit(bundle, project=project)
    until(lambda: runs.status(state.read_run(run.path)).state.is_finished, 300)
    attempt = run.attempt_dir(1)
    reached = {}
    for line in (attempt / "moments").read_text().splitlines():
        when, _, what = line.partition(" ")
        reached[what] = float(when)
    registered = last_registration(json.loads((attempt / "stdout.log").read_text()))
    ray = registered - reached["Ray started"]
    reports = [json.loads(p.read_bytes()) for p in (attempt / "preflight").glob("*.json")]
    return {
        "shared directory": reached["shared directory seen"] - reached["job"],
        "steps, set-up, preflight": reached["Ray started"] - reached["shared directory seen"],
        "of it preflight": max(r["seconds"] for r in reports),
        "Ray's own": ray,
        "noticing it": reached["Ray ready"] - registered,
        "driver": reached["driver started"] - reached["Ray ready"],
        "beyond Ray": reached["driver started"] - reached["job"] - ray,
    }


def last_registration(lines: list[str]) -> float:
    """When the last node was registered."""
    found = [m.group(1) for line in lines if (m := re.match(r"\[(\d+-\d+-\d+ \d+:\d+:\d+,\d+)", line))]
    return max(datetime.strptime(t, "%Y-%m-%d %H:%M:%S,%f").timestamp() for t in found)


def put_clients_on_path(prefix: Path) -> None:
    """The clients run in the cluster's own network namespace; a job is inside already."""
    directory = prefix / "clients"
    directory.mkdir()
    for name in ("sbatch", "squeue", "scancel", "sacct", "scontrol"):
        real = shutil.which(name)
        path = directory / name
        path.write_text(
            f'#!/bin/bash\n[[ -z ${{SLURM_CONF:-}} ]] || exec {real} "$@"\nexec {prefix}/enter {real} "$@"\n'
        )
        path.chmod(0o755)
    os.environ["PATH"] = f"{directory}{os.pathsep}{os.environ['PATH']}"
    os.environ["LTRL_STATE_DIR"] = str(prefix / "state")


if __name__ == "__main__":
    began = time.monotonic()
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
    print(f"\n{time.monotonic() - began:.0f} s in all", file=sys.stderr)
