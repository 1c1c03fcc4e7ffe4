"""A Slurm that this machine plays, for trying things out: its clients behave like Slurm's, its jobs are real processes.

There is no daemon. A directory holds the jobs; every client looks at it and starts what can start, and each running job
is led by a process that enforces its time limit, delivers signals and writes down its end. This file imports nothing of
ltrl, so that a client starts in 25 ms: `mock.py DIRECTORY CLIENT [ARGUMENT...]`.

Nodes, GPUs and memory are names only; what a real Slurm checks beyond dependencies, array limits and time is taken.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["CLIENTS", "EVENTS", "SWITCHES", "install", "jobs", "send", "switch"]

EVENTS = {
    "timeout": "TIMEOUT",
    "oom": "OUT_OF_MEMORY",
    "preempt": "PREEMPTED",
    "node-fail": "NODE_FAIL",
    "cancel": "CANCELLED",
    "requeue": "REQUEUED",
}
"""What can happen to a job from outside, with the state it ends in."""

REQUEUING = ("preempt", "node-fail", "requeue")
"""Events after which a job with `--requeue` waits and starts again, as on most clusters."""

SWITCHES = ("hold", "down", "forgotten", "accounting")
"""`hold`: nothing starts; `down`: the controller does not answer; `forgotten`: squeue knows nothing; `accounting`:
sacct answers.
"""

OVER = ("CANCELLED", "COMPLETED", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT")

KILL_WAIT_S = 5.0
"""From SIGTERM to SIGKILL; Slurm's KillWait is 30."""

SHORT = {"-A": "account", "-J": "job-name", "-N": "nodes", "-a": "array", "-d": "dependency", "-o": "output",
         "-p": "partition", "-t": "time"}  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One job, or one task of an array."""

    path: Path

    @property
    def id(self) -> str:
        """`7`, or `7_3` for a task of an array."""
        return self.path.name

    @property
    def record(self) -> dict[str, Any]:
        """Options, environment and working directory, as submitted."""
        return dict(json.loads((self.path / "job.json").read_text()))

    def get(self, name: str, default: str = "") -> str:
        """A small file: `state`, `reason`, `start`, `end`, `restarts`, `exit`."""
        with suppress(OSError):
            return (self.path / name).read_text().strip()
        return default

    def put(self, name: str, value: object) -> None:
        """Replaces a small file."""
        draft = self.path / f".{name}.{os.getpid()}"
        draft.write_text(f"{value}\n")
        draft.replace(self.path / name)

    @property
    def state(self) -> str:
        """Slurm's word, without who cancelled."""
        return (self.get("state") or "PENDING").split()[0]

    @property
    def is_over(self) -> bool:
        """Whether it has ended for good."""
        return self.state in OVER


def install(directory: Path) -> Path:
    """Makes a directory a mock Slurm, if it is none; returns the folder of its clients."""
    folder = directory / "bin"
    (directory / "jobs").mkdir(parents=True, exist_ok=True)
    folder.mkdir(exist_ok=True)
    words = shlex.join([sys.executable, "-I", "-S", str(Path(__file__).resolve()), str(directory)])
    for name in CLIENTS:
        path = folder / name
        text = f'#!/bin/sh\nexec {words} {name} "$@"\n'
        if not path.is_file() or path.read_text() != text:
            draft = path.with_name(f".{name}.{os.getpid()}")
            draft.write_text(text)
            draft.chmod(0o755)
            draft.replace(path)
    return folder


def jobs(directory: Path) -> list[Job]:
    """All jobs, in the order of their submission."""

    def number(path: Path) -> list[int]:
        return [int(part) for part in path.name.split("_")]

    found = (path for path in (directory / "jobs").iterdir() if path.name[0].isdecimal())
    return [Job(path) for path in sorted(found, key=number)]


def switch(directory: Path, name: str, *, on: bool) -> None:
    """Turns one of the switches on or off; jobs that were held start."""
    path = directory / name
    if on:
        path.touch()
    else:
        path.unlink(missing_ok=True)
        _advance(directory)


def send(directory: Path, job_id: str, event: str, *, requeue: bool = True) -> None:
    """Lets something happen to a job; raises LookupError when there is no such job or it is over, and for all but a
    cancellation when it has not started.
    """
    for job in _select(directory, [job_id]):
        with _locked(directory):
            if job.is_over:
                raise LookupError(f"job {job.id} is over: {job.state}")
            if job.state == "PENDING" and event != "cancel":
                raise LookupError(f"job {job.id} has not started: {job.get('reason', 'None')}")
            again = event in REQUEUING and requeue and "requeue" in job.record["options"]
            if job.state == "PENDING":
                _end(job, EVENTS[event])
            else:
                job.put("event", f"{event} requeue" if again else event)
    _advance(directory)


def _raw(job_id: str) -> str:
    """A job's own number: tasks of an array have one beside that of the array."""
    return str(sum(int(part) for part in job_id.split("_")))


def _select(directory: Path, ids: list[str]) -> list[Job]:
    """The jobs with these ids; that of an array stands for all its tasks, though one of them has it too."""
    known = jobs(directory)
    found = []
    for wanted in ids:
        chosen = [job for job in known if wanted in (job.id, job.id.split("_")[0])]
        chosen = chosen or [job for job in known if wanted == _raw(job.id)]
        if not chosen:
            raise LookupError(f"Invalid job id specified: {wanted}")
        found += chosen
    return found


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    with (directory / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _advance(directory: Path) -> None:
    """Starts the jobs that can start, and says of the others why they wait."""
    with _locked(directory):
        known = jobs(directory)
        for job in known:
            if job.state in ("RUNNING", "COMPLETING") and _is_orphan(job):
                _end(job, "NODE_FAIL")
        for job in known:
            if job.state != "PENDING":
                continue
            reason = _waits(directory, job, known)
            if reason == "DependencyNeverSatisfied" and job.record["options"].get("kill-on-invalid-dep") == "yes":
                _end(job, "CANCELLED")
            elif reason:
                job.put("reason", reason)
            else:
                _start(directory, job)


def _waits(directory: Path, job: Job, known: list[Job]) -> str:
    options = job.record["options"]
    if "hold" in options:
        return "JobHeldUser"
    for condition in filter(None, re.split(r"[,?]", str(options.get("dependency", "")))):
        kind, *ids = condition.split(":")
        before = [j for j in known if {j.id, _raw(j.id), j.id.split("_")[0]} & {*ids}]
        if kind == "aftercorr":  # the task with the same index alone
            before = [j for j in before if j.id.partition("_")[2] == job.id.partition("_")[2]]
        if kind == "singleton":
            name = options.get("job-name")
            before = [j for j in known[: known.index(job)] if j.record["options"].get("job-name") == name]
        if kind == "after":  # begun, or cancelled
            if any(j.state == "PENDING" for j in before):
                return "Dependency"
            continue
        if not all(j.is_over for j in before):
            return "Dependency"
        good = [j.state == "COMPLETED" for j in before]
        if (kind in ("afterok", "aftercorr") and not all(good)) or (kind == "afternotok" and all(good)):
            return "DependencyNeverSatisfied"
    if limit := re.search(r"%(\d+)$", str(options.get("array", ""))):
        array = job.id.split("_")[0]
        if sum(j.state == "RUNNING" for j in known if j.id.split("_")[0] == array) >= int(limit.group(1)):
            return "JobArrayTaskLimit"
    return "Priority" if (directory / "hold").exists() else ""


def _start(directory: Path, job: Job) -> None:
    """Hands a job over to a process that leads it, and that holds a lock for as long as it lives."""
    job.put("state", "RUNNING")
    job.put("start", _now())
    for name in ("reason", "event", "end"):
        (job.path / name).unlink(missing_ok=True)
    with (job.path / "lead").open("a") as lead:
        fcntl.flock(lead, fcntl.LOCK_EX | fcntl.LOCK_NB)
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(directory), "lead", job.id, str(lead.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=(lead.fileno(),),
            cwd="/",
        )
        process.returncode = 0  # it outlives us: no warning at our end


def _is_orphan(job: Job) -> bool:
    """Whether the process that led a job is gone, with the machine it was on perhaps."""
    if not (job.path / "lead").is_file():
        return False
    with (job.path / "lead").open("a") as lead:
        try:
            fcntl.flock(lead, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _end(job: Job, state: str) -> None:
    job.put("state", f"CANCELLED by {os.getuid()}" if state == "CANCELLED" else state)
    (job.path / "reason").unlink(missing_ok=True)
    job.put("end", _now())


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S")


def _lead(directory: Path, job_id: str, lead: int) -> None:
    """Runs a job's script to its end, whatever that is; `lead` is the lock that says we live."""
    job = Job(directory / "jobs" / job_id)
    record = job.record
    minute = float(Job(directory).get("minute", "60"))  # seconds of one; tests have shorter ones
    limit = _minutes(str(record["options"].get("time", "60"))) * minute
    number, _, task = job_id.partition("_")
    raw = _raw(job_id)
    nodes = Job(directory).get("nodes", "localhost")
    environment = {
        **record["environment"],
        "PATH": f"{directory / 'bin'}{os.pathsep}{record['environment'].get('PATH', os.defpath)}",
        "SLURM_JOB_ID": raw,
        "SLURM_JOB_NODELIST": nodes,
        "SLURM_JOB_NUM_NODES": str(nodes.count(",") + 1),
        "SLURM_JOB_NAME": str(record["options"].get("job-name", "")),
        "LTRL_MOCK_JOB": job_id,
    }
    if task:
        environment |= {"SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": task}
    if gpus := re.search(r"gpu\b[^,]*:(\d+)$", str(record["options"].get("gres", ""))):
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, range(int(gpus[1]))))
    if restarts := job.get("restarts"):
        environment["SLURM_RESTART_COUNT"] = restarts
    output = str(record["options"].get("output", "slurm-%j.out"))
    for code, value in {"%A": number, "%a": task, "%j": raw}.items():
        output = output.replace(code, value)
    path = Path(record["directory"]) / output
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as log:
            child = subprocess.Popen(
                ["bash", str(job.path / "script")],
                cwd=record["directory"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
    except OSError:
        with _locked(directory):
            _end(job, "FAILED")
        _advance(directory)
        return
    job.put("pid", child.pid)
    event = _wait(job, child, limit, str(record["options"].get("signal", "")))
    _kill(child.pid)
    with _locked(directory):
        os.close(lead)  # it may start again at once
        if event.endswith(" requeue"):
            job.put("restarts", int(job.get("restarts", "0")) + 1)
            job.put("state", "PENDING")
            job.put("reason", "BeginTime")
            (job.path / "event").unlink(missing_ok=True)
        else:
            status = child.returncode
            job.put("exit", status)
            _end(job, EVENTS[event] if event else "FAILED" if status else "COMPLETED")
    _advance(directory)


def _wait(job: Job, child: subprocess.Popen[bytes], limit: float, warning: str) -> str:
    """Until the script has ended; returns the event that made it end, if there was one."""
    began = time.monotonic()
    early = re.fullmatch(r"(B:)?(\w+)(?:@(\d+))?", warning)
    while True:
        with suppress(subprocess.TimeoutExpired):
            child.wait(0.05)
            asked = job.get("event")
            return asked if asked.endswith(" requeue") else ""  # by the script, as the last thing that it did
        passed = time.monotonic() - began
        if early and passed >= limit - int(early.group(3) or 60):
            _signal(job, early.group(2), batch=bool(early.group(1)))
            early = None
        event = job.get("event") or ("timeout" if passed >= limit else "")
        if event:
            break
    job.put("state", "COMPLETING")
    if event.startswith(("oom", "node-fail")):
        return event  # nobody is told
    for pid in _members(child.pid):
        _kill_one(pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        child.wait(KILL_WAIT_S)
    return event


def _signal(job: Job, name: str, *, batch: bool) -> None:
    """Sends a signal to a job's steps, or to its script alone."""
    number = int(name) if name.isdecimal() else signal.Signals[f"SIG{name.removeprefix('SIG')}"].value
    folder = job.path / "steps"
    steps = [int(step.name) for step in folder.iterdir()] if folder.is_dir() else []
    for pid in [int(job.get("pid", "0"))] if batch else steps:
        if pid:
            _kill_one(pid, number)


def _kill(session: int) -> None:
    """Ends what is left of a job."""
    for _ in range(3):  # what is forked meanwhile, too
        for pid in _members(session):
            _kill_one(pid, signal.SIGKILL)


def _members(session: int) -> list[int]:
    """The processes of a session; its leader comes last, so that it does not see its children die unasked."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError, ValueError):
            fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            if fields[3] == str(session) and fields[0] != "Z":
                found.append(int(entry.name))
    return sorted(found, key=lambda pid: pid == session)


def _kill_one(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _minutes(text: str) -> float:
    """`90`, `90:30`, `1:30:00`, `2-12`, `2-12:30:00`, as sbatch has them."""
    days, dash, rest = text.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    hours, minutes, seconds = {
        1: (0, parts[0], 0) if not dash else (parts[0], 0, 0),
        2: (0, *parts) if not dash else (*parts, 0),
        3: tuple(parts),
    }[len(parts)]
    return int(days or 0) * 1440 + hours * 60 + minutes + seconds / 60


class Refused(Exception):
    """What a client prints before it ends with status 1."""


UNREACHABLE = "Unable to contact slurm controller (connect failure)"


def _options(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """Options and the rest, which begins at the first word that is none."""
    found: dict[str, str] = {}
    rest = list(words)
    while rest and rest[0].startswith("-"):
        word = rest.pop(0)
        if word.startswith("--"):
            name, _, value = word[2:].partition("=")
        else:
            name, value = SHORT.get(word[:2], word.lstrip("-")), word[2:]
            if word[:2] in SHORT and not value and rest:
                value = rest.pop(0)
        found[name] = value
    return found, rest


def _sbatch(directory: Path, words: list[str]) -> None:
    if (directory / "down").exists():
        raise Refused(f"sbatch: error: Batch job submission failed: {UNREACHABLE}")
    given, rest = _options(words)
    script = Path(rest[0]).read_text()
    options: dict[str, str] = {}
    for line in re.findall(r"^#SBATCH\s+(.*)$", script, re.MULTILINE):
        options |= _options(shlex.split(line, comments=True))[0]
    options |= given
    refused = Job(directory).get("refused_partitions").split()
    if options.get("partition") in refused:
        raise Refused(
            f"sbatch: error: invalid partition specified: {options['partition']}\n"
            "sbatch: error: Batch job submission failed: Invalid partition name specified"
        )
    if "test-only" in options:
        sys.stderr.write(f"sbatch: Job 1 to start at {_now()} using 1 processors on nodes localhost\n")
        return
    where = options.get("chdir") or str(Path.cwd())
    environment = {name: value for name, value in os.environ.items() if name != "LTRL_MOCK_JOB"}
    record = {"options": options, "environment": environment, "directory": where}
    tasks = _tasks(options["array"]) if "array" in options else [None]
    with _locked(directory):
        numbers = [sum(int(part) for part in job.id.split("_")) for job in jobs(directory)]
        number = max(numbers, default=0) + 1
        for task in tasks:
            path = directory / "jobs" / (str(number) if task is None else f"{number}_{task}")
            draft = directory / "jobs" / f".{path.name}"
            draft.mkdir()
            (draft / "script").write_text(script)
            (draft / "job.json").write_text(json.dumps(record))
            (draft / "argv").write_text("".join(f"{word}\n" for word in words))
            (draft / "comment").write_text(options.get("comment", ""))
            (draft / "submit").write_text(_now())
            (draft / "state").write_text("PENDING\n")
            draft.rename(path)
    _advance(directory)
    if (directory / "die_after_sbatch").exists():
        os.kill(os.getppid(), signal.SIGKILL)
    sys.stdout.write(f"{number}\n" if "parsable" in options else f"Submitted batch job {number}\n")


def _tasks(text: str) -> list[int | None]:
    """`0-19%4`, `1,3,5-9:2`."""
    found: list[int | None] = []
    for part in text.split("%", maxsplit=1)[0].split(","):
        span, _, step = part.partition(":")
        first, _, last = span.partition("-")
        found += range(int(first), int(last or first) + 1, int(step or 1))
    return found


FIELDS: dict[str, Callable[[Job], str]] = {
    "i": lambda job: job.id,
    "A": lambda job: _raw(job.id),
    "F": lambda job: job.id.split("_")[0],
    "K": lambda job: job.id.partition("_")[2] or "N/A",
    "T": lambda job: job.state,
    "S": lambda job: job.get("start", "N/A"),
    "V": lambda job: job.get("submit", "N/A"),
    "e": lambda job: job.get("end", "N/A"),
    "k": lambda job: job.get("comment", "(null)"),
    "r": lambda job: job.get("reason", "None"),
    "j": lambda job: str(job.record["options"].get("job-name", "")),
    "P": lambda job: str(job.record["options"].get("partition", "mock")),
    "N": lambda job: "" if job.state == "PENDING" else Job(job.path.parent.parent).get("nodes", "localhost"),
}


def _squeue(directory: Path, words: list[str]) -> None:
    if (directory / "down").exists():
        raise Refused(f"slurm_load_jobs error: {UNREACHABLE}")
    given, _ = _options(words)
    if (directory / "forgotten").exists():
        return
    _advance(directory)
    wanted = given["jobs"].split(",") if given.get("jobs") else None
    for job in jobs(directory):
        if wanted is not None and not {job.id, _raw(job.id), job.id.split("_")[0]} & {*wanted}:
            continue
        if "states" not in given and job.is_over:
            continue
        form = given.get("format", "%i %P %j %T %S %r")
        sys.stdout.write(re.sub(r"%[.\d]*(\w)", lambda m, job=job: FIELDS[m.group(1)](job), form) + "\n")  # type: ignore[misc]


def _sacct(directory: Path, words: list[str]) -> None:
    if not (directory / "accounting").exists():
        raise Refused("Slurm accounting storage is disabled")
    given, _ = _options(words)
    columns: dict[str, Callable[[Job], str]] = {
        "jobid": FIELDS["i"],
        "jobidraw": FIELDS["A"],
        "state": lambda job: job.get("state", "PENDING"),
        "start": lambda job: job.get("start", "Unknown"),
        "end": lambda job: job.get("end", "Unknown"),
        "submit": FIELDS["V"],
        "exitcode": lambda job: f"{job.get('exit', '0')}:0",
    }
    names = given["format"].lower().split(",")
    for job in jobs(directory):
        if job.id in given["jobs"].split(",") or job.id.split("_")[0] in given["jobs"].split(","):
            sys.stdout.write("|".join(columns[name](job) for name in names) + "\n")


def _scontrol(directory: Path, words: list[str]) -> None:
    _, rest = _options(words)
    match rest:
        case ["show", "hostnames", *names]:
            listed = names[0] if names else os.environ.get("SLURM_JOB_NODELIST", "")
            sys.stdout.write("".join(f"{name}\n" for name in _hosts(listed)))
        case ["show", "job", *more]:
            (wanted,) = [word for word in more if not word.startswith("-")]
            for job in _select(directory, [wanted]):
                told = job.get("event")  # of which it does not know yet
                word = "COMPLETING" if told and job.state == "RUNNING" else job.state
                restarts = int(job.get("restarts", "0")) + told.endswith(" requeue")
                first = f"JobId={job.id} JobName={FIELDS['j'](job)} JobState={word} Restarts={restarts}"
                fields = {"Reason": "r", "StartTime": "S", "EndTime": "e", "NodeList": "N", "Comment": "k"}
                sys.stdout.write(" ".join([first, *(f"{n}={FIELDS[code](job)}" for n, code in fields.items())]) + "\n")
        case ["show", "config"]:
            kept = "slurmdbd" if (directory / "accounting").exists() else "none"
            settings = {"AccountingStorageType": f"accounting_storage/{kept}", "ClusterName": "mock"}
            sys.stdout.write("".join(f"{name} = {value}\n" for name, value in settings.items()))
        case ["requeue", *ids]:
            for job in _select(directory, ids):
                if job.state == "PENDING" or job.get("event").endswith(" requeue"):
                    raise Refused(f"Job is pending execution for job {job.id}")
                send(directory, job.id, "requeue")
        case ["release", *ids]:
            for job in _select(directory, ids):
                record = job.record
                record["options"].pop("hold", None)
                (job.path / "job.json").write_text(json.dumps(record))
            _advance(directory)
        case _:
            raise Refused(f"scontrol: error: the mock Slurm does not know `{shlex.join(words)}`")


def _hosts(listed: str) -> Iterator[str]:
    """`node[1-3,7],login` one by one."""
    for part in re.findall(r"[^,\[]+(?:\[[^\]]*\])?", listed):
        name, _, ranges = part.rstrip("]").partition("[")
        for span in ranges.split(",") if ranges else [""]:
            first, _, last = span.partition("-")
            for i in range(int(first), int(last or first) + 1) if first else [None]:
                yield name if i is None else f"{name}{i:0{len(first)}}"


def _scancel(directory: Path, words: list[str]) -> None:
    given, ids = _options(words)
    if (directory / "down").exists():
        raise Refused(f"scancel: error: {UNREACHABLE}")
    try:
        chosen = _select(directory, ids)
    except LookupError as error:
        raise Refused(f"scancel: error: Kill job error on job id {ids[0]}: {error}") from None
    for job in chosen:
        if "signal" in given:
            _signal(job, given["signal"], batch="batch" in given)
        elif not job.is_over:
            with suppress(LookupError):
                send(directory, job.id, "cancel")


def _sinfo(directory: Path, words: list[str]) -> None:
    given, _ = _options(words)
    fields = {"N": "", "P": "mock*", "G": "(null)", "c": str(os.cpu_count()), "m": "1024", "l": "infinite",
              "s": "1-infinite", "T": "idle", "f": "(null)"}  # fmt: skip
    for node in _hosts(Job(directory).get("nodes", "localhost")):
        line = re.sub(r"%[.\d]*(\w)", lambda m, node=node: node if m[1] == "N" else fields[m[1]], given["format"])  # type: ignore[misc]
        sys.stdout.write(f"{line}\n")


def _srun(directory: Path, words: list[str]) -> None:
    given, rest = _options(words)
    steps = directory / "jobs" / os.environ["LTRL_MOCK_JOB"] / "steps"
    steps.mkdir(exist_ok=True)
    (steps / str(os.getpid())).touch()
    if host := given.get("nodelist"):
        os.environ["SLURMD_NODENAME"] = host
    os.execvp(rest[0], rest)


CLIENTS: dict[str, Callable[[Path, list[str]], None]] = {
    "sbatch": _sbatch,
    "squeue": _squeue,
    "sacct": _sacct,
    "scontrol": _scontrol,
    "scancel": _scancel,
    "sinfo": _sinfo,
    "srun": _srun,
}
"""Slurm's commands, each a function of the directory and the arguments."""


def _main(directory: Path, client: str, words: list[str]) -> int:
    if client == "lead":
        _lead(directory, words[0], int(words[1]))
        return 0
    if (directory / "calls").exists() and "LTRL_MOCK_JOB" not in os.environ:  # a test counts them
        with (directory / "calls").open("a") as file:
            file.write(f"{client}\n")
    try:
        CLIENTS[client](directory, words)
    except (Refused, LookupError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))
