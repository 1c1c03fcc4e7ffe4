"""NeMo-RL's own manager of checkpoints with the rules of a spec that it does not have."""

from __future__ import annotations

from pathlib import Path

import pytest

from ltrl_backends.nemo_rl import retention


def test_the_manager_deletes_what_no_rule_of_the_spec_keeps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from nemo_rl.utils.checkpoint import CheckpointManager

    section = {"checkpoint_dir": str(tmp_path), "keep_top_k": 1_000_000, "metric_name": "val:accuracy"}
    section |= {"higher_is_better": True, "save_optimizer": True}
    section["ltrl"] = {"keep": 1, "metric": "val:accuracy", "keep_every": 40}
    manager = CheckpointManager(section)
    retention.install(manager, section)
    for step, accuracy in ((20, 0.1), (40, 0.2), (60, 0.9), (80, 0.3), (100, 0.4)):
        made = manager.init_tmp_checkpoint(step, {"total_steps": step, "val:accuracy": accuracy})
        manager.finalize_checkpoint(made)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_100", "step_40", "step_60", "step_80"]
    assert capsys.readouterr().out == "deleted: `step_20`, which no rule keeps\n"
    assert str(manager.get_latest_checkpoint_path()).endswith("step_100")
