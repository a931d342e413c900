"""A cap holds whatever is billed, and is used as far as the worst case allows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

from pipeline.chats.chat import Answer, ChatRequest
from pipeline.engine.budget import Budget, Price, Purse
from pipeline.engine.endpoint import Endpoint
from pipeline.engine.engine import Engine
from pipeline.engine.gate import Stopped
from tests.pipeline.simulation import (
    GOOD,
    Memory,
    Outcome,
    Scripted,
    request,
    simulate,
    timed_out,
    too_many,
    transient,
)


class Cap(Budget):
    def __init__(self, usd: float) -> None:
        self.usd, self.reserved, self.spent, self.most = usd, 0.0, 0.0, 0.0

    async def reserve(self, usd: float) -> bool:
        if self.spent + self.reserved + usd > self.usd + 1e-9:
            return False
        self.reserved += usd
        return True

    def settle(self, reserved: float, spent: float | None) -> None:
        self.reserved -= reserved
        self.spent += reserved if spent is None else spent


def price(asked: ChatRequest, answer: Answer) -> float:
    return answer.completion_tokens * 0.01


def numbered(count: int) -> list[str]:
    return [f"text {n}" for n in range(count)]


def capped(
    cap: Budget,
    texts: list[str],
    outcome: Callable[[], Outcome] = lambda: GOOD,
    *,
    price: Price = price,
    max_tokens: int | None = 50,
) -> tuple[Engine, Scripted]:
    chat = Scripted(lambda _, __: outcome())

    async def main() -> Engine:
        async with Engine(Memory(), price=price, budget=cap) as engine:
            endpoint = Endpoint("test endpoint", chat)

            async def job(text: str) -> None:
                await engine.ask(endpoint, request(text, max_tokens=max_tokens))

            await engine.run(job, texts)
        return engine

    return simulate(main()), chat


def test_a_cap_holds_and_is_used_up_as_far_as_the_worst_case_allows() -> None:
    cap = Cap(10.0)
    engine, chat = capped(cap, numbered(1000), lambda: GOOD)
    assert engine.stopped_because == "budget"
    # An answer costs 0.05 and is reserved with 0.50: the last one starts at 9.50 at the latest.
    assert chat.calls.total() == 191
    assert cap.spent == pytest.approx(9.55)
    assert cap.reserved == pytest.approx(0)


def test_an_answer_as_long_as_the_worst_case_does_not_break_the_cap() -> None:
    cap = Cap(10.0)
    engine, chat = capped(cap, numbered(1000), lambda: Answer("Long.", "stop", 20, 50))
    assert engine.stopped_because == "budget"
    assert chat.calls.total() == 20
    assert cap.spent == pytest.approx(10.0)


def test_who_waits_for_money_goes_on_when_another_has_spent_less() -> None:
    cap = Cap(0.6)
    engine, chat = capped(cap, ["one", "two"], lambda: GOOD)
    assert engine.stopped_because is None
    assert [when for when, _ in chat.sent_at] == [0, pytest.approx(0.1)]
    assert cap.spent == pytest.approx(0.10)


def test_what_may_have_been_billed_without_an_answer_is_gone_as_a_whole() -> None:
    drawn: Iterator[Outcome] = iter([timed_out(), GOOD, GOOD])
    cap = Cap(0.6)
    engine, chat = capped(cap, ["one"], lambda: next(drawn))
    assert (engine.stopped_because, chat.calls.total()) == ("budget", 1)
    assert cap.spent == pytest.approx(0.5)
    drawn = iter([timed_out(), GOOD])
    cap = Cap(1.1)
    engine, chat = capped(cap, ["one"], lambda: next(drawn))
    assert (engine.stopped_because, chat.calls.total()) == (None, 2)
    assert cap.spent == pytest.approx(0.5 + 0.05)
    assert engine.counters.cost_usd == pytest.approx(0.05)


def test_what_was_refused_or_never_received_costs_nothing() -> None:
    drawn: Iterator[Outcome] = iter([transient(), too_many(), transient(), GOOD])
    cap = Cap(0.6)
    engine, chat = capped(cap, ["one"], lambda: next(drawn))
    assert (engine.stopped_because, chat.calls.total()) == (None, 4)
    assert cap.spent == pytest.approx(0.05)


@pytest.mark.parametrize("texts", ["x" * 400, "\U0001f600" * 100])
def test_a_prompt_is_set_aside_with_a_token_for_each_byte(texts: str) -> None:
    def by_prompt(_: ChatRequest, answer: Answer) -> float:
        return answer.prompt_tokens * 0.01

    engine, chat = capped(Cap(3.99), [texts], price=by_prompt)
    assert (engine.stopped_because, chat.calls.total()) == ("budget", 0)
    engine, chat = capped(Cap(8.0), [texts], price=by_prompt)
    assert (engine.stopped_because, chat.calls.total()) == (None, 1)


def test_what_has_no_price_is_not_asked_under_a_cap() -> None:
    engine, chat = capped(Cap(1000), numbered(5), price=lambda _, __: None)
    assert (engine.stopped_because, chat.calls.total()) == ("budget", 0)


def test_what_may_be_answered_without_end_is_not_asked_under_a_cap() -> None:
    engine, chat = capped(Cap(1000), numbered(5), max_tokens=None)
    assert (engine.stopped_because, chat.calls.total()) == ("budget", 0)


class Slow(Cap):
    """A budget that looks at what is left when it is asked, and says so a while later."""

    async def reserve(self, usd: float) -> bool:
        granted = await super().reserve(usd)
        await asyncio.sleep(0.25)
        return granted


def test_money_given_back_while_the_budget_was_asked_is_not_overlooked() -> None:
    # The second asks at 0 s and is refused at 0.25 s, but the first has settled then: nobody else would wake it.
    cap = Slow(0.6)

    async def main() -> None:
        purse = Purse(cap, price, on_empty=lambda: pytest.fail("there is money left"))
        asked = request(max_tokens=50)
        first, second = await purse.reserve(asked), asyncio.create_task(purse.reserve(asked))
        await asyncio.sleep(0.1)
        purse.settle(first, 0.05)
        assert await second == 0.5

    simulate(main())


def test_who_is_given_money_after_the_end_gives_it_back() -> None:
    cap = Slow(0.6)

    async def main() -> None:
        purse = Purse(cap, price, on_empty=lambda: None)
        asking = asyncio.create_task(purse.reserve(request(max_tokens=50)))
        await asyncio.sleep(0.1)
        purse.stop("interrupted")
        with pytest.raises(Stopped, match="interrupted"):
            await asking

    simulate(main())
    assert (cap.reserved, cap.spent) == (0, 0)
