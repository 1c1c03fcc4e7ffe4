"""Responses that engines keep for people."""

from pathlib import Path

from ltrl import excerpts
from ltrl.excerpts import Excerpt


def test_the_best_and_the_worst_of_a_group_that_differs_and_of_all_are_kept() -> None:
    rewards = [0.5, 0.5, 0.5, 0.5, 0.2, 0.9, None, 0.4, 1.0, 1.0, 0.0, 1.0]
    assert excerpts.choose(rewards, group_size=4) == [5, 4, 8, 10]
    assert excerpts.choose([0.5, 0.5, None, 0.5], group_size=4) == [0, 2]
    assert excerpts.choose([None, None], group_size=2) == [0, 1]
    assert excerpts.choose([1.0] * 8, group_size=4) == [0]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    one = Excerpt(
        "train", "s1", "who?", "Ada", "Ada.\u2028", rubrics=("Ada",), aliases={"Ada": ["A."]}, reward=0.0, outcome=0.0
    )
    other = Excerpt("validation", "s2", "who?", "Ben", "Ben", set="chains", parts={"length": 2.0}, judge="right")
    excerpts.append(tmp_path, 3, [one, other])
    excerpts.append(tmp_path, 4, [])
    with (tmp_path / excerpts.NAME).open("ab") as file:
        file.write(b'\xff\n[1]\n{"split": "train"}\nnull\n{"split": "train", "sam')
    first, second = excerpts.read(tmp_path / excerpts.NAME)
    assert (first.step, first.response, list(first.rubrics), first.aliases, first.reward) == (
        3,
        "Ada.\u2028",
        ["Ada"],
        {"Ada": ["A."]},
        0.0,
    )
    assert (second.set, second.parts, second.judge, second.reward) == ("chains", {"length": 2.0}, "right", None)
    assert list(excerpts.read(tmp_path / "none")) == []


def test_a_long_response_loses_its_middle_and_says_so() -> None:
    text = "a" * 30_000 + "end"
    kept = excerpts.shortened(text)
    assert len(kept) < 25_000
    assert "6,003 characters are not kept" in kept
    assert kept.endswith("aend")
    assert excerpts.shortened("short") == "short"
