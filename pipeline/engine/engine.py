"""The engine behind every LLM job: the ledger first, then the gate, the chat, the record of it, and retries.

``Engine.ask`` gives one reply and pays at most once for it; ``Engine.run`` drives a job over any number of items. All
decisions about rates are ``pipeline.engine.rates``', all waiting is here. A failed request is one of three things: rate
limited (it costs no attempt), transient (retried, in between fresh work) or fatal (the run stops at once).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
from array import array
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from pipeline.chats.chat import ChatError, ChatRequest, Failure
from pipeline.engine.budget import Budget, Price, Purse
from pipeline.engine.endpoint import Attempt, Endpoint, flaw, words
from pipeline.engine.gate import Gate, Stopped
from pipeline.engine.writer import Writer
from tracker import clock
from tracker.errors import ProviderError

BACKOFF_S = 0.5
BACKOFF_MOST_S = 30.0
HOPELESS = 8
"""After so many 429s a request that alone is refused counts as failed; backoff has taken most of a minute by then."""

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Reply:
    """A usable answer. ``cached``: it was paid for before, or by another asker; ``cost_usd`` is None where unknown."""

    text: str
    key: str
    cached: bool
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None = None
    tokens_estimated: bool = False
    attempts: int = 1
    latency_s: float | None = None


Paid = tuple[ChatRequest, Attempt]


class Ledger(Protocol):
    """What was paid for."""

    def find(self, request: ChatRequest) -> Reply | None:
        """A good answer that is already there. Called in the event loop, so it takes microseconds."""
        ...

    def save(self, rows: Sequence[Paid]) -> None:
        """One durable transaction, called in a worker thread. Raises StorageError where it is worth another try."""
        ...


class Failed(Exception):
    """One request gave no usable answer after its retries: its ``key`` and its last ``attempt``."""

    def __init__(self, key: str, attempt: Attempt) -> None:
        super().__init__(attempt.message or str(attempt.failure))
        self.key = key
        self.attempt = attempt


@dataclass(slots=True)
class Counters:
    """What has happened so far, for a progress display to read when it likes; ``latencies`` are of good answers."""

    asked: int = 0
    cached: int = 0
    sent: int = 0
    succeeded: int = 0
    failed: int = 0
    rate_limited: int = 0
    retried: int = 0
    in_flight: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = None
    unpriced: int = 0
    latencies: array[float] = field(default_factory=lambda: array("f"))


class Engine:
    """Asks endpoints, pays once, and keeps what was paid for.

    ``price`` gives the cost of an answer in US dollars, None where it knows no price. ``save`` is for callers
    of ``record``: one transaction for attempts and their own rows (default: ``ledger.save``, and no rows). ``seed``
    makes backoff repeatable; ``storage_patience`` (seconds) is how long a full disk is borne.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        price: Price = lambda _request, _answer: None,
        budget: Budget | None = None,
        save: Callable[[Sequence[Paid], Sequence[Any]], None] | None = None,
        seed: int | None = None,
        storage_patience: float = 30.0,
    ) -> None:
        self.counters = Counters()
        self.stopped_because: str | None = None
        self.error: BaseException | None = None
        self._ledger = ledger
        self._price = price
        self._purse = None if budget is None else Purse(budget, price, lambda: self.stop("budget"))
        self._save = save or (lambda paid, _: ledger.save(paid))
        self._random = random.Random(seed)  # noqa: S311  jitter, not a secret
        self._storage_patience = storage_patience
        self._writer: Writer[Paid, Any]
        self._gates: set[Gate] = set()
        self._held = False
        self._asking: dict[str, list[asyncio.Future[Reply | None]]] = {}
        self._unsaved: dict[str, Reply] = {}
        self._sleepers: set[asyncio.Future[None]] = set()

    async def __aenter__(self) -> Self:
        self._writer = Writer(
            self._save,
            on_saved=self._saved,
            on_trouble=self._hold,
            on_failed=self._halt,
            patience=self._storage_patience,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for gate in self._gates:
            gate.stop("closed")
        closing = asyncio.ensure_future(self._writer.close())
        cancelled: asyncio.CancelledError | None = None
        while not closing.done():
            try:
                await asyncio.wait({closing})
            except asyncio.CancelledError as again:
                # What was paid for is written first, however impatient the caller.
                cancelled = again
        closing.result()
        if cancelled is not None:
            raise cancelled

    async def run(self, job: Callable[[Item], Awaitable[None]], items: Iterable[Item], *, window: int = 512) -> None:
        """Does ``job`` for every item, at most ``window`` at a time (twice the concurrency keeps every slot busy).

        Returns when all is done, or after ``stop`` when what was in flight has ended. Raises ProviderError,
        StorageError or whatever a job raised, also after that.
        """
        remaining = iter(items)

        async def work() -> None:
            for done, item in enumerate(remaining):
                if self.stopped_because is not None:
                    return
                try:
                    await job(item)
                except Stopped:
                    return
                if done % 64 == 63:
                    # Answers from the ledger never wait: others want the loop too.
                    await asyncio.sleep(0)

        workers = [asyncio.create_task(work()) for _ in range(window)]
        try:
            with _rare_collections():
                _, going_on = await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
                if going_on:
                    self.stop("error")
                    await asyncio.wait(going_on)
        except asyncio.CancelledError:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            raise
        errors = [error for worker in workers if (error := worker.exception()) is not None]
        if self.error is not None or errors:
            raise self.error or errors[0]

    async def ask(self, endpoint: Endpoint, request: ChatRequest) -> Reply:
        """The reply to a request: from the ledger, from an equal request in flight, or paid for now.

        Raises Failed when the retries are used up, Stopped when the engine starts nothing new, ProviderError when the
        endpoint is not worth asking any more.
        """
        self.counters.asked += 1
        key = request.key
        while True:
            found = self._find(request)
            if found is not None:
                self.counters.cached += 1
                return found
            followers = self._asking.get(key)
            if followers is None:
                return await self._lead(endpoint, request)
            future: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()
            followers.append(future)
            reply = await future
            if reply is not None:
                self.counters.cached += 1
                return replace(reply, cached=True)

    def record(self, row: Any) -> None:
        """Puts a row of the caller's into the next commit, never before the attempts that were made until now."""
        self._writer.row(row)

    def stop(self, reason: str) -> None:
        """Finishes what is in flight and starts nothing new. The first reason stays. Not for other threads."""
        if self.stopped_because is not None:
            return
        self.stopped_because = reason
        for gate in self._gates:
            gate.stop(reason)
        if self._purse is not None:
            self._purse.stop(reason)
        for future in self._sleepers:
            if not future.done():
                future.set_exception(Stopped(reason))

    def _find(self, request: ChatRequest) -> Reply | None:
        found = self._unsaved.get(request.key)
        if found is not None:
            return replace(found, cached=True)
        return self._ledger.find(request)

    async def _lead(self, endpoint: Endpoint, request: ChatRequest) -> Reply:
        followers = self._asking[request.key] = []
        reply: Reply | None = None
        failed: Failed | None = None
        try:
            reply = await self._pay(endpoint, request)
        except Failed as error:
            failed = error
            raise
        except ProviderError as error:
            self._halt(error)
            raise
        finally:
            del self._asking[request.key]
            for future in followers:
                if future.done():
                    continue
                if failed is not None:
                    future.set_exception(Failed(failed.key, failed.attempt))
                else:
                    # Without a reply (this asker was cancelled) the next in line asks for itself.
                    future.set_result(reply)
        return reply

    async def _pay(self, endpoint: Endpoint, request: ChatRequest) -> Reply:
        if endpoint.gate not in self._gates:
            self._gates.add(endpoint.gate)
            endpoint.gate.hold(held=self._held)
        attempts = limited = answered = 0
        failures: Counter[Failure] = Counter()
        while True:
            attempt, retry_after = await self._try(endpoint, request, attempts + 1)
            if attempt.failure is None:
                return self._keep(request, attempt)
            if attempt.failure is Failure.RATE_LIMIT:
                limited += 1
                answered = answered if limited > 1 else endpoint.breaker.answers
                alone = len(self._asking) == 1
                if limited >= HOPELESS and (alone or endpoint.breaker.answers > answered):
                    # Others are answered and this one is not: it is too large for the limit, and will always be.
                    self.counters.failed += 1
                    # What its asker records refers to it.
                    self._writer.attempt((request, attempt))
                    raise Failed(request.key, attempt)
                # The gate has already slowed down; only who is refused again and again steps back as well.
                if limited > 1:
                    await self._sleep(self._backoff(limited - 1))
                continue
            attempts += 1
            failures[attempt.failure] += 1
            if attempts > endpoint.limits.max_retries or failures[attempt.failure] > endpoint.retries(attempt.failure):
                self.counters.failed += 1
                raise Failed(request.key, attempt)
            self.counters.retried += 1
            await self._sleep(max(self._backoff(attempts), retry_after or 0.0))

    async def _try(self, endpoint: Endpoint, request: ChatRequest, ordinal: int) -> tuple[Attempt, float | None]:
        self._check()
        loop = asyncio.get_running_loop()
        ticket = await endpoint.admit(request)
        reserved: float | None = None
        counters = self.counters
        counters.in_flight += 1
        try:
            # Between being let go and running on, the engine may have been stopped.
            self._check()
            reserved = await self._purse.reserve(request) if self._purse is not None else None
            counters.sent += 1
            started_at, start = clock.now(), loop.time()
            answer = await endpoint.chat.complete(request, timeout=endpoint.limits.timeout)
        except ChatError as error:
            latency = loop.time() - start
            attempt = Attempt(ordinal, started_at, latency, error.failure, error.status, str(error), None, None)
            self._settle(reserved, None if error.maybe_paid else 0.0)
            self._note(request, attempt)
            endpoint.refused(ticket, request.key, attempt, error.retry_after)
            return attempt, error.retry_after
        except BaseException:
            self._settle(reserved, None)
            endpoint.gate.throttle.failed(ticket)
            raise
        else:
            now = loop.time()
            cost = self._price(request, answer)
            attempt = Attempt(ordinal, started_at, now - start, flaw(answer), 200, words(answer), answer, cost)
            self._settle(reserved, cost)
            self._note(request, attempt)
            endpoint.answered(ticket, request.key, attempt, now)
            return attempt, None
        finally:
            counters.in_flight -= 1
            endpoint.gate.pump()

    def _settle(self, reserved: float | None, spent: float | None) -> None:
        if self._purse is not None and reserved is not None:
            self._purse.settle(reserved, spent)

    def _note(self, request: ChatRequest, attempt: Attempt) -> None:
        counters = self.counters
        if attempt.failure is Failure.RATE_LIMIT:
            counters.rate_limited += 1
            return
        self._writer.attempt((request, attempt))
        if attempt.answer is None:
            return
        counters.prompt_tokens += attempt.answer.prompt_tokens
        counters.completion_tokens += attempt.answer.completion_tokens
        if attempt.cost_usd is None:
            counters.unpriced += 1
        else:
            counters.cost_usd = (counters.cost_usd or 0.0) + attempt.cost_usd

    def _keep(self, request: ChatRequest, attempt: Attempt) -> Reply:
        answer = attempt.answer
        assert answer is not None
        self.counters.succeeded += 1
        self.counters.latencies.append(attempt.latency_s)
        reply = Reply(
            text=answer.text,
            key=request.key,
            cached=False,
            finish_reason=answer.finish_reason,
            prompt_tokens=answer.prompt_tokens,
            completion_tokens=answer.completion_tokens,
            cost_usd=attempt.cost_usd,
            tokens_estimated=answer.tokens_estimated,
            attempts=attempt.ordinal,
            latency_s=attempt.latency_s,
        )
        # Until the writer has committed it, the ledger does not know it.
        self._unsaved[request.key] = reply
        return reply

    def _saved(self, rows: Sequence[Paid]) -> None:
        for request, attempt in rows:
            if attempt.failure is None:
                self._unsaved.pop(request.key, None)

    def _hold(self, trouble: BaseException | None) -> None:
        self._held = trouble is not None
        for gate in self._gates:
            gate.hold(held=self._held)

    def _halt(self, error: BaseException) -> None:
        if self.error is None:
            self.error = error
        self.stop(str(error))

    def _check(self) -> None:
        if self.stopped_because is not None:
            raise Stopped(self.stopped_because)

    def _backoff(self, retry: int) -> float:
        return self._random.uniform(0.0, min(BACKOFF_MOST_S, BACKOFF_S * 2.0 ** min(retry - 1, 16)))

    async def _sleep(self, seconds: float) -> None:
        self._check()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(seconds, _wake, future)
        self._sleepers.add(future)
        try:
            await future
        finally:
            timer.cancel()
            self._sleepers.discard(future)


_collecting_rarely: list[tuple[int, int, int]] = []
"""The thresholds that hold again when the last of the runs that go on at once has ended, as often as there are runs."""


@contextlib.contextmanager
def _rare_collections() -> Iterator[None]:
    """Lets the collector of cycles run rarely: there are hardly any, and the search is a fifth of the CPU."""
    before = _collecting_rarely[0] if _collecting_rarely else gc.get_threshold()
    _collecting_rarely.append(before)
    gc.set_threshold(max(20_000, before[0]), *before[1:])
    try:
        yield
    finally:
        _collecting_rarely.pop()
        if not _collecting_rarely:
            gc.set_threshold(*before)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
