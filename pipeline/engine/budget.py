"""A cost cap: the worst case of every request is set aside before it is sent."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from pipeline.chats.chat import Answer, ChatRequest
from pipeline.chats.tokens import most_prompt_tokens
from pipeline.engine.endpoint import most_output
from pipeline.engine.gate import Stopped

Price = Callable[[ChatRequest, Answer], float | None]
"""What an answer costs, US dollars; None where no price is known."""


class Budget(Protocol):
    """A cost cap, US dollars, that may be shared with other processes."""

    async def reserve(self, usd: float) -> bool:
        """Sets the most that a request can cost aside; False where the cap does not allow it."""
        ...

    def settle(self, reserved: float, spent: float | None) -> None:
        """Replaces a reservation by what was spent; None: unknown, so all of it may be gone."""
        ...


class Purse:
    """One engine's hold on a budget.

    A worst case costs ten times what is usual, so where the cap allows no more reservations, those that are in flight
    are waited for; only when there are none is the money gone, and ``on_empty`` is called.
    """

    def __init__(self, budget: Budget, price: Price, on_empty: Callable[[], None]) -> None:
        self._budget = budget
        self._price = price
        self._on_empty = on_empty
        self._stopped: str | None = None
        self._reservations = 0
        self._settled = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def reserve(self, request: ChatRequest) -> float:
        """What was set aside, US dollars. Raises Stopped where nothing is left, or nobody knows the worst case."""
        worst = self._worst(request)
        if worst is None:
            self._on_empty()
            raise Stopped("budget")
        while True:
            settled = self._settled
            if await self._budget.reserve(worst):
                break
            # What was given back while the budget was asked may be enough.
            if settled == self._settled:
                if not self._reservations:
                    self._on_empty()
                    raise Stopped("budget")
                await self._next_settled()
        self._reservations += 1
        self._wake_one()
        if self._stopped is not None:
            self.settle(worst, 0.0)
            raise Stopped(self._stopped)
        return worst

    def settle(self, reserved: float, spent: float | None) -> None:
        """Gives back what was set aside but not spent."""
        self._budget.settle(reserved, spent)
        self._reservations -= 1
        self._settled += 1
        self._wake_one()

    def stop(self, reason: str) -> None:
        """Sends everyone away who waits, and whoever is given money from now on."""
        self._stopped = reason
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_exception(Stopped(reason))

    def _worst(self, request: ChatRequest) -> float | None:
        output = most_output(request)
        if output is None:
            return None
        return self._price(request, Answer("", "length", most_prompt_tokens(request), output))

    async def _next_settled(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            await future
        except asyncio.CancelledError:
            # Whoever was woken and goes away hands the turn on.
            self._wake_one()
            raise

    def _wake_one(self) -> None:
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(None)
                return
