"""Sweeps launched: as an array of a behaving Slurm, and in turns on this machine with real processes."""

import itertools
import json
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
from fake_slurm import FakeSlurm
from launching import HOSTILE, SPECS, make_bundle, make_sweep, stand_in, until
from test_cli import ltrl
from test_render_scripts import SHELLCHECK

from ltrl import array, compare, jobs, render, runs, state, turns
from ltrl import submit as launcher
from ltrl.backend import Stage
from ltrl.errors import Code, LtrlError
from ltrl.state import State

SLURM = {"executor": "slurm", "slurm": {"exclusive": False}}


@pytest.fixture(autouse=True)
def _own_state(monkeypatch, tmp_path):
    monkeypatch.setenv("LTRL_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    fake = FakeSlurm(tmp_path / "slurm")
    monkeypatch.setenv("PATH", fake.path)
    return fake


def rows(sweep):
    return runs.statuses([cell.run for cell in array.read(sweep.path).cells if cell.run])


def over(sweep):
    def met():
        now, found = array.read(sweep.path), rows(sweep)
        return found if not now.is_led and len(found) and all(row.state.is_finished for row in found) else None

    return until(met, 60)


def test_an_array_of_ordinary_runs_costs_one_sbatch_and_one_squeue(slurm, tmp_path):
    bundles = make_sweep(tmp_path, [stand_in()] * 5, cluster=SLURM, at_once=3)
    done = array.submit(bundles, project=tmp_path)
    assert done.launched == tuple(f"swept_seed-{i}" for i in range(5))
    assert slurm.calls() == ["sbatch"]
    assert [row.state for row in over(done.sweep)] == [State.COMPLETED] * 5
    slurm.calls()
    array.submit(bundles, project=tmp_path)
    assert slurm.calls() == []  # all are over: nobody is asked
    cell = array.read(done.sweep.path).cells[3]
    assert cell.run.sweep == "swept-sweep"
    assert (cell.run.latest.job_id, cell.run.latest.mark) == ("1_3", f"{jobs.mark(done.sweep.path, 1)}_3")
    assert (cell.path / "bundle" / "job.sbatch").read_text() == bundles.cells[3].read("job.sbatch")


def test_a_sweep_that_goes_on_costs_one_question_to_submit_again_or_to_show(slurm, tmp_path):
    slurm.set("hold")
    bundles = make_sweep(tmp_path, [stand_in()] * 5, cluster=SLURM, stages=STAGES)
    sweep = array.submit(bundles, project=tmp_path).sweep
    assert slurm.calls() == ["sbatch"] * 3
    assert len(array.submit(bundles, project=tmp_path).running) == 5
    assert slurm.calls() == ["squeue"]
    assert {row.state for row in rows(sweep)} == {State.PENDING}
    assert slurm.calls() == ["squeue"]
    assert len(array.cancel(array.read(sweep.path))) == 15  # every stage of every cell


def test_cells_taken_out_of_the_spec_stay_in_the_sweep(slurm, tmp_path):
    slurm.set("hold")
    every = make_sweep(tmp_path, [stand_in()] * 3, cluster=SLURM, stages=STAGES[1:])
    first = replace(every, cells=every.cells[:2], values=every.values[:2])
    array.submit(first, project=tmp_path)
    second = replace(every, cells=every.cells[1:], values=every.values[1:])
    sweep = array.submit(second, project=tmp_path).sweep
    listed = [(cell.name, cell.is_in_spec) for cell in sweep.cells]
    assert listed == [("swept_seed-1", True), ("swept_seed-2", True), ("swept_seed-0", False)]
    slurm.calls()
    assert {cell.row.state for cell in array.statuses(sweep).values()} == {State.PENDING}
    assert slurm.calls() == ["squeue"]
    assert len(array.cancel(sweep)) == 6
    again = array.submit(second, project=tmp_path, resume_failed=True)
    assert again.launched == ("swept_seed-1", "swept_seed-2")
    assert len(array.cancel(again.sweep)) == 4
    assert all(cell.is_in_spec for cell in array.submit(every, project=tmp_path).sweep.cells)


def test_a_damaged_cell_or_record_stops_no_sweep(slurm, tmp_path):
    slurm.set("hold")
    every = make_sweep(tmp_path, [stand_in()] * 3, cluster=SLURM)
    sweep = array.submit(every, project=tmp_path).sweep
    (sweep.cells[0].path / "run.json").write_text("{")
    less = replace(every, cells=every.cells[1:], values=every.values[1:])
    sweep = array.submit(less, project=tmp_path).sweep
    assert [cell.is_in_spec for cell in sweep.cells] == [True, True, False]
    found = array.statuses(sweep)[sweep.cells[2].path.name]
    assert found.row.state is State.UNKNOWN
    assert "run.json` is damaged" in found.row.reason
    with pytest.raises(LtrlError, match="is damaged"):
        array.cancel(sweep)
    assert [cell.row.state for cell in array.statuses(sweep).values()].count(State.CANCELLED) == 2
    (sweep.path / "sweep.json").write_text("{")
    assert len(array.submit(less, project=tmp_path).sweep.cells) == 2


def test_a_sweep_has_not_succeeded_before_its_last_stages_have(slurm, tmp_path):
    export = Stage("export", ("bash", "-c", "[[ $PWD != *seed-1* ]]"))
    drivers = [stand_in(), stand_in(), ["false"]]
    sweep = array.submit(make_sweep(tmp_path, drivers, cluster=SLURM, stages=(export,)), project=tmp_path).sweep
    watched = ltrl("status", sweep.id, "--watch", "--json", cwd=tmp_path)
    assert watched.returncode == 3, watched.stderr
    told = json.loads(watched.stdout)["cells"]
    assert [(cell["stage"], cell["state"], cell["run"]["state"]) for cell in told] == [
        ("export", "COMPLETED", "COMPLETED"), ("export", "FAILED", "COMPLETED"), ("train", "FAILED", "FAILED"),
    ]  # fmt: skip
    assert "1 COMPLETED, 1 FAILED in export, 1 FAILED\n" in ltrl("status", sweep.id, cwd=tmp_path).stdout
    why = ltrl("why", sweep.id, cwd=tmp_path)
    assert why.stderr == (
        "2 of 3 cells ended without success; this is the first of them\n"
        f"  `ltrl why {sweep.cells[2].path.name}`\n"
    )  # fmt: skip
    assert why.stdout.startswith(f"{sweep.cells[1].path.name}/export, attempt 1: FAILED")
    waited = ltrl("why", f"{sweep.cells[2].path.name}/export", cwd=tmp_path).stdout
    assert "[dependency-failed]" in waited
    assert f"`ltrl why {sweep.cells[2].path.name}`" in waited


def test_the_array_script_is_clean_and_asks_for_what_a_run_asks_for(tmp_path):
    script = make_bundle(tmp_path, cluster={**SLURM, "gpus_per_node": 2, "environment": {"A": HOSTILE}}).read(
        "job.sbatch"
    )
    runs_ = [(f"/runs/{HOSTILE.replace(chr(10), ' ')}/{i}", f"id {i}", i, f"ltrl:{HOSTILE[0]}:{i}") for i in range(3)]
    text = render.array_script(script, name="n", runs=runs_, at_once=2)
    (tmp_path / "array.sbatch").write_text(text)
    checked = subprocess.run([SHELLCHECK, tmp_path / "array.sbatch"], capture_output=True, text=True, check=False)
    assert checked.stdout == ""
    assert [line for line in text.splitlines() if line.startswith("#SBATCH")] == [
        "#SBATCH --job-name=n",
        "#SBATCH --array=0-2%2",
        *(line for line in script.splitlines() if line.startswith("#SBATCH") and "--job-name" not in line),
    ]


def test_cells_are_found_by_what_they_learn_whatever_their_names(slurm, tmp_path):
    array.submit(make_sweep(tmp_path, [stand_in()] * 2, cluster=SLURM), project=tmp_path)
    more = make_sweep(tmp_path, [stand_in()] * 3, cluster=SLURM, name="renamed")
    done = array.submit(more, project=tmp_path)
    assert done.launched == ("renamed_seed-2",)
    assert over(done.sweep)[0].id == "swept_seed-0-00000010"


def test_cells_that_ask_for_different_machines_are_arrays_of_their_own(slurm, tmp_path):
    bundles = make_sweep(tmp_path, [stand_in()] * 2, cluster=SLURM)
    other = make_sweep(tmp_path / "o", [stand_in()] * 4, cluster={**SLURM, "minutes": 7})
    mixed = type(bundles)(bundles.path, bundles.id, None, (*bundles.cells, *other.cells[2:]), (*bundles.values, {}, {}))
    done = array.submit(mixed, project=tmp_path)
    assert slurm.calls() == ["sbatch", "sbatch"]
    assert [row.state for row in over(done.sweep)] == [State.COMPLETED] * 4


def test_a_submitter_that_dies_after_sbatch_leaves_cells_that_are_found(slurm, tmp_path):
    slurm.set("hold", "die_after_sbatch")
    bundles = make_sweep(tmp_path, [stand_in()] * 3, cluster=SLURM)
    code = (
        "import sys; from pathlib import Path; from ltrl import array, bundle\n"
        "array.submit(bundle.read_sweep(Path(sys.argv[1])), project=Path(sys.argv[2]))"
    )
    died = subprocess.run([sys.executable, "-c", code, bundles.path, tmp_path], capture_output=True, check=False)
    assert died.returncode == -9
    home = tmp_path / "runs" / bundles.id
    found = array.read(home)
    assert [cell.run.latest.job_id for cell in found.cells] == [None] * 3
    assert [(row.state, row.job_id) for row in rows(found)] == [(State.PENDING, f"1_{i}") for i in range(3)]
    assert array.submit(bundles, project=tmp_path).running == tuple(cell.name for cell in found.cells)
    assert slurm.calls().count("sbatch") == 1


def test_one_of_two_submitters_is_told_that_the_other_is_at_it(slurm, tmp_path):
    bundles = make_sweep(tmp_path, [stand_in()], cluster=SLURM)
    home = tmp_path / "runs" / bundles.id
    home.mkdir(parents=True)
    with state.locked(home), pytest.raises(LtrlError) as caught:
        array.submit(bundles, project=tmp_path)
    assert caught.value.diagnostics[0].code is Code.RUN_BUSY


def test_turns_on_this_machine_one_after_another(tmp_path):
    commands = [stand_in("--seconds", "0.1"), stand_in("--die-at", "3"), stand_in()]
    bundles = make_sweep(tmp_path, commands)
    done = array.submit(bundles, project=tmp_path)
    assert (done.launched, len(done.waiting)) == ((), 3)
    found = over(done.sweep)
    assert [row.state for row in found] == [State.COMPLETED, State.FAILED, State.COMPLETED]
    attempts = [cell.run.latest for cell in array.read(done.sweep.path).cells]
    for earlier, later in itertools.pairwise(attempts):
        assert earlier.ended <= later.created
    again = array.submit(bundles, project=tmp_path)
    assert (again.waiting, again.failed) == ((), ("swept_seed-1",))
    assert array.submit(bundles, project=tmp_path, resume_failed=True).waiting == ("swept_seed-1",)
    assert [(row.state, row.attempt) for row in over(done.sweep)] == [
        (State.COMPLETED, 1),
        (State.COMPLETED, 2),
        (State.COMPLETED, 1),
    ]


def test_a_second_submission_does_not_lead_beside_the_first(tmp_path):
    bundles = make_sweep(tmp_path, [stand_in("--seconds", "30")] * 2)
    sweep = array.submit(bundles, project=tmp_path).sweep
    with pytest.raises(LtrlError) as caught:
        array.submit(bundles, project=tmp_path)
    assert caught.value.diagnostics[0].code is Code.RUN_BUSY
    until(lambda: [row.state for row in rows(sweep)] == [State.RUNNING])
    array.cancel(array.read(sweep.path))


def test_several_turns_at_once_and_an_end_to_all(tmp_path):
    bundles = make_sweep(tmp_path, [stand_in("--seconds", "30")] * 3)
    sweep = array.submit(bundles, project=tmp_path, at_once=2).sweep
    until(lambda: [row.state for row in rows(sweep)] == [State.RUNNING] * 2)
    array.cancel(array.read(sweep.path))
    assert [row.state for row in over(sweep)] == [State.CANCELLED] * 2
    assert not turns.is_alive(sweep.path)
    assert array.read(sweep.path).cells[2].run is None


def test_a_leader_that_is_killed_leaves_cells_that_the_next_submission_takes_up(tmp_path):
    bundles = make_sweep(tmp_path, [stand_in("--seconds", "0.3"), stand_in()])
    sweep = array.submit(bundles, project=tmp_path).sweep
    until(lambda: [row.state for row in rows(sweep)] == [State.RUNNING])
    turns.stop(sweep.path)
    until(lambda: not array.read(sweep.path).is_led)
    until(lambda: rows(sweep)[0].state is State.COMPLETED)
    assert array.submit(bundles, project=tmp_path).waiting == ("swept_seed-1",)
    assert [row.state for row in over(sweep)] == [State.COMPLETED] * 2


STAGES = (
    Stage("convert", ("bash", "-c", "touch ../../converted"), before_training=True),
    Stage("export", ("bash", "-c", "cat ../../checkpoints/step_4/training_info.json")),
)


def test_stages_take_turns_on_this_machine(tmp_path):
    bundle = make_bundle(tmp_path, ["bash", "-c", f"ls converted && {' '.join(stand_in())}"], stages=STAGES)
    run = launcher.submit(bundle, project=tmp_path)
    names = [run.path / "stages" / "convert", run.path, run.path / "stages" / "export"]

    def met():
        if turns.is_alive(run.path):
            return None
        return [runs.status(state.read_run(path)) for path in names]

    found = until(met)
    assert [(row.id, row.state) for row in found] == [
        (f"{run.id}/convert", State.COMPLETED),
        (run.id, State.COMPLETED),
        (f"{run.id}/export", State.COMPLETED),
    ]
    assert (names[2] / "attempts/1/stdout.log").read_text() == '{"total_steps": 4}'
    assert launcher.submit(bundle, project=tmp_path).latest.number == 1  # nothing is left to do
    with pytest.raises(LtrlError) as caught:
        launcher.requests(bundle, project=tmp_path)
    assert caught.value.diagnostics[0].code is Code.RESUME_REFUSED


def test_the_index_is_rebuilt_with_stages_and_cells(slurm, tmp_path):
    bundles = make_sweep(tmp_path, [stand_in()] * 2, cluster=SLURM)
    over(array.submit(bundles, project=tmp_path).sweep)
    launcher.submit(make_bundle(tmp_path, stages=STAGES, cluster=SLURM), project=tmp_path)
    assert state.Index().rebuild([tmp_path / "runs"]) == 2 + 3


def test_runs_are_compared_by_what_differs_the_best_first(slurm, tmp_path):
    sweep = array.submit(
        make_sweep(tmp_path, [stand_in(steps=n) for n in (4, 2)], cluster=SLURM), project=tmp_path
    ).sweep
    over(sweep)
    for i, cell in enumerate(sweep.cells):  # the plans of these tests differ in nothing but their drivers
        path = cell.path / "bundle" / "resolved.json"
        data = json.loads(path.read_text())
        data["spec"]["algorithm"]["seed"] = i
        data["spec"]["optimizer"]["lr"] = [1e-3, 2e-3][i]
        path.write_text(json.dumps(data))
    found = compare.compare(rows(sweep))
    assert found.fields == ("algorithm.seed", "optimizer.lr")
    assert [(row.values, row.state, row.step, row.reward) for row in found.rows] == [
        ({"algorithm.seed": 1, "optimizer.lr": 2e-3}, "FAILED", 2, 0.75),
        ({"algorithm.seed": 0, "optimizer.lr": 1e-3}, "COMPLETED", 4, 0.625),
    ]


def test_a_sweep_from_the_shell(slurm, tmp_path, monkeypatch):
    (tmp_path / "specs").mkdir()
    shutil.copy(SPECS / "quickstart.yaml", tmp_path / "specs")
    spec = tmp_path / "specs" / "x.yaml"
    spec.write_text("extends: quickstart.yaml\nname: x\nsweep: {grid: {algorithm.seed: [1, 2]}, at_once: 1}\n")
    (tmp_path / "site.yaml").write_text("kind: cluster\nexecutor: slurm\nslurm: {exclusive: false}\n")
    slurm.set("hold")
    asked = ("submit", spec, "--cluster", "./site.yaml")
    dry = ltrl(*asked, "--dry-run", cwd=tmp_path)
    assert (dry.returncode, "#SBATCH --array=0-1%1" in dry.stdout, (tmp_path / "runs").exists()) == (0, True, False)
    started = ltrl(*asked, "--test-only", cwd=tmp_path)
    assert (started.returncode, started.stdout.count(" to start at ")) == (0, 1)
    first = ltrl(*asked, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    sweep = first.stdout.strip()
    assert "submitted: 2 runs" in first.stderr
    assert "left alone: 2 going on" in ltrl("submit", "--cluster", "site", cwd=tmp_path).stderr  # compiled last
    told = json.loads(ltrl("status", sweep, "--json", cwd=tmp_path).stdout)
    assert [(cell["name"], cell["values"], cell["state"]) for cell in told["cells"]] == [
        (f"x_seed-{i}", {"algorithm.seed": i}, "PENDING") for i in (1, 2)
    ]
    compared = json.loads(ltrl("compare", sweep, "--json", cwd=tmp_path).stdout)
    assert (compared["fields"], len(compared["runs"])) == (["algorithm.seed"], 2)
    assert "2 CANCELLED" in ltrl("cancel", sweep, cwd=tmp_path).stdout
    again = ltrl(*asked, "--resume-failed", "--json", cwd=tmp_path)
    assert json.loads(again.stdout)["launched"] == ["x_seed-1", "x_seed-2"]
    assert ltrl(*asked, "--fresh", cwd=tmp_path).returncode == 2
    assert ltrl("submit", tmp_path / "specs" / "quickstart.yaml", "--resume-failed", cwd=tmp_path).returncode == 2


def test_slurm_is_asked_about_every_stage_and_what_it_refuses_is_named(slurm, tmp_path):
    first = Stage("convert", ("true",), before_training=True)
    good = make_bundle(tmp_path / "good", stand_in(), cluster=SLURM, stages=(first,))
    asked = ltrl("submit", good.path, "--test-only", cwd=tmp_path)
    assert [line.partition(" to start at ")[0] for line in asked.stdout.splitlines()] == [
        "convert: Job 1",
        "train: Job 1",
    ]
    last = Stage("export", ("true",), partition="wrong")
    bad = make_bundle(tmp_path / "bad", stand_in(), cluster=SLURM, stages=(first, last))
    asked = ltrl("submit", bad.path, "--test-only", "--json", cwd=tmp_path)
    told = json.loads(asked.stdout)
    assert (asked.returncode, told["would_start"]) == (1, False)
    assert [(one["stage"], one["would_start"]) for one in told["stages"]] == [
        ("convert", True), ("train", True), ("export", False),
    ]  # fmt: skip
    asked = ltrl("submit", bad.path, "--test-only", cwd=tmp_path)
    refused = "error[LTRL042]: export: invalid partition specified: wrong; "
    assert (asked.returncode, asked.stdout.count(" to start at "), refused in asked.stderr) == (1, 2, True)
    assert not (tmp_path / "good" / "runs").exists()
