"""How many requests may be in flight at one endpoint: a pure controller, told what happened and no more."""

from __future__ import annotations

from dataclasses import dataclass

START = 32


@dataclass(slots=True)
class Ticket:
    """What the throttle knew when it let a request go."""

    limit: int
    level: int
    cuts: int
    tokens: float
    requests_mark: float
    tokens_mark: float


class Concurrency:
    """How many requests may be in flight, from 1 to ``most``: additive increase, multiplicative decrease.

    The limit doubles per round trip while it is in use, halves on the first 429 of an episode, comes back fast to nine
    tenths of the level that failed, and then grows by one per round trip, by one per two the second time it fails at
    that level, and so on: a server with a fixed number of slots is probed ever more rarely. A limit that has passed the
    level that failed forgets it. Only a 429 to a request that was let go since the last cut can cut, which is one that
    was let go at the current limit or a lower one.
    """

    def __init__(self, most: int, learned: int | None = None) -> None:
        self.most = most
        self.limit = max(1, min(most, learned or START))
        self.in_flight = 0
        self._cuts = 0
        self._credit = 0
        self._rounds = 1
        self._failed_at = None if learned is None or learned >= most else learned + max(1, learned // 9)

    @property
    def learned(self) -> int | None:
        """The limit to start with next time; None where nothing was learned."""
        if self._failed_at is not None:
            return min(self.most, self._settled(self._failed_at))
        return self.limit if self.limit == self.most else None

    def admit(self, tokens: float = 0.0, requests_mark: float = 0.0, tokens_mark: float = 0.0) -> Ticket:
        """Counts one request as in flight; what is passed is only noted on its ticket."""
        self.in_flight += 1
        return Ticket(self.limit, self.in_flight, self._cuts, tokens, requests_mark, tokens_mark)

    def succeeded(self) -> None:
        """One request was answered; where the limit held others back, it may grow."""
        in_use = self.in_flight >= self.limit
        self.in_flight -= 1
        if in_use and self.limit < self.most:
            self._grow()

    def failed(self) -> None:
        """One request ended in a way that says nothing about the limit."""
        self.in_flight -= 1

    def rate_limited(self, ticket: Ticket) -> None:
        """One request met a 429."""
        self.in_flight -= 1
        if ticket.cuts != self._cuts:
            return
        level = min(ticket.level, self.limit)
        same = self._failed_at is not None and 10 * level >= 9 * self._failed_at
        self._rounds = min(8, 2 * self._rounds) if same else 1
        # A 429 far below the level that failed before may be chance: only when it keeps coming is it the new level.
        self._failed_at = (
            level if self._failed_at is None or level > self._failed_at else (self._failed_at + level) // 2
        )
        self._credit = 0
        self._cuts += 1
        self.limit = max(1, level // 2)

    def _grow(self) -> None:
        if self._failed_at is None or self.limit < self._settled(self._failed_at):
            self.limit += 1
            return
        self._credit += 1
        if self._credit < self.limit * self._rounds:
            return
        self._credit = 0
        self.limit += 1
        if self.limit > self._failed_at + max(2, self._failed_at // 10):
            self._failed_at, self._rounds = None, 1

    @staticmethod
    def _settled(failed_at: int) -> int:
        return max(1, failed_at - max(1, failed_at // 10))
