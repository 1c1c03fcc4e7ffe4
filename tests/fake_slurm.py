"""The mock Slurm that ltrl offers to its users, first on the PATH of a test.

The real one is tested in `tests/slurm/`; this one is there in any environment and answers at once.
"""

import os
from pathlib import Path

from ltrl import mock


class FakeSlurm:
    """A mock Slurm and what a test asks of it."""

    def __init__(self, directory: Path, nodes: str = "node1") -> None:
        self.directory = directory
        self.path = f"{mock.install(directory)}{os.pathsep}{os.environ['PATH']}"
        (directory / "nodes").write_text(nodes)
        (directory / "refused_partitions").write_text("wrong")
        (directory / "calls").touch()

    def set(self, *switches: str) -> None:
        """Turns on one of `mock.SWITCHES`, or `die_after_sbatch`."""
        for switch in switches:
            mock.switch(self.directory, switch, on=True)

    def clear(self, *switches: str) -> None:
        """Turns them off; what was held starts."""
        for switch in switches:
            mock.switch(self.directory, switch, on=False)

    def send(self, job: int | str, event: str, *, requeue: bool = True) -> None:
        """Lets one of `mock.EVENTS` happen to a job."""
        mock.send(self.directory, str(job), event, requeue=requeue)

    def job(self, number: int | str) -> Path:
        """What is known of a job."""
        return self.directory / "jobs" / str(number)

    def calls(self) -> list[str]:
        """Clients called since the last time, but for those that jobs call."""
        path = self.directory / "calls"
        found = path.read_text().split()
        path.write_text("")
        return found
