"""`perspectives` from a job to a finished agent data set: claim, run, file."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.asking import Display, taken_over
from pipeline.execution import check_models, ended_as, register, versions, when_free
from pipeline.job import has_record
from pipeline.perspectives.job import IN_MEMORY, Job, existing
from pipeline.perspectives.preview import estimate
from pipeline.perspectives.results import results
from pipeline.perspectives.run import Run
from pipeline.perspectives.specs import recorded_config, recorded_settings
from tracker import agent_view, agents, clock, store
from tracker.agent_file import answers_digest
from tracker.agents import Claimed, Wanted
from tracker.catalogue import Reader, Row, reading
from tracker.database import Database, open_database
from tracker.errors import BudgetReached, Error, Interrupted
from tracker.paths import Workspace
from tracker.store import Totals
from tracker.view_plan import Changes

Tell = Callable[[str], None]
_PERSPECTIVES = "SELECT * FROM agent_perspective WHERE agent_dataset_id = :id ORDER BY position"
_ANSWERS = "SELECT * FROM agent_response_overview WHERE agent_dataset_id = :id ORDER BY position, perspective"
_FAILURE = """
    SELECT error FROM agent_response WHERE agent_dataset_id = :id AND status = 'failed'
    ORDER BY position, perspective LIMIT 1"""


@dataclass(frozen=True)
class Outcome:
    """What became of a run: made, resumed or reused; complete or partial.

    ``path`` is the file, None where responses are missing that nobody accepted as missing; ``run`` the run's row,
    ``dataset`` the data set's.
    """

    outcome: str
    status: str
    dataset: Row
    run: Row
    path: Path | None
    changes: Changes
    first_failure: str | None = None


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
        check_models(workspace, [job.plan.model], job.path, capped=job.options.max_cost is not None)
    with open_database(workspace) as database:
        claimed = await _claimed(database, job, tell)
        if claimed.outcome == "reused":
            status = "partial" if claimed.partial else "complete"
            run = agents.finish(database, claimed, Totals(), status=status)
        else:
            run = await _make(Run(workspace, database, job, claimed, display))
    return _outcome(workspace, claimed, run)


def _is_ready(workspace: Workspace, job: Job) -> bool:
    if not has_record(workspace):
        return False
    with reading(workspace) as reader:
        found = existing(reader, job.plan)
    return found is not None and store.is_ready(found, accept_partial=job.options.accept_partial)


async def _claimed(database: Database, job: Job, tell: Tell) -> Claimed:
    """The same as ``_claim``, in a thread: it may wait for another process, and the loop is not ours alone."""
    left = threading.Event()

    def pause(seconds: float) -> None:
        if left.wait(seconds):
            raise Interrupted("Interrupted while another process made it.")

    claiming = asyncio.ensure_future(asyncio.to_thread(_claim, database, job, tell, pause))
    try:
        return await asyncio.shield(claiming)
    except asyncio.CancelledError as error:
        # A thread cannot be cancelled: it is told to wait no longer, and what it has claimed by then is given back.
        left.set()
        with contextlib.suppress(Error):
            status, what = ended_as(error)
            agents.finish(database, await claiming, Totals(), status=status, error=what)
        raise


def _claim(database: Database, job: Job, tell: Tell, pause: Callable[[float], None]) -> Claimed:
    """The data set for this process, or found already made. Raises Conflict where another makes it (or waits)."""
    plan, process = job.plan, clock.this_process()
    wanted = _wanted(database, job, register(database, plan.source))
    return when_free(
        lambda: agents.claim(database, wanted, process),
        f"{plan.config.task_type} ({plan.identity.fingerprint}) is being made",
        "Add --wait to wait for it and share its data, or run the same command later.",
        tell if job.options.wait else None,
        pause,
    )


def _wanted(database: Database, job: Job, source_id: int) -> Wanted:
    plan, model = job.plan, job.plan.model
    config, tokens = store.to_json(recorded_config(plan.config)), estimate(plan)
    config_path = None if job.path == IN_MEMORY else database.workspace.relative(Path(job.path))
    return Wanted(
        identity=plan.identity,
        name=plan.name(clock.now()),
        columns={
            "task_type": plan.config.task_type, "task_description": plan.config.task_description,
            "source_dataset_id": source_id, "provider": model.provider, "endpoint": model.endpoint,
            "model": model.model, "temperature": model.temperature, "top_p": model.top_p,
            "max_tokens": model.max_tokens, "draw": plan.draw, "add_references": plan.config.add_references,
            "n_inputs": len(plan.inputs), "n_perspectives": len(plan.agents),
            "estimated_prompt_tokens": tokens.prompt_tokens,
            "estimated_completion_tokens": tokens.completion_tokens, "tokenizer": tokens.tokenizer,
            "settings": store.to_json(recorded_settings(plan.config)), "config": config,
        },
        run={
            "command": job.options.command, "config_path": config_path, "config": config,
            "versions": store.to_json(versions()),
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
    except BaseException as error:
        # Where even that cannot be written, the lease falls with this process.
        with contextlib.suppress(Error):
            _finish(run, *ended_as(error), seen=claimed.partial)
        raise
    row = _finish(run, status, None, seen=status == "complete" or claimed.partial or run.job.options.accept_partial)
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


def _finish(run: Run, status: str, error: str | None, *, seen: bool) -> Row:
    """Ends the run; ``seen``: what there is now is the data set, to be had as a file."""
    claimed, digest, found = run.claimed, None, {}
    if seen:
        with reading(run.workspace) as reader:
            perspectives = reader.rows(_PERSPECTIVES, id=claimed.dataset_id)
            answers = reader.rows(_ANSWERS, id=claimed.dataset_id)
        digest = answers_digest(answers)
        records = [json.loads(line) for line in run.job.plan.source.lines]
        found = results(perspectives, records, answers)
    return agents.finish(
        run.database, claimed, run.totals(), status=status, error=error, data_digest=digest, results=found
    )


def _outcome(workspace: Workspace, claimed: Claimed, run: Row) -> Outcome:
    with reading(workspace) as reader:
        changes = agent_view.refresh(workspace, reader, [claimed.dataset_id])
        dataset = _dataset(reader, claimed.dataset_id)
        failures = reader.rows(_FAILURE, id=claimed.dataset_id)
    finished = agent_view.is_finished(dataset)
    return Outcome(
        outcome=claimed.outcome,
        status=run["status"],
        dataset=dataset,
        run=run,
        path=workspace.data_dir / agent_view.path_of(dataset["name"]) if finished else None,
        changes=changes,
        first_failure=str(failures[0]["error"]) if failures else None,
    )


def _dataset(reader: Reader, dataset_id: int) -> Row:
    return reader.rows("SELECT * FROM agent_dataset_overview WHERE id = :id", id=dataset_id)[0]
