"""A database of the version before agents, with rows in every table, under this one: nothing in it is lost."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Boolean, Column, Connection, Float, Integer, LargeBinary, MetaData, Table, create_engine, inspect

from tests import agent_rows
from tests.databases import KINDS, empty_workspace, rows
from tracker.migrations import SCHEMA_VERSION
from tracker.migrations.versions.v0004_agents import VIEWS
from tracker.migrations.versions.v0006_upkeep import NULLABLE
from tracker.migrations.versions.v0007_queries import VIEWS as QUERIES
from tracker.paths import Workspace
from tracker.record.database import Database, migrate, open_database

BEFORE = 3
N_ROWS = 3
INDEXED = {
    "attempt": ("agent_run_id", "pool_validation_id"),
    "mlflow_outbox": ("agent_run_id", "task_pool_id", "pool_validation_id"),
    "shared_experiment": ("import_run_id", "legacy_fingerprint"),
    "training_run": ("import_run_id",),
}
NEW_COLUMNS = INDEXED | {
    "batch": ("deleted_at",),
    "shared_experiment": (*INDEXED["shared_experiment"], "directory"),
}
AGENTS = ("agent_dataset", "agent_perspective", "agent_response", "agent_run")
UPKEEP = ("import_run", "imported_file", "deletion")
POOLS = (
    "benchmark",
    "benchmark_task",
    "pool_answer",
    "pool_validation",
    "task_pool",
    "task_pool_benchmark",
    "task_pool_task",
)
Rows = dict[str, list[dict[str, Any]]]


def fill(connection: Connection) -> None:
    """Rows in every table, each pointing to the row of its number in others."""
    metadata = MetaData()
    metadata.reflect(connection)
    filled: dict[str, list[dict[str, Any]]] = {}
    for table in metadata.sorted_tables:
        if table.name != "alembic_version":
            filled[table.name] = [_row(table, number, filled) for number in range(1, N_ROWS + 1)]
            # Ids are the database's to give, from 1 on: a server counts only those that it gave.
            given = [{name: row[name] for name in row.keys() - {"id"}} for row in filled[table.name]]
            connection.execute(table.insert(), given)


def _row(table: Table, number: int, filled: Rows) -> dict[str, Any]:
    found = {}
    for column in table.columns:
        key = next(iter(column.foreign_keys), None)
        if key is not None and key.column.table.name in filled:
            found[column.name] = filled[key.column.table.name][number - 1][key.column.name]
        else:
            found[column.name] = _value(column, number)
    return found


def _value(column: Column[Any], number: int) -> Any:
    if column.foreign_keys:
        return None
    for kind, value in ((Boolean, number % 2 == 0), (Integer, number), (Float, number / 4), (LargeBinary, b"\0ab")):
        if isinstance(column.type, kind):
            return value
    return f"{number} ü {column.name}"[:12]


def content(connection: Connection) -> Rows:
    """All rows of all tables but Alembic's own."""
    metadata = MetaData()
    metadata.reflect(connection)
    tables = [table for table in metadata.sorted_tables if table.name != "alembic_version"]
    return {table.name: [dict(row) for row in connection.execute(table.select()).mappings()] for table in tables}


def make_version_3(workspace: Workspace) -> Rows:
    """A database of version 3 with rows in every table; gives them."""
    if workspace.database_url is not None:
        with Database(workspace) as database, database.writing() as connection:
            migrate(connection, f"{BEFORE:04}")
            fill(connection)
            return content(connection)
    workspace.root.mkdir(parents=True, exist_ok=True)
    engine = create_engine(f"sqlite:///{workspace.database}")
    with engine.begin() as connection:
        migrate(connection, f"{BEFORE:04}")
        fill(connection)
        connection.exec_driver_sql(f"PRAGMA user_version = {BEFORE}")
        found = content(connection)
    engine.dispose()
    return found


@pytest.fixture(params=KINDS)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Workspace, Rows]]:
    with empty_workspace(request.param, tmp_path) as workspace:
        yield workspace, make_version_3(workspace)


def test_every_row_is_what_it_was_and_points_to_no_run_of_agents(old: tuple[Workspace, Rows]) -> None:
    workspace, before = old
    assert all(len(found) == N_ROWS for found in before.values())
    assert {"sample", "training_run", "mlflow_outbox", "attempt"} <= before.keys()
    with open_database(workspace) as database, database.reading() as connection:
        after = content(connection)
    assert after.keys() - before.keys() == {*AGENTS, *POOLS, *UPKEEP}
    assert not any(after[name] for name in (*AGENTS, *POOLS, *UPKEEP))
    for name, found in before.items():
        new = dict.fromkeys(NEW_COLUMNS.get(name, ()))
        assert after[name] == [row | new for row in found], name


def test_what_it_has_then_is_what_a_new_one_has(old: tuple[Workspace, Rows]) -> None:
    workspace, _ = old
    open_database(workspace).close()
    assert rows(workspace, "SELECT version_num FROM alembic_version") == [{"version_num": f"{SCHEMA_VERSION:04}"}]
    for view in VIEWS:
        assert rows(workspace, f"SELECT * FROM {view}") == []
    with open_database(workspace) as database:
        assert agent_rows.make(database).outcome == "made"
        with database.reading() as connection:
            indexes = {each["name"] for name in INDEXED for each in inspect(connection).get_indexes(name)}
    assert {f"ix_{name}_{column}" for name, columns in INDEXED.items() for column in columns} <= indexes
    assert [len(rows(workspace, f"SELECT * FROM {view}")) for view in VIEWS] == [1, 2, 4]
    assert len(rows(workspace, "SELECT * FROM mlflow_outbox WHERE agent_run_id IS NOT NULL")) == 1


def test_the_views_for_questions_read_what_an_upgraded_one_has(old: tuple[Workspace, Rows]) -> None:
    workspace, _ = old
    with open_database(workspace) as database, database.writing() as connection:
        # What the rows were filled with is no JSON, and these columns always hold some.
        connection.exec_driver_sql("UPDATE shared_experiment SET settings = '{\"a\": 1}', identity = '{}'")
        connection.exec_driver_sql("UPDATE training_run SET identity = '{}', status = 'complete'")
        connection.exec_driver_sql("UPDATE training_data SET position = 0")
    found = {view: len(rows(workspace, f"SELECT * FROM {view}")) for view in QUERIES}
    # Each experiment has its setting, its source, its limit and its draw.
    assert found == dict.fromkeys(QUERIES, N_ROWS) | {"experiment_setting": 4 * N_ROWS}


def test_a_copy_of_the_file_as_it_was_is_kept(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, environ={})
    before = make_version_3(workspace)
    open_database(workspace).close()
    open_database(workspace).close()
    (copy,) = tmp_path.glob(f"tracker.db.v{BEFORE}-*.bak")
    engine = create_engine(f"sqlite:///{copy}")
    with engine.begin() as connection:
        assert connection.exec_driver_sql("PRAGMA user_version").scalar() == BEFORE
        assert content(connection) == before
    engine.dispose()
    with contextlib.closing(sqlite3.connect(workspace.database)) as connection:
        assert connection.execute("PRAGMA user_version").fetchall() == [(SCHEMA_VERSION,)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_an_upgraded_file_is_declared_as_a_new_one(tmp_path: Path) -> None:
    upgraded, new = Workspace(tmp_path / "old", environ={}), Workspace(tmp_path / "new", environ={})
    make_version_3(upgraded)
    found = {}
    for workspace in (upgraded, new):
        open_database(workspace).close()
        with contextlib.closing(sqlite3.connect(workspace.database)) as connection:
            rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name")
            found[workspace.root.name] = rows.fetchall()
    assert found["old"] == found["new"]


def test_what_nobody_wrote_down_can_be_null_in_an_upgraded_file_and_the_rest_cannot(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, environ={})
    make_version_3(workspace)
    open_database(workspace).close()
    with contextlib.closing(sqlite3.connect(workspace.database)) as connection:
        for table, columns in NULLABLE.items():
            connection.execute(f"UPDATE {table} SET {', '.join(f'{column} = NULL' for column in columns)}")
        with pytest.raises(sqlite3.IntegrityError, match=r"NOT NULL constraint failed: training_run\.uuid"):
            connection.execute("UPDATE training_run SET uuid = NULL")
        connection.commit()
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA writable_schema").fetchall() == [(0,)]


def test_a_reader_in_the_middle_of_its_snapshot_is_not_disturbed_by_an_upgrade(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, environ={})
    make_version_3(workspace)
    with contextlib.closing(sqlite3.connect(workspace.database, isolation_level=None)) as reader:
        reader.execute("PRAGMA journal_mode = WAL")
        reader.execute("BEGIN")
        before = reader.execute("SELECT * FROM training_run").fetchall()
        open_database(workspace).close()
        assert reader.execute("SELECT * FROM training_run").fetchall() == before
        reader.execute("COMMIT")
        after = reader.execute("SELECT * FROM training_run").fetchall()
        assert [row[: len(before[0])] for row in after] == before
        assert len(after[0]) > len(before[0])
