"""Mistakes in a spec: each in the user's words, at its place, with what to do."""

from __future__ import annotations

import pytest

from ltrl.errors import Code, LtrlError, Source
from ltrl.parse import parse
from ltrl.source import parse as read
from ltrl.spec import Experiment

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


CASES = [
    (
        ("steps: 80", "stepz: 80"),
        [
            (
                Code.MISSING_FIELD,
                "missing field `steps` in `algorithm`",
                "algorithm",
                "`steps`: Training steps; one step is one batch of rollouts.",
            ),
            (Code.UNKNOWN_FIELD, "unknown field `stepz` in `algorithm`", "stepz", "did you mean `steps`?"),
        ],
    ),
    (
        ("prompts_per_step: 8", "lr: 8"),
        [(Code.UNKNOWN_FIELD, "unknown field `lr` in `algorithm`", "lr", "`lr` belongs under `optimizer`")],
    ),
    (
        ("prompts_per_step: 8", "num_generations_per_prompt: 8"),
        [
            (
                Code.UNKNOWN_FIELD,
                "unknown field `num_generations_per_prompt` in `algorithm`",
                "num_generations_per_prompt",
                "here this is `algorithm.group_size`",
            )
        ],
    ),
    (
        ("samples: 640", "sample: 640"),
        [(Code.UNKNOWN_FIELD, "unknown field `sample` in `data.train`", "sample", "did you mean `samples`?")],
    ),
    (
        ("prompt: 1k", 'prompt: "1q"'),
        [(Code.WRONG_TYPE, '`model.context.prompt` is `"1q"`, expected a whole number', '"1q"', None)],
    ),
    (
        ("steps: 80", 'steps: "80"'),
        [(Code.WRONG_TYPE, '`algorithm.steps` is `"80"`, expected a whole number', '"80"', "leave out the quotes")],
    ),
    (
        ("steps: 80", "steps: 80.5"),
        [(Code.WRONG_TYPE, "`algorithm.steps` is `80.5`, expected a whole number", "80.5", None)],
    ),
    (
        ("steps: 80", "steps: 0"),
        [(Code.INVALID_VALUE, "`algorithm.steps` is `0`, expected at least 1", "0", None)],
    ),
    (
        ("steps: 80", "steps: "),
        [(Code.WRONG_TYPE, "`algorithm.steps` is empty, expected a whole number", "steps", None)],
    ),
    (
        ("lr: 1e-3", "lr: .inf"),
        [(Code.INVALID_VALUE, "`optimizer.lr` is `inf`, expected a finite number", ".inf", None)],
    ),
    (
        ("name: local", "name: locall"),
        [
            (
                Code.UNKNOWN_BACKEND,
                "unknown engine backend `locall`",
                "locall",
                "did you mean `local`? installed engine backends: `local`, `nemo-rl`",
            )
        ],
    ),
    (
        ("judge: {backend: exact}", "judge: {backend: exakt}"),
        [
            (
                Code.UNKNOWN_BACKEND,
                "unknown judge backend `exakt`",
                "exakt",
                "did you mean `exact`? installed judge backends: `exact`, `openai`, `panel`",
            )
        ],
    ),
    (
        ("{backend: rubric, judge: {backend: exact}}", "{judge: exact}"),
        [
            (
                Code.MISSING_FIELD,
                "missing field `backend` in `reward`",
                "reward",
                "installed reward backends: `longrlvr`, `outcome`, `rubric`",
            )
        ],
    ),
    (
        ("{backend: rubric, judge: {backend: exact}}", "[rubric]"),
        [
            (
                Code.WRONG_TYPE,
                "`reward` is a list, expected the name of a reward backend or its section",
                "[rubric]",
                None,
            )
        ],
    ),
    (
        ("name: quickstart", "name: Quick Start"),
        [
            (
                Code.INVALID_VALUE,
                '`name` is `"Quick Start"`, expected text of the form `^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$`',
                "Quick Start",
                None,
            )
        ],
    ),
    (
        ("kind: experiment", "kind: cluster"),
        [(Code.WRONG_KIND, "this is `kind: cluster`, expected `kind: experiment`", "cluster", None)],
    ),
]


@pytest.mark.parametrize(("change", "found"), CASES, ids=[case[0][1][:40] for case in CASES])
def test_a_mistake_is_said_at_its_place(
    change: tuple[str, str], found: list[tuple[Code, str, str, str | None]]
) -> None:
    assert mistakes(change) == found


def test_yes_is_text_and_the_hint_says_so() -> None:
    assert mistakes(more="rollout: {async_engine: yes}\n") == [
        (
            Code.WRONG_TYPE,
            '`rollout.async_engine` is `"yes"`, expected `true` or `false`',
            "yes",
            "write `true`: in YAML 1.2 `yes` is text",
        )
    ]


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
    assert found[-1][3] == "here this is `slurm.partition in the cluster profile`"


def test_a_layout_may_be_left_to_the_planner() -> None:
    assert spec(more="parallelism: auto\n").parallelism is None
    assert mistakes(more="parallelism: fast\n") == [
        (Code.WRONG_TYPE, '`parallelism` is `"fast"`, expected `field: value` lines', "fast", None)
    ]
