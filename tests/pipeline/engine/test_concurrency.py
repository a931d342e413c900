"""The adaptive limit, driven by a simulated server with a fixed number of slots."""

from __future__ import annotations

import heapq
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.engine.concurrency import Concurrency, Ticket

EVENTS = st.lists(st.tuples(st.sampled_from(["admit", "good", "failed", "429"]), st.integers(0, 10_000)), max_size=400)


@given(most=st.integers(1, 300), learned=st.none() | st.integers(1, 400), events=EVENTS)
@settings(deadline=None)
def test_whatever_happens_the_limit_and_the_number_in_flight_stay_in_bounds(
    most: int, learned: int | None, events: list[tuple[str, int]]
) -> None:
    controller, flying = Concurrency(most, learned), list[Ticket]()
    for event, which in events:
        before = controller.limit
        if event == "admit":
            if controller.in_flight < controller.limit:
                flying.append(controller.admit())
                assert controller.in_flight <= controller.limit
        elif flying:
            ticket = flying.pop(which % len(flying))
            if event == "good":
                controller.succeeded()
            elif event == "failed":
                controller.failed()
            else:
                controller.rate_limited(ticket)
            if controller.limit < before:
                assert event == "429"
                assert ticket.limit <= before
                assert controller.limit <= before // 2 or controller.limit == 1
            assert controller.limit - before <= 1
        assert controller.in_flight == len(flying)
        assert 1 <= controller.limit <= most
        assert controller.learned is None or 1 <= controller.learned <= most


def storm(controller: Concurrency, prompts: int, slots: int, seed: int = 1, refusal: float = 0.01) -> tuple[int, float]:
    """How many of ``prompts`` calls were refused, and the seconds it took, by a server with 1 s latency."""
    draw = random.Random(seed)
    waiting, wasted, clock, busy = prompts, 0, 0.0, 0
    ends: list[tuple[float, int, bool, Ticket]] = []
    serial = 0
    while waiting or ends:
        while waiting and controller.in_flight < controller.limit:
            waiting, serial = waiting - 1, serial + 1
            good = busy < slots
            busy += good
            took = draw.uniform(0.95, 1.05) if good else refusal
            heapq.heappush(ends, (clock + took, serial, good, controller.admit()))
        clock, _, good, ticket = heapq.heappop(ends)
        if good:
            busy -= 1
            controller.succeeded()
        else:
            wasted, waiting = wasted + 1, waiting + 1
            controller.rate_limited(ticket)
    return wasted, clock


def test_a_storm_wastes_few_calls_and_keeps_the_slots_busy() -> None:
    wasted, seconds = storm(Concurrency(200), prompts=1000, slots=50)
    assert wasted <= 40
    assert seconds <= 1.25 * 1000 / 50


def test_slots_are_probed_ever_more_rarely() -> None:
    wasted, seconds = storm(Concurrency(200), prompts=20_000, slots=50)
    assert wasted <= 30
    assert seconds <= 1.1 * 20_000 / 50


def test_what_was_learned_saves_the_next_run_the_search() -> None:
    first = Concurrency(200)
    storm(first, prompts=1000, slots=50)
    assert first.learned is not None
    assert 40 <= first.learned <= 50
    again = Concurrency(200, first.learned)
    assert again.limit == first.learned
    assert again.learned == first.learned
    wasted, seconds = storm(again, prompts=1000, slots=50)
    assert wasted <= 5
    assert seconds <= 1.25 * 1000 / 50


def test_a_server_that_was_only_busy_for_a_while_is_used_in_full_again() -> None:
    controller = Concurrency(200)
    storm(controller, prompts=1000, slots=10)
    assert controller.limit <= 12
    wasted, _ = storm(controller, prompts=10_000, slots=1000)
    assert wasted == 0
    assert controller.limit == 200
    assert controller.learned == 200


def test_nothing_is_learned_where_the_limit_was_never_met() -> None:
    controller = Concurrency(200)
    storm(controller, prompts=40, slots=1000)
    assert controller.learned is None


def test_an_unused_limit_does_not_grow() -> None:
    controller = Concurrency(200)
    for _ in range(1000):
        controller.admit()
        controller.succeeded()
    assert controller.limit == 32


def test_one_episode_cuts_once() -> None:
    controller = Concurrency(64, 64)
    tickets = [controller.admit() for _ in range(64)]
    for ticket in tickets[40:]:
        controller.rate_limited(ticket)
    assert controller.limit == 20
    late = controller.admit()
    controller.rate_limited(late)
    assert controller.limit == 10
