"""Metrics files: of several attempts, damaged, still being written."""

from __future__ import annotations

import json
from pathlib import Path

from ltrl import metrics
from ltrl.report import report, verdict


def write(run: Path, exp: str, *records: object, tail: bytes = b"") -> None:
    directory = run / "logs" / exp
    directory.mkdir(parents=True)
    text = "".join(json.dumps(record) + "\n" for record in records)
    (directory / "metrics.jsonl").write_bytes(text.encode() + tail)


def test_a_resumed_run_counts_each_step_once_and_the_newer_measurement(tmp_path: Path) -> None:
    write(tmp_path, "exp_001", *({"step": s, "train/reward": 0.1} for s in range(1, 8)))
    write(tmp_path, "exp_002", *({"step": s, "train/reward": 0.5} for s in range(6, 11)))
    found = metrics.read(tmp_path)
    assert [found.train[s]["reward"] for s in found.train] == [0.1] * 5 + [0.5] * 5
    assert found.last_step == 10


def test_validation_and_timings_keep_their_names(tmp_path: Path) -> None:
    write(
        tmp_path,
        "exp_001",
        {"step": 0, "validation/accuracy": 0.25, "validation/chains/accuracy": 0.25},
        {"step": 1, "train/reward": 1.0, "timing/train/total_step_time": 2.0},
    )
    found = metrics.read(tmp_path)
    assert found.validation == {0: {"accuracy": 0.25, "chains/accuracy": 0.25}}
    assert found.train == {1: {"reward": 1.0, "timing/train/total_step_time": 2.0}}


def test_damaged_and_unfinished_lines_are_left_out(tmp_path: Path) -> None:
    tail = (
        b'\xff\xfe\nnull\n[1]\n{"no": "step"}\n{"step": "3"}\n{"step": 2, "train/reward": "x"}\n{"step": 3, "train/rew'
    )
    write(tmp_path, "exp_001", {"step": 1, "train/reward": 0.5}, tail=tail)
    assert metrics.read(tmp_path).train == {1: {"reward": 0.5}}


def test_a_run_that_has_measured_nothing_is_empty(tmp_path: Path) -> None:
    found = metrics.read(tmp_path)
    assert (found.train, found.validation, found.last_step, found.mean("reward")) == ({}, {}, 0, None)


def test_a_report_compares_the_first_and_the_last_ten_steps(tmp_path: Path) -> None:
    for name, end in (("rubric", 1.0), ("outcome", 0.0)):
        steps = [
            {"step": s, "train/reward": s / 40, "train/outcome": 0.9, "train/rubric": 0.5 if s <= 20 else end}
            for s in range(1, 41)
        ]
        write(tmp_path / name, "exp_001", *steps)
    made = [report(n, tmp_path / n, reward_backend=n, num_steps=40) for n in ("rubric", "outcome")]
    first, last = made[0].change("reward")
    assert (round(first or 0, 4), round(last or 0, 4)) == (0.1375, 0.8875)
    assert made[0].curve("rubric", width=4) == "▅▅██"
    assert made[1].curve("rubric", width=4) == "▅▅▁▁"
    assert verdict(made) == (
        "evidence recall goes 0.50 -> 1.00 when the rubric is paid for and 0.50 -> 0.00 when only the answer is; "
        "accuracy ends at 0.90 and 0.90"
    )
    assert verdict(made[:1]) is None
