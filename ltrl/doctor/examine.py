"""All findings, the slow ones side by side."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from ltrl.doctor import cluster, machine, services
from ltrl.doctor.finding import Finding
from ltrl.doctor.wanted import Wanted

__all__ = ["examine"]

CHECKS = (
    *(machine.python, machine.packages, machine.gpus, machine.disks, machine.hub),
    *(cluster.scheduler, cluster.containers, cluster.shared_paths),
    *(services.tokens, services.judges),
)


def examine(wanted: Wanted) -> list[Finding]:
    """What was found, area by area; takes as long as the slowest program or server that is asked."""
    with ThreadPoolExecutor(len(CHECKS)) as pool:
        return [finding for found in pool.map(lambda check: list(check(wanted)), CHECKS) for finding in found]
