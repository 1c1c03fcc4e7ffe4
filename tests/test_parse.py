"""Mistakes in a spec: each in the user's words, at its place, with what to do."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated, get_args

import pytest
from pydantic import Field
from pydantic_core import core_schema

from ltrl import words
from ltrl.backend import Model
from ltrl.compile import prepare
from ltrl.errors import Code, LtrlError, Source
from ltrl.leaks import leaks
from ltrl.names import elsewhere
from ltrl.parse import fields_of, parse
from ltrl.source import parse as read
from ltrl.spec import ClusterProfile, Experiment
from ltrl_backends.nemo_rl.config import settings
from ltrl_backends.nemo_rl.fidelity import ROWS

ROOT = Path(__file__).resolve().parent.parent

SPEC = """\
kind: experiment
name: quickstart
model:
  base: tiny-qwen3
  context: {prompt: 1k, response: 16}
data:
  train: {backend: entity-chain, samples: 640}
  validation:
    chains: {backend: entity-chain, seed: 1}
reward: {backend: rubric, judge: {backend: exact}}
algorithm: {steps: 80, prompts_per_step: 8}
optimizer: {lr: 1e-3}
engine: {name: local}
"""


def spec(*changes: tuple[str, str], more: str = "") -> Experiment:
    text = SPEC + more
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return parse(read(Source("spec.yaml", text, "spec.yaml")), Experiment)


def mistakes(*changes: tuple[str, str], more: str = "") -> list[tuple[Code, str, str, str | None]]:
    with pytest.raises(LtrlError) as caught:
        spec(*changes, more=more)
    found = []
    for d in caught.value.diagnostics:
        assert d.position is not None
        line = d.position.source.text.splitlines()[d.position.line - 1]
        marked = line[d.position.column - 1 :][: d.position.width]
        found.append((d.code, d.message, marked, d.hint))
    return found


def test_a_good_spec_is_typed_with_its_backends_own_options() -> None:
    made = spec()
    assert (made.model.context.prompt, made.optimizer.lr, made.data.shuffle) == (1024, 1e-3, True)
    assert made.reward.backend == "rubric"
    assert made.reward.model_dump()["eta"] == 0.3
    assert made.model_dump(mode="json")["data"]["validation"]["chains"]["seed"] == 1


def test_a_name_stands_for_a_backend_with_its_defaults() -> None:
    assert spec(("{backend: rubric, judge: {backend: exact}}", "outcome")).reward.backend == "outcome"
    assert spec(("{name: local}", "local")).engine.name == "local"


def test_all_mistakes_are_reported_in_the_order_of_their_lines() -> None:
    found = mistakes(
        ("prompt: 1k", "prompt: 0"),
        ("samples: 640", "hops: many"),
        ("steps: 80", "steps: many"),
        ("name: local", "name: loc, threads: 0"),
        more="partition: gpu\n",
    )
    assert [(code, marked) for code, _, marked, _ in found] == [
        (Code.INVALID_VALUE, "0"),
        (Code.WRONG_TYPE, "many"),
        (Code.WRONG_TYPE, "many"),
        (Code.UNKNOWN_BACKEND, "loc"),
        (Code.UNKNOWN_FIELD, "partition"),
    ]
    assert found[-1][3] == "`slurm.partition` is in the cluster profile: `--cluster NAME`"


def test_a_layout_may_be_left_to_the_planner() -> None:
    assert spec(more="parallelism: auto\n").parallelism is None
    assert mistakes(more="parallelism: fast\n") == [
        (Code.WRONG_TYPE, '`parallelism` is `"fast"`, expected `field: value` lines', "fast",
         "fields of `parallelism`: `tensor`, `pipeline`, `context`, `expert`, `expert_tensor`")
    ]  # fmt: skip


def test_references_are_resolved_when_a_spec_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LTRL_TEST_STEPS", "12")
    monkeypatch.setenv("LTRL_TEST_NUMBER", "4711")
    monkeypatch.setenv("LTRL_TEST_REWARD", "outcome")
    monkeypatch.delenv("LTRL_TEST_UNSET", raising=False)
    (tmp_path / "prompts").write_text("3\n")
    made = spec(
        ("steps: 80, prompts_per_step: 8",
         'steps: "${env:LTRL_TEST_STEPS}", prompts_per_step: "${file:' + str(tmp_path) + '/prompts}"'),
        ("name: quickstart", "name: run-${env:LTRL_TEST_NUMBER}-${env:LTRL_TEST_UNSET:-x}"),
        ("base: tiny-qwen3", "base: ${env:LTRL_TEST_NUMBER}"),
        ("backend: rubric", 'backend: "${env:LTRL_TEST_REWARD}"'),
        ("lr: 1e-3", 'lr: "${env:LTRL_TEST_UNSET:-1e-4}"'),
    )  # fmt: skip
    assert (made.algorithm.steps, made.algorithm.prompts_per_step, made.optimizer.lr) == (12, 3, 1e-4)
    assert (made.name, made.model.base, made.reward.backend) == ("run-4711-x", "4711", "outcome")


def test_a_secret_stays_a_reference_wherever_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_API_KEY", "never-to-be-seen")
    judge = '{backend: openai, base_url: "http://j/v1", model: m, api_key: "${env:JUDGE_API_KEY}"}'
    made = spec(("{backend: exact}", judge))
    assert made.model_dump()["reward"]["judge"]["api_key"] == "${env:JUDGE_API_KEY}"
    profile = parse(
        read(Source("c.yaml", 'kind: cluster\nexecutor: local\nenvironment: {A: "x-${env:JUDGE_API_KEY}"}\n')),
        ClusterProfile,
    )
    assert profile.environment == {"A": "x-${env:JUDGE_API_KEY}"}


def test_a_variable_that_holds_a_key_is_not_resolved_into_a_spec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LTRL_TEST_TEXT", "hf_" + "aB3" * 12)
    [found] = mistakes(("base: tiny-qwen3", "base: ${env:LTRL_TEST_TEXT}"))
    assert found[:3] == (
        Code.SECRET,
        "`${env:LTRL_TEST_TEXT}` stands for a Hugging Face token, which would be shown and written into the bundle",
        "${env:LTRL_TEST_TEXT}",
    )


@pytest.mark.parametrize(
    "text",
    [
        "revision: 0123456789abcdef0123456789abcdef01234567",
        "image: nvcr.io#nvidia/nemo-rl@sha256:" + "ab12" * 16,
        "path: /shared/models/qwen3-4b-thinking-2507-instruct-0123456789",
        "tokenizer: Qwen/Qwen3-30B-A3B-Thinking-2507",
        "api_key: ${env:A_VERY_LONG_NAME_OF_A_VARIABLE_WITH_DIGITS_1234567890}",
        "ssh_key: /home/me/.ssh/id_ed25519_for_the_cluster_2026",
        "base_url: http://judge.example:8000/v1",
        "description: task-force risk-assessment-of-the-whole-sky",
        "metric_key:\n  some_long_field_with_digits_0123456789: 1",
    ],
)
def test_what_is_no_secret_is_not_taken_for_one(text: str) -> None:
    assert leaks(text) == []


def test_every_mistake_that_pydantic_knows_has_words_of_ours() -> None:
    own = {"missing", "extra_forbidden", "value_error", "assertion_error"}  # said by `parse`
    outside_a_document = {
        "no_such_attribute", "json_invalid", "needs_python_object", "recursion_loop", "recursion_depth_exceeded",
        "frozen_field", "frozen_instance", "invalid_key", "get_attribute_error", "default_factory_not_called",
        "iteration_error", "missing_sentinel_error", "ellipsis_error", "missing_argument",
        "unexpected_keyword_argument", "missing_keyword_only_argument", "unexpected_positional_argument",
        "missing_positional_only_argument", "multiple_argument_values",
    }  # fmt: skip  # about Python objects and calls
    context = dict.fromkeys(
        ("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length", "max_digits", "decimal_places",
         "whole_digits"), 3
    ) | {"pattern": "x", "expected": "'a' or 'b'", "expected_tags": "'a'", "expected_schemes": "'https'",
         "expected_version": 4, "encoding": "utf-8"}  # fmt: skip
    own_english = "Their English"
    for kind in get_args(core_schema.ErrorType):
        if kind not in own | outside_a_document:
            assert words.expected(kind, context, own_english)[0] != "their English", kind


def test_a_third_party_model_is_told_of_in_our_words() -> None:
    class Inner(Model):
        at: datetime.date
        size: int | bool

    class Outer(Model):
        inner: Inner
        tags: dict[str, Annotated[int, Field(multiple_of=4)]] = {}

    text = "inner: {at: tomorrow, size: big}\ntags: {a: 3}\n"
    with pytest.raises(LtrlError) as caught:
        parse(read(Source("x.yaml", text)), Outer)
    assert [(d.code, d.message, str(d.position)) for d in caught.value.diagnostics] == [
        (Code.WRONG_TYPE, '`inner.at` is `"tomorrow"`, expected a date, `2026-11-22`', "x.yaml:1:13"),
        (Code.WRONG_TYPE, '`inner.size` is `"big"`, expected a whole number', "x.yaml:1:29"),
        (Code.WRONG_TYPE, '`inner.size` is `"big"`, expected `true` or `false`', "x.yaml:1:29"),
        (Code.INVALID_VALUE, "`tags.a` is `3`, expected a multiple of 4", "x.yaml:2:11"),
    ]


def test_names_of_other_systems_lead_to_fields_that_exist() -> None:
    experiment = spec()
    judge = '{backend: openai, base_url: "http://j/v1", model: m}'
    with_all = SPEC.replace("{backend: exact}", judge).replace("{name: local}", "{name: nemo-rl}")
    data = read(Source("spec.yaml", with_all)).data | {"logging": {"wandb": {}}}
    for foreign, here in elsewhere().items():
        if " " in here:
            continue
        *around, name = here.split(".")
        section = fields_of(type(experiment), tuple(around), data)
        assert section is not None, (foreign, here)
        assert name in section.model_fields, (foreign, here)


def test_every_nemo_rl_key_that_a_spec_compiles_to_is_a_name_that_is_known() -> None:
    planned = prepare(ROOT / "specs" / "qwen30b_moe.yaml")
    ours = {field for section in ("algorithm", "optimizer", "rollout", "parallelism", "checkpoint", "validation")
            for field in fields_of(Experiment, (section,), {}).model_fields}  # fmt: skip
    for setting in settings(planned.resolved, planned.layout):
        name = setting.steps[-1]
        if setting.field and setting.steps[0] not in ("env", "data") and name not in ours | {"enabled", "optimizer"}:
            assert name in elsewhere(), setting.key


def test_every_flag_of_the_reference_is_a_name_that_is_known() -> None:
    ours = {"lr", "weight_decay", "accumulate_allreduce_grads_in_fp32)"}
    flags = {word[2:].replace("-", "_").rstrip(",") for row in ROWS for word in row.flag.split() if word[:2] == "--"}
    assert flags - ours <= set(elsewhere())
