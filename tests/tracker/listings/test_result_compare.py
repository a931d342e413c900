from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.text.result_best_text import value_of
from tracker.listings.result_compare import (
    Pooled,
    against_best,
    are_comparable,
    best_of,
    by_measure,
    compared,
    grouped,
    pool,
    pooled,
    seed_deviation,
    settings_of,
)
from tracker.listings.result_settings import Result
from tracker.statistics import mcnemar_exact, wilson, wilson_over_seeds

ids = iter(range(1, 10_000))


def result(point: str, right: str | None, seed: int = 0, **settings: Any) -> tuple[Result, dict[int, bool]]:
    """A run that answered the records with a 1 rightly; None: not complete."""
    marks = {at: mark == "1" for at, mark in enumerate(right or "") if mark != " "}
    n_correct = sum(marks.values())
    low, high = wilson(n_correct, len(marks))
    row = {
        "id": next(ids), "task": settings.pop("task", "Copa"), "eval_digest": settings.pop("eval_digest", "e"),
        "n_eval": len(marks), "data": settings.pop("named", "original"),
        "status": "failed" if right is None else "complete", "seed": seed, "fingerprint": f"{point} {seed}",
        "accuracy": None if right is None else n_correct / len(marks), "accuracy_low": low, "accuracy_high": high,
        "eval_loss": 0.5,
    }  # fmt: skip
    given = {"hyperparameters.seed": seed, "train_data.fingerprint": None, **settings}
    generated = {name: value for name, value in given.items() if name.startswith("generation.")}
    made_with = settings.pop("made_with", (generated,) if generated else ())
    given.pop("made_with", None)
    return Result(row, given, frozenset(given) - {"purpose"}, point, made_with), marks


def pools_of(*made: tuple[Result, dict[int, bool]], apart: bool = False) -> list[Pooled]:
    return pooled([each for each, _ in made], {each.id: marks for each, marks in made}, apart=apart)


def test_seeds_of_a_point_are_pooled() -> None:
    first, second = pools_of(result("a", "1100", 0), result("b", "1000", 0), result("a", "1000", 1))
    assert [each.row["seed"] for each in first.results] == [0, 1]
    assert first.mean == 0.375
    assert first.deviation == pytest.approx(math.sqrt(2) / 8)
    assert first.n_right == {0: 2, 1: 1, 2: 0, 3: 0}
    assert first.interval == wilson_over_seeds([2, 1, 0, 0], 2)
    assert (second.mean, second.deviation, second.interval) == (0.25, None, wilson(1, 4))
    assert first.best_run.row["seed"] == 0
    assert first.figure("eval_loss") == 0.5


@pytest.mark.parametrize(
    "made",
    [
        [result("a", "1100", 0), result("a", "1000", 1)],  # nothing else to compare
        [result("a", "1100", 0), result("a", "1000", 0), result("b", "1000", 0)],  # the same twice
        [result("a", "1100", 0), result("a", None, 1), result("b", "1000", 0)],  # one has not finished
    ],
)
def test_runs_are_looked_at_one_by_one_where_pooling_says_nothing(made: list[tuple[Result, dict[int, bool]]]) -> None:
    assert [len(each.results) for each in pools_of(*made)] == [1] * len(made)


def test_seeds_can_be_kept_apart() -> None:
    made = result("a", "1100", 0), result("b", "1000", 0), result("a", "1000", 1)
    assert [len(each.results) for each in pools_of(*made, apart=True)] == [1, 1, 1]


def test_single_runs_are_tested_by_mcnemar_on_the_records_they_share() -> None:
    (found,) = compared(pools_of(result("a", "1111110001 "), result("b", "1000000010 ".replace(" ", "1"))))
    assert (found.first, found.second, found.n) == (0, 1, 10)
    assert (found.only_first, found.only_second) == (6, 1)
    assert found.difference == pytest.approx(0.5)
    assert found.p == found.corrected == mcnemar_exact(6, 1)


@given(st.lists(st.integers(0, 15), min_size=1, max_size=60))
def test_a_pool_of_equal_seeds_is_tested_as_one_run_is(records: list[int]) -> None:
    one = "".join("1" if each & 1 else "0" for each in records)
    other = "".join("1" if each & 2 else "0" for each in records)
    (single,) = compared(pools_of(result("a", one), result("b", other)))
    (seeds,) = compared(pools_of(result("a", one), result("b", other), result("a", one, 1)))
    assert seeds.p == pytest.approx(single.p)
    assert seeds.difference == pytest.approx(single.difference)
    assert seeds.only_first is None


def test_unequal_numbers_of_seeds_weigh_alike() -> None:
    (found,) = compared(pools_of(result("a", "1100", 0), result("a", "1100", 1), result("b", "1100", 0)))
    assert (found.difference, found.p) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("other", "obstacle"),
    [
        (result("b", None), "not both are complete"),
        (result("b", "1111", task="CB"), "different tasks"),
        (result("b", "1111", eval_digest="other"), "measured on different evaluation sets"),
        (result("b", "    1111"), "no records in common"),
    ],
)
def test_there_is_no_test_where_nothing_can_be_compared(other: tuple[Result, dict[int, bool]], obstacle: str) -> None:
    (found,) = compared(pools_of(result("a", "1100"), other))
    assert (found.obstacle, found.p, found.corrected, found.difference) == (obstacle, None, None, None)


def test_up_to_four_are_tested_each_with_each() -> None:
    found = compared(pools_of(*(result(name, "1100") for name in "abcd")))
    assert [(each.first, each.second) for each in found] == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]


def test_more_are_tested_with_the_best_on_the_same_records() -> None:
    made = [result(name, "1" * at + "0" * (9 - at)) for at, name in enumerate("abcd", 1)]
    made += [result(name, "111111111", task="CB") for name in "ef"] + [result("g", None)]
    found = compared(pools_of(*made))
    assert [(each.first, each.second) for each in found] == [(3, 0), (3, 1), (3, 2), (4, 5)]


def test_accuracies_on_other_numbers_of_records_are_no_contest() -> None:
    # All that the second knows is wrong in the first 4; on these the first is no better.
    made = pools_of(result("a", "1100"), result("b", "110000000000"))
    (found,) = compared(made)
    assert not are_comparable(made)
    assert (found.n, found.accuracies, found.difference, found.p) == (4, (0.5, 0.5), 0.0, 1.0)
    assert against_best(made) == []
    assert by_measure(made) == {("Copa", "e", 4): [0], ("Copa", "e", 12): [1]}


def test_records_of_no_known_file_are_no_contest() -> None:
    unknown: dict[str, Any] = {"eval_digest": None}
    assert not are_comparable(pools_of(result("a", "1100", **unknown), result("b", "1100", **unknown)))
    assert are_comparable(pools_of(result("a", "1100"), result("b", "1000")))


def test_accuracies_of_seeds_on_the_records_of_both_are_means() -> None:
    made = pools_of(result("a", "1100", 0), result("a", "1000", 1), result("b", "101000"))
    assert compared(made)[0].accuracies == (0.375, 0.5)


def test_a_value_measured_on_different_records_is_two() -> None:
    made = result("a", "1100", x=1), result("b", "110000", x=1), result("c", "11", 1, x=1), result("c", "10", x=1)
    groups = grouped([each for each, _ in made], "x")
    assert [(group.value, group.measure.n_eval, group.n_runs) for group in groups] == [(1, 2, 2), (1, 4, 1), (1, 6, 1)]


def test_many_tests_need_smaller_p_values() -> None:
    made = result("a", "1" * 20), result("b", "1" * 14 + "0" * 6), result("c", "1" * 13 + "0" * 7)
    first, second = against_best(pools_of(*made))
    assert (first.p, second.p) == (mcnemar_exact(6, 0), mcnemar_exact(7, 0))
    assert (first.corrected, second.corrected) == (first.p, 2 * mcnemar_exact(7, 0))


def test_the_best_is_the_first_of_the_highest() -> None:
    made = pools_of(result("a", "1000"), result("b", "1100"), result("c", "0011"), result("d", None))
    assert best_of(made) == 1
    assert best_of([]) is None
    assert best_of(made[3:]) is None
    assert against_best(made[3:]) == []


def test_what_seeds_move_is_pooled_over_all_that_have_several() -> None:
    made = result("a", "1100", 0), result("a", "1000", 1), result("b", "1111", 0), result("b", "1111", 1)
    assert seed_deviation(pools_of(*made)) == pytest.approx(math.sqrt((2 / 64 + 0) / 2))
    assert seed_deviation(pools_of(*made, apart=True)) is None


def test_settings_are_the_same_or_different_or_without_effect() -> None:
    found = settings_of(
        pools_of(
            result("a", "1100", 0, rate=1e-6, purpose="x", steps=5),
            result("a", "1100", 1, rate=1e-6, purpose="x", steps=5),
            result("b", "1000", 1, rate=5e-7, purpose="y", steps=5),
        )
    )
    assert found.same == {"steps": 5}
    assert found.different == {"hyperparameters.seed": [[0, 1], 1], "rate": [1e-6, 5e-7]}
    assert found.without_effect == ("purpose",)


def test_settings_of_data_are_compared_among_those_that_have_some() -> None:
    made: dict[str, Any] = {"train_data.digest": "d", "generation.top_p": 1.0}
    first: dict[str, Any] = {"train_data.fingerprint": "f1", "generation.temperature": 0.5}
    second: dict[str, Any] = {"train_data.fingerprint": "f2", "generation.temperature": 0.9}
    original: dict[str, Any] = {"train_data.digest": "d3"}
    found = settings_of(
        pools_of(
            result("a", "1100", **made, **first), result("b", "1100", **made, **second), result("c", "1100", **original)
        )
    )
    assert found.of_generated == {"generation.top_p": 1.0}
    assert found.different == {
        "train_data.fingerprint": ["f1", "f2", None],
        "generation.temperature": [0.5, 0.9, None],
    }


def test_settings_of_a_mix_are_those_of_its_parts() -> None:
    made: dict[str, Any] = {"generation.top_p": 1.0, "generation.temperature": 0.5}
    text: dict[str, Any] = {"generation.top_p": "original + 1.0", "generation.temperature": "original + 0.7"}
    parts = ({"generation.top_p": 1.0, "generation.temperature": 0.7},)
    found = settings_of(pools_of(result("a", "1100", **made), result("b", "1100", **text, made_with=parts)))
    assert found.of_generated == {"generation.top_p": 1.0}
    assert found.different == {"generation.temperature": [0.5, "original + 0.7"]}


def test_data_without_experiment_is_a_value_of_its_own() -> None:
    unset: dict[str, Any] = {"generation.temperature": None}
    half: dict[str, Any] = {"generation.temperature": 0.5}
    made = result("a", "1100"), result("b", "1100", **unset), result("c", "1100", **half)
    groups = grouped([each for each, _ in made], "generation.temperature")
    assert [(group.value, group.is_original) for group in groups] == [(0.5, False), (None, False), (None, True)]
    (group,) = grouped([each for each, _ in made], "hyperparameters.zo_eps")
    assert (group.value, group.is_original) == (None, False)


def test_data_that_is_not_in_the_record_is_no_original_data() -> None:
    made = result("a", "1100"), result("b", "1110", named="lost"), result("c", "1000", named="original+lost")
    half: dict[str, Any] = {"generation.temperature": 0.5}
    groups = grouped([each for each, _ in (*made, result("d", "1100", **half))], "generation.temperature")
    assert [(group.value, group.is_original, group.is_unknown, len(group.points)) for group in groups] == [
        (0.5, False, False, 1), (None, False, True, 2), (None, True, False, 1),
    ]  # fmt: skip
    assert [value_of(group) for group in groups[1:]] == [
        "not known (data not in the record)", "original data (no experiment)",
    ]  # fmt: skip


def test_values_are_in_their_order_with_the_best_point_of_each() -> None:
    made = [
        result("a", "1000", x=0.5), result("b", "1110", x=0.5), result("b", "1100", 1, x=0.5),
        result("c", "1100", x=None), result("d", "1100", x="word"), result("e", "1100", x=0.25),
        result("f", "1000", x=10),
    ]  # fmt: skip
    groups = grouped([each for each, _ in made], "x")
    assert [group.value for group in groups] == [0.25, 0.5, 10, "word", None]
    assert (groups[1].n_runs, len(groups[1].points), groups[1].best.mean) == (3, 2, 0.625)
    assert groups[1].mean == pytest.approx((0.25 + 0.625) / 2)
    assert grouped([], "x") == []


def test_one_and_1_0_are_one_value() -> None:
    made = [result("a", "1000", x=1), result("b", "1000", x=1.0), result("c", "1000", x=True)]
    assert [group.n_runs for group in grouped([each for each, _ in made], "x")] == [2, 1]


def test_a_pool_without_answers_has_no_interval() -> None:
    made = result("a", "1000", 0), result("a", "1000", 1)
    found = pool([each for each, _ in made], {})
    assert (found.mean, found.interval, found.n_right) == (0.25, None, {})
