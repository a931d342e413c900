"""Writes the record of validations: a model's answers to a sample of a pool's tasks, and what they came to."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select, update

from tracker import clock
from tracker.clock import Process, is_gone
from tracker.record.database import Database
from tracker.record.generation import Totals
from tracker.record.lease import Busy, date_back
from tracker.record.ledger import ATTEMPT, Account, died_reserving, is_running, save_limits, spending
from tracker.schema import table

Row = Mapping[str, Any]

VALIDATION, ANSWER, OUTBOX = (table(name) for name in ("pool_validation", "pool_answer", "mlflow_outbox"))
VALIDATIONS = Account(VALIDATION, "pool_validation_id", ANSWER, ("pool_validation_id", "position"))
"""Where `pool validate` books what it pays and finds."""


@dataclass(frozen=True)
class Claimed:
    """A validation: this process's to make (outcome made), or found already made (reused)."""

    outcome: str
    id: int
    uuid: str
    fingerprint: str


def claim(database: Database, columns: Row, process: Process) -> Claimed | Busy:
    """One transaction decides: already there, being made by somebody, or now made by me.

    ``columns`` are values of pool_validation's columns, its fingerprint among them. Busy while another process asks the
    same model about the same pool: the two would pay for the same answers.
    """
    with database.writing() as connection:
        same = (VALIDATION.c.fingerprint == columns["fingerprint"], VALIDATION.c.status == "complete")
        ready = connection.execute(select(VALIDATION).where(*same).order_by(VALIDATION.c.id.desc())).first()
        if ready is not None:
            return Claimed("reused", ready.id, ready.uuid, ready.fingerprint)
        busy = _busy(_end_dead(database, connection, process)[0], columns)
        if busy is not None:
            return busy
        own, now = uuid.uuid4().hex, _now()
        values = {
            **columns, "uuid": own, "status": "running", "started_at": now, "heartbeat": now, "host": process.host,
            "pid": process.pid, "pid_started": process.started,
        }  # fmt: skip
        new = int(connection.execute(VALIDATION.insert().values(**values).returning(VALIDATION.c.id)).scalar_one())
    return Claimed("made", new, own, columns["fingerprint"])


def heartbeat(database: Database, claimed: Claimed) -> bool:
    """Says that this process lives; False where another one has taken its place."""
    mine = (VALIDATION.c.id == claimed.id, VALIDATION.c.status == "running")
    with database.writing() as connection:
        return bool(connection.execute(update(VALIDATION).where(*mine).values(heartbeat=_now())).rowcount)


def reserve(database: Database, claimed: Claimed, *, total_usd: float, cap_usd: float) -> bool:
    """Allows this validation to have spent at most ``total_usd`` in all, if it then stays within ``cap_usd``.

    Earlier goes at the same count with what they paid and what may have been billed to them without an answer. One that
    another process has taken over gets nothing.
    """
    with database.writing() as connection:
        if not is_running(connection, claimed.id, VALIDATION):
            return False
        spent = func.coalesce(func.sum(VALIDATION.c.cost_usd), 0.0)
        at_risk = func.coalesce(func.sum(VALIDATION.c.at_risk_usd), 0.0)
        if connection.execute(select(spent + at_risk).where(*_earlier(claimed))).scalar_one() + total_usd > cap_usd:
            return False
        connection.execute(update(VALIDATION).where(VALIDATION.c.id == claimed.id).values(reserved_usd=total_usd))
    return True


def unpriced_answers(database: Database, claimed: Claimed) -> int:
    """How many answers earlier goes at the same paid at a price that is not known."""
    unpriced = select(func.count(ATTEMPT.c.prompt_tokens) - func.count(ATTEMPT.c.cost_usd))
    earlier = select(VALIDATION.c.id).where(*_earlier(claimed))
    with database.reading() as connection:
        return int(connection.execute(unpriced.where(ATTEMPT.c.pool_validation_id.in_(earlier))).scalar_one())


def finish(
    database: Database, claimed: Claimed, totals: Totals, results: Row, *, status: str, error: str | None = None
) -> None:
    """Ends a validation: results, counts, tokens, cost, status and outbox in one transaction.

    ``status`` is complete, partial, interrupted or failed; ``results`` are values of its result columns. One that
    another process took over ends as interrupted.
    """
    now = _now()
    with database.writing() as connection:
        taken_over = not is_running(connection, claimed.id, VALIDATION)
        started = connection.execute(select(VALIDATION.c.started_at).where(VALIDATION.c.id == claimed.id)).scalar_one()
        # The clock may have been set back meanwhile.
        ended = max(now, started)
        values = {
            **{name: value for name, value in vars(totals).items() if name != "limits"},
            **spending(connection, ATTEMPT.c.pool_validation_id == claimed.id), **results,
            "status": "interrupted" if taken_over else status, "error": error, "finished_at": ended,
            "duration_s": clock.seconds_between(started, ended), "reserved_usd": None,
        }  # fmt: skip
        connection.execute(update(VALIDATION).where(VALIDATION.c.id == claimed.id).values(**values))
        save_limits(database, connection, totals.limits, now)
        _tell_mlflow(database, connection, claimed.id, now)


def _earlier(claimed: Claimed) -> tuple[Any, ...]:
    return VALIDATION.c.fingerprint == claimed.fingerprint, VALIDATION.c.id != claimed.id


def end_dead(database: Database) -> int:
    """Ends the validations whose process is gone, as a claim does; how many."""
    with database.writing() as connection:
        return len(_end_dead(database, connection)[1])


def _busy(running: Sequence[Any], columns: Row) -> Busy | None:
    """Who asks the same of the same pool."""
    names = ("task_pool_id", "endpoint", "model")
    for row in running:
        if all(getattr(row, name) == columns[name] for name in names):
            return Busy(Process(row.host, row.pid, row.pid_started), row.started_at)
    return None


def _end_dead(
    database: Database, connection: Connection, process: Process | None = None
) -> tuple[list[Any], list[int]]:
    """Writes down what validations paid whose process is gone: those that others still make, and the ids of those."""
    now, others, ended = _now(), [], []
    for row in connection.execute(select(VALIDATION).where(VALIDATION.c.status == "running")).all():
        found = Process(row.host, row.pid, row.pid_started)
        if not (process is not None and found.is_same(process)) and not is_gone(found, row.heartbeat):
            date_back(connection, VALIDATION.c.heartbeat, row.id, row.heartbeat)
            others.append(row)
            continue
        mine = ATTEMPT.c.pool_validation_id == row.id
        values = died_reserving(connection, mine, now, row.reserved_usd)
        connection.execute(update(VALIDATION).where(VALIDATION.c.id == row.id).values(**values))
        _tell_mlflow(database, connection, row.id, now)
        ended.append(row.id)
    return others, ended


def _tell_mlflow(database: Database, connection: Connection, validation_id: int, now: str) -> None:
    row = {"kind": "pool_validation", "pool_validation_id": validation_id, "created_at": now}
    database.insert_new(connection, OUTBOX, [row])


def _now() -> str:
    return clock.to_text(clock.now())
