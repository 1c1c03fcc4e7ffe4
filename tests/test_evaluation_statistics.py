"""Means, intervals, pass@k and paired differences against hand-computed cases and what must hold of any."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltrl.evaluation.statistics import Scores, difference, holm, mean, pass_at


def single(*values: float) -> list[Scores]:
    return [Scores(str(i), (value,)) for i, value in enumerate(values)]


def test_the_mean_is_over_questions_not_over_answers() -> None:
    found = mean([Scores("a", (1.0, 1.0, 1.0, 1.0)), Scores("b", (0.0,))])
    assert found is not None
    assert (found.value, found.num_questions, found.num_clusters) == (0.5, 2, 2)
    assert mean([]) is None


def test_the_interval_of_a_hundred_questions_is_that_of_the_normal_approximation() -> None:
    found = mean(single(*[1.0] * 42, *[0.0] * 58))
    assert found is not None
    half = 1.96 * math.sqrt(0.42 * 0.58 / 100)
    assert (found.low, found.high) == (pytest.approx(0.42 - half, abs=0.011), pytest.approx(0.42 + half, abs=0.011))
    assert found.half_width == pytest.approx(half, abs=0.01)


def test_questions_of_a_cluster_count_together() -> None:
    independent = mean([Scores(str(i), (float(i % 2),)) for i in range(200)])
    of_versions = mean([Scores(str(i // 4), (float(i // 4 % 2),)) for i in range(200)])  # 50 questions at 4 lengths
    assert independent is not None
    assert of_versions is not None
    assert (of_versions.value, of_versions.num_clusters) == (0.5, 50)
    assert of_versions.half_width == pytest.approx(2 * independent.half_width, rel=0.1)


def test_all_right_is_not_certainty() -> None:
    found = mean(single(*[1.0] * 10))
    assert found is not None
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.7225, abs=1e-4)  # Wilson's for 10 of 10
    none = mean(single(*[0.0] * 10))
    assert none is not None
    assert (none.low, none.high) == (0.0, pytest.approx(0.2775, abs=1e-4))


@pytest.mark.parametrize(
    ("n", "c", "k", "expected"),
    [(4, 0, 2, 0.0), (4, 4, 2, 1.0), (4, 1, 1, 0.25), (4, 1, 2, 0.5), (4, 1, 4, 1.0), (5, 2, 3, 1 - 1 / 10)],
)
def test_pass_at_k_is_the_share_of_draws_with_a_right_one(n: int, c: int, k: int, expected: float) -> None:
    found = pass_at(k, [Scores("q", (1.0,) * c + (0.0,) * (n - c))])
    assert found is not None
    assert found.value == pytest.approx(expected)


def test_pass_at_k_leaves_out_questions_with_fewer_answers() -> None:
    found = pass_at(2, [Scores("a", (1.0, 0.0)), Scores("b", (0.0,))])
    assert found is not None
    assert (found.value, found.num_questions) == (1.0, 1)
    assert pass_at(3, [Scores("a", (1.0, 0.0))]) is None


def test_a_difference_is_paired() -> None:
    a = single(*[0.0] * 6, *[1.0] * 4)
    b = single(*[0.0] * 3, *[1.0] * 7)
    found = difference(a, b)
    assert found is not None
    assert found.estimate.value == pytest.approx(0.3)
    assert (found.num_better, found.num_worse) == (3, 0)
    assert found.p_value == 2 * 2**7 / 2**10  # 10 clusters: each of 2^10 signs tried; the 7 zeros have either


def test_no_difference_is_none() -> None:
    found = difference(single(1.0, 0.0, 1.0), single(1.0, 0.0, 1.0))
    assert found is not None
    assert (found.estimate.value, found.p_value) == (0.0, 1.0)
    assert found.estimate.low == -found.estimate.high < 0  # three questions cannot show that there is none
    assert difference([], []) is None


def test_equal_scores_are_no_certainty() -> None:
    """At most Wilson's limit for 0 of n may have another score, 0 or 1 at worst."""
    half = mean(single(0.5, 0.5, 0.5))
    assert half is not None
    assert (half.low, half.high) == (pytest.approx(0.2193, abs=1e-4), pytest.approx(0.7807, abs=1e-4))
    better = difference(single(0.0, 0.0, 0.0), single(1.0, 1.0, 1.0))
    assert better is not None
    assert (better.estimate.value, better.estimate.high, better.p_value) == (1.0, 1.0, 0.25)
    assert better.estimate.low == pytest.approx(-0.1230, abs=1e-4)
    versions = mean([Scores("q", (1.0,)), Scores("q", (0.0,))])  # one question at two lengths
    assert versions is not None
    assert versions.low < 0.2
    assert versions.high > 0.8


def test_many_questions_that_all_got_better_are_significant_and_half_and_half_is_not() -> None:
    better = difference(single(*[0.0] * 50), single(*[1.0] * 30, *[0.0] * 20))
    mixed = difference(single(*[0.0] * 25, *[1.0] * 25), single(*[1.0] * 25, *[0.0] * 25))
    assert better is not None
    assert mixed is not None
    assert better.p_value == 1 / 10_001
    assert mixed.p_value == 1.0
    assert better.estimate.low > 0
    assert mixed.estimate.low < 0 < mixed.estimate.high


def test_the_test_rejects_as_often_as_it_says() -> None:
    """Under no difference, about 5 % of p-values are below 5 %."""
    rng = random.Random(0)
    found = []
    for _ in range(200):
        a, b = ([float(rng.random() < 0.5) for _ in range(12)] for _ in range(2))
        one = difference(single(*a), single(*b))
        assert one is not None
        found.append(one.p_value)
    assert sum(p < 0.05 for p in found) <= 20


def test_holm_corrects_step_by_step() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []
    assert holm([0.5, 0.9]) == [1.0, 1.0]


SHARES = st.lists(st.floats(0, 1), min_size=1, max_size=5)


@settings(deadline=None, max_examples=30)
@given(st.lists(SHARES, min_size=1, max_size=20), st.randoms())
def test_estimates_know_no_order_and_lie_in_their_interval(values: list[list[float]], rng: random.Random) -> None:
    questions = [Scores(str(i), tuple(scores)) for i, scores in enumerate(values)]
    found, again = mean(questions), mean(questions)
    assert found is not None
    assert found == again  # the same figure each time
    assert 0 <= found.low <= found.high <= 1
    assert found.low - 1e-9 <= found.value <= found.high + 1e-9
    shuffled = [Scores(q.cluster, tuple(rng.sample(q.values, len(q.values)))) for q in questions]
    rng.shuffle(shuffled)
    other = mean(shuffled)
    assert other is not None
    assert other.value == pytest.approx(found.value)
    back = difference(questions, [Scores(q.cluster, (1.0,)) for q in questions])
    assert back is not None
    assert back.estimate.value == pytest.approx(1 - found.value)
    assert 0 < back.p_value <= 1
