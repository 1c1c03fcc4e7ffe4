"""Options of sbatch that a cluster profile adds in the site's own words."""

from __future__ import annotations

import difflib
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

__all__ = ["Option", "objections", "option"]

PATIENCE_S = 5
"""sbatch answers in milliseconds, unless it looks for a configuration that is not there."""

SHORT = {
    "A": "account", "a": "array", "B": "extra-node-info", "b": "begin", "C": "constraint", "c": "cpus-per-task",
    "D": "chdir", "d": "dependency", "e": "error", "F": "nodefile", "G": "gpus", "H": "hold", "h": "help", "i": "input",
    "J": "job-name", "k": "no-kill", "L": "licenses", "M": "clusters", "m": "distribution", "N": "nodes", "n": "ntasks",
    "O": "overcommit", "o": "output", "p": "partition", "Q": "quiet", "q": "qos", "S": "core-spec",
    "s": "oversubscribe", "t": "time", "V": "version", "v": "verbose", "W": "wait", "w": "nodelist", "x": "exclude",
}  # fmt: skip
"""Long forms of sbatch's short options (`man sbatch`, 22.05 to 25.05)."""

OURS = {
    **dict.fromkeys(("account", "constraint", "partition", "qos", "reservation", "segment", "switches", "gres",
                     "exclusive"), "write it as the field `slurm.{}`"),
    **dict.fromkeys(("gpus", "gpus-per-node", "gpus-per-socket", "gpus-per-task"),
                    "write `gpus_per_node`, and `slurm.gres` for their type"),
    **dict.fromkeys(("ntasks", "ntasks-per-core", "ntasks-per-gpu", "ntasks-per-node", "ntasks-per-socket"),
                    "every node has one task"),
    **dict.fromkeys(("chdir", "error", "export", "export-file", "get-user-env", "input", "open-mode", "output"),
                    "the job runs in its run directory and logs there; variables go under `environment`"),
    **dict.fromkeys(("help", "parsable", "quiet", "test-only", "usage", "verbose", "version", "wait", "wrap"),
                    "it changes what sbatch does, not the job"),
    "array": "write a `sweep` in the spec",
    "clusters": "probe and choose the other cluster as a profile of its own",
    "comment": "the comment is how a job of a run is found again",
    "cpus-per-task": "write it as the field `slurm.cpus_per_node`",
    "dependency": "write `stages` in the spec",
    "job-name": "the spec's `name` is the job's",
    "kill-on-invalid-dep": "write `stages` in the spec",
    "mem": "write it as the field `slurm.memory`",
    "nodes": "write `nodes`",
    "no-requeue": "whether a job is requeued follows from its run",
    "requeue": "whether a job is requeued follows from its run",
    "signal": "what a job is told before its end follows from `minutes`",
    "time": "write `minutes`",
}  # fmt: skip
"""What ltrl itself sets, or what would break how it follows a job; and what to do instead."""

KNOWN = frozenset({
    *SHORT.values(), *OURS,
    "acctg-freq", "batch", "bb", "bbf", "cluster-constraint", "consolidate-segments", "container", "container-id",
    "contiguous", "cores-per-socket", "cpu-freq", "cpus-per-gpu", "deadline", "delay-boot", "extra", "gid", "gpu-bind",
    "gpu-freq", "gres-flags", "hint", "ignore-pbs", "mail-type", "mail-user", "mcs-label", "mem-bind", "mem-per-cpu",
    "mem-per-gpu", "mincpus", "network", "nice", "oom-kill-step", "power", "prefer", "priority", "profile", "propagate",
    "reboot", "resv-ports", "sockets-per-node", "spread-job", "spread-segments", "stepmgr", "thread-spec",
    "threads-per-core", "time-min", "tmp", "tres-bind", "tres-per-task", "uid", "use-min-nodes", "wait-all-nodes",
    "wckey",
})  # fmt: skip
"""Long options of sbatch 22.05 to 25.05; a site's plugins add more, which only its own sbatch knows."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option, in its long form if it has one."""

    name: str
    """Without dashes."""
    value: str | None

    def __str__(self) -> str:
        return f"--{self.name}" if self.value is None else f"--{self.name}={self.value}"


def option(line: str) -> Option:
    """The option in a line as one would type it: `--switches=1`, `--hold`, `-x node7`, `-xnode7`.

    Raises ValueError with what is wrong, and with what to do as a second argument where that is known.
    """
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise ValueError(f"`{line}` is not an option of sbatch: {str(error).lower()}") from None
    if not words or not re.match("-[A-Za-z]|--[a-z]", words[0]):
        raise ValueError(f"`{line}` is not an option of sbatch", "write it as on the command line: `--switches=1`")
    first, *rest = words
    if first.startswith("--"):
        name, separator, value = first[2:].partition("=")
        values = [*([value] if separator else []), *rest]
    else:
        name = SHORT.get(first[1], "")
        values = [*([first[2:].removeprefix("=")] if first[2:] else []), *rest]
        if not name:
            raise ValueError(f"sbatch has no option `-{first[1]}`")
    if len(values) > 1:
        raise ValueError(f"`{line}` is more than one option", "write each as an item of its own")
    if hint := OURS.get(name):
        raise ValueError(f"`--{name}` is set by ltrl itself", hint.format(name))
    return Option(name, values[0] if values else None)


def objections(lines: Iterable[str]) -> Iterator[tuple[int, str, str | None]]:
    """(index, what is wrong, hint) of each line that sbatch would refuse.

    The sbatch of this machine is asked, which knows its version and its plugins and submits nothing; where there is
    none, or none that answers, a list of all options decides.
    """
    is_there: bool | None = None
    for i, line in enumerate(lines):
        try:
            found = option(line)
        except ValueError:  # told elsewhere, and never passed to a command
            continue
        if is_there is None:
            is_there = _asked() == ""
        if is_there:
            if said := _asked(str(found)):
                yield i, f"sbatch refuses `{line}`: {said}", _nearest(found.name) if "unrecognized" in said else None
        elif found.name not in KNOWN:
            yield i, f"sbatch has no option `--{found.name}`", _nearest(found.name)


def _asked(*words: str) -> str | None:
    """What sbatch has against options, empty if nothing; None when there is no sbatch that answers."""
    program = shutil.which("sbatch")
    if program is None:
        return None
    try:
        asked = subprocess.run(
            [program, *words, "--help"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if asked.returncode == 0:
        return ""
    said = [line.strip() for line in asked.stderr.splitlines() if line.strip() and not line.startswith("Try ")]
    return re.sub(r"^\S*sbatch: (error: )?", "", said[-1]) if said else f"status {asked.returncode}"


def _nearest(name: str) -> str | None:
    close = difflib.get_close_matches(name, sorted(KNOWN - {name}), n=1, cutoff=0.7)
    return f"did you mean `--{close[0]}`?" if close else None
