"""Opens the database: creates, checks, upgrades it, and hands out transactions. The only place that knows dialects."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout
from sqlalchemy import Connection, Engine, Table, create_engine, event, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DatabaseError, OperationalError

from tracker import clock
from tracker.catalogue import BUSY_TIMEOUT_S, Reader, Row, check_version, explain, sqlite_version
from tracker.errors import StorageError
from tracker.migrations import SCHEMA_VERSION
from tracker.paths import Workspace, without_password

_MIGRATIONS = Path(__file__).parent / "migrations"


class Database:
    """The record behind a workspace. Reads use BEGIN, writes BEGIN IMMEDIATE."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace

    @property
    def is_sqlite(self) -> bool:
        return self.workspace.database_url is None

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A read transaction. Raises StorageError or Corrupt."""
        with self._errors(), self._reader.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """A write transaction, committed at the end, rolled back on an error. Raises StorageError or Corrupt."""
        with self._errors(), self._writer.begin() as connection:
            if not self.is_sqlite:
                # One writer at a time, as BEGIN IMMEDIATE has it: a claim reads before it inserts.
                connection.execute(text("SELECT pg_advisory_xact_lock(7306)"))
            yield connection

    def insert_new(self, connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> int:
        """Inserts the rows whose unique keys are not there yet; gives how many that were (-1: unknown)."""
        if not rows:
            return 0
        insert = self._insert(table).on_conflict_do_nothing()
        return connection.execute(insert, list(rows)).rowcount

    def upsert(
        self, connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], key: Sequence[str]
    ) -> None:
        """Inserts rows, or overwrites all other columns of the row with the same ``key``."""
        if not rows:
            return
        insert = self._insert(table)
        changed = {name: insert.excluded[name] for name in rows[0] if name not in key}
        connection.execute(insert.on_conflict_do_update(index_elements=list(key), set_=changed), list(rows))

    def close(self) -> None:
        for name in ("_reader", "_writer"):
            engine = self.__dict__.pop(name, None)
            if engine is not None:
                engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _insert(self, table: Table) -> Any:
        return sqlite.insert(table) if self.is_sqlite else postgresql.insert(table)

    @cached_property
    def _reader(self) -> Engine:
        return self._engine("BEGIN")

    @cached_property
    def _writer(self) -> Engine:
        return self._engine("BEGIN IMMEDIATE")

    def _engine(self, begin: str) -> Engine:
        if self.workspace.database_url is not None:
            return create_engine(self.workspace.database_url, pool_pre_ping=True)
        return sqlite_engine(self.workspace.database, begin)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except DatabaseError as error:
            raise explain(error, self.workspace) from error


@contextlib.contextmanager
def server_reader(workspace: Workspace) -> Iterator[Reader]:
    """A reader on a database server, through SQLAlchemy."""
    with open_database(workspace) as database, database.reading() as connection:
        yield _ServerReader(connection)


class _ServerReader:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def rows(self, sql: str, **parameters: Any) -> list[Row]:
        return [dict(row) for row in self._connection.execute(text(sql), parameters).mappings()]


def sqlite_engine(path: Path, begin: str) -> Engine:
    """An engine whose transactions start with ``begin``, in WAL mode with foreign keys on."""
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")

    @event.listens_for(engine, "begin")
    def start(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def open_database(workspace: Workspace) -> Database:
    """The workspace's database at the current schema: made where there is none, upgraded where it is older.

    Raises SchemaError for a newer one, StorageError where it cannot be written.
    """
    database = Database(workspace)
    if database.is_sqlite:
        _prepare_sqlite(workspace)
    else:
        _prepare_server(database)
    return database


def _prepare_sqlite(workspace: Workspace) -> None:
    path = workspace.database
    if path.exists() and sqlite_version(path) == SCHEMA_VERSION:
        return
    try:
        workspace.root.mkdir(parents=True, exist_ok=True)
        with FileLock(workspace.root / ".tracker.db.lock", timeout=60):
            version = sqlite_version(path) if path.exists() else None
            if version is None:
                _create(workspace)
            elif version < SCHEMA_VERSION:
                _upgrade(workspace, version)
    except Timeout:
        raise StorageError(
            f"Another process has been preparing {path} for a minute.", hint="Run the command again when it is done."
        ) from None
    except OSError as error:
        raise StorageError(
            f"{workspace.root} cannot be written: {error.strerror or error}.",
            hint="Choose another workspace with --root, or change its permissions.",
        ) from error


def _create(workspace: Workspace) -> None:
    # A database that appears under its name is complete: it is made beside it and renamed.
    beside = workspace.root / f".{workspace.database.name}.new"
    for leftover in workspace.root.glob(f"{beside.name}*"):
        leftover.unlink()
    engine = sqlite_engine(beside, "BEGIN IMMEDIATE")
    with engine.begin() as connection:
        migrate(connection)
    with contextlib.closing(sqlite3.connect(beside)) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    engine.dispose()
    beside.rename(workspace.database)


def _upgrade(workspace: Workspace, version: int) -> None:
    path = workspace.database
    stamp = clock.now().strftime("%Y%m%dT%H%M%S")
    with (
        contextlib.closing(sqlite3.connect(path)) as source,
        contextlib.closing(sqlite3.connect(path.with_name(f"{path.name}.v{version}-{stamp}.bak"))) as copy,
    ):
        source.backup(copy)
    engine = sqlite_engine(path, "BEGIN IMMEDIATE")
    with engine.begin() as connection:
        migrate(connection)
        connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")
    engine.dispose()


def _prepare_server(database: Database) -> None:
    try:
        with database.writing() as connection:
            tables = connection.dialect.get_table_names(connection)
            version = 0
            if "alembic_version" in tables:
                version = int(connection.execute(text("SELECT version_num FROM alembic_version")).scalar() or 0)
            where = without_password(str(database.workspace.database_url))
            if check_version(where, version, empty=not tables) < SCHEMA_VERSION:
                # One migrates, the others wait here and then find it done.
                connection.execute(text("SELECT pg_advisory_xact_lock(7305)"))
                migrate(connection)
    except OperationalError as error:
        raise explain(error, database.workspace) from error


def migrate(connection: Connection, revision: str = "head") -> None:
    """Brings the schema behind ``connection`` to ``revision`` within its transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
