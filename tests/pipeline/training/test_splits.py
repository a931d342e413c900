"""Which records train, choose and measure, and their order: the rules that keep results comparable."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.training.splits import order, select_eval, split_train
from tracker.errors import DataError


def test_dev_is_the_end_of_the_file_and_training_the_start_of_the_rest() -> None:
    assert split_train("abcdefgh", 3, 2) == (range(3), range(6, 8))
    assert split_train("abcdefgh", 1000, 2) == (range(6), range(6, 8))
    assert split_train("abc", 1000, 2) == (range(1), range(1, 3))


@pytest.mark.parametrize("n", [0, 4, 5])
def test_nothing_left_to_train_on_is_said(n: int) -> None:
    with pytest.raises(DataError, match=f"of {n} records the last 5 are kept for dev") as caught:
        split_train(range(n), 1000, 5)
    assert caught.value.hint == "Lower num_dev, or take a data set with more training records."


def test_all_labelled_records_are_measured_where_they_are_few_enough() -> None:
    assert select_eval([1, -1, 0, 2, -1], 3) == [0, 2, 3]
    assert select_eval([-1, -1], 3) == []


def test_of_more_a_fixed_sample_is_measured() -> None:
    # numpy's RandomState(0).permutation(10) is 2 8 4 9 1 6 7 3 0 5.
    assert select_eval([0] * 10, 4) == [2, 8, 4, 9]
    assert select_eval([-1, *[0] * 10], 4) == [3, 9, 5, 10]


def test_the_order_is_known() -> None:
    """Another order would make other numbers from the same config, and let no stopped run go on."""
    assert [order(7, 3, 0, step) for step in range(4)] == [[3, 2, 1], [6, 0, 4], [5], [4, 5, 1]]


@given(st.integers(1, 60), st.integers(1, 70), st.integers(0, 2**32 - 1), st.integers(0, 3))
def test_an_epoch_takes_every_record_once(n: int, batch_size: int, seed: int, epoch: int) -> None:
    per_epoch = -(-n // batch_size)
    batches = [order(n, batch_size, seed, epoch * per_epoch + at) for at in range(per_epoch)]
    assert Counter(index for batch in batches for index in batch) == Counter(range(n))
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (per_epoch - 1)
    assert 1 <= len(batches[-1]) <= batch_size


def test_seeds_and_epochs_have_orders_of_their_own() -> None:
    orders = {tuple(order(100, 100, seed, epoch)) for seed in (0, 1, 2**32 - 1) for epoch in range(3)}
    assert len(orders) == 9


def test_a_batch_does_not_depend_on_what_was_asked_before() -> None:
    forward = [order(50, 8, 3, step) for step in range(60)]
    backward = [order(50, 8, 3, step) for step in reversed(range(60))]
    assert forward == backward[::-1]
    forward[0].clear()
    assert order(50, 8, 3, 0) == backward[-1]
