"""A cluster profile out of what Slurm's clients print; the real ones are in `tests/slurm/`."""

import json
import os
import stat
from pathlib import Path

import pytest
from test_cli import ltrl

from ltrl import probe
from ltrl.compile import checked_profile
from ltrl.errors import Code, LtrlError, Source
from ltrl.source import parse

SINFO = """\
n1|gpu*|gpu:h100:8(S:0-1)|192|2063000|3-00:00:00|1-64|idle|ib,h100
n2|gpu*|gpu:h100:8(S:0-1)|192|2063000|3-00:00:00|1-64|mixed|ib,h100
n3|gpu*|gpu:a100:4|64|512000|3-00:00:00|1-64|drained*|(null)
n1|short|gpu:h100:8(S:0-1)|192|2063000|30:00|1-infinite|idle|ib,h100
c1|cpu|(null)|128|257000|infinite|1-infinite|idle|(null)
m1|odd|gpu:v100:2,gpu:nvidia_a100-sxm4-40gb:2,shard:8|8|1|1:00:00|2|down|(null)
"""
CONFIG = """\
ClusterName             = tail
SLURM_VERSION           = 24.05.3
AccountingStorageType   = accounting_storage/slurmdbd
"""


@pytest.fixture
def clients(tmp_path, monkeypatch):
    """Slurm's clients, which print what files beside them say."""
    folder = tmp_path / "bin"
    folder.mkdir()
    said = {"sinfo": SINFO, "scontrol": CONFIG, "srun": "  --container-image=…\n", "sacctmgr": "root\nlab\nlab\n"}
    for name, text in said.items():
        (folder / f"{name}.txt").write_text(text)
        path = folder / name
        path.write_text(f'#!/bin/bash\ncat "{folder}/{name}.txt"\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    return folder


def refusal(act):
    with pytest.raises(LtrlError) as caught:
        act()
    [found] = caught.value.diagnostics
    return found.code, found.message, found.hint


def test_a_profile_says_what_is_known_and_remarks_on_the_rest(clients):
    site = probe.probe()
    text = probe.profile(site, probe.choose(site))
    assert text == (
        "# Partition `gpu` of the Slurm cluster `tail` (24.05.3): 3 nodes, 2 of them up.\n"
        "#   2 with 8 GPUs of type `h100`, 192 CPUs and 2,015 GiB of memory each\n"
        "#   1 with 4 GPUs of type `a100`, 64 CPUs and 500 GiB of memory each\n"
        "# Features, for `constraint`: h100, ib\n"
        "# Accounting is on: jobs that are over stay known (sacct).\n"
        "kind: cluster\n"
        "executor: slurm\n"
        "nodes: 2  # of one job; the partition has 2 of this kind and a job may have at most 64\n"
        "gpus_per_node: 8\n"
        "gpu_memory_gb: 80  # of `h100`\n"
        "minutes: 4320  # the most that the partition allows\n"
        "slurm:\n"
        "  partition: gpu\n"
        "  account: lab  # or root\n"
        "  gres: gpu:h100\n"
        "# srun starts containers (pyxis):\n"
        "# container:\n"
        "#   runtime: pyxis\n"
        "#   image: nvcr.io#nvidia/nemo-rl:v0.7.0\n"
        "# setup:  # without a container: what makes `python` the one to train with\n"
        "#   - module load cuda\n"
        "# shared_paths: [/shared]  # models, data and caches that every node sees\n"
    )


def test_every_profile_passes_check(clients):
    site = probe.probe()
    for partition in site.partitions:
        text = probe.profile(site, partition)
        found = checked_profile(parse(Source("p.yaml", text, "p.yaml")))
        assert found.slurm is not None
        assert (found.slurm.partition, found.gpus_per_node) == (partition.name, partition.usual[0].gpus)


def test_odd_machines_are_read(clients):
    (clients / "srun.txt").write_text("")
    (clients / "scontrol.txt").write_text("AccountingStorageType   = accounting_storage/none\n")
    site = probe.probe()
    odd = probe.choose(site, "odd")
    assert (odd.usual, odd.num_up, odd.max_nodes, odd.max_minutes) == ((probe.Shape(4, "", 8, 1), 1), 0, 2, 60)
    assert (site.name, site.version, site.accounts) == ("slurm", "unknown", ())
    assert not site.has_accounting
    assert not site.has_pyxis
    text = probe.profile(site, odd)
    assert "nodes: 1  # of one job" in text
    assert "gpu_memory_gb: 80  # a guess, Slurm does not know it: ask nvidia-smi on a node" in text
    assert probe.choose(site, "short").max_minutes == 30


def test_memory_follows_from_the_type_where_it_can():
    known = {"h100": 80, "nvidia_a100-sxm4-40gb": 40, "NVIDIA-H200": 140, "a100": None, "": None}
    assert {name: probe._gpu_gib(name) for name in known} == known


@pytest.mark.parametrize("name", ["on", "123", "a b", "x: y", "#a", "ü", "true", "a'\"", "gpu"])
def test_hostile_names_stay_names_in_the_profile(clients, name):
    (clients / "sinfo.txt").write_text(f"n1|{name}*|gpu:8|1|1|infinite|1-infinite|idle|(null)\n")
    site = probe.probe()
    found = checked_profile(parse(Source("p.yaml", probe.profile(site, probe.choose(site)), "p.yaml")))
    assert found.slurm is not None
    assert found.slurm.partition == name


def test_the_choice_between_partitions_is_the_users(clients):
    (clients / "sinfo.txt").write_text(SINFO.replace("gpu*|", "gpu|"))
    site = probe.probe()
    assert refusal(lambda: probe.choose(site)) == (
        Code.NO_SLURM,
        "`tail` has these partitions, and none of them is the default: `gpu`, `short`, `cpu`, `odd`",
        "choose with `--partition NAME`, or `--all` writes a profile of each",
    )
    assert refusal(lambda: probe.choose(site, "big"))[1] == "`tail` has no partition `big`"


def test_without_slurm_it_says_where_to_run_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    code, message, hint = refusal(probe.probe)
    assert (code, message) == (
        Code.NO_SLURM,
        "there is no Slurm on this machine: `sinfo` and `scontrol` not on the PATH",
    )
    assert hint is not None


def test_a_controller_that_does_not_answer_is_told(clients):
    (clients / "sinfo").write_text("#!/bin/bash\necho 'slurm_load_partitions: Unable to contact' >&2; exit 1\n")
    assert refusal(probe.probe)[1] == "Slurm does not answer: slurm_load_partitions: Unable to contact"


def test_profiles_are_written_found_listed_and_shown(clients, tmp_path: Path):
    here = {"LTRL_CONFIG_DIR": str(tmp_path / "config")}
    done = ltrl("cluster", "probe", "--all", "--name", "site", cwd=tmp_path, **here)
    assert (done.returncode, done.stdout.split()) == (
        0,
        [f"config/clusters/site-{p}.yaml" for p in ("gpu", "short", "cpu", "odd")],
    )
    assert ltrl("check", *done.stdout.split(), cwd=tmp_path).returncode == 0
    assert list(json.loads(ltrl("cluster", "list", "--json", cwd=tmp_path, **here).stdout)) == [
        "site-cpu", "site-gpu", "site-odd", "site-short",
    ]  # fmt: skip
    again = ltrl("cluster", "probe", "--partition", "gpu", "-o", "config/clusters/site-gpu.yaml", cwd=tmp_path, **here)
    assert (again.returncode, again.stderr) == (
        1,
        "error[LTRL032]: `config/clusters/site-gpu.yaml` exists already\nhint: `--replace` overwrites it\n",
    )
    shown = json.loads(ltrl("cluster", "show", "site-gpu", "--json", cwd=tmp_path, **here).stdout)
    assert (shown["slurm.gres"], shown["minutes"]) == ("gpu:h100", 4320)
    assert ltrl("cluster", "probe", "--all", cwd=tmp_path, **here).returncode == 2
