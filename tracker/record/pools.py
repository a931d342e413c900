"""Writes the record of pools: scored benchmarks with their tasks, and the pools drawn from them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, select, update

from tracker import clock
from tracker.errors import Corrupt
from tracker.fingerprint import SCHEME, Identity
from tracker.paths import name_problem
from tracker.record.database import Database
from tracker.schema import table

Row = Mapping[str, Any]

BENCHMARK, TASK = table("benchmark"), table("benchmark_task")
POOL, POOL_BENCHMARK, POOL_TASK = (table(name) for name in ("task_pool", "task_pool_benchmark", "task_pool_task"))
OUTBOX = table("mlflow_outbox")
_BLOCK = 5_000


@dataclass(frozen=True)
class Registered:
    """A row of the record; ``is_new``: it was not there before."""

    id: int
    name: str
    is_new: bool


def register_benchmark(database: Database, identity: Identity, columns: Row, tasks: Sequence[Row]) -> Registered:
    """A scored benchmark in the record, the current one of its name from now on.

    ``columns`` are values of benchmark's columns, ``tasks`` the rows of benchmark_task in their order; of one that is
    there already only path and config are written. Raises Corrupt where the fingerprint stands for something else.
    """
    with database.writing() as connection:
        found = _find(connection, BENCHMARK, identity)
        if found is None:
            values = {**_named(identity), **columns, "is_current": True, "created_at": _now()}
            found = int(connection.execute(BENCHMARK.insert().values(**values).returning(BENCHMARK.c.id)).scalar_one())
            rows = [{**row, "benchmark_id": found, "position": at} for at, row in enumerate(tasks)]
            _insert(connection, TASK, rows)
            is_new = True
        else:
            is_new = False
        others = (BENCHMARK.c.name == columns["name"], BENCHMARK.c.id != found)
        connection.execute(update(BENCHMARK).where(*others).values(is_current=False))
        # The same tasks can lie elsewhere by now: the path is not part of the identity.
        place = {name: columns[name] for name in ("path", "config")}
        connection.execute(update(BENCHMARK).where(BENCHMARK.c.id == found).values(is_current=True, **place))
    return Registered(found, str(columns["name"]), is_new)


def find_pool(database: Database, identity: Identity) -> Registered | None:
    """The pool of these settings, or None. Raises Corrupt where the fingerprint stands for something else."""
    with database.reading() as connection:
        found = _find(connection, POOL, identity)
        if found is None:
            return None
        name = connection.execute(select(POOL.c.name).where(POOL.c.id == found)).scalar_one()
    return Registered(found, str(name), is_new=False)


def register_pool(
    database: Database, identity: Identity, columns: Row, benchmarks: Sequence[Row], tasks: Sequence[Row]
) -> Registered:
    """A pool in the record, and in MLflow's outbox; one that is there already is left as it is.

    ``columns`` are values of task_pool's columns, ``benchmarks`` rows of task_pool_benchmark in their order, ``tasks``
    rows of task_pool_task in theirs. Where another pool has its name it gets a suffix, a long one instead of its last
    characters. Raises Corrupt.
    """
    with database.writing() as connection:
        found = _find(connection, POOL, identity)
        if found is not None:
            name = connection.execute(select(POOL.c.name).where(POOL.c.id == found)).scalar_one()
            return Registered(found, str(name), is_new=False)
        now, name = _now(), _free(connection, str(columns["wanted_name"]))
        values = {**_named(identity), **columns, "name": name, "uuid": uuid.uuid4().hex, "created_at": now}
        pool_id = int(connection.execute(POOL.insert().values(**values).returning(POOL.c.id)).scalar_one())
        own = {"task_pool_id": pool_id}
        connection.execute(
            POOL_BENCHMARK.insert(), [{**row, **own, "position": at} for at, row in enumerate(benchmarks)]
        )
        _insert(connection, POOL_TASK, [{**row, **own, "position": at} for at, row in enumerate(tasks)])
        database.insert_new(connection, OUTBOX, [{"kind": "task_pool", "task_pool_id": pool_id, "created_at": now}])
    return Registered(pool_id, name, is_new=True)


def _find(connection: Connection, of: Table, identity: Identity) -> int | None:
    found = connection.execute(select(of.c.id, of.c.digest).where(of.c.fingerprint == identity.fingerprint)).first()
    if found is None:
        return None
    if found.digest != identity.digest:
        raise Corrupt(
            f"Fingerprint {identity.fingerprint} stands for another {of.name} "
            f"(digest {found.digest[:16]} is not {identity.digest[:16]}).",
            hint="Change any setting: two different settings met in 12 digits.",
        )
    return int(found.id)


def _free(connection: Connection, wanted: str) -> str:
    name, number = wanted, 1
    while connection.execute(select(POOL.c.id).where(POOL.c.name == name)).scalar() is not None:
        number += 1
        name = _numbered(wanted, number)
    return name


def _numbered(wanted: str, number: int) -> str:
    """The name with a number, of as much of it as goes into a directory's name."""
    while name_problem(name := f"{wanted}_{number}") is not None and len(wanted) > 1:
        wanted = wanted[:-1]
    return name


def _named(identity: Identity) -> dict[str, Any]:
    return {
        "fingerprint": identity.fingerprint, "digest": identity.digest, "scheme": SCHEME,
        "identity": identity.canonical,
    }  # fmt: skip


def _insert(connection: Connection, into: Table, rows: Sequence[Row]) -> None:
    for start in range(0, len(rows), _BLOCK):
        connection.execute(into.insert(), list(rows[start : start + _BLOCK]))


def _now() -> str:
    return clock.to_text(clock.now())
