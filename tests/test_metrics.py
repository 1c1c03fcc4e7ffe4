"""Metrics files: of several attempts, damaged, still being written."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

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


def events(path: Path, scalars: list[tuple[float, int, str, float]]) -> None:
    """An event file as TensorBoard's own writer makes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        writer = RecordWriter(file)
        writer.write(event_pb2.Event(wall_time=1.0, file_version="brain.Event:2").SerializeToString())
        for time, step, tag, value in scalars:
            summary = summary_pb2.Summary(value=[summary_pb2.Summary.Value(tag=tag, simple_value=value)])
            writer.write(event_pb2.Event(wall_time=time, step=step, summary=summary).SerializeToString())


def appended(path: Path, text: bytes) -> None:
    with path.open("ab") as file:
        file.write(text)


def test_steps_that_a_resume_goes_back_over_are_lost_with_what_was_measured_at_them(tmp_path: Path) -> None:
    write(tmp_path, "exp_002", *({"step": s, "train/reward": 0.5, "train/outcome": 0.1} for s in range(1, 9)))
    write(
        tmp_path, "exp_010", {"step": 6, "validation/accuracy": 0.7}, *({"step": s, "train/reward": 0.9} for s in (6,))
    )
    appended(tmp_path / "logs/exp_002/metrics.jsonl", b'{"step": 8, "validation/accuracy": 0.3}\n')
    found = metrics.read(tmp_path)
    assert found.last_step == 6
    assert found.train[6] == {"reward": 0.9}
    assert found.validation == {6: {"accuracy": 0.7}}
    assert [(s.number, s.first_step, s.last_step) for s in found.starts.values()] == [(2, 1, 8), (10, 6, 6)]


def test_reading_on_gives_what_reading_at_once_gives(tmp_path: Path) -> None:
    reader = metrics.Reader(tmp_path)
    assert not reader.update()
    write(tmp_path, "exp_001", {"step": 0, "validation/accuracy": 0.1})
    path = tmp_path / "logs/exp_001/metrics.jsonl"
    for step in range(1, 30):
        line = json.dumps({"step": step, "train/reward": step / 10, f"train/late{step // 10}": 1.0}).encode() + b"\n"
        appended(path, line[:9])
        reader.update()
        appended(path, line[9:])
        assert reader.update()
    write(tmp_path, "exp_002", *({"step": s, "train/reward": 9.0} for s in range(20, 26)))
    events(tmp_path / "logs/exp_002/tensorboard/events.out.tfevents.1", [(5.0, 20, "timing/train/total_step_time", 1)])
    assert reader.update(limit=50)
    while reader.update(limit=50):
        pass
    whole = metrics.read(tmp_path)
    assert (reader.metrics.train, reader.metrics.validation) == (whole.train, whole.validation)
    assert whole.train.steps.tolist() == list(range(1, 26))
    assert (whole.train[20], whole.train[9]) == ({"reward": 9.0, "time": 5.0}, {"reward": 0.9, "late0": 1.0})
    assert not reader.update()


def test_a_file_that_is_cut_short_or_replaced_is_read_anew(tmp_path: Path) -> None:
    write(tmp_path, "exp_001", *({"step": s, "train/reward": 0.5} for s in range(1, 8)))
    path = tmp_path / "logs/exp_001/metrics.jsonl"
    reader = metrics.Reader(tmp_path)
    reader.update()
    path.write_text('{"step": 3, "train/reward": 0.25}\n')
    assert reader.update()
    assert reader.metrics.train == {3: {"reward": 0.25}}
    path.write_text('{"step": 4, "train/reward": 0.75}\n{"step": 5, "train/reward": 0.75}\n')  # longer, other bytes
    reader.update()
    assert reader.metrics.train.steps.tolist() == [4, 5]
    other = path.with_name("new")
    other.write_text(path.read_text())
    other.replace(path)
    appended(path, b'{"step": 6, "train/reward": 0.5}\n')
    reader.update()
    assert reader.metrics.train.steps.tolist() == [4, 5, 6]


def test_what_was_read_stays_when_the_directory_is_gone(tmp_path: Path) -> None:
    write(tmp_path / "run", "exp_001", {"step": 1, "train/reward": 0.5})
    reader = metrics.Reader(tmp_path / "run")
    reader.update()
    shutil.rmtree(tmp_path / "run")
    assert not reader.update()
    assert reader.metrics.train == {1: {"reward": 0.5}}


def test_lines_that_are_no_metrics_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ltrl.metrics.tail.LONGEST", 2000)
    odd = [b"[" * 1000, b'{"step": -1, "a": 1}', b'{"step": true, "a": 1}', b'{"step": 1e3, "a": 1}', b"x" * 5000]
    odd += [
        b'{"step": 99999999999999999999999, "a": 1}',
        b'{"step": 2, "a": NaN, "b": Infinity, "c": 1' + b"0" * 400 + b"}",
    ]
    write(
        tmp_path, "exp_001", {"step": 1, "train/reward": 0.5}, tail=b"\n".join(odd) + b'\n{"step": 7, "train/x": 1}\n'
    )
    write(tmp_path, "exp_x", {"step": 70, "train/reward": 0.5})
    assert metrics.read(tmp_path).train == {1: {"reward": 0.5}, 7: {"x": 1.0}}


def test_event_files_say_what_tensorboard_reads_from_them(tmp_path: Path) -> None:
    path = tmp_path / "run/logs/exp_001/tensorboard/events.out.tfevents.1.host"
    written = [(1000.0 + s, s, f"train/{t}", s * 0.1) for s in range(1, 60) for t in ("reward", "loss", "ä/b")]
    written += [(900.0, 60, "timing/train/total_step_time", 2.5), (1.0, 0, "validation/accuracy", 0.25)]
    events(path, written)
    tensor = tensor_pb2.TensorProto(dtype=1, float_val=[7.0])
    values = [summary_pb2.Summary.Value(tag="train/new", tensor=tensor), summary_pb2.Summary.Value(tag="train/none")]
    with path.open("ab") as file:
        event = event_pb2.Event(wall_time=2.0, step=60, summary=summary_pb2.Summary(value=values))
        RecordWriter(file).write(event.SerializeToString())
    theirs = EventAccumulator(str(path.parent), size_guidance={"scalars": 0}).Reload()
    found = metrics.read(tmp_path / "run")
    for tag in theirs.Tags()["scalars"]:
        kind, _, short = tag.partition("/")
        table = found.validation if kind == "validation" else found.train
        name = short if kind != "timing" else tag
        assert [(s, v) for s, v in zip(table.steps, table.column(name), strict=True) if not math.isnan(v)] == [
            (e.step, e.value) for e in theirs.Scalars(tag)
        ]
    assert found.train[60] == {"timing/train/total_step_time": 2.5, "new": 7.0, "time": 900.0}
    assert found.validation == {0: {"accuracy": 0.25}}


def test_event_files_add_the_time_and_the_gpus_to_metrics_files(tmp_path: Path) -> None:
    write(tmp_path, "exp_001", {"step": 1, "train/reward": 0.5})
    seen = [(10.0, 1, "timing/train/total_step_time", 2.0), (11.0, 2, "timing/train/total_step_time", 2.0)]
    seen += [(9.0, 40, f"ray/node.0.gpu.1.{what}", value) for what, value in (("mem_gb", 71.5), ("util", 50.0))]
    seen += [(9.5, 41, "ray/node.0.gpu.1.mem_gb", 60.0), (1.0, 1, "train/reward", 7.0)]
    path = tmp_path / "logs/exp_001/tensorboard/events.out.tfevents.1"
    events(path, seen)
    reader = metrics.Reader(tmp_path)
    reader.update()
    assert reader.metrics.train == {1: {"reward": 0.5, "time": 10.0}}
    assert reader.metrics.gpus == {(0, 1): metrics.Gpu(60.0, 71.5, 50.0)}
    appended(tmp_path / "logs/exp_001/metrics.jsonl", b'{"step": 2, "train/reward": 0.75}\n')
    reader.update()
    assert reader.metrics.train[2] == {"reward": 0.75, "time": 11.0}


def test_damage_in_an_event_file_costs_no_more_than_it_must(tmp_path: Path) -> None:
    path = tmp_path / "logs/exp_001/tensorboard/events.out.tfevents.1"
    events(path, [(1.0, s, "train/reward", 0.5) for s in (1, 2, 3)])
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])  # the last record is still being written
    reader = metrics.Reader(tmp_path)
    reader.update()
    assert reader.metrics.train.steps.tolist() == [1, 2]
    appended(path, whole[-3:])
    reader.update()
    assert reader.metrics.train.steps.tolist() == [1, 2, 3]
    bad = bytearray(whole)
    bad[bad.index(b"train/reward") - 3] = 0xFF  # inside the first message
    path.write_bytes(bytes(bad))
    assert metrics.read(tmp_path).train.steps.tolist() == [2, 3]
    path.write_bytes(whole + b"\x00" * 500)
    assert metrics.read(tmp_path).train.steps.tolist() == [1, 2, 3]


def test_figures_are_read_under_one_name_from_every_engine(tmp_path: Path) -> None:
    lines = [
        {"step": 1, "train/reward": 0.5, "train/total_num_tokens": 600, "timing/train/total_step_time": 3.0},
        {"step": 2, "train/reward": 0.75, "timing/train/exposed_generation": 1.5, "train/source/mrcr/reward": 0.25},
    ]
    write(tmp_path, "exp_001", *lines)
    found = metrics.read(tmp_path)
    shown = {name: [round(v, 3) for v in found.figure(name)] for name in ("reward", "generation_seconds", "kl")}
    assert str(shown) == "{'reward': [0.5, 0.75], 'generation_seconds': [nan, 1.5], 'kl': [nan, nan]}"
    assert found.figure("tokens_per_second")[0] == 200.0
    assert str({s: {n: list(v) for n, v in f.items()} for s, f in found.sources().items()}) == (
        "{'mrcr': {'reward': [nan, 0.25]}}"
    )


def test_a_run_whose_logs_are_gone_still_has_its_validations(tmp_path: Path) -> None:
    for step, accuracy in ((10, 0.25), (20, 0.5)):
        path = tmp_path / f"checkpoints/step_{step}/training_info.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"total_steps": step, "val:accuracy": accuracy, "val_reward": accuracy}))
    assert metrics.read(tmp_path).validation == {10: {"accuracy": 0.25}, 20: {"accuracy": 0.5}}
