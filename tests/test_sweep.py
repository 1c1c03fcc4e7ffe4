"""The cells of a sweep: which there are, what they are called, and what is said of a wrong one."""

import json
from pathlib import Path

import pytest
from launching import SPECS
from test_cli import ltrl

from ltrl import bundle, compile, sweep
from ltrl.errors import Code, LtrlError
from ltrl.source import load


@pytest.fixture
def spec(tmp_path):
    """Writes a spec that sweeps over the quickstart; returns its path."""
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "base.yaml").write_text((SPECS / "quickstart.yaml").read_text())

    def write(text, name="x"):
        path = tmp_path / "specs" / "x.yaml"
        path.write_text(f"extends: base.yaml\nname: {name}\nsweep:\n{text}")
        return path

    return write


def cells(path):
    return {cell.name: dict(cell.values) for cell in sweep.cells(load(path))}


def refused(path, act=lambda path: sweep.cells(load(path))):
    with pytest.raises(LtrlError) as caught:
        act(path)
    return [(d.position.line, d.position.column, d.message) for d in caught.value.diagnostics if d.position]


def test_a_grid_is_every_combination_and_names_say_what_differs(spec):
    path = spec("  grid:\n    optimizer.lr: [7e-4, 0.001]\n    algorithm.group_size: [4, 8]\n")
    assert cells(path) == {
        "x_lr-7e-4_group-size-4": {"optimizer.lr": 7e-4, "algorithm.group_size": 4},
        "x_lr-7e-4_group-size-8": {"optimizer.lr": 7e-4, "algorithm.group_size": 8},
        "x_lr-1e-3_group-size-4": {"optimizer.lr": 1e-3, "algorithm.group_size": 4},
        "x_lr-1e-3_group-size-8": {"optimizer.lr": 1e-3, "algorithm.group_size": 8},
    }


def test_zip_goes_in_step_cases_are_written_out_and_all_multiply(spec):
    path = spec(
        "  zip: {algorithm.seed: [1, 2], data.train.seed: [11, 12]}\n"
        "  cases:\n    - {name: Both Halves!, reward.eta: 0.5}\n    - {reward.backend: outcome}\n"
        "  exclude: [{algorithm.seed: 2, reward.backend: outcome}]\n"
    )
    assert cells(path) == {
        "x_seed-1_both-halves": {"algorithm.seed": 1, "data.train.seed": 11, "reward.eta": 0.5},
        "x_seed-1_backend-outcome": {"algorithm.seed": 1, "data.train.seed": 11, "reward.backend": "outcome"},
        "x_seed-2_both-halves": {"algorithm.seed": 2, "data.train.seed": 12, "reward.eta": 0.5},
    }


@pytest.mark.parametrize(
    ("values", "slugs"),
    [
        ("[1e-6, 2.5e-6, 0.1, 1000000.0]", ["1e-6", "2.5e-6", "0.1", "1e6"]),
        ("[true, null, 'A b/ü.x', -1]", ["true", "null", "x", "1"]),
        ("[[0.9, 0.98], [0.9, 0.95]]", ["0.9-0.98", "0.9-0.95"]),
        ("['../../etc/passwd', '$(x)', '', '.']", ["passwd", "x-", "x-", "x-"]),
        ("[{backend: a}, {backend: b}]", ["a", "b"]),
    ],
)
def test_names_are_short_unique_and_good_for_directories(spec, values, slugs):
    path = spec(f"  grid: {{optimizer.schedule: {values}}}\n")
    names = list(cells(path))
    for name, slug in zip(names, slugs, strict=True):
        assert name.startswith(f"x_schedule-{slug}" if slug != "x-" else "x_schedule-x")
        assert Path(name).name == name
        assert len(name) <= 63
    assert len(set(names)) == len(names)


def test_long_names_are_cut_and_still_differ(spec):
    long = "n" * 50
    names = list(cells(spec("  grid: {algorithm.seed: [1000001, 1000002], optimizer.lr: [1e-3, 2e-3]}\n", name=long)))
    assert {len(name) <= 63 and name.startswith(long) for name in names} == {True}
    assert len(set(names)) == 4


def test_fields_with_the_same_last_step_are_told_apart(spec):
    assert list(cells(spec("  grid: {algorithm.seed: [1], data.train.seed: [2, 3]}\n"))) == ["x_seed-2", "x_seed-3"]
    both = cells(spec("  grid: {algorithm.seed: [1, 2], data.train.seed: [2, 3]}\n"))
    assert next(iter(both)) == "x_algorithm.seed-1_train.seed-2"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  {}\n", (3, 1, "a sweep without fields")),
        ("  gird: {}\n", (4, 3, "unknown field `gird` in `sweep`")),
        ("  grid: {a: []}\n", (4, 13, "`sweep.grid.a` has 0 items, expected at least 1")),
        (
            "  zip: {algorithm.seed: [1, 2], optimizer.lr: [1e-3]}\n",
            (4, 3, "fields that go together need as many values each: `algorithm.seed` has 2, `optimizer.lr` has 1"),
        ),
        ("  grid: {name: [a, b]}\n", (4, 10, "`name` cannot be swept")),
        (
            "  grid: {cluster.nodes: [1, 2]}\n",
            (4, 10, "`cluster.nodes` belongs to the cluster profile, and a sweep has one"),
        ),
        (
            "  grid: {algorithm.seed: [1]}\n  zip: {algorithm.seed: [2]}\n",
            (4, 10, "`algorithm.seed` sets what `sweep.zip` sets with `algorithm.seed`"),
        ),
        ("  grid: {reward: [a], reward.eta: [1]}\n", (4, 10, "`reward` sets what `sweep.grid` sets with `reward.eta`")),
        (
            "  grid: {algorithm.seed: [1]}\n  exclude: [{optimizer.lr: 1}]\n",
            (5, 14, "`optimizer.lr` is excluded but not swept"),
        ),
        ("  grid: {algorithm.seed: [1]}\n  exclude: [{algorithm.seed: 7}]\n", (5, 13, "this excludes nothing")),
        ("  grid: {algorithm.seed: [1]}\n  exclude: [{algorithm.seed: 1}]\n", (5, 3, "`exclude` leaves no run")),
        (f"  grid: {{algorithm.seed: {list(range(1001))}}}\n", (3, 1, "1001 runs, more than 1000")),
        ("  cases: [{}]\n", (4, 11, "an empty case")),
    ],
)  # fmt: skip
def test_a_wrong_sweep_is_told_at_its_place(spec, text, expected):
    assert expected in refused(spec(text))


def test_every_mistake_of_every_cell_is_told_once_with_its_cells(spec):
    path = spec("  grid:\n    optimizer.lr: [1e-3, fast]\n    algorithm.group_size: [1, 8]\n    algorithm.sed: [3]\n")
    small = "`x_lr-1e-3_group-size-1`, `x_lr-fast_group-size-1`"
    assert refused(path, compile.prepare_all) == [
        (5, 26, "`x_lr-fast_group-size-1`, `x_lr-fast_group-size-8`: `optimizer.lr` is `\"fast\"`, expected a number"),
        (6, 28, f"{small}: `algorithm.group_size` is `1`, expected at least 2"),
        (7, 15, "unknown field `sed` in `algorithm`"),
    ]  # fmt: skip


def test_cells_that_learn_the_same_are_refused(spec):
    path = spec("  grid: {checkpoint.every_steps: [5, 10]}\n")
    assert refused(path, compile.prepare_all) == [
        (3, 1, "`x_every-steps-10` and `x_every-steps-5` are the same run"),
    ]


def test_a_command_for_one_run_refuses_a_sweep_and_says_how_to_get_one(spec):
    path = spec("  grid: {algorithm.seed: [1, 2]}\n")
    assert refused(path, compile.prepare) == [(3, 1, f"`{path}` describes 2 runs, this needs one")]
    assert compile.prepare(path, sets=["sweep=null"]).resolved.spec.name == "x"


def test_a_sweep_of_null_is_none_and_has_its_line(spec):
    path = spec("")
    path.write_text("extends: base.yaml\nname: x\nsweep: null\n")
    assert not compile.is_sweep(path)
    resolved = compile.prepare(path).resolved
    assert resolved.origins["sweep"] == "x.yaml:3"
    assert resolved.fingerprint == compile.prepare(path.with_name("base.yaml")).resolved.fingerprint
    shown = ltrl("plan", path, cwd=path.parent)
    assert (shown.returncode, shown.stderr) == (0, "")


def test_a_cell_is_the_run_that_one_would_have_written(spec, tmp_path):
    path = spec("  grid: {optimizer.lr: [1e-3, 2e-3]}\n")
    made, _ = compile.compile_sweep(path, out=tmp_path / "out")
    alone = tmp_path / "specs" / "alone.yaml"
    alone.write_text("extends: base.yaml\nname: other\noptimizer: {lr: 2e-3}\n")
    assert made.cells[1].fingerprint == compile.prepare(alone).resolved.fingerprint
    assert made.cells[1].resolved["origins"]["optimizer.lr"] == "x.yaml:4"


def test_a_sweep_compiles_into_bundles_that_are_read_back(spec, tmp_path):
    made, plans = compile.compile_sweep(spec("  grid: {algorithm.seed: [1, 2]}\n  at_once: 1\n"), out=tmp_path / "out")
    assert [planned.resolved.spec.sweep for planned in plans] == [None, None]
    assert bundle.read_sweep(tmp_path / "out") == made
    assert (made.at_once, made.id[:8]) == (1, "x-sweep-")
    fewer, _ = compile.compile_sweep(spec("  grid: {algorithm.seed: [2, 3]}\n"), out=tmp_path / "out")
    assert fewer.id == made.id  # what the runs share is the same
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["sweep.json", "x_seed-2", "x_seed-3"]
    (tmp_path / "out" / "x_seed-2" / "spec.yaml").write_text("edited")
    with pytest.raises(LtrlError) as caught:
        bundle.read_sweep(tmp_path / "out")
    assert caught.value.diagnostics[0].code is Code.NOT_A_BUNDLE


def test_check_plan_and_compile_know_sweeps(spec, tmp_path):
    path = spec("  grid: {algorithm.seed: [1, 2]}\n")
    assert ltrl("check", path, cwd=tmp_path).stdout == f"{path}: ok\n"
    planned = json.loads(ltrl("plan", path, "--json", cwd=tmp_path).stdout)
    assert [p["values"] for p in planned] == [{"algorithm.seed": 1}, {"algorithm.seed": 2}]
    shown = ltrl("plan", path, cwd=tmp_path).stdout
    assert "x_seed-2   algorithm.seed=2" in shown
    assert shown.endswith("2 runs\n")
    assert "x_seed-1-" in ltrl("plan", path, "--cell", "x_seed-1", cwd=tmp_path).stdout
    assert "no cell is called `x_seed-9`" in ltrl("plan", path, "--cell", "x_seed-9", cwd=tmp_path).stderr
    done = ltrl("compile", path, cwd=tmp_path)
    assert (tmp_path / done.stdout.strip() / "x_seed-1" / "ltrl.lock.json").is_file()
