"""The gate before a service: who wants to ask waits here, first come, first served."""

from __future__ import annotations

import asyncio
from collections import deque

from pipeline.engine.concurrency import Ticket
from pipeline.engine.rates import NEVER, Throttle


class Stopped(Exception):
    """The engine starts nothing new. Jobs let it pass; ``Engine.run`` does not raise it."""


class Gate:
    """Lets requests go as fast as the throttle allows. What ends a request tells the throttle, then calls ``pump``."""

    def __init__(self, throttle: Throttle) -> None:
        self.throttle = throttle
        self._waiting: deque[tuple[asyncio.Future[Ticket], float]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._held = False

    async def admit(self, tokens: float) -> Ticket:
        """Waits until a request of so many tokens may go. Raises Stopped."""
        if not self._waiting and not self._held:
            now = asyncio.get_running_loop().time()
            if not self.throttle.wait(tokens, now):
                return self.throttle.admit(tokens, now)
        future: asyncio.Future[Ticket] = asyncio.get_running_loop().create_future()
        self._waiting.append((future, tokens))
        self.pump()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self.throttle.failed(future.result())
                self.pump()
            raise

    def hold(self, *, held: bool) -> None:
        """Closes the gate, or opens it again."""
        self._held = held
        self.pump()

    def stop(self, reason: str) -> None:
        """Sends everyone away who waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            future, _ = self._waiting.popleft()
            if not future.done():
                future.set_exception(Stopped(reason))

    def pump(self) -> None:
        """Lets go whom the throttle lets go, and sees to it that the next is not forgotten."""
        while self._waiting and not self._held:
            future, tokens = self._waiting[0]
            if future.done():
                self._waiting.popleft()
                continue
            now = asyncio.get_running_loop().time()
            delay = self.throttle.wait(tokens, now)
            if delay:
                if delay < NEVER:
                    self._wake_in(delay)
                return
            self._waiting.popleft()
            future.set_result(self.throttle.admit(tokens, now))

    def _wake_in(self, delay: float) -> None:
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            if self._timer.when() <= loop.time() + delay:
                return
            self._timer.cancel()
        self._timer = loop.call_later(delay, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self.pump()
