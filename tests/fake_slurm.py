"""Slurm's clients, behaving: jobs really run on this machine, one after the other command sees the same states.

The real one is tested in `tests/slurm/`; this one is there in any environment and answers at once.
"""

import os
import stat
from pathlib import Path

CLIENTS = {
    "sbatch": r"""
[[ -e $fake/down ]] && refuse 'sbatch: error: Batch job submission failed: Unable to contact slurm controller'
for word in "$@"; do case $word in
  --chdir=*) directory=${word#*=} ;; --output=*) output=${word#*=} ;; --comment=*) comment=${word#*=} ;;
esac; done
script=${!#}
grep -q '^#SBATCH.*--partition=wrong' "$script" && refuse 'sbatch: error: invalid partition specified: wrong
sbatch: error: Batch job submission failed: Invalid partition name specified'
id=1; until mkdir "$fake/jobs/$id" 2>/dev/null; do id=$((id + 1)); done
cd "$directory"; job=$fake/jobs/$id
printf '%s\n' "$@" >"$job/argv"; env >"$job/env"; printf '%s' "$comment" >"$job/comment"; cp "$script" "$job/script"
if [[ -e $fake/hold ]]; then echo PENDING >"$job/state"; echo Priority >"$job/reason"; else
  echo RUNNING >"$job/state"
  SLURM_JOB_ID=$id SLURM_JOB_NODELIST=$(<"$fake/nodes") setsid bash -c '
    echo $$ >"$1/pid"; bash "$1/script" >>"$2" 2>&1; status=$?
    [[ $(<"$1/state") == RUNNING ]] || exit 0
    if (( status )); then echo FAILED; else echo COMPLETED; fi >"$1/state"' _ "$job" "$output" >/dev/null 2>&1 &
fi
[[ -e $fake/die_after_sbatch ]] && kill -KILL "$PPID"
echo "Submitted batch job $id"
""",
    "squeue": r"""
echo squeue >>"$fake/calls"
[[ -e $fake/down ]] && refuse 'slurm_load_jobs error: Unable to contact slurm controller (connect failure)'
[[ -e $fake/forgotten ]] && exit 0
for job in "$fake"/jobs/*; do
  [[ -s $job/state ]] || continue
  reason=$(cat "$job/reason" 2>/dev/null || echo None)
  echo "${job##*/}|$(<"$job/state")|2026-01-01T00:00:00|$(<"$job/comment")|$reason"
done
""",
    "sacct": r"""
echo sacct >>"$fake/calls"
[[ -e $fake/accounting ]] || refuse 'Slurm accounting storage is disabled'
for word in "$@"; do case $word in --jobs=*) ids=${word#*=} ;; esac; done
for id in ${ids//,/ }; do [[ -s $fake/jobs/$id/state ]] && echo "$id|$(<"$fake/jobs/$id/state")"; done; true
""",
    "scontrol": r"""
[[ $1 == show && $2 == hostnames ]] || refuse 'slurm_load_jobs error: Invalid job id specified'
tr , '\n' <<<"$3"
""",
    "scancel": r"""
if [[ $1 == --signal=* ]]; then # to the steps only
  for step in "$fake/jobs/$2/steps"/*; do kill -TERM "${step##*/}" 2>/dev/null; done
  exit 0
fi
job=$fake/jobs/$1
[[ -d $job ]] || refuse "scancel: error: Kill job error on job id $1: Invalid job id specified"
[[ $(<"$job/state") =~ RUNNING|PENDING ]] || exit 0
echo "CANCELLED by 0" >"$job/state"
[[ -e $job/pid ]] && kill -TERM -- "-$(<"$job/pid")"
true
""",
    "srun": r"""
while [[ $1 == -* ]]; do shift; done
mkdir -p "$fake/jobs/$SLURM_JOB_ID/steps"; touch "$fake/jobs/$SLURM_JOB_ID/steps/$$"
exec "$@"
""",
}


class FakeSlurm:
    """A directory of clients and what they know."""

    def __init__(self, directory: Path, nodes: str = "node1") -> None:
        self.directory = directory
        (directory / "jobs").mkdir(parents=True)
        (directory / "bin").mkdir()
        (directory / "nodes").write_text(nodes)
        for name, body in CLIENTS.items():
            path = directory / "bin" / name
            path.write_text(f'#!/bin/bash\nfake={directory}\nrefuse() {{ echo "$1" >&2; exit 1; }}\n{body}')
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
        self.path = f"{directory / 'bin'}{os.pathsep}{os.environ['PATH']}"

    def set(self, *switches: str) -> None:
        """Turns on `down`, `hold`, `forgotten`, `accounting` or `die_after_sbatch`."""
        for switch in switches:
            (self.directory / switch).touch()

    def clear(self, *switches: str) -> None:
        """Turns them off."""
        for switch in switches:
            (self.directory / switch).unlink()

    def job(self, number: int) -> Path:
        """What is known of a job."""
        return self.directory / "jobs" / str(number)

    def calls(self) -> list[str]:
        """Questions asked since the last time."""
        path = self.directory / "calls"
        found = path.read_text().split() if path.exists() else []
        path.unlink(missing_ok=True)
        return found
