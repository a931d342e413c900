"""`perspectives` from a job to a finished agent data set: claim, run, file."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

from pipeline.engine.asking import Display, taken_over
from pipeline.generation.execution import POLL_S, check_models, ended_as, held_words, register
from pipeline.generation.job import has_record
from pipeline.perspectives.job import IN_MEMORY, Job, existing
from pipeline.perspectives.plan import Plan
from pipeline.perspectives.preview import Estimate, estimate
from pipeline.perspectives.run import Run, figures
from pipeline.perspectives.specs import recorded_config, recorded_settings
from pipeline.versions import versions
from tracker import clock
from tracker.clock import Process
from tracker.errors import BudgetReached, Conflict, Error
from tracker.listings import agent_listings
from tracker.paths import Workspace
from tracker.record import agents, generation
from tracker.record.agents import Claimed, Wanted
from tracker.record.catalogue import Reader, Row, reading
from tracker.record.columns import to_json
from tracker.record.database import Database, open_database
from tracker.record.generation import Totals
from tracker.record.lease import Busy
from tracker.views import agent_view
from tracker.views.plan import Changes

Tell = Callable[[str], None]
Found = TypeVar("Found")
Given = ParamSpec("Given")


_lock = threading.Lock()
_making: dict[tuple[str, str], str] = {}
"""What this process makes now (database, fingerprint), and since when."""


@dataclass(frozen=True)
class Outcome:
    """What became of a run: made, resumed or reused; complete or partial.

    ``path`` is the file, None where responses are missing that nobody accepted as missing; ``run`` the run's row,
    ``dataset`` the data set's. ``first_failure`` names input, counted from 1, and condition.
    """

    outcome: str
    status: str
    dataset: Row
    run: Row
    path: Path | None
    changes: Changes
    first_failure: str | None = None

    @property
    def still_failing(self) -> str:
        """How many responses fail, what the first failure is, and whether there is a file all the same."""
        n, of = self.run["n_failed"], self.dataset["n_inputs"] * self.dataset["n_perspectives"]
        stands = "" if self.path is None else " Its file stands, with null for what failed."
        fail = f"{n:,} of {of:,} responses still {'fails' if n == 1 else 'fail'}"
        return f"{self.dataset['name']}: {fail} (the first: {self.first_failure}).{stands}"


async def generate(
    workspace: Workspace, job: Job, display: Display = lambda _: None, tell: Tell = lambda _: None
) -> Outcome:
    """Makes, resumes or reuses the agent data set of ``job``, and writes its file.

    Runs in any event loop. ``tell`` gets a sentence when there is somebody to wait for. Where responses still fail the
    status is partial; without ``accept_partial`` there is no file then. Raises Conflict where another process makes it
    (unless ``wait``), MissingKey, Interrupted, BudgetReached, ProviderError, StorageError; whatever was answered until
    then is kept.
    """
    if not _is_ready(workspace, job):
        check_models(
            workspace,
            [job.plan.model],
            job.path,
            capped=job.options.max_cost is not None,
            price_key="model_config.price",
        )
    with open_database(workspace) as database:
        claimed = await _claimed(database, job, tell)
        if claimed.outcome == "reused":
            status = "partial" if claimed.partial else "complete"
            run, cancelled = await _to_its_end(agents.finish, database, claimed, Totals(), status=status)
            if cancelled is not None:
                raise cancelled
        else:
            try:
                run = await _make(Run(workspace, database, job, claimed, display))
            finally:
                _making.pop(_place(workspace, job.plan), None)
    return await asyncio.to_thread(_outcome, workspace, claimed, run)


def _is_ready(workspace: Workspace, job: Job) -> bool:
    if not has_record(workspace):
        return False
    with reading(workspace) as reader:
        found = existing(reader, job.plan)
    return found is not None and generation.is_ready(found, accept_partial=job.options.accept_partial)


async def _claimed(database: Database, job: Job, tell: Tell) -> Claimed:
    """The data set for this process, or found already made. Raises Conflict where another makes it (or waits)."""
    wanted = await asyncio.to_thread(_wanted, database, job)
    told: Busy | None = None
    while True:
        found = await _attempt(database, job.plan, wanted)
        if isinstance(found, Claimed):
            return found
        held = held_words(f"{job.plan.config.task_type} ({job.plan.identity.fingerprint}) is being made", found)
        if not job.options.wait:
            raise Conflict(held, hint=job.options.to_wait)
        if found != told:
            told = found
            tell(f"{held} Waiting for it.")
        # Whoever waits holds no thread: there are few, and those who make it need them.
        await asyncio.sleep(POLL_S)


async def _attempt(database: Database, plan: Plan, wanted: Wanted) -> Claimed | Busy:
    """One attempt at a claim, in a thread, for it may wait for the database. What is claimed too late is given back."""
    found, cancelled = await _to_its_end(_exclusive, database, plan, wanted, clock.this_process())
    if cancelled is None:
        return found
    if isinstance(found, Claimed):
        status, what = ended_as(cancelled)
        with contextlib.suppress(Error):
            agents.finish(database, found, Totals(), status=status, error=what)
        if found.outcome != "reused":
            _making.pop(_place(database.workspace, plan), None)
    raise cancelled


async def _to_its_end(
    function: Callable[Given, Found], *given: Given.args, **named: Given.kwargs
) -> tuple[Found, asyncio.CancelledError | None]:
    """What ``function`` gives in a thread, and who cancelled us meanwhile: a thread cannot be cancelled."""
    doing = asyncio.ensure_future(asyncio.to_thread(function, *given, **named))
    cancelled: asyncio.CancelledError | None = None
    while not doing.done():
        try:
            await asyncio.wait({doing})
        except asyncio.CancelledError as again:
            # What it writes is known in a moment, however impatient the caller.
            cancelled = again
    return doing.result(), cancelled


def _exclusive(database: Database, plan: Plan, wanted: Wanted, process: Process) -> Claimed | Busy:
    """The claim, against other tasks of this process too: a lease is the process's."""
    place = _place(database.workspace, plan)
    with _lock:
        if place in _making:
            return Busy(process, _making[place])
        found = agents.claim(database, wanted, process)
        if isinstance(found, Claimed) and found.outcome != "reused":
            _making[place] = clock.to_text(clock.now())
    return found


def _place(workspace: Workspace, plan: Plan) -> tuple[str, str]:
    return str(workspace.database_url or workspace.database.resolve()), plan.identity.fingerprint


def _wanted(database: Database, job: Job) -> Wanted:
    plan, model = job.plan, job.plan.model
    source_id = register(database, plan.source)
    with reading(database.workspace) as reader:
        is_new = existing(reader, plan) is None
    # An estimate may have to wait for a tokenizer, and what is there has its own.
    tokens = estimate(plan) if is_new else Estimate(0, 0, 0, "")
    config = to_json(recorded_config(plan.config))
    config_path = None if job.path == IN_MEMORY else database.workspace.relative(Path(job.path))
    return Wanted(
        identity=plan.identity,
        name=plan.name(clock.now()),
        columns={
            "task_type": plan.config.task_type, "task_description": plan.config.task_description,
            "source_dataset_id": source_id, "provider": model.provider, "endpoint": model.endpoint,
            "model": model.model, "temperature": model.temperature, "top_p": model.top_p,
            "max_tokens": model.max_tokens, "draw": plan.draw, "is_trial": job.options.test,
            "add_references": plan.config.add_references,
            "n_inputs": len(plan.inputs), "n_perspectives": len(plan.agents),
            "estimated_prompt_tokens": tokens.prompt_tokens,
            "estimated_completion_tokens": tokens.completion_tokens, "tokenizer": tokens.tokenizer,
            "settings": to_json(recorded_settings(plan.config)), "config": config,
        },
        run={
            "command": job.options.command, "config_path": config_path, "config": config,
            "versions": to_json(versions()),
        },
        perspectives=plan.perspectives,
        accept_partial=job.options.accept_partial,
    )  # fmt: skip


async def _make(run: Run) -> Row:
    """Runs the engine over what is missing, and ends the run whatever happens."""
    claimed = run.claimed
    try:
        if run.max_cost is not None:
            _check_cap(run)
        status = await run.drive()
        row, cancelled = await _to_its_end(_finish, run, status, None)
    except BaseException as error:
        # Where even that cannot be written, the lease falls with this process.
        with contextlib.suppress(Error):
            if claimed.partial:
                run.figures = figures(run)
            _finish(run, *ended_as(error))
        raise
    if cancelled is not None:
        raise cancelled
    if row["status"] == "interrupted":
        raise taken_over()
    return row


def _check_cap(run: Run) -> None:
    unpriced = agents.unpriced_answers(run.database, run.claimed)
    if unpriced:
        raise BudgetReached(
            f"{run.claimed.name} holds {unpriced:,} answers whose price is not known: no cap can hold for it.",
            hint="Leave --max-cost out.",
        )


def _finish(run: Run, status: str, error: str | None) -> Row:
    """Ends the run; where it has figures, what there is now is the data set, to be had as a file."""
    found = run.figures
    return agents.finish(
        run.database, run.claimed, run.totals(), status=status, error=error,
        data_digest=None if found is None else found.data_digest, results=None if found is None else found.results,
    )  # fmt: skip


def _outcome(workspace: Workspace, claimed: Claimed, run: Row) -> Outcome:
    with reading(workspace) as reader:
        changes = agent_view.refresh(workspace, reader, [claimed.dataset_id])
        dataset = _dataset(reader, claimed.dataset_id)
        failures = agent_listings.failures(reader, claimed.dataset_id, limit=1)
    finished = agent_view.is_finished(dataset)
    return Outcome(
        outcome=claimed.outcome,
        status=run["status"],
        dataset=dataset,
        run=run,
        path=workspace.data_dir / agent_view.path_of(dataset["name"]) if finished else None,
        changes=changes,
        first_failure=next(
            (f"input {each['number']}, {each['condition']}: {each['error']}" for each in failures), None
        ),
    )


def _dataset(reader: Reader, dataset_id: int) -> Row:
    return reader.rows("SELECT * FROM agent_dataset_overview WHERE id = :id", id=dataset_id)[0]
