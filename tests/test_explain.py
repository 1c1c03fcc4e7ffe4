"""`ltrl explain` and `ltrl fields`: a value, where it comes from, what becomes of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ltrl.backend import Explains, create
from ltrl.compile import prepare
from ltrl.dump import dump, scalar, tokens
from ltrl.errors import Code, LtrlError, Source
from ltrl.explain import explain, origins, values
from ltrl.fields import field_at, fields, matching
from ltrl.source import parse
from ltrl.spec import Experiment
from ltrl_backends.local_engine.settings import FIELDS

ROOT = Path(__file__).resolve().parent.parent
LTRL = "import sys; sys.argv[0] = 'ltrl'; from ltrl.cli import main; main()"
SPECS = sorted((ROOT / "specs").glob("*.yaml"))


def ltrl(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-W", "error", "-c", LTRL, *map(str, arguments)]
    return subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "specs", tmp_path / "specs")
    return tmp_path


def test_a_field_is_explained_from_its_line_to_the_engine_s_keys_and_checks(project: Path) -> None:
    done = ltrl("explain", "specs/qwen30b_moe.yaml", "parallelism.context", cwd=project)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "parallelism.context: 4\n"
        "  meaning    Context parallel size (cp): the tokens of one sequence are split over so many GPUs.\n"
        "  from       specs/qwen30b_moe.yaml:27\n"
        "  type       whole number, at least 1; default 1\n"
        "  change     relaunch: changes how the job runs, an existing run may resume with it\n"
        "  becomes\n"
        "    policy.make_sequence_length_divisible_by: 32  # 2 x cp if cp > 1, x tp\n"
        "    policy.megatron_cfg.context_parallel_size: 4\n"
        "  checked by\n"
        "    nemo-rl:B4: train_global_batch_size is a multiple of the data parallel size"
        " [nemo_rl/distributed/batched_data_dict.py:399]\n"
        "    nemo-rl:B5: num_prompts_per_step x num_generations_per_prompt is a multiple of the data parallel size"
        " [nemo_rl/distributed/batched_data_dict.py:399]\n"
        "    nemo-rl:P4: training GPUs are a multiple of tp x pp x cp [nemo_rl/models/policy/lm_policy.py:197]\n"
        "    nemo-rl:P7: context parallel size > 1: packing, and no linear cross-entropy fusion"
        " [nemo_rl/models/megatron/setup.py:629]\n"
        "    nemo-rl:L1: make_sequence_length_divisible_by is a multiple of (2 x cp if cp > 1) x (tp if sequence"
        " parallel) [nemo_rl/models/megatron/data.py:1126]\n"
        "    nemo-rl:L3: a bin of packed sequences holds one of full length, aligned"
        " [nemo_rl/data/packing/algorithms.py:254 (in the middle of training)]\n"
    )


@pytest.mark.parametrize(
    ("path", "origin", "effective"),
    [
        ("model.base", "specs/qwen4b.yaml:9", None),
        ("model.context.prompt", "base.yaml:2", None),
        ("optimizer.lr", "over.yaml:1", None),
        ("algorithm.steps", "--set algorithm.steps=7", None),
        ("algorithm.seed", "default", None),
        ("algorithm.batch_size", "default, all responses of a step", 128),
        ("model.context.total", "default, prompt + response", 4096 + 32768),
        ("model.chat_format", "model card", "qwen3"),
        ("rollout.stop_token_ids", "model card", [151645, 151643]),
        ("optimizer.min_lr", "default for a decaying schedule", 0.0),
        ("algorithm.dynamic_sampling.max_batches", "`algorithm.dynamic_sampling` is left out", None),
        ("cluster.nodes", "cluster.yaml:3", None),
        ("cluster.minutes", "default", None),
        ("parallelism", "over.yaml:2, the first layout that fits", "tp 1, pp 1, cp 2, ep 1, etp 1, dp 4"),
    ],
)
def test_every_origin_is_told(
    project: Path, monkeypatch: pytest.MonkeyPatch, path: str, origin: str, effective: object
) -> None:
    monkeypatch.chdir(project)
    spec = Path("specs/qwen4b.yaml")
    spec.write_text(spec.read_text().replace("kind: experiment", "kind: experiment\nextends: ../base.yaml", 1))
    spec.write_text(spec.read_text().replace("{prompt: 128k, response: 32k}", "{response: 32k}"))
    Path("base.yaml").write_text("model:\n  context: {prompt: 4k}\n")
    Path("over.yaml").write_text(
        "optimizer: {lr: 1e-6, schedule: cosine}\nparallelism: auto\nrollout: {parallelism: {tensor: 1}}\n"
    )
    Path("cluster.yaml").write_text("kind: cluster\nexecutor: slurm\nnodes: 1\ngpus_per_node: 8\n")
    planned = prepare(spec, cluster="cluster.yaml", overlays=[Path("over.yaml")], sets=["algorithm.steps=7"])
    found = explain(planned.resolved, path, planned.layout)
    said = found.origin.said.replace("specs/../", "")
    assert (said, found.origin.effective) == (origin, effective)


@pytest.mark.parametrize("spec", SPECS, ids=lambda p: p.stem)
def test_the_whole_spec_with_its_origins_is_a_spec_that_means_the_same(project: Path, spec: Path) -> None:
    done = ltrl("explain", Path("specs") / spec.name, cwd=project)
    assert (done.returncode, done.stderr) == (0, "")
    whole = project / "specs" / "whole.yaml"
    whole.write_text(done.stdout)
    assert prepare(whole).resolved.fingerprint == prepare(project / "specs" / spec.name).resolved.fingerprint
    leaves = [line for line in done.stdout.splitlines() if not line.endswith(":") and not line.startswith("#")]
    assert all("  # " in line for line in leaves)


@pytest.mark.parametrize("spec", SPECS, ids=lambda p: p.stem)
def test_every_field_of_a_spec_can_be_explained(spec: Path) -> None:
    planned = prepare(spec)
    for path in origins(planned.resolved, planned.layout):
        found = explain(planned.resolved, ".".join(map(str, path)), planned.layout)
        json.dumps(found.to_json())
        assert found.field.doc


@pytest.mark.parametrize("spec", SPECS, ids=lambda p: p.stem)
def test_every_key_of_an_engine_names_a_field_that_exists(spec: Path) -> None:
    planned = prepare(spec)
    engine = create(planned.resolved.engine)
    assert isinstance(engine, Explains)
    keys = list(engine.keys(planned.resolved, planned.layout))
    known = {".".join(map(str, path)) for path in origins(planned.resolved)}
    optional = ("algorithm.dynamic_sampling.", "algorithm.asynchronous.")
    named = {key.field for key in keys if key.field and not key.field.startswith(optional)}
    assert named - known == set()
    assert len({key.key for key in keys}) == len(keys)


def test_each_name_in_the_embedded_engine_s_table_is_one_of_its_settings() -> None:
    planned = prepare(ROOT / "specs" / "quickstart.yaml")
    keys = {key.key for key in create(planned.resolved.engine).keys(planned.resolved, None)}
    blocks = {key.rpartition(".")[0] for key in keys}
    assert set(FIELDS) <= keys | blocks
    unnamed = {key.key for key in create(planned.resolved.engine).keys(planned.resolved, None) if not key.field}
    assert unnamed == {"fingerprint"}


def test_a_path_that_is_no_field_names_the_nearest(project: Path) -> None:
    for wrong, meant in [
        ("algorithm.stps", "algorithm.steps"),
        ("lr", "optimizer.lr"),
        ("algorithm.lr", "optimizer.lr"),
        ("max_new_tokens", "model.context.response"),
        ("data.validation.aa_lcr", "data.validation.aa-lcr"),
    ]:
        done = ltrl("explain", "specs/qwen4b.yaml", wrong, cwd=project)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"error[LTRL075]: there is no field `{wrong}`\nhint: did you mean `{meant}`?\n"


def test_a_spec_whose_layout_does_not_fit_is_explained_all_the_same(project: Path) -> None:
    change = ["--set", "parallelism.context=3"]
    done = ltrl("explain", "specs/qwen4b.yaml", "parallelism.context", *change, cwd=project)
    assert done.returncode == 1
    assert done.stdout.startswith("parallelism.context: 3\n")
    assert "from       --set parallelism.context=3\n" in done.stdout
    assert done.stderr.startswith("error[LTRL02")


def test_explanations_for_programs(project: Path) -> None:
    done = ltrl("explain", "specs/qwen4b.yaml", "algorithm.clip.high", "--json", cwd=project)
    assert json.loads(done.stdout) == {
        "path": "algorithm.clip.high",
        "value": 0.28,
        "effective": None,
        "origin": "default",
        "file": None,
        "line": None,
        "column": None,
        "type": "number, at least 0",
        "default": "0.28",
        "grade": "new-run",
        "doc": "The ratio is clipped above 1 + high; larger than `low` is DAPO's clip-higher.",
        "keys": [{"key": "loss_fn.ratio_clip_max", "value": 0.28, "field": "algorithm.clip.high", "why": ""}],
        "checks": [],
    }
    whole = json.loads(ltrl("explain", "specs/qwen4b.yaml", "--json", cwd=project).stdout)
    assert whole["values"]["cluster"]["nodes"] == 4
    assert whole["origins"]["algorithm.steps"] == "specs/qwen4b.yaml:22"


def test_fields_are_found_by_part_and_by_glob() -> None:
    every = list(fields())
    assert [f.path for f in matching("clip.h", every)] == ["algorithm.clip.high"]
    assert [f.path for f in matching("algorithm.kl.*", every)] == [
        "algorithm.kl.coefficient",
        "algorithm.kl.estimator",
        "algorithm.kl.in_reward",
    ]
    owners = {f.owner for f in every}
    assert {"experiment", "cluster", "reward.rubric", "engine.nemo-rl", "judge.openai", "data.longtrace"} <= owners
    assert all(f.doc for f in every)


def test_a_field_has_its_section_s_grade_and_its_own_words() -> None:
    data = parse(Source("s", (ROOT / "specs/qwen4b.yaml").read_text())).data
    assert field_at(("data", "validation", "aa-lcr", "path"), Experiment, data).to_json() == {
        "path": "data.validation.aa-lcr.path",
        "type": "text",
        "default": "required",
        "grade": "relaunch",
        "doc": "The file; a relative path starts at the project.",
        "owner": "experiment",
    }
    with pytest.raises(LtrlError) as caught:
        field_at(("nope",), Experiment, data)
    assert caught.value.diagnostics[0].code is Code.UNKNOWN_PATH


TEXTS = [
    *["a", "${env:X}", "no", "1", "1e-6", "a: b", "a #b", "", "{}", "a, b", "Qwen/Q-3", "http://j:8000/v1", "a (.+)$"],
    *["*a", "-", "- a", "?", "true", "null", "~", "0x1f", 'a"b', "ü", "[x]", "a:", "%x", "@x", "a\nb", ".5", "---"],
    *["...", "=", "${env:X}/y{", "2:3", "a ", " a", "\\", "\u2028", "\x1b"],
]


@pytest.mark.parametrize("text", TEXTS)
def test_text_is_written_so_that_it_reads_back(text: str) -> None:
    data = {"k": text, "f": {"a": text, "b": [text, 1]}, text or "x": {"deep": {"er": {"y": text}}}}
    assert parse(Source("", dump(data))).data == data


def test_numbers_are_written_as_people_do() -> None:
    assert [scalar(v) for v in (2e-6, 1e-8, 163840.0, 0.28, None, True, [1, "a"])] == [
        "2e-6", "1e-8", "163840.0", "0.28", "null", "true", "[1, a]",
    ]  # fmt: skip
    assert [tokens(n) for n in (131072, 32000, 1048576, 1, 1024)] == ["128k", 32000, "1m", 1, "1k"]


@pytest.mark.parametrize(
    ("file", "hint"),
    [
        (
            "specs/eval/quickstart.yaml",
            "an evaluation trains nothing: `ltrl eval FILE`, with `--cluster NAME` as a job of its own",
        ),
        (
            "specs/data/foldoc.yaml",
            "a data set is built, not trained: `ltrl data build FILE`; `ltrl fields dataset` lists its fields",
        ),
        ("specs/clusters/local.yaml", "a cluster profile goes with a spec: `ltrl check SPEC --cluster FILE`"),
    ],
)
def test_a_file_of_another_kind_names_the_command_for_it(project: Path, file: str, hint: str) -> None:
    for command in ("explain", "plan"):
        done = ltrl(command, file, cwd=project)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.splitlines()[-1] == f"hint: {hint}"


def test_values_hold_every_default() -> None:
    tree = values(prepare(ROOT / "specs" / "quickstart.yaml").resolved)
    assert tree["algorithm"]["clip"] == {"low": 0.2, "high": 0.28, "dual": None}
    assert tree["cluster"]["executor"] == "local"


@pytest.mark.parametrize(
    "command",
    [
        ["explain", "specs/qwen30b_moe.yaml", "algorithm.clip.high"],
        ["explain", "specs/qwen30b_moe.yaml"],
        ["fields", "clip", "--json"],
        ["fmt", "--check", "specs/qwen30b_moe.yaml"],
        ["init", "specs/new.yaml"],
        ["import", "imports/nemo-parent.yaml", "--json"],
        ["import", "imports/train-dense-4b.sh", "--json"],
    ],
    ids=lambda command: "-".join(command[:2]).replace("/", "-"),
)
def test_no_command_about_specs_loads_a_heavy_module(project: Path, command: list[str]) -> None:
    shutil.copytree(ROOT / "tests" / "imports", project / "imports")
    code = (
        f"import sys; sys.argv = ['ltrl', *{command!r}]\nfrom ltrl.cli import main\ntry: main()\n"
        "except SystemExit: pass\nfinally: print(*sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=project, capture_output=True, text=True, check=False)
    loaded = set(done.stderr.splitlines()[-1].split())
    assert "ltrl.cli" in loaded
    heavy = {"torch", "ray", "transformers", "submitit", "fastapi", "uvicorn", "httpx", "tokenizers", "trl", "datasets"}
    assert loaded & heavy == set()
