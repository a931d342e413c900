"""Stage 1: makes a synthetic data set, resumes it, or finds it already made."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.connect import api_key
from pipeline.job import Job, existing, has_record, models_of
from pipeline.plan import Plan
from pipeline.prices import Price, price_of
from pipeline.run import Display, Run, taken_over
from tracker import clock, spec, store, view
from tracker.catalogue import Row, reading
from tracker.content import synthetic_data
from tracker.database import Database, open_database
from tracker.errors import BudgetReached, ConfigError, Conflict, Error, Interrupted, Problem
from tracker.fingerprint import bytes_digest
from tracker.paths import Workspace
from tracker.store import Busy, Claimed, Totals, Wanted
from tracker.view_plan import Changes

_POLL_S = 1.0
_PACKAGES = ("synthtrack", "openai", "together", "mlflow", "sqlmodel", "datasets", "numpy")


@dataclass(frozen=True)
class Outcome:
    """What became of a run: made, resumed or reused; complete or partial."""

    outcome: str
    status: str
    dataset: str
    name: str
    fingerprint: str
    batch: str
    original_batch: str
    run: Row
    changes: Changes
    in_tree: bool
    first_failure: str | None = None


def generate(
    workspace: Workspace, job: Job, display: Display = lambda _: None, tell: Callable[[str], None] = lambda _: None
) -> Outcome:
    """Makes, resumes or reuses the experiment of ``job``, and brings its part of the tree up to date.

    ``tell`` gets a sentence when there is somebody to wait for. Where records still fail the status is partial, with
    the first of the failures; without ``accept_partial`` nothing of it is in the tree then. Raises Conflict where
    another process makes it (unless ``wait``), Interrupted, BudgetReached, ProviderError, StorageError; whatever was
    answered until then is kept.
    """
    prices = [price_of(model) for model in models_of(job.plan.config)]
    _check_before(workspace, job, prices)
    with open_database(workspace) as database:
        source_id = _register(database, job.plan)
        claimed = _claim(database, job, source_id, tell)
        if claimed.outcome == "reused":
            run = store.finish(database, claimed, Totals(), status="partial" if claimed.partial else "complete")
        else:
            run = _make(database, Run(workspace, database, job, claimed, prices, display))
        with reading(workspace) as reader:
            changes = view.refresh(workspace, reader, [claimed.experiment_id], deep=True)
    return Outcome(
        outcome=claimed.outcome, status=run["status"], dataset=job.plan.source.name, name=claimed.name,
        fingerprint=job.plan.identity.fingerprint, batch=job.batch, original_batch=claimed.original_batch,
        run=run, changes=changes, in_tree=run["status"] == "complete" or _is_seen(job, claimed),
        first_failure=_first_failure(workspace, claimed.experiment_id),
    )  # fmt: skip


def _check_before(workspace: Workspace, job: Job, prices: list[Price | None]) -> None:
    """What can be known to fail before a row is written: keys and prices that are missing."""
    if _is_complete(workspace, job):
        return
    for model, price in zip(models_of(job.plan.config), prices, strict=True):
        api_key(model, workspace.environ)
        if job.options.max_cost is not None and price is None:
            raise ConfigError(
                "--max-cost needs known prices.",
                [Problem(job.path, f"no price is known for {model.model} at {model.endpoint}")],
                hint="Give them in the config: price: {input_per_mtok: ..., output_per_mtok: ...}",
            )


def _is_complete(workspace: Workspace, job: Job) -> bool:
    if not has_record(workspace):
        return False
    with reading(workspace) as reader:
        found = existing(reader, job.plan)
    return found is not None and store.is_ready(found, accept_partial=job.options.accept_partial)


def _register(database: Database, plan: Plan) -> int:
    source = plan.source
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
    return store.register_source(database, dataset, splits, source.lines)


def _claim(database: Database, job: Job, source_id: int, tell: Callable[[str], None]) -> Claimed:
    wanted, process = _wanted(job, source_id), clock.this_process()
    told: Busy | None = None
    while True:
        found = store.claim(database, wanted, process)
        if isinstance(found, Claimed):
            return found
        made = (
            f"{job.plan.source.name}/{job.plan.semantic_name} ({job.plan.identity.fingerprint}) is being made now by "
            f"{found.process} since {found.since[:19].replace('T', ' ')} UTC."
        )
        if not job.options.wait:
            raise Conflict(made, hint="Add --wait to wait for it and share its data, or run the same command later.")
        if found != told:
            told = found
            tell(f"{made} Waiting for it.")
        time.sleep(_POLL_S)


def _wanted(job: Job, source_id: int) -> Wanted:
    plan, config = job.plan, job.plan.config
    generation, judge = config.generation, config.validation
    settings = spec.settings(config)
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
            "settings": store.to_json(settings), "config": store.to_json(spec.public(config)),
            "n_records": plan.n_records,
        },
        run={
            "command": job.options.command, "config_path": job.path, "config": store.to_json(spec.public(config)),
            "task_name": config.task_name, "training_method": config.training_method, "version": config.version,
            "versions": store.to_json(_versions()), "n_records": plan.n_records,
        },
    )  # fmt: skip


def _make(database: Database, run: Run) -> Row:
    """Runs the engine over what is missing, and ends the run whatever happens."""
    claimed = run.claimed
    try:
        status = asyncio.run(run.drive())
    except BaseException as error:
        what = str(error) if isinstance(error, Error) else f"{type(error).__name__}: {error}"
        stopped = isinstance(error, (KeyboardInterrupt, Interrupted, BudgetReached))
        # Where even that cannot be written, the lease falls with this process.
        with contextlib.suppress(Error):
            _finish(database, run, "interrupted" if stopped else "failed", seen=claimed.partial, error=what)
        raise
    row = _finish(database, run, status, seen=status == "complete" or _is_seen(run.job, claimed))
    if row["status"] == "interrupted":
        raise taken_over()
    return row


def _is_seen(job: Job, claimed: Claimed) -> bool:
    """Whether the data is to be had although records failed: that is, or was, accepted."""
    return claimed.partial or job.options.accept_partial


def _finish(database: Database, run: Run, status: str, *, seen: bool, error: str | None = None) -> Row:
    """Ends the run; ``seen``: what there is now is the experiment's data, to be had and trained on."""
    digest = _data_digest(run.workspace, run.plan, run.claimed.experiment_id) if seen else None
    return store.finish(database, run.claimed, run.totals(), status=status, error=error, data_digest=digest)


def _data_digest(workspace: Workspace, plan: Plan, experiment_id: int) -> str:
    with reading(workspace) as reader:
        samples = reader.rows(
            "SELECT status, rephrased FROM sample WHERE shared_experiment_id = :id ORDER BY position", id=experiment_id
        )
    rows = ({"line": line, **sample} for line, sample in zip(plan.source.lines, samples, strict=False))
    return bytes_digest([synthetic_data(rows, plan.field)])


def _first_failure(workspace: Workspace, experiment_id: int) -> str | None:
    with reading(workspace) as reader:
        rows = reader.rows(
            "SELECT error FROM sample WHERE shared_experiment_id = :id AND status = 'failed' ORDER BY position LIMIT 1",
            id=experiment_id,
        )
    return str(rows[0]["error"]) if rows else None


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found
