"""What is different between two specs, and what that means."""

from __future__ import annotations

import copy
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from comparing import ROOT, SPEC, project
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from ltrl.backend import Grade
from ltrl.diff import Diff, Side, diff, effective
from ltrl.diff.pairs import compare
from ltrl.diff.sides import Choices, of_file
from ltrl.diff.trees import ABSENT, Edit, Item, edits
from ltrl.errors import Code, LtrlError
from ltrl.resolve import graded


def side(spec: Path, *sets: str) -> Side:
    return of_file(spec, Choices(sets=sets), name=spec.name, home=ROOT)


def between(tmp_path: Path, old: str, new: str) -> Diff:
    here = project(tmp_path, old=old, new=new)
    return compare(str(here / "specs" / "old.yaml"), str(here / "specs" / "new.yaml"), Choices())


def changed(*sets: str, spec: str = "quickstart") -> Diff:
    path = str(ROOT / "specs" / f"{spec}.yaml")
    return compare(path, path, Choices(sets=sets))


def shown(found: Diff) -> list[tuple[str, Any, Any, str]]:
    return [(c.path, c.old, c.new, c.grade.value) for c in found.spec]


def figure(found: Diff, name: str) -> tuple[Any, Any]:
    return next((f.old, f.new) for f in found.figures if f.name == name)


def test_a_change_has_both_values_both_positions_its_grade_and_what_it_means(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = between(tmp_path, SPEC, SPEC.replace("eta: 0.3", "eta: 0.2"))
    [change] = found.spec
    assert (change.path, change.old, change.new) == ("reward.eta", 0.3, 0.2)
    places = change.old_position, change.new_position
    assert places == ("specs/old.yaml:8:46", "specs/new.yaml:8:46")
    assert change.grade is Grade.NEW_RUN
    assert change.consequence == ("rewards of the two runs are not comparable: the evidence weighs 0.2 instead of 0.3")
    assert found.resume.answer == "no"
    assert found.resume.because == ("reward.eta",)
    assert (found.rewards.answer, found.rewards.because) == ("no", ("reward.eta",))
    assert figure(found, "reward, right answer") == ("0.7 to 1", "0.8 to 1")
    assert figure(found, "reward range") == ("0 to 1", "0 to 1")


FORMATTING = {
    "comments": SPEC.replace("optimizer:", "# why\noptimizer:"),
    "key order": SPEC.replace("kind: experiment\nname: small\n", "name: small\nkind: experiment\n"),
    "units": SPEC.replace("prompt: 128,", "prompt: 0x80,"),
    "quotes": SPEC.replace("name: small", 'name: "small"'),
    "style": SPEC.replace("{steps: 80, prompts_per_step: 8}", "\n  steps: 80\n  prompts_per_step: 8"),
    "an explicit default": SPEC.replace("lr: 7e-4", "lr: 7e-4, weight_decay: 0.1, betas: [0.9, 0.98]"),
    "a bare name as a section": SPEC.replace("judge: exact", "judge: {backend: exact, compare: equal}"),
    "a number's form": SPEC.replace("7e-4", "0.0007"),
    "a whole default section": SPEC + "rollout: {temperature: 1.0}\n",
    "the sum of the lengths": SPEC.replace("response: 17", "response: 17, total: 145"),
    "the batch of a step": SPEC.replace("steps: 80,", "steps: 80, batch_size: 64,"),
    "what the model card says": SPEC.replace("tiny-qwen3\n", "tiny-qwen3\n  chat_format: qwen3\n"),
}


@pytest.mark.parametrize("text", FORMATTING.values(), ids=FORMATTING)
def test_what_means_the_same_is_no_change_and_keeps_the_fingerprint(tmp_path: Path, text: str) -> None:
    found = between(tmp_path, SPEC, text)
    assert (found.spec, found.compiled, found.is_same, found.grade) == ((), (), True, None)
    one, other = (side(tmp_path / "specs" / f"{name}.yaml") for name in ("old", "new"))
    assert one.resolved["fingerprint"] == other.resolved["fingerprint"]


def test_units_of_tokens_are_counted() -> None:
    assert changed("model.context.prompt=131072", "model.context.response=32768", spec="qwen4b").is_same
    assert shown(changed("model.context.prompt=96k", spec="qwen4b"))[0] == (
        "model.context.prompt", 131072, 98304, "new-run",
    )  # fmt: skip


def test_the_shipped_4b_and_30b_specs_differ_in_three_fields() -> None:
    found = compare(str(ROOT / "specs/qwen4b.yaml"), str(ROOT / "specs/qwen30b_moe.yaml"), Choices())
    assert shown(found) == [
        ("name", "qwen4b-longtrace", "qwen30b-moe-longtrace", "note"),
        ("model.base", "Qwen/Qwen3-4B-Thinking-2507", "Qwen/Qwen3-30B-A3B-Thinking-2507", "new-run"),
        ("parallelism.expert", 1, 16, "relaunch"),
    ]
    assert {(c.section, c.path, c.cause, c.grade.value) for c in found.compiled} == {
        ("nemo_rl.yaml", "policy.model_name", "model.base", "new-run"),
        ("nemo_rl.yaml", "policy.tokenizer.name", "model.base", "new-run"),
        ("nemo_rl.yaml", "policy.megatron_cfg.expert_model_parallel_size", "parallelism.expert", "relaunch"),
        ("nemo_rl.yaml", "policy.generation.vllm_kwargs.moe_backend", "", "new-run"),
        ("nemo_rl.yaml", "data.train.tokenizer", "", "new-run"),
        ("nemo_rl.yaml", "data.validation.tokenizer", "", "new-run"),
        ("Slurm request", "--job-name", "name", "note"),
    }
    assert figure(found, "model parameters") == (4_022_468_096, 30_532_122_624)
    assert figure(found, "active parameters") == (4_022_468_096, 3_353_032_704)
    assert figure(found, "full responses at a time") == (72, 48)
    assert figure(found, "checkpoints on disk") == (571_190_469_632, 4_335_561_412_608)
    assert figure(found, "GPU-hours requested") == (768.0, 768.0)
    assert (found.resume.answer, found.rewards.answer) == ("no", "yes")


def test_every_consequence_that_a_reviewer_asks_for_is_a_figure() -> None:
    found = changed(
        "cluster.nodes=8",
        "algorithm.prompts_per_step=32",
        "model.context.prompt=96k",
        "checkpoint.keep=2",
        spec="qwen4b",
    )
    numbers = {f.name: (f.old, f.new) for f in found.figures}
    assert "active parameters" not in numbers  # of a dense model they are all of them
    assert numbers["data-parallel size"] == (1, 2)
    assert numbers["microbatches per step"] == (128, 128)
    assert numbers["tokens per step"] == (20_971_520, 256 * 131_072)
    assert numbers["GPU-hours requested"] == (768.0, 1536.0)
    assert numbers["checkpoints on disk"] == (571_190_469_632, 120_674_042_880)
    for name in ("peak memory per GPU", "headroom per GPU", "full responses at a time", "reward range"):
        assert None not in numbers[name]
    assert figure(changed("algorithm.steps=160"), "epochs") == (1.0, 2.0)


@pytest.mark.parametrize(
    ("sets", "resume", "rewards"),
    [
        (["description=other words"], "yes", "yes"),
        (["cluster.minutes=60"], "yes", "yes"),
        (["validation.every_steps=5"], "yes", "yes"),
        (["name=other"], "with care", "yes"),
        (["cluster.runs_dir=elsewhere"], "with care", "yes"),
        (["optimizer.lr=1e-3"], "no", "yes"),
        (["algorithm.seed=1"], "no", "yes"),
        (["model.context.response=16"], "no", "with care"),
        (["rollout.temperature=0.7"], "no", "with care"),
        (["algorithm.group_size=4"], "no", "with care"),
        (["algorithm.group_size=4", "reward.normalisation=none"], "no", "no"),
        (["data.train.samples=320"], "no", "with care"),
        (["data.train.seed=5"], "no", "no"),
        (["reward.scope=all"], "no", "no"),
        (["reward.backend=outcome"], "no", "no"),
        (["reward.judge.compare=contains"], "no", "no"),
        (["data.validation.chains.samples=32"], "yes", "yes"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_the_two_verdicts(sets: list[str], resume: str, rewards: str) -> None:
    found = changed(*sets)
    assert (found.resume.answer, found.rewards.answer) == (resume, rewards)


def test_what_is_only_measured_does_not_make_rewards_incomparable(tmp_path: Path) -> None:
    text = SPEC.replace("{backend: rubric, judge: exact, eta: 0.3}", "{backend: outcome, judge: exact}")
    found = between(tmp_path, text, text.replace("judge: exact", "judge: exact, text: both"))
    assert found.rewards.answer == "yes"
    assert found.spec[0].consequence == "changes a metric only: the answer alone is paid for"


def test_options_of_an_exchanged_backend_follow_it() -> None:
    found = changed("reward.backend=outcome")
    assert [(c.path, c.kind, c.follows) for c in found.spec] == [
        ("reward.backend", "changed", False),
        ("reward.eta", "removed", True),
        ("reward.scope", "removed", True),
        ("reward.normalisation", "removed", True),
    ]
    assert found.resume.words == "1 field changes what is learned, so that submitting starts a new run"
    follows = [c.path for c in changed("algorithm.prompts_per_step=16").spec if c.follows]
    assert follows == ["algorithm.batch_size"]


def test_a_panels_judges_are_told_apart_by_their_models(tmp_path: Path) -> None:
    judges = """
    backend: panel
    judges:
      - {backend: openai, base_url: "http://a/v1", model: first}
      - {backend: openai, base_url: "http://b/v1", model: second}
"""
    old = SPEC.replace("{backend: rubric, judge: exact, eta: 0.3}", f"\n  backend: rubric\n  judge:{judges}")
    first, second = judges.splitlines()[3:5]
    swapped = judges.replace(f"{first}\n{second}", f"{second.replace('http://b', 'http://c')}\n{first}")
    found = between(tmp_path, old, old.replace(judges, swapped))
    assert [(c.path, c.kind, c.old, c.new, c.grade.value) for c in found.spec] == [
        ("reward.judge.judges[openai second].base_url", "changed", "http://b/v1", "http://c/v1", "relaunch"),
        (
            "reward.judge.judges",
            "order",
            ["openai first", "openai second"],
            ["openai second", "openai first"],
            "new-run",
        ),
    ]
    assert found.spec[0].new_position is not None
    assert found.spec[0].new_position.endswith(":13:37")


def with_environment(one: Side, **environment: str) -> Side:
    """The side as of a bundle of a time when a profile could have its secrets written out."""
    profile = {**one.resolved["cluster"], "environment": environment}
    return replace(one, resolved={**one.resolved, "cluster": profile})


def test_a_secret_that_was_written_out_does_not_appear(tmp_path: Path) -> None:
    here = project(tmp_path, small=SPEC)
    one = side(here / "specs" / "small.yaml")
    before = with_environment(one, WANDB_API_KEY="old-words", PATH_TO="${env:HOME}")
    after = with_environment(one, WANDB_API_KEY="new-words", PATH_TO="${env:HOME}")
    found = diff(before, after)
    assert [(c.path, c.old, c.new) for c in (*found.spec, *found.compiled)] == [
        ("cluster.environment.WANDB_API_KEY", "(hidden)", "(hidden)"),
        ("WANDB_API_KEY", "(hidden)", "(hidden)"),
    ]
    assert "words" not in repr((found.spec, found.compiled, found.figures))


@pytest.mark.parametrize(
    ("section", "right", "wrong"),
    [
        ("{backend: rubric, judge: exact}", "0.7 to 1", "0"),
        ("{backend: rubric, judge: exact, scope: all}", "0.7 to 1", "0 to 0.3"),
        ("{backend: rubric, judge: exact, scope: negative-only}", "1", "0 to 0.3"),
        ("{backend: rubric, judge: exact, scope: all, eta: 1.0}", "0 to 1", "0 to 1"),
        ("{backend: longrlvr, judge: exact}", "1 to 2", "0 to 0.1"),
        ("{backend: outcome, judge: exact}", "1", "0"),
    ],
)
def test_what_answers_are_paid_is_asked_of_the_reward_itself(section: str, right: str, wrong: str) -> None:
    found = changed(f"reward={section}")
    assert figure(found, "reward, right answer")[1] == right
    assert figure(found, "reward, wrong answer")[1] == wrong


def test_a_penalty_in_the_reward_is_said() -> None:
    found = changed("algorithm.kl={coefficient: 0.01, in_reward: true}", spec="qwen4b")
    assert figure(found, "reward range") == ("0 to 1", "0 to 1 less the KL penalty")
    assert found.rewards.answer == "no"


def test_a_short_secret_hides_nothing_else(tmp_path: Path) -> None:
    here = project(tmp_path, small=SPEC)
    spec = here / "specs" / "small.yaml"
    before = with_environment(side(spec), SORT_KEY="a")
    after = with_environment(side(spec, "description=a banana", "cluster.setup=[export A_TOKEN=x]"), SORT_KEY="a")
    assert [(c.path, c.new) for c in diff(before, after).spec] == [
        ("description", "a banana"),
        ("cluster.setup[export A_TOKEN=x]", "export A_TOKEN=x"),
    ]


def test_scripts_the_slurm_request_and_the_environment_are_compared_apart() -> None:
    found = changed(
        "cluster.setup=[module load a]", "cluster.minutes=60", "cluster.environment={HF_HOME: /other}",
        "cluster.slurm={partition: gpu}", spec="qwen4b",
    )  # fmt: skip
    assert {(c.section, c.path, c.old, c.new, c.cause) for c in found.compiled if c.section != "nemo_rl.yaml"} == {
        ("local.sh", "line 101", None, "module load a", ""),
        ("ray_node.sh", "line 227", None, "module load a", ""),
        (
            "job.sbatch",
            "line 246",
            "LTRL_JOB_ENDS=${SLURM_JOB_END_TIME:-$(($(date +%s) + 1440 * 60))}",
            "LTRL_JOB_ENDS=${SLURM_JOB_END_TIME:-$(($(date +%s) + 60 * 60))}",
            "",
        ),
        ("Slurm request", "--time", "1440", "60", "cluster.minutes"),
        ("Slurm request", "--signal", "B:USR2@1860", "B:USR2@1830", "cluster.minutes"),
        ("Slurm request", "--partition", None, "gpu", ""),
        ("environment", "HF_HOME", "/shared/huggingface", "/other", "cluster.environment.HF_HOME"),
        ("environment", "JUDGE_API_KEY", "${env:JUDGE_API_KEY}", None, "cluster.environment.JUDGE_API_KEY"),
    }
    assert found.grade is Grade.RELAUNCH


def test_the_field_named_kind_of_a_new_spec_is_not_mistaken(tmp_path: Path) -> None:
    here = project(tmp_path, small=SPEC.replace("steps: 80,", "steps: 80, importance_correction: {kind: tis},"))
    found = diff(None, side(here / "specs" / "small.yaml"))
    assert ("algorithm.importance_correction.kind", "tis") in [(c.path, c.new) for c in found.spec]
    assert not {"kind", "cluster.executor"} & {c.path for c in found.spec}


def test_a_spec_and_a_cluster_profile_are_not_compared() -> None:
    with pytest.raises(LtrlError) as caught:
        compare(str(ROOT / "specs/qwen4b.yaml"), str(ROOT / "specs/clusters/slurm.yaml"), Choices())
    assert caught.value.diagnostics[0].code is Code.NOT_COMPARABLE


def test_two_cluster_profiles_are_compared() -> None:
    found = compare(str(ROOT / "specs/clusters/slurm.yaml"), str(ROOT / "specs/clusters/local.yaml"), Choices())
    assert ("cluster.nodes", 4, 1, "relaunch") in shown(found)
    assert figure(found, "GPU-hours requested") == (768.0, None)
    assert found.grade is Grade.RELAUNCH


def test_the_grade_of_a_difference_is_that_of_the_fingerprint() -> None:
    """A run may resume if and only if no field graded new-run differs, whatever the field."""
    here = ROOT / "specs" / "quickstart.yaml"
    before = side(here)
    for argument in (
        "algorithm.steps=81",
        "rollout.gpu_memory=0.5",
        "checkpoint.keep=3",
        "reward.eta=0.1",
        "name=other",
    ):
        after = side(here, argument)
        is_same = before.resolved["fingerprint"] == after.resolved["fingerprint"]
        assert is_same is (diff(before, after).spec[0].grade is not Grade.NEW_RUN), argument


def test_judges_in_a_panel_have_grades_of_their_own() -> None:
    from ltrl.backend import Choice

    members = [{"backend": "openai", "base_url": "http://a", "model": "m"}, {"backend": "exact"}]
    panel = Choice("judge").choose({"backend": "panel", "judges": members})
    grades = {path: grade for path, grade, _ in graded(panel)}
    assert grades["judges.0.base_url"] is Grade.RELAUNCH
    assert grades["judges.1.compare"] is Grade.NEW_RUN


# Properties

leaves = (
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["a", "b", "--x=1", "--x=2", "/a:/b", "/c:/b"])
)
names = st.sampled_from(["k", "l", "m", "name", "backend", "model"])
trees = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4), max_leaves=12
)
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def applied(tree: Any, changes: list[Edit], depth: int = 0) -> Any:
    """A tree with changes made in it, as a reader of the report would make them."""
    here = [c for c in changes if len(c.path) == depth]
    if here and here[0].kind != "order":
        return here[0].new
    below: dict[Any, list[Edit]] = {}
    for change in changes:
        if len(change.path) > depth:
            below.setdefault(change.path[depth], []).append(change)
    if isinstance(tree, dict):
        keys = [*tree, *(key for key in below if key not in tree)]
        made = {key: applied(tree.get(key, ABSENT), below.get(key, []), depth + 1) for key in keys}
        return {key: value for key, value in made.items() if value is not ABSENT}
    if not isinstance(tree, list):
        return tree
    of_item = {}
    added = []
    for found in below.values():
        if found[0].kind == "added" and len(found[0].path) == depth + 1:
            added.append((found[0].new_at[depth], found[0].path[depth], found[0].new))
        else:
            of_item[found[0].old_at[depth]] = found
    old_keys = here[0].old if here else [None] * len(tree)
    kept = [
        (key, applied(item, of_item.get(i, []), depth + 1))
        for i, (key, item) in enumerate(zip(old_keys, tree, strict=True))
    ]
    kept = [(key, item) for key, item in kept if item is not ABSENT]
    kept += [(getattr(step, "key", step), item) for _, step, item in sorted(added, key=lambda one: one[0])]
    return [dict(kept)[key] for key in here[0].new] if here else [item for _, item in kept]


@unhurried
@given(trees)
def test_a_tree_does_not_differ_from_itself(tree: Any) -> None:
    assert list(edits(tree, copy.deepcopy(tree))) == []


@unhurried
@given(trees, trees)
def test_differences_applied_to_the_old_tree_give_the_new_one(old: Any, new: Any) -> None:
    assert applied(old, list(edits(old, new))) == new


@unhurried
@given(trees, trees)
def test_differences_the_other_way_round_are_the_same_ones(old: Any, new: Any) -> None:
    opposite = {"added": "removed", "removed": "added", "changed": "changed", "order": "order"}

    def plain(found: list[Edit], *, turned: bool) -> list[Any]:
        rows = [(c.path, opposite[c.kind], c.new, c.old) if turned else (c.path, c.kind, c.old, c.new) for c in found]
        return sorted(map(repr, rows))

    assert plain(list(edits(old, new)), turned=False) == plain(list(edits(new, old)), turned=True)


settings_of_a_spec = st.fixed_dictionaries(
    {},
    optional={
        "algorithm.steps": st.integers(1, 500),
        "algorithm.prompts_per_step": st.sampled_from([4, 8, 16]),
        "algorithm.kl": st.sampled_from(["{}", "{coefficient: 0.01}"]),
        "reward.eta": st.sampled_from([0.0, 0.2, 0.3, 1.0]),
        "reward.judge": st.sampled_from(["exact", "{backend: exact, tolerance: 0.1}"]),
        "reward.backend": st.sampled_from(["rubric"]),
        "model.context.prompt": st.sampled_from(["128", "1k", "1024"]),
        "data.validation": st.sampled_from(["{}", "{a: entity-chain}", "{b: {backend: entity-chain, seed: 2}}"]),
        "optimizer.betas": st.sampled_from(["[0.9, 0.98]", "[0.9, 0.95]"]),
        "checkpoint.keep": st.sampled_from(["null", "2"]),
        "cluster.setup": st.sampled_from(["[]", "[module load a]", "[module load b, module load a]"]),
        "cluster.minutes": st.integers(1, 100),
        "logging.samples_to_print": st.integers(0, 3),
    },
).map(lambda chosen: tuple(f"{path}={value}" for path, value in sorted(chosen.items())))


@settings(max_examples=40, deadline=None)
@given(settings_of_a_spec, settings_of_a_spec)
def test_what_is_reported_of_two_specs_is_everything(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    here = ROOT / "specs" / "quickstart.yaml"
    old, new = side(here, *one), side(here, *other)
    before, after = effective(old), effective(new)
    assert applied(before, list(edits(before, after))) == after
    found, back = diff(old, new), diff(new, old)
    assert [c.path for c in found.spec] == list(dict.fromkeys(c.path for c in found.spec))
    assert {c.path for c in found.spec} == {c.path for c in back.spec}
    assert {(c.path, c.grade) for c in found.spec} == {(c.path, c.grade) for c in back.spec}
    assert (found.resume.answer, found.rewards.answer) == (back.resume.answer, back.rewards.answer)
    is_same_experiment = old.resolved["fingerprint"] == new.resolved["fingerprint"]
    assert is_same_experiment is (found.resume.answer != "no")
    assert is_same_experiment is all(c.grade is not Grade.NEW_RUN for c in found.spec)
    assert diff(old, old).is_same
    assert found.is_same is (before == after)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 40), st.sampled_from(["# a comment", "", "   "]), st.booleans(), st.randoms(use_true_random=False)
)
def test_formatting_alone_is_no_change(
    tmp_path_factory: pytest.TempPathFactory, line: int, text: str, flow: bool, random: Any
) -> None:
    yaml = YAML()
    yaml.default_flow_style = flow
    data = yaml.load((ROOT / "specs" / "quickstart.yaml").read_text())

    def shuffled(node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        keys = list(node)
        random.shuffle(keys)
        return {key: shuffled(node[key]) for key in keys}

    out = io.StringIO()
    yaml.dump(shuffled(data), out)
    lines = out.getvalue().splitlines()
    if not flow:
        lines.insert(min(line, len(lines)), text)
    path = tmp_path_factory.mktemp("spec") / "quickstart.yaml"
    path.write_text("\n".join(lines) + "\n")
    assert diff(side(ROOT / "specs" / "quickstart.yaml"), side(path)).spec == ()


def test_lists_are_compared_by_key_where_items_have_one() -> None:
    def said(old: list[Any], new: list[Any]) -> list[tuple[Any, ...]]:
        return [(*c.path, c.kind, c.old, c.new) for c in edits(old, new)]

    assert said(["/a:/x", "/b:/y"], ["/b:/y", "/c:/x"]) == [
        (Item("/x"), "changed", "/a:/x", "/c:/x"),
        ("order", ["/x", "/y"], ["/y", "/x"]),
    ]
    assert said(["--switches=1"], ["--switches=2", "--mem 0"]) == [
        (Item("--switches"), "changed", "--switches=1", "--switches=2"),
        (Item("--mem"), "added", ABSENT, "--mem 0"),
    ]
    assert said(["one", "two"], ["zero", "one", "two"]) == [
        (Item("zero"), "added", ABSENT, "zero"),
        ("order", ["one", "two"], ["zero", "one", "two"]),
    ]
    assert said([0.9, 0.98], [0.9, 0.95]) == [(1, "changed", 0.98, 0.95)]
    assert said([1, True], [1, 1]) == [(1, "changed", True, 1)]
