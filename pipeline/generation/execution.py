"""One run on an experiment, from the claim to its end, whatever happens in between."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pipeline.engine.asking import taken_over
from pipeline.engine.connect import api_key
from pipeline.engine.prices import price_of
from pipeline.generation.identity import recorded_config, recorded_settings
from pipeline.generation.job import Job
from pipeline.generation.plan import Plan
from pipeline.generation.run import Run
from pipeline.sources.records import Source
from pipeline.specs import ModelSpec, ValidationSpec
from pipeline.versions import versions
from tracker import clock
from tracker.errors import BudgetReached, ConfigError, Conflict, Error, Interrupted, Problem
from tracker.fingerprint import bytes_digest
from tracker.paths import Workspace
from tracker.record import generation, sources
from tracker.record.catalogue import Row, reading
from tracker.record.columns import to_json
from tracker.record.content import synthetic_data
from tracker.record.database import Database
from tracker.record.generation import Claimed, Wanted
from tracker.record.lease import Busy

ClaimedT = TypeVar("ClaimedT")

POLL_S = 1.0
"""Seconds between two looks whether what another process makes is there."""


def check_models(
    workspace: Workspace, models: list[ModelSpec], where: str, *, capped: bool, price_key: str | None = None
) -> None:
    """What can be known to fail before a row is written; ``where`` is their config, ``capped``: under --max-cost.

    Raises MissingKey, and ConfigError for unknown prices.
    """
    for model in models:
        api_key(model, workspace.environ)
        if capped and price_of(model) is None:
            key = price_key or _price_key(model)
            raise ConfigError(
                "--max-cost needs known prices.",
                [Problem(where, f"no price is known for {model.model} at {model.endpoint}")],
                hint=f"Give them in the config: {key}: {{input_per_mtok: ..., output_per_mtok: ...}}",
            )


def _price_key(model: ModelSpec) -> str:
    return f"{'validation' if isinstance(model, ValidationSpec) else 'generation'}.price"


def check_job(workspace: Workspace, job: Job, models: list[ModelSpec]) -> None:
    """The same for the models of a job."""
    check_models(workspace, models, job.path, capped=job.options.max_cost is not None)


def register(database: Database, source: Source) -> int:
    """The id of a source data set in the record, stored now if it is new."""
    splits = [
        {
            "split": split.name, "filename": split.filename, "digest": split.digest,
            "n_records": split.n_records, "n_bytes": split.n_bytes, "content": split.content,
        }
        for split in source.splits
    ]  # fmt: skip
    dataset = {
        "name": source.name, "task_name": source.task_name, "digest": source.digest, "origin": source.origin,
    }  # fmt: skip
    return sources.register_source(database, dataset, splits, source.lines)


def claim(
    database: Database, job: Job, source_id: int, tell: Callable[[str], None], step: str | None = None
) -> Claimed:
    """The experiment for this process, or found already made. Raises Conflict where another makes it (or waits)."""
    wanted, process = _wanted(database.workspace, job, source_id, step), clock.this_process()
    claimed = when_free(
        lambda: generation.claim(database, wanted, process),
        f"{job.plan.source.name}/{job.plan.semantic_name} ({job.plan.identity.fingerprint}) is being made",
        "Add --wait to wait for it and share its data, or run the same command later.",
        tell if job.options.wait else None,
    )
    if claimed.outcome == "made" and claimed.name != job.plan.semantic_name:
        taken = f"{job.plan.source.name}/{job.plan.semantic_name}"
        tell(f"{taken} is data with other settings; this is called {claimed.name}.")
    return claimed


def begin_test(database: Database, job: Job, experiment: Row, run: Row, tell: Callable[[str], None]) -> Claimed:
    """A run that tests a judge. Raises Conflict where another process asks the same judge now (or waits)."""
    return when_free(
        lambda: generation.begin_test(database, experiment["id"], job.batch, run, clock.this_process()),
        f"The judge of {experiment['dataset']}/{experiment['name']} is being tested",
        "Run the same command later: what was answered is not paid for twice.",
        tell if job.options.wait else None,
    )


def when_free(
    attempt: Callable[[], ClaimedT | Busy], what: str, hint: str, tell: Callable[[str], None] | None
) -> ClaimedT:
    """What ``attempt`` claims, once nobody else holds it. Raises Conflict at once where nobody is to be told."""
    told: Busy | None = None
    while True:
        found = attempt()
        if not isinstance(found, Busy):
            return found
        held = held_words(what, found)
        if tell is None:
            raise Conflict(held, hint=hint)
        if found != told:
            told = found
            tell(f"{held} Waiting for it.")
        time.sleep(POLL_S)


def held_words(what: str, found: Busy) -> str:
    """Who does ``what`` now, and since when."""
    by = "another task of this process" if found.process.is_same(clock.this_process()) else found.process
    return f"{what} now by {by} since {found.since[:19].replace('T', ' ')} UTC."


def run_row(workspace: Workspace, job: Job, step: str | None, n_records: int) -> Row:
    """The values of a run's columns that come from its job."""
    config = job.plan.config
    return {
        "command": job.options.command, "config_path": workspace.relative(Path(job.path)),
        "config": to_json(recorded_config(config)), "versions": to_json(versions()),
        "task_name": config.task_name, "training_method": config.training_method, "version": config.version,
        "n_records": n_records, "step": step,
    }  # fmt: skip


def make(run: Run, *, before: Callable[[], None] = lambda: None) -> Row:
    """Runs the engine over what is missing, and ends the run whatever happens; ``before`` is done first."""
    claimed, job = run.claimed, run.job
    try:
        before()
        status = asyncio.run(run.drive())
    except BaseException as error:
        status, what = ended_as(error)
        # Where even that cannot be written, the lease falls with this process.
        with contextlib.suppress(Error):
            _finish(run, status, seen=claimed.partial, error=what)
        raise
    row = _finish(run, status, seen=status == "complete" or is_seen(job, claimed))
    if row["status"] == "interrupted":
        raise taken_over()
    return row


def ended_as(error: BaseException) -> tuple[str, str]:
    """The status of a run that ``error`` ended, and what is to be said of it."""
    stopped = isinstance(error, (KeyboardInterrupt, asyncio.CancelledError, Interrupted, BudgetReached))
    what = str(error) if isinstance(error, Error) else f"{type(error).__name__}: {error}"
    return "interrupted" if stopped else "failed", what


def is_seen(job: Job, claimed: Claimed) -> bool:
    """Whether the data is to be had although records failed: that is, or was, accepted."""
    return claimed.partial or job.options.accept_partial


def _wanted(workspace: Workspace, job: Job, source_id: int, step: str | None) -> Wanted:
    plan, config = job.plan, job.plan.config
    generation, judge = config.generation, config.validation
    return Wanted(
        identity=plan.identity,
        dataset=plan.source.name,
        semantic_name=plan.semantic_name,
        source_dataset_id=source_id,
        batch=job.batch,
        purpose=config.experiment.purpose,
        description=config.experiment.description,
        accept_partial=job.options.accept_partial,
        columns={
            "provider": generation.provider, "endpoint": generation.endpoint, "model": generation.model,
            "temperature": generation.temperature, "top_p": generation.top_p, "max_tokens": generation.max_tokens,
            "strategy": generation.strategy, "field_to_rephrase": generation.field_to_rephrase,
            "record_limit": plan.record_limit, "draw": plan.draw,
            "validation_model": judge and judge.model, "validation_temperature": judge and judge.temperature,
            "settings": to_json(recorded_settings(config)), "config": to_json(recorded_config(config)),
            "n_records": plan.n_records,
        },
        run=run_row(workspace, job, step, plan.n_records),
    )  # fmt: skip


def _finish(run: Run, status: str, *, seen: bool, error: str | None = None) -> Row:
    """Ends the run; ``seen``: what there is now is the experiment's data, to be had and trained on."""
    digest = _data_digest(run.workspace, run.plan, run.claimed.experiment_id) if seen and run.makes_data else None
    return generation.finish(run.database, run.claimed, run.totals(), status=status, error=error, data_digest=digest)


def _data_digest(workspace: Workspace, plan: Plan, experiment_id: int) -> str:
    with reading(workspace) as reader:
        samples = reader.rows(
            "SELECT status, rephrased FROM sample WHERE shared_experiment_id = :id ORDER BY position", id=experiment_id
        )
    rows = ({"line": line, **sample} for line, sample in zip(plan.source.lines, samples, strict=False))
    return bytes_digest([synthetic_data(rows, plan.field)])
