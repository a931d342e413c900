"""How fast one endpoint may be asked: pure, every method is told the time and none sleeps.

Four things hold a request back: the number in flight (``pipeline.engine.concurrency``), ``Bucket`` (a rate that the
user set), ``Window`` (what the headers of answers say is left) and a pause that a Retry-After asks for. ``Throttle``
asks them all.
"""

from __future__ import annotations

import math
from typing import Protocol

from pipeline.chats.chat import Answer, RateWindow
from pipeline.engine.concurrency import Concurrency, Ticket

NEVER = math.inf


class Meter(Protocol):
    """A rate of requests or tokens."""

    def wait(self, amount: float, now: float) -> float:
        """Seconds until ``amount`` may be taken; always finite."""
        ...

    def take(self, amount: float, now: float) -> None:
        """Takes ``amount``, into debt if need be."""
        ...

    def settle(self, estimated: float, actual: float) -> None:
        """Corrects what was taken when the true amount is known."""
        ...


class Bucket:
    """``per_minute`` and no more in any minute (half-open), in bursts of at most a quarter of a second's worth.

    An amount above the burst is let go when the bucket is full, and the bucket goes into debt for the rest.
    """

    def __init__(self, per_minute: float) -> None:
        self.most = max(1.0, per_minute / 240)
        # The burst is part of the minute; the first unit of a full bucket falls out of it as the last one comes in.
        self.rate = (per_minute - self.most + 1) / 60
        self._left = self.most
        self._at = -NEVER

    def wait(self, amount: float, now: float) -> float:
        """See Meter."""
        missing = min(amount, self.most) - self._refill(now)
        return missing / self.rate if missing > 1e-9 else 0.0

    def take(self, amount: float, now: float) -> None:
        """See Meter."""
        self._left = self._refill(now) - amount

    def settle(self, estimated: float, actual: float) -> None:
        """See Meter."""
        self._left += estimated - actual

    def _refill(self, now: float) -> float:
        self._left = min(self.most, self._left + max(0.0, now - self._at) * self.rate)
        self._at = now
        return self._left


class Window:
    """What answers say is left: unlimited until one says so, and never without an end.

    Servers mean two things by the same headers: a count that is reset at a moment, or a bucket that fills all the time.
    In the first the moment stands still between two answers, in the second it moves on with every request; until that
    is seen, the first is assumed, which never asks too much. A moment told in whole seconds may be one later: who asks
    a second early has everything refused that it then sends at once.
    """

    def __init__(self, taken: float = 0.0) -> None:
        self.taken = taken
        self._limit = NEVER
        self._left = NEVER
        self._full_at = NEVER
        self._slack = 0.0
        self._span = 0.0
        self._rate = 0.0
        self._at = 0.0
        self._mark = -1.0
        self._anchor: tuple[float, float, float] | None = None
        self._fills = False

    def wait(self, amount: float, now: float) -> float:
        """See Meter."""
        missing = min(amount, self._limit) - self._refill(now)
        if missing <= 1e-9:
            return 0.0
        until_full = self._full_at + self._slack - now
        return min(until_full, missing / self._rate) if self._fills and self._rate > 0 else until_full

    def take(self, amount: float, now: float) -> None:
        """See Meter."""
        self._refill(now)
        self._left -= amount
        self.taken += amount

    def settle(self, estimated: float, actual: float) -> None:
        """See Meter; a server's own count, told by its next answer, replaces this one."""

    def learn(self, window: RateWindow, mark: float, now: float) -> None:
        """Takes in an answer's headers; ``mark`` is what ``taken`` was when its request was let go."""
        if mark < self._mark:
            return
        self._mark, self._at = mark, now
        self._limit = max(1.0, window.limit)
        self._left = window.remaining - (self.taken - mark)
        self._span = max(self._span, window.reset_s)
        self._full_at = now + window.reset_s
        self._slack = 1.0 if window.reset_s >= 1 and window.reset_s % 1 == 0 else 0.0
        used = window.limit - window.remaining
        self._rate = used / window.reset_s if window.reset_s > 0 else 0.0
        self._tell_apart(used, now)

    def _tell_apart(self, used: float, now: float) -> None:
        if self._anchor is None or used < self._anchor[1] or self._rate <= 0:
            self._anchor = now, used, self._full_at
            return
        then, used_then, full_then = self._anchor
        # What a bucket that fills at this rate has given out since, in seconds of filling. Headers round to whole
        # seconds: less than three of them tell nothing.
        expected = (used - used_then) / self._rate + now - then
        if expected >= 3:
            self._fills = self._full_at - full_then > expected / 2
            self._anchor = now, used, self._full_at

    def _refill(self, now: float) -> float:
        if now >= self._full_at + self._slack:
            self._left, self._full_at = self._limit, now + max(1.0, self._span)
        elif self._fills:
            self._left = min(self._limit, self._left + (now - self._at) * self._rate)
        self._at = now
        return self._left


class Throttle:
    """Whether one more request may go to an endpoint now, and if not, when."""

    def __init__(
        self,
        concurrency: Concurrency,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
    ) -> None:
        self.concurrency = concurrency
        self.paused_until = -NEVER
        self.requests: list[Meter] = [Bucket(requests_per_minute)] if requests_per_minute else []
        self.tokens: list[Meter] = [Bucket(tokens_per_minute)] if tokens_per_minute else []
        self._requests_window: Window | None = None
        self._tokens_window: Window | None = None
        self._sent = 0
        self._sent_tokens = 0.0
        self._output = 0.0

    def expected_output(self, at_most: float | None) -> float:
        """Tokens that an answer is expected to have: a moving average of real ones, never above ``at_most``."""
        most = NEVER if at_most is None else at_most
        return min(most, self._output or 256.0)

    def wait(self, tokens: float, now: float) -> float:
        """Seconds until a request of ``tokens`` may go: 0 now, infinite when one in flight has to end first."""
        if self.concurrency.in_flight >= self.concurrency.limit:
            return NEVER
        delay = self.paused_until - now
        for meter in self.requests:
            delay = max(delay, meter.wait(1.0, now))
        for meter in self.tokens:
            delay = max(delay, meter.wait(tokens, now))
        return max(0.0, delay)

    def admit(self, tokens: float, now: float) -> Ticket:
        """Lets one request go."""
        for meter in self.requests:
            meter.take(1.0, now)
        for meter in self.tokens:
            meter.take(tokens, now)
        self._sent += 1
        self._sent_tokens += tokens
        return self.concurrency.admit(tokens, self._sent, self._sent_tokens)

    def answered(self, ticket: Ticket, answer: Answer, now: float) -> None:
        """One request was answered."""
        self.concurrency.succeeded()
        output = answer.completion_tokens
        self._output = output if not self._output else 0.95 * self._output + 0.05 * output
        for meter in self.tokens:
            meter.settle(ticket.tokens, answer.prompt_tokens + output)
        if answer.requests_window is not None:
            if self._requests_window is None:
                self._requests_window = Window(self._sent)
                self.requests.append(self._requests_window)
            self._requests_window.learn(answer.requests_window, ticket.requests_mark, now)
        if answer.tokens_window is not None:
            if self._tokens_window is None:
                self._tokens_window = Window(self._sent_tokens)
                self.tokens.append(self._tokens_window)
            self._tokens_window.learn(answer.tokens_window, ticket.tokens_mark, now)

    def failed(self, ticket: Ticket) -> None:
        """One request ended without an answer."""
        self.concurrency.failed()
        self._return_tokens(ticket)

    def rate_limited(self, ticket: Ticket, retry_after: float | None, now: float) -> None:
        """One request met a 429; a Retry-After (seconds) delays everything that is sent next and nothing else."""
        self.concurrency.rate_limited(ticket)
        self._return_tokens(ticket)
        if retry_after is not None:
            self.paused_until = max(self.paused_until, now + retry_after)

    def _return_tokens(self, ticket: Ticket) -> None:
        for meter in self.tokens:
            meter.settle(ticket.tokens, 0.0)
