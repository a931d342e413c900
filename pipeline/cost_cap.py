"""``--max-cost``: a cap on what a batch costs, held by all processes that work on it."""

from __future__ import annotations

from collections.abc import Callable

_AHEAD = 20
"""Requests' worth of money asked for at once, so that not every request is a transaction."""


class BatchBudget:
    """The engine's budget. ``allow(total)`` asks the record whether this run may have spent that much in all."""

    def __init__(self, allow: Callable[[float], bool]) -> None:
        self._allow = allow
        self._allowed = 0.0
        self._spent = 0.0
        self._in_flight = 0.0

    def reserve(self, usd: float) -> bool:
        """Sets the most that a request can cost aside; False where the batch's cap does not allow it."""
        needed = self._spent + self._in_flight + usd
        if needed > self._allowed:
            total = next((total for total in (needed + _AHEAD * usd, needed) if self._allow(total)), None)
            if total is None:
                return False
            self._allowed = total
        self._in_flight += usd
        return True

    def settle(self, reserved: float, spent: float | None) -> None:
        """Replaces a reservation by what was spent; None: unknown, so all of it may be gone."""
        self._in_flight -= reserved
        self._spent += reserved if spent is None else spent
