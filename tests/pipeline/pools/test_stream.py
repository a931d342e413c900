"""Thresholds, allocation and drawing: laws that hold for any settings, and draws that stay what they are."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from pipeline.pools.stream import BINS, EASY, HARD, MEDIUM, Pick, Shortfall, Stream, Thresholds, allocated, draw
from pipeline.pools.stream import thresholds as threshold_pair

NAMES = ("humaneval", "gsm8k", "bbh", "amc", "medical_qa")
unit = st.floats(0, 1)
scores_of = st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.7, 1.0]) | unit, min_size=1, max_size=40)
benchmarks = st.dictionaries(st.sampled_from(NAMES), scores_of, min_size=1)
seeds = st.integers(0, 2**63 - 1)
percentile_pairs = st.tuples(st.floats(0, 100), st.floats(0, 100)).map(lambda pair: (min(pair), max(pair)))
ratios_of = st.dictionaries(st.sampled_from(NAMES), st.floats(0, 1), min_size=1).filter(
    lambda found: sum(found.values()) > 1e-3
)


@given(st.integers(1, 10**7), ratios_of, unit)
def test_an_allocation_adds_up_whatever_the_ratios(n: int, ratios: dict[str, float], easy: float) -> None:
    found = allocated(n, ratios, easy)
    assert list(found) == [(name, each) for name in ratios for each in BINS]
    assert sum(found.values()) == n
    assert all(count >= 0 for count in found.values())
    for name, ratio in ratios.items():
        own = found[name, EASY] + found[name, HARD]
        assert abs(own - n * ratio / sum(ratios.values())) < 1 + 1e-6
        assert abs(found[name, EASY] - own * easy) < 1 + 1e-6


@given(st.integers(1, 1000), st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 10))
def test_an_allocation_is_by_largest_remainder(n: int, weights: list[int], tenths: int) -> None:
    """Against whole numbers, where remainders are exact."""

    def shared(total: int, exact: list[int], per: int) -> list[int]:
        counts = [part // per for part in exact]
        order = sorted(range(len(exact)), key=lambda at: -(exact[at] % per))
        return [count + (at in order[: total - sum(counts)]) for at, count in enumerate(counts)]

    names = NAMES[: len(weights)]
    ratios = {name: weight / sum(weights) for name, weight in zip(names, weights, strict=True)}
    found = allocated(n, ratios, tenths / 10)
    own = shared(n, [n * weight for weight in weights], sum(weights))
    n_easy = shared(n, [n * tenths, n * (10 - tenths)], 10)[0]
    assert [found[name, EASY] + found[name, HARD] for name in names] == own
    assert [found[name, EASY] for name in names] == shared(n_easy, [count * tenths for count in own], 10)


def test_allocations_by_hand() -> None:
    assert allocated(1000, {"humaneval": 0.5, "gsm8k": 0.5}, 0.8) == {
        ("humaneval", EASY): 400, ("humaneval", HARD): 100, ("gsm8k", EASY): 400, ("gsm8k", HARD): 100,
    }  # fmt: skip
    assert list(allocated(10, dict.fromkeys(("humaneval", "gsm8k", "bbh"), 1 / 3), 0.5).values()) == [2, 2, 2, 1, 1, 2]
    assert list(allocated(1, dict.fromkeys(NAMES, 0.2), 0.5).values()) == [1, *[0] * 9]
    # 0.1 + 0.2 is no 0.3 in binary: what is 3 all but for that is 3.
    assert list(allocated(10, {"a": 0.1 + 0.2, "b": 0.7}, 1.0).values()) == [3, 0, 7, 0]
    assert list(allocated(7, {"a": 1.0}, 0.0).values()) == [0, 7]


@given(scores_of, percentile_pairs)
def test_thresholds_are_numpys(scores: list[float], percentiles: tuple[float, float]) -> None:
    found = threshold_pair(scores, percentiles)
    assert (found.low, found.high) == tuple(np.percentile(scores, percentiles, method="linear"))
    assert found.low <= found.high
    assert EASY in {found.bin_of(score) for score in scores}, "there is always something at or below a percentile"


def test_a_score_at_a_threshold_is_in_the_bin() -> None:
    bounds = Thresholds(0.2, 0.8)
    assert [bounds.bin_of(score) for score in (0.0, 0.2, math.nextafter(0.2, 1))] == [EASY, EASY, MEDIUM]
    assert [bounds.bin_of(score) for score in (math.nextafter(0.8, 0), 0.8, 1.0)] == [MEDIUM, HARD, HARD]
    assert Thresholds(0.5, 0.5).bin_of(0.5) == EASY


def drawn(
    scores: Mapping[str, list[float]],
    wanted: Mapping[tuple[str, str], int],
    seed: int = 7,
    *,
    with_replacement: bool = False,
    percentiles: tuple[float, float] = (20, 80),
) -> Stream:
    bounds = {name: threshold_pair(own, percentiles) for name, own in scores.items()}
    return draw(scores, bounds, wanted, seed, with_replacement=with_replacement)


def in_bin(scores: list[float], each: str, percentiles: tuple[float, float]) -> set[int]:
    low, high = np.percentile(scores, percentiles)
    easy = {at for at, score in enumerate(scores) if score <= low}
    return easy if each == EASY else {at for at, score in enumerate(scores) if score >= high} - easy


counts = st.integers(0, 30)


@given(st.data(), benchmarks, seeds, percentile_pairs, st.booleans())
def test_a_draw_holds_what_was_wanted_of_each_bin(
    data: st.DataObject,
    scores: dict[str, list[float]],
    seed: int,
    percentiles: tuple[float, float],
    with_replacement: bool,
) -> None:
    wanted = {(name, each): data.draw(counts) for name in scores for each in BINS}
    found = drawn(scores, wanted, seed, with_replacement=with_replacement, percentiles=percentiles)
    got = Counter((pick.benchmark, pick.bin) for pick in found.picks)
    short = {}
    for (name, each), count in wanted.items():
        inside = in_bin(scores[name], each, percentiles)
        own = [pick.at for pick in found.picks if (pick.benchmark, pick.bin) == (name, each)]
        assert set(own) <= inside
        if with_replacement:
            assert got[name, each] == (count if inside else 0)
        else:
            assert len(set(own)) == len(own) == min(count, len(inside))
        if len(own) < count:
            short[name, each] = Shortfall(name, each, count, len(own))
    assert found.shortfalls == tuple(short[key] for key in wanted if key in short)
    assert found == drawn(scores, wanted, seed, with_replacement=with_replacement, percentiles=percentiles)


def contributed(found: Stream, name: str) -> Counter[Pick]:
    return Counter(pick for pick in found.picks if pick.benchmark == name)


@given(st.data(), benchmarks, seeds, st.booleans())
def test_a_larger_count_holds_all_of_a_smaller_one(
    data: st.DataObject, scores: dict[str, list[float]], seed: int, with_replacement: bool
) -> None:
    few = {(name, each): data.draw(counts) for name in scores for each in BINS}
    many = {key: count + data.draw(counts) for key, count in few.items()}
    fewer = drawn(scores, few, seed, with_replacement=with_replacement)
    more = drawn(scores, many, seed, with_replacement=with_replacement)
    assert Counter(fewer.picks) <= Counter(more.picks)


@given(st.data(), benchmarks, seeds, st.booleans())
def test_what_a_benchmark_contributes_is_no_matter_of_the_others(
    data: st.DataObject, scores: dict[str, list[float]], seed: int, with_replacement: bool
) -> None:
    assume(len(scores) > 1)
    wanted = {(name, each): data.draw(counts) for name in scores for each in BINS}
    name = data.draw(st.sampled_from(sorted(scores)))
    alone = {key: count for key, count in wanted.items() if key[0] == name}
    whole = drawn(scores, wanted, seed, with_replacement=with_replacement)
    single = drawn({name: scores[name]}, alone, seed, with_replacement=with_replacement)
    assert contributed(whole, name) == contributed(single, name)
    swapped = dict(reversed(wanted.items()))
    assert Counter(drawn(scores, swapped, seed, with_replacement=with_replacement).picks) == Counter(whole.picks)


def test_seeds_benchmarks_and_bins_are_drawn_apart() -> None:
    scores = [0.0] * 50 + [1.0] * 50
    both = {"a": scores, "b": scores}
    bounds = {name: Thresholds(0.0, 1.0) for name in both}
    wanted = {(name, each): 5 for name in both for each in BINS}

    def of(seed: int, name: str, each: str) -> list[int]:
        found = draw(both, bounds, wanted, seed, with_replacement=False).picks
        return sorted(pick.at % 50 for pick in found if (pick.benchmark, pick.bin) == (name, each))

    draws = [of(seed, name, each) for seed in (0, 1, 2**63 - 1) for name in both for each in BINS]
    assert len(set(map(tuple, draws))) == len(draws)


def test_every_task_of_a_bin_is_drawn_as_often_as_any_other() -> None:
    """Chi-squared over 2,000 seeds; 31.26 is exceeded by chance in 1 of 1,000 (11 degrees of freedom)."""
    scores, bounds = {"a": [0.0] * 12}, {"a": Thresholds(0.0, 1.0)}
    for repeated in (False, True):
        draws = [draw(scores, bounds, {("a", EASY): 3}, seed, with_replacement=repeated) for seed in range(2000)]
        seen = Counter(pick.at for found in draws for pick in found.picks)
        assert sum((seen[at] - 500) ** 2 / 500 for at in range(12)) < 31.26


def test_the_order_mixes_benchmarks_and_bins() -> None:
    scores = {name: [0.0] * 50 + [1.0] * 50 for name in ("a", "b")}
    wanted = {(name, each): 50 for name in scores for each in BINS}
    found = draw(scores, {name: Thresholds(0.0, 1.0) for name in scores}, wanted, 1, with_replacement=False)
    first = Counter((pick.benchmark, pick.bin) for pick in found.picks[:100])
    assert all(10 < first[key] < 40 for key in wanted)


def test_all_of_one_bin() -> None:
    scores = {"a": [0.0, 0.1, 0.5, 0.9, 1.0]}
    for easy, bin_name in ((1.0, EASY), (0.0, HARD)):
        found = drawn(scores, allocated(4, {"a": 1.0}, easy), with_replacement=True)
        assert [pick.bin for pick in found.picks] == [bin_name] * 4


def test_an_empty_bin_is_short_with_replacement_too() -> None:
    found = drawn({"a": [0.5] * 5}, {("a", EASY): 7, ("a", HARD): 2}, with_replacement=True)
    assert len(found.picks) == 7
    assert found.shortfalls == (Shortfall("a", HARD, 2, 0),)


def test_a_known_draw() -> None:
    """Another numpy, or a change here, that draws other tasks changes the bytes of every pool."""
    scores = {"humaneval": [at / 19 for at in range(20)], "gsm8k": [at % 7 / 6 for at in range(35)]}
    wanted = {("humaneval", EASY): 3, ("humaneval", HARD): 2, ("gsm8k", EASY): 2, ("gsm8k", HARD): 3}
    without, repeated = (drawn(scores, wanted, 2025, with_replacement=each) for each in (False, True))
    assert " ".join(f"{pick.benchmark[0]}{pick.at}" for pick in without.picks) == "h1 g6 h19 h3 g1 g7 h0 g27 h16 g5"
    assert " ".join(f"{pick.benchmark[0]}{pick.at}" for pick in repeated.picks) == "h3 g27 h16 h3 g15 g0 h1 g5 h16 g6"
