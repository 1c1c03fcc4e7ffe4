"""Watching runs: what is drawn, on terminals of every size and on none."""

import json
import math
import os
import pty
import shlex
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from launching import make_bundle, stand_in
from test_runs import cli, make_run, write_metrics

from ltrl import state
from ltrl import submit as launcher
from ltrl.cli.show.watch.chart import bounds, chart, number, spark
from ltrl.cli.show.watch.frame import frame, headline
from ltrl.live import Live
from ltrl.metrics.curve import MOST, Curve
from ltrl.state import State

CODE = "import sys; from ltrl.cli import main; sys.argv = ['ltrl', *sys.argv[1:]]; main()"
SIZES = [(1, 1), (3, 40), (20, 5), (40, 12), (60, 20), (80, 24), (130, 40), (300, 90)]


@pytest.fixture(autouse=True)
def _own_state(monkeypatch, tmp_path):
    monkeypatch.setenv("LTRL_STATE_DIR", str(tmp_path / "state"))


def text(live, width=100, height=40, **options):
    lines = frame([live], selected=0, width=width, height=height, **options)
    return [line.plain.rstrip() for line in lines]


def updated(run):
    live = Live(run)
    while live.update():
        pass
    return live


def test_a_curve_goes_through_its_values_and_leaves_gaps():
    steps = [0.0, 0.25, 0.5, 0.75, 1.0, 0.5, math.nan, 0.5]
    assert chart(steps, width=4, height=2, low=0, high=1, ascii_=False) == [" ⢠⢿ ", "⣰⠋⠈⠈"]
    assert chart(steps, width=8, height=3, low=0, high=1, ascii_=True) == ["   ***  ", "  ** * *", "***     "]
    assert chart([0.5], width=2, height=1, low=0, high=1, ascii_=False) == ["⠄ "]
    assert chart([], width=2, height=1, low=0, high=1, ascii_=False) == ["  "]
    assert spark([0, 0.5, math.nan, 1], low=0, high=1, ascii_=False) == "▁▅ █"


def test_axes_and_numbers_are_short():
    assert [bounds(v) for v in ([], [0.2, 0.9], [0.0, 12.5], [-1.0, 2.0])] == [(0, 1), (0, 1), (0, 12.5), (-1, 2)]
    found = [number(v) for v in (None, math.nan, 0, 0.5, 12.345, 99999, 1234567, 2e9, 1.5e-6)]
    assert found == ["-", "-", "0", "0.500", "12.3", "100.0k", "1.2M", "2.0G", "1.5e-06"]


def test_a_curve_kept_up_to_date_is_the_one_made_at_once():
    values = [math.sin(i / 50) if i % 7 else math.nan for i in range(3 * MOST + 5)]
    kept, at_once = Curve(), Curve()
    for end in (1, 5, MOST, MOST + 1, MOST + 2, 2 * MOST + 9, len(values)):
        kept.update(values[:end], max(0, end - 600) if end > 600 else 0)
    at_once.update(values, 0)
    assert len(kept.means) <= MOST
    assert repr(kept.means) == repr(at_once.means)  # NaN equals nothing
    values[100:] = [0.25] * 200  # a resume went back
    kept.update(values, 100)
    assert kept.resampled(2)[-1] == 0.25


def full_run(path, **options):
    run = make_run(path, **options)
    write_metrics(run.path, 1, range(1, 81))
    row = {"step": 81, "train/reward": 0.5, "train/outcome": 0.75, "train/rubric": 0.25, "train/group/mixed": 0.5}
    row |= {"train/mean_gen_tokens_per_sample": 8000, "train/total_num_tokens": 64000, "train/is_oob_ratio": 0.003}
    row |= {"timing/train/total_step_time": 2.0}
    lines = [
        row,
        {"step": 81, "validation/accuracy": 0.5, "validation/a/accuracy": 0.25, "validation/b/accuracy": 0.75},
    ]
    with (run.path / "logs/exp_001/metrics.jsonl").open("w") as file:
        file.write("".join(json.dumps({**lines[0], "step": s}) + "\n" for s in range(1, 81)))
        file.write("".join(json.dumps(line) + "\n" for line in lines))
    (run.path / "checkpoints/step_80").mkdir(parents=True)
    (run.path / "checkpoints/step_80/training_info.json").write_text('{"total_steps": 80}')
    (run.attempt_dir(1) / "stdout.log").write_bytes(
        b"one\n\xff\xfe two\n\x1b]0;title\x07\x1b[2Jthree\n 10%\r 50%\r100%\r\n\x07bell\n"
    )
    return run


def test_a_screen_says_how_the_run_does(tmp_path):
    shown = text(updated(full_run(tmp_path / "r", final=State.RUNNING)), height=44)
    assert shown[0] == "RUNNING r  attempt 1, on `local`, job 1"
    assert shown[1].endswith("step 81/100  38 s left  2.0 s a step")
    figures = [line for line in shown if line[:11].strip() in ("groups", "responses", "policy", "step", "validation")]
    assert figures == [
        "groups     mixed 50%",
        "responses  8000 tokens",
        "policy     out of band 0.30%",
        "step       2.000 s, 32.0k tokens/s",
        "validation step 81, accuracy 0.50, a 0.25, b 0.75",
    ]
    assert shown[-6:] == ["one", "\ufffd\ufffd two", "three", "100%", "\ufffdbell", "q leaves; the runs go on"]
    curves = [line for line in shown if any("\u2800" < character <= "\u28ff" for character in line)]
    assert len(curves) >= 3  # every one of them is level


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_every_screen_fits(tmp_path, width, height):
    runs = [updated(full_run(tmp_path / f"run-with-a-long-name-{i}")) for i in range(3)]
    for watched in (runs[:1], runs, runs * 17):
        for ascii_ in (False, True):
            lines = frame(watched, selected=len(watched) - 1, width=width, height=height, ascii_=ascii_)
            assert 0 < len(lines) <= height
            assert all(line.cell_len <= width for line in lines)


def test_a_run_without_any_file_is_shown(tmp_path):
    shown = text(updated(make_run(tmp_path / "r", final=State.PENDING)), height=12)
    assert shown[:2] == ["PENDING r  attempt 1, on `local`, job 1", "─" * 60 + " step 0/100"]


def test_a_run_that_stands_still_is_said_to(tmp_path):
    run = full_run(tmp_path / "r", final=State.RUNNING)
    path = run.path / "logs/exp_001/metrics.jsonl"
    long_ago = time.time() - 3600
    for file in (path, run.attempt_dir(1) / "stdout.log"):
        os.utime(file, (long_ago, long_ago))
    live = updated(run)
    assert " stalled: nothing for 1 h 00 min, a step takes 2.0 s" in text(live)
    with path.open("a") as file:
        file.write('{"step": 82, "train/reward": 0.5}\n')
    live.update()
    assert live.stall is None
    ahead = time.time() + 3600  # a clock that jumped
    os.utime(path, (ahead, ahead))
    assert updated(run).stall is None


def test_logs_and_gpus_do_not_hide_that_no_step_is_done(tmp_path):
    run = full_run(tmp_path / "r", final=State.RUNNING)
    long_ago = time.time() - 3600
    os.utime(run.path / "logs/exp_001/metrics.jsonl", (long_ago, long_ago))
    live = updated(run)
    with (run.attempt_dir(1) / "stdout.log").open("a") as file:
        file.write("still waiting for a node\n")
    assert live.update()
    assert live.stall is not None


def test_an_attempt_that_starts_may_be_silent_for_longer_than_a_step(tmp_path):
    run = full_run(tmp_path / "r", final=State.RUNNING)
    begun = datetime.now(UTC) - timedelta(minutes=10)
    state.change_attempt(run, 1, started=begun.isoformat(timespec="milliseconds"))
    for path in (run.path / "logs/exp_001/metrics.jsonl", run.attempt_dir(1) / "stdout.log"):
        os.utime(path, (begun.timestamp() - 60, begun.timestamp() - 60))  # of the attempt before
    assert updated(state.read_run(run.path)).stall is None
    begun -= timedelta(minutes=30)
    state.change_attempt(run, 1, started=begun.isoformat(timespec="milliseconds"))
    for path in (run.path / "logs/exp_001/metrics.jsonl", run.attempt_dir(1) / "stdout.log"):
        os.utime(path, (begun.timestamp() - 60, begun.timestamp() - 60))
    assert " stalled: nothing for 40 min 00 s, no step yet" in text(updated(state.read_run(run.path)))


def test_a_damaged_record_of_rollbacks_is_said_and_ends_nothing(tmp_path):
    run = full_run(tmp_path / "r")
    live = updated(run)
    (run.path / "rollbacks.json").write_text("[{")
    live.update()
    assert "is damaged" in text(live, width=250)[2]
    assert live.metrics.last_step == 81


def test_what_was_seen_stays_when_the_directory_goes(tmp_path):
    live = updated(full_run(tmp_path / "r"))
    shutil.rmtree(tmp_path / "r")
    assert not live.update()
    assert " its directory is gone: this is what was seen last" in text(live)
    assert headline(live).startswith("r: COMPLETED, step 81/100, reward 0.500")


def test_without_a_terminal_a_line_is_written_for_each_change(tmp_path):
    bundle = make_bundle(tmp_path, stand_in("--steps", "30", "--seconds", "0.02", "--save-every", "10"), steps=30)
    run = launcher.submit(bundle, project=tmp_path)
    done = cli(tmp_path, "watch", run.id, "--every", "0.1")
    lines = done.stdout.splitlines()
    assert lines[-1] == f"{run.id}: COMPLETED, step 30/30, reward 0.850"
    assert all(line.startswith(f"{run.id}: ") for line in lines)
    assert (done.returncode, done.stderr) == (0, "")


def test_one_picture_and_json_are_for_scripts(tmp_path):
    full_run(tmp_path / "runs/r")
    shown = cli(tmp_path, "watch", "r", "--once").stdout
    assert shown.startswith("COMPLETED r  attempt 1, on `local`, job 1\n")
    (found,) = json.loads(cli(tmp_path, "watch", "r", "--json").stdout)
    assert (found["step"], found["figures"]["outcome"], found["figures"]["kl"]) == (81, 0.75, None)
    assert found["validation"] == {"step": 81, "accuracy": 0.5, "a/accuracy": 0.25, "b/accuracy": 0.75}


def test_a_directory_that_cannot_be_written_can_be_watched(tmp_path):
    run = full_run(tmp_path / "runs/r", final=State.RUNNING)  # its process is gone, which cannot be written down
    for directory, _, _ in os.walk(run.path):
        Path(directory).chmod(0o555)
    plain = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*plain, sys.executable, "-c", CODE, "watch", str(run.path), "--once"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "LTRL_STATE_DIR": str(run.path / "state")},
    )  # fmt: skip
    assert list(run.path.glob(".attempt*")) == []
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.startswith("FAILED r  attempt 1")


class Terminal:
    """A command in a real terminal: tmux."""

    def __init__(self, where, *words, size=(120, 36), around=""):
        self.socket = f"ltrl-{os.getpid()}-{time.monotonic_ns()}"
        command = [sys.executable, "-c", CODE, *words]
        environment = {**os.environ, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
        columns, rows = map(str, size)
        line = f"{shlex.join(command)}; echo status $?; stty -a | grep -o ' icanon'; exec cat"
        if around:  # an interactive shell: one that starts jobs, and continues them
            (where / "typed").write_text(f"{shlex.join(command)}\n")
            line = around
        subprocess.run(
            ["tmux", "-u", "-L", self.socket, "-f", "/dev/null", "new-session", "-d", "-x", columns, "-y", rows, line],
            cwd=where, env=environment, check=True,
        )  # fmt: skip
        if around:
            self.tmux("send-keys", ". ./typed", "Enter")

    def tmux(self, *words):
        return subprocess.run(
            ["tmux", "-u", "-L", self.socket, *words], capture_output=True, text=True, check=True
        ).stdout

    def shows(self, *wanted):
        deadline = time.monotonic() + 30
        while lacking := [w for w in wanted if w not in (shown := self.tmux("capture-pane", "-p"))]:
            assert time.monotonic() < deadline, f"{lacking} not in\n{shown}"
            time.sleep(0.05)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        subprocess.run(["tmux", "-L", self.socket, "kill-server"], check=False, capture_output=True)


@pytest.mark.skipif(not shutil.which("tmux"), reason="needs tmux")
def test_in_a_real_terminal_it_draws_resizes_outlives_the_directory_and_leaves_cleanly(tmp_path):
    full_run(tmp_path / "runs/alpha")
    full_run(tmp_path / "runs/beta")
    with Terminal(tmp_path, "watch", "alpha", "beta", "--every", "0.2", size=(140, 40)) as terminal:
        terminal.shows("COMPLETED alpha", "COMPLETED beta", "│", "tab or arrows")
        terminal.tmux("resize-window", "-x", "70", "-y", "30")
        terminal.shows("> alpha", "  beta")
        terminal.tmux("send-keys", "Tab")
        terminal.shows("  alpha", "> beta", "COMPLETED beta")
        terminal.tmux("resize-window", "-x", "12", "-y", "3")
        terminal.shows("> beta")
        terminal.tmux("resize-window", "-x", "120", "-y", "30")
        shutil.rmtree(tmp_path / "runs/beta")
        terminal.shows("its directory is gone")
        with (tmp_path / "runs/alpha/attempts/1/stdout.log").open("a") as file:
            file.write("a new line\n")
        terminal.tmux("send-keys", "BTab")
        terminal.shows("a new line")
        terminal.tmux("send-keys", "q")
        terminal.shows("status 0", "icanon", "alpha: COMPLETED", "beta: COMPLETED")


@pytest.mark.skipif(not shutil.which("tmux"), reason="needs tmux")
def test_control_c_leaves_without_a_word_of_complaint(tmp_path):
    full_run(tmp_path / "runs/alpha")
    with Terminal(tmp_path, "watch", "alpha") as terminal:
        terminal.shows("COMPLETED alpha")
        terminal.tmux("send-keys", "C-c")
        terminal.shows("status 0", "icanon", "alpha: COMPLETED")
        assert "Traceback" not in terminal.tmux("capture-pane", "-p")


@pytest.mark.skipif(not shutil.which("tmux"), reason="needs tmux")
def test_control_z_gives_the_terminal_to_the_shell_and_takes_it_again(tmp_path):
    full_run(tmp_path / "runs/alpha")
    with Terminal(tmp_path, "watch", "alpha", "--every", "0.2", around="bash --norc -im") as terminal:
        terminal.shows("COMPLETED alpha", "q leaves")
        terminal.tmux("send-keys", "C-z")
        terminal.shows("Stopped")
        look = "#{alternate_on} #{cursor_flag}"
        assert terminal.tmux("display-message", "-p", look) == "0 1\n"
        terminal.tmux("send-keys", "echo typed; stty -a | grep -o ' icanon'", "Enter")
        terminal.shows("\ntyped\n", " icanon")
        terminal.tmux("send-keys", "fg", "Enter")
        terminal.shows("COMPLETED alpha", "q leaves")
        assert terminal.tmux("display-message", "-p", look) == "1 0\n"
        terminal.tmux("send-keys", "q")  # without Enter: the keyboard is its own again
        terminal.shows("alpha: COMPLETED")
        terminal.tmux("send-keys", "echo status $?; stty -a | grep -o ' icanon'", "Enter")
        terminal.shows("\nstatus 0\n", "\n icanon\n")


@pytest.mark.skipif(not shutil.which("tmux"), reason="needs tmux")
def test_control_z_does_nothing_where_no_shell_could_continue_it(tmp_path):
    full_run(tmp_path / "runs/alpha")
    with Terminal(tmp_path, "watch", "alpha", "--every", "0.2") as terminal:
        terminal.shows("COMPLETED alpha")
        terminal.tmux("send-keys", "C-z")
        with (tmp_path / "runs/alpha/attempts/1/stdout.log").open("a") as file:
            file.write("a new line\n")
        terminal.shows("a new line")


def test_a_signal_to_end_gives_the_terminal_back(tmp_path):
    full_run(tmp_path / "runs/alpha")
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "30"}
    watcher = subprocess.Popen(
        [sys.executable, "-c", CODE, "watch", "alpha"],
        cwd=tmp_path, stdin=follower, stdout=follower, stderr=subprocess.PIPE, env=environment,
    )  # fmt: skip
    os.close(follower)
    shown = b""
    while b"COMPLETED" not in shown:
        shown += os.read(leader, 65536)
    watcher.send_signal(signal.SIGTERM)
    said = watcher.communicate()[1]
    shown += os.read(leader, 65536)
    os.close(leader)
    assert (watcher.returncode, said) == (143, b"")
    assert b"\x1b[?1049h" in shown  # the other screen, and back again
    assert shown.rstrip().endswith(b"\x1b[?25h") or b"\x1b[?1049l" in shown
