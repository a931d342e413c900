"""A run asks the record for money a little ahead, and never spends what it was not allowed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.cost_cap import BatchBudget


class Record:
    """A record that allows a run to have spent so much in all, and counts how often it was asked."""

    def __init__(self, cap: float) -> None:
        self.cap = cap
        self.allowed = 0.0
        self.asked = 0

    def allow(self, total: float) -> bool:
        self.asked += 1
        if total > self.cap:
            return False
        self.allowed = total
        return True


def test_many_requests_are_one_question() -> None:
    record = Record(100)
    budget = BatchBudget(record.allow)
    assert all(budget.reserve(1) for _ in range(21))
    assert record.asked == 1
    assert budget.reserve(1)
    assert record.asked == 2


def test_the_last_money_is_spent_one_by_one() -> None:
    record = Record(3)
    budget = BatchBudget(record.allow)
    assert [budget.reserve(1) for _ in range(5)] == [True, True, True, False, False]


def test_what_a_request_did_not_use_is_free_again_and_what_is_unknown_is_gone() -> None:
    budget = BatchBudget(Record(2).allow)
    assert budget.reserve(2)
    assert not budget.reserve(1)
    budget.settle(2, 1)
    assert budget.reserve(1)
    budget.settle(1, None)
    assert not budget.reserve(0.5)


@given(
    st.integers(0, 64),
    st.lists(st.tuples(st.integers(0, 8), st.one_of(st.none(), st.integers(0, 8)), st.booleans()), max_size=60),
)
def test_what_is_set_aside_and_spent_never_exceeds_what_was_allowed(
    cap: int, steps: list[tuple[int, int | None, bool]]
) -> None:
    record = Record(cap)
    budget = BatchBudget(record.allow)
    in_flight: list[tuple[int, int | None]] = []
    spent = 0
    for most, used, wait in steps:
        actual = None if used is None else min(used, most)
        if budget.reserve(most):
            in_flight.append((most, actual))
        if in_flight and not wait:
            reserved, paid = in_flight.pop(0)
            budget.settle(reserved, paid)
            spent += reserved if paid is None else paid
        assert spent + sum(reserved for reserved, _ in in_flight) <= record.allowed <= cap
