"""The engine against chats and ledgers that subclass the real ports, in simulated time."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from pipeline.chats.chat import Answer, ChatError, ChatRequest, Failure, RateWindow
from pipeline.engine.endpoint import Endpoint, Limits
from pipeline.engine.engine import Engine, Failed, Paid, Reply
from pipeline.engine.gate import Stopped
from tests.pipeline.simulation import (
    GOOD,
    Memory,
    Outcome,
    Scripted,
    now,
    request,
    simulate,
    too_many,
    transient,
)
from tracker.errors import ProviderError, StorageError


def run(
    chat: Scripted,
    texts: Sequence[str],
    *,
    ledger: Memory | None = None,
    limits: Limits | None = None,
    meanwhile: Callable[[Engine], None] | None = None,
    at: float = 0.0,
    endpoint: Endpoint | None = None,
    **options: Any,
) -> tuple[Engine, dict[str, Reply | Failed]]:
    """Asks for every text; what came of each. ``meanwhile`` is called after ``at`` seconds."""
    results: dict[str, Reply | Failed] = {}

    async def main() -> Engine:
        gate = endpoint or Endpoint("test endpoint", chat, limits)
        async with Engine(ledger or Memory(), seed=1, **options) as engine:

            async def job(text: str) -> None:
                try:
                    results[text] = await engine.ask(gate, request(text))
                except Failed as failed:
                    results[text] = failed

            if meanwhile is not None:
                asyncio.get_running_loop().call_later(at, meanwhile, engine)
            await engine.run(job, texts)
        return engine

    return simulate(main()), results


def numbered(count: int) -> list[str]:
    return [f"text {n}" for n in range(count)]


def test_an_answer_is_given_counted_and_kept() -> None:
    ledger = Memory()
    engine, results = run(Scripted(), ["one"], ledger=ledger, price=lambda _, answer: answer.completion_tokens * 0.01)
    reply = results["one"]
    assert reply == Reply("An answer.", request("one").key, False, "stop", 20, 5, 0.05, False, 1, pytest.approx(0.1))  # type: ignore[arg-type]  # approx is no float
    [(asked, attempt)] = ledger.rows
    assert asked == request("one")
    assert (attempt.ordinal, attempt.failure, attempt.answer, attempt.cost_usd) == (1, None, GOOD, 0.05)
    assert attempt.latency_s == pytest.approx(0.1)
    counters = engine.counters
    assert (counters.asked, counters.sent, counters.succeeded, counters.in_flight) == (1, 1, 1, 0)
    assert (counters.prompt_tokens, counters.completion_tokens, counters.cost_usd) == (20, 5, 0.05)
    assert list(counters.latencies) == [pytest.approx(0.1)]


def test_an_unknown_price_is_not_zero() -> None:
    engine, _ = run(Scripted(), ["one"])
    assert engine.counters.cost_usd is None
    assert engine.counters.unpriced == 1


def test_what_the_ledger_has_is_not_asked_again() -> None:
    ledger = Memory()
    run(Scripted(), ["one"], ledger=ledger)
    again = Scripted()
    engine, results = run(again, ["one", "two"], ledger=ledger)
    assert again.calls == {"two": 1}
    assert isinstance(results["one"], Reply)
    assert results["one"].cached
    assert engine.counters.cached == 1


def test_equal_requests_in_flight_share_one_call() -> None:
    chat = Scripted()
    engine, _ = run(chat, ["one"] * 50)
    assert chat.calls == {"one": 1}
    assert (engine.counters.asked, engine.counters.cached) == (50, 49)


def test_an_answer_that_is_not_committed_yet_is_not_paid_again() -> None:
    free = threading.Event()

    class Slow(Memory):
        def save(self, rows: Sequence[Paid]) -> None:
            assert free.wait(30)
            super().save(rows)

    async def main() -> None:
        chat = Scripted(latency=0)
        async with Engine(Slow()) as engine:
            endpoint = Endpoint("test endpoint", chat)
            for _ in range(300):
                await engine.ask(endpoint, request("one"))
                await engine.ask(endpoint, request("two"))
            free.set()
        assert chat.calls == {"one": 1, "two": 1}

    simulate(main())


def test_a_follower_asks_for_itself_when_the_leader_is_cancelled() -> None:
    async def main() -> None:
        chat = Scripted(latency=1)
        async with Engine(Memory()) as engine:
            endpoint = Endpoint("test endpoint", chat)
            leader, *followers = [asyncio.create_task(engine.ask(endpoint, request())) for _ in range(3)]
            await asyncio.sleep(0.5)
            leader.cancel()
            replies = await asyncio.gather(*followers)
            assert [reply.cached for reply in replies] == [False, True]
        assert now() == pytest.approx(1.5)

    simulate(main())


def test_a_follower_of_a_failed_request_fails_with_it() -> None:
    chat = Scripted(lambda _, __: transient())

    async def main() -> None:
        async with Engine(Memory()) as engine:
            endpoint = Endpoint("test endpoint", chat, Limits(max_retries=2))
            found = await asyncio.gather(*(engine.ask(endpoint, request()) for _ in range(3)), return_exceptions=True)
        assert [type(error) for error in found] == [Failed] * 3

    simulate(main())
    assert sum(chat.calls.values()) == 3


def test_a_transient_failure_is_tried_again_and_every_try_is_kept() -> None:
    ledger = Memory()
    chat = Scripted(lambda _, n: GOOD if n == 4 else transient(f"broken {n}"))
    engine, results = run(chat, ["one"], ledger=ledger)
    assert isinstance(results["one"], Reply)
    assert results["one"].attempts == 4
    assert [(attempt.ordinal, attempt.failure, attempt.message) for _, attempt in ledger.rows] == [
        (1, Failure.TRANSIENT, "broken 1"),
        (2, Failure.TRANSIENT, "broken 2"),
        (3, Failure.TRANSIENT, "broken 3"),
        (4, None, None),
    ]
    assert engine.counters.retried == 3


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (Answer("An ans", "length", 20, 3), Failure.TRUNCATED),
        (Answer("No.", "content_filter", 20, 3), Failure.REFUSED),
        (Answer("I cannot do that.", "refusal", 20, 3), Failure.REFUSED),
        (Answer(" \n", "stop", 20, 1), Failure.EMPTY),
        (Answer("", "stop", 20, 0), Failure.EMPTY),
    ],
)
def test_an_answer_of_no_use_is_paid_kept_and_asked_for_again(answer: Answer, failure: Failure) -> None:
    ledger = Memory()
    chat = Scripted(lambda _, n: answer if n == 1 else GOOD)
    engine, results = run(chat, ["one"], ledger=ledger, price=lambda _, __: 1.0)
    assert isinstance(results["one"], Reply)
    assert results["one"].text == "An answer."
    first = ledger.rows[0][1]
    assert (first.failure, first.answer, first.cost_usd) == (failure, answer, 1.0)
    assert engine.counters.cost_usd == 2.0


@pytest.mark.parametrize(
    ("answer", "what", "change"),
    [
        (Answer("An ans", "length", 20, 3), "cut off after 3 tokens", "raise max_tokens"),
        (Answer("No.", "content_filter", 20, 3), "refused to answer (content_filter)", "change the prompt"),
        (Answer("", "stop", 20, 0), "the answer was empty", "change the prompt or the model"),
    ],
)
@pytest.mark.parametrize(("max_retries", "calls"), [(10, 4), (1, 2), (0, 1)])
def test_an_answer_of_no_use_is_paid_for_a_few_times_and_says_what_to_change(
    answer: Answer, what: str, change: str, max_retries: int, calls: int
) -> None:
    chat = Scripted(lambda _, __: answer)
    _, results = run(chat, ["one"], limits=Limits(max_retries=max_retries))
    assert isinstance(results["one"], Failed)
    assert what in str(results["one"])
    assert change in str(results["one"])
    assert chat.calls.total() == calls


def test_failures_of_other_kinds_do_not_use_up_the_retries_of_an_answer_of_no_use() -> None:
    cut = Answer("An ans", "length", 20, 3)
    said: list[Outcome] = [transient(), cut, transient(), Answer("", "stop", 20, 0), cut, transient(), cut, GOOD]
    chat = Scripted(lambda _, n: said[n - 1])
    _, results = run(chat, ["one"])
    assert isinstance(results["one"], Reply)
    assert results["one"].attempts == 8


def test_a_request_fails_alone_when_its_retries_are_used_up() -> None:
    ledger = Memory()
    chat = Scripted(lambda text, n: transient(f"broken {n}") if text == "text 3" else GOOD)
    engine, results = run(chat, numbered(20), ledger=ledger, limits=Limits(max_retries=4))
    failed = results.pop("text 3")
    assert isinstance(failed, Failed)
    assert failed.key == request("text 3").key
    assert (failed.attempt.ordinal, failed.attempt.message, failed.attempt.http_status) == (5, "broken 5", 500)
    assert all(isinstance(reply, Reply) for reply in results.values())
    assert chat.calls["text 3"] == 5
    assert engine.counters.failed == 1
    assert engine.stopped_because is None


def test_ten_records_that_can_never_succeed_do_not_stop_the_run() -> None:
    chat = Scripted(lambda text, _: transient() if text.endswith("7") else GOOD)
    _, results = run(chat, numbered(100))
    assert sum(isinstance(result, Failed) for result in results.values()) == 10


def test_a_wait_for_a_retry_holds_no_slot_and_respects_retry_after() -> None:
    chat = Scripted(lambda text, n: transient(retry_after=7) if (text, n) == ("first", 1) else GOOD, latency=1)
    run(chat, ["first", "second", "third"], limits=Limits(concurrency=1))
    assert [text for _, text in chat.sent_at] == ["first", "second", "third", "first"]
    assert chat.sent_at[3][0] >= 8
    assert chat.peak == 1


def test_pauses_grow_and_stay_below_half_a_minute() -> None:
    chat = Scripted(lambda _, __: transient(), latency=0)
    run(chat, ["one"], limits=Limits(max_retries=18))
    times = [when for when, _ in chat.sent_at]
    pauses = [later - earlier for earlier, later in pairwise(times)]
    for retry, pause in enumerate(pauses):
        assert pause <= min(30, 0.5 * 2**retry)
    assert max(pauses) > 10


def test_fatal_stops_the_run_at_once_with_what_the_endpoint_said() -> None:
    ledger = Memory()

    def script(text: str, _: int) -> Outcome:
        return ChatError(Failure.FATAL, "HTTP 401: Incorrect API key.", status=401) if text == "text 5" else GOOD

    chat = Scripted(script, latency=1)
    with pytest.raises(ProviderError) as caught:
        run(chat, numbered(1000), ledger=ledger, limits=Limits(concurrency=10))
    assert caught.value.message == "test endpoint refused: HTTP 401: Incorrect API key."
    assert caught.value.hint is not None
    assert "api_key_env" in caught.value.hint
    # All ten were sent in one moment, before the refusal: their answers are paid for, so they are kept.
    assert chat.calls.total() <= 20
    assert len(ledger.rows) == chat.calls.total()


def test_a_third_of_all_requests_may_fail_in_every_way() -> None:
    draw = random.Random(5)
    faults: list[Callable[[], Outcome]] = [
        transient,
        lambda: transient(retry_after=0.05),
        lambda: too_many(0.05),
        lambda: Answer("Half", "length", 20, 2),
        lambda: Answer("", "stop", 20, 0),
    ]
    chat = Scripted(lambda _, __: draw.choice(faults)() if draw.random() < 1 / 3 else GOOD)
    ledger = Memory()
    _, results = run(chat, numbered(2000), ledger=ledger)
    assert sum(isinstance(result, Reply) for result in results.values()) == 2000
    assert sum(attempt.failure is None for _, attempt in ledger.rows) == 2000


def test_an_endpoint_that_never_answers_stops_the_run() -> None:
    chat = Scripted(lambda _, n: transient(f"connection refused {n % 2}"))
    with pytest.raises(ProviderError, match="has not answered once in 20 attempts") as caught:
        run(chat, numbered(1000))
    assert "connection refused" in caught.value.message
    assert chat.calls.total() < 100


def test_an_endpoint_that_dies_stops_the_run() -> None:
    chat = Scripted(lambda text, _: GOOD if int(text.split()[1]) < 500 else transient("gone"))
    ledger = Memory()
    with pytest.raises(ProviderError, match="of the last 100 attempts failed"):
        run(chat, numbered(2000), ledger=ledger)
    assert sum(attempt.failure is None for _, attempt in ledger.rows) == 500


def test_a_429_costs_no_attempt() -> None:
    ledger = Memory()
    chat = Scripted(lambda _, n: too_many() if n <= 7 else GOOD)
    engine, results = run(chat, ["one"], ledger=ledger, limits=Limits(max_retries=0))
    assert isinstance(results["one"], Reply)
    assert [attempt.ordinal for _, attempt in ledger.rows] == [1]
    assert engine.counters.rate_limited == 7


def test_a_request_that_alone_is_refused_for_ever_fails_and_keeps_nobody_waiting() -> None:
    chat = Scripted(lambda text, _: too_many() if text == "text 3" else GOOD)
    ledger = Memory()
    _, results = run(chat, numbered(50), ledger=ledger, limits=Limits(max_retries=0))
    failed = results.pop("text 3")
    assert isinstance(failed, Failed)
    assert failed.attempt.failure is Failure.RATE_LIMIT
    # A row that says so can refer to its request.
    assert [attempt for request, attempt in ledger.rows if request.key == failed.key] == [failed.attempt]
    assert chat.calls["text 3"] == 8
    assert all(isinstance(reply, Reply) for reply in results.values())


def test_retry_after_of_a_429_delays_everything_that_is_sent_next() -> None:
    chat = Scripted(lambda text, n: too_many(20) if (text, n) == ("text 0", 1) else GOOD, latency=1)
    run(chat, numbered(3), limits=Limits(concurrency=1))
    assert [round(when) for when, _ in chat.sent_at] == [0, 21, 22, 23]


def test_nothing_but_429_stops_the_run() -> None:
    chat = Scripted(lambda _, __: too_many())
    gate = Endpoint("test endpoint", chat, patience=60)
    with pytest.raises(ProviderError, match=r"nothing but 429 for 6\d seconds"):
        run(chat, numbered(100), endpoint=gate)


class Slots(Scripted):
    """A server that admits ``slots`` requests at once and refuses the others quickly."""

    def __init__(self, slots: int) -> None:
        super().__init__(latency=1.0)
        self.slots = slots
        self.refused = 0

    async def complete(self, request: ChatRequest, *, timeout: float) -> Answer:
        if self.in_flight >= self.slots:
            self.refused += 1
            await asyncio.sleep(0.01)
            raise too_many()
        return await super().complete(request, timeout=timeout)


def test_a_storm_wastes_few_calls_and_what_it_taught_is_remembered() -> None:
    first = Slots(50)
    endpoint = Endpoint("test endpoint", first, Limits(concurrency=200))
    _, results = run(first, numbered(1000), endpoint=endpoint)
    assert len(results) == 1000
    assert first.refused <= 40
    assert endpoint.learned_limit is not None
    second = Slots(50)
    again = Endpoint("test endpoint", second, Limits(concurrency=200), endpoint.learned_limit)
    run(second, numbered(1000), endpoint=again)
    assert second.refused < first.refused
    assert second.refused <= 10


@pytest.mark.parametrize("concurrency", [1, 7, 50])
def test_no_more_are_in_flight_than_allowed(concurrency: int) -> None:
    chat = Scripted(lambda text, n: transient() if n == 1 and text.endswith("3") else GOOD)
    run(chat, numbered(300), limits=Limits(concurrency=concurrency))
    assert chat.peak == concurrency


def test_two_models_of_one_service_stay_together_below_its_limit() -> None:
    chat = Scripted()

    async def main() -> None:
        one = Endpoint("test endpoint", chat, Limits(concurrency=7))
        two = one.beside("test endpoint", timeout=1, max_retries=0)
        async with Engine(Memory()) as engine:

            async def job(n: int) -> None:
                await engine.ask((one, two)[n % 2], request(f"text {n}"))

            await engine.run(job, range(300))

    simulate(main())
    assert chat.peak == 7


def test_each_model_keeps_its_own_timeout_and_retries() -> None:
    timeouts: list[float] = []

    class Timed(Scripted):
        async def complete(self, request: ChatRequest, *, timeout: float) -> Answer:
            timeouts.append(timeout)
            return await super().complete(request, timeout=timeout)

    async def main() -> None:
        one = Endpoint("test endpoint", Timed(lambda _, __: transient()), Limits(timeout=9, max_retries=2))
        two = one.beside("test endpoint", timeout=3, max_retries=0)
        async with Engine(Memory()) as engine:
            for endpoint in (one, two):
                with pytest.raises(Failed):
                    await engine.ask(endpoint, request())

    simulate(main())
    assert timeouts == [9, 9, 9, 3]


def test_requests_per_minute_hold_in_every_minute() -> None:
    chat = Scripted(latency=0.2)
    run(chat, numbered(900), limits=Limits(requests_per_minute=300))
    times = [when for when, _ in chat.sent_at]
    for start in times:
        assert sum(start <= when < start + 59.999 for when in times) <= 300
    assert times[-1] <= 185


def test_tokens_per_minute_hold_and_a_request_above_them_does_not_wait_for_ever() -> None:
    chat = Scripted(lambda _, __: Answer("An answer.", "stop", 30, 70))
    run(chat, numbered(300), limits=Limits(tokens_per_minute=6000))
    assert 280 <= chat.sent_at[-1][0] <= 310
    huge = Scripted(lambda _, __: Answer("An answer.", "stop", 30, 9000))
    run(huge, numbered(3), limits=Limits(concurrency=1, tokens_per_minute=600))
    assert huge.calls.total() == 3


class Told(Scripted):
    """A server that allows 600 requests in each minute, and says so."""

    def __init__(self) -> None:
        super().__init__(latency=0.5)
        self.minute, self.used, self.refused = 0, 0, 0

    async def complete(self, request: ChatRequest, *, timeout: float) -> Answer:
        if now() // 60 != self.minute:
            self.minute, self.used = int(now() // 60), 0
        if self.used >= 600:
            self.refused += 1
            raise too_many()
        self.used += 1
        remaining = 600 - self.used
        answer = await super().complete(request, timeout=timeout)
        return replace(answer, requests_window=RateWindow(600, remaining, 60 - now() % 60))


def test_a_limit_told_by_headers_is_used_in_full_and_not_exceeded() -> None:
    async def main() -> float:
        chat = Told()
        async with Engine(Memory()) as engine:
            endpoint = Endpoint("test endpoint", chat, Limits(concurrency=100))

            async def job(n: int) -> None:
                await engine.ask(endpoint, request(f"text {n}"))

            await engine.run(job, range(3000))
        assert chat.refused <= 3
        return now()

    # Five windows of 600: four resets have to be waited for.
    assert 240 <= simulate(main()) <= 260


def test_stop_finishes_what_is_in_flight_and_starts_nothing_new() -> None:
    ledger = Memory()
    chat = Scripted(latency=10)
    engine, results = run(
        chat,
        numbered(1000),
        ledger=ledger,
        limits=Limits(concurrency=20),
        at=15,
        meanwhile=lambda engine: engine.stop("interrupted"),
    )
    assert engine.stopped_because == "interrupted"
    assert chat.calls.total() == len(ledger.rows) == len(results) == 40
    assert engine.counters.in_flight == 0


def test_stop_ends_the_waiting_for_a_retry_at_once() -> None:
    ended: list[float] = []

    async def main() -> None:
        async with Engine(Memory()) as engine:
            endpoint = Endpoint("test endpoint", Scripted(lambda _, __: transient(retry_after=1000), latency=1))
            asyncio.get_running_loop().call_later(5, engine.stop, "interrupted")

            async def job(n: int) -> None:
                await engine.ask(endpoint, request(f"text {n}"))

            await engine.run(job, range(10))
            ended.append(now())
            with pytest.raises(Stopped):
                await engine.ask(endpoint, request())

    simulate(main())
    assert ended == [5]


def test_after_stop_the_ledger_still_answers() -> None:
    ledger = Memory()
    run(Scripted(), ["one"], ledger=ledger)

    async def main() -> Reply:
        async with Engine(ledger) as engine:
            engine.stop("interrupted")
            return await engine.ask(Endpoint("test endpoint", Scripted()), request("one"))

    assert simulate(main()).cached


def test_cancelling_keeps_what_was_answered() -> None:
    ledger = Memory()

    async def main() -> None:
        async with Engine(ledger) as engine:
            endpoint = Endpoint("test endpoint", Scripted(latency=1), Limits(concurrency=10))

            async def job(n: int) -> None:
                await engine.ask(endpoint, request(f"text {n}"))

            await engine.run(job, range(1000))

    async def cancelled() -> None:
        task = asyncio.create_task(main())
        await asyncio.sleep(3.0001)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(asyncio.all_tasks()) == 1

    simulate(cancelled())
    assert len(ledger.rows) == 30


class LastWord(Scripted):
    """Does something in the loop's next turn after its first answer, when the slot has already been given on."""

    def __init__(self) -> None:
        super().__init__(latency=1)
        self.afterwards: Callable[[], object] = lambda: None

    async def complete(self, request: ChatRequest, *, timeout: float) -> Answer:
        answer = await super().complete(request, timeout=timeout)
        if self.calls.total() == 1:
            asyncio.get_running_loop().call_soon(self.afterwards)
        return answer


def test_a_slot_that_was_given_to_somebody_who_left_is_given_on() -> None:
    async def main() -> None:
        chat = LastWord()
        async with Engine(Memory()) as engine:
            endpoint = Endpoint("test endpoint", chat, Limits(concurrency=1))
            tasks = [asyncio.create_task(engine.ask(endpoint, request(f"text {n}"))) for n in range(3)]
            chat.afterwards = tasks[1].cancel
            assert (await tasks[2]).text == "An answer."
        assert chat.calls == {"text 0": 1, "text 2": 1}
        assert endpoint.gate.throttle.concurrency.in_flight == 0

    simulate(main())


def test_who_was_given_a_slot_but_not_sent_yet_is_not_sent_after_stop() -> None:
    async def main() -> None:
        chat = LastWord()
        async with Engine(Memory()) as engine:
            endpoint = Endpoint("test endpoint", chat, Limits(concurrency=1))
            chat.afterwards = lambda: engine.stop("interrupted")
            asked = [engine.ask(endpoint, request(f"text {n}")) for n in range(3)]
            found = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(one) for one in found] == [Reply, Stopped, Stopped]
        assert chat.calls == {"text 0": 1}

    simulate(main())


def test_a_bug_in_a_job_stops_the_run_and_loses_no_answer() -> None:
    ledger = Memory()

    async def main() -> None:
        async with Engine(ledger) as engine:
            endpoint = Endpoint("test endpoint", Scripted(latency=1), Limits(concurrency=10))

            async def job(n: int) -> None:
                await engine.ask(endpoint, request(f"text {n}"))
                if n == 25:
                    raise ZeroDivisionError

            await engine.run(job, range(1000))

    with pytest.raises(ZeroDivisionError):
        simulate(main())
    assert 30 <= len(ledger.rows) <= 40


def test_a_million_items_never_make_more_tasks_than_the_window() -> None:
    peak = done = 0

    async def main() -> None:
        async with Engine(Memory()) as engine:

            async def job(n: int) -> None:
                nonlocal peak, done
                done += 1
                if n % 10_000 == 0:
                    await asyncio.sleep(0)
                    peak = max(peak, len(asyncio.all_tasks()))

            await engine.run(job, range(1_000_000), window=64)

    simulate(main())
    assert done == 1_000_000
    assert 2 <= peak <= 64 + 2


def test_a_full_disk_closes_the_gate_until_there_is_room_and_loses_nothing() -> None:
    ledger = Memory([StorageError("no space left")] * 5)
    chat = Scripted(latency=0.1)
    _, results = run(chat, numbered(500), ledger=ledger, limits=Limits(concurrency=10))
    assert len(results) == len(ledger.rows) == 500
    times = sorted(when for when, _ in chat.sent_at)
    assert max(later - earlier for earlier, later in pairwise(times)) > 2


def test_an_endpoint_that_is_new_or_idle_waits_for_room_as_well() -> None:
    async def main() -> None:
        # Tries 0.05 s after the first answer, and 0.1, 0.3, 0.7 s after that: there is room at about 0.9 s.
        ledger = Memory([StorageError("no space left")] * 3)
        idle, new = Scripted(latency=0.1), Scripted(latency=0.1)
        async with Engine(ledger) as engine:
            endpoint = Endpoint("idle endpoint", idle)
            await engine.ask(endpoint, request("one"))
            await asyncio.sleep(0.2)
            await asyncio.gather(
                engine.ask(endpoint, request("two")), engine.ask(Endpoint("new endpoint", new), request("three"))
            )
        assert idle.sent_at[1][0] > 0.8
        assert new.sent_at[0][0] > 0.8

    simulate(main())


def test_a_disk_that_stays_full_stops_the_run_with_that_error() -> None:
    chat = Scripted(latency=0.1)
    ledger = Memory([StorageError("no space left")] * 1000)
    with pytest.raises(StorageError, match="no space left"):
        run(chat, numbered(500), ledger=ledger, limits=Limits(concurrency=10), storage_patience=20)
    assert chat.calls.total() <= 40


def test_rows_of_the_caller_come_with_their_attempts() -> None:
    groups: list[tuple[list[str], list[str]]] = []

    def save(paid: Sequence[Paid], rows: Sequence[str]) -> None:
        groups.append(([asked.key for asked, _ in paid], list(rows)))

    async def main() -> None:
        async with Engine(Memory(), save=save) as engine:
            endpoint = Endpoint("test endpoint", Scripted())

            async def job(n: int) -> None:
                reply = await engine.ask(endpoint, request(f"text {n}"))
                engine.record(reply.key)

            await engine.run(job, range(1000))

    simulate(main())
    there: set[str] = set()
    for paid, rows in groups:
        there.update(paid)
        assert there.issuperset(rows)
    assert sum(len(rows) for _, rows in groups) == 1000
