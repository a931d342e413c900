"""Asking models about whatever is missing: the engine with its ledger, budget, display, heartbeat and signals.

What is asked, and what an answer means, is a subclass's: ``pipeline.generation.run`` rephrases and judges records,
``pipeline.perspectives.run`` lets agents answer.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import ClassVar, Generic, TypeVar

from pipeline.chats.chat import Answer
from pipeline.engine.connect import connect
from pipeline.engine.cost_cap import BatchBudget
from pipeline.engine.endpoint import Endpoint
from pipeline.engine.engine import Counters, Engine
from pipeline.engine.ledger import RunLedger
from pipeline.engine.prices import Price, price_of
from pipeline.engine.signals import heeding
from pipeline.specs import ModelSpec
from tracker import clock
from tracker.errors import BudgetReached, Conflict, Error, Interrupted
from tracker.paths import Workspace
from tracker.record import lease, ledger
from tracker.record.catalogue import Reader, reading
from tracker.record.columns import to_json
from tracker.record.database import Database
from tracker.record.generation import Totals

_TICK_S = 0.2

Item = TypeVar("Item")


@dataclass
class Progress:
    """How far a run is, for a display to read when it likes; ``before``: items that earlier runs had done."""

    total: int
    before: int = 0
    done: int = 0
    interrupted: bool = False
    statuses: Counter[str] = field(default_factory=Counter)
    counters: Counters = field(default_factory=Counters)

    def count(self, status: str) -> None:
        self.done += 1
        self.statuses[status] += 1


Display = Callable[[Progress], None]


class Asking(ABC, Generic[Item]):
    """One run of the engine over the items that are missing."""

    workspace: Workspace
    database: Database
    display: Display
    models: list[ModelSpec]
    progress: Progress
    budget: BatchBudget | None
    endpoints: list[Endpoint]
    ending: ClassVar[str] = "complete"
    items: ClassVar[str] = "records"
    account: ClassVar[ledger.Account] = ledger.GENERATION

    @property
    @abstractmethod
    def run_id(self) -> int:
        """The run that pays."""

    @property
    @abstractmethod
    def max_cost(self) -> float | None:
        """``--max-cost``, US dollars."""

    @property
    @abstractmethod
    def capped(self) -> str:
        """What ``--max-cost`` is a cap on, in words."""

    @abstractmethod
    def _pending(self, reader: Reader) -> list[Item]:
        """What is missing; what is there is counted in ``progress``."""

    @abstractmethod
    async def _do(self, engine: Engine, item: Item) -> None:
        """Asks about one item and records what came of it."""

    @abstractmethod
    def _beat(self) -> bool:
        """Says in the record that this process lives; False where another one has taken the run over."""

    @abstractmethod
    def _reserve(self, total: float) -> bool:
        """Whether this run may have spent ``total`` in all, as the record has it."""

    async def drive(self) -> str:
        """The status of the run: its ``ending``, or partial where items failed. Raises what stopped it."""
        with reading(self.workspace, snapshot=False) as reader:
            pending = self._pending(reader)
            self.endpoints = connect(self.models, self.workspace.environ, ledger.learned_limits(self.database))
            prices = {(model.endpoint, model.model): price_of(model) for model in self.models}
            run_ledger = RunLedger(self.database, reader, self.run_id, self.account)
            engine = Engine(
                run_ledger,
                price=lambda request, answer: _cost(prices[request.endpoint, request.model], answer),
                budget=self.budget,
                save=run_ledger.save,
            )
            self.progress.counters = engine.counters
            try:
                async with self._accompanied(engine, run_ledger):
                    async with engine:
                        window = max(64, 2 * sum(model.concurrency for model in self.models))
                        await engine.run(lambda item: self._do(engine, item), pending, window=window)
                    self._raise_if_stopped("taken over" if run_ledger.taken_over else engine.stopped_because)
                    status = "partial" if self.progress.statuses["failed"] else self.ending
                    await self._conclude(status)
            finally:
                for chat in dict.fromkeys(endpoint.chat for endpoint in self.endpoints):
                    await chat.aclose()
        return status

    async def _conclude(self, status: str) -> None:
        """What is still to be done when everything is answered, while this process says that it lives."""

    def totals(self) -> Totals:
        counters = self.progress.counters
        p50, p95, p99 = percentiles(list(counters.latencies), (0.50, 0.95, 0.99))
        prices = {model.model: price.to_json() for model in self.models if (price := price_of(model)) is not None}
        limits = {
            (endpoint.name, model.api_key_env or ""): limit
            for model, endpoint in zip(self.models, self.endpoints, strict=False)
            # One at a time is no limit to remember: a single request that is refused for ever leads there.
            if (limit := endpoint.learned_limit or 0) > 1
        }
        return Totals(
            n_calls=counters.sent, n_cached=counters.cached, n_retried=counters.retried,
            n_rate_limited=counters.rate_limited, latency_p50_s=p50, latency_p95_s=p95, latency_p99_s=p99,
            price_list=to_json(prices) if prices else None, limits=limits,
            at_risk_usd=None if self.budget is None else self.budget.at_risk,
        )  # fmt: skip

    def _capped_budget(self) -> BatchBudget | None:
        return None if self.max_cost is None else BatchBudget(self._reserve)

    @contextlib.asynccontextmanager
    async def _accompanied(self, engine: Engine, run_ledger: RunLedger) -> AsyncIterator[None]:
        """Display, heartbeat and signals while the engine runs."""
        tasks = [
            asyncio.create_task(self._tick(engine, run_ledger)), asyncio.create_task(self._heartbeat(run_ledger)),
        ]  # fmt: skip
        try:
            with heeding(lambda: self._interrupt(engine)):
                yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.display(self.progress)

    def _interrupt(self, engine: Engine) -> None:
        engine.stop("interrupted")
        self.progress.interrupted = True

    async def _tick(self, engine: Engine, run_ledger: RunLedger) -> None:
        while True:
            self.display(self.progress)
            if run_ledger.taken_over:
                engine.stop("taken over")
            await asyncio.sleep(_TICK_S)

    async def _heartbeat(self, run_ledger: RunLedger) -> None:
        while True:
            await asyncio.sleep(lease.HEARTBEAT_S)
            with contextlib.suppress(Error):
                run_ledger.taken_over |= not await asyncio.to_thread(self._beat)

    def _raise_if_stopped(self, reason: str | None) -> None:
        left, total = self.progress.total - self.progress.done, self.progress.total
        hint = f"The same command makes the missing {left} of {total} {self.items}; nothing is paid twice."
        if reason == "interrupted":
            raise Interrupted(f"Interrupted after {self.progress.done} of {total} {self.items}.", hint=hint)
        if reason == "taken over":
            raise taken_over()
        if reason == "budget":
            raise BudgetReached(
                f"The next request could take {self.capped} above ${self.max_cost:,.4f}; this run has spent "
                f"${self.progress.counters.cost_usd or 0:,.4f}.",
                hint=f"{hint} Raise --max-cost.",
            )


def taken_over() -> Conflict:
    """The error of a run that another process has taken over."""
    return Conflict(
        "Another process has taken this over, because this one had not been heard of for "
        f"{clock.LEASE_TIMEOUT_S:.0f} s.",
        hint="What was answered here is kept. Once the other one has finished, the same again shares its data.",
    )


def percentiles(values: list[float], shares: tuple[float, ...]) -> list[float | None]:
    """The nearest-rank percentiles of ``values``, None where there are no values."""
    ordered = sorted(values)
    if not ordered:
        return [None for _ in shares]
    return [ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))] for share in shares]


def _cost(price: Price | None, answer: Answer) -> float | None:
    return None if price is None else price.cost(answer.prompt_tokens, answer.completion_tokens)
