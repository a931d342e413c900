"""Writes the record of agents: claims of agent data sets, runs on them, and what came of each perspective.

No transaction in here waits for anything but the database: everything a row needs is known before it begins.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select, update

from tracker import clock
from tracker.clock import Process, is_gone
from tracker.fingerprint import SCHEME, Identity
from tracker.record.columns import check_digest
from tracker.record.database import Database
from tracker.record.generation import Totals, is_ready
from tracker.record.lease import NO_LEASE, Busy, date_back, end_dead_leases, held_by, holder, lease
from tracker.record.ledger import ATTEMPT, Account, died_reserving, is_running, save_limits, spending
from tracker.schema import table

Row = Mapping[str, Any]

DATASET, PERSPECTIVE = table("agent_dataset"), table("agent_perspective")
RESPONSE, RUN, OUTBOX = (table(name) for name in ("agent_response", "agent_run", "mlflow_outbox"))
AGENTS = Account(RUN, "agent_run_id", RESPONSE, ("agent_dataset_id", "position", "perspective"))
"""Where `perspectives` books what it pays and makes."""


@dataclass(frozen=True)
class Wanted:
    """What a run asks for: an agent data set by its identity.

    ``name`` is the stem of its file should it be new. ``columns`` are values of agent_dataset's columns, ``run`` those
    of agent_run's, ``perspectives`` the rows of agent_perspective in their order.
    """

    identity: Identity
    name: str
    columns: Row
    run: Row
    perspectives: Sequence[Row]
    accept_partial: bool = False


@dataclass(frozen=True)
class Claimed:
    """The data set is there (outcome reused) or is this process's to make or resume.

    ``partial``: its file, with failures that were accepted, is there to be had while they are tried again.
    """

    outcome: str
    dataset_id: int
    name: str
    run_id: int
    run_uuid: str
    partial: bool = False


def claim(database: Database, wanted: Wanted, process: Process) -> Claimed | Busy:
    """One transaction decides: made by me, already there, being made by somebody, or left unfinished and now mine.

    Raises Corrupt where the fingerprint stands for other settings.
    """
    with database.writing() as connection:
        found = _find(connection, wanted.identity)
        ready = found is not None and is_ready(found, accept_partial=wanted.accept_partial)
        busy = None if found is None or ready else holder(found, process)
        if found is not None and busy is not None:
            date_back(connection, DATASET.c.lease_heartbeat, found["id"], found["lease_heartbeat"])
            return busy
        _end_dead_runs(database, connection, None if found is None or ready else int(found["id"]))
        now = _now()
        if found is None:
            dataset_id, name = _new_dataset(connection, wanted, process, now)
        else:
            dataset_id, name = int(found["id"]), str(found["name"])
        outcome = "made" if found is None else "reused" if ready else "resumed"
        if outcome == "resumed":
            # Until the run ends, what there is is what its responses give, and no longer what was recorded.
            taken = {**lease(process, now), "data_digest": None}
            connection.execute(update(DATASET).where(DATASET.c.id == dataset_id).values(**taken))
        if not wanted.columns.get("is_trial"):
            connection.execute(update(DATASET).where(DATASET.c.id == dataset_id).values(is_trial=False))
        run_uuid = uuid.uuid4().hex
        values = {
            "uuid": run_uuid, "agent_dataset_id": dataset_id, "outcome": outcome, "status": "running",
            "started_at": now, "host": process.host, "pid": process.pid, "pid_started": process.started, **wanted.run,
        }  # fmt: skip
        run_id = int(connection.execute(RUN.insert().values(**values).returning(RUN.c.id)).scalar_one())
    return Claimed(outcome, dataset_id, name, run_id, run_uuid, found is not None and found["status"] == "partial")


def heartbeat(database: Database, claimed: Claimed) -> bool:
    """Says that this process lives; False where the lease is another's."""
    mine = held_by(DATASET, clock.this_process())
    beat = update(DATASET).where(DATASET.c.id == claimed.dataset_id, mine).values(lease_heartbeat=_now())
    with database.writing() as connection:
        return bool(connection.execute(beat).rowcount)


def reserve(database: Database, claimed: Claimed, *, total_usd: float, cap_usd: float) -> bool:
    """Allows this run to have spent at most ``total_usd`` in all, if its data set then stays within ``cap_usd``.

    The data set's other runs count with what they paid and what may have been billed to them without an answer. A run
    that another process has taken over gets nothing.
    """
    others = (RUN.c.agent_dataset_id == claimed.dataset_id, RUN.c.id != claimed.run_id)
    with database.writing() as connection:
        if not is_running(connection, claimed.run_id, RUN):
            return False
        spent = func.coalesce(func.sum(RUN.c.cost_usd), 0.0) + func.coalesce(func.sum(RUN.c.at_risk_usd), 0.0)
        if connection.execute(select(spent).where(*others)).scalar_one() + total_usd > cap_usd:
            return False
        connection.execute(update(RUN).where(RUN.c.id == claimed.run_id).values(reserved_usd=total_usd))
    return True


def unpriced_answers(database: Database, claimed: Claimed) -> int:
    """How many answers the data set's other runs paid at a price that is not known."""
    runs = select(RUN.c.id).where(RUN.c.agent_dataset_id == claimed.dataset_id, RUN.c.id != claimed.run_id)
    unpriced = select(func.count(ATTEMPT.c.prompt_tokens) - func.count(ATTEMPT.c.cost_usd))
    with database.reading() as connection:
        return int(connection.execute(unpriced.where(ATTEMPT.c.agent_run_id.in_(runs))).scalar_one())


def finish(
    database: Database,
    claimed: Claimed,
    totals: Totals,
    *,
    status: str,
    error: str | None = None,
    data_digest: str | None = None,
    results: Mapping[int, Row] | None = None,
) -> dict[str, Any]:
    """Ends a run: counts, tokens, cost, status, lease and outbox in one transaction; gives the run's row.

    ``status`` is complete, partial, interrupted or failed. With ``data_digest`` the data set becomes complete, or
    partial where responses failed; ``results`` are values of agent_perspective's columns by position. A run that
    another process took over ends as interrupted and leaves the data set to that one.
    """
    now = _now()
    with database.writing() as connection:
        taken_over = not is_running(connection, claimed.run_id, RUN)
        counts = _counts(connection, claimed.dataset_id)
        started = connection.execute(select(RUN.c.started_at).where(RUN.c.id == claimed.run_id)).scalar_one()
        # The clock may have been set back meanwhile.
        ended = max(now, started)
        values = {
            **{name: value for name, value in vars(totals).items() if name != "limits"},
            **counts, **spending(connection, ATTEMPT.c.agent_run_id == claimed.run_id),
            "status": "interrupted" if taken_over else status, "error": error, "finished_at": ended,
            "duration_s": clock.seconds_between(started, ended), "reserved_usd": None,
        }  # fmt: skip
        connection.execute(update(RUN).where(RUN.c.id == claimed.run_id).values(**values))
        if claimed.outcome != "reused" and not taken_over:
            _end_dataset(connection, claimed.dataset_id, counts, ended, data_digest)
            for position, columns in (results or {}).items():
                which = (PERSPECTIVE.c.agent_dataset_id == claimed.dataset_id, PERSPECTIVE.c.position == position)
                connection.execute(update(PERSPECTIVE).where(*which).values(**columns))
        save_limits(database, connection, totals.limits, now)
        _tell_mlflow(database, connection, claimed.run_id, now)
        row = connection.execute(select(RUN).where(RUN.c.id == claimed.run_id)).mappings().one()
    return dict(row)


def _find(connection: Connection, identity: Identity) -> Row | None:
    found = connection.execute(select(DATASET).where(DATASET.c.fingerprint == identity.fingerprint)).mappings().first()
    if found is None:
        return None
    check_digest(identity, found["digest"], found["name"])
    return dict(found)


def _new_dataset(connection: Connection, wanted: Wanted, process: Process, now: str) -> tuple[int, str]:
    name, number = wanted.name, 1
    while connection.execute(select(DATASET.c.id).where(DATASET.c.name == name)).scalar() is not None:
        number += 1
        name = f"{wanted.name}_{number}"
    identity = wanted.identity
    values = {
        "fingerprint": identity.fingerprint, "digest": identity.digest, "scheme": SCHEME, "status": "unfinished",
        "identity": identity.canonical, "name": name, "created_at": now, **lease(process, now), **wanted.columns,
    }  # fmt: skip
    dataset_id = int(connection.execute(DATASET.insert().values(**values).returning(DATASET.c.id)).scalar_one())
    connection.execute(
        PERSPECTIVE.insert(),
        [{**row, "agent_dataset_id": dataset_id, "position": at} for at, row in enumerate(wanted.perspectives)],
    )
    return dataset_id, name


def _end_dataset(
    connection: Connection, dataset_id: int, counts: Mapping[str, int], now: str, data_digest: str | None
) -> None:
    runs = select(RUN.c.id).where(RUN.c.agent_dataset_id == dataset_id)
    spent = spending(connection, ATTEMPT.c.agent_run_id.in_(runs))
    spent.pop("tokens_estimated")
    calls = select(func.sum(RUN.c.n_calls), func.sum(RUN.c.n_cached)).where(RUN.c.agent_dataset_id == dataset_id)
    n_calls, n_cached = connection.execute(calls).one()
    values: dict[str, Any] = {**counts, **spent, **NO_LEASE, "n_calls": n_calls or 0, "n_cached": n_cached or 0}
    if data_digest is not None:
        status = "partial" if counts["n_failed"] else "complete"
        values |= {"status": status, "completed_at": now, "data_digest": data_digest}
    connection.execute(update(DATASET).where(DATASET.c.id == dataset_id).values(**values))


def end_dead_runs(database: Database) -> int:
    """Ends the runs whose process is gone, as a claim does, and the leases that such processes held; how many runs."""
    with database.writing() as connection:
        ended = _end_dead_runs(database, connection, None)
        end_dead_leases(connection, DATASET)
        return ended


def _end_dead_runs(database: Database, connection: Connection, taken: int | None) -> int:
    """Writes down what runs paid whose process is gone, and those of a data set that is taken over; how many."""
    last_seen = func.coalesce(DATASET.c.lease_heartbeat, RUN.c.started_at).label("last_seen")
    running = (
        select(RUN, last_seen).join(DATASET, DATASET.c.id == RUN.c.agent_dataset_id).where(RUN.c.status == "running")
    )
    now, ended = _now(), 0
    for run in connection.execute(running).all():
        is_taken = run.agent_dataset_id == taken and run.outcome != "reused"
        if not is_taken and not is_gone(Process(run.host, run.pid, run.pid_started), run.last_seen):
            continue
        mine = ATTEMPT.c.agent_run_id == run.id
        values = died_reserving(connection, mine, now, run.reserved_usd)
        connection.execute(update(RUN).where(RUN.c.id == run.id).values(**values))
        _tell_mlflow(database, connection, run.id, now)
        ended += 1
    return ended


def _tell_mlflow(database: Database, connection: Connection, run_id: int, now: str) -> None:
    database.insert_new(connection, OUTBOX, [{"kind": "agent_run", "agent_run_id": run_id, "created_at": now}])


def _counts(connection: Connection, dataset_id: int) -> dict[str, int]:
    """``n_responses`` and ``n_failed`` of a data set."""
    of = select(RESPONSE.c.status, func.count()).where(RESPONSE.c.agent_dataset_id == dataset_id)
    by_status: dict[str, int] = dict(connection.execute(of.group_by(RESPONSE.c.status)).all())
    return {"n_responses": by_status.get("answered", 0), "n_failed": by_status.get("failed", 0)}


def _now() -> str:
    return clock.to_text(clock.now())
