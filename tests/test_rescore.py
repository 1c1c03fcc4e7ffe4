"""Saved rollouts: read in every form that engines write, scored again as training did, compared."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltrl.backend import create, load
from ltrl.errors import Code, LtrlError
from ltrl.rescore import Comparison, Rule, Scored, Scores, Summary, compare, differences, explain, in_order, score
from ltrl.rollouts import Group, Samples, groups, read
from ltrl.samples import Sample
from ltrl.scoring import Score, advantages

REWARD = {"backend": "rubric", "judge": {"backend": "exact", "answer_pattern": "answer (.+)$"}}
CLOSING = "<|im_end|>\n<|im_start|>assistant\n<think>\n"


def rule(**options: Any) -> Rule:
    section = load("reward", "rubric").Options.model_validate_json(json.dumps(REWARD | options))
    return Rule(section.model_dump_json(), "qwen3")


def chain() -> Any:
    return create(load("data", "entity-chain").Options(backend="entity-chain", samples=4))


def response(sample: Sample, named: Sequence[str], answer: str = "") -> str:
    return f"t\n</think>\n\nevidence {' '.join(named)} answer {answer or sample.label}<|im_end|>"


def write(path: Path, records: Sequence[dict[str, Any] | str]) -> Path:
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records), encoding="utf-8")
    return path


def records(style: str) -> list[dict[str, Any]]:
    """Two groups: all, half and nothing of the evidence named, and one wrong answer."""
    made = []
    for sample in list(chain())[:2]:
        a, b = sample.rubrics
        texts = [response(sample, (a, b)), response(sample, (a,)), response(sample, ()), response(sample, (a,), "Zzz")]
        [(_, prompt)] = sample.messages
        templated = f"<|im_start|>user\n{prompt}{CLOSING}"
        for text in texts:
            messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": text}]
            match style:
                case "nemo-rl training":
                    record: dict[str, Any] = {"content": [[templated, text, "ok"]], "rewards": [0.7], "idx": 0}
                case "nemo-rl validation":
                    log = [messages[0] | {"content": templated}, messages[1], {"role": "environment", "content": "ok"}]
                    record = {"content": [log], "rewards": [1.0]}
                case "embedded engine":
                    record = {"content": messages, "sample": sample.id, "rewards": 0.7}
                case "plain, by id":
                    record = {"prompt": "not kept", "response": text, "sample": sample.id}
                case _:
                    record = {
                        "response": text,
                        "sample": "mine",
                        "label": sample.label,
                        "rubrics": list(sample.rubrics),
                    }
                    record["sample"] = sample.id
            made.append(record)
    return made


STYLES = ["nemo-rl training", "nemo-rl validation", "embedded engine", "plain, by id", "plain, whole"]


@pytest.mark.parametrize("style", STYLES)
def test_rollouts_are_scored_as_in_training_whoever_wrote_them(style: str, tmp_path: Path) -> None:
    path = write(tmp_path / "rollouts.jsonl", records(style))
    found = list(groups(path, Samples([] if style == "plain, whole" else [chain])))
    assert [group.sample.id for group in found] == ["entity-chain-0-0", "entity-chain-0-1"]
    for group in found:
        scored = score(rule(), group)
        assert [one.reward for one in scored] == pytest.approx([1.0, 0.85, 0.7, 0.0])
        assert [one.advantage for one in scored] == advantages([one.reward for one in scored])
        assert [one.score.why for one in scored] == ["right", "right", "right", "wrong: `Zzz` is not the label"]
        assert [one.id for one in scored] == [f"{group.sample.id}#{n}" for n in (1, 2, 3, 4)]


def test_a_response_that_the_engine_lost_has_no_part_in_its_group(tmp_path: Path) -> None:
    made = records("nemo-rl training")
    made[1]["content"] = [made[1]["content"][0][:1]]
    first, _ = groups(write(tmp_path / "rollouts.jsonl", made), Samples([chain]))
    assert (first.num_lost, [r.line for r in first.rollouts]) == (1, [1, 3, 4])
    assert [one.reward for one in score(rule(), first)] == pytest.approx([1.0, 0.7, 0.0])


def test_a_response_without_a_stop_token_was_truncated_unless_it_says_otherwise(tmp_path: Path) -> None:
    made = records("plain, whole")[:2]
    made[0]["response"] = made[1]["response"] = "t\n</think>\n\nevidence"
    made[1]["status"] = "aborted"
    [group] = groups(write(tmp_path / "rollouts.jsonl", made), Samples([]))
    assert [one.score.zeroed for one in score(rule(), group)] == ["truncated", "aborted"]


BAD = {
    "not JSON": ("{", "this is not JSON: Expecting property name enclosed in double quotes: line 2 column 1 (char 2)"),
    "no object": ("[1]", "a record is a JSON object"),
    "no response": ({"prompt": "?"}, "the record has no messages in `content`, and no `response`"),
    "no text": ({"content": [{"role": "user"}]}, "the record has no messages in `content`, and no `response`"),
    "odd status": (
        {"response": "a", "status": "cut"},
        "`status` is `cut`, expected one of `completed`, `truncated`, `aborted`",
    ),
    "unknown sample": ({"response": "a", "sample": "x"}, "the spec's data have no sample `x`"),
    "unknown prompt": ({"response": "a", "prompt": "p"}, "the spec's data have no sample with this prompt"),
    "odd rubric": (
        {"response": "a", "label": "b", "rubrics": "c"},
        "`metadata.extra_reward_info.rubrics` is not a list",
    ),
    "odd entity": (
        {"response": "a", "label": "b", "rubrics": [None, "Poro"]},
        "`metadata.extra_reward_info.rubrics[0]` is not text",
    ),
    "deep nesting": ("[" * 100_000, "this is not a record: too many lists or objects inside each other"),
    "group again": (records("plain, whole")[0], "the responses to `entity-chain-0-0` went on until line 4"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_record_that_cannot_be_scored_is_told_with_its_line(what: str, tmp_path: Path) -> None:
    record, message = BAD[what]
    path = write(tmp_path / "rollouts.jsonl", [*records("plain, whole"), record])
    with pytest.raises(LtrlError) as caught:
        list(groups(path, Samples([chain])))
    [found] = caught.value.diagnostics
    assert (found.code, found.message) == (Code.BAD_ROLLOUTS, message)
    assert found.position is not None
    assert (found.position.source.name, found.position.line) == (str(path), 9)


def test_an_entity_that_cannot_be_looked_for_is_told_with_its_line(tmp_path: Path) -> None:
    made = records("plain, whole")
    made[4]["rubrics"] = made[5]["rubrics"] = made[6]["rubrics"] = made[7]["rubrics"] = ["…"]
    _, second = groups(write(tmp_path / "rollouts.jsonl", made), Samples([]))
    with pytest.raises(LtrlError, match="the rubric entity `…` has nothing to look for") as caught:
        score(rule(), second)
    assert caught.value.diagnostics[0].position is not None
    assert caught.value.diagnostics[0].position.line == 5


def test_a_mistake_that_another_process_finds_is_told_whole(tmp_path: Path) -> None:
    made = records("plain, whole")
    for record in made[4:]:
        record["rubrics"] = ["…"]
    found = groups(write(tmp_path / "rollouts.jsonl", made), Samples([]))
    scored = in_order([rule()], found, jobs=2)
    assert next(scored)[0].sample.id == "entity-chain-0-0"
    with pytest.raises(LtrlError, match="the rubric entity `…` has nothing to look for") as caught:
        next(scored)
    assert str(caught.value.diagnostics[0].position) == f"{tmp_path / 'rollouts.jsonl'}:5:1"


def test_scores_that_cannot_be_written_are_told(tmp_path: Path) -> None:
    path, _ = two_groups(tmp_path)
    with pytest.raises(LtrlError, match=r"cannot write the scores `.*x`: (not|file)") as caught:
        scored_into(path / "x", path, [])
    assert caught.value.diagnostics[0].code is Code.UNWRITABLE
    with pytest.raises(LtrlError, match=r"cannot write the scores `.*`: is a directory"):
        scored_into(tmp_path, path, [])


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(LtrlError, match="cannot read the rollouts"):
        list(read(tmp_path / "none.jsonl"))


def two_groups(tmp_path: Path) -> tuple[Path, list[Group]]:
    path = write(tmp_path / "rollouts.jsonl", records("plain, whole"))
    return path, list(groups(path, Samples([])))


def test_processes_give_what_one_gives_in_the_same_order(tmp_path: Path) -> None:
    _, found = two_groups(tmp_path)
    rules = [rule(), rule(eta=0.9, scope="all")]
    alone = list(in_order(rules, found, jobs=1))
    assert list(in_order(rules, found, jobs=2)) == alone
    assert [group for group, _ in alone] == found


def scored_into(
    out: Path, path: Path, found: Sequence[Group], *, by: Rule | None = None, **options: Any
) -> list[list[Scored]]:
    """Scores groups of a file; what was there already."""
    left = iter(found)
    with Scores(out, by or rule(), [path], **options) as scores:
        done = [members for _, members in scores.resume(left)]
        for group in left:
            scores.add(group, score(by or rule(), group))
    return done


@settings(max_examples=40)
@given(st.integers(0, 5000))
def test_scores_cut_off_anywhere_are_gone_on_with(cut: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        path, found = two_groups(Path(directory))
        out = Path(directory) / "whole.jsonl"
        assert scored_into(out, path, found) == []
        text = out.read_bytes()
        out.write_bytes(text[:cut])
        done = scored_into(out, path, found)
        assert done == [score(rule(), group) for group in found[: len(done)]]
        assert out.read_bytes() == text


def refusal(out: Path, path: Path, found: Sequence[Group], **options: Any) -> str:
    before = out.read_bytes()
    with pytest.raises(LtrlError) as caught:
        scored_into(out, path, found, **options)
    [said] = caught.value.diagnostics
    assert (said.code, out.read_bytes()) == (Code.OTHER_SCORES, before)
    return said.message.replace(str(out), "scores")


def test_scores_of_another_reward_are_not_gone_on_with(tmp_path: Path) -> None:
    path, found = two_groups(tmp_path)
    scored_into(tmp_path / "scores.jsonl", path, found)
    said = refusal(tmp_path / "scores.jsonl", path, found, by=rule(eta=0.5))
    assert said == "`scores` holds the scores of other responses or by another reward"
    scored_into(tmp_path / "scores.jsonl", path, found, by=rule(eta=0.5), replace=True)
    assert len((tmp_path / "scores.jsonl").read_text().splitlines()) == 9


@pytest.mark.parametrize(
    ("old", "new", "first"),
    [("answer Zzz", "answer Yyy", 2), ('"rubrics": ["', '"rubrics": ["Z', 2), (None, None, 6)],
    ids=["a response", "the evidence", "fewer groups"],
)
def test_scores_of_what_has_changed_since_are_not_gone_on_with(
    old: str | None, new: str, first: int, tmp_path: Path
) -> None:
    path, found = two_groups(tmp_path)
    scored_into(tmp_path / "scores.jsonl", path, found)
    if old is None:
        found = found[:1]
    else:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
        found = list(groups(path, Samples([])))
        head, *rest = (tmp_path / "scores.jsonl").read_text().splitlines(keepends=True)
        head = json.dumps(json.loads(head) | {"files": {str(path): path.stat().st_size}}) + "\n"
        (tmp_path / "scores.jsonl").write_text("".join([head, *rest]))
    expected = f"`scores` holds other scores from line {first} on: the rollouts or the spec's data have changed"
    assert refusal(tmp_path / "scores.jsonl", path, found) == expected


@pytest.mark.parametrize(
    ("number", "line", "message"),
    [
        (1, '{"ltrl_scores": 1}', "`scores` was written by another version of ltrl"),
        (1, '{"a": 1}', "`scores` holds no scores"),
        (3, '{"x": 1}', "line 3 of `scores` is not the score that belongs there"),
        (3, "[1]", "line 3 of `scores` is not the score that belongs there"),
        (3, "[" * 100_000, "line 3 of `scores` is not the score that belongs there"),
    ],
)
def test_lines_that_are_no_scores_are_told(number: int, line: str, message: str, tmp_path: Path) -> None:
    path, found = two_groups(tmp_path)
    out = tmp_path / "scores.jsonl"
    scored_into(out, path, found)
    lines = out.read_text().splitlines()
    lines[number - 1] = line
    out.write_text("\n".join(lines) + "\n")
    assert refusal(out, path, found) == message


def test_two_processes_do_not_score_into_one_file(tmp_path: Path) -> None:
    path, found = two_groups(tmp_path)
    out = tmp_path / "scores.jsonl"
    with Scores(out, rule(), [path]), pytest.raises(LtrlError, match="another process scores into") as caught:
        scored_into(out, path, found, replace=True)
    assert caught.value.diagnostics[0].code is Code.RUN_BUSY
    scored_into(out, path, found)
    assert len(out.read_text().splitlines()) == 9


def test_two_rewards_are_compared_response_by_response(tmp_path: Path) -> None:
    _, found = two_groups(tmp_path)
    first, second = rule(), rule(eta=0.9, scope="all")
    assert differences(first, second) == [("reward.eta", "0.3", "0.9"), ("reward.scope", "positive-only", "all")]
    comparison = Comparison(keep=3)
    for _, [a, b] in in_order([first, second], found, jobs=1):
        comparison.add(compare(a, b))
    # Rewards a: 1, .85, .7, 0; b: 1, .55, .1, .45: the third falls behind the fourth.
    assert comparison.counts == {
        "groups whose order changes": 2,
        "rewards that differ": 6,
        "outcomes that differ": 0,
        "responses that name other entities": 0,
        "ranks that change": 4,
        "advantages that change sign": 2,
    }
    assert [(pair.a.number, pair.rank_a, pair.rank_b, pair.flips) for pair in comparison.most] == [
        (3, 3, 4, True),
        (3, 3, 4, True),
        (4, 4, 3, False),
    ]
    assert comparison.a.to_json() == {
        "groups": 2,
        "lost": 0,
        "reward": pytest.approx(0.6375),
        "rubric": 0.5,
        "responses": 8,
        "right": 6,
        "wrong": 2,
        "mixed": 2,
    }


def test_matchers_differ_by_the_entities_that_only_one_finds(tmp_path: Path) -> None:
    record = {"response": "t\n</think>\n\na party answer C<|im_end|>", "sample": "s", "label": "C", "rubrics": ["art"]}
    [group] = groups(write(tmp_path / "rollouts.jsonl", [record]), Samples([]))
    [pair] = compare(score(rule(), group), score(rule(matcher="reference"), group))
    assert pair.entities == ((), ("art",))
    assert pair.to_json()["b"]["only"] == ["art"]


GROUPS = st.lists(st.none() | st.sampled_from([0.0, 0.4, 0.7, 1.0]), min_size=1, max_size=6)


def scored(rewards: Sequence[float | None]) -> list[Scored]:
    found = zip(rewards, advantages(rewards), strict=True)
    return [
        Scored("f", n, "s", n, len(rewards), reward, advantage, Score(reward, 0.0))
        for n, (reward, advantage) in enumerate(found, 1)
    ]


@given(GROUPS)
def test_a_reward_compared_with_itself_changes_nothing(rewards: list[float | None]) -> None:
    comparison = Comparison(keep=9)
    comparison.add(compare(scored(rewards), scored(rewards)))
    assert (sum(comparison.counts.values()), comparison.most) == (0, [])


@given(GROUPS.flatmap(lambda a: st.tuples(st.just(a), st.permutations(a))))
def test_ranks_are_those_of_a_sorted_group(pair: tuple[list[float | None], list[float | None]]) -> None:
    one, other = pair
    for found in compare(scored(one), scored(other)):
        better = [r for r in one if r is not None and found.a.reward is not None and r > found.a.reward]
        assert found.rank_a == (None if found.a.reward is None else len(better) + 1)


def test_a_summary_counts_an_outage_as_no_reward() -> None:
    summary = Summary()
    summary.add(scored([1.0, None, 0.0]))
    assert (summary.reward, summary.counts["unjudged"]) == (0.5, 1)
    assert Summary().reward is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("answer", {"answer": ((9, 13, 1), (21, 25, 2), (26, 30, 1))}),
        ("reasoning", {"reasoning": ((5, 9, 1),)}),
        ("both", {"reasoning": ((5, 9, 1),), "answer": ((9, 13, 1), (21, 25, 2), (26, 30, 1))}),
    ],
)
def test_every_place_is_marked_in_the_part_where_it_stands(text: str, expected: dict[str, Any], tmp_path: Path) -> None:
    raw = "Kime Mali\n</think>\n\nevidence Mali answer Duro Mali answer X<|im_end|>"
    record = {"response": raw, "sample": "s", "label": "X", "rubrics": ["Mali", "Duro"]}
    [group] = groups(write(tmp_path / "rollouts.jsonl", [record]), Samples([]))
    [found] = explain(rule(text=text), group)
    assert {part: tuple(sorted(marks)) for part, marks in found.marks.items()} == {
        part: tuple(sorted(marks)) for part, marks in expected.items()
    }
    parts = {"reasoning": found.request.response.reasoning, "answer": found.request.response.content}
    for part, marks in found.marks.items():
        assert {(parts[part] or "")[a:b] for a, b, _ in marks} <= {"Mali", "Duro"}
