"""The machines."""

from __future__ import annotations

from collections.abc import Iterator

from ltrl_backends.nemo_rl.checks.rule import Conf, Problem, rule


@rule("C0", "training and sampling need GPUs", "nemo_rl/distributed/virtual_cluster.py:780")
def _(c: Conf) -> Iterator[Problem]:
    if not c.cluster.gpus_per_node:
        yield Problem(
            c.field("engine"),
            f"the cluster profile `{c.resolved.cluster_name}` has no GPUs (`gpus_per_node` 0)",
            "`--cluster slurm`, or a profile with `gpus_per_node`",
        )


@rule("C6", "training nodes fill whole NVLink segments", "nemo_rl/distributed/virtual_cluster.py:392")
def _(c: Conf) -> Iterator[Problem]:
    size, nodes = c["cluster.segment_size"], c.cluster.nodes - (c.spec.rollout.nodes or 0)
    if size and nodes % size:
        yield Problem(
            c.at("cluster.segment_size"),
            f"{nodes} training nodes do not fill segments of `cluster.segment_size` {size}",
            "leave it out",
        )


@rule("C7", "port ranges begin below their end", "nemo_rl/distributed/virtual_cluster.py:152")
def _(c: Conf) -> Iterator[Problem]:
    defaults = {"cluster.master_port_range": (25000, 28000), "policy.generation.port_range": (11001, 15000)}
    for prefix, (low, high) in defaults.items():
        first, last = c[f"{prefix}_low"], c[f"{prefix}_high"]
        if (first or low) >= (last or high):
            key = f"{prefix}_low" if first is not None else f"{prefix}_high"
            yield Problem(
                c.at(key), f"`{prefix}` goes from {first or low} to {last or high}", f"leave it out: {low} to {high}"
            )
