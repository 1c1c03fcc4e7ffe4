"""The job's time inside NeMo-RL; its own class is in `tests/contract/`."""

import time
from types import SimpleNamespace

import pytest

from ltrl_backends.nemo_rl import walltime


class Checker:
    """As NeMo-RL's: says once that it is time."""

    def __init__(self, is_time=False):
        self.last_saved = False
        self.is_time = is_time

    def check_save(self):
        return self.is_time


@pytest.fixture
def attempt(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LTRL_ATTEMPT", "3")
    directory = tmp_path / "attempts" / "3"
    directory.mkdir(parents=True)
    return directory


def installed(checkpointing=None):
    grpo = SimpleNamespace(TimeoutChecker=Checker)
    walltime.install(grpo, {} if checkpointing is None else checkpointing)
    return grpo.TimeoutChecker


def test_the_last_checkpoint_is_due_before_the_job_ends_whatever_setting_up_took(attempt, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    monkeypatch.setenv("LTRL_JOB_ENDS", str(1000 + 2 * 86400 + 3 * 3600 + 4 * 60 + 5 + 700))
    monkeypatch.setenv("LTRL_SAVE_SECONDS", "700")
    checkpointing = {"checkpoint_must_save_by": "00:00:01:00"}
    installed(checkpointing)
    assert checkpointing == {"checkpoint_must_save_by": "02:03:04:05"}
    assert (attempt / "moments").read_text() == "1000.0 training\n"
    monkeypatch.setenv("LTRL_JOB_ENDS", "900")
    installed(checkpointing)
    assert checkpointing == {"checkpoint_must_save_by": "00:00:00:01"}


def test_without_a_job_the_configuration_stays(attempt, monkeypatch):
    monkeypatch.delenv("LTRL_JOB_ENDS", raising=False)
    checkpointing = {"checkpoint_must_save_by": "00:23:15:00"}
    installed(checkpointing)
    assert checkpointing == {"checkpoint_must_save_by": "00:23:15:00"}


def test_a_job_that_is_told_to_stop_saves_once(attempt):
    checker = installed()()
    assert checker.check_save() is False
    (attempt / "stop").touch()
    assert [checker.check_save(), checker.check_save()] == [True, False]
    assert installed()(is_time=True).check_save() is True
