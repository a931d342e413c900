"""`pool validate`: a model answers a sample of each bin of a pool, and its answers are graded."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from pipeline.engine.asking import Asking, Display, Progress, taken_over
from pipeline.engine.connect import api_key
from pipeline.engine.engine import Engine, Failed
from pipeline.generation.execution import ended_as, when_free
from pipeline.pools import grading
from pipeline.pools import run_code as sandboxed
from pipeline.pools.code_answer import programs
from pipeline.pools.validation_plan import Plan, Sampled, columns, planned
from pipeline.specs import ModelSpec
from tracker import clock
from tracker.errors import BudgetReached, Error
from tracker.listings import validation_results
from tracker.listings.validation_results import Results
from tracker.paths import Workspace
from tracker.record import pool_validations
from tracker.record.catalogue import Reader, Row, reading
from tracker.record.database import Database, open_database
from tracker.record.ledger import Account
from tracker.record.pool_validations import VALIDATIONS, Claimed

Tell = Callable[[str], None]

_EXTRACTED = 500
_ROW = "SELECT * FROM pool_validation WHERE id = :id"
_ANSWERS = "SELECT * FROM pool_answer_overview WHERE pool_validation_id = :id ORDER BY benchmark, position"


@dataclass(frozen=True)
class Validation:
    """What a model made of a pool: the validation's row, results in all and by benchmark.

    ``outcome`` is made or reused, ``stopped`` what ended it at the budget; ``first_failure`` is what the first task
    without an answer got instead.
    """

    outcome: str
    row: Row
    overall: Results
    benchmarks: dict[str, Results]
    stopped: BudgetReached | None = None
    first_failure: str | None = None

    @property
    def status(self) -> str:
        """complete, or partial where tasks failed or the budget was reached."""
        return str(self.row["status"])


def validate(
    workspace: Workspace,
    pool_row: Row,
    model: ModelSpec,
    *,
    samples: int = 20,
    budget: float | None = None,
    run_code: bool = False,
    seed: int = 0,
    display: Display = lambda _: None,
    tell: Tell | None = None,
    command: str = "synthtrack pool validate",
) -> Validation:
    """Asks a resolved ``model`` about ``samples`` tasks of each bin of each benchmark of a pool; grades its answers.

    The sample of a seed is always the same, and a larger one begins with it. What was answered before is not asked
    again; ``budget`` (US dollars) caps all goes at the same validation together, and where it stops one, what was
    graded until then is there. Programs are asked for and run with ``run_code`` alone. ``tell`` gets a sentence where
    another process asks the same and is waited for; without it that raises Conflict. Raises MissingKey, ConfigError (no
    price under a budget), DataError (tasks that cannot be asked), Unsupported (programs cannot be confined here),
    Interrupted, ProviderError, StorageError; whatever was answered until then is kept.
    """
    api_key(model, workspace.environ)
    plan = planned(workspace, pool_row, model, samples, seed, code=run_code, budget=budget, command=command)
    with open_database(workspace) as database:
        claimed = when_free(
            lambda: pool_validations.claim(database, columns(plan), clock.this_process()),
            f"{model.model} is being asked about {pool_row['name']}",
            "Run the same command later: what was answered is not paid for twice.",
            tell,
        )
        stopped = None if claimed.outcome == "reused" else _make(_Run(workspace, database, plan, claimed, display))
    with reading(workspace) as reader:
        row, answers = reader.rows(_ROW, id=claimed.id)[0], reader.rows(_ANSWERS, id=claimed.id)
    if row["status"] == "interrupted":
        raise taken_over()
    return Validation(
        claimed.outcome, row, validation_results.results(answers), validation_results.by_benchmark(answers), stopped,
        next((answer["error"] for answer in answers if answer["status"] == "failed"), None),
    )  # fmt: skip


@dataclass
class _Run(Asking[Sampled]):
    """Asks about the whole sample; what the ledger has comes from there."""

    workspace: Workspace
    database: Database
    plan: Plan
    claimed: Claimed
    display: Display
    items: ClassVar[str] = "answers"
    account: ClassVar[Account] = VALIDATIONS

    def __post_init__(self) -> None:
        self.models = [self.plan.model]
        self.progress = Progress(total=len(self.plan.sample))
        self.budget = self._capped_budget()
        self.endpoints = []
        self._programs = asyncio.Semaphore(os.cpu_count() or 1)

    @property
    def run_id(self) -> int:
        return self.claimed.id

    @property
    def max_cost(self) -> float | None:
        return self.plan.budget

    @property
    def capped(self) -> str:
        return str(self.plan.pool["name"])

    def _pending(self, reader: Reader) -> list[Sampled]:
        del reader  # what was answered before is in the ledger, and is graded anew
        return list(self.plan.sample)

    async def _do(self, engine: Engine, item: Sampled) -> None:
        row: dict[str, Any] = {
            "pool_validation_id": self.claimed.id, "position": item.position, "status": "ungraded",
            "expected": grading.expected(item.benchmark, item.raw), "request_key": None, "extracted": None,
            "correct": None, "error": None,
        }  # fmt: skip
        if item.request is not None:
            try:
                reply = await engine.ask(self.endpoints[0], item.request)
            except Failed as error:
                row |= {"status": "failed", "error": str(error), "request_key": error.key}
            else:
                row |= {"status": "graded", "request_key": reply.key, **await self._graded(item, reply.text)}
        engine.record(row)
        self.progress.count(row["status"])

    async def _graded(self, item: Sampled, answer: str) -> dict[str, Any]:
        if item.benchmark != grading.CODE:
            found = grading.extracted(item.benchmark, answer, item.raw)
            correct = grading.is_correct(item.benchmark, answer, item.raw)
            return {"extracted": None if found is None else found[:_EXTRACTED], "correct": correct}
        raw = item.raw
        code = programs(answer, raw["prompt"], raw["entry_point"])
        async with self._programs:
            result = await asyncio.to_thread(sandboxed.run_code, code, raw["test"], raw["entry_point"])
        return {"extracted": result.what, "correct": result.passed}

    def _beat(self) -> bool:
        return pool_validations.heartbeat(self.database, self.claimed)

    def _reserve(self, total: float) -> bool:
        assert self.max_cost is not None
        return pool_validations.reserve(self.database, self.claimed, total_usd=total, cap_usd=self.max_cost)


def _make(run: _Run) -> BudgetReached | None:
    """Runs the engine over the sample, and ends the validation whatever happens; what stopped it at the budget."""
    stopped = None
    try:
        if run.max_cost is not None:
            _check_budget(run)
        try:
            status, what = asyncio.run(run.drive()), None
        except BudgetReached:
            stopped = _stopped(run)
            status, what = "partial", stopped.message
    except BaseException as error:
        # Where even that cannot be written, the validation ends for others with this process.
        with contextlib.suppress(Error):
            _finish(run, *ended_as(error))
        raise
    _finish(run, status, what)
    return stopped


def _check_budget(run: _Run) -> None:
    unpriced = pool_validations.unpriced_answers(run.database, run.claimed)
    if unpriced:
        raise BudgetReached(
            f"{unpriced:,} answers about {run.capped} were paid at a price that is not known: no cap can hold.",
            hint="Leave --budget out.",
        )


def _stopped(run: _Run) -> BudgetReached:
    done, total = run.progress.done, run.progress.total
    return BudgetReached(
        f"The next answer could take {run.capped} above ${run.max_cost:,.4f}: {done} of {total} tasks are done, for "
        f"${run.progress.counters.cost_usd or 0:,.4f} now.",
        hint="Nothing is paid twice: the same command with a larger --budget asks about the rest.",
    )


def _finish(run: _Run, status: str, error: str | None) -> None:
    with reading(run.workspace) as reader:
        answers = reader.rows(_ANSWERS, id=run.claimed.id)
    found = validation_results.results(answers)
    found_columns = {
        "n_graded": found.easy.n + found.hard.n, "n_failed": found.n_failed, "n_ungraded": found.n_ungraded,
        "easy_accuracy": found.easy.share, "hard_accuracy": found.hard.share, "accuracy_gap": found.gap,
        "rank_correlation": found.rank_correlation,
    }  # fmt: skip
    pool_validations.finish(run.database, run.claimed, run.totals(), found_columns, status=status, error=error)
