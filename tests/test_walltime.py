"""How much of a job's time is kept for its end."""

import json

from ltrl import walltime
from ltrl.spec import Restarts


def write(run, *records):
    directory = run / "logs" / "exp_001"
    directory.mkdir(parents=True)
    (directory / "metrics.jsonl").write_text("".join(f"{json.dumps(r)}\n" for r in records) + '{"step": 9, "ti')


def test_declared_times_count_until_there_are_measured_ones(tmp_path):
    found = walltime.measured(tmp_path, 240, Restarts(step_minutes=15.0, save_minutes=5.0))
    assert (found.step_seconds, found.step_from) == (900, "restarts.step_minutes")
    assert (found.save_seconds, found.save_from) == (300, "restarts.save_minutes")
    assert (found.stop_seconds, found.last_seconds, found.option) == (1200, 360, "--signal=B:USR2@1260")


def test_the_longest_step_and_the_longest_checkpoint_count(tmp_path):
    steps = [{"timing/train/total_step_time": s} for s in (300.0, 400.0, 350.0)]
    write(tmp_path, *steps, {"timing/train/checkpointing": 80.0}, {"validation/accuracy": 0.5})
    found = walltime.measured(tmp_path, 240, Restarts())
    assert (found.step_seconds, found.step_from) == (500, "longest of 3 measured, times 1.25")
    assert (found.save_seconds, found.save_from) == (100, "longest of 1 measured, times 1.25")
    assert (found.stop_seconds, found.last_seconds, found.signal_seconds) == (600, 160, 660)


def test_at_least_half_of_a_short_job_is_for_training():
    found = walltime.declared(10, Restarts())
    assert (found.stop_seconds, found.signal_seconds) == (300, 330)


def test_setting_up_is_measured_from_the_start_of_the_job_to_the_first_step(tmp_path):
    assert walltime.set_up_seconds(tmp_path) is None
    for number, lines in {1: "10.5 job\n40.5 training\n", 2: "100.0 job\n", 10: "x"}.items():
        (tmp_path / "attempts" / str(number)).mkdir(parents=True)
        (tmp_path / "attempts" / str(number) / "moments").write_text(lines)
    assert walltime.set_up_seconds(tmp_path) == 30.0
