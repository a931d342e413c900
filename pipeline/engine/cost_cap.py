"""``--max-cost``: a cap on what a batch costs, held by all processes that work on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_AHEAD = 20
"""Requests' worth of money asked for at once, so that not every request is a transaction."""


class BatchBudget:
    """The engine's budget. ``allow(total)`` asks the record whether this run may have spent that much in all.

    It is called in a worker thread, for it waits for other processes; never twice at once, and in the order in which
    the money was wanted.
    """

    def __init__(self, allow: Callable[[float], bool]) -> None:
        self._allow = allow
        self._turn = asyncio.Lock()
        self._allowed = 0.0
        self._spent = 0.0
        self._in_flight = 0.0
        self.at_risk = 0.0

    async def reserve(self, usd: float) -> bool:
        """Sets the most that a request can cost aside; False where the batch's cap does not allow it."""
        async with self._turn:
            for ahead in (_AHEAD * usd, 0.0):
                # Others may have settled while the record was asked.
                total = self._spent + self._in_flight + usd + ahead
                if total - ahead <= self._allowed:
                    break
                if await self._ask(total):
                    self._allowed = total
            if self._spent + self._in_flight + usd > self._allowed:
                return False
            self._in_flight += usd
            return True

    def settle(self, reserved: float, spent: float | None) -> None:
        """Replaces a reservation by what was spent; None: unknown, so all of it may be gone."""
        self._in_flight -= reserved
        self._spent += reserved if spent is None else spent
        self.at_risk += reserved if spent is None else 0.0

    async def _ask(self, total: float) -> bool:
        asking = asyncio.ensure_future(asyncio.to_thread(self._allow, total))
        cancelled: asyncio.CancelledError | None = None
        while not asking.done():
            try:
                await asyncio.wait({asking})
            except asyncio.CancelledError as again:
                # The record writes down what it is asked last, so the turn is held until it has answered.
                cancelled = again
        if cancelled is not None:
            raise cancelled
        return asking.result()
