"""`ltrl doctor` on machines that have and lack things: programs on the PATH, packages, keys, a judge on loopback."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
LTRL = "import sys; sys.argv[0] = 'ltrl'; from ltrl.cli import main; main()"
NVIDIA_SMI = """
gpu='NVIDIA H100 80GB HBM3'
case ${1:-} in
  --query-gpu*) printf "$gpu, 81559, %s, 550.54.15\\n" 80000 1024 ;;
  *) echo '| NVIDIA-SMI 550.54.15   Driver Version: 550.54.15   CUDA Version: 12.4 |' ;;
esac
"""
CLUSTER = {"kind": "cluster", "executor": "local", "gpus_per_node": 4}
SLURM = {"kind": "cluster", "executor": "slurm", "nodes": 1, "gpus_per_node": 8}


class Machine:
    """A machine with these programs and nothing else on its PATH."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.programs = home / "programs"
        self.programs.mkdir()
        (self.programs / "bash").symlink_to(str(shutil.which("bash")))
        self.environment = {"PATH": str(self.programs), "HOME": str(home), "COLUMNS": "120"}
        self.environment |= {f"LTRL_{name}_DIR": str(home / name.lower()) for name in ("STATE", "CONFIG")}

    def program(self, name: str, script: str) -> None:
        path = self.programs / name
        path.write_text(f"#!{shutil.which('bash')}\n{script}\n")
        path.chmod(0o755)

    def file(self, name: str, content: Mapping[str, Any]) -> str:
        (self.home / name).write_text(json.dumps(content))
        return f"./{name}"

    def says(self, *words: str, python: tuple[str, ...] = (sys.executable,)) -> tuple[int, str, str]:
        done = subprocess.run(
            [*python, "-c", LTRL, "doctor", *words],
            cwd=self.home,
            env=self.environment,
            text=True,
            capture_output=True,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def finds(self, *words: str, **options: Any) -> dict[str, dict[str, str]]:
        """Every finding by area and name; the exit status says whether one is missing."""
        code, out, err = self.says(*words, "--json", **options)
        assert out, err
        said = json.loads(out)
        assert said["ok"] == (code == 0) == all(f["mark"] != "missing" for f in said["findings"])
        return {f"{f['area']}/{f['name']}": f for f in said["findings"]}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def mark(finding: dict[str, str]) -> tuple[str, str, str]:
    return finding["mark"], finding["found"], finding["fix"]


def test_a_bare_machine_lacks_nothing_for_nothing_yet(machine: Machine) -> None:
    found = machine.finds()
    assert {f["mark"] for f in found.values()} <= {"ok", "absent"}
    assert found["python/Python"]["found"] == f"{sys.version.split()[0]}, {sys.executable}"
    assert mark(found["gpus/GPUs"]) == ("absent", "none: nvidia-smi finds no GPU", "")
    assert mark(found["slurm/client"]) == ("absent", "no sbatch on the PATH", "")
    assert mark(found["container/runtimes"]) == ("absent", "none", "")


def test_gpus_are_counted_against_the_profile(machine: Machine) -> None:
    machine.program("nvidia-smi", NVIDIA_SMI)
    found = machine.finds("--cluster", machine.file("four.yaml", CLUSTER))
    shown = "2: NVIDIA H100 80GB HBM3 (80 GiB, 78 free), NVIDIA H100 80GB HBM3 (80 GiB, 1 free)"
    assert mark(found["gpus/GPUs"]) == ("missing", shown, "`gpus_per_node: 2` in the profile")
    assert mark(found["gpus/driver"]) == ("ok", "550.54.15, CUDA up to 12.4", "")
    assert (
        machine.finds("--cluster", machine.file("two.yaml", CLUSTER | {"gpus_per_node": 2}))["gpus/GPUs"]["mark"]
        == "ok"
    )


def test_a_driver_that_fails_is_no_gpu(machine: Machine) -> None:
    machine.program("nvidia-smi", "echo 'NVIDIA-SMI has failed' ; exit 9")
    assert machine.finds()["gpus/GPUs"]["found"] == "none: nvidia-smi finds no GPU"


def test_slurm_is_asked_for_its_version_and_its_controller(machine: Machine) -> None:
    profile = machine.file("slurm.yaml", SLURM)
    absent = machine.finds("--cluster", profile)
    assert mark(absent["slurm/client"])[:2] == ("missing", "no sbatch on the PATH")
    machine.program("sbatch", "echo slurm 24.05.3")
    machine.program("scontrol", "echo 'Slurmctld(primary) at head is DOWN'")
    down = machine.finds("--cluster", profile)
    assert mark(down["slurm/client"]) == ("ok", "slurm 24.05.3", "")
    assert mark(down["slurm/controller"]) == ("missing", "Slurmctld(primary) at head is DOWN", "scontrol ping; sinfo")
    machine.program("scontrol", "echo 'Slurmctld(primary) at head is UP'")
    assert machine.finds("--cluster", profile)["slurm/controller"]["mark"] == "ok"
    machine.program("sbatch", "echo 'sbatch: fatal: Could not establish a configuration source' >&2; exit 1")
    broken = machine.finds("--cluster", profile)["slurm/client"]
    assert mark(broken)[:2] == ("missing", "sbatch fails: sbatch: fatal: Could not establish a configuration source")


def test_a_docker_whose_daemon_does_not_answer_is_missing(machine: Machine) -> None:
    name = machine.file("box.yaml", CLUSTER | {"gpus_per_node": 0, "container": {"runtime": "docker", "image": "img"}})
    machine.program("docker", "[[ $1 == --version ]] && echo Docker version 27.5.1")
    fix = "docker version; start its daemon, or another `container.runtime`: podman has none"
    shown = "Docker version 27.5.1; docker's daemon does not answer"
    assert mark(machine.finds("--cluster", name)["container/docker"]) == ("missing", shown, fix)


def test_a_profiles_runtime_image_paths_and_variables_are_looked_for(machine: Machine) -> None:
    (machine.home / "here").mkdir()
    profile = CLUSTER | {
        "gpus_per_node": 0,
        "container": {"runtime": "apptainer", "image": f"{machine.home}/nemo.sif"},
        "shared_paths": [f"{machine.home}/here", f"{machine.home}/gone"],
        "environment": {"WANDB_API_KEY": "${env:WANDB_API_KEY}", "LEVEL": "${env:LEVEL:-1}"},
    }
    name = machine.file("box.yaml", profile)
    found = machine.finds("--cluster", name)
    assert {key for key, f in found.items() if f["mark"] == "missing"} == {
        "container/apptainer",
        "container/image",
        f"shared paths/{machine.home}/gone",
        "tokens/WANDB_API_KEY",
    }
    assert mark(found["tokens/WANDB_API_KEY"]) == ("missing", "not set", "export WANDB_API_KEY=…")
    machine.program("apptainer", "echo apptainer version 1.3.4")
    (machine.home / "nemo.sif").touch()
    (machine.home / "gone").mkdir()
    machine.environment["WANDB_API_KEY"] = "a-very-secret-key"
    code, out, err = machine.says("--cluster", name)
    assert (code, err) == (0, "nothing is missing for this\n")
    assert "apptainer version 1.3.4" in out
    assert "secret" not in out + err


def test_keys_are_also_found_where_their_programs_keep_them(machine: Machine) -> None:
    (machine.home / ".netrc").write_text("machine api.wandb.ai login user password secret-word\n")
    (machine.home / "hf").mkdir()
    (machine.home / "hf" / "token").write_text("secret-word")
    machine.environment["HF_HOME"] = str(machine.home / "hf")
    _, out, _ = machine.says()
    found = machine.finds()
    assert mark(found["tokens/WANDB_API_KEY"])[:2] == ("ok", f"in {machine.home}/.netrc")
    assert mark(found["tokens/HF_TOKEN"])[:2] == ("ok", f"in {machine.home}/hf/token")
    assert "secret-word" not in out


@contextmanager
def models(status: int, body: str) -> Iterator[tuple[str, list[str]]]:
    """A server that answers `/v1/models`; its address, and the keys that it was shown."""
    keys: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            keys.append(self.headers.get("authorization", ""))
            self.send_response(status if self.path == "/v1/models" else 404)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", keys
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def judged(machine: Machine, address: str) -> tuple[str, str]:
    """What is said of a judge at that address, for the quickstart."""
    machine.environment["JUDGE_KEY"] = "key-1"
    judge = {"backend": "openai", "base_url": address, "model": "judge-1", "api_key": "${env:JUDGE_KEY}"}
    quickstart = (ROOT / "specs" / "quickstart.yaml").read_text("utf-8")
    spec = machine.home / "spec.yaml"
    spec.write_text(re.sub(r"judge:\n(    .*\n)+", f"judge: {json.dumps(judge)}\n", quickstart))
    found = machine.finds(str(spec))[f"judge/{address}"]
    return found["mark"], found["found"]


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, '{"data": [{"id": "judge-1"}]}', ("ok", "it answers and has `judge-1`")),
        (200, '{"data": [{"id": "other"}]}', ("missing", "it has no model `judge-1`, but other")),
        (200, "<html>", ("ok", "it answers, and lists no models")),
        (404, "", ("ok", "it answers, and lists no models: HTTP 404")),
        (401, "", ("missing", "it refuses the key: HTTP 401")),
    ],
)
def test_a_judge_is_asked_for_its_models(machine: Machine, status: int, body: str, expected: tuple[str, str]) -> None:
    with models(status, body) as (address, keys):
        assert judged(machine, address) == expected
    assert keys == ["Bearer key-1"]


def test_a_judge_that_is_not_there_is_missing(machine: Machine) -> None:
    with models(200, "") as (address, _):
        pass
    assert judged(machine, address) == ("missing", "no answer: [Errno 111] Connection refused")


def test_a_judge_of_a_cluster_need_not_answer_here(machine: Machine) -> None:
    machine.environment["JUDGE_API_KEY"] = "key"
    found = machine.finds(str(ROOT / "specs" / "qwen4b.yaml"))
    assert found["judge/http://judge:8000/v1"]["mark"] == "unsure"
    assert found["hub/Qwen/Qwen3-4B-Thinking-2507"]["mark"] == "unsure"


def bare_site(directory: Path) -> Path:
    """A site directory with what ltrl itself depends on, and none of its extras."""
    directory.mkdir()
    left, seen = ["ltrl"], set[str]()
    while left:
        name = left.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # for another Python or system
            continue
        left += [m[0] for line in found.requires or [] if "extra" not in line and (m := re.match(r"[\w.-]+", line))]
        for top in {file.parts[0] for file in found.files or [] if file.parts[0] != ".."}:
            if not top.endswith(".pth") and not (directory / top).exists():
                (directory / top).symlink_to(found.locate_file(top))
    return directory


def test_it_works_with_no_extra_installed_and_names_what_to_install(machine: Machine, tmp_path: Path) -> None:
    places = (bare_site(tmp_path / "site"), ROOT, ROOT / "backends", ROOT / "templates")
    machine.environment["PYTHONPATH"] = os.pathsep.join(map(str, places))
    found = machine.finds(str(ROOT / "specs" / "quickstart.yaml"), python=(sys.executable, "-S"))
    local = found["packages/ltrl[local]"]
    assert (local["mark"], local["fix"]) == ("missing", "pip install 'ltrl[local]'")
    assert local["found"].startswith("not installed: accelerate, ")
    assert found["packages/ltrl[server]"]["mark"] == "absent"


def test_an_unknown_cluster_is_a_mistake(machine: Machine) -> None:
    code, out, err = machine.says("--cluster", "nowhere")
    assert (code, out, err.partition(":")[0]) == (1, "", "error[LTRL023]")
