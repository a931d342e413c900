from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.statistics import (
    confusion,
    holm,
    macro_f1,
    mcnemar_exact,
    paired,
    sign_flip,
    spread,
    wilson,
    wilson_over_seeds,
)


# Newcombe 1998, Statistics in Medicine 17, 857-872, table I, method 3 (score without continuity correction).
@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_published_intervals(k: int, n: int, low: float, high: float) -> None:
    assert list(wilson(k, n)) == pytest.approx([low, high], abs=5e-5)


def test_wilson_knows_nothing_of_nothing_and_its_ends_are_exact() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(0, 100)[0] == 0.0
    assert wilson(100, 100)[1] == 1.0
    with pytest.raises(ValueError, match="3 of 2"):
        wilson(3, 2)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share_and_mirrors(counts: tuple[int, int]) -> None:
    k, n = counts
    low, high = wilson(k, n)
    assert 0 <= low <= k / n <= high <= 1
    assert list(wilson(n - k, n)) == pytest.approx([1 - high, 1 - low])
    narrow = wilson(k, n, confidence=0.5)
    assert low <= narrow[0]
    assert narrow[1] <= high


def test_wilson_is_where_the_score_test_turns() -> None:
    low, high = wilson(76, 100)
    for bound in (low, high):
        assert abs(0.76 - bound) / math.sqrt(bound * (1 - bound) / 100) == pytest.approx(1.959964, abs=1e-6)


# By hand: twice the tail of a fair coin, 8 against 1 is 2 * (1 + 9) / 512; the last two from scipy.stats.binomtest.
@pytest.mark.parametrize(
    ("b", "c", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (5, 0, 2 / 32),
        (8, 1, 20 / 512),
        (3, 3, 1.0),
        (10, 20, 0.0987371467),
        (59, 6, 4.96465e-12),
    ],
)
def test_mcnemar_exact(b: int, c: int, p: float) -> None:
    assert mcnemar_exact(b, c) == pytest.approx(p, rel=1e-6, abs=0)


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_is_twice_the_smaller_tail(b: int, c: int) -> None:
    p = mcnemar_exact(b, c)
    tail = sum(math.comb(b + c, k) for k in range(min(b, c) + 1)) / 2 ** (b + c)
    assert p == pytest.approx(min(1.0, 2 * tail))
    assert p == mcnemar_exact(c, b)


def test_mcnemar_of_many_pairs_is_a_number() -> None:
    assert mcnemar_exact(3000, 3000) == 1.0
    assert mcnemar_exact(3000, 2000) == pytest.approx(0.0, abs=1e-40)
    with pytest.raises(ValueError, match="-1 against 2"):
        mcnemar_exact(-1, 2)


@given(st.lists(st.booleans(), min_size=1, max_size=200), st.integers(1, 5))
def test_seeds_that_agree_on_every_record_tell_no_more_than_one(right: list[bool], n_seeds: int) -> None:
    found = wilson_over_seeds([each * n_seeds for each in right], n_seeds)
    assert list(found) == pytest.approx(list(wilson(sum(right), len(right))))


def test_seeds_that_know_nothing_of_each_other_count_as_records() -> None:
    # Two seeds with right answers at random, one half each: a quarter both, a half one of them, a quarter none.
    found = wilson_over_seeds([2] * 25 + [1] * 50 + [0] * 25, 2)
    assert list(found) == pytest.approx(list(wilson(100, 200)))
    # Seeds that avoid each other's mistakes do not count for more.
    assert list(wilson_over_seeds([1] * 100, 2)) == pytest.approx(list(wilson(100, 200)))
    assert wilson_over_seeds([2] * 100, 2) == wilson(100, 100)
    assert wilson_over_seeds([], 2) == (0.0, 1.0)


@given(st.lists(st.integers(-4, 4), max_size=10))
def test_a_sign_flip_counts_all_ways(differences: list[int]) -> None:
    ways = list(itertools.product((1, -1), repeat=len(differences)))
    seen = abs(sum(differences))
    reached = sum(abs(sum(sign * each for sign, each in zip(way, differences, strict=True))) >= seen for way in ways)
    assert sign_flip(differences) == pytest.approx(reached / len(ways))


@given(st.integers(0, 200), st.integers(0, 200), st.integers(0, 50), st.integers(1, 6))
def test_a_sign_flip_of_single_answers_is_mcnemars(b: int, c: int, same: int, scale: int) -> None:
    assert sign_flip([scale] * b + [-scale] * c + [0] * same) == pytest.approx(mcnemar_exact(b, c))


def test_a_sign_flip_of_many_records_is_a_number() -> None:
    assert 0 < sign_flip([3, -2, 1, 1] * 250) < 1e-10


# Holm 1979; as statsmodels' multipletests(method="holm") and R's p.adjust have it.
def test_holm_corrects_for_how_many_were_looked_at() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.8, 0.9]) == [1.0, 1.0]
    assert holm([0.04]) == [0.04]
    assert holm([]) == []


def test_pairs_are_counted_on_the_records_that_both_have() -> None:
    first = {0: True, 1: True, 2: False, 3: True, 9: True}
    second = {0: True, 1: False, 2: True, 3: False, 8: False}
    found = paired(first, second)
    assert (found.n, found.both, found.only_first, found.only_second, found.neither) == (4, 1, 2, 1, 0)
    assert (found.difference, found.p) == (0.25, 1.0)
    assert paired({}, {}).difference == 0


@given(st.dictionaries(st.integers(0, 40), st.booleans()), st.dictionaries(st.integers(0, 40), st.booleans()))
def test_a_pairing_turns_round(first: dict[int, bool], second: dict[int, bool]) -> None:
    one, other = paired(first, second), paired(second, first)
    assert (one.n, one.both, one.neither, one.p) == (other.n, other.both, other.neither, other.p)
    assert (one.only_first, one.only_second) == (other.only_second, other.only_first)
    assert one.both + one.only_first + one.only_second + one.neither == one.n
    assert paired(first, first).p == 1.0


def test_confusion_counts_answers_by_label() -> None:
    assert confusion([0, 0, 1, 2, 2], [0, 1, 1, 0, 2], 3) == [[1, 1, 0], [0, 1, 0], [1, 0, 1]]
    with pytest.raises(ValueError, match="label 3, answer 0: not below 3"):
        confusion([3], [0], 3)


def test_macro_f1_as_in_scikit_learns_documentation() -> None:
    # sklearn.metrics.f1_score: y_true, y_pred, average="macro"
    assert macro_f1([0, 1, 2, 0, 1, 2], [0, 2, 1, 0, 0, 1], 3) == pytest.approx(0.26666666)


def test_macro_f1_leaves_out_a_class_that_does_not_occur() -> None:
    assert macro_f1([0, 0, 1], [0, 0, 1], 3) == 1.0
    assert macro_f1([0, 0], [1, 1], 2) == 0.0
    assert macro_f1([], [], 3) == 0.0


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1))
def test_macro_f1_is_a_share_and_1_where_all_is_right(pairs: list[tuple[int, int]]) -> None:
    labels, predicted = [a for a, _ in pairs], [b for _, b in pairs]
    assert 0 <= macro_f1(labels, predicted, 3) <= 1
    assert (macro_f1(labels, predicted, 3) == 1) == (labels == predicted)


def test_spread_is_the_sample_deviation() -> None:
    mean, deviation = spread([2, 4, 4, 4, 5, 5, 7, 9])
    assert [mean, deviation] == pytest.approx([5, math.sqrt(32 / 7)])
    assert spread([0.5]) == (0.5, None)
    with pytest.raises(ValueError, match="no values"):
        spread([])
