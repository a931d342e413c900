"""When an endpoint is not worth asking any more: pure, told what happened and when."""

from __future__ import annotations

from collections import deque


class Breaker:
    """When to stop asking: nothing ever answered, nearly everything fails, or there are only 429s.

    Failures of a few requests that can never succeed do not trip it, however often they are retried: what counts is
    that many *different* requests fail. ``patience`` is in seconds.
    """

    def __init__(self, patience: float = 120.0) -> None:
        self.patience = patience
        self.answers = 0
        self._answered = False
        self._failed_in_a_row = 0
        self._last: deque[str | None] = deque()
        self._failures = 0
        self._limited_since: float | None = None

    def answered(self) -> None:
        """One request got an answer that can be used."""
        self.answers += 1
        self._answered = True
        self._limited_since = None
        self._remember(None)

    def failed(self, key: str, *, silent: bool) -> str | None:
        """Why to stop, if so, after an attempt at the request ``key`` failed; ``silent``: without any answer."""
        self._limited_since = None
        self._remember(key)
        if silent:
            self._failed_in_a_row += 1
        else:
            self._answered = True
        if not self._answered and self._failed_in_a_row >= 20:
            return "it has not answered once in 20 attempts"
        if self._failures >= 90 and len(set(self._last)) > 40:
            return f"{self._failures} of the last 100 attempts failed"
        return None

    def rate_limited(self, retry_after: float | None, now: float) -> str | None:
        """Why to stop, if so, after a 429."""
        if retry_after is not None and retry_after > 10 * self.patience:
            return f"it is rate limited for the next {retry_after:.0f} seconds"
        if self._limited_since is None:
            self._limited_since = now
        if now - self._limited_since >= self.patience:
            return f"it has answered nothing but 429 for {now - self._limited_since:.0f} seconds"
        return None

    def _remember(self, key: str | None) -> None:
        if len(self._last) == 100 and self._last.popleft() is not None:
            self._failures -= 1
        self._last.append(key)
        if key is not None:
            self._failures += 1
