from __future__ import annotations

import random

from pipeline.engine.breaker import Breaker


def test_an_endpoint_that_never_answers_is_given_up_after_twenty_attempts() -> None:
    breaker = Breaker()
    why = [breaker.failed(f"request {n}", silent=True) for n in range(20)]
    assert why == [None] * 19 + ["it has not answered once in 20 attempts"]


def test_one_answer_shows_that_there_is_somebody() -> None:
    breaker = Breaker()
    breaker.answered()
    assert not any(breaker.failed(f"request {n}", silent=True) for n in range(80))


def test_useless_answers_are_answers_but_not_for_ever() -> None:
    breaker = Breaker()
    why = [breaker.failed(f"request {n}", silent=False) for n in range(100)]
    assert why.index("90 of the last 100 attempts failed") == 89


def test_nine_tenths_of_the_last_hundred_trip_it() -> None:
    breaker = Breaker()
    for _ in range(1000):
        breaker.answered()
    why = [breaker.failed(f"request {n}", silent=True) for n in range(90)]
    assert why == [None] * 89 + ["90 of the last 100 attempts failed"]


def test_a_third_of_failures_at_random_never_trips_it() -> None:
    for seed in range(20):
        draw, breaker = random.Random(seed), Breaker()
        for n in range(5000):
            if draw.random() < 1 / 3:
                assert breaker.failed(f"request {n}", silent=True) is None
            else:
                breaker.answered()


def test_a_few_requests_that_can_never_succeed_do_not_trip_it() -> None:
    breaker = Breaker()
    breaker.answered()
    assert not any(breaker.failed(f"request {n % 10}", silent=True) for n in range(1000))


def test_nothing_but_429_is_borne_for_as_long_as_the_patience_lasts() -> None:
    breaker = Breaker(patience=120)
    assert breaker.rate_limited(None, 10.0) is None
    assert breaker.rate_limited(None, 129.0) is None
    assert breaker.rate_limited(None, 131.0) == "it has answered nothing but 429 for 121 seconds"


def test_any_other_word_in_between_starts_the_patience_anew() -> None:
    breaker = Breaker(patience=120)
    breaker.rate_limited(None, 0.0)
    breaker.answered()
    assert breaker.rate_limited(None, 500.0) is None
    breaker.failed("request", silent=True)
    assert breaker.rate_limited(None, 1000.0) is None


def test_nobody_waits_for_hours() -> None:
    assert Breaker(patience=120).rate_limited(600.0, 0.0) is None
    assert Breaker(patience=120).rate_limited(28_800.0, 0.0) == "it is rate limited for the next 28800 seconds"
