"""The ledger: what was asked, what was answered, what it cost, and what became of each record.

What is in here with a good attempt is never paid for again. Rows come in groups, many to a transaction.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, case, func, select, update

from tracker.clock import Process, is_gone
from tracker.errors import BudgetReached
from tracker.record.catalogue import Reader, Row
from tracker.record.database import Database
from tracker.schema import table

MESSAGE, REQUEST, ATTEMPT, SAMPLE = (table(name) for name in ("message", "request", "attempt", "sample"))
RUN, EXPERIMENT = table("generation_run"), table("shared_experiment")
ENDPOINT_LIMIT, RESERVATION = table("endpoint_limit"), table("cost_reservation")
_CHUNK = 400
_NOTHING_USD = 1e-12
"""Less than this is what rounding leaves of a sum that is taken from itself."""


@dataclass(frozen=True)
class Account:
    """Where one kind of run books what it pays and makes: a column of attempts, and a table of results by ``key``."""

    runs: Table
    column: str
    results: Table
    key: tuple[str, ...]


GENERATION = Account(RUN, "generation_run_id", SAMPLE, ("shared_experiment_id", "position"))
"""That of `generate`."""

_ANSWER = """
    SELECT answer, finish_reason, prompt_tokens, completion_tokens, tokens_estimated, cost_usd, generation_run_id
    FROM attempt WHERE request_key = :key AND failure IS NULL ORDER BY id LIMIT 1"""


def find_answer(reader: Reader, key: str) -> Row | None:
    """The first good answer to the request with that key, or None: what came from elsewhere later changes nothing."""
    rows = reader.rows(_ANSWER, key=key)
    return rows[0] if rows else None


def save_attempts(database: Database, connection: Connection, rows: Iterable[tuple[Row, Sequence[Row], Row]]) -> None:
    """Stores (request, its messages, attempt) triples; requests and messages that are known are left as they are."""
    triples = list(rows)
    messages = {message["key"]: message for _, found, _ in triples for message in found}
    requests = {request["key"]: request for request, _, _ in triples}
    database.insert_new(connection, MESSAGE, list(messages.values()))
    database.insert_new(connection, REQUEST, list(requests.values()))
    if triples:
        connection.execute(ATTEMPT.insert(), [attempt for _, _, attempt in triples])


HOLDS_NO_LEASE = ("reused", "tested")
"""Outcomes of runs that change no experiment."""

LAST_SEEN = case(
    (RUN.c.outcome == "reused", RUN.c.started_at),
    (RUN.c.outcome == "tested", func.coalesce(RUN.c.heartbeat, RUN.c.started_at)),
    else_=func.coalesce(EXPERIMENT.c.lease_heartbeat, RUN.c.started_at),
)
"""When a running run was last heard of; its experiment must be joined."""


def is_running(connection: Connection, run_id: int, runs: Table = RUN) -> bool:
    """Whether the run is this process's still: a run that another one took over has been ended by that one."""
    return bool(connection.execute(select(runs.c.status).where(runs.c.id == run_id)).scalar() == "running")


def save_results(
    database: Database, connection: Connection, rows: Sequence[Row], account: Account = GENERATION
) -> None:
    """Stores what became of records; a later result for the same record replaces an earlier one."""
    newest = {tuple(row[name] for name in account.key): row for row in rows}
    database.upsert(connection, account.results, list(newest.values()), account.key)


def learned_limits(database: Database) -> dict[tuple[str, str], int]:
    """The concurrency that each (endpoint, name of the key's variable) was found to bear."""
    with database.reading() as connection:
        rows = connection.execute(
            select(ENDPOINT_LIMIT.c.endpoint, ENDPOINT_LIMIT.c.key_name, ENDPOINT_LIMIT.c.concurrency)
        )
        return {(row.endpoint, row.key_name): row.concurrency for row in rows}


def save_limits(database: Database, connection: Connection, limits: Mapping[tuple[str, str], int], now: str) -> None:
    """Remembers the concurrency that each (endpoint, name of the key's variable) was found to bear."""
    rows = [
        {"endpoint": endpoint, "key_name": key_name, "concurrency": limit, "updated_at": now}
        for (endpoint, key_name), limit in limits.items()
    ]
    database.upsert(connection, ENDPOINT_LIMIT, rows, ["endpoint", "key_name"])


def reserve(database: Database, run_id: int, batch_id: int, *, total_usd: float, cap_usd: float) -> bool:
    """Allows this run to have spent at most ``total_usd`` in all, if its batch then stays within ``cap_usd``.

    A batch's running processes count with what they are allowed, its other runs with what they paid, those of deleted
    experiments as well.
    """
    with database.writing() as connection:
        rows = connection.execute(
            select(
                RESERVATION.c.generation_run_id, RESERVATION.c.amount_usd,
                RUN.c.status, RUN.c.host, RUN.c.pid, RUN.c.pid_started, LAST_SEEN.label("last_seen"),
            )
            .join(RUN, RUN.c.id == RESERVATION.c.generation_run_id)
            .join(EXPERIMENT, EXPERIMENT.c.id == RUN.c.shared_experiment_id)
            .where(RESERVATION.c.batch_id == batch_id, RESERVATION.c.generation_run_id != run_id)
        ).all()  # fmt: skip
        allowed = {}
        for row in rows:
            if row.status == "running" and not is_gone(Process(row.host, row.pid, row.pid_started), row.last_seen):
                allowed[row.generation_run_id] = row.amount_usd
            else:
                end_reservation(connection, row.generation_run_id)
        others = select(RUN.c.id).where(RUN.c.batch_id == batch_id, RUN.c.id.not_in([run_id, *allowed]))
        paid, priced, answered = connection.execute(
            select(
                func.coalesce(func.sum(ATTEMPT.c.cost_usd), 0.0),
                func.count(ATTEMPT.c.cost_usd),
                func.count(ATTEMPT.c.prompt_tokens),
            ).where(ATTEMPT.c.generation_run_id.in_(others))
        ).one()
        gone, unpriced = _spent_on_deleted(connection, batch_id)
        paid, answered = paid + gone, answered + unpriced
        if priced < answered:
            raise BudgetReached(
                f"The batch holds {answered - priced:,} answers whose price is not known: no cap can hold for it.",
                hint="Use another batch (--batch), or leave --max-cost out.",
            )
        at_risk = connection.execute(
            select(func.coalesce(func.sum(RUN.c.at_risk_usd), 0.0)).where(RUN.c.id.in_(others))
        ).scalar_one()
        if paid + at_risk + sum(allowed.values()) + total_usd > cap_usd:
            return False
        mine = {"generation_run_id": run_id, "batch_id": batch_id, "amount_usd": total_usd}
        database.upsert(connection, RESERVATION, [mine], ["generation_run_id"])
    return True


def _spent_on_deleted(connection: Connection, batch_id: int) -> tuple[float, int]:
    """What a batch paid for experiments that are in the trash, or gone; of how many of them it is not known."""
    batch, deletion = table("batch"), table("deletion")
    name = connection.execute(select(batch.c.name).where(batch.c.id == batch_id)).scalar_one()
    paid = connection.execute(select(deletion.c.spent).where(deletion.c.restored_at.is_(None))).scalars()
    amounts = [spent[name] for spent in map(json.loads, paid) if name in spent]
    return sum(each for each in amounts if each is not None), amounts.count(None)


def count_once(connection: Connection, attempts: Sequence[int]) -> None:
    """Takes out of what was paid for deleted experiments what these attempts paid: their run is in the record again."""
    deletion, batch = table("deletion"), table("batch")
    back: dict[tuple[str, str], float] = {}
    for start in range(0, len(attempts), _CHUNK):
        paid = (
            select(EXPERIMENT.c.fingerprint, batch.c.name, func.coalesce(func.sum(ATTEMPT.c.cost_usd), 0.0))
            .join(RUN, RUN.c.id == ATTEMPT.c.generation_run_id)
            .join(batch, batch.c.id == RUN.c.batch_id)
            .join(EXPERIMENT, EXPERIMENT.c.id == RUN.c.shared_experiment_id)
            .where(ATTEMPT.c.id.in_(attempts[start : start + _CHUNK]))
            .group_by(EXPERIMENT.c.fingerprint, batch.c.name)
        )
        for fingerprint, name, usd in connection.execute(paid):
            back[fingerprint, name] = back.get((fingerprint, name), 0.0) + usd
    gone = select(deletion.c.id, deletion.c.fingerprint, deletion.c.spent).where(
        deletion.c.restored_at.is_(None), deletion.c.fingerprint.in_({fingerprint for fingerprint, _ in back})
    )
    for row in connection.execute(gone.order_by(deletion.c.id)).all():
        spent = json.loads(row.spent)
        for name in [each for each in spent if (row.fingerprint, each) in back]:
            taken = min(spent[name] or 0.0, back[row.fingerprint, name])
            back[row.fingerprint, name] -= taken
            if spent[name] is None or spent[name] - taken < _NOTHING_USD:
                del spent[name]
            else:
                spent[name] -= taken
        connection.execute(deletion.update().where(deletion.c.id == row.id).values(spent=json.dumps(spent)))


def end_reservation(connection: Connection, run_id: int) -> None:
    """Ends the reservation of a run that ended without a word: what it was allowed and did not pay was in flight."""
    allowed = select(RESERVATION.c.amount_usd).where(RESERVATION.c.generation_run_id == run_id)
    paid = select(func.sum(ATTEMPT.c.cost_usd)).where(ATTEMPT.c.generation_run_id == run_id)
    amount = connection.execute(allowed).scalar()
    if amount is not None:
        at_risk = max(0.0, amount - (connection.execute(paid).scalar() or 0.0))
        connection.execute(update(RUN).where(RUN.c.id == run_id).values(at_risk_usd=at_risk))
    connection.execute(RESERVATION.delete().where(RESERVATION.c.generation_run_id == run_id))


def spending(connection: Connection, attempts: Any) -> dict[str, Any]:
    """Tokens and cost of attempts; the cost is unknown as soon as that of one answer is."""
    row = connection.execute(
        select(
            func.coalesce(func.sum(ATTEMPT.c.prompt_tokens), 0),
            func.coalesce(func.sum(ATTEMPT.c.completion_tokens), 0),
            func.count(ATTEMPT.c.prompt_tokens),
            func.count(ATTEMPT.c.cost_usd),
            func.sum(ATTEMPT.c.cost_usd),
        ).where(attempts)
    ).one()
    estimated = connection.execute(
        select(func.count()).select_from(ATTEMPT).where(attempts, ATTEMPT.c.tokens_estimated)
    ).scalar_one()
    answered, priced, total = row[2], row[3], row[4]
    cost = (total or 0.0) if answered == priced else None
    return {
        "prompt_tokens": row[0], "completion_tokens": row[1], "cost_usd": cost, "tokens_estimated": bool(estimated),
    }  # fmt: skip


def died(connection: Connection, attempts: Any, now: str) -> dict[str, Any]:
    """The columns of a run whose process is gone: what it paid, and when it last asked (else ``now``)."""
    last, n_calls = connection.execute(select(func.max(ATTEMPT.c.started_at), func.count()).where(attempts)).one()
    return {
        **spending(connection, attempts), "n_calls": n_calls, "status": "interrupted", "finished_at": last or now,
        "error": "its process ended without a word",
    }  # fmt: skip


def died_reserving(connection: Connection, attempts: Any, now: str, reserved_usd: float | None) -> dict[str, Any]:
    """The columns of such a run that kept a reservation in its row: what of that it is not known to have paid."""
    values = died(connection, attempts, now)
    at_risk = None if reserved_usd is None else max(0.0, reserved_usd - (values["cost_usd"] or 0.0))
    return {**values, "reserved_usd": None, "at_risk_usd": at_risk}
