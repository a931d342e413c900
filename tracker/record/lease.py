"""Leases: which process works on a row, for tables that have the five ``lease_`` columns."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Table, and_, func, select, update

from tracker import clock
from tracker.clock import Process, is_gone

HEARTBEAT_S = 15.0
"""How often who holds a lease says that it lives."""
NO_LEASE = dict.fromkeys(("lease_host", "lease_pid", "lease_started", "lease_since", "lease_heartbeat"))
"""What these columns hold when nobody works on a row."""


@dataclass(frozen=True)
class Busy:
    """Somebody else is making it now."""

    process: Process
    since: str


def lease(process: Process, now: str) -> dict[str, Any]:
    """What the columns hold when ``process`` takes a row at the stored time ``now``."""
    return {
        "lease_host": process.host, "lease_pid": process.pid, "lease_started": process.started,
        "lease_since": now, "lease_heartbeat": now,
    }  # fmt: skip


def held_by(table: Table, process: Process) -> ColumnElement[bool]:
    """The condition that ``process`` holds a row of ``table``."""
    return and_(
        table.c.lease_host == process.host,
        table.c.lease_pid == process.pid,
        func.abs(table.c.lease_started - process.started) < clock.START_DIFFERS_S,
    )


def holder(row: Any, process: Process) -> Busy | None:
    """Who else works on ``row``; None where nobody does, or that one is gone, or it is ``process`` itself."""
    if row["lease_host"] is None:
        return None
    found = Process(row["lease_host"], row["lease_pid"], row["lease_started"])
    if found.is_same(process) or is_gone(found, str(row["lease_heartbeat"])):
        return None
    return Busy(found, row["lease_since"])


def date_back(connection: Connection, heartbeat: Column[Any], row_id: int, last_seen: str | None) -> None:
    """Sets a heartbeat of a time that is yet to come to now: a clock was set back, and nobody is to wait until then.

    Should it be its own clock that goes ahead, a process that lives says so again long before it is taken for gone.
    """
    now = clock.now()
    if last_seen is not None and last_seen > clock.to_text(now + timedelta(seconds=clock.LEASE_TIMEOUT_S)):
        table = heartbeat.table
        connection.execute(update(table).where(table.c.id == row_id).values({heartbeat: clock.to_text(now)}))


def end_dead_leases(connection: Connection, of: Table) -> None:
    """Clears the leases of ``of`` whose holder is gone."""
    for row in connection.execute(select(of).where(of.c.lease_host.is_not(None))).mappings().all():
        found = Process(row["lease_host"], row["lease_pid"], row["lease_started"])
        if is_gone(found, str(row["lease_heartbeat"])):
            connection.execute(update(of).where(of.c.id == row["id"], held_by(of, found)).values(**NO_LEASE))
