"""One run of the engine: what is missing is asked for and written down.

A Run rephrases each record and judges it as soon as that is there. A Rephrasing leaves the verdict to people and later
runs, a JudgeTest asks the judge about samples whose verdict people gave.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pipeline.chat import Answer
from pipeline.connect import connect
from pipeline.cost_cap import BatchBudget
from pipeline.endpoint import Endpoint
from pipeline.engine import Counters, Engine, Failed, Reply
from pipeline.job import Job, models_of
from pipeline.ledger import RunLedger
from pipeline.plan import Plan, clean
from pipeline.prices import Price, price_of
from pipeline.prompts import TemplateError
from pipeline.specs import ModelSpec
from pipeline.verdict import Verdict, read_verdict
from tracker import clock, ledger, store
from tracker.catalogue import Reader, Row, reading
from tracker.database import Database
from tracker.errors import BudgetReached, Conflict, Error, Interrupted
from tracker.paths import Workspace
from tracker.store import Claimed, Totals

_TICK_S = 0.2
_SAMPLES = """
    SELECT position, status, rephrased, rephrase_request_key FROM sample
    WHERE shared_experiment_id = :id AND position < :end"""
_RECORDS = """
    SELECT r.position, r.id FROM source_record r JOIN source_split p ON p.id = r.source_split_id
    JOIN shared_experiment e ON e.source_dataset_id = p.source_dataset_id WHERE e.id = :id AND r.position < :end"""


@dataclass
class Progress:
    """How far a run is, for a display to read when it likes; ``before``: records that earlier runs had done."""

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


@dataclass
class Run:
    """One run of the engine over the records that are missing."""

    workspace: Workspace
    database: Database
    job: Job
    claimed: Claimed
    plan: Plan
    display: Display
    ending: ClassVar[str] = "complete"
    makes_data: ClassVar[bool] = True
    """Whether its end is the experiment's."""

    def __post_init__(self) -> None:
        self.models = self._models()
        self.prices = [price_of(model) for model in self.models]
        self.progress = Progress(total=self._end())
        self.budget = self._budget()
        self.endpoints: list[Endpoint] = []
        self.records: dict[int, int] = {}
        self.rephrased: dict[int, Row] = {}

    async def drive(self) -> str:
        """The status of the run: its ``ending``, or partial where records failed. Raises what stopped it."""
        with reading(self.workspace, snapshot=False) as reader:
            pending = self._pending(reader)
            self.endpoints = connect(self.models, self.workspace.environ, ledger.learned_limits(self.database))
            prices = {
                (model.endpoint, model.model): price for model, price in zip(self.models, self.prices, strict=True)
            }
            run_ledger = RunLedger(self.database, reader, self.claimed.run_id)
            engine = Engine(
                run_ledger,
                price=lambda request, answer: _cost(prices[request.endpoint, request.model], answer),
                budget=self.budget,
                save=run_ledger.save,
            )
            self.progress.counters = engine.counters
            try:
                async with engine, self._accompanied(engine, run_ledger):
                    window = max(64, 2 * sum(model.concurrency for model in self.models))
                    await engine.run(lambda position: self._record(engine, position), pending, window=window)
            finally:
                for chat in dict.fromkeys(endpoint.chat for endpoint in self.endpoints):
                    await chat.aclose()
        self._raise_if_stopped("taken over" if run_ledger.taken_over else engine.stopped_because)
        return "partial" if self.progress.statuses["failed"] else self.ending

    def totals(self) -> Totals:
        counters = self.progress.counters
        p50, p95, p99 = percentiles(list(counters.latencies), (0.50, 0.95, 0.99))
        prices = {
            model.model: price.to_json()
            for model, price in zip(self.models, self.prices, strict=True)
            if price is not None
        }
        limits = {
            (endpoint.name, model.api_key_env or ""): limit
            for model, endpoint in zip(self.models, self.endpoints, strict=False)
            # One at a time is no limit to remember: a single request that is refused for ever leads there.
            if (limit := endpoint.learned_limit or 0) > 1
        }
        return Totals(
            n_calls=counters.sent, n_cached=counters.cached, n_retried=counters.retried,
            n_rate_limited=counters.rate_limited, latency_p50_s=p50, latency_p95_s=p95, latency_p99_s=p99,
            price_list=store.to_json(prices) if prices else None, limits=limits,
            at_risk_usd=None if self.budget is None else self.budget.at_risk,
        )  # fmt: skip

    def _models(self) -> list[ModelSpec]:
        return models_of(self.plan.config)

    def _end(self) -> int:
        """How many records this run is about, from the first one on."""
        return self.plan.n_records

    def _is_done(self, sample: Row) -> bool:
        return sample["status"] not in {"failed", "undecided"}

    def _pending(self, reader: Reader) -> list[int]:
        experiment, end = self.claimed.experiment_id, self._end()
        samples = reader.rows(_SAMPLES, id=experiment, end=end)
        # What people have read, or are reading, is what the judge is asked about.
        self.rephrased = {row["position"]: row for row in samples if row["rephrased"] is not None}
        done = {row["position"]: row["status"] for row in samples if self._is_done(row)}
        for status in done.values():
            self.progress.count(status)
        self.progress.before = self.progress.done
        self.records = {row["position"]: row["id"] for row in reader.rows(_RECORDS, id=experiment, end=end)}
        return [position for position in range(end) if position not in done]

    def _budget(self) -> BatchBudget | None:
        cap = self.job.options.max_cost
        if cap is None:
            return None
        claimed = self.claimed
        return BatchBudget(
            lambda total: ledger.reserve(self.database, claimed.run_id, claimed.batch_id, total_usd=total, cap_usd=cap)
        )

    async def _record(self, engine: Engine, position: int) -> None:
        """One record: rephrased, judged as soon as that is there, and written down."""
        plan = self.plan
        sample: dict[str, Any] = {
            "shared_experiment_id": self.claimed.experiment_id, "position": position,
            "source_record_id": self.records[position], "original": plan.original(position), "rephrased": None,
            "verdict": None, "decided_by": None, "error": None, "rephrase_request_key": None, "judge_request_key": None,
        }  # fmt: skip
        try:
            sample |= await self._rephrase(engine, position)
            sample |= await self._judge(engine, position, sample["rephrased"])
        except TemplateError as error:
            # A judge's prompt that reckons with the rephrased text can fail for one answer.
            sample |= {"status": "failed", "error": str(error)}
        except Failed as error:
            failing = "judge_request_key" if sample["rephrase_request_key"] else "rephrase_request_key"
            sample |= {"status": "failed", "error": str(error), failing: error.key}
        sample["updated_at"] = clock.to_text(clock.now())
        engine.record(sample)
        self.progress.count(sample["status"])

    async def _rephrase(self, engine: Engine, position: int) -> Row:
        known = self.rephrased.get(position)
        if known is not None:
            return {name: known[name] for name in ("rephrased", "rephrase_request_key")}
        reply = await engine.ask(self.endpoints[0], self.plan.rephrase_request(position))
        return {"rephrased": clean(reply.text, self.plan.original(position)), "rephrase_request_key": reply.key}

    async def _judge(self, engine: Engine, position: int, rephrased: str) -> Row:
        if self.plan.judge is None:
            return {"status": "accepted"}
        verdict, judged = await self._verdict(engine, position, rephrased)
        status = "accepted" if verdict is Verdict.SAME else "rejected"
        return {"status": status, "verdict": verdict.value, "decided_by": "judge", "judge_request_key": judged.key}

    async def _verdict(self, engine: Engine, position: int, rephrased: str) -> tuple[Verdict, Reply]:
        """The judge's verdict; an answer that says neither is asked for once more, then it is unclear."""
        for again in (False, True):
            request = self.plan.judge_request(position, rephrased, again=again)
            reply = await engine.ask(self.endpoints[-1], request)
            verdict = read_verdict(reply.text)
            if verdict is not Verdict.UNCLEAR:
                break
        return verdict, reply

    @contextlib.asynccontextmanager
    async def _accompanied(self, engine: Engine, run_ledger: RunLedger) -> AsyncIterator[None]:
        """Display, heartbeat and signals while the engine runs."""
        loop = asyncio.get_running_loop()
        tasks = [asyncio.create_task(self._tick(engine, run_ledger)), asyncio.create_task(self._heartbeat())]
        caught = []
        for number in (signal.SIGINT, signal.SIGTERM):
            # Outside the main thread (a notebook's helper, a test) signals are somebody else's.
            with contextlib.suppress(RuntimeError, ValueError):
                loop.add_signal_handler(number, self._interrupt, engine, number)
                caught.append(number)
        try:
            yield
        finally:
            for number in caught:
                loop.remove_signal_handler(number)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.display(self.progress)

    def _interrupt(self, engine: Engine, number: signal.Signals) -> None:
        engine.stop("interrupted")
        self.progress.interrupted = True
        # A second one means it: Python's own handling is back.
        asyncio.get_running_loop().remove_signal_handler(number)

    async def _tick(self, engine: Engine, run_ledger: RunLedger) -> None:
        while True:
            self.display(self.progress)
            if run_ledger.taken_over:
                engine.stop("taken over")
            await asyncio.sleep(_TICK_S)

    async def _heartbeat(self) -> None:
        while True:
            await asyncio.sleep(store.HEARTBEAT_S)
            with contextlib.suppress(Error):
                await asyncio.to_thread(store.heartbeat, self.database, self.claimed)

    def _raise_if_stopped(self, reason: str | None) -> None:
        left = self.progress.total - self.progress.done
        hint = f"The same command makes the missing {left} of {self.progress.total} records; nothing is paid twice."
        if reason == "interrupted":
            raise Interrupted(f"Interrupted after {self.progress.done} of {self.progress.total} records.", hint=hint)
        if reason == "taken over":
            raise taken_over()
        if reason == "budget":
            cap = self.job.options.max_cost
            raise BudgetReached(
                f"The next request could take batch {self.job.batch} above ${cap:,.4f}; this run has spent "
                f"${self.progress.counters.cost_usd or 0:,.4f}.",
                hint=f"{hint} Raise --max-cost.",
            )


@dataclass
class Rephrasing(Run):
    """Rephrases the first ``end`` records; what is there then waits for people, or for the judge they test."""

    end: int = 0
    ending: ClassVar[str] = "waiting"
    makes_data: ClassVar[bool] = False

    def _models(self) -> list[ModelSpec]:
        return [self.plan.config.generation]

    def _end(self) -> int:
        return self.end

    def _is_done(self, sample: Row) -> bool:
        return bool(sample["status"] != "failed")

    async def _judge(self, engine: Engine, position: int, rephrased: str) -> Row:
        del engine, position, rephrased
        return {"status": "undecided"}


@dataclass
class JudgeTest(Run):
    """Asks the judge about samples whose verdict people gave; ``verdicts`` has (verdict, request key) by position."""

    samples: Mapping[int, Row] = field(default_factory=dict)
    verdicts: dict[int, tuple[Verdict, str]] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)
    makes_data: ClassVar[bool] = False

    def _models(self) -> list[ModelSpec]:
        return models_of(self.plan.config)[1:]

    def _end(self) -> int:
        return len(self.samples)

    def _pending(self, reader: Reader) -> list[int]:
        del reader
        return list(self.samples)

    async def _record(self, engine: Engine, position: int) -> None:
        try:
            verdict, reply = await self._verdict(engine, position, self.samples[position]["rephrased"])
        except (TemplateError, Failed) as error:
            self.errors[position] = str(error)
            self.progress.count("failed")
            return
        self.verdicts[position] = verdict, reply.key
        self.progress.count("tested")


def taken_over() -> Conflict:
    """The error of a run that another process has taken over."""
    return Conflict(
        "Another process has taken this experiment over, because this one had not been heard of for "
        f"{clock.LEASE_TIMEOUT_S:.0f} s.",
        hint="What was answered here is kept. Run the same command with --wait to share the data.",
    )


def percentiles(values: list[float], shares: tuple[float, ...]) -> list[float | None]:
    """The nearest-rank percentiles of ``values``, None where there are no values."""
    ordered = sorted(values)
    if not ordered:
        return [None for _ in shares]
    return [ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))] for share in shares]


def _cost(price: Price | None, answer: Answer) -> float | None:
    return None if price is None else price.cost(answer.prompt_tokens, answer.completion_tokens)
