"""A run asks the record for money a little ahead, and never spends what it was not allowed."""

from __future__ import annotations

import asyncio
import threading

from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine.cost_cap import BatchBudget


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


def reserve(budget: BatchBudget, *amounts: float) -> list[bool]:
    async def one_by_one() -> list[bool]:
        return [await budget.reserve(usd) for usd in amounts]

    return asyncio.run(one_by_one())


def test_many_requests_are_one_question() -> None:
    record = Record(100)
    budget = BatchBudget(record.allow)
    assert all(reserve(budget, *[1] * 21))
    assert record.asked == 1
    assert reserve(budget, 1) == [True]
    assert record.asked == 2


def test_the_last_money_is_spent_one_by_one() -> None:
    record = Record(3)
    budget = BatchBudget(record.allow)
    assert reserve(budget, *[1] * 5) == [True, True, True, False, False]


def test_what_a_request_did_not_use_is_free_again_and_what_is_unknown_is_gone() -> None:
    budget = BatchBudget(Record(2).allow)
    assert reserve(budget, 2, 1) == [True, False]
    budget.settle(2, 1)
    assert reserve(budget, 1) == [True]
    budget.settle(1, None)
    assert reserve(budget, 0.5) == [False]


class Busy(Record):
    """A record that another process holds until ``free`` is set; ``held`` is set when somebody waits for it."""

    def __init__(self, cap: float) -> None:
        super().__init__(cap)
        self.held, self.free = threading.Event(), threading.Event()
        self.at_once = self.most_at_once = 0
        self.totals: list[float] = []

    def allow(self, total: float) -> bool:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.totals.append(total)
        self.held.set()
        assert self.free.wait(30)
        self.at_once -= 1
        return super().allow(total)


def test_the_event_loop_goes_on_while_the_record_is_asked_by_one_at_a_time() -> None:
    record = Busy(50)

    async def main() -> list[bool]:
        budget = BatchBudget(record.allow)
        asking = [asyncio.create_task(budget.reserve(usd)) for usd in (2, 1, 4)]
        assert await asyncio.to_thread(record.held.wait, 30)
        # Reached only because it is not this thread that waits.
        record.free.set()
        return await asyncio.gather(*asking)

    assert asyncio.run(main()) == [True, True, True]
    assert record.most_at_once == 1
    assert record.totals == [42]


def test_who_goes_away_while_the_record_is_asked_takes_no_money_and_lets_nobody_in_between() -> None:
    record = Busy(100)

    async def main() -> list[bool | BaseException]:
        budget = BatchBudget(record.allow)
        asking = [asyncio.create_task(budget.reserve(usd)) for usd in (2, 1)]
        assert await asyncio.to_thread(record.held.wait, 30)
        for _ in range(2):
            asking[0].cancel()
            await asyncio.sleep(0.01)
        assert record.totals == [42]
        record.free.set()
        done = await asyncio.gather(*asking, return_exceptions=True)
        budget.settle(1, 1)
        assert (budget._in_flight, budget._spent) == (0, 1)
        return done

    went, stayed = asyncio.run(main())
    assert isinstance(went, asyncio.CancelledError)
    assert stayed is True
    assert record.allowed == record.totals[-1] == 21


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
        if reserve(budget, most) == [True]:
            in_flight.append((most, actual))
        if in_flight and not wait:
            reserved, paid = in_flight.pop(0)
            budget.settle(reserved, paid)
            spent += reserved if paid is None else paid
        assert spent + sum(reserved for reserved, _ in in_flight) <= record.allowed <= cap
