"""Sweeps, stages, questions and probes on a real Slurm."""

import json
import os
import shlex
import subprocess
from collections import Counter

import pytest
from launching import HOSTILE, SPECS, make_bundle, make_sweep, stand_in, until
from test_cli import ltrl

from ltrl import array, probe, runs, state
from ltrl import slurm as slurm_client
from ltrl import submit as launcher
from ltrl.backend import Stage
from ltrl.compile import checked_profile
from ltrl.errors import Code, LtrlError, Source
from ltrl.source import parse
from ltrl.stages import stage_dir
from ltrl.state import State

pytestmark = pytest.mark.slurm

SMALL = {
    "executor": "slurm",
    "restarts": {"how": "none"},
    "minutes": 5,
    "slurm": {"exclusive": False, "memory": "100M"},
}
"""Eight of these fit on a node."""


def rows(sweep):
    return runs.statuses([cell.run for cell in array.read(sweep.path).cells if cell.run])


def ended(look, seconds=300.0):
    """The rows of runs when all of them are over."""

    def met():
        found = look()
        return found if all(row.state.is_finished for row in found) else None

    return until(met, seconds)


def over(sweep):
    return ended(lambda: rows(sweep))


def said(run, number=1):
    """What the stand-in driver tells of itself at its start."""
    return json.loads((run.attempt_dir(number) / "stdout.log").read_text().splitlines()[0])


def jobs_known():
    """Ids of all array jobs and other jobs that Slurm knows."""
    words = ["squeue", "--noheader", "--states=all", "--format=%F"]
    told = subprocess.run(words, capture_output=True, text=True, check=True)
    return set(told.stdout.split())


def test_a_sweep_is_one_job_and_resume_failed_runs_what_failed(slurm, tmp_path):
    commands = [stand_in(*(("--die-at", "3") if i in (2, 7, 19) else ())) for i in range(20)]
    bundles = make_sweep(tmp_path, commands, cluster=SMALL, at_once=8)
    before = jobs_known()
    done = array.submit(bundles, project=tmp_path)
    assert (len(done.launched), len(jobs_known() - before)) == (20, 1)
    again = array.submit(bundles, project=tmp_path)  # the same cell never runs twice
    assert (again.launched, len(again.running) + len(again.complete) + len(again.failed)) == ((), 20)
    found = over(done.sweep)
    assert Counter(row.state for row in found) == {State.COMPLETED: 17, State.FAILED: 3}
    assert {row.id.partition("-")[2][:2] for row in found if row.state is State.FAILED} == {"2-", "7-", "19"}
    assert {row.job_id.partition("_")[0] for row in found} == jobs_known() - before
    resumed = array.submit(bundles, project=tmp_path, resume_failed=True)
    assert sorted(resumed.launched) == ["swept_seed-19", "swept_seed-2", "swept_seed-7"]
    found = over(done.sweep)
    assert Counter((row.state, row.attempt) for row in found) == {
        (State.COMPLETED, 1): 17, (State.COMPLETED, 2): 3,
    }  # fmt: skip
    second = [row for row in found if row.attempt == 2]
    resumed_at = [said(state.read_run(done.sweep.path.parent / row.id), 2)["from"] for row in second]
    assert resumed_at == [2, 2, 2]  # each at its own checkpoint
    last = array.submit(bundles, project=tmp_path, resume_failed=True)
    assert (last.launched, len(last.complete)) == ((), 20)
    assert len(jobs_known() - before) == 2


def test_a_cell_that_is_requeued_leaves_the_others_alone(slurm, tmp_path):
    """The last task to start has the array's number, by which Slurm's commands take the whole array."""
    waits = ["bash", "-c", f"until [[ -e ../go ]]; do sleep 0.1; done; exec {shlex.join(stand_in())}"]
    cluster = {**SMALL, "restarts": {"step_minutes": 0.1, "save_minutes": 0.1}}
    bundles = make_sweep(tmp_path, [waits, stand_in("--die-at", "3")], cluster=cluster)
    sweep = array.submit(bundles, project=tmp_path).sweep
    until(lambda: rows(sweep)[1].attempt == 2, 300)
    (tmp_path / "runs" / "go").touch()
    assert [(row.state, row.attempt) for row in over(sweep)] == [(State.COMPLETED, 1), (State.COMPLETED, 2)]


def test_hostile_names_stay_names_in_an_array(slurm, tmp_path):
    project = tmp_path / "".join(c for c in HOSTILE if c not in "\n/%\\")
    cluster = {**SMALL, "environment": {"TOLD": HOSTILE}}
    done = array.submit(make_sweep(project, [stand_in("--", HOSTILE)] * 2, cluster=cluster), project=project)
    assert [row.state for row in over(done.sweep)] == [State.COMPLETED] * 2
    told = [said(cell.run) for cell in array.read(done.sweep.path).cells]
    assert [line["environment"]["TOLD"] for line in told] == [HOSTILE] * 2
    assert {line["environment"]["LTRL_RUN_ID"] for line in told} == {c.path.name for c in done.sweep.cells}
    assert not list(tmp_path.rglob("PWNED"))


def test_a_cell_is_cancelled_alone_and_a_sweep_as_a_whole(slurm, tmp_path):
    bundles = make_sweep(tmp_path, [stand_in("--seconds", "30")] * 4, cluster=SMALL, at_once=2)
    sweep = array.submit(bundles, project=tmp_path).sweep
    until(lambda: [r.state for r in rows(sweep)].count(State.RUNNING) == 2, 300)
    running = next(row for row in rows(sweep) if row.state is State.RUNNING)
    runs.cancel(state.read_run(sweep.path.parent / running.id))
    until(
        lambda: Counter(r.state for r in rows(sweep)) == {State.CANCELLED: 1, State.RUNNING: 2, State.PENDING: 1}, 300
    )
    assert len(array.cancel(array.read(sweep.path))) == 3
    assert [row.state for row in over(sweep)] == [State.CANCELLED] * 4


def test_hostile_text_in_every_field_of_a_profile_is_only_text(slurm, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    value = HOSTILE.replace("\n", " ")
    told = {}
    for name in ("partition", "account", "qos", "constraint", "reservation"):
        cluster = {**SMALL, "slurm": {**SMALL["slurm"], name: value}}
        bundle = make_bundle(tmp_path, stand_in(), cluster=cluster, name=name)
        asked = launcher.request(bundle, project=tmp_path)
        told[name] = slurm_client.ask_start((*asked.argv[:-1], str(bundle.path / "job.sbatch")))
    refused = [name for name, (would_start, _) in told.items() if not would_start]
    assert refused == ["partition", "constraint", "reservation"]  # without accounting any account will do
    assert f"invalid partition specified: {value}" in told["partition"][1]
    options = {"step_options": [f"--job-name={shlex.quote(value)}"], "extra": [f"--wckey={shlex.quote(value)}"]}
    cluster = {
        **SMALL,
        "slurm": {**SMALL["slurm"], **options, "account": value, "qos": value},
        "environment": {"TOLD": HOSTILE},
    }
    run = launcher.submit(make_bundle(tmp_path, stand_in(), cluster=cluster), project=tmp_path)
    [row] = ended(lambda: runs.statuses([state.read_run(run.path)]))
    assert (row.state, said(run)["environment"]["TOLD"]) == (State.COMPLETED, HOSTILE)
    assert not list(tmp_path.rglob("PWNED"))


def test_cells_that_never_began_are_cancelled_too(slurm, tmp_path):
    held = {**SMALL, "slurm": {**SMALL["slurm"], "extra": ["--hold"]}}
    sweep = array.submit(make_sweep(tmp_path, [stand_in()] * 3, cluster=held), project=tmp_path).sweep
    array.cancel(array.read(sweep.path))
    assert [(row.state, row.reason) for row in over(sweep)] == [(State.CANCELLED, "cancelled")] * 3


def test_an_account_that_does_not_exist_is_told_before_and_at_the_submission(strict_slurm, tmp_path):
    site = probe.probe()
    assert (site.has_accounting, site.accounts) == (True, ("root",))
    assert "account: root  # the only one that you may charge" in probe.profile(site, probe.choose(site))
    cluster = {**SMALL, "slurm": {**SMALL["slurm"], "account": "nobody"}}
    bundle = make_bundle(tmp_path, stand_in(), cluster=cluster)
    asked = launcher.request(bundle, project=tmp_path)
    would_start, said_ = slurm_client.ask_start((*asked.argv[:-1], str(bundle.path / "job.sbatch")))
    assert (would_start, "Invalid account or account/partition combination specified" in said_) == (False, True)
    with pytest.raises(LtrlError, match="Invalid account or account/partition combination specified"):
        launcher.submit(bundle, project=tmp_path)
    right = {**SMALL, "slurm": {**SMALL["slurm"], "account": "root"}}
    sweep = array.submit(make_sweep(tmp_path, [stand_in()] * 2, cluster=right), project=tmp_path).sweep
    assert [row.state for row in over(sweep)] == [State.COMPLETED] * 2


def test_a_refused_array_leaves_every_cell_failed_with_the_reason(slurm, tmp_path):
    bundles = make_sweep(tmp_path, [stand_in()] * 3, cluster={**SMALL, "slurm": {"partition": "nowhere"}})
    with pytest.raises(LtrlError) as caught:
        array.submit(bundles, project=tmp_path)
    assert caught.value.diagnostics[0].code is Code.SUBMIT_FAILED
    home = tmp_path / "runs" / bundles.id
    found = rows(array.read(home))
    assert {(row.state, row.attempt) for row in found} == {(State.FAILED, 1)}
    assert all("invalid partition specified: nowhere" in row.reason for row in found)


BEFORE = Stage("convert", ("bash", "-c", "pwd; touch ../../converted"), before_training=True, minutes=2)
AFTER = Stage("export", ("bash", "-c", "cat ../../checkpoints/step_4/training_info.json >model"), minutes=2)


def all_over(run):
    names = ("convert", "train", "export")
    found = ended(lambda: runs.statuses(state.read_run(stage_dir(run.path, name)) for name in names))
    return dict(zip(names, found, strict=True))


def test_stages_follow_each_other_under_one_run_id(slurm, tmp_path):
    command = ["bash", "-c", f"ls converted && exec {' '.join(stand_in())}"]
    run = launcher.submit(make_bundle(tmp_path, command, cluster=SMALL, stages=(BEFORE, AFTER)), project=tmp_path)
    found = all_over(run)
    assert {name: (row.state, row.id) for name, row in found.items()} == {
        "convert": (State.COMPLETED, f"{run.id}/convert"),
        "train": (State.COMPLETED, run.id),
        "export": (State.COMPLETED, f"{run.id}/export"),
    }
    assert (run.path / "stages/export/model").read_text() == '{"total_steps": 4}'
    assert (run.path / "stages/convert/attempts/1/stdout.log").read_text() == f"{run.path}/stages/convert\n"
    assert runs.find_run(f"{run.id[:8]}/export", project=tmp_path).path == run.path / "stages/export"
    listed = [row.id for row in runs.list_runs(tmp_path)]
    assert sorted(listed) == [run.id, f"{run.id}/convert", f"{run.id}/export"]
    again = launcher.submit(make_bundle(tmp_path, command, cluster=SMALL, stages=(BEFORE, AFTER)), project=tmp_path)
    assert again.latest.number == 1


def test_a_stage_that_fails_ends_those_after_it_and_is_where_a_resume_begins(slurm, tmp_path):
    broken = Stage("convert", ("bash", "-c", "[[ -e ../../mended ]] || exit 3"), before_training=True)
    bundle = make_bundle(tmp_path, stand_in("--die-at", "3"), cluster=SMALL, stages=(broken, AFTER))
    run = launcher.submit(bundle, project=tmp_path)
    found = all_over(run)
    assert {name: row.state for name, row in found.items()} == {
        "convert": State.FAILED, "train": State.CANCELLED, "export": State.CANCELLED,
    }  # fmt: skip
    assert found["convert"].reason == "the driver ended with status 3"
    assert found["train"].reason == f"job {found['convert'].job_id} did not succeed, which it waited for"
    (run.path / "mended").touch()
    found = all_over(launcher.submit(bundle, project=tmp_path))  # convert works, the training fails once
    assert {name: (row.state, row.attempt) for name, row in found.items()} == {
        "convert": (State.COMPLETED, 2), "train": (State.FAILED, 2), "export": (State.CANCELLED, 2),
    }  # fmt: skip
    found = all_over(launcher.submit(bundle, project=tmp_path))  # begins with the training, at its checkpoint
    assert {name: (row.state, row.attempt) for name, row in found.items()} == {
        "convert": (State.COMPLETED, 2), "train": (State.COMPLETED, 3), "export": (State.COMPLETED, 3),
    }  # fmt: skip


def test_stages_of_a_sweep_are_an_array_each_and_wait_cell_by_cell(slurm, tmp_path):
    fails = [stand_in("--die-at", "3"), stand_in(), stand_in()]
    bundles = make_sweep(tmp_path, fails, cluster=SMALL, stages=(AFTER,))
    before = jobs_known()
    sweep = array.submit(bundles, project=tmp_path).sweep
    assert len(jobs_known() - before) == 2
    exports = [stage_dir(cell.path, "export") for cell in sweep.cells]
    found = ended(lambda: runs.statuses(map(state.read_run, exports)))
    assert [row.state for row in found] == [State.CANCELLED, State.COMPLETED, State.COMPLETED]


def test_slurm_is_asked_for_a_start_and_nothing_is_made(slurm, tmp_path):
    spec = tmp_path / "specs" / "x.yaml"
    make_bundle(tmp_path)
    spec.write_text((SPECS / "quickstart.yaml").read_text())
    (tmp_path / "site.yaml").write_text("kind: cluster\nexecutor: slurm\ngpus_per_node: 8\nminutes: 5\n")
    before = jobs_known()
    asked = ("submit", spec, "--cluster", "./site.yaml", "--test-only")
    done = ltrl(*asked, cwd=tmp_path)
    assert (done.returncode, " to start at " in done.stdout, "in partition debug" in done.stdout) == (0, True, True)
    for setting, reason in {
        "cluster.slurm.partition=nowhere": "invalid partition specified: nowhere",
        "cluster.gpus_per_node=9": "Requested node configuration is not available",
        "cluster.slurm.constraint=warp": "Invalid feature specification",
    }.items():
        done = ltrl(*asked, "--set", setting, cwd=tmp_path)
        assert (done.returncode, done.stdout, reason in done.stderr) == (1, "", True)
    again = ltrl("submit", "--test-only", "--json", cwd=tmp_path)  # the bundle compiled last
    assert json.loads(again.stdout)["would_start"] is False
    assert not (tmp_path / "runs").exists()
    assert jobs_known() == before


def test_a_probe_of_the_site_is_a_profile_that_runs_a_job(slurm, tmp_path):
    site = probe.probe()
    found = probe.choose(site)
    assert (found.name, found.num_nodes, found.usual[0]) == ("debug", 4, probe.Shape(8, "", 8, 4000))
    assert (site.has_accounting, site.has_pyxis, site.version.partition(".")[0].isdecimal()) == (False, True, True)
    text = probe.profile(site, found)
    profile = checked_profile(parse(Source("p", text, "p")))
    cluster = {**profile.model_dump(exclude_defaults=True), "nodes": 1}
    run = launcher.submit(make_bundle(tmp_path, stand_in(), cluster=cluster), project=tmp_path)
    row = until(lambda: (r := runs.status(state.read_run(run.path))).state.is_finished and r, 300)
    assert (row.state, row.step) == (State.COMPLETED, 4)


def test_the_sbatch_of_the_site_decides_about_further_options(slurm):
    def refused(option):
        text = f"kind: cluster\nexecutor: slurm\nslurm: {{extra: ['{option}']}}\n"
        with pytest.raises(LtrlError) as caught:
            checked_profile(parse(Source("p", text, "p")))
        return caught.value.diagnostics[0].message

    assert refused("--swiches=1") == "sbatch refuses `--swiches=1`: unrecognized option '--swiches=1'"
    assert refused("--begin=never") == "sbatch refuses `--begin=never`: Invalid --begin specification"
    text = "kind: cluster\nexecutor: slurm\nslurm: {extra: [-x node3, --hint=nomultithread]}\n"
    assert checked_profile(parse(Source("p", text, "p"))).slurm is not None


def test_a_variable_of_the_submitter_makes_no_array(slurm, tmp_path, monkeypatch):
    monkeypatch.setenv("SBATCH_ARRAY_INX", "0-3")
    run = launcher.submit(make_bundle(tmp_path, stand_in(), cluster=SMALL), project=tmp_path)
    assert "_" not in run.latest.job_id
    until(lambda: runs.status(state.read_run(run.path)).state is State.COMPLETED, 300)
    assert os.environ["SBATCH_ARRAY_INX"] == "0-3"
