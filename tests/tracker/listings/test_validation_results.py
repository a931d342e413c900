"""Accuracies, gap and rank correlation: published examples, other programs' figures, and laws."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.listings.validation_results import Accuracy, Results, by_benchmark, results
from tracker.statistics import fisher_exact, spearman


def answer(bin_: str, score: float, correct: bool | None, status: str = "graded", benchmark: str = "gsm8k") -> Any:
    return {
        "benchmark": benchmark, "difficulty_bin": bin_, "difficulty_score": score, "correct": correct, "status": status
    }  # fmt: skip


def test_easy_and_hard_are_counted_and_the_rest_is_named() -> None:
    rows = [
        answer("easy", 0.0, True), answer("easy", 0.1, True), answer("easy", 0.2, False),
        answer("hard", 0.9, False), answer("hard", 1.0, True), answer("hard", 0.8, None, "failed"),
        answer("easy", 0.1, None, "ungraded", "humaneval"),
    ]  # fmt: skip
    found = results(rows)
    assert (found.easy, found.hard) == (Accuracy(3, 2), Accuracy(2, 1))
    assert (found.n_failed, found.n_ungraded) == (1, 1)
    assert found.gap == pytest.approx(2 / 3 - 1 / 2)
    assert found.rank_correlation is not None
    parts = by_benchmark(rows)
    assert list(parts) == ["gsm8k", "humaneval"]
    assert parts["humaneval"] == Results(Accuracy(0, 0), Accuracy(0, 0), None, 0, 1)
    assert (parts["humaneval"].gap, parts["humaneval"].p, parts["humaneval"].gap_interval) == (None, None, None)


def test_the_interval_of_the_gap_is_newcombes() -> None:
    """Newcombe 1998, table II, contrast (a): 56 of 70 against 48 of 80."""
    found = Results(Accuracy(70, 56), Accuracy(80, 48), None)
    assert found.gap == pytest.approx(0.2)
    assert found.gap_interval == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_the_p_value_is_fishers() -> None:
    """The lady tasting tea (Agresti 2002, table 3.8), and Fisher's twins, 10 of 13 and 2 of 17."""
    assert fisher_exact(3, 4, 1, 4) == pytest.approx(34 / 70)
    assert fisher_exact(10, 13, 2, 17) == pytest.approx(0.0005367, abs=5e-8)
    assert fisher_exact(0, 5, 0, 7) == 1.0


def test_the_rank_correlation_has_ties_at_their_mean_rank() -> None:
    assert spearman([1, 2, 3, 4], [0, 0, 1, 1]) == pytest.approx(2 / math.sqrt(5))
    assert spearman([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert spearman([1, 1, 1], [0, 1, 0]) is None
    assert spearman([1, 2, 3], [1, 1, 1]) is None
    assert spearman([], []) is None


def test_the_rank_correlation_of_all_is_the_mean_of_the_benchmarks() -> None:
    """Together these rise with the score, although none does so within its own benchmark."""
    low = [answer("easy", score, correct=True, benchmark="low") for score in (0.0, 0.1)]
    low += [answer("hard", 0.2, correct=True, benchmark="low")]
    falling = [
        answer("easy", 0.7, correct=False),
        answer("easy", 0.8, correct=False),
        answer("hard", 0.9, correct=True),
    ]
    rising = [answer("easy", 0.0, correct=True, benchmark="bbh"), answer("hard", 1.0, correct=False, benchmark="bbh")]
    assert results(low).rank_correlation is None
    assert results([*low, *falling]).rank_correlation == results(falling).rank_correlation
    own = results(falling).rank_correlation
    assert own is not None
    assert own < 0
    assert results([*low, *falling, *rising]).rank_correlation == pytest.approx((3 * own + 2 * 1) / 5)
    assert results([]).rank_correlation is None


VALUES = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 1)), min_size=2, max_size=60)


@given(VALUES)
def test_it_is_what_scipy_says(pairs: list[tuple[int, int]]) -> None:
    stats = pytest.importorskip("scipy.stats")
    first, second = [float(a) for a, _ in pairs], [float(b) for _, b in pairs]
    found = spearman(first, second)
    if found is None:
        assert len(set(first)) == 1 or len(set(second)) == 1
    else:
        assert found == pytest.approx(stats.spearmanr(first, second).statistic)


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 30), st.integers(0, 30))
def test_fishers_p_is_what_scipy_says(a: int, b: int, c: int, d: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    found = fisher_exact(a, a + b, c, c + d)
    assert found == pytest.approx(stats.fisher_exact([[a, b], [c, d]]).pvalue)
    assert found == fisher_exact(c, c + d, a, a + b)
