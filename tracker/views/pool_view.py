"""The files of benchmarks and pools below ``data/``, kept as the record says: they come back byte for byte.

A pool's directory appears whole. How files are compared and written: tracker.views.data_view.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

from tracker.errors import Corrupt
from tracker.fingerprint import bytes_digest
from tracker.paths import Workspace, name_problem
from tracker.record.catalogue import Reader, Row
from tracker.record.findings import RESTORE
from tracker.record.pool_files import full_file, meta_file, pool_file, source_digest, statistics_file
from tracker.views import data_view
from tracker.views.data_view import Files, Kept
from tracker.views.plan import Changes, Difference
from tracker.views.rows import nanoseconds
from tracker.views.tree import LOCK_TIMEOUT_S

FULL = "benchmarks/full"
RESERVED = frozenset({"agents", "benchmarks", "inputs"})
"""Directories below ``data/`` that no pool can be called."""
TASKS, STATISTICS = "task_pool.jsonl", "statistics.json"

_POOLS = "SELECT id, name, created_at FROM task_pool ORDER BY id"
_POOL = "SELECT * FROM task_pool WHERE id = :id"
_POOL_TASKS = "SELECT * FROM task_pool_task_overview WHERE task_pool_id = :id ORDER BY position"
_BENCHMARKS = "SELECT * FROM benchmark WHERE is_current ORDER BY name"
_OF_NAME = "SELECT * FROM benchmark WHERE name = :name ORDER BY id DESC"
_TASKS = "SELECT * FROM benchmark_task WHERE benchmark_id = :id ORDER BY position"


def refresh(
    workspace: Workspace,
    reader: Reader,
    pool_ids: Collection[int] = (),
    *,
    full: bool = False,
    deep: bool = False,
    patience_s: float = LOCK_TIMEOUT_S,
) -> Changes:
    """Brings the files of these pools up to date, and with ``full`` those of the benchmarks; gives what was done.

    As ``data_view.refresh`` does: without ``deep`` no task is read where all files are there with their times.
    """
    return data_view.refresh(
        workspace, reader, lambda reader: _kept(reader, pool_ids, full=full), deep=deep, patience_s=patience_s
    )


def rebuild(workspace: Workspace, reader: Reader) -> Changes:
    """Brings all files up to date, as ``data_view.rebuild`` does; gives what was done and what is unknown."""
    return data_view.rebuild(workspace, reader, _kept)


def check(workspace: Workspace, reader: Reader, only: Collection[int] | None = None) -> list[Difference]:
    """Where the files, or those of ``only`` these pools, differ from the record; changes nothing."""
    return data_view.check(workspace, _kept(reader, only, full=only is None), only_its_own=only is not None)


def pool_content(reader: Reader, pool_id: int) -> dict[str, bytes]:
    """The files of a pool by name. Raises Corrupt where rows contradict each other."""
    pool = reader.rows(_POOL, id=pool_id)[0]
    tasks = pool_file(reader.rows(_POOL_TASKS, id=pool_id))
    if bytes_digest([tasks]) != pool["data_digest"]:
        raise Corrupt(f"The tasks of pool {pool['name']} are not those that it was made of.", hint=RESTORE)
    try:
        return {TASKS: tasks, STATISTICS: statistics_file(json.loads(pool["statistics"]))}
    except ValueError as error:
        raise Corrupt(f"The statistics of pool {pool['name']} cannot be read: {error}.", hint=RESTORE) from error


def _kept(reader: Reader, only: Collection[int] | None = None, *, full: bool = True) -> Kept:
    pools = [row for row in reader.rows(_POOLS) if only is None or row["id"] in only]
    benchmarks = reader.rows(_BENCHMARKS) if full else []
    problems, files = [], []
    for row in pools:
        problem = "something else lies there" if row["name"] in RESERVED else name_problem(row["name"])
        if problem is None:
            files.append(_pool(reader, row))
        else:
            what = f"No pool can be called {row['name']!r}: {problem}."
            problems.append(Difference(row["name"], "contradiction", what))
    for row in benchmarks:
        problem = name_problem(row["name"])
        if problem is None:
            files.append(_benchmark(reader, row))
        else:
            problems.append(Difference(FULL, "contradiction", f"A name in the database is none: {problem}."))
    return Kept(files, (FULL,) if benchmarks else (), problems=problems)


def _pool(reader: Reader, pool: Row) -> Files:
    home = pool["name"]
    return Files(
        home,
        (f"{home}/{TASKS}", f"{home}/{STATISTICS}"),
        nanoseconds(pool["created_at"]),
        lambda: {f"{home}/{name}": data for name, data in pool_content(reader, pool["id"]).items()},
        owns_home=True,
    )


def _benchmark(reader: Reader, benchmark: Row) -> Files:
    tasks, meta = (f"{FULL}/{benchmark['name']}_{end}" for end in ("full.jsonl", "full_meta.json"))

    def content() -> Mapping[str, bytes]:
        rows = reader.rows(_TASKS, id=benchmark["id"])
        if source_digest((row["part"], row["raw_data"]) for row in rows) != benchmark["source_digest"]:
            raise Corrupt(f"The tasks of {benchmark['name']} are not those that were read.", hint=RESTORE)
        return {tasks: full_file(benchmark, rows), meta: _meta(benchmark)}

    def was_made(path: str, data: bytes) -> bool:
        rows = reader.rows(_OF_NAME, name=benchmark["name"])
        if path == meta:
            return any(_is_meta_of(row, data) for row in rows)
        return any(full_file(row, reader.rows(_TASKS, id=row["id"])) == data for row in rows)

    return Files(
        FULL,
        (tasks, meta),
        nanoseconds(benchmark["created_at"]),
        content,
        # The entry of the config can change while the tasks, and their time, stay.
        known=_readable(meta, benchmark),
        was_made=was_made,
    )


def _readable(path: str, benchmark: Row) -> Mapping[str, bytes]:
    try:
        return {path: _meta(benchmark)}
    except Corrupt:  # which is said where the files are made
        return {}


def _is_meta_of(benchmark: Row, data: bytes) -> bool:
    """Whether a file was made of a row, whatever the row's entry of the config then was."""
    try:
        found, own = json.loads(data), json.loads(_meta(benchmark))
        return bool(found | {name: own[name] for name in ("path", "split", "configs")} == own)
    except (Corrupt, ValueError, TypeError):
        return False


def _meta(benchmark: Row) -> bytes:
    try:
        return meta_file(benchmark)
    except (ValueError, TypeError, LookupError) as error:
        raise Corrupt(f"The row of {benchmark['name']} cannot be read: {error}.", hint=RESTORE) from error
