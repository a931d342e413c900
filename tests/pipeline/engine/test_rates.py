"""Rates in simulated time: what is let go never exceeds what is allowed, and hardly falls short of it."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.chats.chat import Answer, RateWindow
from pipeline.engine.concurrency import Concurrency, Ticket
from pipeline.engine.rates import NEVER, Bucket, Throttle, Window

WISHES = st.lists(st.tuples(st.floats(0, 5), st.floats(0.1, 3)), min_size=1, max_size=200)


def let_go(bucket: Bucket, wishes: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """When which amount was taken by somebody who waits exactly as long as told; a wish is (pause before, amount)."""
    now, taken = 0.0, []
    for pause, amount in wishes:
        now += pause
        now += bucket.wait(amount, now)
        assert bucket.wait(amount, now) < 1e-6
        bucket.take(amount, now)
        taken.append((now, amount))
    return taken


@given(per_minute=st.floats(1, 100_000), wishes=WISHES)
@settings(deadline=None)
def test_a_bucket_keeps_its_rate_over_every_window(per_minute: float, wishes: list[tuple[float, float]]) -> None:
    amounts = [(pause, amount * per_minute / 100) for pause, amount in wishes]
    bucket = Bucket(per_minute)
    taken = let_go(bucket, amounts)
    largest_debt = max([0.0, *(amount - bucket.most for _, amount in amounts)])
    for first in range(len(taken)):
        total = 0.0
        for when, amount in taken[first:]:
            total += amount
            span = when - taken[first][0]
            assert total <= bucket.most + bucket.rate * span + largest_debt + 1e-6 * (per_minute + total)


@pytest.mark.parametrize("per_minute", [1, 3, 60, 600, 10_000])
def test_no_minute_has_more_requests_than_were_allowed_and_none_wastes_more_than_a_fiftieth(per_minute: int) -> None:
    taken = [when for when, _ in let_go(Bucket(per_minute), [(0.0, 1.0)] * (4 * per_minute))]
    for start in taken:
        assert sum(start <= when < start + 60 - 1e-6 for when in taken) <= per_minute
        if per_minute > 600:
            break
    assert taken[-1] <= 4 * 60 * 1.02


def test_an_amount_above_the_bucket_goes_into_debt_and_does_not_wait_for_ever() -> None:
    bucket = Bucket(60)
    assert bucket.wait(1000, 0.0) == 0
    bucket.take(1000, 0.0)
    assert bucket.wait(1, 0.0) == pytest.approx(1000, rel=0.01)


def test_an_estimate_is_corrected_when_the_truth_is_known() -> None:
    bucket = Bucket(6000)
    bucket.take(1000, 0.0)
    bucket.settle(1000, 10)
    assert bucket.wait(10, 0.0) == 0


class FixedWindow:
    """``limit`` requests per 60 s; then the count starts again. ``told`` is how its headers write when that is."""

    def __init__(self, limit: int, told: Callable[[float], float] = float) -> None:
        self.limit, self.used, self.until, self.told = limit, 0, 60.0, told

    def take(self, now: float) -> bool:
        self._turn(now)
        good = self.used < self.limit
        self.used += good
        return good

    def window(self, now: float) -> RateWindow:
        self._turn(now)
        return RateWindow(self.limit, self.limit - self.used, self.told(self.until - now))

    def _turn(self, now: float) -> None:
        while now >= self.until:
            self.used, self.until = 0, self.until + 60


class Refilling:
    """A bucket of ``limit`` that fills all the time, with whole seconds in its headers, as OpenAI's."""

    def __init__(self, limit: int) -> None:
        self.limit, self.left, self.at = limit, float(limit), 0.0

    def take(self, now: float) -> bool:
        self._fill(now)
        good = self.left >= 1
        self.left -= good
        return good

    def window(self, now: float) -> RateWindow:
        self._fill(now)
        reset = (self.limit - self.left) * 60 / self.limit
        return RateWindow(self.limit, int(self.left), round(reset) if reset >= 1 else reset)

    def _fill(self, now: float) -> None:
        self.left = min(self.limit, self.left + (now - self.at) * self.limit / 60)
        self.at = now


def ask_all_day(
    server: FixedWindow | Refilling, minutes: int, *, told_at_the_end: bool, latency: float = 0.5
) -> tuple[int, int]:
    """(good, refused) of a client that always wants more; headers are made on arrival or with the answer."""
    throttle, serial, now = Throttle(Concurrency(100)), count(), 0.0
    good = refused = 0
    ends: list[tuple[float, int, Ticket, bool, RateWindow]] = []
    while now < minutes * 60:
        delay = throttle.wait(0.0, now)
        if delay == 0:
            ticket, taken = throttle.admit(0.0, now), server.take(now)
            heapq.heappush(ends, (now + latency, next(serial), ticket, taken, server.window(now)))
            continue
        next_end = ends[0][0] if ends else NEVER
        now = min(now + delay + 1e-6, next_end)
        while ends and ends[0][0] <= now:
            _, _, ticket, taken, window = heapq.heappop(ends)
            if taken:
                told = server.window(now) if told_at_the_end else window
                throttle.answered(ticket, Answer("a", "stop", 1, 1, requests_window=told), now)
            else:
                throttle.rate_limited(ticket, None, now)
            good, refused = good + taken, refused + (not taken)
    return good, refused


@pytest.mark.parametrize("told_at_the_end", [False, True])
@pytest.mark.parametrize("limit", [60, 600, 3000])
def test_a_server_that_counts_per_window_gets_what_it_allows(limit: int, *, told_at_the_end: bool) -> None:
    good, refused = ask_all_day(FixedWindow(limit), 10, told_at_the_end=told_at_the_end)
    assert good >= 0.95 * 10 * limit
    assert refused <= 0.01 * good + 1


@pytest.mark.parametrize("told", [math.floor, round, math.ceil])
@pytest.mark.parametrize("latency", [0.3, 0.5, 1.7])
def test_nothing_is_asked_before_a_window_ends_that_is_told_in_whole_seconds(
    told: Callable[[float], float], latency: float
) -> None:
    good, refused = ask_all_day(FixedWindow(600, told), 10, told_at_the_end=True, latency=latency)
    assert good >= 0.95 * 10 * 600
    assert refused == 0


@pytest.mark.parametrize("told_at_the_end", [False, True])
@pytest.mark.parametrize("limit", [60, 600, 3000])
def test_a_server_that_refills_gets_what_it_allows(limit: int, *, told_at_the_end: bool) -> None:
    good, refused = ask_all_day(Refilling(limit), 10, told_at_the_end=told_at_the_end)
    assert good >= 0.95 * 11 * limit
    assert refused <= 0.01 * good + 1


@pytest.mark.parametrize("told_at_the_end", [False, True])
def test_a_bucket_that_refills_is_not_waited_for_until_it_is_full(*, told_at_the_end: bool) -> None:
    good, _ = ask_all_day(Refilling(600), 1, told_at_the_end=told_at_the_end)
    assert good >= 0.95 * 1200


def test_without_headers_and_limits_nothing_but_the_number_in_flight_holds_a_request_back() -> None:
    throttle = Throttle(Concurrency(10_000, 10_000))
    for _ in range(10_000):
        assert throttle.wait(1e9, 0.0) == 0
        throttle.admit(1e9, 0.0)
    assert throttle.wait(1.0, 0.0) == NEVER


def test_a_window_that_says_nothing_is_left_waits_until_it_is_full_and_no_longer() -> None:
    window = Window()
    window.learn(RateWindow(10, 0, 30.5), 0.0, now=5.0)
    assert window.wait(1, 5.0) == 30.5
    assert window.wait(1_000_000, 5.0) == 30.5
    assert window.wait(1, 35.5) == 0


def test_an_answer_that_was_overtaken_tells_nothing_new() -> None:
    window = Window()
    for _ in range(2):
        window.take(1, 0.0)
    window.learn(RateWindow(10, 8, 30.0), 2.0, now=1.0)
    window.learn(RateWindow(10, 0, 30.0), 1.0, now=2.0)
    assert window.wait(8, 2.0) == 0
    assert window.wait(9, 2.0) > 0


def test_retry_after_delays_what_is_sent_next_and_leaves_the_limit_alone() -> None:
    plain, told = Throttle(Concurrency(50)), Throttle(Concurrency(50))
    plain.rate_limited(plain.admit(0.0, 0.0), None, now=1.0)
    told.rate_limited(told.admit(0.0, 0.0), 20.0, now=1.0)
    assert plain.wait(0.0, 1.0) == 0
    assert told.wait(0.0, 1.0) == 20.0
    assert told.wait(0.0, 21.0) == 0
    assert told.concurrency.limit == plain.concurrency.limit


def test_output_is_expected_to_be_like_the_output_that_was_seen() -> None:
    throttle = Throttle(Concurrency(50), tokens_per_minute=1000)
    assert throttle.expected_output(at_most=100) == 100
    for _ in range(200):
        throttle.answered(throttle.admit(0.0, 0.0), Answer("a", "stop", 1, 40), now=0.0)
    assert throttle.expected_output(at_most=None) == pytest.approx(40)
