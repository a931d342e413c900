"""Writes the record of stage 2: sweeps, training runs, what they measured, and how they ended.

A run is claimed by one process at a time. A process that is gone is noticed by its PID and start time, or by a
heartbeat that stopped; its run is `interrupted` then, and anybody's to resume.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Table, func, select, update

from tracker import clock
from tracker.clock import Process, is_gone
from tracker.errors import Conflict
from tracker.fingerprint import SCHEME, Identity
from tracker.record.columns import check_digest
from tracker.record.database import Database
from tracker.record.lease import Busy, date_back
from tracker.record.sweeps import RESUMABLE, holder_of, is_held
from tracker.schema import table

SWEEP, RUN, DATA = (table(name) for name in ("training_sweep", "training_run", "training_data"))
METRIC, PREDICTION, OUTBOX = (table(name) for name in ("training_metric", "prediction", "mlflow_outbox"))
PENDING, RUNNING, COMPLETE, FAILED = "pending", "running", "complete", "failed"
STOPPED, INTERRUPTED = "stopped", "interrupted"

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Point:
    """One training run to be: its identity, where it goes, and the columns of training_run and training_data."""

    identity: Identity
    directory: str
    columns: Row
    data: tuple[Row, ...]


@dataclass(frozen=True)
class Registered:
    """A sweep in the record and its runs, in the order of the grid."""

    id: int
    uuid: str
    run_ids: tuple[int, ...]


@dataclass
class Measured:
    """What a worker has found since it last said so: metrics as (name, step, value), columns of its run."""

    metrics: list[tuple[str, int, float]] = field(default_factory=list)
    columns: dict[str, Any] = field(default_factory=dict)


def register(
    database: Database, sweep: Row, points: Sequence[Point], process: Process | None, *, fresh: bool = False
) -> Registered:
    """Stores a sweep and a pending run for each point; a point that was trained before is a new attempt.

    Raises Corrupt where a fingerprint stands for other settings, and Conflict where another process trains the same
    sweep at this moment, unless ``fresh``.
    """
    now = _now()
    with database.writing() as connection:
        same = select(SWEEP).where(SWEEP.c.key == sweep["key"], SWEEP.c.status == RUNNING)
        for row in connection.execute(same).mappings().all():
            holder = holder_of(dict(row))
            other = holder is not None and (process is None or not holder.is_same(process))
            if other and not fresh and is_held(dict(row)):
                since = str(row["started_at"])[:19].replace("T", " ")
                raise Conflict(
                    f"The same is being trained by {holder}, since {since} UTC.",
                    hint="`synthtrack training status` shows how far it is; --fresh trains it another time.",
                )
        sweep_uuid = uuid.uuid4().hex
        sweep_id = connection.execute(
            SWEEP.insert()
            .values(
                uuid=sweep_uuid, status=RUNNING, started_at=now, heartbeat=now, n_points=len(points),
                **_process(process), **sweep,
            )
            .returning(SWEEP.c.id)
        ).scalar_one()  # fmt: skip
        ids = [_new_run(connection, sweep_id, position, point, now) for position, point in enumerate(points)]
    return Registered(int(sweep_id), sweep_uuid, tuple(ids))


def add_attempts(database: Database, sweep_id: int, points: Mapping[int, Point]) -> None:
    """Gives a sweep another run at each of these positions, whose last one failed. Raises as ``register`` does."""
    now = _now()
    with database.writing() as connection:
        for position, point in points.items():
            _new_run(connection, sweep_id, position, point, now)


def reconfigure(database: Database, sweep_id: int, configs: Mapping[str, str]) -> None:
    """Gives the runs of a sweep that are still to be trained these configs (JSON), by their fingerprints."""
    with database.writing() as connection:
        for fingerprint, config in configs.items():
            own = (RUN.c.training_sweep_id == sweep_id, RUN.c.fingerprint == fingerprint, RUN.c.status.in_(RESUMABLE))
            connection.execute(update(RUN).where(*own).values(config=config))


def _new_run(connection: Connection, sweep_id: int, position: int, point: Point, now: str) -> int:
    identity = point.identity
    earlier = connection.execute(
        select(RUN.c.digest, RUN.c.attempt, RUN.c.directory)
        .where(RUN.c.fingerprint == identity.fingerprint)
        .order_by(RUN.c.attempt.desc())
        .limit(1)
    ).first()
    if earlier is not None:
        check_digest(identity, earlier.digest, earlier.directory)
    run_id = connection.execute(
        RUN.insert()
        .values(
            uuid=uuid.uuid4().hex, training_sweep_id=sweep_id, position=position, status=PENDING, created_at=now,
            fingerprint=identity.fingerprint, digest=identity.digest, identity=identity.canonical, scheme=SCHEME,
            attempt=1 if earlier is None else earlier.attempt + 1, directory=point.directory, **point.columns,
        )
        .returning(RUN.c.id)
    ).scalar_one()  # fmt: skip
    rows = [{**row, "training_run_id": run_id, "position": at} for at, row in enumerate(point.data)]
    connection.execute(DATA.insert(), rows)
    return int(run_id)


def supervise(database: Database, sweep_id: int, process: Process, columns: Row | None = None) -> Busy | None:
    """Makes ``process`` the one that works through a sweep; Busy where another one lives that does.

    ``columns`` are what it changes of the sweep.
    """
    with database.writing() as connection:
        row = _row(connection, SWEEP, sweep_id)
        holder = holder_of(row)
        others = row["status"] == RUNNING and holder is not None and not holder.is_same(process)
        if holder is not None and others and not is_gone(holder, str(row["heartbeat"])):
            date_back(connection, SWEEP.c.heartbeat, sweep_id, row["heartbeat"])
            return Busy(holder, str(row["started_at"]))
        connection.execute(
            update(SWEEP)
            .where(SWEEP.c.id == sweep_id)
            .values(
                status=RUNNING, finished_at=None, error=None, heartbeat=_now(), **_process(process), **(columns or {})
            )
        )
        connection.execute(
            update(RUN)
            .where(RUN.c.training_sweep_id == sweep_id, RUN.c.status.in_(RESUMABLE))
            .values(stop_requested=False)
        )
    return None


def claim(database: Database, run_id: int, process: Process, columns: Row) -> Row | Busy:
    """The row of a run that is this process's to train now; ``columns`` are what it starts with.

    Busy where another process lives that trains it. Raises Conflict for one that has ended: its checkpoint is gone, or
    is what failed, so that it would only lose its result.
    """
    now = _now()
    with database.writing() as connection:
        row = _row(connection, RUN, run_id)
        if row["status"] in {COMPLETE, FAILED}:
            raise Conflict(f"This run has ended already: {row['status']}.", hint="`synthtrack train` begins another.")
        holder = holder_of(row)
        if row["status"] == RUNNING and holder is not None and not is_gone(holder, str(row["heartbeat"])):
            date_back(connection, RUN.c.heartbeat, run_id, row["heartbeat"])
            return Busy(holder, str(row["started_at"]))
        resumed = row["n_resumed"] + (row["started_at"] is not None)
        connection.execute(
            update(RUN)
            .where(RUN.c.id == run_id)
            .values(
                status=RUNNING, started_at=row["started_at"] or now, finished_at=None, error=None, heartbeat=now,
                n_resumed=resumed, **_process(process), **columns,
            )
        )  # fmt: skip
        return _row(connection, RUN, run_id)


def beat(database: Database, run_id: int, process: Process, measured: Measured) -> bool:
    """Stores what was measured and says that the worker lives; whether it was asked to stop, or lost its run."""
    now = _now()
    with database.writing() as connection:
        row = _row(connection, RUN, run_id)
        if not _is_trained_by(row, process):
            return True
        connection.execute(update(RUN).where(RUN.c.id == run_id).values(heartbeat=now, **measured.columns))
        rows = [
            {"training_run_id": run_id, "name": name, "step": step, "value": value, "recorded_at": now}
            for name, step, value in measured.metrics
        ]
        database.upsert(connection, METRIC, rows, ["training_run_id", "name", "step"])
    return bool(row["stop_requested"])


def save_predictions(database: Database, run_id: int, stage: str, rows: Sequence[Row]) -> None:
    """Stores the answers of one evaluation; the same again replaces them."""
    with database.writing() as connection:
        connection.execute(
            PREDICTION.delete().where(PREDICTION.c.training_run_id == run_id, PREDICTION.c.stage == stage)
        )
        if rows:
            connection.execute(
                PREDICTION.insert(), [{**row, "training_run_id": run_id, "stage": stage} for row in rows]
            )


def end_run(
    database: Database,
    run_id: int,
    status: str,
    columns: Row,
    *,
    error: str | None = None,
    process: Process | None = None,
) -> bool:
    """Ends a run; MLflow is told of one that is complete or failed.

    With a ``process`` only where the run is its still, and was not taken over: whether it was.
    """
    now = _now()
    with database.writing() as connection:
        row = _row(connection, RUN, run_id)
        if process is not None and not _is_trained_by(row, process):
            return False
        connection.execute(
            update(RUN)
            .where(RUN.c.id == run_id)
            .values(status=status, finished_at=_end(row, now), error=error, stop_requested=False, **columns)
        )
        if status in {COMPLETE, FAILED}:
            _tell_mlflow(database, connection, "training_run", run_id, now)
    return True


def end_sweep(database: Database, sweep_id: int, status: str, *, error: str | None = None) -> None:
    """Ends a sweep; MLflow is told of it once it is complete or failed, anew where it was before.

    Of a sweep of one run, that run says it all.
    """
    now = _now()
    with database.writing() as connection:
        row = _row(connection, SWEEP, sweep_id)
        connection.execute(
            update(SWEEP).where(SWEEP.c.id == sweep_id).values(status=status, finished_at=_end(row, now), error=error)
        )
        if status in {COMPLETE, FAILED} and row["n_points"] > 1:
            _tell_mlflow(database, connection, "training_sweep", sweep_id, now)


def _end(row: Row, now: str) -> str:
    # The clock may have been set back since it began.
    return max(now, str(row["started_at"] or now))


def _tell_mlflow(database: Database, connection: Connection, kind: str, row_id: int, now: str) -> None:
    # What was logged before it went on is to be logged again.
    row = {"kind": kind, f"{kind}_id": row_id, "created_at": now, "logged_at": None, "error": None}
    database.upsert(connection, OUTBOX, [row], [f"{kind}_id"])


def beat_sweep(database: Database, sweep_id: int, process: Process) -> bool:
    """Says that the supervisor lives; whether the sweep is its still, and was not taken over."""
    with database.writing() as connection:
        if not _is_trained_by(_row(connection, SWEEP, sweep_id), process):
            return False
        connection.execute(update(SWEEP).where(SWEEP.c.id == sweep_id).values(heartbeat=_now()))
    return True


def hand_over(database: Database, sweep_id: int, process: Process) -> None:
    """Leaves a sweep that is ``process``'s to whoever supervises it next."""
    with database.writing() as connection:
        holder = holder_of(_row(connection, SWEEP, sweep_id))
        if holder is not None and holder.is_same(process):
            connection.execute(update(SWEEP).where(SWEEP.c.id == sweep_id).values(**_process(None)))


def note_start(database: Database, run_id: int, process: Process, columns: Row) -> None:
    """Notes the process that was started for a run: until it has claimed it, or is gone, nobody starts another."""
    with database.writing() as connection:
        connection.execute(
            update(RUN)
            .where(RUN.c.id == run_id, RUN.c.status.in_(RESUMABLE))
            .values(heartbeat=_now(), **_process(process), **columns)
        )


def request_stop(database: Database, run_ids: Sequence[int]) -> None:
    """Asks the workers of these runs to save a checkpoint and end."""
    with database.writing() as connection:
        connection.execute(update(RUN).where(RUN.c.id.in_(list(run_ids))).values(stop_requested=True))


def settle(database: Database) -> int:
    """Marks the runs and sweeps whose process is gone as interrupted; how many runs."""
    settled = 0
    with database.writing() as connection:
        for each in (RUN, SWEEP):
            rows = connection.execute(select(each).where(each.c.status == RUNNING)).mappings().all()
            gone = [row["id"] for row in rows if not is_held(dict(row))]
            if gone:
                connection.execute(
                    update(each).where(each.c.id.in_(gone), each.c.status == RUNNING).values(status=INTERRUPTED)
                )
            settled += len(gone) if each is RUN else 0
    return settled


def zero_shot(database: Database, key: str) -> float | None:
    """The accuracy of an untrained model where it was measured before."""
    with database.reading() as connection:
        found = connection.execute(
            select(func.max(RUN.c.zero_shot_accuracy)).where(
                RUN.c.zero_shot_key == key, RUN.c.zero_shot_accuracy.is_not(None)
            )
        ).scalar()
    return None if found is None else float(found)


def _row(connection: Connection, of: Table, row_id: int) -> Row:
    return dict(connection.execute(select(of).where(of.c.id == row_id)).mappings().one())


def _is_trained_by(row: Row, process: Process) -> bool:
    holder = holder_of(row)
    return row["status"] == RUNNING and holder is not None and holder.is_same(process)


def _process(process: Process | None) -> dict[str, Any]:
    if process is None:
        return {"host": None, "pid": None, "pid_started": None}
    return {"host": process.host, "pid": process.pid, "pid_started": process.started}


def _now() -> str:
    return clock.to_text(clock.now())
