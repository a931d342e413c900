"""Generation runs in the record: who makes an experiment, whose it is by now, and how a run ended.

No transaction in here waits for anything but the database: everything a row needs is known before it begins.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, and_, func, select, update

from tracker import clock
from tracker.clock import Process, is_gone
from tracker.fingerprint import SCHEME, Identity
from tracker.paths import Workspace
from tracker.record.columns import check_digest
from tracker.record.database import Database
from tracker.record.lease import NO_LEASE, Busy, date_back, end_dead_leases, held_by, holder, lease
from tracker.record.ledger import (
    ATTEMPT,
    EXPERIMENT,
    HOLDS_NO_LEASE,
    LAST_SEEN,
    RESERVATION,
    RUN,
    SAMPLE,
    died,
    end_reservation,
    is_running,
    save_limits,
    spending,
)
from tracker.record.names import free_name
from tracker.schema import table

Row = Mapping[str, Any]

BATCH, MEMBERSHIP = table("batch"), table("batch_membership")
OUTBOX = table("mlflow_outbox")


@dataclass(frozen=True)
class Wanted:
    """What a run asks for: an experiment by its identity, in a batch.

    ``columns`` are values of shared_experiment's columns, ``run`` those of generation_run's.
    """

    identity: Identity
    dataset: str
    semantic_name: str
    source_dataset_id: int
    batch: str
    purpose: str
    description: str
    columns: Row
    run: Row
    accept_partial: bool = False


@dataclass(frozen=True)
class Claimed:
    """The experiment is there (outcome reused) or is this process's to make or resume.

    ``partial``: its data, with failures that were accepted, is there to be had while they are tried again.
    """

    outcome: str
    experiment_id: int
    name: str
    run_id: int
    run_uuid: str
    batch_id: int
    original_batch: str
    partial: bool = False


@dataclass
class Totals:
    """What a run has done, as it is stored at its end; names are generation_run's columns."""

    n_calls: int = 0
    n_cached: int = 0
    n_retried: int = 0
    n_rate_limited: int = 0
    latency_p50_s: float | None = None
    latency_p95_s: float | None = None
    latency_p99_s: float | None = None
    price_list: str | None = None
    at_risk_usd: float | None = None
    limits: Mapping[tuple[str, str], int] = field(default_factory=dict)


def claim(database: Database, wanted: Wanted, process: Process) -> Claimed | Busy:
    """One transaction decides: made by me, already there, being made by somebody, or left unfinished and now mine.

    Raises Corrupt where the fingerprint stands for other settings.
    """
    with database.writing() as connection:
        found = _find_experiment(connection, wanted.identity)
        ready = found is not None and is_ready(found, accept_partial=wanted.accept_partial)
        busy = None if found is None or ready else holder(found, process)
        if found is not None and busy is not None:
            date_back(connection, EXPERIMENT.c.lease_heartbeat, found["id"], found["lease_heartbeat"])
            return busy
        _end_dead_runs(database, connection, None if found is None or ready else int(found["id"]))
        about = {"purpose": wanted.purpose, "description": wanted.description}
        batch_id = _batch(database, connection, {"name": wanted.batch, **about})
        if found is None:
            experiment_id, name = _new_experiment(connection, wanted, batch_id, process)
            outcome, original = "made", wanted.batch
        else:
            experiment_id, name = int(found["id"]), str(found["name"])
            original = connection.execute(
                select(BATCH.c.name).where(BATCH.c.id == found["original_batch_id"])
            ).scalar_one()
            outcome = "reused" if ready else "resumed"
            if outcome == "resumed":
                _take_lease(connection, experiment_id, process)
            elif found["directory"] not in {None, _own_place(database.workspace, found)}:
                # The view takes over what is used here, so that every batch of this workspace can link to it.
                here = update(EXPERIMENT).where(EXPERIMENT.c.id == experiment_id)
                connection.execute(here.values(directory=None))
        reused = outcome == "reused" or original != wanted.batch
        _join(database, connection, batch_id, experiment_id, reused=reused)
        row = {**wanted.run, **about}
        run_id, run_uuid = _new_run(
            connection, row, process, outcome=outcome, experiment_id=experiment_id, batch_id=batch_id
        )
    partial = found is not None and found["status"] == "partial"
    return Claimed(outcome, experiment_id, name, run_id, run_uuid, batch_id, str(original), partial)


def _own_place(workspace: Workspace, experiment: Row) -> str:
    """Where the view has an experiment: what was imported there is linked to as it is."""
    return workspace.relative(workspace.experiment_dir(experiment["dataset"], experiment["name"]))


def begin_test(database: Database, experiment_id: int, batch: str, run: Row, process: Process) -> Claimed | Busy:
    """A run that tests a judge: it takes no lease and changes no data.

    Busy: somebody else is asking just this judge (``run["judge_key"]``), and will have paid for its answers.
    """
    with database.writing() as connection:
        _end_dead_runs(database, connection, None)
        tests = and_(RUN.c.shared_experiment_id == experiment_id, RUN.c.outcome == "tested", RUN.c.status == "running")
        for asking in connection.execute(select(RUN).where(tests, RUN.c.judge_key == run["judge_key"])).mappings():
            holder = Process(asking["host"], asking["pid"], asking["pid_started"])
            if not holder.is_same(process):
                date_back(connection, RUN.c.heartbeat, asking["id"], asking["heartbeat"])
                return Busy(holder, asking["started_at"])
        experiment = connection.execute(select(EXPERIMENT).where(EXPERIMENT.c.id == experiment_id)).mappings().one()
        about = {"purpose": experiment["purpose"], "description": experiment["description"]}
        batch_id = _batch(database, connection, {"name": batch, **about})
        original = connection.execute(
            select(BATCH.c.name).where(BATCH.c.id == experiment["original_batch_id"])
        ).scalar_one()
        _join(database, connection, batch_id, experiment_id, reused=original != batch)
        run_id, run_uuid = _new_run(
            connection, {**run, **about}, process, outcome="tested", experiment_id=experiment_id, batch_id=batch_id
        )
    return Claimed("tested", experiment_id, str(experiment["name"]), run_id, run_uuid, batch_id, str(original))


def is_ready(experiment: Any, *, accept_partial: bool) -> bool:
    """Whether its data can be had as it is; without a digest it is being changed, or that was not brought to an end."""
    partial = experiment["status"] == "partial" and accept_partial and experiment["data_digest"] is not None
    return experiment["status"] == "complete" or partial


def _find_experiment(connection: Connection, identity: Identity) -> Row | None:
    found = (
        connection.execute(select(EXPERIMENT).where(EXPERIMENT.c.fingerprint == identity.fingerprint))
        .mappings()
        .first()
    )
    if found is None:
        return None
    check_digest(identity, found["digest"], f"{found['dataset']}/{found['name']}")
    return dict(found)


def heartbeat(database: Database, claimed: Claimed) -> bool:
    """Says that this process lives: on the experiment, of a judge test on its run. False: the lease is another's."""
    if claimed.outcome == "tested":
        beat = update(RUN).where(RUN.c.id == claimed.run_id).values(heartbeat=_now())
    else:
        mine = held_by(EXPERIMENT, clock.this_process())
        beat = update(EXPERIMENT).where(EXPERIMENT.c.id == claimed.experiment_id, mine).values(lease_heartbeat=_now())
    with database.writing() as connection:
        return bool(connection.execute(beat).rowcount)


def finish(
    database: Database,
    claimed: Claimed,
    totals: Totals,
    *,
    status: str,
    error: str | None = None,
    data_digest: str | None = None,
) -> dict[str, Any]:
    """Ends a run: counts, tokens, cost, status, lease and outbox in one transaction; gives the run's row.

    ``status`` is complete, partial, waiting, interrupted or failed; with ``data_digest`` the experiment becomes
    complete, or partial where records failed. A run that another process took over ends as interrupted and leaves the
    experiment to that one.
    """
    now = _now()
    with database.writing() as connection:
        taken_over = not is_running(connection, claimed.run_id)
        status = "interrupted" if taken_over else status
        # A judge test makes no samples; those that are there are not its own.
        counts = {} if claimed.outcome == "tested" else _sample_counts(connection, claimed.experiment_id)
        spent = spending(connection, ATTEMPT.c.generation_run_id == claimed.run_id)
        started = connection.execute(select(RUN.c.started_at).where(RUN.c.id == claimed.run_id)).scalar_one()
        # The clock may have been set back meanwhile.
        ended = max(now, started)
        values = {
            **{name: value for name, value in vars(totals).items() if name != "limits"},
            **counts, **spent, "status": status, "error": error, "finished_at": ended,
            "duration_s": clock.seconds_between(started, ended),
        }  # fmt: skip
        connection.execute(update(RUN).where(RUN.c.id == claimed.run_id).values(**values))
        if claimed.outcome not in HOLDS_NO_LEASE and not taken_over:
            _end_experiment(connection, claimed, counts, ended, data_digest)
        elif claimed.outcome == "tested":
            _count_test(connection, claimed.experiment_id)
        connection.execute(RESERVATION.delete().where(RESERVATION.c.generation_run_id == claimed.run_id))
        save_limits(database, connection, totals.limits, now)
        database.insert_new(
            connection, OUTBOX, [{"kind": "generation_run", "generation_run_id": claimed.run_id, "created_at": now}]
        )
        row = connection.execute(select(RUN).where(RUN.c.id == claimed.run_id)).mappings().one()
    return dict(row)


def _batch(database: Database, connection: Connection, batch: Row) -> int:
    found = connection.execute(select(BATCH.c.id).where(BATCH.c.name == batch["name"])).scalar()
    if found is None:
        database.insert_new(connection, BATCH, [{**batch, "created_at": _now()}])
        found = connection.execute(select(BATCH.c.id).where(BATCH.c.name == batch["name"])).scalar_one()
    connection.execute(
        update(BATCH).where(BATCH.c.id == found, BATCH.c.deleted_at.is_not(None)).values(deleted_at=None)
    )
    return int(found)


def _join(database: Database, connection: Connection, batch_id: int, experiment_id: int, *, reused: bool) -> None:
    row = {"batch_id": batch_id, "shared_experiment_id": experiment_id, "created_at": _now(), "reused": reused}
    database.insert_new(connection, MEMBERSHIP, [row])


def _new_experiment(connection: Connection, wanted: Wanted, batch_id: int, process: Process) -> tuple[int, str]:
    name = free_name(connection, wanted.dataset, wanted.semantic_name)
    now = _now()
    identity = wanted.identity
    experiment_id = connection.execute(
        EXPERIMENT.insert()
        .values(
            fingerprint=identity.fingerprint, digest=identity.digest, scheme=SCHEME, identity=identity.canonical,
            dataset=wanted.dataset, name=name, semantic_name=wanted.semantic_name,
            source_dataset_id=wanted.source_dataset_id, status="unfinished", purpose=wanted.purpose,
            description=wanted.description, original_batch_id=batch_id, created_at=now,
            **lease(process, now), **wanted.columns,
        )
        .returning(EXPERIMENT.c.id)
    ).scalar_one()  # fmt: skip
    return int(experiment_id), name


def _new_run(
    connection: Connection, row: Row, process: Process, *, outcome: str, experiment_id: int, batch_id: int
) -> tuple[int, str]:
    run_uuid = uuid.uuid4().hex
    run_id = connection.execute(
        RUN.insert()
        .values(
            uuid=run_uuid, shared_experiment_id=experiment_id, batch_id=batch_id, outcome=outcome, status="running",
            started_at=_now(), host=process.host, pid=process.pid, pid_started=process.started, **row,
        )
        .returning(RUN.c.id)
    ).scalar_one()  # fmt: skip
    return int(run_id), run_uuid


def _take_lease(connection: Connection, experiment_id: int, process: Process) -> None:
    # Until the run ends, the data of a partial experiment is what its samples give, and no longer what was recorded.
    values = {**lease(process, _now()), "data_digest": None}
    connection.execute(update(EXPERIMENT).where(EXPERIMENT.c.id == experiment_id).values(**values))


def end_dead_runs(database: Database) -> int:
    """Ends the runs whose process is gone, as a claim does, and the leases that such processes held; how many runs."""
    with database.writing() as connection:
        ended = _end_dead_runs(database, connection, None)
        end_dead_leases(connection, EXPERIMENT)
        return ended


def _end_dead_runs(database: Database, connection: Connection, taken: int | None) -> int:
    """Writes down what runs paid whose process is gone, and those of an experiment that is taken over; how many."""
    running = (
        select(
            RUN.c.id, RUN.c.shared_experiment_id, RUN.c.outcome, RUN.c.host, RUN.c.pid, RUN.c.pid_started,
            LAST_SEEN.label("last_seen"),
        )
        .join(EXPERIMENT, EXPERIMENT.c.id == RUN.c.shared_experiment_id)
        .where(RUN.c.status == "running")
    )  # fmt: skip
    now, ended = _now(), 0
    for run in connection.execute(running).all():
        is_taken = run.shared_experiment_id == taken and run.outcome not in HOLDS_NO_LEASE
        if not is_taken and not is_gone(Process(run.host, run.pid, run.pid_started), run.last_seen):
            continue
        mine = ATTEMPT.c.generation_run_id == run.id
        values = died(connection, mine, now)
        connection.execute(update(RUN).where(RUN.c.id == run.id).values(**values))
        end_reservation(connection, run.id)
        database.insert_new(
            connection, OUTBOX, [{"kind": "generation_run", "generation_run_id": run.id, "created_at": now}]
        )
        ended += 1
    return ended


def _end_experiment(
    connection: Connection, claimed: Claimed, counts: dict[str, int], now: str, data_digest: str | None
) -> None:
    values: dict[str, Any] = {**counts, **_spent_on(connection, claimed.experiment_id), **NO_LEASE}
    values.pop("n_records")
    if data_digest is not None:
        status = "partial" if counts["n_failed"] else "complete"
        values |= {"status": status, "completed_at": now, "data_digest": data_digest}
    connection.execute(update(EXPERIMENT).where(EXPERIMENT.c.id == claimed.experiment_id).values(**values))


def _count_test(connection: Connection, experiment_id: int) -> None:
    # What is finished stays as its metadata file has it.
    unfinished = and_(EXPERIMENT.c.id == experiment_id, EXPERIMENT.c.status == "unfinished")
    connection.execute(update(EXPERIMENT).where(unfinished).values(**_spent_on(connection, experiment_id)))


def _spent_on(connection: Connection, experiment_id: int) -> dict[str, Any]:
    """Tokens and cost of all runs of an experiment, its judge's tests among them."""
    runs = select(RUN.c.id).where(RUN.c.shared_experiment_id == experiment_id)
    spent = spending(connection, ATTEMPT.c.generation_run_id.in_(runs))
    spent.pop("tokens_estimated")
    return spent


def count_anew(database: Database, experiment_id: int) -> None:
    """Sets the counts of an experiment to those of its samples, where these are all there."""
    with database.writing() as connection:
        counts = _sample_counts(connection, experiment_id)
        own = (EXPERIMENT.c.id == experiment_id, EXPERIMENT.c.n_records == counts.pop("n_records"))
        connection.execute(update(EXPERIMENT).where(*own).values(**counts))


def _sample_counts(connection: Connection, experiment_id: int) -> dict[str, int]:
    here = SAMPLE.c.shared_experiment_id == experiment_id
    by_status: dict[str, int] = dict(
        connection.execute(select(SAMPLE.c.status, func.count()).where(here).group_by(SAMPLE.c.status)).all()
    )
    unclear = connection.execute(
        select(func.count()).select_from(SAMPLE).where(here, SAMPLE.c.verdict == "unclear")
    ).scalar_one()
    return {
        "n_records": sum(by_status.values()),
        "n_accepted": by_status.get("accepted", 0),
        "n_rejected": by_status.get("rejected", 0),
        "n_failed": by_status.get("failed", 0),
        "n_unclear": unclear,
    }


def _now() -> str:
    return clock.to_text(clock.now())
