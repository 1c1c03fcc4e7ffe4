"""What lies among checkpoints is told from files alone; going back loses nothing; only asked for is deleted."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from launching import make_bundle, stand_in, until

from ltrl import checkpoints, metrics, runs, state
from ltrl import rollback as back
from ltrl import submit as launcher
from ltrl.checkpoints import Condition, Rules, lower_is_better
from ltrl.errors import LtrlError
from ltrl.inventory import inventory
from ltrl.spec import Checkpoint

torch = pytest.importorskip("torch")

LTRL = "import sys; sys.argv[0] = 'ltrl'; from ltrl.cli import main; main()"


def ltrl(directory: Path, *arguments: object) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", LTRL, *map(str, arguments)],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "160"},
    )
    return done.returncode, done.stdout, done.stderr


def tensors() -> dict[str, Any]:
    return {"a": torch.arange(600.0).reshape(20, 30), "b": torch.ones(7)}


def safetensors(policy: Path) -> None:
    from safetensors.torch import save_file

    (policy / "weights").mkdir(parents=True)
    for number, (name, tensor) in enumerate(tensors().items()):
        save_file({name: tensor}, policy / "weights" / f"model-{number}.safetensors")
    index = {"weight_map": {"a": "model-0.safetensors", "b": "model-1.safetensors"}}
    (policy / "weights" / "model.safetensors.index.json").write_text(json.dumps(index))
    torch.save({"state": tensors()}, policy / "weights" / "optimizer.pt")


def distributed(directory: Path) -> None:
    from torch.distributed import checkpoint

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that there is one process
        checkpoint.save(tensors(), checkpoint_id=directory, no_dist=True)


def dcp(policy: Path) -> None:
    """As NeMo-RL's DTensor policy: real shards and a real index."""
    distributed(policy / "weights")
    distributed(policy / "optimizer")


def megatron(policy: Path) -> None:
    """As NeMo-RL's Megatron policy: torch_dist in `iter_0000000`."""
    iteration = policy / "weights" / "iter_0000000"
    distributed(iteration)
    torch.save({"optimizer": {}}, iteration / "common.pt")
    (iteration / "metadata.json").write_text('{"sharded_backend": "torch_dist", "sharded_backend_version": 1}')
    (policy / "weights" / "latest_checkpointed_iteration.txt").write_text("0")


LAYOUTS = {"safetensors": safetensors, "dcp": dcp, "megatron": megatron}


def save(directory: Path, step: int, fill: Any = safetensors, **info: Any) -> Path:
    made = directory / f"step_{step}"
    fill(made / "policy")
    checkpoints.write_sums(made)
    (made / "training_info.json").write_text(json.dumps({"total_steps": step, **info}))
    return made


def conditions(directory: Path, **options: Any) -> dict[str, str]:
    return {e.directory.name: str(e.condition) for e in checkpoints.scan(directory, **options)}


@pytest.mark.parametrize("kind", LAYOUTS)
def test_whole_checkpoints_are_told_from_their_files(kind: str, tmp_path: Path) -> None:
    made = save(tmp_path, 20, LAYOUTS[kind], **{"val:accuracy": 0.5, "val_reward": 1})
    [entry] = checkpoints.scan(tmp_path, deep=True)
    assert (entry.step, entry.layout, entry.condition, entry.problems) == (20, kind, Condition.COMPLETE, ())
    assert entry.validation == {"accuracy": 0.5}
    assert entry.bytes == sum(path.stat().st_size for path in made.rglob("*") if path.is_file())


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize(
    ("kind", "file", "harm", "deep", "said"),
    [
        ("safetensors", "weights/model-0.safetensors", cut, False, "has 2,452 bytes, its header says 2,472"),
        ("safetensors", "weights/model-0.safetensors", lambda p: p.write_bytes(b""), False, "is empty"),
        ("safetensors", "weights/model-0.safetensors", lambda p: p.write_bytes(b"x" * 99), False, "has no header"),
        ("safetensors", "weights/model-1.safetensors", Path.unlink, False, "model-1.safetensors` is missing, `policy"),
        ("safetensors", "weights/optimizer.pt", cut, False, "`policy/weights/optimizer.pt` is cut short"),
        ("safetensors", "weights/model-0.safetensors", flip, True, "is not as it was written: its hash differs"),
        ("dcp", "weights/__0_0.distcp", cut, True, "the index says"),
        ("dcp", "optimizer/.metadata", Path.unlink, False, "`policy/optimizer/.metadata` is missing"),
        ("dcp", "weights/.metadata", cut, True, "`policy/weights/.metadata` is damaged: "),
        ("megatron", "weights/iter_0000000/__0_0.distcp", Path.unlink, False, "has no shards"),
        ("megatron", "weights/iter_0000000/metadata.json", Path.unlink, False, "metadata.json` is missing"),
        (
            "megatron",
            "weights/latest_checkpointed_iteration.txt",
            lambda p: p.write_text("7"),
            False,
            "names iteration `7`, which is not there",
        ),
    ],
)
def test_damage_is_named(kind: str, file: str, harm: Any, deep: bool, said: str, tmp_path: Path) -> None:
    made = save(tmp_path, 20, LAYOUTS[kind])
    harm(made / "policy" / file)
    [entry] = checkpoints.scan(tmp_path, deep=deep)
    assert entry.condition is Condition.DAMAGED
    assert said in "; ".join(entry.problems)


def test_an_index_that_names_a_function_runs_nothing(tmp_path: Path) -> None:
    made = save(tmp_path, 20, dcp)
    (made / "policy" / "weights" / ".metadata").write_bytes(
        b"cos\nsystem\n(S'touch " + bytes(tmp_path) + b"/owned'\ntR."
    )
    [entry] = checkpoints.scan(tmp_path, deep=True)
    assert entry.condition is Condition.DAMAGED
    assert not (tmp_path / "owned").exists()


def test_what_is_not_a_checkpoint_of_the_run_is_told_apart(tmp_path: Path) -> None:
    save(tmp_path, 20, fingerprint="a" * 64)
    save(tmp_path, 40, fingerprint="b" * 64)
    (tmp_path / "tmp_step_60" / "policy").mkdir(parents=True)
    (tmp_path / "old_step_20").mkdir()
    (tmp_path / "checkpoint-500").mkdir()
    save(tmp_path, 50)
    (tmp_path / "step_50" / "training_info.json").write_text("{")
    (tmp_path / "step_x").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    assert conditions(tmp_path, fingerprint="a" * 64) == {
        "old_step_20": "unfinished",
        "step_20": "complete",
        "step_40": "foreign",
        "step_50": "damaged",
        "tmp_step_60": "unfinished",
        "checkpoint-500": "foreign",
    }
    newest = checkpoints.newest_usable(tmp_path, fingerprint="a" * 64)
    assert newest is not None
    assert newest.step == 20


def test_a_directory_that_is_gone_or_not_there_holds_nothing(tmp_path: Path) -> None:
    assert checkpoints.scan(tmp_path / "none") == ()
    assert checkpoints.newest_usable(tmp_path / "none") is None
    assert checkpoints.look(tmp_path / "step_4") is None


def test_what_cannot_be_read_is_not_called_damaged(tmp_path: Path) -> None:
    made = save(tmp_path, 20)
    loop = made / "policy" / "weights" / "loop"
    loop.symlink_to("loop")  # the system refuses it, to the superuser too
    with pytest.raises(OSError, match="symbolic links"):
        checkpoints.put_unusable_aside(tmp_path)
    loop.unlink()
    assert conditions(tmp_path) == {"step_20": "complete"}


def test_damaged_ones_never_stay_in_the_way_of_a_resume(tmp_path: Path) -> None:
    for step in (20, 40, 60):
        save(tmp_path, step)
    cut(tmp_path / "step_60" / "policy" / "weights" / "model-0.safetensors")
    (tmp_path / "step_40" / "training_info.json").unlink()
    (tmp_path / "step_20").rename(tmp_path / "old_step_20")  # killed between two renamings
    assert [entry.step for entry in checkpoints.put_unusable_aside(tmp_path)] == [60, 40]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set-aside", "step_20"]
    assert sorted(path.name for path in (tmp_path / "set-aside" / "0001").iterdir()) == ["step_40", "step_60"]


def test_listing_is_right_while_a_writer_saves_and_deletes(tmp_path: Path) -> None:
    """A writer makes, renames and removes checkpoints as the engines do; no look ever calls one of them damaged."""
    over = threading.Event()

    def write() -> None:
        model = tmp_path / "model"
        safetensors(model)
        step = 0
        while not over.is_set():
            step += 1
            draft = tmp_path / f"tmp_step_{step}"
            draft.mkdir()
            (draft / "training_info.json").write_text(json.dumps({"total_steps": step}))
            shutil.copytree(model, draft / "policy")
            draft.rename(tmp_path / f"step_{step}")
            if step > 3:
                shutil.rmtree(tmp_path / f"step_{step - 3}")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen = set()
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            for entry in checkpoints.scan(tmp_path):
                seen.add(entry.condition)
                assert entry.condition is not Condition.DAMAGED, entry.problems
    finally:
        over.set()
        writer.join()
    assert Condition.COMPLETE in seen


def test_each_rule_keeps_its_own_and_the_newest_stays(tmp_path: Path) -> None:
    for step, accuracy in ((10, 0.9), (20, 0.2), (30, None), (40, 0.7), (50, 0.1)):
        save(tmp_path, step, **({} if accuracy is None else {"val:accuracy": accuracy}))
    found = checkpoints.scan(tmp_path)
    assert checkpoints.kept(found, Rules(last=2, best=2, every=20)) == {
        10: ("best 1 by accuracy",),
        20: ("every 20",),
        30: (),
        40: ("last 2", "best 2 by accuracy", "every 20"),
        50: ("newest", "last 2"),
    }
    lowest = checkpoints.kept(found, Rules(best=1, lower_is_better=True))
    assert lowest == {10: (), 20: (), 30: (), 40: (), 50: ("newest", "best 1 by accuracy")}
    assert checkpoints.kept(found, Rules())[30] == ("all are kept",)
    best = checkpoints.kept(found, Rules(best=5))  # as many as it says, measured or not
    assert [step for step, why in best.items() if why] == [10, 20, 30, 40, 50]
    assert best[30] == ("no 5 are better",)


def test_what_a_spec_keeps_is_what_its_rules_keep() -> None:
    said = {"keep": 2, "metric": None, "keep_last": None, "keep_every": None}
    assert Rules.of(said) == Rules(last=2)
    assert Rules.of(said | {"metric": "val:sets/a/accuracy", "keep_last": 3, "keep_every": 40}) == Rules(
        last=3, best=2, metric="sets/a/accuracy", every=40
    )
    assert Rules.of(said | {"metric": "train:loss"}) == Rules(best=2, metric="train:loss", lower_is_better=True)
    steps = range(20, 220, 20)
    for checkpoint, most in (
        (Checkpoint(), 10),
        (Checkpoint(keep=3), 3),
        (Checkpoint(keep=3, metric="val:accuracy"), 4),
        (Checkpoint(keep_every=40), 6),
        (Checkpoint(keep=2, metric="val:accuracy", keep_last=2, keep_every=100), 6),
        (Checkpoint(keep=50), 10),
    ):
        assert checkpoint.most_kept(steps) == checkpoint.most_kept_until(200) == most
    assert Checkpoint(keep_every=60).most_kept_until(210) == Checkpoint(keep_every=60).most_kept([*steps, 210])
    assert Checkpoint(keep_every=70).most_kept_until(210) == Checkpoint(keep_every=70).most_kept([*steps, 210])
    assert Checkpoint(keep=3).most_kept_until(10**29) == 3


def test_of_losses_errors_and_divergences_the_lowest_is_the_best() -> None:
    lower = "loss grad_norm token_mult_prob_error gen_kl_error truncation_rate"
    assert all(lower_is_better(f"train:{name}") for name in lower.split())
    higher = "train:reward train:approx_entropy val:accuracy val:avg_length val:error_set/accuracy accuracy"
    assert not any(lower_is_better(name) for name in higher.split())


def test_the_forecast_counts_what_stays_for_good(run: state.Run) -> None:
    path = run.path / "bundle" / "resolved.json"
    resolved = json.loads(path.read_bytes())
    resolved["spec"]["checkpoint"] |= {"every_steps": 2, "keep": 1, "keep_every": 10}
    path.write_text(json.dumps(resolved))
    shutil.rmtree(run.path / "checkpoints" / "step_2")
    found = inventory(replace(run, steps=30))
    assert [one.reasons for one in found.kept] == [(), (), ("newest",)]  # of steps 4, 6 and 8
    assert found.forecast is not None
    # at step 30 there are 10, 20 and 28, and 30 before 28 goes
    assert (found.forecast.num_more, found.forecast.more_bytes // found.forecast.bytes_each) == (11, 1)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> state.Run:
    """A run that is complete: steps 2, 4, 6 and 8 of 8."""
    monkeypatch.setenv("LTRL_STATE_DIR", str(tmp_path / "state"))
    made = launcher.submit(make_bundle(tmp_path, stand_in(steps=8), steps=8), project=tmp_path)
    until(lambda: runs.status(state.read_run(made.path)).state.is_finished)
    return made


def resume(run: state.Run, directory: Path) -> None:
    assert ltrl(directory, "resume", run.id)[0] == 0
    until(lambda: runs.status(state.read_run(run.path)).state.is_finished)


def test_a_run_goes_back_on_and_back_again(run: state.Run, tmp_path: Path) -> None:
    where = f"runs/{run.id}/checkpoints/set-aside/0001"
    status, out, err = ltrl(tmp_path, "rollback", "trial", "--step", 4, "--dry-run")
    assert (status, out, err.splitlines()[0]) == (
        0,
        f"{run.id}\n",
        f"would be set aside in {where}: `step_6`, `step_8`",
    )
    assert runs.status(run).state is state.State.COMPLETED
    status, out, err = ltrl(tmp_path, "rollback", "trial", "--step", 4)
    assert (status, err.splitlines()) == (
        0,
        [
            f"set aside in {where}: `step_6`, `step_8`",
            f"`ltrl resume {run.id}` goes on from step 4, `ltrl rollback {run.id} --undo` goes back",
        ],
    )
    now = state.read_run(run.path)
    row = runs.status(now)
    assert (row.state, row.reason, row.step, row.last_checkpoint) == (
        state.State.CANCELLED,
        "rolled back to step 4",
        4,
        4,
    )
    assert row.reward == pytest.approx((1 + 2 + 3 + 4) / 4 / 8)
    assert runs.list_runs(tmp_path)[0].state is state.State.CANCELLED
    assert list(metrics.read(run.path).train) == [1, 2, 3, 4]
    assert ltrl(tmp_path, "rollback", "trial", "--undo")[0] == 0
    assert runs.status(state.read_run(run.path)) == runs.status(run)
    assert list(metrics.read(run.path).train) == list(range(1, 9))
    assert sorted(state.checkpoints(run.path)) == [2, 4, 6, 8]
    assert ltrl(tmp_path, "rollback", "trial", "--step", 6)[0] == 0
    resume(run, tmp_path)
    assert (run.attempt_dir(2) / "stdout.log").read_text().splitlines()[0].endswith('"from": 6}')
    assert runs.status(state.read_run(run.path)).state is state.State.COMPLETED
    assert list(metrics.read(run.path).train) == list(range(1, 9))
    status, _, err = ltrl(tmp_path, "rollback", "trial", "--undo")
    assert (status, err.splitlines()[0]) == (
        1,
        f"error[LTRL043]: `{run.id}` has gone on since it was rolled back to step 6",
    )
    told = [event.detail for event in state.events(run.path) if "roll" in event.detail]
    assert told == ["rolled back to step 4", "rollback to step 4 undone", "rolled back to step 6"]


def test_a_rollback_that_was_killed_is_finished_by_doing_it_again(run: state.Run, tmp_path: Path) -> None:
    made = back.roll_back(run, step=2)
    aside = run.path / "checkpoints" / made.place
    (aside / "step_6").rename(run.path / "checkpoints" / "step_6")  # as if killed after the first of three
    (aside / "step_8").rename(run.path / "checkpoints" / "step_8")
    again = back.roll_back(run, step=2)
    assert (again.place, sorted(state.checkpoints(run.path))) == (made.place, [2])
    assert len(checkpoints.rollbacks(run.path)) == 1
    (aside / "step_8").rename(run.path / "checkpoints" / "step_8")  # as if its undoing was killed
    back.undo(run)
    assert sorted(state.checkpoints(run.path)) == [2, 4, 6, 8]
    assert not aside.exists()


def test_what_cannot_be_gone_back_to_is_refused(run: state.Run, tmp_path: Path) -> None:
    (run.path / "checkpoints" / "step_6" / "training_info.json").write_text("{")
    cases = {
        ("--step", 5): "error[LTRL045]: `trial-01234567` has no checkpoint of step 5\nhint: it has 2, 4, 8\n",
        ("--step", 8): "error[LTRL045]: step 8 is the newest checkpoint of `trial-01234567` already\n",
        ("--undo",): "error[LTRL045]: `trial-01234567` was not rolled back: there is nothing to undo\n",
    }
    for words, said in cases.items():
        assert ltrl(tmp_path, "rollback", "trial", *words) == (1, "", said)
    status, _, err = ltrl(tmp_path, "rollback", "trial", "--step", 6)
    assert (status, err.startswith("error[LTRL051]: the checkpoint of step 6 is damaged: `training_info.json`")) == (
        1,
        True,
    )
    assert ltrl(tmp_path, "rollback", "trial")[0] == 2
    (run.path / "rollbacks.json").write_text("[{]")
    status, _, err = ltrl(tmp_path, "rollback", "trial", "--step", 2)
    assert (status, "rollbacks.json` is damaged" in err, "Traceback" in err) == (1, True, False)


def test_a_run_that_goes_on_is_not_rolled_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LTRL_STATE_DIR", str(tmp_path / "state"))
    made = launcher.submit(make_bundle(tmp_path, stand_in("--seconds", "0.05", steps=80), steps=80), project=tmp_path)
    until(lambda: 4 in state.checkpoints(made.path))
    with pytest.raises(LtrlError, match="has an attempt that is not over: RUNNING"):
        back.roll_back(made, step=2)
    status, out, _ = ltrl(tmp_path, "checkpoints", "trial", "--json")
    listed = json.loads(out)["checkpoints"]
    assert (status, {one["condition"] for one in listed} <= {"complete", "unfinished"}) == (0, True)
    runs.cancel(state.read_run(made.path))


def test_a_list_says_what_each_is_worth(run: state.Run, tmp_path: Path) -> None:
    where = run.path / "checkpoints"
    shutil.rmtree(where / "step_6")
    save(where, 6, megatron, **{"val:accuracy": 0.75, "val:sets/chains/accuracy": 0.7})
    save(where, 7)
    cut(where / "step_7" / "policy" / "weights" / "model-1.safetensors")
    (where / "tmp_step_9").mkdir()
    status, out, err = ltrl(tmp_path, "checkpoints", "trial")
    assert status == 0
    lines = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.strip()[:1].isdecimal()}
    assert list(lines) == ["2", "4", "6", "7", "8", "9"]
    assert {"complete", "megatron", "0.750", "1"} <= set(lines["6"])
    assert lines["8"][-1] == "newest"
    assert "`--verify` reads indices, archives and hashes" in err
    status, out, _ = ltrl(tmp_path, "checkpoints", "trial", "--json", "--verify")
    assert status == 1
    by_step = {one["step"]: one for one in json.loads(out)["checkpoints"]}
    assert (by_step[7]["condition"], by_step[9]["condition"]) == ("damaged", "unfinished")
    assert by_step[6]["validation"] == {"accuracy": 0.75, "sets/chains/accuracy": 0.7}
    assert by_step[2]["kept_because"] == ["all are kept"]


def test_pruning_shows_first_and_takes_away_only_when_told(run: state.Run, tmp_path: Path) -> None:
    status, out, err = ltrl(tmp_path, "prune", "trial", "--last", 1, "--every", 4)
    rows = [line.split() for line in out.splitlines() if line.strip()[:1].isdecimal()]
    assert status == 0
    assert [row[:3] for row in rows] == [
        ["2", "would", "go"],
        ["4", "stays", "every"],
        ["6", "would", "go"],
        ["8", "stays", "newest,"],
    ]
    assert err.splitlines()[-1].startswith("nothing was changed; ")
    assert sorted(state.checkpoints(run.path)) == [2, 4, 6, 8]
    assert ltrl(tmp_path, "prune", "trial", "--every", 4, "--set-aside")[0] == 0
    assert sorted(state.checkpoints(run.path)) == [4, 8]
    assert sorted(p.name for p in (run.path / "checkpoints" / "set-aside" / "0001").iterdir()) == ["step_2", "step_6"]
    assert ltrl(tmp_path, "prune", "trial", "--last", 1, "--delete")[0] == 0
    assert sorted(state.checkpoints(run.path)) == [8]
    assert not (run.path / "checkpoints" / "set-aside" / "0002").exists()
    status, _, err = ltrl(tmp_path, "prune", "trial", "--best", 1)
    assert (status, err) == (
        1,
        f"error[LTRL012]: no checkpoint of `{run.id}` has the figure `accuracy`\nhint: validation was not measured\n",
    )
    assert ltrl(tmp_path, "prune", "trial")[0] == 2


def test_a_fork_starts_from_a_whole_checkpoint_only(run: state.Run, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "other", stand_in(steps=10), steps=10, name="next", fingerprint="e" * 64)
    status, out, err = ltrl(tmp_path, "fork", "trial", bundle.path, "--step", 6)
    assert (status, out) == (0, "next-eeeeeeee\n")
    made = state.read_run(tmp_path / "other" / "runs" / "next-eeeeeeee")
    until(lambda: runs.status(state.read_run(made.path)).state.is_finished)
    assert made.forked_from == f"{run.path}@6"
    save(run.path / "checkpoints", 9)
    cut(run.path / "checkpoints" / "step_9" / "policy" / "weights" / "model-1.safetensors")
    status, _, err = ltrl(tmp_path, "fork", "trial", bundle.path, "--step", 9)
    assert (status, err.startswith(f"error[LTRL051]: the checkpoint of step 9 of `{run.id}` is damaged: ")) == (1, True)


def test_a_disk_that_cannot_be_written_is_named_and_nothing_moves(run: state.Run, tmp_path: Path) -> None:
    (run.path / "checkpoints" / "set-aside").write_text("a file is in the way")
    status, _, err = ltrl(tmp_path, "rollback", "trial", "--step", 4)
    assert (status, err.startswith("error[LTRL032]: cannot write `")) == (1, True)
    assert sorted(state.checkpoints(run.path)) == [2, 4, 6, 8]
    assert checkpoints.rollbacks(run.path) == ()  # what was measured later still counts


def read_only(place: Path, directory: Path, *words: object) -> tuple[int, str, str]:
    """A command of ltrl that sees a directory on a disk that nobody can write."""
    mount = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && cd "$2" && shift 2 && exec "$@"'
    command = [sys.executable, "-W", "error", "-c", LTRL, *map(str, words)]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mount, "sh", place, directory, *command],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "160"},
    )
    return done.returncode, done.stdout, done.stderr


CAN_MOUNT = subprocess.run(["unshare", "--mount", "mount", "--bind", "/", "/"], capture_output=True, check=False)


@pytest.mark.skipif(CAN_MOUNT.returncode != 0, reason="needs root that may mount")
def test_on_a_read_only_disk_everything_is_shown_and_nothing_half_done(run: state.Run, tmp_path: Path) -> None:
    kept = run.path / "checkpoints"
    before = sorted(run.path.rglob("*"))
    for words in (["checkpoints", "trial", "--verify"], ["rollback", "trial", "--step", 4, "--dry-run"]):
        assert read_only(run.path, tmp_path, *words)[0] == 0, words
    for words, named in (
        (["rollback", "trial", "--step", 4], run.path),
        (["prune", "trial", "--last", 1, "--delete"], kept / "set-aside/0001"),
    ):
        status, _, err = read_only(run.path, tmp_path, *words)
        assert (status, err) == (1, f"error[LTRL032]: cannot write `{named}`: read-only file system\n")
    status, _, err = read_only(kept, tmp_path, "rollback", "trial", "--step", 4)
    assert (status, err) == (1, f"error[LTRL032]: cannot write `{kept}/set-aside/0001`: read-only file system\n")
    assert checkpoints.rollbacks(run.path) == ()
    assert sorted(run.path.rglob("*")) == sorted([*before, run.path / "rollbacks.json"])
    assert runs.status(state.read_run(run.path)).state is state.State.COMPLETED
    back.roll_back(state.read_run(run.path), step=4)
    status, _, err = read_only(kept, tmp_path, "rollback", "trial", "--undo")
    assert (status, err) == (1, f"error[LTRL032]: cannot write `{kept}`: read-only file system\n")
    assert back.undo(state.read_run(run.path)).moved == ("step_6", "step_8")
    assert sorted(state.checkpoints(run.path)) == [2, 4, 6, 8]


def test_a_disk_that_takes_no_more_leaves_everything_in_its_place(run: state.Run, tmp_path: Path) -> None:
    words = [sys.executable, "-c", f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)); {LTRL}"]
    words += ["rollback", run.id, "--step", "4"]
    done = subprocess.run(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        1,
        f"error[LTRL032]: cannot write `{run.path}/rollbacks.json`: file too large",
    )
    assert sorted(state.checkpoints(run.path)) == [2, 4, 6, 8]
    assert runs.status(state.read_run(run.path)).state is state.State.COMPLETED


def test_a_directory_that_was_removed_has_nothing_to_list(run: state.Run, tmp_path: Path) -> None:
    shutil.rmtree(run.path / "checkpoints")
    assert ltrl(tmp_path, "checkpoints", "trial") == (0, "", f"`{run.id}` has no checkpoints yet\n")
    status, _, err = ltrl(tmp_path, "rollback", "trial", "--step", 2)
    assert (status, err) == (1, f"error[LTRL045]: `{run.id}` has no checkpoint of step 2\n")
    status, _, err = ltrl(tmp_path, "export", "trial", "out")
    assert (status, err) == (1, f"error[LTRL045]: `{run.id}` has no complete checkpoint\n")


def test_a_clock_that_jumped_confuses_nobody(run: state.Run, tmp_path: Path) -> None:
    for step, year in ((2, 1990), (8, 2100)):
        seconds = (year - 1970) * 365.25 * 86400
        os.utime(run.path / "checkpoints" / f"step_{step}" / "training_info.json", (seconds, seconds))
    status, out, _ = ltrl(tmp_path, "checkpoints", "trial", "--json")
    ages = {one["step"]: one["age_seconds"] for one in json.loads(out)["checkpoints"]}
    assert (status, ages[8], ages[2] > 1e9) == (0, 0.0, True)


def test_a_rollback_that_is_killed_anywhere_can_be_done_again(run: state.Run, tmp_path: Path) -> None:
    for pause in (0.0, 0.002, 0.02):
        process = subprocess.Popen(
            [sys.executable, "-c", LTRL, "rollback", run.id, "--step", "2"],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        place = run.path / "rollbacks.json"
        while process.poll() is None and not place.exists():
            time.sleep(0.0005)
        time.sleep(pause)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if sorted(state.checkpoints(run.path)) != [2]:
            back.roll_back(run, step=2)
        assert sorted(state.checkpoints(run.path)) == [2]
        back.undo(run)
        assert sorted(state.checkpoints(run.path)) == [2, 4, 6, 8]
