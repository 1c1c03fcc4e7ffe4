"""The first cause of a run's end: among everything that was written, what came first."""

import json
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from launching import make_bundle, until
from test_runs import make_run

from ltrl import evidence, runs, state, why
from ltrl import submit as launcher
from ltrl.backend import Model
from ltrl.spec import ClusterProfile, Experiment
from ltrl.state import State
from ltrl.why import Log

NOON = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)

EXCERPTS = dict(
    section.split("\n", 1) for section in Path(__file__).with_name("signatures.txt").read_text().split("=== ")[1:]
)


@pytest.fixture(autouse=True)
def _own_state(monkeypatch, tmp_path):
    monkeypatch.setenv("LTRL_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def log(name, *lines, at=NOON):
    return Log(name, "".join(f"{line}\n" for line in lines), at)


def ids(*logs, scheduler="FAILED", ended=NOON + timedelta(hours=1), **options):
    return [c.signature and c.signature.id for c in why.causes(logs, state=scheduler, ended=ended, **options)]


def test_every_signature_has_an_excerpt_that_it_alone_explains():
    assert {s.id for s in why.signatures() if s.match} == set(EXCERPTS)
    assert len(EXCERPTS) >= 50
    assert len({s.id for s in why.signatures()}) == len(why.signatures())


@pytest.mark.parametrize("name", EXCERPTS)
def test_an_excerpt_is_recognized_at_its_line(name):
    lines = EXCERPTS[name].splitlines()
    (marked,) = [i for i, line in enumerate(lines, 1) if line.endswith(" <<<")]
    text = "\n".join(["2026-11-21 08:00:00 begins", *(line.removesuffix(" <<<") for line in lines)])
    first = why.causes([Log("stdout.log", text, NOON)], state="FAILED", ended=NOON)[0]
    assert first.signature is not None
    assert (first.signature.id, first.line) == (name, marked + 1)
    assert (first.line, lines[marked - 1].removesuffix(" <<<")) in first.excerpt


def test_signatures_name_fields_that_exist():
    def exists(model, steps):
        for step in steps:
            inner = model.model_fields.get(step)
            assert inner is not None, steps
            model = next((m for m in _models(inner.annotation) if isinstance(m, type) and issubclass(m, Model)), Model)
            if model.__name__.endswith("Section"):  # the options of a backend
                return

    def _models(annotation):
        return [annotation, *(m for a in getattr(annotation, "__args__", ()) for m in _models(a))]

    for signature in why.signatures():
        for field in signature.fields:
            first, *rest = field.split(".")
            exists(ClusterProfile if first == "cluster" else Experiment, rest if first == "cluster" else [first, *rest])


def test_the_earliest_wins_over_the_loudest():
    oom = log("worker-3.err", "2026-11-21 10:00:00,100 starting", "torch.OutOfMemoryError: CUDA out of memory.",
              "2026-11-21 10:30:05,000 exiting")  # fmt: skip
    loud = log("stdout.log", *["[E1121 10:40:00.1 x] Watchdog caught collective operation timeout"] * 500)
    late = log("job.log", "2026-11-21 10:45:00 OSError: [Errno 28] No space left on device")
    assert ids(loud, late, oom) == ["cuda-oom-training", "disk-full", "nccl-timeout"]
    found = why.causes([loud, late, oom], state="FAILED", ended=NOON)
    assert (found[0].log, found[0].line, found[0].time.isoformat()) == ("worker-3.err", 2, "2026-11-21T10:30:05+00:00")


def test_what_follows_from_a_failed_node_is_not_the_cause_though_it_is_seen_first():
    lost = log("worker-1.err", "[rank9]:[E1121 11:55:00.0 x] ncclRemoteError: A call failed")
    assert ids(lost, scheduler="NODE_FAIL", ended=NOON) == ["node-failure", "nccl-remote"]
    hung = log("worker-1.err", "[rank9]:[E1121 09:00:00.0 x] Watchdog caught collective operation timeout")
    assert ids(hung, scheduler="TIMEOUT", ended=NOON) == ["nccl-timeout", "walltime"]  # three hours of waiting
    assert ids(hung, scheduler="CANCELLED", ended=NOON) == ["nccl-timeout", "cancelled"]


def test_an_error_after_which_a_step_was_finished_has_been_survived():
    told = log("stdout.log", "2026-11-21 10:00:00 httpx.ConnectError: refused", "2026-11-21 11:00:00 step 7")
    assert ids(told, scheduler="TIMEOUT", ended=NOON) == ["judge-unreachable", "walltime"]
    survived = NOON - timedelta(minutes=30)
    assert ids(told, scheduler="TIMEOUT", ended=NOON, progress=survived) == ["walltime"]
    again = log("stdout.log", *told.text.splitlines(), "2026-11-21 11:50:00 httpx.ConnectError: refused")
    (first, *_) = why.causes([again], state="FAILED", ended=NOON, progress=survived)
    assert (first.signature.id, first.line) == ("judge-unreachable", 3)


def test_an_error_that_is_not_known_is_shown_as_it_is():
    text = log(
        "stderr.log", "Traceback (most recent call last):", '  File "x.py", line 1', "acme.QuantumError: flux is 7"
    )
    (found,) = why.causes([text], state="FAILED", ended=NOON)
    assert (found.signature, found.title, found.line) == (None, "acme.QuantumError: flux is 7", 3)
    prefixed = log("stdout.log", "(Worker pid=7, ip=10.0.0.3) acme.QuantumError: flux is 7")
    assert why.causes([prefixed], state="FAILED", ended=NOON)[0].title == "acme.QuantumError: flux is 7"
    assert why.causes([log("stdout.log", "step 1", "step 2")], state="FAILED", ended=NOON) == ()


def test_a_container_that_counts_in_utc_is_put_right_by_the_file_s_own_time(monkeypatch):
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    lines = "2026-11-21 12:00:30 CUDA out of memory", "2026-11-21 12:01:10 bye"
    here = log("job.log", "2026-11-21 07:00:00 OSError: [Errno 28] No space left on device")
    there = log("worker.err", *lines, at=NOON + timedelta(seconds=70))
    assert ids(here, there) == ["disk-full", "cuda-oom-training"]
    found = why.causes([there], state="FAILED", ended=NOON)[0]
    assert found.time == NOON + timedelta(seconds=30)
    stale = log("worker.err", *lines, at=NOON + timedelta(hours=9))  # New York's noon, four hours before its last write
    assert why.causes([stale], state="FAILED", ended=NOON)[0].time == NOON + timedelta(hours=5, seconds=30)


def test_a_log_without_times_is_as_old_as_its_file():
    first = log("a.err", "OSError: [Errno 28] No space left on device", at=NOON)
    second = log("b.err", "CUDA out of memory", at=NOON - timedelta(seconds=5))
    assert ids(first, second) == ["cuda-oom-training", "disk-full"]


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("Priority", "waits-for-priority"),
        ("Resources", "waits-for-resources"),
        ("QOSMaxJobsPerUserLimit", "waits-for-quota"),
        ("AssocGrpGRES", "waits-for-quota"),
        ("PartitionTimeLimit", "beyond-partition"),
        ("DependencyNeverSatisfied", "dependency-failed"),
        ("Dependency", "waits-for-dependency"),
        ("ReqNodeNotAvail, UnavailableNodes:node[3-4]", "nodes-unavailable"),
        ("JobArrayTaskLimit", "array-limit"),
        ("BeginTime", "begins-later"),
        ("JobHeldUser", "held"),
        ("Nonsense", None),
    ],
)
def test_why_a_job_waits_is_told(reason, expected):
    found = why.pending(reason)
    assert (found and found.id) == expected


def test_a_long_log_is_searched_fast():
    text = "".join(
        f"2026-11-21 11:00:{i % 60:02} step {i} reward 0.5 tokens 163840 in shape of things\n" for i in range(200_000)
    )
    began = time.perf_counter()
    assert ids(Log("stdout.log", text + "CUDA out of memory\n", NOON)) == ["cuda-oom-training"]
    assert ids(log("stderr.log", *["NaN or Inf found"] * 100_000)) == ["nan-loss"]
    assert time.perf_counter() - began < 10


def failed(tmp_path, *command, **options):
    run = launcher.submit(make_bundle(tmp_path, list(command), **options), project=tmp_path)
    until(lambda: runs.status(state.read_run(run.path)).state.is_finished)
    return state.read_run(run.path)


def test_a_real_run_that_failed_names_the_line_of_the_spec_to_change(tmp_path):
    run = failed(tmp_path, "bash", "-c", "echo 'error[LTRL052]: the policy collapsed: no reward' >&2; exit 1")
    found = evidence.explain(run)
    assert [(c.signature.id, c.log, c.line) for c in found.causes] == [("collapse", "attempts/1/stderr.log", 1)]
    spec = (run.path / "bundle" / "spec.yaml").read_text().splitlines()
    (number,) = [i for i, line in enumerate(spec, 1) if re.search(r"\blr:", line)]
    line = found.change[0]
    assert (line.field, line.place, line.text) == (
        "optimizer.lr",
        f"quickstart.yaml:{number}",
        spec[number - 1].strip(),
    )
    assert found.change[2].place == "default"


def test_a_driver_that_was_killed_is_told_by_the_words_of_the_scripts(tmp_path):
    run = failed(tmp_path, "bash", "-c", "kill -KILL $$")
    found = evidence.explain(run)
    assert [c.signature and c.signature.id for c in found.causes] == ["killed"]
    assert "(SIGKILL)" in dict(found.causes[0].excerpt)[found.causes[0].line]


def test_what_the_scripts_call_the_cause_counts_when_nothing_else_is_found():
    said = log("attempts/1/cause", "the driver was lost", "for good")
    (found,) = why.causes([log("stdout.log", "step 1")], state="FAILED", ended=NOON, said=said)
    assert (found.signature, found.title, found.log, found.line) == (None, "the driver was lost", said.name, 1)
    assert ids(log("stdout.log", "CUDA out of memory"), said=said) == ["cuda-oom-training"]
    assert ids(said=log("attempts/1/cause", "the driver was killed (SIGKILL)")) == ["killed"]


def test_a_stage_that_slurm_gave_up_because_another_failed_was_cancelled_by_nobody():
    waited = "job 6_1 did not succeed, which it waited for"
    assert ids(scheduler="CANCELLED", reason=waited) == ["dependency-failed"]
    assert ids(scheduler="CANCELLED", reason="cancelled") == ["cancelled"]


def test_bytes_that_are_no_text_and_a_lost_bundle_do_not_hide_the_cause(tmp_path):
    run = failed(tmp_path, "bash", "-c", r"printf '\xff\xfe\x1b[31m\n'; echo 'No space left on device'; exit 1")
    (run.path / "bundle" / "spec.yaml").unlink()
    found = evidence.explain(run)
    assert (found.causes[0].signature.id, found.causes[0].line, found.change) == ("disk-full", 2, ())


def test_only_the_end_of_a_huge_log_is_read_and_its_lines_keep_their_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(evidence, "READ_BYTES", 1000)
    run = failed(tmp_path, "bash", "-c", "seq 5000; echo 'No space left on device'; exit 1")
    assert evidence.explain(run).causes[0].line == 5001


def test_a_complete_run_and_one_without_any_trace_have_no_cause(tmp_path):
    assert evidence.explain(make_run(tmp_path / "a")).causes == ()
    assert evidence.explain(make_run(tmp_path / "b", final=State.FAILED)).causes == ()


def test_the_command_prints_the_excerpt_and_json(tmp_path):
    from test_runs import cli

    run = failed(tmp_path, "bash", "-c", "echo one; echo 'No space left on device'; exit 1")
    shown = cli(tmp_path, "why", run.id)
    assert shown.returncode == 0
    assert "first cause: a disk is full [disk-full]" in shown.stdout
    assert "attempts/1/stdout.log:2" in shown.stdout
    assert " >2 | No space left on device" in shown.stdout
    data = json.loads(cli(tmp_path, "why", run.id, "--json").stdout)
    assert (data["causes"][0]["id"], data["causes"][0]["line"]) == ("disk-full", 2)
    assert data["change"][0]["field"] == "checkpoint.keep"
