"""`ltrl export` on a real Slurm: a job converts a checkpoint, and ltrl says where the model is."""

import json
import os
import sys

import pytest
from launching import SPECS
from model_server import small_model
from starting import finished
from test_cli import ltrl
from test_export import checkpoint_of, nemo_rl

from ltrl import state
from ltrl import submit as launcher
from ltrl.compile import compile_bundle
from ltrl.state import State

pytestmark = pytest.mark.slurm


def test_a_job_converts_a_checkpoint_and_the_model_is_found(slurm, tmp_path):
    found = nemo_rl(tmp_path)  # its converter is one that behaves like it
    path = os.pathsep.join([str(tmp_path / "tools"), os.path.dirname(sys.executable), os.environ["PATH"]])
    environment = {"PATH": path, "PYTHONPATH": found["PYTHONPATH"], "TORCH_CUDA_ARCH_LIST": "9.0"}
    cluster = {"kind": "cluster", "executor": "slurm", "nodes": 4, "gpus_per_node": 8, "minutes": 600}
    profile = tmp_path / "site.yaml"
    profile.write_text(json.dumps({**cluster, "environment": environment, "preflight": {"min_free_disk_gb": 0}}))
    spec, built = SPECS / "qwen4b.yaml", tmp_path / "build" / "trained"
    bundle, _, _ = compile_bundle(spec, cluster=str(profile), out=built, remember=False)
    run_dir = tmp_path / "runs" / bundle.name
    run_dir.mkdir(parents=True)
    run = launcher.prepare_run(bundle, launcher.make_request(bundle, tmp_path, run_dir))
    made = checkpoint_of(run.path, 20, "megatron")
    _, tokenizer = small_model(run.path / "checkpoints" / "base")
    tokenizer.save_pretrained(made / "policy" / "tokenizer")
    done = ltrl("export", run.id, "models/mine", "--step", "20", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"{run.id}/export\n"), done.stderr
    row = finished(state.read_run(run.path / "stages" / "export"))
    log = ltrl("logs", row.id, cwd=tmp_path).stdout
    assert (row.state, row.job_id is not None) == (State.COMPLETED, True), log
    assert log.endswith(f"step 20: {tmp_path}/models/mine\n")
    asked = json.loads((tmp_path / "models" / "asked.json").read_text())
    assert f"--megatron-ckpt-path={made}/policy/weights/iter_0000000" in asked
    assert f"| run | `{run.id}`, step 20 of 200 |" in (tmp_path / "models" / "mine" / "README.md").read_text()
    told = json.loads(ltrl("status", row.id, "--json", cwd=tmp_path).stdout)
    assert told["exported"] == [f"{tmp_path}/models/mine"]
    assert " exported          models/mine " in ltrl("status", run.id, cwd=tmp_path).stdout
