"""What a node is looked at for, with an nvidia-smi that says what a test likes."""

import hashlib
import json
import os
from dataclasses import astuple
from pathlib import Path

import pytest

from ltrl import preflight
from ltrl.preflight import Check, Report


@pytest.fixture
def node(tmp_path, monkeypatch):
    """A bundle, a place for the reports, and an empty PATH but for what a test puts there."""
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "job.sbatch").write_text("true\n")
    files = {"job.sbatch": hashlib.sha256(b"true\n").hexdigest()}
    (bundle / "ltrl.lock.json").write_text(json.dumps({"files": files}))
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}/usr/bin{os.pathsep}/bin")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.delenv("NCCL_SOCKET_IFNAME", raising=False)
    return tmp_path


def gpus(node, *rows):
    path = node / "bin" / "nvidia-smi"
    path.write_text("#!/bin/sh\n" + "".join(f"echo '{row}'\n" for row in rows))
    path.chmod(0o755)


def look(node, *options, gpus=2):
    words = ["--node=n1", f"--out={node / 'preflight'}", f"--bundle={node / 'bundle'}", f"--gpus={gpus}"]
    words += ["--max-gpu-memory-used-mb=100", "--min-free-disk-gb=0.001", "--max-clock-skew-seconds=60"]
    status = preflight.main([*words, *options])
    [report] = preflight.reports(node)
    return status, report


def failures(report: Report):
    return [astuple(c)[:3] for c in report.checks if not c.is_ok]


def test_a_fit_node_passes_and_leaves_a_report(node, capsys):
    gpus(
        node, "0, GPU-a, 3, 550.54.15", "1, GPU-b, 7, 550.54.15", "2, GPU-c, 90000, 550.54.15"
    )  # the third is not ours
    status, report = look(node, "--driver=550.54", f"--disk={node}", f"--mount={node}")
    assert (status, report.first_failure, capsys.readouterr().out) == (0, None, "")
    digest = hashlib.sha256((node / "bundle" / "ltrl.lock.json").read_bytes()).hexdigest()[:12]
    assert report.checks[:4] == (
        Check("bundle", digest, "as compiled", True),
        Check("GPUs", "2", "2", True),
        Check("GPU memory in use", "7 MiB", "at most 100 MiB", True),
        Check("driver", "550.54.15", "550.54", True),
    )
    assert [c.name for c in report.checks[4:]] == ["mounts", "free disk", "clock"]


def test_every_thing_that_is_not_fit_is_in_the_report_and_the_first_is_said(node, capsys):
    gpus(node, "0, GPU-a, 300, 535.1")
    (node / "bundle" / "job.sbatch").write_text("false\n")
    options = ("--driver=550", "--mount=/no/where", f"--disk={node}", "--disk=/no/disk", "--network-interface=ib")
    status, report = look(node, *options)
    assert status == 1
    found = failures(report)
    up = found.pop(4)
    assert (up[0], up[2]) == ("network", "ib")
    assert found == [
        ("bundle", "`job.sbatch` is not as compiled", "as compiled"),
        ("GPUs", "1", "2"),
        ("GPU memory in use", "300 MiB", "at most 100 MiB"),
        ("driver", "535.1", "550"),
        ("mounts", "no /no/where", "/no/where"),
        ("free disk", "no /no/disk (no such file or directory)", "/no/disk"),
    ]
    assert capsys.readouterr().out == "bundle: `job.sbatch` is not as compiled, but as compiled is wanted\n"


def test_without_nvidia_smi_the_gpus_that_slurm_gave_are_counted(node):
    assert look(node)[1].checks[1] == Check("GPUs", "2 by CUDA_VISIBLE_DEVICES", "2", True)
    assert failures(look(node, gpus=8)[1]) == [("GPUs", "2 by CUDA_VISIBLE_DEVICES", "8")]
    assert failures(look(node, "--require-nvidia-smi")[1]) == [("GPUs", "no answer from `nvidia-smi`", "2")]
    gpus(node, "NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver")
    assert failures(look(node, "--require-nvidia-smi")[1]) == [("GPUs", "no answer from `nvidia-smi`", "2")]


def test_another_bundle_than_the_first_node_s_is_refused(node):
    [(name, _, wanted)] = failures(look(node, f"--bundle-hash={'0' * 64}")[1])
    assert (name, wanted) == ("bundle", "000000000000")


def test_interfaces_are_chosen_as_nccl_chooses_them():
    chosen = {
        p: [n for n in ("lo", "eth0", "eth01", "ib0") if preflight._is_chosen(n, p)]
        for p in ("", "eth0", "=eth0", "^lo,ib", "ib,eth01")
    }
    assert chosen == {
        "": ["eth0", "eth01", "ib0"],
        "eth0": ["eth0", "eth01"],
        "=eth0": ["eth0"],
        "^lo,ib": ["eth0", "eth01"],
        "ib,eth01": ["eth01", "ib0"],
    }


def test_a_report_that_was_cut_short_is_left_out(node):
    look(node)
    (Path(node) / "preflight" / "n2.json").write_text('{"node": "n2", "che')
    assert [r.node for r in preflight.reports(node)] == ["n1"]
